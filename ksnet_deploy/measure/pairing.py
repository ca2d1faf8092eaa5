"""Frames of two versions of a video, a picture or a folder that belong together, at one size.

Frames are uint8 RGB (H, W, 3), turned upright.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize, values_of
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.video.kinds import PICTURE_SUFFIXES, by_number, check_is_no_address
from ksnet_deploy.video.picture import read_picture
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["Pair", "Pairs", "Shown", "Version", "Yardstick", "check_kinds", "enlarged_name", "open_version"]


@dataclass(frozen=True)
class Shown:
    """A frame as a player shows it, and for people ``at``: its time, or the name of its file."""

    rgb: Picture
    number: int
    """Number of the frame within its video or folder, from 0."""
    time_s: Fraction
    """Time at which it is shown; in a folder, its number."""
    at: str


@dataclass(frozen=True)
class Version:
    """One of the two that are compared: a "video", "picture" or "folder"."""

    path: Path
    kind: str
    shown: Iterator[Shown]
    frames: int | None
    """Number of frames; roughly for a video, and None when unknown."""
    frame_s: Fraction = Fraction(1)
    """Seconds from one frame to the next."""
    reader: VideoReader | None = None


def open_version(path: Path, stack: ExitStack) -> Version:
    if not path.exists():
        check_is_no_address(path)
        raise InputError(f"{path} does not exist; give a video, a picture or a folder of frames")
    if path.is_dir():
        files = [
            file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")
        ]
        if not files:
            raise InputError(
                f"the folder {path} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}); give a folder of frames"
            )
        return Version(path, "folder", _pictures(sorted(files, key=by_number)), len(files))
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return Version(path, "picture", _pictures([path]), 1)
    reader = stack.enter_context(VideoReader(path))
    return Version(path, "video", _video(reader), reader.estimated_frames, 1 / reader.rate, reader)


def _pictures(files: Sequence[Path]) -> Iterator[Shown]:
    size: tuple[int, ...] = ()
    for number, file in enumerate(files):
        rgb = read_picture(file)
        size = size or rgb.shape
        if rgb.shape != size:
            raise InputError(
                f"{file} is {rgb.shape[0]}x{rgb.shape[1]} while {files[0].name} in the same folder is "
                f"{size[0]}x{size[1]} (height x width); the frames of a folder must have one size"
            )
        yield Shown(rgb, number, Fraction(number), file.name)


def _video(reader: VideoReader) -> Iterator[Shown]:
    for number, frame in enumerate(reader.frames()):
        time_s, rgb = frame.pts * reader.time_base, values_of(frame.rgb, "uint8")
        rgb = rgb if reader.display is None else reader.display.upright(rgb)
        yield Shown(rgb, number, time_s, f"{float(time_s):.3f} s")


class Pair(NamedTuple):
    """Frames that belong together, at one size, and where they come from."""

    reference: Picture
    found: Picture
    shown: tuple[Shown, Shown]


class Pairs:
    """The frames of both, pair by pair."""

    def __init__(self, reference: Version, found: Version) -> None:
        self._sources = reference, found
        self.first = _first(reference), _first(found)
        self.factors = _factors(reference, self.first[0], found, self.first[1])
        self.size = FrameSize(*(side * self.factors[0] for side in self.first[0].rgb.shape[:2]))
        self.unmatched = [0, 0]
        """Frames of either that have no counterpart, among those read so far."""

    def __iter__(self) -> Iterator[Pair]:
        left, right = (itertools.chain([self.first[i]], self._sources[i].shown) for i in (0, 1))
        within_s = max(source.frame_s for source in self._sources) / 2
        for a, b in _by_time(left, right, within_s):
            if a is None or b is None:
                self.unmatched[a is None] += 1
            else:
                yield Pair(self._enlarged(a, 0), self._enlarged(b, 1), (a, b))

    def _enlarged(self, shown: Shown, index: int) -> Picture:
        factor = self.factors[index]
        return shown.rgb if factor == 1 else enlarge_bicubic(shown.rgb, factor)

    def notes(self) -> list[str]:
        """Notes for a user; known once all was read."""
        notes = []
        for i, source in enumerate(self._sources):
            path, reader, factor = source.path, source.reader, self.factors[i]
            if factor > 1:
                notes.append(f"{path} was enlarged {factor} times by bicubic to the size of the other.")
            if self.unmatched[i]:
                lone = counted(
                    self.unmatched[i],
                    "of its frames has no counterpart at its time and was",
                    "of its frames have no counterpart at their time and were",
                )
                notes.append(f"{path} begins at {self.first[i].at}; {lone} left out.")
            if reader is not None and reader.depth > 8:
                notes.append(f"{path} has {reader.depth} bits per sample; it was rounded to 8.")
            if reader is not None and reader.frames_lost:
                notes.append(f"{path} is damaged: {reader.frames_lost} of its frames could not be decoded.")
        return notes


class Yardstick:
    """Source of a version, enlarged by bicubic, for the frames of the reference."""

    def __init__(self, reference: Path, source: Path, size: FrameSize, stack: ExitStack) -> None:
        """Open both anew.

        Raises:
            InputError: they do not fit each other, or not the size of the comparison.
        """
        a, b = open_version(reference, stack), open_version(source, stack)
        check_kinds(a, b)
        pairs = Pairs(a, b)
        if pairs.size != size:
            raise InputError(
                f"{source} makes frames of {pairs.size} beside {reference}, but both are compared at {size} (height x "
                "width); give the source that the upscaled version was made from"
            )
        self.name = enlarged_name(source, pairs.factors[1])
        self._pairs = iter(pairs)
        self._next: Pair | None = None

    def at(self, pair: Pair) -> Picture | None:
        """The source's picture beside a frame of the reference, or None; they are asked for in order."""
        number = pair.shown[0].number
        while self._next is None or self._next.shown[0].number < number:
            self._next = next(self._pairs, None)
            if self._next is None:
                return None
        return self._next.found if self._next.shown[0].number == number else None


def enlarged_name(path: Path, factor: int) -> str:
    """Name of a version for people, and by how much it was enlarged."""
    return path.name if factor == 1 else f"{path.name}, bicubic ×{factor}"


def _first(source: Version) -> Shown:
    frame = next(source.shown, None)
    if frame is None:
        raise InputError(f"not a single frame of {source.path} could be decoded; the file is damaged or empty")
    return frame


def _factors(a: Version, first_a: Shown, b: Version, first_b: Shown) -> tuple[int, int]:
    """Factors to enlarge each by, so that both have one size."""
    size_a, size_b = (FrameSize(*first.rgb.shape[:2]) for first in (first_a, first_b))
    factor_a, factor_b = max(size_b.height // size_a.height, 1), max(size_a.height // size_b.height, 1)
    if (size_a.height * factor_a, size_a.width * factor_a) != (size_b.height * factor_b, size_b.width * factor_b):
        raise InputError(
            f"{a.path} is {size_a} and {b.path} is {size_b} (height x width); give two of one size, or one that is a "
            "whole number of times as high and as wide as the other"
        )
    return factor_a, factor_b


def _by_time(
    left: Iterator[Shown], right: Iterator[Shown], within_s: Fraction
) -> Iterator[tuple[Shown | None, Shown | None]]:
    """Pairs of the frames nearest to each other in time, the others alone; one frame of each is read ahead."""
    a, b, next_a, next_b = next(left, None), next(right, None), next(left, None), next(right, None)
    while a is not None or b is not None:
        take_a, take_b = a is not None, b is not None
        if a is not None and b is not None:
            gap_s = abs(a.time_s - b.time_s)
            if next_b is not None and abs(a.time_s - next_b.time_s) < gap_s:
                take_a = False
            elif next_a is not None and abs(next_a.time_s - b.time_s) < gap_s:
                take_b = False
            elif gap_s > within_s:
                take_a, take_b = a.time_s < b.time_s, b.time_s < a.time_s
        yield a if take_a else None, b if take_b else None
        if take_a:
            a, next_a = next_a, next(left, None)
        if take_b:
            b, next_b = next_b, next(right, None)


def check_kinds(a: Version, b: Version) -> None:
    if a.kind != b.kind:
        raise InputError(f"{a.path} is a {a.kind} and {b.path} a {b.kind}; give two of one kind")
    if a.kind == "folder" and a.frames != b.frames:
        raise InputError(
            f"{a.path} holds {a.frames} pictures and {b.path} {b.frames}; give two folders of equally many"
        )
