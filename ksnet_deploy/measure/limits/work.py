"""Operations and bytes of each layer of an exported step."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx
from onnx import helper

from ksnet_deploy.base.errors import ArtifactError
from ksnet_deploy.ops.functions import ALIGN, DEFORM_CONV, TOPK_SPLIT

__all__ = ["Layer", "layers_of"]

CONVOLUTIONS = {"Conv", ALIGN, DEFORM_CONV, "DeformConv"}


@dataclass(frozen=True)
class Layer:
    """A layer that has to be computed by itself; what lies between two of them can be part of one."""

    name: str
    kind: str
    """Operator of the graph."""
    operations: int
    """Multiplications and additions, two for a multiply-add."""
    bytes: int
    """Sizes of its inputs, weights and outputs, each moved once."""
    half: bool
    """Whether it computes in 16 bits."""


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """Convolutions, deformable convolutions and channel splits, in the graph's order; all else is left out.

    Raises:
        ArtifactError: the sizes of tensors are not known, as in a dynamic file.
    """
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    tensors = {value.name: _tensor(value) for value in (*graph.input, *graph.output, *graph.value_info)}
    tensors |= {t.name: (list(t.dims), t.data_type) for t in graph.initializer}
    layers = []
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS and node.op_type != TOPK_SPLIT:
            continue
        used = [name for name in (*node.input, *node.output) if name]
        if any(name not in tensors or 0 in tensors[name][0] for name in used):
            raise ArtifactError(
                f"the sizes in {node.name or node.op_type} are not known, as in a file for any size; export it with "
                "--size"
            )
        operations = 0
        if node.op_type in CONVOLUTIONS:
            weights, output = tensors[node.input[1]][0], tensors[node.output[0]][0]
            operations = 2 * prod(weights[1:]) * prod(output)
        layers.append(
            Layer(
                node.name or node.output[0],
                node.op_type,
                operations,
                sum(_bytes(*tensors[name]) for name in used),
                tensors[node.input[0]][1] in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16),
            )
        )
    return layers


def _tensor(value: onnx.ValueInfoProto) -> tuple[list[int], int]:
    """Shape, 0 for a side that is free, and element type."""
    kind = value.type.tensor_type
    return [dim.dim_value for dim in kind.shape.dim], kind.elem_type


def _bytes(shape: list[int], element_type: int) -> int:
    return prod(shape) * helper.tensor_dtype_to_np_dtype(element_type).itemsize
