"""Tiles against whole frames: with networks simple enough to be known exactly, and with a bundled one."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.runtime.base import Runner, SavedState
from ksnet_deploy.runtime.tiles import LockstepRunner, PausedStep, TiledRunner, TilePlace, TilePlan, run_alone

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "tiling.json"
SIZE = FrameSize(72, 101)
PLAN = TilePlan.make(SIZE, FrameSize(48, 65), 16)


class LocalRunner(Runner):
    """Enlarges the mean of this frame and the last one; nothing a pixel becomes depends on where its tile ends."""

    backend = "local"

    def __init__(self, size: FrameSize, io: FrameType = "uint8") -> None:
        super().__init__(size, io)
        self._last: NDArray[Any] | None = None
        self.closed = False

    def enlarge(self, lr: NDArray[Any]) -> NDArray[Any]:
        return lr.repeat(4, axis=0).repeat(4, axis=1)

    def advance(self, lr: NDArray[Any], state: SavedState) -> tuple[NDArray[Any], SavedState]:
        now = lr.transpose(2, 0, 1)[None].astype(np.float32)
        mean = (now + state.get("last", now)) / 2
        return self.enlarge(mean[0].transpose(1, 2, 0).astype(self.io)), {"last": now}

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        hr, self.state = self.advance(lr, self.state)
        return hr

    def reset(self) -> None:
        self._last = None

    @property
    def state(self) -> SavedState:
        return {} if self._last is None else {"last": self._last.copy()}

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._last = saved["last"].copy() if saved else None

    def close(self) -> None:
        self.closed = True


class RankingRunner(LocalRunner, LockstepRunner):
    """Twice in a row ranks the colours by their means and shows the rank: a tile alone may rank otherwise."""

    def begin_step(self, lr: NDArray[Any], state: SavedState, place: TilePlace) -> PausedStep:
        hr, following = self.advance(lr, state)
        rows, columns = place.top + np.arange(len(hr) // 4), place.left + np.arange(hr.shape[1] // 4)
        shade = np.add.outer(rows % 7, columns % 5).repeat(4, axis=0).repeat(4, axis=1)  # depends on the place alone
        hr = hr // 2 + shade[..., None].astype(np.uint8)
        for power in (1, 2):
            scores = yield ((lr / 255) ** power * place.weight[..., None]).sum(axis=(0, 1), dtype=np.float64)
            hr = hr // 2 + (20 * scores.argsort()).astype(np.uint8)
            following[f"scores_{power}"] = np.broadcast_to(scores[None, :, None, None], following["last"].shape)
        return hr, following

    def advance_alone(self, lr: NDArray[Any], state: SavedState) -> tuple[NDArray[Any], SavedState]:
        return run_alone(self.begin_step(lr, state, TilePlace.whole(self.size)))


def frames(count: int, io: FrameType = "uint8", size: FrameSize = SIZE) -> NDArray[Any]:
    values = np.random.default_rng(count).integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8)
    return values if io == "uint8" else (values / 255).astype(io)


@pytest.mark.parametrize("overlap", [0, 7, 16, 32])
@pytest.mark.parametrize("size", ["540x960", "72x101", "16x2000", "33x64"])
@pytest.mark.parametrize("largest", [FrameSize(128, 144), 9000])
def test_tiles_cover_the_frame_and_share_the_overlap(size: str, largest: FrameSize | int, overlap: int) -> None:
    frame = FrameSize.parse(size)
    plan = TilePlan.make(frame, largest, overlap)
    tile = plan.tile
    assert TilePlan.make(frame, tile, overlap) == plan, "a job that goes on takes the tiles that it was begun in"
    if isinstance(largest, int):
        assert tile.height * tile.width <= largest
    else:
        assert tile.height <= largest.height
        assert tile.width <= largest.width
    covered = np.zeros((frame.height, frame.width), int)
    for top, left in plan.positions:
        assert covered[top : top + tile.height, left : left + tile.width].shape == (tile.height, tile.width)
        covered[top : top + tile.height, left : left + tile.width] += 1
    assert covered.min() == 1
    assert covered.sum() == plan.pixels
    for starts, side in ((plan.rows, tile.height), (plan.columns, tile.width)):
        assert all(first + side - second >= overlap for first, second in pairwise(starts))
        assert all(start % 6 == 0 for start in starts)  # the strides of the attention's map: 2 * 3


@pytest.mark.parametrize(
    ("size", "largest", "overlap"),
    [(FrameSize(90, 130), 2500, 8), (FrameSize(180, 320), 30000, 32), (FrameSize(200, 480), 50000, 32)],
)
def test_no_tiles_of_one_size_cover_a_frame_at_a_lower_cost(size: FrameSize, largest: int, overlap: int) -> None:
    """Which is the pixels, and a tenth more for an axis where a tile cannot see the frame's blocks of 32 pixels."""

    def along(length: int) -> list[tuple[int, float]]:
        found = []
        for side in range(length, 15, -6):
            step = (side - overlap) // 6 * 6
            if side < max(16, 2 * overlap) or step <= 0:
                break
            last = -((side - length) // step)
            starts = [index * (length - side) // 6 // last * 6 for index in range(last + 1)] if last else [0]
            blocks = [{(start + each) // 32 for each in (0, side - 1)} for start in starts]
            seen = all(32 * (max(each) - min(each) + 1) <= -(-side // 32) * 32 for each in blocks)
            found.append((side, (last + 1) * side * (1 if seen else 1.1)))
        return found

    found = TilePlan.make(size, largest, overlap)
    least = min(a * b for (h, a), (w, b) in product(along(size.height), along(size.width)) if h * w <= largest)
    assert found.cost == pytest.approx(least)


def test_a_plan_reads_as_one_line() -> None:
    plan = TilePlan.make(FrameSize(540, 960), FrameSize(300, 500), 32)
    assert str(plan) == "540x960 in 2x2 tiles of 294x498, overlap 32"


@pytest.mark.parametrize(
    ("height", "largest", "tile", "cost"),
    [
        pytest.param(540, 294, 294, 1, id="6 lines longer"),
        pytest.param(540, 293, 204, 1, id="a tile more"),
        pytest.param(270, 155, 114, 1.1, id="too dear"),
    ],
)
def test_tiles_see_the_blocks_of_the_frame_where_that_costs_little(
    height: int, largest: int, tile: int, cost: float
) -> None:
    plan = TilePlan.make(FrameSize(height, 960), FrameSize(largest, 960), 32)
    assert plan.tile == FrameSize(tile, 960)
    assert plan.cost == pytest.approx(cost * plan.pixels)


@pytest.mark.parametrize(("largest", "overlap"), [(FrameSize(60, 60), 32), (900, 16), (FrameSize(900, 15), 4), (9, -1)])
def test_tiles_that_cannot_be_are_refused(largest: FrameSize | int, overlap: int) -> None:
    with pytest.raises(ConfigError, match=r"allow tiles of \d+x\d+|negative"):
        TilePlan.make(FrameSize(540, 960), largest, overlap)


@pytest.mark.parametrize("io", ["uint8", "float16", "float32"])
def test_tiles_of_a_local_network_are_the_whole_frame(io: FrameType) -> None:
    whole, tiled = LocalRunner(SIZE, io), TiledRunner(LocalRunner(PLAN.tile, io), PLAN)
    for lr in frames(3, io):
        found, expected = tiled.step(lr), whole.step(lr)
        assert found.dtype == expected.dtype
        # Half a unit for each of two weights, two products and three sums.
        np.testing.assert_allclose(found, expected, rtol=0, atol=0 if io == "uint8" else 3.5 * np.finfo(io).eps)


@pytest.mark.parametrize("level", [1, 128, 255])
def test_a_constant_picture_stays_constant(level: int) -> None:
    lr = np.full((SIZE.height, SIZE.width, 3), level, np.uint8)
    assert (TiledRunner(LocalRunner(PLAN.tile), PLAN).step(lr) == level).all()


def test_the_inner_border_of_a_tile_does_not_count() -> None:
    class SpoiledBorder(LocalRunner):
        def enlarge(self, lr: NDArray[Any]) -> NDArray[Any]:
            hr = super().enlarge(lr)
            hr[16:-16, 16:-16] = 0  # a white border of 4 LR pixels, where at least 16 overlap
            return hr

    lr = np.full((SIZE.height, SIZE.width, 3), 255, np.uint8)
    hr = TiledRunner(SpoiledBorder(PLAN.tile), PLAN).step(lr)
    assert (hr[16:-16, 16:-16] == 0).all()
    assert (hr[0] == 255).all()


def test_neighbouring_tiles_fade_into_each_other() -> None:
    class Numbered(LocalRunner):
        calls = 0.0

        def enlarge(self, lr: NDArray[Any]) -> NDArray[Any]:
            self.calls += 1
            return np.full_like(super().enlarge(lr), self.calls)

    plan = TilePlan.make(FrameSize(32, 80), FrameSize(32, 50), 16)
    hr = TiledRunner(Numbered(plan.tile, "float32"), plan).step(frames(1, "float32", plan.frame)[0])[0, :, 0]
    assert (np.diff(hr) >= 0).all()
    shared = plan.tile.width - plan.columns[1]
    assert np.diff(hr).max() <= 1.01 / (4 * shared / 2)  # half of the shared pixels is a ramp from 1 to 2
    assert (hr[0], hr[-1]) == (1, 2)


def test_tiles_in_lockstep_rank_as_the_whole_frame_does() -> None:
    whole, tile = RankingRunner(SIZE), RankingRunner(PLAN.tile)
    tiled = TiledRunner(tile, PLAN)
    state: SavedState = {}
    shade = np.linspace(60, 0, SIZE.width)[:, None] * [1.0, -1.0, 0.0] + 100  # ranks change from left to right
    for lr in np.clip(frames(4) // 8 + shade, 0, 255).astype(np.uint8):
        expected, state = whole.advance_alone(lr, state)
        np.testing.assert_array_equal(tiled.step(lr), expected)
        for index, name in product(range(len(PLAN.positions)), ("scores_1", "scores_2")):
            found = tiled.state[f"tile{index}.{name}"]
            np.testing.assert_allclose(found[0, :, 0, 0], state[name][0, :, 0, 0], rtol=1e-6)
    right = lr[: PLAN.tile.height, -PLAN.tile.width :]
    assert (tile.advance_alone(right, {})[0] != expected[: 4 * PLAN.tile.height, -4 * PLAN.tile.width :]).any()


@pytest.mark.parametrize("kind", [LocalRunner, RankingRunner])
def test_a_saved_state_continues_and_a_reset_starts_again(kind: type[LocalRunner]) -> None:
    lrs = frames(5)
    tiled = TiledRunner(kind(PLAN.tile), PLAN)
    assert tiled.state == {}
    expected = [tiled.step(lr) for lr in lrs[:3]]
    saved = tiled.state
    assert {f"tile{index}.last" for index in range(len(PLAN.positions))} <= saved.keys()
    expected += [tiled.step(lr) for lr in lrs[3:]]
    other = TiledRunner(kind(PLAN.tile), PLAN)
    for _ in range(2):  # what was saved is a copy, and stays one
        other.state = saved
        np.testing.assert_array_equal([other.step(lr) for lr in lrs[3:]], expected[3:])
    for again in (other.reset, lambda: setattr(other, "state", {})):
        again()
        np.testing.assert_array_equal([other.step(lr) for lr in lrs[:2]], expected[:2])


def test_a_state_of_other_tiles_is_refused() -> None:
    tiled = TiledRunner(LocalRunner(PLAN.tile), PLAN)
    tiled.step(frames(1)[0])
    saved = tiled.state
    plane = saved["tile0.last"]
    for wrong in (
        {"tile0.last": plane},
        saved | {"tile99.last": plane},
        saved | {"last": plane},
        saved | {"tile0.last": plane[:, :, 1:]},
    ):
        with pytest.raises(BackendError, match="is not of 72x101 in 2x2 tiles"):
            tiled.state = wrong


def test_the_runner_must_fit_the_tiles_and_is_closed_with_them() -> None:
    runner = LocalRunner(PLAN.tile)
    with TiledRunner(runner, PLAN) as tiled:
        assert (tiled.size, tiled.io, tiled.backend) == (SIZE, "uint8", "local")
        with pytest.raises(BackendError, match="open a runner for that size"):
            tiled.step(frames(1, size=PLAN.tile)[0])
    assert runner.closed
    with pytest.raises(ConfigError, match=f"tiles of {PLAN.tile}"):
        TiledRunner(LocalRunner(SIZE), PLAN)
