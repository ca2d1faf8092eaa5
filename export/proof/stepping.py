"""Two runners over one sequence, frame by frame: the comparison that every proof is made of.

Of a bidirectional network each step is compared by itself: the first over the frames from the last to the first, then
the second from the first to the last, each side with the features that its own first step gave.

Where the two differ by more than a proof accepts, and channels of the reference were nearly tied, the reference takes
the other choice; a proof then holds the candidate to that outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from numpy.typing import NDArray

from ksnet_deploy.export.proof.near_ties import RetakingRunner
from ksnet_deploy.runtime.base import Runner

__all__ = ["ComparedFrame", "Features", "compare_frames"]

Error = TypeVar("Error")
Features: TypeAlias = Sequence[tuple[NDArray[Any], NDArray[Any]]]
"""Features of every frame that a step takes beside it: the reference's and the candidate's."""


@dataclass(frozen=True)
class ComparedFrame(Generic[Error]):
    """The difference of two runners on one frame."""

    index: int
    error: Error
    """Difference from the reference as it chose by itself."""
    retaken: Error | None
    """Difference from the reference with the other of two near-tied channels, where only that is accepted."""
    results: tuple[NDArray[Any], NDArray[Any]]
    """Results of the reference, as it was held to the candidate in the end, and of the candidate."""


def compare_frames(
    reference: Runner,
    candidate: Runner,
    frames: Sequence[NDArray[Any]],
    *,
    reset_at: int | None,
    measure: Callable[[NDArray[Any], NDArray[Any]], Error],
    accepts: Callable[[Error], bool],
    features: Features | None = None,
) -> Iterator[ComparedFrame[Error]]:
    """Step both runners, of one size and frame type, over a sequence; both start afresh.

    Only a :class:`RetakingRunner` as reference can tell a near-tie that fell the other way from an error.

    Args:
        reset_at: frame before which both forget the past; None for no such frame.
        measure: the difference of the candidate's result from the reference's, in that order; it may look at the
            states of both runners too.
        accepts: whether a difference needs no second look.
        features: those that the steps take beside each frame; None for steps that take none.
    """
    reference.reset()
    candidate.reset()
    for index, frame in enumerate(frames):
        if index == reset_at:
            reference.reset()
            candidate.reset()
        own, others = ([], []) if features is None else ([features[index][0]], [features[index][1]])
        found, expected = candidate.step(frame, *others), reference.step(frame, *own)
        error = measure(found, expected)
        retaken = None
        if not accepts(error) and isinstance(reference, RetakingRunner):
            for retake in reference.retakes(frame, *own):
                if accepts(other := measure(found, retake)):
                    retaken, expected = other, retake
                    break
        yield ComparedFrame(index, error, retaken, (expected, found))
