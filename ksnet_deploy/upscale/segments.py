"""Encoded segments: runs of frames, encoded by themselves, that a file is put together from."""

from __future__ import annotations

from dataclasses import dataclass, field

from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import Frame
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import EncodedPacket, FrameEncoder, PictureFormat

__all__ = ["EncodedSegment", "SegmentEncoder", "Upscaled"]


@dataclass(frozen=True)
class Upscaled:
    """A frame as it comes from the network."""

    frame: Frame
    index: int
    """Number of the frame in the source, counted from 0."""
    state_before: SavedState | None
    """The network's state before the frame, where it begins a segment; empty at a new scene. Else None."""
    lane: int = 0
    """Lane that it comes from, where scenes go side by side."""
    ends_chain: bool = False
    """Whether nothing follows in its lane before another scene; False where that is not known yet."""


@dataclass(frozen=True)
class EncodedSegment:
    """Consecutive frames that were encoded together."""

    first: int
    """Number of its first frame in the source, counted from 0."""
    packets: list[EncodedPacket]
    """Coded frames, in decoding order."""
    pts: list[int]
    """Presentation times of the frames, in order, in units of the picture format's time base."""
    durations: list[int]
    header: bytes = field(repr=False)
    """The encoder's parameter sets."""
    state: SavedState | None = field(repr=False)
    """The network's state after the last frame; empty where a new scene begins, None where it was not kept."""
    tiles: str | None
    """Size of the tiles that the frames were upscaled in, for example 288x498; None for whole frames."""

    @property
    def end(self) -> int:
        """Number of the frame after its last."""
        return self.first + len(self.pts)


class SegmentEncoder:
    """Encodes frames, in order, anew with every segment."""

    def __init__(self, encoder: Encoder, picture: PictureFormat, upscaler: Upscaler) -> None:
        """``upscaler`` is asked for its tiles."""
        self._given, self._picture, self._upscaler = encoder, picture, upscaler
        self._encoder: FrameEncoder | None = None
        self._first = 0
        self._packets: list[EncodedPacket] = []
        self._frames: list[tuple[int, int]] = []

    def take(self, upscaled: Upscaled) -> EncodedSegment | None:
        """Encode the next frame; the segment before it, where it begins one. Raises OutputError."""
        ended = None if upscaled.state_before is None else self._close(upscaled.state_before)
        if self._encoder is None:
            self._encoder, self._first = FrameEncoder(self._given, self._picture), upscaled.index
        self._packets += self._encoder.encode(upscaled.frame)
        self._frames.append((upscaled.frame.pts, upscaled.frame.duration))
        return ended

    def end(self) -> EncodedSegment | None:
        """The segment that was begun, which no frame follows; None where none was. Raises OutputError."""
        return self._close({})

    def _close(self, state: SavedState) -> EncodedSegment | None:
        if self._encoder is None:
            return None
        self._packets += self._encoder.finish()
        pts, durations = (list(column) for column in zip(*self._frames, strict=True))
        tiles = str(self._upscaler.tiling.tile) if self._upscaler.tiling else None
        segment = EncodedSegment(self._first, self._packets, pts, durations, self._encoder.header, state, tiles)
        self._encoder, self._packets, self._frames = None, [], []
        return segment
