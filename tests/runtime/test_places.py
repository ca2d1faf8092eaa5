"""What a tile is told of its place, against PyTorch on the whole frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.places import (
    AXES,
    attention_name,
    enlarging_name,
    inputs_of_place,
    own_name,
    seen_name,
)
from ksnet_deploy.runtime.tiles import TilePlace, padded

FRAME = FrameSize(90, 160)


def place(top: int, left: int, tile: FrameSize, frame: FrameSize = FRAME) -> TilePlace:
    return TilePlace(frame, top, left, np.ones((tile.height, tile.width), np.float32))


def coarse_map(length: int) -> int:
    return ((length - 3) // 2 + 1 - 7) // 3 + 1


def interpolated(values: NDArray[np.float32], size: tuple[int, int], *, corners: bool) -> NDArray[np.float32]:
    found: NDArray[np.float32] = F.interpolate(
        torch.from_numpy(values)[None, None], size, mode="bilinear", align_corners=corners
    )[0, 0].numpy()
    return found


@pytest.mark.parametrize("frame", [FrameSize(64, 96), FRAME, FrameSize(33, 65)])
def test_the_place_of_a_whole_frame_is_what_the_network_does_by_itself(frame: FrameSize) -> None:
    given = inputs_of_place(frame, TilePlace.whole(frame))
    rng = np.random.default_rng(0)
    for axis, length in zip(AXES, (frame.height, frame.width), strict=True):
        np.testing.assert_array_equal(given[seen_name(axis)], np.minimum(np.arange(padded(length)), length - 1))
        np.testing.assert_array_equal(given[own_name(axis)], np.arange(length))
    sides = padded(frame.height), padded(frame.width)
    for scale in (2, 4, 8, 16, 32):
        h, w = (side // scale for side in sides)
        flow = rng.standard_normal((h, w), np.float32)
        found = given[enlarging_name("rows", h)] @ flow @ given[enlarging_name("columns", w)]
        np.testing.assert_allclose(found, interpolated(flow, (2 * h, 2 * w), corners=True), rtol=0, atol=2e-5)
    attention = rng.standard_normal((coarse_map(frame.height), coarse_map(frame.width)), np.float32)
    found = given[attention_name("rows")] @ attention @ given[attention_name("columns")]
    expected = interpolated(attention, (frame.height, frame.width), corners=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (18, 0), (0, 60), (18, 60), (6, 36)])
def test_a_tile_sees_the_blocks_of_its_frame_and_enlarges_its_flow_alike(top: int, left: int) -> None:
    tile = FrameSize(72, 100)  # whose sides in the flow network, 96 and 128, have room for 24 and 28 pixels before them
    given = inputs_of_place(tile, place(top, left, tile))
    whole = inputs_of_place(FRAME, TilePlace.whole(FRAME))
    for axis, start, length, frame in (("rows", top, 72, FRAME.height), ("columns", left, 100, FRAME.width)):
        seen, own = given[seen_name(axis)], given[own_name(axis)]
        np.testing.assert_array_equal(seen[own], np.arange(length))
        assert (start - own[0]) % 32 == 0, "a block begins where one of the frame's does"
        assert (np.diff(seen) >= 0).all()
        assert set(seen) == set(range(length))
        for scale in (2, 4, 8, 16, 32):
            n, all_of_frame = padded(length) // scale, padded(frame) // scale
            first = (start - own[0]) // scale
            found, expected = (
                np.transpose(each) if axis == "columns" else each
                for each in (given[enlarging_name(axis, n)], whole[enlarging_name(axis, all_of_frame)])
            )
            # Only at the tile's first and last points does the frame need one that the tile has not.
            part = expected[2 * first : 2 * (first + n), first : first + n]
            inner = part.sum(axis=1) > 0.999
            assert inner.sum() >= len(inner) - 3
            np.testing.assert_allclose(found[: len(part)][inner, : part.shape[1]], part[inner], rtol=0, atol=2e-5)


def test_a_tile_without_room_for_the_largest_blocks_takes_the_next() -> None:
    tile, frame = FrameSize(96, 90), FrameSize(96, 192)
    for left, before in ((48, 0), (102, 6), (54, 6), (60, 4)):  # of 32 pixels 54 would need 22, of 16 pixels 6
        given = inputs_of_place(tile, place(0, left, tile, frame))
        assert given[own_name("columns")][0] == before
        assert len(given[seen_name("columns")]) == 96
    np.testing.assert_array_equal(inputs_of_place(tile, place(0, 0, tile, frame))[seen_name("rows")], np.arange(96))
