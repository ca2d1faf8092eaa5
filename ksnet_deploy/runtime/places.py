"""The place of a tile in its frame, as inputs of the pieces of a step.

The attention stretches a coarse map over the whole frame. The flow network sees blocks of up to 32 pixels, counted from
the frame's corner, in a frame filled up to whole ones, and stretches the flow of each level over the next from corner
to corner. A tile that did so by itself would find another flow. Where a tile has no room for the frame's largest blocks
it sees smaller ones as the frame does, and the larger ones elsewhere; plans avoid that (``TilePlan.cost``).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.tiles import BLOCK, RASTER, TilePlace, padded

__all__ = ["AXES", "PLACE", "attention_name", "enlarging_name", "inputs_of_place", "own_name", "seen_name"]

PLACE = "place."
"""Beginning of the names of such inputs; ``lockstep.py`` gives a graph those that it needs."""
AXES = ("rows", "columns")

Array = NDArray[Any]


def attention_name(axis: str) -> str:
    """(H, coarse) for rows, (coarse, W) for columns: how the attention's coarse map is interpolated."""
    return f"{PLACE}attention.{axis}"


def seen_name(axis: str) -> str:
    """(padded,) int64: lines or pixel columns of the tile that the flow network sees."""
    return f"{PLACE}flow.seen.{axis}"


def own_name(axis: str) -> str:
    """(H,) or (W,) int64: those of its flow that are the tile's."""
    return f"{PLACE}flow.own.{axis}"


def enlarging_name(axis: str, length: int) -> str:
    """(2 length, length) for rows, (length, 2 length) for columns: how a flow of this length is interpolated."""
    return f"{PLACE}flow.enlarging.{axis}.{length}"


def inputs_of_place(size: FrameSize, place: TilePlace) -> dict[str, Array]:
    """All inputs for tiles of this size at a place; matrices are float32. They are kept: do not write to them."""
    rows = _inputs_of_side("rows", size.height, place.top, place.frame.height)
    return rows | _inputs_of_side("columns", size.width, place.left, place.frame.width)


@cache
def _inputs_of_side(axis: str, length: int, start: int, frame: int) -> dict[str, Array]:
    seen, own, enlarging = _flow(length, start, frame)
    matrices = {enlarging_name(axis, points): matrix for points, matrix in enlarging.items()}
    matrices[attention_name(axis)] = _attention(length, start, frame)
    if axis == "columns":
        matrices = {name: np.ascontiguousarray(matrix.T) for name, matrix in matrices.items()}
    return matrices | {seen_name(axis): seen, own_name(axis): own}


def _flow(length: int, start: int, frame: int) -> tuple[Array, Array, dict[int, Array]]:
    """The pixels of a tile's side that the flow network sees, those of its flow that are the tile's, and matrices
    (2 n, n) that enlarge its levels, by n."""
    whole, block = padded(length), BLOCK
    while start % block + length > whole:  # no room for the frame's largest blocks
        block //= 2
    before = start % block
    enlarging = {}
    scale = BLOCK
    while scale > 1:
        coarse, all_of_frame, origin = whole // scale, padded(frame) // scale, (start - before) / scale
        fine = 2 * origin + np.arange(2 * coarse)  # counted in the frame, whose first and last points stay in place
        at = fine * (all_of_frame - 1) / (2 * all_of_frame - 1) - origin
        enlarging[coarse] = _interpolation(at, coarse)
        scale //= 2
    return np.clip(np.arange(whole) - before, 0, length - 1), np.arange(length) + before, enlarging


def _attention(length: int, start: int, frame: int) -> Array:
    """(length, coarse): the part of a frame's bilinear interpolation that falls on a tile, with the tile's points."""
    at = (start + np.arange(length) + 0.5) * _coarse(frame) / frame - 0.5
    return _interpolation(np.clip(at, 0, _coarse(frame) - 1) - start / RASTER, _coarse(length))


def _coarse(length: int) -> int:
    """Points of the attention's map along a side: a convolution 3 of stride 2, then a pooling 7 of stride 3."""
    return ((length - 3) // 2 + 1 - 7) // 3 + 1


def _interpolation(at: Array, points: int) -> Array:
    """(len(at), points) float32: what each of a row of points counts at these places between them."""
    at = np.clip(at, 0, points - 1)
    matrix: Array = np.maximum(1 - np.abs(at[:, None] - np.arange(points)), 0).astype(np.float32)
    return matrix
