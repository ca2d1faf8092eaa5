"""Events while a video is upscaled, and the result in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.words import counted
from ksnet_deploy.upscale.stages import StageTimes
from ksnet_deploy.video.kinds import PICTURE_OUTPUTS
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.reading.sources import missing_numbers, picture_files
from ksnet_deploy.video.writing.tracks import TrackPlan

__all__ = ["Events", "UpscaleResult", "common_values", "notes_on"]


@dataclass(frozen=True)
class Events:
    """Functions that are called while a video is upscaled."""

    on_start: Callable[[FrameSize, int | None, int], None] = lambda _size, _frames, _done: None
    """The source's size, its number of frames (None when unknown), and how many of them are done already."""
    on_frame: Callable[[], None] = lambda: None
    on_picture: Callable[[NDArray[Any]], None] = lambda _picture: None
    """Takes each frame as it comes from the network, before ``on_frame``: (4 H, 4 W, 3) uint8 or uint16, not turned and
    not resized; it is not to be changed."""
    on_note: Callable[[str], None] = lambda _sentence: None


@dataclass(frozen=True)
class UpscaleResult:
    """Result of an upscaled video."""

    target: Path
    size: FrameSize
    """Size of the output frames."""
    frames: int
    frames_lost: int
    """Frames that the source announces and that could not be decoded."""
    resumed_frames: int
    """Frames that an earlier run had finished."""
    duplicates: int
    """Frames equal to the one before, which cost no step."""
    cuts: list[float]
    """Seconds at which a new scene begins, the first frame's apart."""
    steps: int
    step_s: float
    """Seconds of this run that were spent in the network."""
    tiles: str | None
    """The tiles that the frames were upscaled in; None for whole frames."""
    times: StageTimes
    pixel_format: str
    tracks: list[TrackPlan] = field(default_factory=list)
    """Plans that were carried out for the source's other tracks."""
    notes: list[str] = field(default_factory=list)
    """Notes for a user, one sentence each."""
    precision: str | None = None
    """Precision of the network, where that was this machine's choice or the user's; None where it was a file's."""

    @property
    def fps(self) -> float:
        """Frames per second of this run."""
        return (self.frames - self.resumed_frames) / self.times.wall_s if self.times.wall_s else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, as ``--json`` gives them."""
        return {
            **common_values(self),
            "precision": self.precision,
            "frames_lost": self.frames_lost,
            "resumed_frames": self.resumed_frames,
            "duplicates": self.duplicates,
            "cuts_s": [round(cut, 3) for cut in self.cuts],
            "seconds": round(self.times.wall_s, 3),
            "stages_s": {name: round(busy, 3) for name, busy in self.times.busy_s.items()},
            "bottleneck": self.times.bottleneck,
            "stages": self.times.summary(),
            "tracks": [track.report() for track in self.tracks],
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """All of it for people, in a few lines."""
        what, took = f"{self.size} (height x width)", f"in {self.times.wall_s:.1f} s"
        if self.target.suffix.lower() in PICTURE_OUTPUTS:
            lines = [f"{self.target}: {what} {took}"]
        else:
            count = counted(self.frames, "frame")
            lines = [f"{self.target}: {count} of {what} {took}, {self.fps:.2f} fps; {self.times.summary()}"]
        if self.resumed_frames:
            finished = counted(self.resumed_frames, "of the frames was", "of the frames were")
            lines.append(f"{finished} finished by an earlier run.")
        if self.cuts or self.duplicates:
            repeated = counted(self.duplicates, "repeated frame")
            lines.append(f"{counted(len(self.cuts), 'scene cut')}; {repeated} cost nothing.")
        return "\n".join(lines + self.notes)


class _Made(Protocol):
    """Common part of a result and an estimate."""

    @property
    def target(self) -> Path: ...
    @property
    def size(self) -> FrameSize: ...
    @property
    def pixel_format(self) -> str: ...
    @property
    def frames(self) -> int | None: ...
    @property
    def fps(self) -> float: ...
    @property
    def tiles(self) -> str | None: ...


def common_values(made: _Made) -> dict[str, Any]:
    """Plain values that a result and an estimate have in common."""
    return {
        "output": str(made.target),
        "height": made.size.height,
        "width": made.size.width,
        "pixel_format": made.pixel_format,
        "frames": made.frames,
        "fps": round(made.fps, 3),
        "tiles": made.tiles,
    }


def notes_on(reader: VideoReader, depth: int, io: str, *, tagged: bool = True) -> list[str]:
    """Notes for a user.

    Args:
        depth: of the output, in bits.
        io: type of the frames that the network took.
        tagged: whether the output says how its colours are to be read, as videos do.
    """
    notes = []
    if reader.left_out:
        notes.append(f"Not copied: {', '.join(reader.left_out)}.")
    if reader.source.kind == "folder" and (missing := missing_numbers(picture_files(reader.path))):
        those = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
        what = counted(len(missing), "number is", "numbers are")
        notes.append(f"{what} missing in the names of the pictures ({those}); frames may be too.")
    if reader.is_transparent:
        notes.append("The source's transparency is not in the output.")
    if reader.interlaced_frames:
        what = counted(
            reader.interlaced_frames,
            "frame is interlaced and was upscaled as it is",
            "frames are interlaced and were upscaled as they are",
        )
        notes.append(f"{what}; deinterlace the source first for a better picture.")
    if reader.colour.is_hdr:
        kept = " and its tags kept" if tagged else ""
        notes.append(
            f"The source is HDR ({reader.colour.transfer_name}). Its code values were upscaled as they are{kept}, but "
            "the network was trained on SDR pictures."
        )
    if not tagged and reader.colour.said_nowhere:
        notes.append(f"The output does not say {reader.colour.said_nowhere}.")
    if reader.depth > 8 and io == "uint8":
        notes.append(f"The source has {reader.depth} bits per sample; the network took 8 of them.")
    if reader.depth > depth:
        notes.append(f"The source has {reader.depth} bits per sample; the output has {depth}.")
    if reader.colour.guessed:
        notes.append(f"The source does not name its colour matrix; {reader.colour.matrix_name} was taken, by its size.")
    if reader.repaired_timestamps and reader.decoded > 1:  # a single frame needs none
        what = counted(
            reader.repaired_timestamps,
            "frame had a missing or repeated timestamp and was",
            "frames had a missing or repeated timestamp and were",
        )
        notes.append(f"{what} given one.")
    return notes
