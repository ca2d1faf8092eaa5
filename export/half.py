"""Proof that a half-precision network stays near the float32 one, over a recurrent sequence.

ONNX Runtime's CPU kernels compute most half operators in float32 and drop the rounding between them, so running the
file there as it is would prove nothing about a GPU. For the proof every half result is rounded, one operator after
the other, which is what an engine does or, where it fuses operators, a little worse than what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.parser
import onnx.shape_inference
from numpy.typing import NDArray

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import VerificationError
from ksnet_deploy.export.verify import moving_pattern
from ksnet_deploy.metrics import psnr
from ksnet_deploy.model import KSNet
from ksnet_deploy.ops.functions import DOMAIN, OPSET, VERSION
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.torch import TorchRunner

__all__ = ["PSNR_FLOOR_DB", "HalfReport", "compare_runners", "round_half_results", "verify_half"]

PSNR_FLOOR_DB = 45.0
"""Least PSNR of any frame against float32: an error of about one and a half levels of 255."""
DRIFT_DB = 6.0
"""Largest fall of the PSNR from the first to the last third of the sequence, once it is near the floor."""


@dataclass(frozen=True)
class HalfReport:
    """Outcome of a comparison over a sequence."""

    size: FrameSize
    psnr_db: list[float] = field(default_factory=list)
    """Of every frame against float32, RGB; infinite where all values are equal."""

    @property
    def least_db(self) -> float:
        return min(self.psnr_db)

    def as_dict(self) -> dict[str, Any]:
        return {"frames": len(self.psnr_db), "least_psnr_db": round(self.least_db, 2)}

    def summary(self) -> str:
        return (
            f"{len(self.psnr_db)} recurrent frames at {self.size}: at least {self.least_db:.1f} dB against float32 "
            f"(floor {PSNR_FLOOR_DB:.0f} dB)"
        )


def verify_half(
    model: KSNet, path: Path, size: FrameSize, *, frames: int = 30, on_frame: Callable[[], None] = lambda: None
) -> HalfReport:
    """Run the float32 network in PyTorch and the half-precision file, its half results rounded, over one sequence.

    Raises:
        VerificationError: a frame is below the floor, not finite, or the error grows along the sequence.
    """
    with (
        OnnxRunner(path, size, rewrite=round_half_results) as candidate,
        TorchRunner(model, size, io=candidate.io) as reference,
    ):
        return compare_runners(reference, candidate, frames=frames, on_frame=on_frame)


def compare_runners(
    reference: Runner, candidate: Runner, *, frames: int, on_frame: Callable[[], None] = lambda: None
) -> HalfReport:
    """Compare two runners of one size and frame type over a synthetic sequence; both start afresh.

    Raises:
        VerificationError: as :func:`verify_half` says.
    """
    report = HalfReport(reference.size)
    reference.reset()
    candidate.reset()
    for index, image in enumerate(moving_pattern(reference.size, frames)):
        frame = np.rint(image * 255).astype(np.uint8) if reference.io == "uint8" else image.astype(reference.io)
        expected, found = _as_levels(reference.step(frame)), _as_levels(candidate.step(frame))
        if not np.isfinite(found).all():
            raise VerificationError(
                f"frame {index} of the {candidate.backend} run is not finite: a value left the range of half "
                "precision; use float32 for these weights, or train them further"
            )
        report.psnr_db.append(psnr(found, expected))
        if report.psnr_db[-1] < PSNR_FLOOR_DB:
            raise VerificationError(
                f"frame {index} of the {candidate.backend} run has {report.psnr_db[-1]:.1f} dB against float32, where "
                f"at least {PSNR_FLOOR_DB:.0f} dB is accepted; use float32 for these weights, and report this"
            )
        on_frame()
    third = len(report.psnr_db) // 3
    if third and min(report.psnr_db[-third:]) < min(min(report.psnr_db[:third]) - DRIFT_DB, PSNR_FLOOR_DB + DRIFT_DB):
        raise VerificationError(
            f"the error of the {candidate.backend} run grows along the sequence, from "
            f"{min(report.psnr_db[:third]):.1f} dB to {min(report.psnr_db[-third:]):.1f} dB in {frames} frames; "
            "use float32 for these weights, and report this"
        )
    return report


def _as_levels(frame: NDArray[Any]) -> NDArray[Any]:
    return frame if frame.dtype == np.uint8 else np.clip(frame.astype(np.float32), 0, 1) * 255


_MOVES = frozenset(
    {"Concat", "Expand", "Gather", "GatherND", "Identity", "Pad", "Reshape", "Slice", "Split", "Transpose"}
)
"""Operators that only carry values from one place to another."""

# Dekker's and Veltkamp's splitting: the upper 11 bits of the 24 of a float32, rounded to nearest. The two scalings
# turn what half cannot hold into infinity (or NaN, from 4e34 on). Below 6e-5 half is coarser than this.
_ROUND_TO_HALF = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>
RoundToHalf (x) => (y)
{{
    split = Constant <value_float: float = 8193.0> ()
    up = Constant <value_float: float = {2.0**112}> ()
    down = Constant <value_float: float = {2.0**-112}> ()
    scaled = Mul (x, split)
    low = Sub (x, scaled)
    high = Add (scaled, low)
    lifted = Mul (high, up)
    y = Mul (lifted, down)
}}
"""


def round_half_results(model: onnx.ModelProto) -> None:
    """Rewrite, in memory, a half-precision step to float32 with every result rounded that was half.

    Casts would not do: ONNX Runtime drops pairs of them, even without optimisation.
    """
    model.CopyFrom(onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(model)))
    graph = model.graph
    half = {value.name for value in [*graph.value_info, *graph.output] if _is_half(value)} - {"hr"}
    nodes = []
    for node in graph.node:
        if "hr" not in node.output:
            _widen_attributes(node)
        nodes.append(node)
        if node.op_type in _MOVES:
            continue
        for index, name in enumerate(node.output):
            if name in half:
                node.output[index] = f"{name}.exact"
                nodes.append(onnx.helper.make_node("RoundToHalf", [f"{name}.exact"], [name], domain=DOMAIN))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    for value in [*graph.input, *graph.output]:
        if _is_half(value) and value.name not in ("lr", "hr"):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    del graph.value_info[:]
    model.functions.append(onnx.parser.parse_function(_ROUND_TO_HALF))
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))


def _is_half(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16)


def _widen_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT16:
            attribute.i = onnx.TensorProto.FLOAT
        if attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.FLOAT16:
            wide = onnx.numpy_helper.to_array(attribute.t).astype(np.float32)
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(wide))
