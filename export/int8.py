"""Whole numbers in an exported step, in ONNX's own words: QuantizeLinear and DequantizeLinear.

ONNX Runtime and OpenVINO fuse these with what lies between them into kernels of 8 bits, for processors with VNNI:
activations without a sign, weights with one and a scale for every output channel. ``onnxruntime.quantization`` would
write the same, but shuffles pixels in float32, four bytes for one, and holds every tensor of every frame in memory to
calibrate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ksnet_deploy.export.calibration import Ranges, Scale
from ksnet_deploy.runtime.rewrites import phases_of_last_convolution, set_nodes, shuffles_by_block

__all__ = ["quantise"]

LARGEST = 127
"""Largest of a weight's whole numbers; -128 is left out, so that both signs have as many."""
PREFIX = "network."
"""Beginning of the names that the exporter gives to a network's weights."""


def quantise(model: onnx.ModelProto, ranges: Ranges) -> None:
    """Rewrite, in memory, the convolutions that ``ranges`` names.

    What enters one is rounded to 8 bits, for it alone, and before its pixel shuffle, so that bytes are shuffled; what
    leaves one is rounded too, because ONNX Runtime has convolutions between bytes only. OpenVINO needs not the latter
    and drops it. Where bytes begin at zero, they are the rectified values: a ReLU between two convolutions goes.
    """
    phases_of_last_convolution(model)
    shuffles_by_block(model)
    graph = model.graph
    plan = _Plan(graph, ranges)
    nodes = _with_bytes(graph, plan)
    for node in nodes:
        node.name = node.name or node.output[0]
    set_nodes(model, nodes)
    graph.initializer.extend(plan.added)
    used = {name for node in graph.node for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)


class _Plan:
    """Rounding of a graph: of which tensors, and in which scales."""

    def __init__(self, graph: onnx.GraphProto, ranges: Ranges) -> None:
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self.chosen = {node.name for node in graph.node if _name_in_network(node) in ranges}
        self.entering: dict[str, Scale] = {}
        """Scales of tensors that are rounded for the convolutions among their readers."""
        self.leaving: dict[str, Scale] = {}
        """Scales of tensors that are rounded for all their readers."""
        self.gone: set[str] = set()
        """Names of the activations that bytes have in themselves."""
        self.added: list[onnx.TensorProto] = []
        self.before: dict[str, list[onnx.NodeProto]] = {}
        """Nodes that scale the weights of each convolution."""
        self._makers = {output: node for node in graph.node for output in node.output}
        weights = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.name in self.chosen:
                scale, self.leaving[node.output[0]] = ranges[_name_in_network(node)]
                self.before[node.name] = _whole_weights(node, weights, self._rounded_source(node, scale), self.added)
        for name, scale in (self.entering | self.leaving).items():
            values = zip((scale.step, scale.zero), (np.float32, np.uint8), _scale_names(name), strict=True)
            self.added += [numpy_helper.from_array(np.array(value, kind), part) for value, kind, part in values]

    def _rounded_source(self, node: onnx.NodeProto, scale: Scale) -> Scale:
        """Scale of what enters a convolution: the one given, or that in which another left it."""
        source = node.input[0]
        while source in self._makers and self._makers[source].op_type == "DepthToSpace":
            source = self._makers[source].input[0]
        maker = self._makers.get(source)
        if maker is not None and maker.op_type == "Relu" and maker.input[0] in self.leaving:
            before = self.leaving[maker.input[0]]
            if not before.zero and all(reader.name in self.chosen for reader in self.readers[source]):
                self.gone.add(maker.name)
                return before
        if source not in self.leaving:
            self.entering[source] = scale
        return self.leaving.get(source, scale)


def _with_bytes(graph: onnx.GraphProto, plan: _Plan) -> list[onnx.NodeProto]:
    """Nodes of the graph with those that round among them."""
    nodes: list[onnx.NodeProto] = []
    for_all: dict[str, str] = {}
    for_convolutions: dict[str, str] = {}
    shuffled: dict[str, str] = {}
    for node in graph.node:
        if node.name in plan.gone:
            for_all[node.output[0]] = for_all[node.input[0]]
            continue
        renamed = {**for_convolutions, **for_all} if _wants_bytes(node, plan) else for_all
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        nodes += [*plan.before.get(node.name, []), node]
        result = node.output[0]
        if node.op_type == "DepthToSpace" and (source := shuffled.get(node.input[0], "")):
            node.output[0] = f"{result}.bytes"
            nodes.append(_dequantised(f"{result}.bytes", source, result))
        for name in [name for name in node.output if name in plan.leaving or name in plan.entering]:
            nodes.append(helper.make_node("QuantizeLinear", [name, *_scale_names(name)], [f"{name}.bytes"]))
            new = for_all if name in plan.leaving else for_convolutions
            if [reader.op_type for reader in plan.readers[name]] == ["DepthToSpace"]:
                new[name] = f"{name}.bytes"
                shuffled[f"{name}.bytes"] = name
            else:
                new[name] = f"{name}.rounded"
                nodes.append(_dequantised(f"{name}.bytes", name, f"{name}.rounded"))
    return nodes


def _wants_bytes(node: onnx.NodeProto, plan: _Plan) -> bool:
    return node.name in plan.chosen or node.op_type == "DepthToSpace"


def _dequantised(whole: str, scaled_as: str, result: str) -> onnx.NodeProto:
    return helper.make_node("DequantizeLinear", [whole, *_scale_names(scaled_as)], [result])


def _name_in_network(node: onnx.NodeProto) -> str:
    """Name of a convolution in the network; empty for other nodes."""
    return node.input[1].removeprefix(PREFIX).removesuffix(".weight") if node.op_type == "Conv" else ""


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
