"""The journal of an unfinished job: its lines, where the work goes on, and writing that outlives a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors.numpy import save_file

from ksnet_deploy.base.files import sha256_of

__all__ = [
    "JOURNAL",
    "Segment",
    "append_line",
    "frames_kept",
    "going_on",
    "intact_segments",
    "rewrite_lines",
    "save_durably",
    "unneeded_states",
    "write_durably",
]

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Segment:
    """A line of the journal: consecutive frames that were encoded together. Lines are in the order of their ends."""

    first: int
    """Number of its first frame in the source, counted from 0."""
    frames: int
    file: str
    sha256: str
    header: str
    """SHA-256 of the encoder's parameter sets."""
    state: str | None
    """File of the network's state after the last frame; None where it is forgotten there."""
    state_sha256: str | None
    """SHA-256 of that file; None where it was not kept."""
    tiles: str | None
    """Size of the tiles that the frames were upscaled in, for example 288x498; None for whole frames."""

    @property
    def end(self) -> int:
        """Number of the frame after its last."""
        return self.first + self.frames


def going_on(segments: Mapping[int, Segment], first: int, folder: Path) -> tuple[int, Segment | None]:
    """The first frame, from a scene's first on, that is still to be upscaled.

    Args:
        segments: those of the journal, by their first frames.

    Returns:
        Its number, and the segment whose state the network takes before it; None where it forgets.
    """
    place, state = first, None
    while (segment := segments.get(first)) is not None:
        first = segment.end
        if segment.state is None:
            place, state = first, None
        elif _is_whole(folder, segment.state, segment.state_sha256):
            place, state = first, segment
    return place, state


def frames_kept(segments: Mapping[int, Segment], folder: Path) -> int:
    """Number of frames that are not upscaled again, from wherever segments follow one another."""
    ends = {segment.end for segment in segments.values()}
    return sum(going_on(segments, first, folder)[0] - first for first in segments if first not in ends)


def unneeded_states(segments: Mapping[int, Segment], last: Segment, folder: Path) -> list[Path]:
    """Files of the states before that of a segment, which nothing goes on from once that is there."""
    ends = {segment.end: segment for segment in segments.values()}
    found, segment = [], ends.get(last.first)
    while segment is not None and segment.state is not None:
        if (path := folder / segment.state).is_file():
            found.append(path)
        segment = ends.get(segment.first)
    return found


def intact_segments(folder: Path) -> dict[int, Segment]:
    """The segments of a job that are as the journal says, by their first frames, in that order."""
    journal = folder / JOURNAL
    found = {}
    for line in journal.read_text(errors="replace").splitlines() if journal.exists() else ():
        try:
            segment = Segment(**json.loads(line))
        except (ValueError, TypeError):
            continue
        numbers = isinstance(segment.first, int) and isinstance(segment.frames, int)
        if numbers and _is_whole(folder, segment.file, segment.sha256):
            found[segment.first] = segment
    return dict(sorted(found.items()))


def _is_whole(folder: Path, name: object, sha256: str | None) -> bool:
    return isinstance(name, str) and (folder / name).is_file() and sha256_of(folder / name) == sha256


def append_line(folder: Path, segment: Segment) -> None:
    with (folder / JOURNAL).open("ab") as journal:
        journal.write(_line(segment))
        _sync(journal)


def rewrite_lines(folder: Path, segments: Iterable[Segment]) -> None:
    write_durably(folder / JOURNAL, b"".join(map(_line, segments)))


def _line(segment: Segment) -> bytes:
    return f"{json.dumps(asdict(segment))}\n".encode()


def save_durably(arrays: Mapping[str, Any], path: Path) -> None:
    with _durable(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def write_durably(path: Path, content: bytes) -> None:
    with _durable(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _durable(path: Path) -> Iterator[Path]:
    """Context of a temporary path to write, which is renamed once all of it is on the disk. What a crash leaves of it
    goes when the job is opened again."""
    temporary = path.with_suffix(".part")
    yield temporary
    with temporary.open("r+b") as file:
        _sync(file)
    os.replace(temporary, path)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
