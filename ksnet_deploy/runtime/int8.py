"""Files with whole numbers (:mod:`ksnet_deploy.export.int8`): who runs them, and how."""

from __future__ import annotations

import onnx

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.machine import has_vnni
from ksnet_deploy.runtime.rewrites import set_nodes

__all__ = ["IN_INT8", "check_int8", "without_rounded_sums"]

IN_INT8 = "Convolutions are computed in 8 bits, which is near float32 but not equal to it."


def check_int8(device: str = "cpu") -> None:
    """Raise BackendError where int8 cannot run: on a GPU, and on a processor whose sums of bytes overflow."""
    if device != "cpu":
        raise BackendError("int8 is for CPUs, and a GPU computes in half precision; use --device cpu, or leave it out")
    if not has_vnni():
        raise BackendError(
            "this processor has no instructions for sums of bytes (VNNI), without which int8 is neither fast nor "
            "right; leave --precision out, or give a file in another precision"
        )


def without_rounded_sums(model: onnx.ModelProto) -> None:
    """Leave, in memory, what a convolution gives unrounded until its activation was applied, for a runtime that fuses
    both: more exact, and fewer operators. Rounded stays what another convolution reads as it is."""
    nodes = list(model.graph.node)
    read = {node.input[0] for node in nodes if node.op_type == "Conv"}
    needed = {node.input[0] for node in nodes if node.op_type == "DequantizeLinear" and node.output[0] in read}
    convolved = {node.output[0] for node in nodes if node.op_type == "Conv"}
    same: dict[str, str] = {}
    kept = []
    for node in nodes:
        source = same.get(node.input[0], "") if node.input else ""
        if node.op_type == "QuantizeLinear" and node.input[0] in convolved and node.output[0] not in needed:
            same[node.output[0]] = node.input[0]
            continue
        if node.op_type == "DequantizeLinear" and source:
            same[node.output[0]] = source
            continue
        if node.op_type == "DepthToSpace" and source:
            same_name = node.output[0]
            node.input[0], node.output[0] = source, f"{same_name}.sums"
            same[same_name] = node.output[0]
        else:
            for index, name in enumerate(node.input):
                node.input[index] = same.get(name, name)
        kept.append(node)
    set_nodes(model, kept)
