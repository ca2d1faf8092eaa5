"""The proof of an engine on its own GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.memory import check_memory, verification_bytes
from ksnet_deploy.export.proof.explanation import explained, named_outputs
from ksnet_deploy.export.proof.half import PSNR_FLOOR_DB, compare_runners
from ksnet_deploy.export.proof.pair import compare_halves
from ksnet_deploy.export.proof.sequence import proof_frames, reset_before
from ksnet_deploy.network.config import StepName
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.pair import PAIR, files_of

__all__ = ["proof_on_gpu"]


def proof_on_gpu(
    source: Path,
    onnx: Path,
    engines: Sequence[Path],
    size: FrameSize,
    frames: int,
    on_frame: Callable[[], None],
    least_psnr_db: float = PSNR_FLOOR_DB,
) -> dict[str, Any]:
    """The engine itself, or those of both steps of a network, against the checkpoint in float32 or, where they were
    built from one, the exported file."""
    from ksnet_deploy.export.engine.compare import precision_of
    from ksnet_deploy.export.verified import float32_runner
    from ksnet_deploy.network.checkpoints import load_checkpoint
    from ksnet_deploy.runtime.onnx import OnnxRunner
    from ksnet_deploy.runtime.tensorrt.runner import TensorRTRunner

    if source != onnx:
        model = load_checkpoint(source).model
        check_memory(
            f"to compare the engine with float32 at {size}",
            verification_bytes(model.config, size, "fp32"),
            "give a smaller size, or leave the comparison out with --verify-frames 0",
        )

    parts = files_of(onnx)
    against = "the exported file in ONNX Runtime" if source == onnx else "float32"
    if len(parts) > 1:
        files = dict(zip(PAIR, parts, strict=True))
        of_step = dict(zip(PAIR, engines, strict=True))

        def open_step(step: StepName) -> Runner:
            return OnnxRunner(files[step], size) if source == onnx else float32_runner(model, files[step], size, step)

        pair = compare_halves(
            *(open_step, lambda step: TensorRTRunner(of_step[step], size), frames),
            least_psnr_db=least_psnr_db,
            refuse=False,
            on_frame=on_frame,
        )
        return {"what": "the engines on the GPU", "against": against, **pair.as_dict()}
    (engine,) = engines

    def open_reference() -> Runner:
        return OnnxRunner(onnx, size) if source == onnx else float32_runner(model, onnx, size)

    sides = open_reference, lambda: TensorRTRunner(engine, size), precision_of(onnx)
    with (
        explained(lambda: named_outputs(*sides)),
        TensorRTRunner(engine, size) as candidate,
        open_reference() as reference,
    ):
        images, reset_at = proof_frames(candidate, frames), reset_before(frames)
        report = compare_runners(
            *(reference, candidate, images),
            reset_at=reset_at,
            least_psnr_db=least_psnr_db,
            refuse=False,
            on_frame=on_frame,
        )
    if report.faults:
        report.faults.append(named_outputs(*sides))
    return {"what": "the engine on the GPU", "against": against, **report.as_dict()}
