"""Networks that cost nothing, for tests of what is around them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.runtime.base import Runner, SavedState, StatelessRunner
from ksnet_deploy.runtime.windows import WindowRunner

__all__ = ["BackwardRunner", "FadingRunner", "ForwardRunner", "LateRunner", "RepeatRunner", "both_ways"]


class RepeatRunner(StatelessRunner):
    """Every pixel becomes a 4x4 block."""

    backend = "repeat"

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        return lr.repeat(4, axis=0).repeat(4, axis=1)


class _Fading(Runner):
    """Holds a mean that fades, so that a lost state or frame shows."""

    backend = "fading"

    def __init__(self, size: FrameSize, io: FrameType = "uint8") -> None:
        super().__init__(size, io)
        self._mean: NDArray[np.float32] | None = None

    def _met(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        before = self._mean
        if before is None:
            self._mean = values
        else:
            self._mean = np.where(np.isnan(before), values, 0.7 * before + np.float32(0.3) * values)
        return self._mean

    def reset(self) -> None:
        self._mean = None

    @property
    def state(self) -> SavedState:
        return {} if self._mean is None else {"mean": self._mean.copy()}

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._mean = saved["mean"].copy() if saved else None


class BackwardRunner(_Fading):
    """First step of a bidirectional network: features are the mean of the frames from here on."""

    gives = "prop"

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        return self._met(lr.astype(np.float32)[None]).copy()


class ForwardRunner(_Fading):
    """Second step: every pixel becomes a 4x4 block of the mean of the features so far."""

    takes = ("prop",)

    def _step(self, lr: NDArray[Any], prop: NDArray[Any]) -> NDArray[Any]:
        hr = self._met(prop)[0].repeat(4, axis=0).repeat(4, axis=1)
        return np.rint(hr).astype(lr.dtype) if lr.dtype == np.uint8 else hr.astype(lr.dtype)


def both_ways(size: FrameSize, io: FrameType = "uint8") -> WindowRunner:
    """A bidirectional network that costs nothing."""
    return WindowRunner(BackwardRunner(size, io), ForwardRunner(size, io))


class FadingRunner(_Fading):
    """Every pixel becomes a 4x4 block of the mean of all frames of the scene, so that a lost state shows."""

    delay_s = 0.0

    def __init__(self, size: FrameSize, io: FrameType = "uint8", lanes: int = 1) -> None:
        super().__init__(size, io)
        self.steps, self.lanes = 0, lanes

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        time.sleep(self.delay_s)
        self.steps += 1
        mean = self._met(lr.astype(np.float32).reshape(self.lanes, *lr.shape[-3:]))
        return mean.reshape(lr.shape).repeat(4, axis=-3).repeat(4, axis=-2).astype(lr.dtype)

    def zero_state(self) -> SavedState:
        return {"mean": np.zeros((self.lanes, self.size.height, self.size.width, 3), np.float32)}

    def write_lane(self, lane: int, saved: SavedState) -> None:
        blank = {"mean": np.full((1, self.size.height, self.size.width, 3), np.nan, np.float32)}
        super().write_lane(lane, blank if "prev_lr" in saved else saved)  # with which a scene begins


class LateRunner(FadingRunner):
    """Two steps in flight, as a GPU has: the state is that after all of them, the results come when they are asked
    for."""

    most_in_flight = 2

    def __init__(self, size: FrameSize, io: FrameType = "uint8", lanes: int = 1) -> None:
        super().__init__(size, io, lanes)
        self.log: list[str] = []

    def _submit(self, lr: NDArray[Any], *features: NDArray[Any]) -> None:
        self.log.append("submit")
        super()._submit(lr, *features)

    def _collect(self) -> NDArray[Any]:
        self.log.append("collect")
        return super()._collect()
