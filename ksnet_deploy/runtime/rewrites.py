"""Exact rewrites, in memory, of an exported step for processors: other sums of the same products.

They are made when a file is loaded for a CPU, and not in the file, because a GPU's kernels have other preferences.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ksnet_deploy.ops.rewriting import attribute, use_fast_operators

__all__ = ["phases_of_last_convolution", "shuffles_by_block", "use_processor_operators"]

Array = NDArray[np.float32]

LAST = "network.reconstruct.head."
"""Beginning of the names of the weights at the end of a network."""
FEW = 4
"""Output channels for which a processor's kernels compute a whole register of them, at least four times as many."""


def use_processor_operators(model: onnx.ModelProto) -> None:
    """Put, in memory, what ONNX Runtime is fastest at on a CPU in the place of what the file has."""
    phases_of_last_convolution(model)
    shuffles_by_block(model)
    use_fast_operators(model)


def weight_names(node: onnx.NodeProto) -> tuple[str, ...]:
    """Names of a convolution's weight and, where it has one, bias."""
    return tuple(name for name in node.input[1:] if name)


def phases_of_last_convolution(model: onnx.ModelProto) -> None:
    """Compute the last convolution, 3x3 to 3 channels at the size of the result, as one of 4x4 with stride 2 to 12
    channels and a pixel shuffle.

    A kernel of 3 channels costs as much as one of a register's 16; that of the four neighbours' phases has 16/9 of the
    taps and a quarter of the positions. What it adds are products with zero weights.
    """
    nodes = model.graph.node
    found = (i for i, n in enumerate(nodes) if n.op_type == "Conv" and n.input[1].startswith(LAST))
    index = next((i for i in found if _is_small(model, nodes[i])), None)
    if index is None:
        return
    node = nodes[index]
    weight, bias = (_value(model, name) for name in node.input[1:])
    phases = np.zeros((len(weight), 2, 2, weight.shape[1], 4, 4), weight.dtype)
    for row in range(2):
        for column in range(2):
            phases[:, row, column, :, row : row + 3, column : column + 3] = weight
    _replace(model, node.input[1], phases.reshape(-1, *phases.shape[3:]))
    _replace(model, node.input[2], np.repeat(bias, 4))
    shuffled, node.output[0] = node.output[0], f"{node.output[0]}.phases"
    del node.attribute[:]
    node.attribute.extend(
        helper.make_attribute(name, value) for name, value in (("strides", [2, 2]), ("pads", [1, 1, 1, 1]))
    )
    shuffle = helper.make_node(
        "DepthToSpace", [node.output[0]], [shuffled], f"{shuffled}.shuffle", blocksize=2, mode="CRD"
    )
    nodes.insert(index + 1, shuffle)


def shuffles_by_block(model: onnx.ModelProto) -> None:
    """Let every pixel shuffle after a convolution take its channels block by block (ONNX's mode ``DCR``), and the
    convolution give them in that order: neighbours in memory stay so where channels come last."""
    nodes = model.graph.node
    producers = {output: node for node in nodes for output in node.output}
    readers = Counter(name for node in nodes for name in node.input)
    for node in nodes:
        if node.op_type != "DepthToSpace" or attribute(node, "mode") != b"CRD":
            continue
        source = producers.get(node.input[0])
        while source is not None and source.op_type == "LeakyRelu" and readers[source.output[0]] == 1:
            source = producers.get(source.input[0])
        if source is None or source.op_type != "Conv" or readers[source.output[0]] != 1:
            continue
        if any(readers[name] != 1 for name in source.input[1:]) or (attribute(source, "group") or 1) != 1:
            continue
        taps = int(attribute(node, "blocksize")) ** 2
        for name in weight_names(source):
            value = _value(model, name)
            by_block = value.reshape(-1, taps, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
            _replace(model, name, by_block)
        next(a for a in node.attribute if a.name == "mode").s = b"DCR"


def _is_small(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    shape = next((list(tensor.dims) for tensor in model.graph.initializer if tensor.name == node.input[1]), None)
    return shape is not None and shape[0] <= FEW and shape[2:] == [3, 3] and len(weight_names(node)) == 2


def _value(model: onnx.ModelProto, name: str) -> Array:
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def _replace(model: onnx.ModelProto, name: str, value: Array) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
