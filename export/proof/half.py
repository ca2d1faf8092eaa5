"""Proof that a half-precision network stays near the float32 one, over a recurrent sequence.

ONNX Runtime's CPU kernels compute most half operators in float32 and drop the rounding between them, so running the
file there as it is would prove nothing about a GPU. For the proof every half result is rounded, one operator after
the other, which is what an engine does or, where it fuses operators, a little worse than what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.export.proof.near_ties import RetakingRunner
from ksnet_deploy.export.proof.rounding import round_half_results
from ksnet_deploy.export.proof.sequence import proof_frames
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.onnx import OnnxRunner

__all__ = ["PSNR_FLOOR_DB", "TIE_GAP", "HalfReport", "compare_runners", "verify_half"]

PSNR_FLOOR_DB = 45.0
"""Least PSNR of any frame against float32: an error of about one and a half levels of 255."""
TIE_GAP = 2.0**-8
"""Gap of two channel scores, as a share of the scores' standard deviation, that half rounding may bridge: twice the
largest error of their difference in the trained networks."""
SWAP_DB = 55.0
"""A frame below this is compared with the other choices of near-tied channels too; frames without one stand at 63."""
MAX_SWAPPED_SHARE = 0.1
"""More frames than this on which near-ties fell the other way, and than one, mean that something else is wrong."""
DRIFT_DB = 6.0
"""Largest fall of the PSNR from the first to the last third of the sequence, once it is near the floor."""


@dataclass(frozen=True)
class HalfReport:
    """Outcome of a comparison over a sequence."""

    size: FrameSize
    psnr_db: list[float] = field(default_factory=list)
    """Of every frame against float32, RGB; infinite where all values are equal."""
    swapped: dict[int, float] = field(default_factory=dict)
    """Frames on which float32 was made to take the other of two near-tied channels, as half precision did, and the
    PSNR between the pictures of the two choices."""

    @property
    def least_db(self) -> float:
        return min(self.psnr_db)

    def as_dict(self) -> dict[str, Any]:
        near_ties = {str(frame): round(value, 2) for frame, value in self.swapped.items()}
        return {"frames": len(self.psnr_db), "least_psnr_db": round(self.least_db, 2), "near_ties": near_ties}

    def summary(self) -> str:
        text = f"{len(self.psnr_db)} recurrent frames at {self.size}: at least {self.least_db:.1f} dB against float32 "
        text += f"(floor {PSNR_FLOOR_DB:.0f} dB)"
        for frame, value in self.swapped.items():
            text += f"; near-tied channel scores swapped on frame {frame} ({value:.1f} dB between the two choices)"
        return text


def verify_half(
    model: KSNet, path: Path, size: FrameSize, *, frames: int = 30, on_frame: Callable[[], None] = lambda: None
) -> HalfReport:
    """Run the float32 network in PyTorch and the half-precision file, its half results rounded, over one sequence.

    Raises:
        VerificationError: a frame is below the floor, and is so too against the other choice of near-tied channels;
            it is not finite; or the error grows along the sequence.
    """
    with (
        OnnxRunner(path, size, rewrite=round_half_results) as candidate,
        RetakingRunner(model, size, io=candidate.io, gap=TIE_GAP) as reference,
    ):
        return compare_runners(reference, candidate, proof_frames(reference, frames), on_frame=on_frame)


def compare_runners(
    reference: Runner,
    candidate: Runner,
    frames: Sequence[NDArray[Any]],
    *,
    on_frame: Callable[[], None] = lambda: None,
) -> HalfReport:
    """Compare two runners of one size and frame type over a sequence; both start afresh.

    Only a :class:`RetakingRunner` as reference can tell a near-tie that fell the other way from an error.

    Raises:
        VerificationError: as :func:`verify_half` says.
    """
    report = HalfReport(reference.size)
    reference.reset()
    candidate.reset()
    for index, frame in enumerate(frames):
        found = _as_levels(candidate.step(frame))
        value = psnr(found, _as_levels(reference.step(frame)))
        if not np.isfinite(found).all():
            raise VerificationError(
                f"frame {index} of the {candidate.backend} run is not finite: a value left the range of half "
                "precision; use float32 for these weights, or train them further"
            )
        if value < SWAP_DB and isinstance(reference, RetakingRunner):
            for retake in reference.retakes(frame):
                if (other := psnr(found, _as_levels(retake))) >= SWAP_DB:
                    report.swapped[index], value = value, other
                    break
        report.psnr_db.append(value)
        if value < PSNR_FLOOR_DB:
            raise VerificationError(
                f"frame {index} of the {candidate.backend} run has {value:.1f} dB against float32, where "
                f"at least {PSNR_FLOOR_DB:.0f} dB is accepted; use float32 for these weights, and report this"
            )
        on_frame()
    if len(report.swapped) > max(1, MAX_SWAPPED_SHARE * len(frames)):
        raise VerificationError(
            f"the {candidate.backend} run differs from float32 on {len(report.swapped)} of {len(frames)} frames by "
            "near-tied channel scores, which explain single frames only; use float32 for these weights, and report this"
        )
    third = len(report.psnr_db) // 3
    if third and min(report.psnr_db[-third:]) < min(min(report.psnr_db[:third]) - DRIFT_DB, PSNR_FLOOR_DB + DRIFT_DB):
        raise VerificationError(
            f"the error of the {candidate.backend} run grows along the sequence, from "
            f"{min(report.psnr_db[:third]):.1f} dB to {min(report.psnr_db[-third:]):.1f} dB in {len(frames)} frames; "
            "use float32 for these weights, and report this"
        )
    return report


def _as_levels(frame: NDArray[Any]) -> NDArray[Any]:
    return frame if frame.dtype == np.uint8 else np.clip(frame.astype(np.float32), 0, 1) * 255
