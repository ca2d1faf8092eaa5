"""Each output of an engine by itself, over recorded states: what ``build-engine --compare`` shows.

The two sides are those of the proof: the engine where its GPU is at hand, else the file it is built from in ONNX
Runtime, every half result rounded; against the checkpoint in float32 or, where it was built from one, the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.export.memory import check_memory, verification_bytes
from ksnet_deploy.export.proof.half import proof_runner
from ksnet_deploy.export.proof.outputs import OutputComparison, compare_outputs
from ksnet_deploy.export.proof.sequence import proof_size
from ksnet_deploy.export.verified import float32_runner
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.pair import files_of
from ksnet_deploy.runtime.step_file import exported_metadata, load_exported
from ksnet_deploy.runtime.tensorrt.runner import TensorRTRunner

__all__ = ["compare_made", "precision_of"]


def compare_made(
    source: Path, onnx: Path, engine: Path | None, size: FrameSize, say: Callable[[str], None]
) -> OutputComparison:
    """Compare what was built.

    Args:
        source: the checkpoint, or ``onnx`` itself.
        onnx: what the engine was built from.
        engine: None where its GPU is not at hand.
        size: of its frames; without an engine, a checkpoint is compared at the proofs' size if that is smaller.
        say: told what is compared with what.

    Raises:
        BackendError: one of the two cannot run here, or there is too little memory.
    """
    precision = precision_of(onnx)
    if engine is None and source != onnx:
        size = proof_size(size)
        onnx, source_is_file = cached_onnx(source, size, precision=precision, on_note=say), False
    else:
        source_is_file = source == onnx

    def open_reference() -> Runner:
        if source_is_file:
            return OnnxRunner(onnx, size, rewrite=lambda _model: None)
        model = load_checkpoint(source).model
        check_memory(
            f"to compare the outputs at {size}", verification_bytes(model.config, size, "fp32"), "leave --compare out"
        )
        return float32_runner(model, onnx, size)

    what = f"the file for {size}, in ONNX Runtime" if engine is None else "the engine on the GPU"
    against = "the file as it is" if source_is_file else "float32"
    say(f"Comparing each output over recorded states: {what}, with {against}.")
    with (
        proof_runner(onnx, size, precision) if engine is None else TensorRTRunner(engine, size) as candidate,
        open_reference() as reference,
    ):
        return compare_outputs(reference, candidate, precision)


def precision_of(onnx: Path) -> Precision:
    """Precision of an exported file, as its metadata say."""
    return "fp16" if exported_metadata(load_exported(files_of(onnx)[0])).get("ksnet.precision") == "fp16" else "fp32"
