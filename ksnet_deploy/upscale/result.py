"""What a caller is told while a video is upscaled, and what was done in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.stages import StageTimes
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.tracks import TrackPlan

__all__ = ["Events", "UpscaleResult", "notes_on"]


@dataclass(frozen=True)
class Events:
    """What a caller wants to be told while a video is upscaled."""

    on_start: Callable[[FrameSize, int | None, int], None] = lambda _size, _frames, _done: None
    """The source's size, its number of frames (None when unknown), and how many of them are done already."""
    on_frame: Callable[[], None] = lambda: None
    on_note: Callable[[str], None] = lambda _sentence: None


@dataclass(frozen=True)
class UpscaleResult:
    """What was done."""

    target: Path
    size: FrameSize
    """Of the output frames."""
    frames: int
    frames_lost: int
    """Frames that the source announces and that could not be decoded."""
    resumed_frames: int
    """Of the frames, those that an earlier run had finished."""
    duplicates: int
    """Of the frames, those equal to the one before, which cost no step."""
    cuts: list[float]
    """Seconds at which a new scene begins, the first frame's apart."""
    steps: int
    step_s: float
    """Of this run, spent in the network."""
    tiles: str | None
    """The tiles that the frames were upscaled in; None for whole frames."""
    times: StageTimes
    pixel_format: str
    tracks: list[TrackPlan] = field(default_factory=list)
    """What became of the source's other tracks."""
    notes: list[str] = field(default_factory=list)
    """What a user should know about the result, one sentence each."""

    @property
    def fps(self) -> float:
        """Of this run."""
        return (self.frames - self.resumed_frames) / self.times.wall_s if self.times.wall_s else 0.0


def notes_on(reader: VideoReader, depth: int, io: str) -> list[str]:
    """What a user should know: ``depth`` is the output's, ``io`` the type of the frames that the network took."""
    notes = []
    if reader.left_out:
        notes.append(f"Not copied: {', '.join(reader.left_out)}.")
    if reader.has_alpha:
        notes.append("The source's transparency is not in the output.")
    if reader.interlaced_frames:
        notes.append(
            f"{reader.interlaced_frames} frames are interlaced and were upscaled as they are; deinterlace the source "
            "first for a better picture."
        )
    if reader.colour.is_hdr:
        notes.append(
            f"The source is HDR ({reader.colour.transfer_name}). Its code values were upscaled as they are and its "
            "tags kept, but the network was trained on SDR pictures."
        )
    if reader.depth > 8 and io == "uint8":
        notes.append(f"The source has {reader.depth} bits per sample; the network took 8 of them.")
    if reader.depth > depth:
        notes.append(f"The source has {reader.depth} bits per sample; the output has {depth}.")
    if reader.colour.guessed:
        notes.append(f"The source does not name its colour matrix; {reader.colour.matrix_name} was taken, by its size.")
    if reader.repaired_timestamps:
        notes.append(f"{reader.repaired_timestamps} frames had a missing or repeated timestamp and were given one.")
    return notes
