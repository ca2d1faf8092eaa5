"""Common part of all runtimes: the Runner and the frame types it takes."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize, FrameType

__all__ = [
    "NEXT_PREFIX",
    "STATE_PREFIX",
    "Runner",
    "SavedState",
    "StatelessRunner",
    "fitting_state",
    "pipelined",
    "reset_planes",
]

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
    kernel: str | None = None
    """Kernel of the alignment in words, ``native kernel, avx2`` or ``standard operators``; None where the runtime has
    no choice."""
    takes: tuple[str, ...] = ()
    """Names of the features that a step takes beside the frame: ``prop`` in the second step of a bidirectional
    network, else none."""
    gives: str = "hr"
    """Name of what a step gives: ``prop``, features of the frame, in the first step of a bidirectional network."""
    lanes = 1
    """Scenes whose next frames a step takes as one batch, each with a state of its own. Where there are several, that
    axis comes first in frames, results and states, and :class:`ksnet_deploy.runtime.lanes.Lanes` tells them apart."""
    most_in_flight = 1
    """Steps that may be submitted before the first of them is collected; where it is 1, a step is done when it was
    submitted."""

    def __init__(self, size: FrameSize, io: FrameType = "uint8") -> None:
        self.size = size
        self.io = io
        self.in_flight = 0
        """Steps that were submitted and are not collected yet."""
        self._results: deque[NDArray[Any]] = deque()

    def step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        """Super-resolve the next frame; in a bidirectional network a part of that.

        Args:
            lr: (H, W, 3) RGB of type ``io`` and the runner's size; (lanes, H, W, 3) where there are several.
            features: those that it ``takes``, as another runner of the network gave them for the frame.

        Returns:
            (4 H, 4 W, 3) RGB of type ``io``, (lanes, 4 H, 4 W, 3) where there are several; or features (1, C, H, W) in
            the type that the network computes in.

        Raises:
            BackendError: the frame's shape or type is another, features are missing, the runner is closed, or steps are
                in flight.
        """
        if self.in_flight:
            raise BackendError(f"{self.in_flight} steps are in flight; collect them before another is taken at once")
        self.submit(lr, *features)
        return self.collect()

    def submit(self, lr: NDArray[Any], *features: NDArray[Any]) -> None:
        """Begin a step, as :meth:`step` takes it; :meth:`collect` gives its result.

        The state is that after all steps that were submitted, and :meth:`reset` is for the next one to be.

        Raises:
            BackendError: as :meth:`step`; or as many are in flight as may be.
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
        if self.in_flight == self.most_in_flight:
            raise BackendError(
                f"the {self.backend} runner takes {self.most_in_flight} steps at once; collect one before the next"
            )
        self._submit(np.ascontiguousarray(lr), *features)
        self.in_flight += 1

    def collect(self) -> NDArray[Any]:
        """Result of the first step in flight, as :meth:`step` returns it. Raises BackendError: it failed, or there is
        none, or the runner is closed."""
        self._check_open()
        if not self.in_flight:
            raise BackendError("no step is in flight; submit a frame first")
        self.in_flight -= 1
        return self._collect()

    def drop(self) -> None:
        """Forget the results of the steps in flight, and errors in them; the state is that after them."""
        while self.in_flight:
            with contextlib.suppress(BackendError):
                self.collect()

    def window(self, frames: Sequence[NDArray[Any]], ahead: Sequence[NDArray[Any]] = ()) -> Iterator[NDArray[Any]]:  # noqa: ARG002
        """Super-resolve the next frames of a scene, one after the other.

        Args:
            frames: of the window, as :meth:`step` takes them.
            ahead: frames of the scene that follow the window, which a bidirectional network looks at before.
        """
        yield from pipelined(self, ((lr,) for lr in frames))

    @property
    def lane_axis(self) -> tuple[int, ...]:
        """Axis that frames and results have before all others: of the lanes, where there are several; else none."""
        return () if self.lanes == 1 else (self.lanes,)

    def timed_step(self, lr: NDArray[Any], *features: NDArray[Any]) -> float:
        """Milliseconds that a step takes: by the host's clock, with the frame's way to a device and back; PyTorch and
        TensorRT on a GPU tell it by the device's."""
        before = time.perf_counter()
        self.step(lr, *features)
        return (time.perf_counter() - before) * 1e3

    def layer_times(self, lr: NDArray[Any], *features: NDArray[Any]) -> dict[str, float]:  # noqa: ARG002
        """Milliseconds of a step by type of layer, as the runtime's own profiler tells them; empty where it tells none
        of an open runner. TensorRT does, launched without a graph."""
        return {}

    def _check_open(self) -> None:
        if self.closed:
            raise BackendError(f"the {self.backend} runner for {self.size} is closed and cannot step; open a new one")

    def _submit(self, lr: NDArray[Any], *features: NDArray[Any]) -> None:
        self._results.append(self._step(lr, *features))

    def _collect(self) -> NDArray[Any]:
        return self._results.popleft()

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
            self.in_flight = 0
            self._results.clear()
            self._close()

    def _close(self) -> None:
        """Release what the runtime holds."""


def pipelined(runner: Runner, steps: Iterable[Sequence[NDArray[Any]]]) -> Iterator[NDArray[Any]]:
    """Results of steps, in order, of which as many are in flight as a runner allows.

    Args:
        steps: for each its frame, and the features that it takes.
    """
    try:
        for given in steps:
            if runner.in_flight == runner.most_in_flight:
                yield runner.collect()
            runner.submit(*given)
        while runner.in_flight:
            yield runner.collect()
    finally:  # results that nobody asks for any more are not those of the next steps
        runner.drop()


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
