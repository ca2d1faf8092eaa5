"""Where a video cuts, so that a recurrent network forgets one scene before it sees the next.

:class:`SceneDetector` looks at each frame once, at the frames before it, and never ahead. It asks how much of a small
thumbnail can be had from the thumbnail before, moved and relit: that is what a camera and a lamp do within a scene,
and what a cut does not. All of it is integer arithmetic, so the same frames give the same cuts on every machine.
"""

from __future__ import annotations

import csv
import math
import re
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ksnet_deploy.errors import InputError

__all__ = ["CutDetector", "GivenCuts", "NoCuts", "SceneDetector", "read_cuts"]

Picture: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""A decoded frame, (H, W, 3) RGB, in 0..255 or 0..65535."""
Cells: TypeAlias = NDArray[np.int64]

ROWS, COLUMNS, SAMPLES = 24, 32, 4
"""Cells of a thumbnail, whatever the frame's shape, and the samples averaged in each of a cell's directions."""
LEVEL = SAMPLES * SAMPLES
"""One of 255 levels, in a thumbnail's units: cells are sums of their samples, not means."""
BLOCK = 4
"""Side of the blocks that are looked for in the picture before, in cells."""
NEAR = 2
"""How far around the dominant motion, and around none, a block is looked for, in cells."""
REACH = (3, 5)
"""Largest dominant motion between two frames in pairs of cells: a quarter of the height, a third of the width."""

CHANGE_LIMIT = 575
"""Per mille: what two pictures of one scene hardly ever differ by."""
CHANGE_STEP, CHANGE_MOST = 220, 850
"""Per mille: a cut differs by so much more than is usual in a scene that is all motion, or by so much in any."""
COLOUR_CHANGE = 100
"""Per mille of colours that every cut changes; noise alone changes all the structure but few colours."""
REMEMBERED, USUAL = 4, 8
"""Pictures that a scene can come back to, after a flash for example; differences that make up what is usual."""

CONTRAST, CONTRAST_FLOOR = 50, 4
"""Levels: standard deviation that pictures are brought to, and the least taken for more than noise."""
GAIN_LIMIT, RELIT = 4, 32
"""How many times brighter a lamp may make a picture, and the difference in levels from which one is looked for."""
FAINT, EMPTY, FADE_CHANGE = 2.5, 1, 28
"""Levels: contrasts below which a picture shows little, and nothing; and the difference by which a cut to an empty
picture is told from the last step of a fade."""
BLACK, WHITE = 12, 245
"""Levels up to which a border is black, and from which a cell is burnt out."""
FLASH_LIGHT, FLASH_STRUCTURE = 30, 500
"""Levels that a flash adds on average, and per mille of the structure that it may hide where a fifth is burnt out."""


class CutDetector(Protocol):
    """What tells the first frame of each scene."""

    def starts_scene(self, rgb: Picture) -> bool:
        """Whether a scene starts with the next frame, (H, W, 3). Call it once per frame, in order.

        True for the first frame of all. The answer depends on the frames seen so far and on nothing else.
        """


class NoCuts:
    """The whole video is one scene."""

    def __init__(self) -> None:
        self._started = False

    def __repr__(self) -> str:
        return "none"

    def starts_scene(self, rgb: Picture) -> bool:  # noqa: ARG002
        first, self._started = not self._started, True
        return first


class GivenCuts:
    """Scenes start where a list says."""

    def __init__(self, cuts: frozenset[int]) -> None:
        """``cuts`` are numbers of first frames, counted from 0; frame 0 starts a scene in any case."""
        self.cuts = cuts | {0}
        self._frame = 0

    def __repr__(self) -> str:
        return f"given {sorted(self.cuts)}"

    def starts_scene(self, rgb: Picture) -> bool:  # noqa: ARG002
        self._frame += 1
        return self._frame - 1 in self.cuts


class SceneDetector:
    """Finds cuts in the frames themselves.

    A frame starts a scene when it differs from the one before by more than is usual, in structure and in colour, and
    when none of the few before that explains it either. Flashes and fades are not cuts. A dissolve is none either: no
    frame of it starts anything.
    """

    def __init__(self) -> None:
        self._recent: deque[_Thumbnail] = deque(maxlen=REMEMBERED)
        self._changes: deque[int] = deque(maxlen=USUAL)

    def __repr__(self) -> str:
        return "detected"

    def starts_scene(self, rgb: Picture) -> bool:
        """Whether a scene starts with the next frame, (H, W, 3), uint8 or uint16. Call it once per frame, in order."""
        thumbnail = _Thumbnail.of(rgb)
        starts = not self._recent or self._is_cut(thumbnail)
        if starts:
            self._recent.clear()
            self._changes.clear()
        # A frame that is all white hides the scene: what comes after it is compared with what was before it.
        if starts or not thumbnail.is_white:
            self._recent.append(thumbnail)
        return starts

    def _is_cut(self, now: _Thumbnail) -> bool:
        if now.is_white:
            return False
        before = self._recent[-1]
        structure, colour = _difference(before, now)
        change = _weigh(structure, colour)
        usual = sorted(self._changes)[len(self._changes) // 2] if self._changes else 0
        limit = min(max(CHANGE_LIMIT, usual + CHANGE_STEP), CHANGE_MOST)
        if (
            change > limit
            and colour >= COLOUR_CHANGE
            and not _ends_fade(before, now)
            and not (structure < FLASH_STRUCTURE and _is_flash(before, now))
            and all(_weigh(*_difference(older, now)) > limit for older in list(self._recent)[:-1])
        ):
            return True
        self._changes.append(change)
        return False


@dataclass(frozen=True)
class _Thumbnail:
    """What is kept of a frame. Cells are in 0..255 * LEVEL."""

    rgb: Cells
    """(ROWS, COLUMNS, 3)."""
    luma: Cells
    """(ROWS, COLUMNS)."""
    light: int
    """Sum of the luma of all cells."""
    deviation: int
    """Standard deviation of the luma, times the number of cells."""
    white: int
    """Cells that are burnt out."""

    @classmethod
    def of(cls, frame: Picture) -> _Thumbnail:
        rows, columns = _sample_positions(frame.shape[0], ROWS), _sample_positions(frame.shape[1], COLUMNS)
        # Sums over the samples of a cell, one slice after the other: several times faster than one sum over axes.
        lines = sum((_eight_bits(frame[rows[k]]) for k in range(1, SAMPLES)), _eight_bits(frame[rows[0]]))
        rgb = sum((lines[:, columns[k]] for k in range(1, SAMPLES)), lines[:, columns[0]]).astype(np.int64)
        luma = _luma(rgb)
        return cls(rgb, luma, int(luma.sum()), _deviation(luma), int((luma >= WHITE * LEVEL).sum()))

    @property
    def is_white(self) -> bool:
        return self.white > 0.94 * ROWS * COLUMNS

    @property
    def contrast(self) -> float:
        """Standard deviation of the luma in levels."""
        return self.deviation / (ROWS * COLUMNS * LEVEL)


@cache
def _sample_positions(length: int, cells: int) -> NDArray[np.intp]:
    """Pixels of a side that are looked at: (SAMPLES, cells), evenly spread, repeated where the side is short."""
    samples = cells * SAMPLES
    return ((2 * np.arange(samples) + 1) * length // (2 * samples)).reshape(cells, SAMPLES).T


def _eight_bits(lines: Picture) -> NDArray[np.uint16]:
    return (lines >> 8 if lines.dtype == np.uint16 else lines).astype(np.uint16, copy=False)


def _luma(rgb: Cells) -> Cells:
    luma: Cells = (77 * rgb[..., 0] + 150 * rgb[..., 1] + 29 * rgb[..., 2]) >> 8
    return luma


def _deviation(luma: Cells) -> int:
    """Standard deviation times the number of cells."""
    total = int(luma.sum())
    return math.isqrt(luma.size * int((luma * luma).sum()) - total * total)


def _weigh(structure: int, colour: int) -> int:
    return structure + 7 * colour // 10


def _ends_fade(before: _Thumbnail, now: _Thumbnail) -> bool:
    """Whether both pictures are faint, or one is empty and the other near it, as in a fade rather than at a cut."""
    less, more = sorted((before.contrast, now.contrast))
    if less < FAINT and more < 2 * FAINT:
        return True
    return less < EMPTY and int(np.abs(before.luma - now.luma).sum()) < FADE_CHANGE * LEVEL * now.luma.size


def _is_flash(before: _Thumbnail, now: _Thumbnail) -> bool:
    """Whether the light rose until a fifth more of the picture burnt out."""
    brighter = now.light - before.light > FLASH_LIGHT * LEVEL * now.luma.size
    return brighter and 5 * (now.white - before.white) > now.luma.size


def _difference(before: _Thumbnail, now: _Thumbnail) -> tuple[int, int]:
    """How much of ``now`` is not in ``before``, per mille: of its structure, motion allowed for, and of its colours.

    Both are compared as if equally bright and rich in contrast, and without lines that are black in both: letterbox
    bars would else make all films alike.
    """
    lit = np.maximum(before.rgb, now.rgb).max(axis=2) > BLACK * LEVEL
    shown = lit.any(axis=1)[:, None] & lit.any(axis=0)
    if not shown.any():
        return 0, 0
    one, two = (_normalized(rgb, shown) for rgb in _relit(before, now))
    one_luma, two_luma = _luma(one), _luma(two)
    colours = _histogram_distance(_colour_bins(one)[shown], _colour_bins(two)[shown])
    tones = _histogram_distance(one_luma[shown] >> 4, two_luma[shown] >> 4)
    return _unexplained(one_luma, two_luma, shown), (colours + tones) // 2


def _relit(before: _Thumbnail, now: _Thumbnail) -> tuple[Cells, Cells]:
    """The darker picture in the light of the brighter, burning out as a sensor does, where the light changed much."""
    cells = ROWS * COLUMNS * LEVEL
    dark, bright = sorted((before, now), key=lambda thumbnail: thumbnail.light)
    if bright.light - dark.light <= RELIT * cells:
        return before.rgb, now.rgb
    divisor = dark.light + cells
    lit = np.minimum(dark.rgb * min(bright.light + cells, GAIN_LIMIT * divisor) // divisor, 255 * LEVEL)
    return (lit, now.rgb) if dark is before else (before.rgb, lit)


def _normalized(rgb: Cells, shown: NDArray[np.bool_]) -> Cells:
    """The cells that are shown, of one mean and contrast, in 0..255; the others at the mean, 128."""
    luma = _luma(rgb)[shown]
    spread = max(_deviation(luma), CONTRAST_FLOOR * LEVEL * luma.size)
    levels = 128 + (rgb * luma.size - int(luma.sum())) * CONTRAST // spread
    normalized: Cells = np.where(shown[..., None], np.clip(levels, 0, 255), 128)
    return normalized


def _colour_bins(rgb: Cells) -> Cells:
    """Which of 5x5x5 colours each cell is; 5 is odd, so that the mean lies within a bin and not between two."""
    bins = rgb * 5 >> 8
    combined: Cells = (bins[..., 0] * 5 + bins[..., 1]) * 5 + bins[..., 2]
    return combined


def _histogram_distance(one: Cells, two: Cells) -> int:
    """Per mille of the cells that would have to change their bin."""
    bins = 125
    moved = np.abs(np.bincount(one, minlength=bins) - np.bincount(two, minlength=bins)).sum()
    return int(moved) * 500 // one.size


def _unexplained(before: Cells, now: Cells, shown: NDArray[np.bool_]) -> int:
    """Per mille of the structure of ``now`` that no nearby part of ``before`` has, as a mean over blocks."""
    (down, right), area = REACH, BLOCK * BLOCK
    margin = 2 * down + NEAR, 2 * right + NEAR
    moved = sliding_window_view(np.pad(before, tuple((m, m) for m in margin), mode="edge"), now.shape)
    errors = np.minimum(
        *(_block_errors(moved, now, margin[0] + y, margin[1] + x) for y, x in ((0, 0), _dominant_motion(before, now)))
    )
    blocks = now.reshape(ROWS // BLOCK, BLOCK, COLUMNS // BLOCK, BLOCK)
    energy = area * (blocks * blocks).sum(axis=(1, 3)) - blocks.sum(axis=(1, 3)) ** 2
    # What is within the noise, a variance of 32, counts as explained.
    share = np.minimum(1000 * errors // (energy + 32 * area * area), 1000)
    weight = shown.reshape(blocks.shape).sum(axis=(1, 3))
    return int((share * weight).sum()) // int(weight.sum())


def _block_errors(moved: Cells, now: Cells, y: int, x: int) -> Cells:
    """Least squared error of each block over small motions around (y, x), its own mean apart; times the area^2."""
    near = moved[y - NEAR : y + NEAR + 1, x - NEAR : x + NEAR + 1]
    error = (near - now).reshape(-1, ROWS // BLOCK, BLOCK, COLUMNS // BLOCK, BLOCK)
    squares, sums = (error * error).sum(axis=2).sum(axis=3), error.sum(axis=2).sum(axis=3)
    least: Cells = (BLOCK * BLOCK * squares - sums * sums).min(axis=0)
    return least


def _dominant_motion(before: Cells, now: Cells) -> tuple[int, int]:
    """Motion of most of the picture in cells, found on pairs of cells."""
    one, two = (x.reshape(ROWS // 2, 2, COLUMNS // 2, 2).sum(axis=(1, 3)) for x in (before, now))
    moved = sliding_window_view(np.pad(one, tuple((r, r) for r in REACH), mode="edge"), two.shape)
    y, x = np.unravel_index(int(np.abs(moved - two).sum(axis=(2, 3)).argmin()), moved.shape[:2])
    return 2 * (int(y) - REACH[0]), 2 * (int(x) - REACH[1])


def read_cuts(path: Path) -> frozenset[int]:
    """Read a list of first frames of scenes, counted from 0.

    Either one number a line, with blank lines and ``#`` comments, or the CSV of PySceneDetect's ``list-scenes``, whose
    frames are counted from 1.

    Raises:
        InputError: the file cannot be read, or a line of it is something else.
    """
    if path.is_dir():
        raise InputError(f"the cut list {path} cannot be read: it is a folder; give a text file of frame numbers")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"the cut list {path} cannot be read ({error.strerror}); give a text file of frame numbers"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"the cut list {path} is not text in UTF-8; give a text file with one frame number a line"
        ) from error
    lines = text.splitlines()
    # PySceneDetect may put a line of timecodes before its header.
    header = next((n for n, line in enumerate(lines[:2]) if "Start Frame" in line), None)
    if header is None:
        entries = ((n, line.partition("#")[0].strip()) for n, line in enumerate(lines, 1))
        return frozenset(_frame_number(path, n, entry, 0) for n, entry in entries if entry)
    column = next(csv.reader(lines[header : header + 1])).index("Start Frame")
    rows = ((n, next(csv.reader([line]))) for n, line in enumerate(lines[header + 1 :], header + 2) if line.strip())
    return frozenset(_frame_number(path, n, row[column] if column < len(row) else "", 1) for n, row in rows)


def _frame_number(path: Path, line: int, entry: str, first: int) -> int:
    """The number that an entry says, less ``first``, which is how its list counts the first frame."""
    if not re.fullmatch("[0-9]{1,18}", entry) or int(entry) < first:
        raise InputError(
            f"line {line} of the cut list {path} says '{entry}' where a frame number of {first} or more is expected; "
            "write one number a line, or give the CSV that 'scenedetect list-scenes' writes"
        )
    return int(entry) - first
