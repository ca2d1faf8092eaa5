"""Common part of all runtimes: the Runner and the frame types it takes."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize, FrameType

__all__ = ["NEXT_PREFIX", "STATE_PREFIX", "Runner", "SavedState", "StatelessRunner", "fitting_state", "reset_planes"]

STATE_PREFIX, NEXT_PREFIX = "state.", "next."
"""Prefixes of the names that an exported step gives its recurrent inputs and outputs."""

SavedState = dict[str, NDArray[Any]]
"""Recurrent state by name, (1, C, H, W) each, or (lanes, C, H, W); empty before the first frame of a scene."""


def reset_planes(lr: NDArray[Any]) -> NDArray[np.float32]:
    """State ``prev_lr`` of a new scene, (3, H, W) in [0, 1], from its first frame (H, W, 3) of any frame type; or of
    several, (N, H, W, 3)."""
    planes = np.moveaxis(lr, -1, -3).astype(np.float32)
    return planes / np.float32(255) if lr.dtype == np.uint8 else planes


def fitting_state(saved: SavedState, like: SavedState) -> SavedState:
    """The tensors of a saved state that ``like`` names, which may have others that its network never read.

    Raises BackendError when one is missing, or has another shape or type than that in ``like``.
    """
    if missing := [name for name in like if name not in saved]:
        raise BackendError(
            f"the saved state lacks {', '.join(missing)}, which this network reads; another network saved it, so "
            "start the scene anew, or go on with that one"
        )
    for name, wanted in like.items():
        found = saved[name]
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise BackendError(
                f"{name} of the saved state is {found.dtype} of shape {found.shape}, and {wanted.dtype} of shape "
                f"{wanted.shape} is expected; go on with the network and the frame size that it was saved with"
            )
    return {name: saved[name] for name in like}


class Runner(Closing):
    """Runs one network, frame by frame, keeping its recurrent state between the calls.

    A context manager: what it holds is released on exit, and it cannot step afterwards.
    """

    backend: str
    """Name of the runtime, for reports."""
    closed = False
    """Whether the runner was closed."""
    notes: tuple[str, ...] = ()
    """Sentences that a user should know of how it runs."""
    takes: tuple[str, ...] = ()
    """Names of the features that a step takes beside the frame: ``prop`` in the second step of a bidirectional
    network, else none."""
    gives: str = "hr"
    """Name of what a step gives: ``prop``, features of the frame, in the first step of a bidirectional network."""
    lanes = 1
    """Scenes whose next frames a step takes as one batch, each with a state of its own. Where there are several, that
    axis comes first in frames, results and states, and :class:`ksnet_deploy.runtime.lanes.Lanes` tells them apart."""

    def __init__(self, size: FrameSize, io: FrameType = "uint8") -> None:
        self.size = size
        self.io = io

    def step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        """Super-resolve the next frame; in a bidirectional network a part of that.

        Args:
            lr: (H, W, 3) RGB of type ``io`` and the runner's size; (lanes, H, W, 3) where there are several.
            features: those that it ``takes``, as another runner of the network gave them for the frame.

        Returns:
            (4 H, 4 W, 3) RGB of type ``io``, (lanes, 4 H, 4 W, 3) where there are several; or features (1, C, H, W) in
            the type that the network computes in.

        Raises:
            BackendError: the frame's shape or type is another, features are missing, or the runner is closed.
        """
        self._check_open()
        expected = (*self.lane_axis, self.size.height, self.size.width, 3)
        if lr.shape != expected or lr.dtype != np.dtype(self.io):
            raise BackendError(
                f"a frame of shape {lr.shape} and type {lr.dtype} was given to a runner for {expected} {self.io}; "
                "open a runner for that size and type"
            )
        if len(features) != len(self.takes):
            raise BackendError(
                f"this step of the {self.backend} runner takes {len(self.takes)} features beside a frame, and "
                f"{len(features)} were given; a bidirectional network is run in windows, both its steps together"
            )
        return self._step(np.ascontiguousarray(lr), *features)

    def window(self, frames: Sequence[NDArray[Any]], ahead: Sequence[NDArray[Any]] = ()) -> Iterator[NDArray[Any]]:  # noqa: ARG002
        """Super-resolve the next frames of a scene, one after the other.

        Args:
            frames: of the window, as :meth:`step` takes them.
            ahead: frames of the scene that follow the window, which a bidirectional network looks at before.
        """
        for lr in frames:
            yield self.step(lr)

    @property
    def lane_axis(self) -> tuple[int, ...]:
        """Axis that frames and results have before all others: of the lanes, where there are several; else none."""
        return () if self.lanes == 1 else (self.lanes,)

    def timed_step(self, lr: NDArray[Any], *features: NDArray[Any]) -> float:
        """Milliseconds that a step takes, by the clock of the device that runs it."""
        before = time.perf_counter()
        self.step(lr, *features)
        return (time.perf_counter() - before) * 1e3

    def _check_open(self) -> None:
        if self.closed:
            raise BackendError(f"the {self.backend} runner for {self.size} is closed and cannot step; open a new one")

    @abstractmethod
    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]: ...

    @abstractmethod
    def reset(self) -> None:
        """Forget the past: the next frame is treated as the first of a new scene."""

    @property
    @abstractmethod
    def state(self) -> SavedState:
        """Copy of the recurrent state, from which a runner of the same network and size can go on.

        Empty at the start of a scene, and once the runner is closed. Set, it raises BackendError where it is not of
        this network and size, or the runner is closed.
        """

    @state.setter
    @abstractmethod
    def state(self, saved: SavedState) -> None: ...

    def zero_state(self) -> SavedState:
        """A state of zeros, in the shapes and types of the real one; empty where there is none."""
        return {}

    def read_lane(self, lane: int) -> SavedState:
        """Copy of one lane's part of the state, (1, C, H, W) each; empty where no step was taken yet."""
        return {name: array[lane : lane + 1].copy() for name, array in self.state.items()}

    def write_lane(self, lane: int, saved: SavedState) -> None:
        """Put tensors, (1, C, H, W) each, in one lane's place in the state, and zeros for those that are not given; the
        other lanes keep theirs."""
        state = self.state or self.zero_state()
        for name, array in state.items():
            array[lane] = saved[name][0] if name in saved else 0
        self.state = state

    def close(self) -> None:
        """Release the network and its state; closing again does nothing."""
        if not self.closed:
            self.closed = True
            self._close()

    def _close(self) -> None:
        """Release what the runtime holds."""


class StatelessRunner(Runner):
    """Runner without recurrent state: every frame is a scene of its own. A subclass gives ``backend`` and ``_step``."""

    def reset(self) -> None:
        pass

    @property
    def state(self) -> SavedState:
        return {}

    @state.setter
    def state(self, saved: SavedState) -> None:
        pass
