"""Proof that a half-precision network stays near the float32 one, over a recurrent sequence.

ONNX Runtime's CPU kernels compute most half operators in float32 and drop the rounding between them, so running the
file there as it is would prove nothing about a GPU. For the proof every half result is rounded, one operator after
the other, which is what an engine does or, where it fuses operators, a little worse than what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.export.proof.float32 import FLOAT32_TIE_GAP
from ksnet_deploy.export.proof.near_ties import RetakingRunner
from ksnet_deploy.export.proof.rounding import round_half_results
from ksnet_deploy.export.proof.sequence import check_frames, proof_frames, reset_before, sequence_in_words
from ksnet_deploy.export.proof.stepping import Features, compare_frames
from ksnet_deploy.network.config import Precision
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.lanes import as_one
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.rewrites import use_processor_operators

__all__ = ["HALF_TIE_GAP", "PSNR_FLOOR_DB", "HalfReport", "compare_runners", "proof_runner", "verify_half"]

PSNR_FLOOR_DB = 45.0
"""Least PSNR of any frame against float32: an error of about one and a half levels of 255."""
HALF_TIE_GAP = 2.0**-8
"""Gap of two channel scores, as a share of the scores' standard deviation, that half rounding may bridge: twice the
largest error of their difference in the trained networks."""
REPORT = "use float32 for these weights, and report this"
RECALIBRATE = "take --precision fp32, or calibrate on a clip like your films with 'ksnet-deploy export --calibrate'"
"""Ends of the sentence that refuses."""
SWAP_DB = 55.0
"""PSNR in dB below which a frame is compared with the other choices of near-tied channels too; others stand at 63."""
MAX_SWAPPED_SHARE = 0.1
"""Share of frames, beside one, on which near-ties may fall the other way; more mean that something else is wrong."""
DRIFT_DB = 6.0
"""Largest fall of the PSNR from the first to the last third of 30 frames without a reset, once it is near the floor;
of fewer frames a part of it, but of fewer than 15 all of it, because the first frame of a scene has no history."""


@dataclass(frozen=True)
class HalfReport:
    """Outcome of a comparison over a sequence."""

    size: FrameSize
    reset_at: int | None = None
    """Frame before which both sides forgot the past; None where there was none."""
    least_accepted_db: float = PSNR_FLOOR_DB
    psnr_db: list[float] = field(default_factory=list)
    """PSNR in dB of every frame against float32, RGB; infinite where all values are equal."""
    swapped: dict[int, float] = field(default_factory=dict)
    """Frames on which float32 was made to take the other of two near-tied channels, as half precision did, and the
    PSNR between the pictures of the two choices."""
    faults: list[str] = field(default_factory=list)
    """Reasons for which it does not pass, where they were to be told and not to be raised."""

    @property
    def least_db(self) -> float:
        return min(self.psnr_db)

    def as_dict(self) -> dict[str, Any]:
        near_ties = {str(frame): round(value, 2) for frame, value in self.swapped.items()}
        return {
            "frames": len(self.psnr_db),
            "size": str(self.size),
            "reset_at": self.reset_at,
            "least_psnr_db": round(self.least_db, 2),
            "near_ties": near_ties,
            "required_db": self.least_accepted_db,
            "passed": not self.faults,
            "faults": self.faults,
        }

    def summary(self) -> str:
        text = f"{sequence_in_words(len(self.psnr_db), self.size, self.reset_at)}: at least {self.least_db:.1f} dB "
        text += f"against float32 (floor {self.least_accepted_db:.0f} dB)"
        for frame, value in self.swapped.items():
            text += f"; near-tied channel scores swapped on frame {frame} ({value:.1f} dB between the two choices)"
        return text


def verify_half(
    model: KSNet,
    path: Path,
    size: FrameSize,
    *,
    precision: Precision = "fp16",
    frames: int = 30,
    least_psnr_db: float = PSNR_FLOOR_DB,
    on_frame: Callable[[], None] = lambda: None,
) -> HalfReport:
    """Run the unfolded float32 network in PyTorch and a file of reduced precision, as :func:`proof_runner` does, over
    one sequence with a reset in the middle.

    Raises:
        ConfigError: there are too few frames.
        VerificationError: a frame is below the floor, and is so too against the other choice of near-tied channels;
            it is not finite; or the error grows along the sequence.
    """
    check_frames(frames)
    gap, remedy = (FLOAT32_TIE_GAP, RECALIBRATE) if precision == "int8" else (HALF_TIE_GAP, REPORT)
    with (
        proof_runner(path, size, precision) as candidate,
        RetakingRunner(model, size, io=candidate.io, gap=gap) as reference,
    ):
        images = proof_frames(candidate, frames)
        return compare_runners(
            *(reference, candidate, images),
            reset_at=reset_before(frames),
            least_psnr_db=least_psnr_db,
            remedy=remedy,
            on_frame=on_frame,
        )


def proof_runner(path: Path, size: FrameSize, precision: Precision) -> Runner:
    """An exported file as its proof runs it: in ONNX Runtime without the native kernel, every half result rounded, of
    several lanes the last."""
    rewrite = round_half_results if "fp16" in precision else use_processor_operators
    return as_one(OnnxRunner(path, size, rewrite=rewrite))


def compare_runners(
    reference: Runner,
    candidate: Runner,
    frames: Sequence[NDArray[Any]],
    *,
    reset_at: int | None = None,
    least_psnr_db: float = PSNR_FLOOR_DB,
    refuse: bool = True,
    features: Features | None = None,
    swapped_before: Mapping[int, float] | None = None,
    remedy: str = REPORT,
    on_frame: Callable[[], None] = lambda: None,
) -> HalfReport:
    """Hold a runner of reduced precision to another; see :func:`ksnet_deploy.export.proof.stepping.compare_frames`.

    Args:
        least_psnr_db: of every frame.
        refuse: raise for what does not pass; else it is in the report's ``faults``.
        features: those that the steps take beside each frame.
        remedy: end of the sentence that refuses.
        swapped_before: frames on which the step that gave those took the other of two near-tied channels.

    Raises:
        VerificationError: as :func:`verify_half` says; frames that are not finite are always refused.
    """
    report = HalfReport(reference.size, reset_at, least_psnr_db, swapped=dict(swapped_before or {}))

    def blame(sentence: str) -> None:
        if refuse:
            raise VerificationError(f"{sentence}; {remedy}")
        report.faults.append(sentence)

    def measure(found: NDArray[Any], expected: NDArray[Any]) -> float:
        levels = _as_levels(found)
        if not np.isfinite(levels).all():
            raise VerificationError(
                f"frame {len(report.psnr_db)} of the {candidate.backend} run is not finite: a value left the range of "
                "half precision; use float32 for these weights, or train them further"
            )
        return psnr(levels, _as_levels(expected))

    def accepts(value: float) -> bool:
        return value >= SWAP_DB

    for frame in compare_frames(
        reference, candidate, frames, reset_at=reset_at, measure=measure, accepts=accepts, features=features
    ):
        value = frame.error
        if frame.retaken is not None:
            report.swapped[frame.index], value = value, frame.retaken
        report.psnr_db.append(value)
        if value < least_psnr_db and value <= report.least_db:
            report.faults.clear()  # but the worst frame
            blame(
                f"frame {frame.index} of the {candidate.backend} run has {value:.1f} dB against float32, where "
                f"at least {least_psnr_db:.0f} dB is accepted"
            )
        on_frame()
    if len(report.swapped) > max(1, MAX_SWAPPED_SHARE * len(frames)):
        blame(
            f"the {candidate.backend} run differs from float32 on {len(report.swapped)} of {len(frames)} frames by "
            "near-tied channel scores, which explain single frames only"
        )
    _check_drift(report, candidate.backend, blame)
    return report


def _check_drift(report: HalfReport, backend: str, blame: Callable[[str], None]) -> None:
    """Blame an error that grows along a part of the sequence without a reset."""
    for part in (report.psnr_db[: report.reset_at], report.psnr_db[report.reset_at or len(report.psnr_db) :]):
        third = len(part) // 3
        fall = DRIFT_DB if len(part) < 15 else DRIFT_DB * (len(part) - third) / 20
        if third and min(part[-third:]) < min(min(part[:third]) - fall, PSNR_FLOOR_DB + DRIFT_DB):
            blame(
                f"the error of the {backend} run grows along the sequence, from {min(part[:third]):.1f} dB to "
                f"{min(part[-third:]):.1f} dB in {len(part)} frames"
            )


def _as_levels(frame: NDArray[Any]) -> NDArray[Any]:
    return frame if frame.dtype == np.uint8 else np.clip(frame.astype(np.float32), 0, 1) * 255
