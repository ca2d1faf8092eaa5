"""The gradients that rank channels, computed in memory in the layout of a processor's convolutions.

The features come from a convolution in that layout. Of the standard operators ONNX Runtime has pooling, convolution,
products and sums there; padding and slicing are passes over memory in another layout, as many as all the rest.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ksnet_deploy.base.machine import cpu_flags, is_x86
from ksnet_deploy.ops.functions import DOMAIN, SPLIT_OF_GRADIENTS, TOPK_SPLIT, split_of_gradients
from ksnet_deploy.runtime.rewrites import channels_in, set_nodes

__all__ = ["gradients_in_registers"]

NEIGHBOURS = {"x": ([1, 2], [0, 0, 0, 1]), "y": ([2, 1], [0, 0, 1, 0])}
"""Kernel and padding of the mean of a pixel and its neighbour at the right, and of that below."""


def gradients_in_registers(model: onnx.ModelProto) -> None:
    """Square the gradients of a split's features where they lie, if their channels fill whole registers.

    Half a difference is the mean of a pixel and its neighbour, less the pixel; at the border, where the padding does
    not count in the mean, it is zero, as it must be. Halved gradients are compared with half of the frame's, which
    gives a quarter of each score and the same order.
    """
    width, channels = _register_width(), channels_in(model)
    if width is None:
        return
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    nodes: list[onnx.NodeProto] = []
    found = False
    for node in model.graph.node:
        features = node.input[0] if (node.domain, node.op_type) == (DOMAIN, TOPK_SPLIT) else ""
        count = channels.get(features, 0)
        if count and count % width == 0 and types.get(features) == onnx.TensorProto.FLOAT:
            found = True
            nodes.extend(_squared_gradients(model, features, count))
            frame = f"{node.output[0]}.half_of_frame"
            _add_weight(model, f"{frame}.by", np.float32(0.5))
            nodes.append(helper.make_node("Mul", [node.input[1], f"{frame}.by"], [frame], frame))
            node.op_type = SPLIT_OF_GRADIENTS
            node.input[:] = [features, f"{features}.gradient2", frame, node.input[2]]
        nodes.append(node)
    if found:
        set_nodes(model, nodes)
        model.functions.append(split_of_gradients())


def _squared_gradients(model: onnx.ModelProto, features: str, channels: int) -> list[onnx.NodeProto]:
    minus = f"{features}.minus"
    _add_weight(model, minus, np.full((channels, 1, 1, 1), -1, np.float32))
    nodes = []
    for axis, (kernel, pads) in NEIGHBOURS.items():
        mean, less, half, squared = (f"{features}.{name}_{axis}" for name in ("mean", "less", "half", "squared"))
        nodes += [
            helper.make_node("AveragePool", [features], [mean], mean, kernel_shape=kernel, pads=pads),
            helper.make_node("Conv", [features, minus], [less], less, group=channels, kernel_shape=[1, 1]),
            helper.make_node("Add", [mean, less], [half], half),
            helper.make_node("Mul", [half, half], [squared], squared),
        ]
    sums = f"{features}.gradient2"
    return [*nodes, helper.make_node("Add", [f"{features}.squared_x", f"{features}.squared_y"], [sums], sums)]


def _add_weight(model: onnx.ModelProto, name: str, value: np.ndarray | np.float32) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _register_width() -> int | None:
    """Channels that ONNX Runtime lays together: 8 with AVX2, 16 with AVX-512 and where it is not known which; None on
    processors of other designs, where this has not been measured."""
    if not is_x86():
        return None
    flags = cpu_flags() or set()
    return 8 if "avx2" in flags and "avx512f" not in flags else 16
