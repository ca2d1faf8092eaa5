"""Destination of the frames of a source: a video file, a folder of pictures, or a pipe; chosen once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ksnet_deploy.upscale.output import RESULT_SUFFIX, choose_target, container_notes
from ksnet_deploy.video.kinds import PIPE, Source, is_folder
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.tracks import TrackChoice, TrackPlanner

__all__ = ["Destination", "choose_destination", "is_for_frames"]


@dataclass(frozen=True)
class Destination:
    """Place and kind of the output, and notes for a user on the choice."""

    path: Path
    kind: Literal["video", "pictures", "pipe"]
    notes: tuple[str, ...] = ()


def is_for_frames(source: Source, output: Path | None) -> bool:
    """Whether the output is no video file: a pipe, or a folder of pictures."""
    if str(output) == PIPE:
        return True
    if output is None or is_folder(output):
        return source.kind != "file"
    return not output.suffix


def choose_destination(
    source: Source, output: Path | None, encoder: Encoder, tracks: TrackChoice = "convert"
) -> Destination:
    """The given output, or one named after the source, beside it or in the given folder.

    A video goes to a video, in a container that can hold its tracks; a folder of pictures to a folder; a pipe to a
    pipe; unless the output says otherwise: ``-`` is a pipe, a name without a suffix a folder of pictures.

    Raises:
        InputError: the source cannot be read.
        OutputError: the given file cannot hold the source's tracks.
    """
    if is_for_frames(source, output):
        if str(output) == PIPE or (output is None and source.kind == "pipe"):
            return Destination(Path(PIPE), "pipe")
        if output is not None and not is_folder(output):
            return Destination(output, "pictures")
        name = f"{source.stem}{RESULT_SUFFIX}"
        folder = source.path.resolve().parent if source.path.name in ("", "..") else source.path.parent
        return Destination((folder if output is None else output) / name, "pictures")
    with VideoReader(source) as reader:
        planner = TrackPlanner(reader, tracks)
        path = choose_target(planner, output, encoder)
        return Destination(path, "video", tuple(container_notes(planner, output, encoder)))
