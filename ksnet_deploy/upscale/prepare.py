"""All checks and choices before the first frame is upscaled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.base.version import __version__
from ksnet_deploy.runtime.tiles import TilePlan
from ksnet_deploy.upscale.job import fingerprint
from ksnet_deploy.upscale.networks import Network
from ksnet_deploy.upscale.output import OutputFile, check_target, track_notes
from ksnet_deploy.upscale.plan import longest_segment
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.windows import Windows
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.writing.encoding import PictureFormat
from ksnet_deploy.video.writing.tracks import TrackPlanner

__all__ = ["Means", "Prepared", "first_frame_read", "frame_dtype", "output_size", "prepare", "tell_windows"]


class Means(Protocol):
    """Means of upscaling frames, before the first one: an :class:`ksnet_deploy.upscale.upscaler.Upscaler`, or many."""

    windows: Windows
    """Windows that frames are taken in."""

    def macs_per_frame(self, size: FrameSize) -> int | None:
        """Multiply-adds for an LR frame of a size; None where they are not known."""

    def settle(self, size: FrameSize, dtype: np.dtype[Any]) -> None:
        """Find out all that :meth:`identity` tells, for frames of a size and type. Raises KSNetError."""

    def identity(self) -> dict[str, str]:
        """Everything about them that changes the pictures, by names that a user understands."""


@dataclass(frozen=True)
class Prepared:
    """Facts that are known before the first frame is upscaled: all of it can be done."""

    picture: PictureFormat
    output: OutputFile
    frames: Iterator[Frame]
    """All frames of the source."""
    notes: list[str]
    """Notes for a user on the choices."""
    segment: int
    """Frames that are encoded together where there is no cut."""
    identity: dict[str, str]
    """Everything that changes the output's bytes, by names that a user understands."""


def prepare(reader: VideoReader, work: Work, means: Means) -> Prepared:
    """Try out everything that can be before there is a picture.

    Raises:
        KSNetError: what :func:`ksnet_deploy.upscale.run.upscale_video` raises before it begins.
    """
    target, encoder = work.destination.path, work.encoder
    check_target(reader, target, overwrite=work.overwrite)
    size = output_size(reader.size, work)
    encoder.check_size(size)
    frames = first_frame_read(reader)
    picture = PictureFormat.of(reader, size, encoder)
    output = OutputFile(TrackPlanner(reader, work.tracks), target, picture, encoder)
    output.try_out()
    segment = longest_segment(means.macs_per_frame(reader.size))
    means.settle(reader.size, frame_dtype(reader))
    notes = [*work.destination.notes, *track_notes(output.tracks)]
    return Prepared(picture, output, frames, notes, segment, _identity(reader, work, picture, segment, means))


def _identity(reader: VideoReader, work: Work, picture: PictureFormat, segment: int, means: Means) -> dict[str, str]:
    source, encoder = work.source, work.encoder
    return {
        "source": fingerprint(source.path),
        "frame rate": str(reader.rate),
        "part": f"{source.start_s or 0} s to {'the end' if source.end_s is None else f'{source.end_s} s'}",
        "encoder": " ".join([encoder.codec, *(f"{k}={v}" for k, v in encoder.options.items())]),
        "pixel format": picture.pixel_format,
        "output size": str(picture.size),
        "scene cuts": repr(work.detector),
        "segments": f"{segment} frames",
        "other tracks": work.tracks,
        "ksnet-deploy": __version__,
        "av": version("av"),
        **means.identity(),
    }


def tell_windows(
    reader: VideoReader, network: Network, windows: Windows, events: Events, tiling: TilePlan | None = None
) -> None:
    """Tell, before the start, the latency and the memory of a network that takes windows; nothing of any other."""
    if network.is_bidirectional:
        pixels = tiling.pixels if tiling else None
        events.on_note(windows.sentence(reader.rate, reader.size.padded, network.config(), pixels))


def output_size(source: FrameSize, work: Work, *, even: bool = True) -> FrameSize:
    """Size of the output that is asked for, of the source's shape.

    Args:
        source: of its frames, turned as the output's are.
        even: both sides are even numbers, as encoders of video want it.

    Raises:
        ConfigError: there is no such height.
    """
    whole, step = source.upscaled, 2 if even else 1
    if work.height is None:
        if work.scale == SCALE:
            return whole
        sides = (side * work.scale for side in (source.height, source.width))
        return FrameSize(*(max(side // step * step, 1) for side in sides))
    if work.height % step or not 16 <= work.height <= 2 * whole.height:
        raise ConfigError(
            f"a target height of {work.height} does not suit a source of {source}; give {'an even' if even else 'a'} "
            f"number from 16 to {2 * whole.height}"
        )
    return FrameSize(work.height, max(round(whole.width * work.height / whole.height / step) * step, 16))


def first_frame_read(reader: VideoReader) -> Iterator[Frame]:
    """The reader's frames, once the first is decoded, which tells what only a frame tells."""
    frames = reader.frames()
    for first in frames:
        return itertools.chain([first], frames)
    raise InputError(f"not a single frame of {reader.path} could be decoded; the file is damaged or empty")


def frame_dtype(reader: VideoReader) -> np.dtype[Any]:
    return np.dtype(np.uint8 if reader.depth <= 8 else np.uint16)
