"""Rounding of a half-precision graph where half would, while it runs in float32."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import onnx.parser
import onnx.shape_inference

from ksnet_deploy.ops.functions import DOMAIN, OPSET, VERSION

__all__ = ["round_half_results"]


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
