"""Two versions of a video, a picture or a folder of frames against each other: PSNR and SSIM, and both in one picture.

The first is the reference, the second is measured against it. The figures are those of ``evaluation.py``: nothing is
cropped, Y is unrounded BT.601 luma, and a frame that equals the reference counts 100 dB in a mean. Frames are uint8 RGB
(H, W, 3), turned upright.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.base.frames import FrameSize, values_of
from ksnet_deploy.base.metrics import PSNR_LIMIT, SSIM_WINDOW, luma, psnr, ssim
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.measure.layout import Layout, check_target, save_picture
from ksnet_deploy.video.kinds import PICTURE_SUFFIXES
from ksnet_deploy.video.picture import read_picture
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.comparison import ComparisonWriter, Picture

__all__ = ["Comparison", "Figures", "compare"]


@dataclass(frozen=True)
class Figures:
    """Quality of one frame, or the mean over frames."""

    psnr_rgb_db: float
    """Over all three channels; infinite for a frame that equals the reference."""
    psnr_y_db: float
    ssim_y: float | None
    """None for frames of less than 11 pixels in height or width."""

    @classmethod
    def of(cls, found: Picture, reference: Picture) -> Figures:
        y_found, y_reference = luma(found), luma(reference)
        similarity = ssim(y_found, y_reference) if min(y_found.shape) >= SSIM_WINDOW else None
        return cls(psnr(found, reference), psnr(y_found, y_reference), similarity)


@dataclass(frozen=True)
class Comparison:
    """What was found."""

    reference: Path
    found: Path
    target: Path | None
    size: FrameSize
    """That both were compared at."""
    frames: int
    """That were compared."""
    identical_frames: int
    mean: Figures
    """Over the frames; those that are identical count 100 dB, unless all are: then PSNR is infinite."""
    worst: Figures
    """Of the frame with the lowest PSNR in RGB."""
    worst_frame: int
    """Its number in the reference, from 0."""
    worst_at: float | str
    """Its time in seconds, or the name of the picture."""
    unmatched: tuple[int, int]
    """Frames of the reference and of the other that have no counterpart at their time."""
    notes: list[str]
    """What a user should know about the result, one sentence each."""


@dataclass(frozen=True)
class _Shown:
    """A frame as a player shows it, and for people ``at``: its time, or the name of its file."""

    rgb: Picture
    number: int
    """From 0, within its video or folder."""
    time_s: Fraction
    """When it is shown; in a folder, its number."""
    at: str


@dataclass(frozen=True)
class _Source:
    """One of the two that are compared: a "video", "picture" or "folder"."""

    path: Path
    kind: str
    shown: Iterator[_Shown]
    frames: int | None
    """How many; roughly for a video, and None when unknown."""
    frame_s: Fraction = Fraction(1)
    """From one frame to the next."""
    reader: VideoReader | None = None


def _open(path: Path, stack: ExitStack) -> _Source:
    if not path.exists():
        raise InputError(f"{path} does not exist; give a video, a picture or a folder of frames")
    if path.is_dir():
        files = [
            file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")
        ]
        if not files:
            raise InputError(
                f"the folder {path} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}); give a folder of frames"
            )
        return _Source(path, "folder", _pictures(sorted(files, key=_by_number)), len(files))
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _Source(path, "picture", _pictures([path]), 1)
    reader = stack.enter_context(VideoReader(path))
    return _Source(path, "video", _video(reader), reader.estimated_frames, 1 / reader.rate, reader)


def _by_number(file: Path) -> list[str | int]:
    """Sorts frame_2 before frame_10."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split("([0-9]+)", file.name))]


def _pictures(files: Sequence[Path]) -> Iterator[_Shown]:
    size: tuple[int, ...] = ()
    for number, file in enumerate(files):
        rgb = read_picture(file)
        size = size or rgb.shape
        if rgb.shape != size:
            raise InputError(
                f"{file} is {rgb.shape[0]}x{rgb.shape[1]} while {files[0].name} in the same folder is "
                f"{size[0]}x{size[1]} (height x width); the frames of a folder must have one size"
            )
        yield _Shown(rgb, number, Fraction(number), file.name)


def _video(reader: VideoReader) -> Iterator[_Shown]:
    for number, frame in enumerate(reader.frames()):
        time_s, rgb = frame.pts * reader.time_base, values_of(frame.rgb, "uint8")
        rgb = rgb if reader.display is None else reader.display.upright(rgb)
        yield _Shown(rgb, number, time_s, f"{float(time_s):.3f} s")


class _Pair(NamedTuple):
    """Frames that belong together, at one size, and where they come from."""

    reference: Picture
    found: Picture
    shown: tuple[_Shown, _Shown]


class _Pairs:
    """The frames of both, pair by pair."""

    def __init__(self, reference: _Source, found: _Source) -> None:
        self._sources = reference, found
        self.first = _first(reference), _first(found)
        self.factors = _factors(reference, self.first[0], found, self.first[1])
        self.size = FrameSize(*(side * self.factors[0] for side in self.first[0].rgb.shape[:2]))
        self.unmatched = [0, 0]
        """Frames of either that have no counterpart, among those read so far."""

    def __iter__(self) -> Iterator[_Pair]:
        left, right = (itertools.chain([self.first[i]], self._sources[i].shown) for i in (0, 1))
        within_s = max(source.frame_s for source in self._sources) / 2
        for a, b in _by_time(left, right, within_s):
            if a is None or b is None:
                self.unmatched[a is None] += 1
            else:
                yield _Pair(self._enlarged(a, 0), self._enlarged(b, 1), (a, b))

    def _enlarged(self, shown: _Shown, index: int) -> Picture:
        factor = self.factors[index]
        return shown.rgb if factor == 1 else enlarge_bicubic(shown.rgb, factor)

    def notes(self) -> list[str]:
        """Known once all was read."""
        notes = []
        for i, source in enumerate(self._sources):
            path, reader, factor = source.path, source.reader, self.factors[i]
            if factor > 1:
                notes.append(f"{path} was enlarged {factor} times by bicubic to the size of the other.")
            if any(self.unmatched):
                lone = f"{self.unmatched[i]} of its frames have no counterpart at their time"
                notes.append(f"{path} begins at {self.first[i].at}; {lone} and were left out.")
            if reader is not None and reader.depth > 8:
                notes.append(f"{path} has {reader.depth} bits per sample; it was rounded to 8.")
            if reader is not None and reader.frames_lost:
                notes.append(f"{path} is damaged: {reader.frames_lost} of its frames could not be decoded.")
        return notes


def _first(source: _Source) -> _Shown:
    frame = next(source.shown, None)
    if frame is None:
        raise InputError(f"not a single frame of {source.path} could be decoded; the file is damaged or empty")
    return frame


def _factors(a: _Source, first_a: _Shown, b: _Source, first_b: _Shown) -> tuple[int, int]:
    """What to enlarge each by, so that both have one size."""
    size_a, size_b = (FrameSize(*first.rgb.shape[:2]) for first in (first_a, first_b))
    factor_a, factor_b = max(size_b.height // size_a.height, 1), max(size_a.height // size_b.height, 1)
    if (size_a.height * factor_a, size_a.width * factor_a) != (size_b.height * factor_b, size_b.width * factor_b):
        raise InputError(
            f"{a.path} is {size_a} and {b.path} is {size_b} (height x width); give two of one size, or one that is a "
            "whole number of times as high and as wide as the other"
        )
    return factor_a, factor_b


def _by_time(
    left: Iterator[_Shown], right: Iterator[_Shown], within_s: Fraction
) -> Iterator[tuple[_Shown | None, _Shown | None]]:
    """Those nearest to each other as pairs, the others alone; one frame of each is read ahead."""
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


class _Score:
    """Figures of the pairs so far."""

    def __init__(self) -> None:
        self.frames = self.identical = 0
        self._sums = np.zeros(3)
        self.worst: tuple[Figures, _Pair] | None = None

    def add(self, pair: _Pair) -> None:
        figures = Figures.of(pair.found, pair.reference)
        self.frames += 1
        self.identical += figures.psnr_rgb_db == math.inf
        limited = min(figures.psnr_rgb_db, PSNR_LIMIT), min(figures.psnr_y_db, PSNR_LIMIT)
        self._sums += (*limited, figures.ssim_y or 0.0)
        if self.worst is None or figures.psnr_rgb_db < self.worst[0].psnr_rgb_db:
            self.worst = figures, pair

    def mean(self) -> Figures:
        assert self.worst is not None
        rgb, y, similarity = (float(total / self.frames) for total in self._sums)
        if self.identical == self.frames:
            rgb = y = math.inf
        return Figures(rgb, y, None if self.worst[0].ssim_y is None else similarity)


def compare(
    reference: Path,
    found: Path,
    target: Path | None = None,
    layout: Layout | None = None,
    *,
    overwrite: bool = False,
    on_start: Callable[[FrameSize, int | None], None] = lambda _size, _frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> Comparison:
    """Measure one version against another, and show both.

    Frames of videos belong together by their times, those of folders by their order. Where one version is smaller by a
    whole factor it is enlarged by bicubic. Frames are read one by one: memory does not grow with their number.

    Args:
        reference: a video, a picture or a folder of frames.
        found: another of the same kind.
        target: None for the figures alone; a video, for videos, with the sound of ``found``; or .png, which shows the
            frame of the lowest PSNR.
        layout: how both are shown; the boundary of a wipe moves in a video and stands in the middle of a picture.
        overwrite: replace an existing target.
        on_start: called once with the size and the number of frames (None when unknown), ``on_frame`` after each.

    Raises:
        InputError: one cannot be read, or they do not fit each other.
        OutputError: the target cannot be written, exists, or is one of the two.
    """
    layout = layout or Layout()
    with ExitStack() as stack:
        a, b = _open(reference, stack), _open(found, stack)
        _check_kinds(a, b)
        if target is not None:
            check_target(target, (reference, found), video=b.reader is not None, overwrite=overwrite)
        pairs, score, writer, notes = _Pairs(a, b), _Score(), None, []
        on_start(pairs.size, min((s.frames for s in (a, b) if s.frames is not None), default=None))
        if target is not None:
            notes.append(layout.legend(reference, found))
            temporary = stack.enter_context(replacing(target))
            if b.reader is not None and target.suffix.lower() != ".png":
                writer = ComparisonWriter(temporary, target.suffix, b.reader, layout.size(pairs.size))
                stack.enter_context(writer)
        began_s: Fraction | None = None
        for pair in pairs:
            score.add(pair)
            if writer is not None:
                shown_s = pair.shown[1].time_s
                began_s = shown_s if began_s is None else began_s
                boundary = layout.boundary(float(shown_s - began_s))
                writer.write(layout.compose(pair.reference, pair.found, boundary), shown_s)
            on_frame()
        if score.worst is None:
            raise InputError(
                f"no frame of {reference} is shown at the time of one of {found}; the first begins at "
                f"{pairs.first[0].at}, the second at {pairs.first[1].at}; give two videos with the same clock"
            )
        figures, worst = score.worst
        if writer is not None:
            writer.finish()
            notes += writer.notes
        elif target is not None:
            save_picture(temporary, layout.compose(worst.reference, worst.found))
            if a.kind != "picture":
                notes.append(f"Shown is the frame of the lowest PSNR, {worst.shown[0].at}.")
        return Comparison(
            reference,
            found,
            target,
            pairs.size,
            score.frames,
            score.identical,
            score.mean(),
            figures,
            worst.shown[0].number,
            worst.shown[0].at if a.reader is None else float(worst.shown[0].time_s),
            (pairs.unmatched[0], pairs.unmatched[1]),
            notes + pairs.notes(),
        )


def _check_kinds(a: _Source, b: _Source) -> None:
    if a.kind != b.kind:
        raise InputError(f"{a.path} is a {a.kind} and {b.path} a {b.kind}; give two of one kind")
    if a.kind == "folder" and a.frames != b.frames:
        raise InputError(
            f"{a.path} holds {a.frames} pictures and {b.path} {b.frames}; give two folders of equally many"
        )
