"""Whole numbers for the last piece of an exported step, in ONNX's own words: QuantizeLinear and DequantizeLinear.

ONNX Runtime and OpenVINO fuse these with what lies between them into kernels of 8 bits, for processors with VNNI:
activations without a sign, weights with one and a scale for every output channel. ``onnxruntime.quantization`` would
write the same, but shuffles pixels in float32, four bytes for one, and holds every tensor of every frame in memory to
calibrate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ksnet_deploy.export.calibration import Ranges, Scale
from ksnet_deploy.runtime.rewrites import phases_of_last_convolution, shuffles_by_block

__all__ = ["quantise"]

LARGEST = 127
"""Largest of a weight's whole numbers; -128 is left out, so that both signs have as many."""
PREFIX = "network."
"""Beginning of the names that the exporter gives to a network's weights."""


def quantise(model: onnx.ModelProto, ranges: Ranges) -> None:
    """Rewrite, in memory, the convolutions that ``ranges`` names.

    What enters one is rounded to 8 bits before its pixel shuffle, so that bytes are shuffled; what leaves one is
    rounded too, because ONNX Runtime has convolutions between bytes only. OpenVINO needs not the latter and drops it.
    """
    phases_of_last_convolution(model)
    shuffles_by_block(model)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    rounded: dict[str, Scale] = {}
    added: list[onnx.TensorProto] = []
    before: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        name = node.input[1].removeprefix(PREFIX).removesuffix(".weight") if node.op_type == "Conv" else None
        if name not in ranges:
            continue
        entering, leaving = ranges[name]
        source = node.input[0]
        while source in producers and producers[source].op_type == "DepthToSpace":
            source = producers[source].input[0]
        rounded |= {source: entering, node.output[0]: leaving}
        before[node.name] = _whole_weights(node, weights, entering, added)
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    shuffled: dict[str, str] = {}
    readers: Mapping[str, str] = {name: node.op_type for node in graph.node for name in node.input}
    for node in [_copied(node) for node in graph.node]:
        nodes.extend(before.get(node.name, []))
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        nodes.append(node)
        result = node.output[0]
        if node.op_type == "DepthToSpace" and (source := shuffled.get(node.input[0], "")):
            node.output[0] = f"{result}.bytes"
            nodes.append(helper.make_node("DequantizeLinear", [f"{result}.bytes", *_scale_names(source)], [result]))
        for name in filter(rounded.__contains__, node.output):
            scale = rounded[name]
            added += [
                numpy_helper.from_array(np.array(value, kind), part)
                for value, kind, part in zip(
                    (scale.step, scale.zero), (np.float32, np.uint8), _scale_names(name), strict=True
                )
            ]
            nodes.append(helper.make_node("QuantizeLinear", [name, *_scale_names(name)], [f"{name}.bytes"]))
            renamed[name] = f"{name}.bytes"
            if readers[name] == "DepthToSpace":
                shuffled[f"{name}.bytes"] = name
            else:
                renamed[name] = f"{name}.rounded"
                nodes.append(
                    helper.make_node("DequantizeLinear", [f"{name}.bytes", *_scale_names(name)], [f"{name}.rounded"])
                )
    for node in nodes:
        node.name = node.name or node.output[0]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added)
    used = {name for node in nodes for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _scale_names(name: str) -> tuple[str, str]:
    return f"{name}.step", f"{name}.zero"


def _whole_weights(
    node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], entering: Scale, added: list[onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Give a convolution weights and bias of whole numbers; the nodes that scale them, and their tensors to ``added``.

    The bias has the scale of the products, step of the input times step of the channel's weights, as runtimes expect.
    """
    weight, bias = (numpy_helper.to_array(weights[name]).astype(np.float32) for name in node.input[1:])
    steps = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-8) / LARGEST
    parts: tuple[tuple[NDArray[np.float32], NDArray[np.float32], type], ...] = (
        (weight / steps[:, None, None, None], steps, np.int8),
        (bias / (steps * np.float32(entering.step)), steps * np.float32(entering.step), np.int32),
    )
    nodes = []
    for index, (numbers, scale, kind) in enumerate(parts, start=1):
        name = node.input[index]
        tensors = {
            f"{name}.whole": np.rint(numbers).astype(kind),
            f"{name}.step": scale.astype(np.float32),
            f"{name}.zero": np.zeros(len(scale), kind),
        }
        added += [numpy_helper.from_array(value, part) for part, value in tensors.items()]
        nodes.append(helper.make_node("DequantizeLinear", list(tensors), [f"{name}.scaled"], axis=0))
        node.input[index] = f"{name}.scaled"
    return nodes
