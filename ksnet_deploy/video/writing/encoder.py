"""Encoder of the output video: its name in FFmpeg, its settings, the pixel formats it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import av

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.colour import Chroma

__all__ = ["Encoder", "PixelFormat"]

FOR_PLAYERS = frozenset({"av1", "h264", "hevc", "mpeg4", "vp8", "vp9"})

_SAMPLES_PER_PIXEL: dict[Chroma, float] = {"420": 1.5, "422": 2.0, "444": 3.0}


class PixelFormat(NamedTuple):
    """A Y'CbCr layout."""

    name: str
    """Name in FFmpeg."""
    depth: int
    """Bits per sample."""
    chroma: Chroma


@dataclass(frozen=True)
class Encoder:
    """An FFmpeg encoder and its settings; made by :func:`choose_encoder`."""

    name: str
    """Name of the preset, or FFmpeg's."""
    codec: str
    """Name in FFmpeg, for ``add_stream``."""
    options: Mapping[str, str]
    """Options for ``add_stream``: quality, speed, and what keeps the encoder silent and its result repeatable."""
    formats: tuple[PixelFormat, ...]
    """Formats that it takes, its favourite first; at least one."""
    containers: tuple[str, ...]
    """Suffixes of the files that commonly hold its video, the best one first."""
    tag: str | None
    """Four-character code for ``codec_context.codec_tag``; None for FFmpeg's choice."""
    least: FrameSize
    """Smallest frame that it may be given."""

    @property
    def settings(self) -> str:
        """Quality and speed in words, where they were given; what no user chooses is left out."""
        return " and ".join(f"{key} {value}" for key, value in self.options.items() if key in _CHOSEN)

    def pixel_format(self, depth: int, chroma: Chroma) -> str:
        """FFmpeg's name of the format that suits best; what it is, ``av.VideoFormat(name)`` tells.

        It is the exact one; else the smallest that loses nothing; else the one that loses the fewest bits of depth,
        then the least chroma. It is never one of the ``yuvj`` formats, which mean full range by their name.

        Args:
            depth: bits per sample of the frames.
        """
        wanted = _SAMPLES_PER_PIXEL[chroma]

        def cost(candidate: PixelFormat) -> tuple[float, ...]:
            samples = _SAMPLES_PER_PIXEL[candidate.chroma]
            return max(depth - candidate.depth, 0), max(wanted - samples, 0), samples * candidate.depth

        return min(self.formats, key=cost).name  # of equals the first

    def given(self, pixel_format: str) -> Encoder:
        """Encoder for frames of one layout only. Raises OutputError where it does not take it."""
        chosen = tuple(known for known in self.formats if known.name == pixel_format)
        if not chosen:
            names = ", ".join(known.name for known in self.formats)
            raise OutputError(f"{self.name} takes no {pixel_format} frames; give one of {names}")
        return replace(self, formats=chosen)

    @property
    def is_for_players(self) -> bool:
        """Whether its video is made to be played, which browsers, TVs and QuickTime do in 4:2:0 only."""
        return av.Codec(self.codec, "w").canonical_name in FOR_PLAYERS

    def check_size(self, size: FrameSize) -> None:
        """Raise OutputError for a frame on which the encoder is unsound; the rest it refuses by itself when opened."""
        if size.height < self.least.height or size.width < self.least.width:
            raise OutputError(f"{self.name} encodes frames of at least {self.least}, not {size}; use h264")


_CHOSEN = frozenset({"crf", "cq", "global_quality", "preset", "cpu-used"})
"""FFmpeg's options for quality and speed."""
