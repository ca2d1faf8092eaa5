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
import torch
from numpy.typing import NDArray

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.proof.near_ties import GapRecorder, swapped_channels
from ksnet_deploy.export.proof.sequence import FloatFrame, moving_pattern
from ksnet_deploy.network.model import KSNet, State
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.torch import decode_frame, encode_frame

__all__ = ["FrameError", "SequenceReport", "verify_onnx"]

TOLERANCE = 1e-4
"""Largest accepted absolute difference of float32 values, frames in [0, 1]."""
TIE_GAP = 1e-5
"""Gap of two channel scores, as a share of the scores' standard deviation, that float32 rounding may bridge."""
MAX_EXCUSED_SHARE = 0.1
"""More near-ties than this, and than one, mean that something else is wrong."""
UNIT = {"uint8": 1.001 / 255, "float16": 2**-10}
"""One unit of a coarse frame type, of values up to 1 and a little beyond."""


@dataclass(frozen=True)
class FrameError:
    """Differences on one frame of the sequence."""

    frame: int
    hr: float
    """Largest absolute difference of the HR frame, in [0, 1] units; uint8 frames count in levels / 255."""
    state: float
    """Largest absolute difference over all state tensors."""
    worst_state: str
    excused: bool = False
    """PyTorch agrees only after two channels with nearly tied scores were swapped; the differences are those then."""

    def exceeds(self, hr_tolerance: float, state_tolerance: float) -> bool:
        return self.hr > hr_tolerance or self.state > state_tolerance


@dataclass(frozen=True)
class SequenceReport:
    """Outcome of a comparison over a sequence."""

    size: FrameSize
    reset_at: int | None
    """Frame before which both sides forgot the past."""
    tolerance: float
    """Of states."""
    hr_tolerance: float
    """Of frames: the same, or as much as one step of their type, by which a rounding may differ."""
    frames: list[FrameError] = field(default_factory=list)

    @property
    def max_error(self) -> float:
        """Largest difference of any frame or state."""
        return max((max(f.hr, f.state) for f in self.frames), default=0.0)

    @property
    def excused(self) -> list[int]:
        """Frames on which a near-tie swapped two channels."""
        return [f.frame for f in self.frames if f.excused]

    def as_dict(self) -> dict[str, Any]:
        return {"frames": len(self.frames), "max_error": self.max_error, "near_ties": self.excused}

    def summary(self) -> str:
        text = f"{len(self.frames)} recurrent frames at {self.size}, reset at {self.reset_at}: "
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
    operators replace otherwise. States are held to 1e-4; HR frames too, but to one unit of their own type where
    that is coarser, because a value between two units may round either way.

    Raises:
        VerificationError: a frame or state differs by more, and swapping two channels whose scores are nearly tied
            (a gap under 1e-5 of their standard deviation) does not make PyTorch give the file's result.
    """
    images = list(moving_pattern(size, frames))
    with OnnxRunner(path, size, device=device, rewrite=lambda _model: None) as runner:
        _compare(model, runner, images[:2], reset_at=None)
    with OnnxRunner(path, size, device=device) as runner:
        report = _compare(model, runner, images, reset_at=frames // 2, on_frame=on_frame)
    if len(report.excused) > max(1, MAX_EXCUSED_SHARE * frames):
        raise VerificationError(
            f"the exported network differs from PyTorch on {len(report.excused)} of {frames} frames by near-tied "
            "channel scores, which explain single frames only; export it again and report this if it stays"
        )
    return report


@torch.inference_mode()
def _compare(
    model: KSNet,
    runner: OnnxRunner,
    images: Sequence[FloatFrame],
    *,
    reset_at: int | None,
    on_frame: Callable[[], None] = lambda: None,
) -> SequenceReport:
    hr_tolerance = max(TOLERANCE, UNIT.get(runner.io, 0.0))
    report = SequenceReport(runner.size, reset_at, TOLERANCE, hr_tolerance)
    dtype: torch.dtype = getattr(torch, runner.io)
    state: State | None = None
    for index, image in enumerate(images):
        if index == reset_at:
            state = None
            runner.reset()
        frame = torch.from_numpy(image)[None]
        lr = (frame * 255).round().to(dtype) if runner.io == "uint8" else frame.to(dtype)
        planes = decode_frame(lr)
        before = state or model.initial_state(planes)
        found = runner.step(lr[0].numpy())
        with GapRecorder(model) as gaps:
            hr, state = model(planes, before)
        error = _frame_error(index, encode_frame(hr, dtype)[0].numpy(), found, state, runner.state)
        if error.exceeds(hr_tolerance, TOLERANCE):
            for level in gaps.tied_levels(TIE_GAP):
                with swapped_channels(level):
                    hr, state = model(planes, before)
                swapped = _frame_error(index, encode_frame(hr, dtype)[0].numpy(), found, state, runner.state)
                if not swapped.exceeds(hr_tolerance, TOLERANCE):
                    # The file took the other of two equal choices; the sequence goes on from there.
                    error = replace(swapped, excused=True)
                    break
            else:
                raise VerificationError(_failure(error, hr_tolerance))
        report.frames.append(error)
        on_frame()
    return report


def _frame_error(
    index: int,
    expected: NDArray[np.generic],
    found: NDArray[np.generic],
    state: State,
    found_state: dict[str, NDArray[np.float32]],
) -> FrameError:
    unit = 255.0 if expected.dtype == np.uint8 else 1.0
    errors = {name: float(np.abs(tensor.numpy() - found_state[name]).max()) for name, tensor in state._asdict().items()}
    # NaN compares false with everything; as infinity it cannot pass.
    errors = {name: error if np.isfinite(error) else float("inf") for name, error in errors.items()}
    hr = float(np.abs(expected.astype(np.float32) - found.astype(np.float32)).max()) / unit
    worst = max(errors, key=lambda name: errors[name])
    return FrameError(index, hr if np.isfinite(hr) else float("inf"), errors[worst], worst)


def _failure(error: FrameError, hr_tolerance: float) -> str:
    return (
        f"the exported network differs from PyTorch on frame {error.frame}: by {error.hr:.2e} in the HR frame (at most "
        f"{hr_tolerance:.0e} is accepted) and by {error.state:.2e} in state '{error.worst_state}' (at most "
        f"{TOLERANCE:.0e}); do not use it, export it again"
    )
