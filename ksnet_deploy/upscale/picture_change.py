"""Change of a picture from the one before: thumbnails, and their difference with motion and light allowed for.

All of it is integer arithmetic, so the same frames give the same figures on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

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
"""Reach of the search for a block around the dominant motion, and around none, in cells."""
REACH = (3, 5)
"""Largest dominant motion between two frames in pairs of cells: a quarter of the height, a third of the width."""

CONTRAST, CONTRAST_FLOOR = 50, 4
"""Levels: standard deviation that pictures are brought to, and the least taken for more than noise."""
GAIN_LIMIT, RELIT = 4, 32
"""Factor by which a lamp may brighten a picture, and the difference in levels from which one is looked for."""
FAINT, EMPTY, FADE_CHANGE = 2.5, 1, 28
"""Levels: contrasts below which a picture shows little, and nothing; and the difference by which a cut to an empty
picture is told from the last step of a fade."""
BLACK, WHITE = 12, 245
"""Levels up to which a border is black, and from which a cell is burnt out."""
FLASH_LIGHT, FLASH_STRUCTURE = 30, 500
"""Levels that a flash adds on average, and per mille of the structure that it may hide where a fifth is burnt out."""


@dataclass(frozen=True)
class _Thumbnail:
    """Facts that are kept of a frame. Cells are in 0..255 * LEVEL."""

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
    """Part of ``now`` that is not in ``before``, per mille: of its structure, motion allowed for, and of its colours.

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
    """Colour of each cell, one of 5x5x5; 5 is odd, so that the mean lies within a bin and not between two."""
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
