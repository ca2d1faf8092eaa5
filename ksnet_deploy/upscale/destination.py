"""Destination of the frames of a source: a video file, a picture, a folder of pictures, or a pipe; chosen once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.base.hidden import fitting_name
from ksnet_deploy.upscale.output import choose_target, container_notes
from ksnet_deploy.video.kinds import PICTURE_OUTPUTS, PICTURE_SUFFIXES, PIPE, Source, is_folder
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.reading.stills import is_picture
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.tracks import FORMATS, TrackChoice, TrackPlanner

__all__ = ["RESULT_NAME", "Destination", "choose_destination", "is_for_frames"]

RESULT_NAME = re.compile(r"_x[234](\.partial)?$")
"""Ending of the stems of results. In a folder, files of such names are taken for results and left alone."""


@dataclass(frozen=True)
class Destination:
    """Place and kind of the output, and notes for a user on the choice."""

    path: Path
    kind: Literal["video", "picture", "pictures", "pipe"]
    notes: tuple[str, ...] = ()


def is_for_frames(source: Source, output: Path | None) -> bool:
    """Whether the output is no single file: a pipe, or a folder of pictures."""
    if str(output) == PIPE:
        return True
    if output is None or is_folder(output):
        return source.kind != "file"
    return not output.suffix


def choose_destination(
    source: Source, output: Path | None, encoder: Encoder, tracks: TrackChoice = "convert", scale: int = SCALE
) -> Destination:
    """The given output, or one named after the source and the scale, beside it or in the given folder.

    A video goes to a video, in a container that can hold its tracks; a picture to a picture, of its own kind where that
    is written, else a PNG; a folder of pictures to a folder; a pipe to a pipe; unless the output says otherwise: ``-``
    is a pipe, a name without a suffix a folder of pictures, another suffix another kind of file.

    Raises:
        InputError: the source cannot be read.
        OutputError: the given file cannot hold the source's tracks, or not all of its frames.
    """
    ending = f"_x{scale}"
    if is_for_frames(source, output):
        if str(output) == PIPE or (output is None and source.kind == "pipe"):
            return Destination(Path(PIPE), "pipe")
        if output is not None and not is_folder(output):
            return Destination(output, "pictures")
        name = fitting_name(source.stem, ending)
        folder = source.path.resolve().parent if source.path.name in ("", "..") else source.path.parent
        return Destination((folder if output is None else output) / name, "pictures")
    if (picture := _picture(source, output, ending)) is not None:
        return Destination(picture, "picture")
    with VideoReader(source) as reader:
        planner = TrackPlanner(reader, tracks)
        path = choose_target(planner, output, encoder, ending)
        return Destination(path, "video", tuple(container_notes(planner, output, encoder, path.suffix)))


def _picture(source: Source, output: Path | None, ending: str) -> Path | None:
    """Name of the picture that a source becomes; None where it becomes a video."""
    named = None if output is None or is_folder(output) else output
    if named is not None and named.suffix.lower() in FORMATS:
        return None
    single = source.kind == "file" and source.path.is_file() and is_picture(source)
    if named is None:
        if not single:
            return None
        own = source.path.suffix.lower()
        folder = source.path.parent if output is None else output
        suffix = own if own in PICTURE_OUTPUTS else ".png"
        return folder / fitting_name(source.stem, f"{ending}{suffix}")
    if not single:
        if named.suffix.lower() not in PICTURE_SUFFIXES:
            return None  # of videos, whose containers the user is told of
        raise OutputError(
            f"{named} would be one picture, and {source.path} is none by itself; give the name of a folder, without a "
            "suffix, or of a video"
        )
    if named.suffix.lower() not in PICTURE_OUTPUTS:
        raise OutputError(
            f"{named} cannot be written: pictures are written as {', '.join(PICTURE_OUTPUTS)}, or as a video "
            f"({', '.join(FORMATS)}); end its name so"
        )
    return named
