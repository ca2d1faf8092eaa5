"""Scenes side by side: one network that takes a frame of each as a batch, and forgets in each by itself.

A frame of 180x320 does not fill a large card. The frames of one scene must go one after the other, but scenes know
nothing of each other; so those of N go as one batch, each in a lane with a state of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime.base import Runner, SavedState, fitting_state, reset_planes

__all__ = ["Lanes", "LastLane", "as_one"]


class Lanes(Closing):
    """The lanes of a runner, numbered from 0.

    A lane that is given no frame computes on what it had, and its result is nobody's: it must begin a scene, or be
    given a state, before it is given a frame again.
    """

    def __init__(self, runner: Runner) -> None:
        """Takes over a runner."""
        self._runner = runner
        self._frames = np.zeros((runner.lanes, runner.size.height, runner.size.width, 3), runner.io)
        self._fresh = [True] * runner.lanes
        """Lanes that begin a scene with their next frame."""

    def step(self, frames: Mapping[int, NDArray[Any]]) -> dict[int, NDArray[Any]]:
        """Super-resolve the next frame of the scene in each lane that is named.

        Args:
            frames: (H, W, 3) by lane, each as :meth:`ksnet_deploy.runtime.base.Runner.step` takes it.

        Returns:
            (4 H, 4 W, 3) by lane.

        Raises:
            BackendError: a frame's shape or type is another, or the runner is closed.
        """
        for lane, lr in frames.items():
            if lr.shape != self._frames.shape[1:] or lr.dtype != self._frames.dtype:
                raise BackendError(
                    f"a frame of shape {lr.shape} and type {lr.dtype} was given to lanes for {self._frames.shape[1:]} "
                    f"{self._frames.dtype}; open a runner for that size and type"
                )
            self._frames[lane] = lr
        if all(self._fresh):
            self._runner.reset()  # and the runner begins all with their frames by itself
        else:
            for lane in filter(self._fresh.__getitem__, frames):
                self._runner.write_lane(lane, {"prev_lr": reset_planes(self._frames[lane])[None]})
        results = self._runner.step(self._frames.reshape(*self._runner.lane_axis, *self._frames.shape[1:]))
        results = results.reshape(len(self._fresh), *results.shape[-3:])
        self._fresh = [fresh and lane not in frames for lane, fresh in enumerate(self._fresh)]
        return {lane: results[lane] for lane in frames}

    def reset(self, lane: int) -> None:
        """Forget the past of a lane: its next frame begins a scene."""
        self._fresh[lane] = True

    def state(self, lane: int) -> SavedState:
        """Copy of the state of a lane, from which a runner without lanes can go on too; empty at a scene's start."""
        return {} if self._fresh[lane] else self._runner.read_lane(lane)

    def go_on(self, lane: int, saved: SavedState) -> None:
        """Go on in a lane from a saved state, of any runner of the network and size. Raises BackendError for others."""
        like = {name: array[:1] for name, array in self._runner.zero_state().items()}
        self._runner.write_lane(lane, fitting_state(saved, like))
        self._fresh[lane] = False

    def close(self) -> None:
        self._runner.close()


class LastLane(Runner):
    """The last of several lanes as a runner, for proofs; the others get mirrored pictures, and never forget."""

    def __init__(self, runner: Runner) -> None:
        """Takes over a runner with lanes."""
        super().__init__(runner.size, runner.io)
        self.backend, self.notes = runner.backend, runner.notes
        self._runner, self._lanes, self._last = runner, Lanes(runner), runner.lanes - 1

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002
        others = {lane: np.roll(lr[:, ::-1], lane, axis=0) for lane in range(self._last)}
        return self._lanes.step({**others, self._last: lr})[self._last]

    def reset(self) -> None:
        self._lanes.reset(self._last)

    @property
    def state(self) -> SavedState:
        return self._lanes.state(self._last)

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._check_open()
        if saved:
            self._lanes.go_on(self._last, saved)
        else:
            self.reset()

    def _close(self) -> None:
        self._runner.close()


def as_one(runner: Runner) -> Runner:
    """The runner itself, or the last of its lanes where it has several, so that either is held to what one gives."""
    return runner if runner.lanes == 1 else LastLane(runner)
