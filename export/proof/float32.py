"""Proof that an exported network computes what PyTorch computes, over a recurrent sequence.

The reference is the *unfolded* network in float32, so the comparison covers the fold, the export and the runtime. A
recurrent network must be compared over a sequence and on its states: an error that a single frame hides grows there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.proof.near_ties import RetakingRunner
from ksnet_deploy.export.proof.sequence import check_frames, proof_frames, reset_before, sequence_in_words
from ksnet_deploy.export.proof.stepping import Features, compare_frames
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.runtime.base import Runner, SavedState
from ksnet_deploy.runtime.lanes import as_one
from ksnet_deploy.runtime.onnx import OnnxRunner, use_device_operators

__all__ = ["FLOAT32_TIE_GAP", "FrameError", "SequenceReport", "compare_to_float32", "verify_onnx"]

TOLERANCE = 1e-4
"""Largest accepted absolute difference of float32 values, frames in [0, 1]."""
FLOAT32_TIE_GAP = 1e-5
"""Gap of two channel scores, as a share of the scores' standard deviation, that float32 rounding may bridge."""
MAX_EXCUSED_SHARE = 0.1
"""Share of frames, beside one, that may be near-ties; more mean that something else is wrong."""
UNIT = {"uint8": 1.001 / 255, "float16": 2**-10}
"""One unit of a coarse frame type, of values up to 1 and a little beyond."""


@dataclass(frozen=True)
class FrameError:
    """Differences on one frame of the sequence."""

    hr: float
    """Largest absolute difference of the HR frame in units of [0, 1]; uint8 frames count in levels / 255."""
    state: float
    """Largest absolute difference over all state tensors."""
    worst_state: str
    excused: bool = False
    """Whether PyTorch agrees only once two channels of nearly tied scores were swapped; the differences are of that."""

    def exceeds(self, hr_tolerance: float, state_tolerance: float) -> bool:
        return self.hr > hr_tolerance or self.state > state_tolerance


@dataclass(frozen=True)
class SequenceReport:
    """Outcome of a comparison over a sequence."""

    size: FrameSize
    reset_at: int | None
    """Frame before which both sides forgot the past; None where there was none."""
    tolerance: float
    """Largest accepted difference of states."""
    hr_tolerance: float
    """Largest accepted difference of frames: the same, or one step of their type, by which a rounding may differ."""
    frames: list[FrameError] = field(default_factory=list)

    @property
    def max_error(self) -> float:
        """Largest difference of any frame or state."""
        return max((max(f.hr, f.state) for f in self.frames), default=0.0)

    @property
    def excused(self) -> list[int]:
        """Frames on which a near-tie swapped two channels."""
        return [index for index, frame in enumerate(self.frames) if frame.excused]

    def as_dict(self) -> dict[str, Any]:
        return {
            "frames": len(self.frames),
            "size": str(self.size),
            "reset_at": self.reset_at,
            "max_error": self.max_error,
            "near_ties": self.excused,
        }

    def summary(self) -> str:
        text = f"{sequence_in_words(len(self.frames), self.size, self.reset_at)}: "
        hr, state = (max((getattr(f, name) for f in self.frames), default=0.0) for name in ("hr", "state"))
        text += f"max error of frames {hr:.1e} (tolerance {self.hr_tolerance:.0e}), "
        text += f"of states {state:.1e} (tolerance {self.tolerance:.0e})"
        if self.excused:
            text += f"; near-tied channel scores swapped on frame {', '.join(map(str, self.excused))}"
        return text


def verify_onnx(
    model: KSNet,
    path: Path,
    size: FrameSize,
    *,
    frames: int = 30,
    device: str = "cpu",
    on_frame: Callable[[], None] = lambda: None,
) -> SequenceReport:
    """Run the unfolded network and the exported file over the same sequence, with a reset in the middle.

    The first two frames are also run with the function bodies that the file carries, which ONNX Runtime's own
    operators replace otherwise; the native kernel of the alignment is left out, so that a proof says the same
    everywhere. States are held to 1e-4; HR frames too, but to one unit of their own type where
    that is coarser, because a value between two units may round either way.

    Raises:
        ConfigError: there are too few frames.
        VerificationError: a frame or state differs by more, and swapping two channels whose scores are nearly tied
            (a gap under 1e-5 of their standard deviation) does not make PyTorch give the file's result.
    """
    check_frames(frames)
    with as_one(OnnxRunner(path, size, device=device, rewrite=lambda _model: None)) as as_it_is:
        io = as_it_is.io
        with RetakingRunner(model, size, io=io, gap=FLOAT32_TIE_GAP) as reference:
            compare_to_float32(reference, as_it_is, proof_frames(as_it_is, 2), reset_at=None)
    with (
        as_one(OnnxRunner(path, size, device=device, rewrite=use_device_operators(device))) as runner,
        RetakingRunner(model, size, io=io, gap=FLOAT32_TIE_GAP) as reference,
    ):
        images = proof_frames(runner, frames)
        return compare_to_float32(reference, runner, images, reset_at=reset_before(frames), on_frame=on_frame)


def compare_to_float32(
    reference: Runner,
    candidate: Runner,
    frames: Sequence[NDArray[Any]],
    *,
    reset_at: int | None,
    features: Features | None = None,
    keep: list[tuple[NDArray[Any], NDArray[Any]]] | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> SequenceReport:
    """Hold a float32 runner to another, results and states. Raises VerificationError as :func:`verify_onnx` says.

    Args:
        features: as of :func:`ksnet_deploy.export.proof.stepping.compare_frames`.
        keep: takes the results of both, where they are features that another step takes.
    """
    hr_tolerance = max(TOLERANCE, UNIT.get(candidate.io, 0.0) if candidate.gives == "hr" else 0.0)
    report = SequenceReport(candidate.size, reset_at, TOLERANCE, hr_tolerance)

    def measure(found: NDArray[Any], expected: NDArray[Any]) -> FrameError:
        return _frame_error(found, expected, candidate.state, reference.state)

    def accepts(error: FrameError) -> bool:
        return not error.exceeds(hr_tolerance, TOLERANCE)

    for frame in compare_frames(
        reference, candidate, frames, reset_at=reset_at, measure=measure, accepts=accepts, features=features
    ):
        if keep is not None:
            keep.append(frame.results)
        if frame.retaken is not None:
            report.frames.append(replace(frame.retaken, excused=True))
        elif accepts(frame.error):
            report.frames.append(frame.error)
        else:
            raise VerificationError(_failure(frame.index, frame.error, hr_tolerance, candidate.gives))
        on_frame()
    if len(report.excused) > max(1, MAX_EXCUSED_SHARE * len(frames)):
        raise VerificationError(
            f"the exported network differs from PyTorch on {len(report.excused)} of {len(frames)} frames by near-tied "
            "channel scores, which explain single frames only; export it again and report this if it stays"
        )
    return report


def _frame_error(
    found: NDArray[Any], expected: NDArray[Any], found_state: SavedState, expected_state: SavedState
) -> FrameError:
    unit = 255.0 if expected.dtype == np.uint8 else 1.0
    # A state that only one side has cannot be compared, and is no proof.
    errors = dict.fromkeys(found_state.keys() ^ expected_state.keys(), float("inf"))
    for name in found_state.keys() & expected_state.keys():
        errors[name] = float(np.abs(expected_state[name] - found_state[name]).max())
    # NaN compares false with everything; as infinity it cannot pass.
    errors = {name: error if np.isfinite(error) else float("inf") for name, error in errors.items()}
    hr = float(np.abs(expected.astype(np.float32) - found.astype(np.float32)).max()) / unit
    worst = max(sorted(errors), key=lambda name: errors[name])
    return FrameError(hr if np.isfinite(hr) else float("inf"), errors[worst], worst)


def _failure(index: int, error: FrameError, hr_tolerance: float, result: str) -> str:
    what = "the HR frame" if result == "hr" else "the features"
    return (
        f"the exported network differs from PyTorch on frame {index}: by {error.hr:.2e} in {what} (at most "
        f"{hr_tolerance:.0e} is accepted) and by {error.state:.2e} in state '{error.worst_state}' (at most "
        f"{TOLERANCE:.0e}); do not use it, export it again"
    )
