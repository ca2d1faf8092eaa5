"""Frames larger than the memory allows: upscaled in overlapping tiles, each with a recurrent state of its own.

:class:`TilePlan` says where the tiles lie; :class:`TiledRunner` steps one runner over them and blends what it gives.

Three things in the network look at the whole frame: channels are ranked by their mean scores (``ops/reference.py``),
the attention interpolates a coarse map whose raster depends on the frame's size (``ESA`` in ``blocks.py``), and so does
what each level of the flow network sees (``places.py``). Tiles that are left alone rank and interpolate otherwise, and
no overlap mends that (``benchmarks/tiling.py``). So a runner that can pause where it ranks, a :class:`LockstepRunner`,
is stepped over all tiles in lockstep: it is told each tile's place in the frame, and sent the scores of the whole
frame.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import astuple, dataclass
from itertools import count, product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.runtime.base import Runner, SavedState

__all__ = [
    "BLOCK",
    "RASTER",
    "LockstepRunner",
    "PausedStep",
    "TilePlace",
    "TilePlan",
    "TiledRunner",
    "padded",
    "run_alone",
]

PausedStep = Generator[NDArray[Any], NDArray[Any], tuple[NDArray[Any], SavedState]]
"""A step that pauses at every ranking: it yields its tile's part of the scores (C,), is sent the frame's, and returns
the HR picture and the next state."""

RASTER = 6
"""LR pixels between the points of the attention's coarse map; tiles start at multiples of it, so that theirs agree."""
BLOCK = 32
"""LR pixels along a side that the flow network's coarsest level sees as one; each finer level sees half as many."""
WITHOUT_ROOM = 1.1
"""Factor of the cost of tiles one of whose sides, filled up to whole blocks, has no room for the frame's: tiles with it
are worth a tenth more pixels."""
SPOILED_SHARE = 0.25
"""Share of an overlap at either end: there the tile that ends does not count, because padding spoils its border."""


@dataclass(frozen=True)
class TilePlan:
    """Places of the tiles of a frame; all have one size, so that one network serves them all."""

    frame: FrameSize
    tile: FrameSize
    overlap: int
    """LR pixels that neighbouring tiles share at least."""

    @classmethod
    def make(cls, size: FrameSize, largest: FrameSize | int, overlap: int) -> Self:
        """The tiles that cover a frame with the fewest pixels in all, or with a few more if so they see its blocks.

        Args:
            size: of the LR frame.
            largest: a tile's greatest height and width, or its greatest number of pixels.
            overlap: LR pixels that neighbouring tiles share at least. Tiles are at least twice as long.

        Raises:
            ConfigError: no such tiles cover the frame.
        """
        if overlap < 0:
            raise ConfigError(f"an overlap of {overlap} pixels between tiles is negative; give at least 0")

        def fits(tile: FrameSize) -> bool:
            if isinstance(largest, int):
                return tile.height * tile.width <= largest
            return tile.height <= largest.height and tile.width <= largest.width

        tiles = [FrameSize(*sides) for sides in product(_sides(size.height, overlap), _sides(size.width, overlap))]
        plans = [cls(size, tile, overlap) for tile in tiles if fits(tile)]
        if not plans:
            raise ConfigError(
                f"tiles of at most {largest}{' pixels' * isinstance(largest, int)} are too small for frames of {size} "
                f"with an overlap of {overlap}; allow tiles of {tiles[-1]}"
            )
        return min(plans, key=lambda plan: (plan.cost, plan.tile.height + plan.tile.width))

    @property
    def rows(self) -> tuple[int, ...]:
        """First line of every row of tiles, from 0, nearly evenly spread; the last row ends at the frame's edge."""
        return _starts(self.frame.height, self.tile.height, self.overlap)

    @property
    def columns(self) -> tuple[int, ...]:
        """First pixel column of every column of tiles, likewise."""
        return _starts(self.frame.width, self.tile.width, self.overlap)

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        """Top left corner of every tile, (line, column), row by row."""
        return tuple(product(self.rows, self.columns))

    @property
    def pixels(self) -> int:
        """Pixels of all tiles together."""
        return len(self.rows) * len(self.columns) * self.tile.height * self.tile.width

    @property
    def cost(self) -> float:
        """Pixels of all tiles together, which count more for each axis along which a tile has no room for blocks."""
        axes = (self.tile.height, self.rows), (self.tile.width, self.columns)
        return self.pixels * WITHOUT_ROOM ** sum(not _has_room(*axis) for axis in axes)

    def __str__(self) -> str:
        return f"{self.frame} in {len(self.rows)}x{len(self.columns)} tiles of {self.tile}, overlap {self.overlap}"


def padded(length: int) -> int:
    """Length of a side in the flow network, filled up to whole blocks."""
    return -(-length // BLOCK) * BLOCK


def _sides(length: int, overlap: int) -> list[int]:
    """Lengths of 1, 2, 3... tiles that cover a side, longest first, as long as they are worth computing; before those
    that have no room for the frame's blocks the next longer ones that have it, if they are worth their pixels."""
    sides = [length]
    for tiles in count(2):
        side = -(-(length + (tiles - 1) * overlap) // tiles)
        if side < max(FrameSize.MINIMUM, 2 * overlap):
            break
        side += (length - side) % RASTER
        while (tiles - 1) * _step(side, overlap) < length - side:
            side += RASTER
        longer = range(side, min(int(WITHOUT_ROOM * side) + 1, length), RASTER)
        roomy = (each for each in longer if _has_room(each, _starts(length, each, overlap)))
        sides += dict.fromkeys((next(roomy, side), side))
    return sides


def _has_room(side: int, starts: tuple[int, ...]) -> bool:
    """Whether all tiles can see the frame's blocks; ``places.py`` says what becomes of those that cannot."""
    return all(start % BLOCK + side <= padded(side) for start in starts)


def _starts(length: int, side: int, overlap: int) -> tuple[int, ...]:
    if side == length:
        return (0,)
    last = -(-(length - side) // _step(side, overlap))
    return tuple(index * (length - side) // RASTER // last * RASTER for index in range(last + 1))


def _step(side: int, overlap: int) -> int:
    """Largest distance in pixels from the start of one tile to that of the next."""
    return (side - overlap) // RASTER * RASTER


@dataclass(frozen=True)
class TilePlace:
    """Facts for a runner in lockstep about the tile that it is to step."""

    frame: FrameSize
    top: int
    left: int
    weight: NDArray[np.float32]
    """(H, W), how much each pixel of the tile counts in the frame's scores; over all tiles this sums to one."""

    @classmethod
    def whole(cls, frame: FrameSize) -> Self:
        """The place of a tile that is the whole frame."""
        pixels = frame.height * frame.width
        return cls(frame, 0, 0, np.full((frame.height, frame.width), 1 / pixels, np.float32))


class LockstepRunner(Runner):
    """A runner whose step can pause where the network ranks its channels, so that tiles rank together."""

    @abstractmethod
    def begin_step(self, lr: NDArray[Any], state: SavedState, place: TilePlace, *features: NDArray[Any]) -> PausedStep:
        """Start a step, from a state of such a runner, beside others that are under way; its own state stays."""


def run_alone(step: PausedStep) -> tuple[NDArray[Any], SavedState]:
    """Carry out a step whose tile is the whole frame."""
    scores: Any = None  # what a generator is sent first
    try:
        while True:
            scores = step.send(scores)
    except StopIteration as end:
        result: tuple[NDArray[Any], SavedState] = end.value
        return result


class TiledRunner(Runner):
    """Runs a network on frames larger than its own, tile by tile. After a step that failed, reset it or set its state:
    the tiles are at different frames.

    Features, which the steps of a bidirectional network give and take, are not blended: each tile has its own,
    (tiles, C, H, W).
    """

    def __init__(self, runner: Runner, plan: TilePlan) -> None:
        """Takes over a runner opened for the plan's tiles. Raises ConfigError when it is for another size."""
        if runner.size != plan.tile:
            raise ConfigError(f"a runner for {runner.size} was given for tiles of {plan.tile}; open one for that size")
        super().__init__(plan.frame, runner.io)
        self.backend, self.notes = runner.backend, runner.notes
        self.takes, self.gives = runner.takes, runner.gives
        self.plan = plan
        self._runner = runner
        self._hr_weights = _weights(plan, SCALE)
        pixels = np.float32(plan.frame.height * plan.frame.width)
        self._places = [
            TilePlace(plan.frame, *position, np.outer(*axes) / pixels)
            for position, axes in zip(plan.positions, _weights(plan, 1), strict=True)
        ]
        self._states: list[SavedState] = [{} for _ in plan.positions]

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        height, width = self.plan.tile.height, self.plan.tile.width
        tiles = [lr[top : top + height, left : left + width] for top, left in self.plan.positions]
        given = [tuple(each[i : i + 1] for each in features) for i in range(len(tiles))]
        lockstep = isinstance(self._runner, LockstepRunner) and len(tiles) > 1
        results = self._in_lockstep(tiles, given) if lockstep else self._one_by_one(tiles, given)
        if self.gives != "hr":
            return np.concatenate([*results])
        blend = np.zeros((SCALE * self.size.height, SCALE * self.size.width, 3), np.float32)
        for index, hr in enumerate(results):
            top, left = (SCALE * start for start in self.plan.positions[index])
            rows, columns = self._hr_weights[index]
            part = blend[top : top + SCALE * height, left : left + SCALE * width]
            part += hr * rows[:, None, None] * columns[:, None]
        return np.rint(blend, out=blend).astype(np.uint8) if self.io == "uint8" else blend.astype(self.io)

    def _one_by_one(
        self, tiles: list[NDArray[Any]], features: list[tuple[NDArray[Any], ...]]
    ) -> Iterator[NDArray[Any]]:
        for index, tile in enumerate(tiles):
            self._runner.state = self._states[index]
            result = self._runner.step(tile, *features[index])
            self._states[index] = self._runner.state
            yield result

    def _in_lockstep(
        self, tiles: list[NDArray[Any]], features: list[tuple[NDArray[Any], ...]]
    ) -> Iterator[NDArray[Any]]:
        assert isinstance(self._runner, LockstepRunner)
        steps = [
            self._runner.begin_step(np.ascontiguousarray(tile), state, place, *given)
            for tile, state, place, given in zip(tiles, self._states, self._places, features, strict=True)
        ]
        shared: Any = None  # what a generator is sent first
        while True:
            parts: list[NDArray[Any]] = []
            for index, step in enumerate(steps):
                try:
                    parts.append(step.send(shared))
                except StopIteration as end:
                    result, self._states[index] = end.value
                    yield result
            if not parts:
                return
            shared = np.sum(parts, axis=0)

    def reset(self) -> None:
        self._runner.reset()
        self._states = [{} for _ in self.plan.positions]

    @property
    def state(self) -> SavedState:
        """States of all tiles, under names such as ``tile3.feat_1``."""
        named = ((f"tile{i}.{name}", array) for i, state in enumerate(self._states) for name, array in state.items())
        return {name: array.copy() for name, array in named}

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._check_open()
        prefixes = [f"tile{index}." for index in range(len(self.plan.positions))]
        parts = [{name: array for name, array in saved.items() if name.startswith(prefix)} for prefix in prefixes]
        sizes = {array.shape[2:] for array in saved.values()}
        fitting = all(parts) and sum(map(len, parts)) == len(saved) and sizes == {astuple(self.plan.tile)}
        if saved and not fitting:
            raise BackendError(f"the saved state is not of {self.plan}; go on with the tiles that it was saved with")
        states = [
            {name.removeprefix(prefix): array.copy() for name, array in part.items()}
            for prefix, part in zip(prefixes, parts, strict=True)
        ]
        for state in states:
            self._runner.state = state  # which refuses what is not of its network
        self._runner.reset()
        self._states = states

    def _close(self) -> None:
        self._states = []
        self._runner.close()


def _weights(plan: TilePlan, scale: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights of every tile along its rows and columns; everywhere in the frame their products sum to one."""
    rows = _feathers(plan.rows, plan.tile.height, scale)
    columns = _feathers(plan.columns, plan.tile.width, scale)
    return list(product(rows, columns))


def _feathers(starts: tuple[int, ...], side: int, scale: int) -> list[NDArray[np.float32]]:
    """Weights of every tile along one axis, (side * scale,): one, falling linearly to zero over the overlaps."""
    at = (np.arange((starts[-1] + side) * scale) + 0.5) / scale
    weights = np.array([(start < at) & (at < start + side) for start in starts], dtype=np.float64)
    for index, start in enumerate(starts[1:]):
        shared = starts[index] + side - start
        if shared:
            rise = np.clip(((at - start) / shared - SPOILED_SHARE) / (1 - 2 * SPOILED_SHARE), 0, 1)
            weights[index] *= 1 - rise
            weights[index + 1] *= rise
    weights /= weights.sum(axis=0)
    ends = [(start * scale, (start + side) * scale) for start in starts]
    return [row[first:end].astype(np.float32) for row, (first, end) in zip(weights, ends, strict=True)]
