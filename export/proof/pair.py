"""Proof of a bidirectional network: both of its exported steps, one after the other, over one sequence.

The first step runs over the frames from the last to the first, the second from the first to the last, with the features
that the first gave: the exported pair with its own, the float32 network with its own. So what is compared in the end
are the pictures of the whole network, and a mistake is found in the step that makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.export.proof.float32 import SequenceReport, compare_to_float32
from ksnet_deploy.export.proof.half import HalfReport, compare_runners
from ksnet_deploy.export.proof.sequence import proof_frames, reset_before
from ksnet_deploy.export.proof.stepping import compare_frames
from ksnet_deploy.network.config import StepName
from ksnet_deploy.runtime.base import Runner

__all__ = ["compare_halves", "compare_pairs", "likeness_db"]

Open = Callable[[StepName], Runner]
"""Opens the runner of a step."""
SWAP_DB = 45.0
"""Likeness of features in dB below which those of the other choices of near-tied channels are looked at too."""


def compare_pairs(
    open_reference: Open, open_candidate: Open, frames: int, *, on_frame: Callable[[], None] = lambda: None
) -> SequenceReport:
    """Hold the float32 steps of a pair to another pair, as
    :func:`ksnet_deploy.export.proof.float32.compare_to_float32` does a single one.

    Raises:
        VerificationError: a result or a state of either step differs by more than is accepted.
    """
    features: list[tuple[NDArray[Any], NDArray[Any]]] = []
    reset_at = reset_before(frames)
    with open_candidate("propagate") as candidate, open_reference("propagate") as reference:
        backward = compare_to_float32(
            *(reference, candidate, proof_frames(candidate, frames)[::-1]),
            reset_at=_mirrored(reset_at, frames),
            keep=features,
        )
    with open_candidate("refine") as candidate, open_reference("refine") as reference:
        forward = compare_to_float32(
            *(reference, candidate, proof_frames(candidate, frames)),
            reset_at=reset_at,
            features=features[::-1],
            on_frame=on_frame,
        )
    merged = []
    for first, second in zip(reversed(backward.frames), forward.frames, strict=True):
        worst = max((first, second), key=lambda error: error.state)
        merged.append(
            replace(
                second,
                state=max(worst.state, first.hr),
                worst_state=worst.worst_state,
                excused=first.excused or second.excused,
            )
        )
    return replace(forward, frames=merged)


def compare_halves(
    open_reference: Open,
    open_candidate: Open,
    frames: int,
    *,
    least_psnr_db: float,
    refuse: bool = True,
    on_frame: Callable[[], None] = lambda: None,
) -> HalfReport:
    """Hold the half-precision steps of a pair to a float32 pair by its pictures, as
    :func:`ksnet_deploy.export.proof.half.compare_runners` does a single one.

    Raises:
        VerificationError: as that says, or features are not finite.
    """
    features: list[tuple[NDArray[Any], NDArray[Any]]] = []
    swapped: dict[int, float] = {}
    reset_at = reset_before(frames)
    with open_candidate("propagate") as candidate, open_reference("propagate") as reference:

        def measure(found: NDArray[Any], expected: NDArray[Any]) -> float:
            if not np.isfinite(found).all():
                raise VerificationError(
                    f"features of the {candidate.backend} run are not finite: a value left the range of half "
                    "precision; use float32 for these weights, or train them further"
                )
            return likeness_db(found, expected)

        for frame in compare_frames(
            *(reference, candidate, proof_frames(candidate, frames)[::-1]),
            reset_at=_mirrored(reset_at, frames),
            measure=measure,
            accepts=lambda likeness: likeness >= SWAP_DB,
        ):
            features.append(frame.results)
            if frame.retaken is not None:
                swapped[frames - 1 - frame.index] = frame.error
    with open_candidate("refine") as candidate, open_reference("refine") as reference:
        return compare_runners(
            *(reference, candidate, proof_frames(candidate, frames)),
            reset_at=reset_at,
            least_psnr_db=least_psnr_db,
            refuse=refuse,
            features=features[::-1],
            swapped_before=swapped,
            on_frame=on_frame,
        )


def likeness_db(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Standard deviation of the expected features against the difference's root mean square, in dB."""
    difference = found.astype(np.float32) - expected.astype(np.float32)
    error = float(np.sqrt(np.mean(np.square(difference), dtype=np.float64)))
    return float(20 * np.log10(float(expected.std()) / error)) if error else np.inf


def _mirrored(reset_at: int | None, frames: int) -> int | None:
    return None if reset_at is None else frames - reset_at
