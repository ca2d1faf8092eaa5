"""A bidirectional network in windows: memory and latency follow from the window, not from the length of the video.

The first branch of KSNet-bi runs backward in time, from the end of the video. Here it begins some frames after the end
of each window, at the end of the look-ahead, with a fresh state: what it would have brought from farther away fades on
the way (``benchmarks/bi_windows.py``). The second branch runs forward, and carries its state from window to window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime.base import Runner, SavedState, pipelined

__all__ = ["WindowRunner"]


class WindowRunner(Runner):
    """Runs the two steps of a bidirectional network over windows of frames.

    The features of a window's frames are in the main memory between the two: (1, C, H, W) for each, of the type that
    the network computes in.
    """

    def __init__(self, propagate: Runner, refine: Runner) -> None:
        """Takes over two runners of one size and frame type."""
        super().__init__(refine.size, refine.io)
        self.backend, self.kernel = refine.backend, refine.kernel
        self.notes = tuple(dict.fromkeys((*propagate.notes, *refine.notes)))
        self._propagate, self._refine = propagate, refine
        self._timed_features: NDArray[Any] | None = None

    def window(self, frames: Sequence[NDArray[Any]], ahead: Sequence[NDArray[Any]] = ()) -> Iterator[NDArray[Any]]:
        self._check_open()
        self._propagate.reset()
        for lr in reversed(ahead):
            self._propagate.step(lr)
        props = [*pipelined(self._propagate, ((lr,) for lr in reversed(frames)))]
        self._propagate.reset()
        yield from pipelined(self._refine, ((lr, props.pop()) for lr in frames))

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002
        raise BackendError(
            "a bidirectional network sees the frames after each one too, so it takes windows of frames; give them to "
            "Upscaler.upscale, or use a 'uni' network"
        )

    def timed_step(self, lr: NDArray[Any], *features: NDArray[Any]) -> float:  # noqa: ARG002
        """Milliseconds of a frame: a step of each branch, without the look-ahead."""
        return self._propagate.timed_step(lr) + self._refine.timed_step(lr, self._features(lr))

    def layer_times(self, lr: NDArray[Any], *features: NDArray[Any]) -> dict[str, float]:  # noqa: ARG002
        """Times of both branches together."""
        first, second = self._propagate.layer_times(lr), self._refine.layer_times(lr, self._features(lr))
        return {kind: first.get(kind, 0.0) + second.get(kind, 0.0) for kind in {**first, **second}}

    def _features(self, lr: NDArray[Any]) -> NDArray[Any]:
        """Some for the second branch while steps are timed, which their values do not matter to."""
        if self._timed_features is None:
            self._timed_features = self._propagate.step(lr)
        return self._timed_features

    def reset(self) -> None:
        self._propagate.reset()
        self._refine.reset()

    @property
    def state(self) -> SavedState:
        """State of the second branch; the first has none between two windows."""
        return self._refine.state

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._check_open()
        self._refine.state = saved

    def _close(self) -> None:
        self._timed_features = None
        self._propagate.close()
        self._refine.close()
