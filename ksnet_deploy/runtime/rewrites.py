"""Exact rewrites, in memory, of an exported step for processors: other sums of the same products.

They are made when a file is loaded for a CPU, and not in the file, because a GPU's kernels have other preferences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ksnet_deploy.ops.functions import DOMAIN
from ksnet_deploy.ops.rewriting import SHUFFLE_LAST, attribute, use_fast_operators

__all__ = [
    "channels_in",
    "parts_by_themselves",
    "phases_of_last_convolution",
    "rounds_before_shuffling",
    "set_nodes",
    "shuffles_by_block",
    "use_processor_operators",
]

Array = NDArray[np.float32]

LAST = "network.reconstruct.head."
"""Beginning of the names of the weights at the end of a network."""
FEW = 4
"""Output channels for which a processor's kernels compute a whole register of them, at least four times as many."""
REGISTER = 16
"""Channels that lie together in the layout of a processor's convolutions: 8 with AVX2, 16 with AVX-512."""


def use_processor_operators(model: onnx.ModelProto) -> None:
    """Put, in memory, what ONNX Runtime is fastest at on a CPU in the place of what the file has."""
    phases_of_last_convolution(model)
    shuffles_by_block(model)
    rounds_before_shuffling(model)
    parts_by_themselves(model)
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


def rounds_before_shuffling(model: onnx.ModelProto) -> None:
    """Add the enlarged frame, and round to bytes, before the pixel shuffle where it is the last operation.

    The frame's own convolution gives its channels in the order of the other, so that ONNX Runtime adds within that one;
    of the four transpositions of numbers at the size of the result one of bytes is left.
    """
    nodes = model.graph.node
    producers = {output: node for node in nodes for output in node.output}
    chain = _chain_before("hr", ("Cast", "Transpose", "Round", "Mul", "Clip", "Add"), producers)
    if chain is None or attribute(chain[1], "perm") != [0, 2, 3, 1]:
        return
    cast, _, rounding, scaling, clip, add = chain
    shuffles = [producers.get(name) for name in add.input]
    found = {attribute(node, "mode"): node for node in shuffles if node is not None and node.op_type == "DepthToSpace"}
    learned, enlarged = found.get(b"DCR"), found.get(b"CRD")
    if learned is None or enlarged is None or attribute(learned, "blocksize") != attribute(enlarged, "blocksize"):
        return
    head, base = producers.get(learned.input[0]), producers.get(enlarged.input[0])
    readers = Counter(name for node in nodes for name in node.input)
    own = (readers[name] == 1 for node in (*chain[1:], learned, enlarged, head, base) if node for name in node.output)
    if head is None or base is None or not all(own) or attribute(base, "group") != 3 or len(weight_names(base)) != 1:
        return
    weights = [*weight_names(head), *weight_names(base)]
    if head.op_type != "Conv" or not all(_is_float32(model, name) and readers[name] == 1 for name in weights):
        return
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    if any(name not in values for name in (scaling.input[1], *clip.input[1:])):
        return
    scale = values[scaling.input[1]]
    for name in weight_names(head):
        _replace(model, name, values[name] * scale)
    kernel = values[base.input[1]]  # its channels color by color, each of its own color
    apart = np.zeros((kernel.shape[0] // 3, 3, 3, *kernel.shape[2:]), kernel.dtype)
    for color in range(3):
        apart[:, color, color] = kernel.reshape(3, -1, *kernel.shape[2:])[color] * scale
    _replace(model, base.input[1], apart.reshape(-1, 3, *kernel.shape[2:]))
    next(entry for entry in base.attribute if entry.name == "group").i = 1
    bounds = []
    for name in clip.input[1:]:
        bounds.append(f"{name}.scaled")
        model.graph.initializer.append(numpy_helper.from_array(values[name] * scale, bounds[-1]))
    add.input[:] = [head.output[0], base.output[0]]
    last, clipped = f"{add.output[0]}.last", clip.output[0]
    taken = helper.make_node("Transpose", [add.output[0]], [last], last, perm=[0, 2, 3, 1])
    clip.input[:] = [last, *bounds]
    rounding.input[:] = [clipped]
    cast.input[:] = [rounding.output[0]]
    cast.output[0] = "hr.blocks"
    size = attribute(learned, "blocksize")
    woven = helper.make_node(SHUFFLE_LAST, ["hr.blocks"], ["hr"], "hr.woven", domain=DOMAIN, blocksize=size)
    gone = [node.name for node in (learned, enlarged, chain[1], scaling, clip, rounding, cast)]
    kept = [node for node in nodes if node.name not in gone]
    changed = {add.output[0], clipped, rounding.output[0]}
    shapes = [value for value in model.graph.value_info if value.name not in changed]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    set_nodes(model, [*kept, taken, clip, rounding, cast, woven])


def parts_by_themselves(model: onnx.ModelProto) -> None:
    """Compute a convolution of features that are joined as the sum of one for each of them.

    ONNX Runtime joins them in another layout than that of its convolutions; this way a part that a convolution made is
    neither joined nor laid out anew, and the sum is taken within the convolutions. Parts of other widths than whole
    registers stay joined with their neighbours.
    """
    nodes = model.graph.node
    joins = {n.output[0]: n for n in nodes if n.op_type == "Concat" and attribute(n, "axis") == 1}
    readers = Counter(name for node in nodes for name in node.input)
    channels = channels_in(model)
    result: list[onnx.NodeProto] = []
    gone = set()
    for node in nodes:
        result.append(node)
        join = joins.get(node.input[0]) if node.op_type == "Conv" else None
        if join is None or readers[join.output[0]] != 1 or (attribute(node, "group") or 1) != 1:
            continue
        if not _is_float32(model, node.input[1]) or any(channels.get(name) is None for name in join.input):
            continue
        parts = _registers([(name, channels[name]) for name in join.input])
        if len(parts) < 2 or any(width % REGISTER for _, width in parts):
            continue
        result.pop()
        result.extend(_sum_of(model, node, parts))
        gone.add(join.name)
    set_nodes(model, [node for node in result if node.name not in gone])


def _registers(parts: list[tuple[str, int]]) -> list[tuple[list[str], int]]:
    """Parts of whole registers alone, others with their neighbours, and the width of each."""
    found: list[tuple[list[str], int]] = []
    alone = True
    for name, width in parts:
        joined, alone = not alone and width % REGISTER != 0, width % REGISTER == 0
        if joined:
            names, before = found.pop()
            found.append(([*names, name], before + width))
        else:
            found.append(([name], width))
    return found


def _sum_of(
    model: onnx.ModelProto, node: onnx.NodeProto, parts: list[tuple[list[str], int]]
) -> Iterator[onnx.NodeProto]:
    """One convolution for each part, each added to those before it; the first has the bias."""
    weight, start, total = _value(model, node.input[1]), 0, ""
    for index, (names, width) in enumerate(parts):
        given, result = names[0], f"{node.output[0]}.{index}"
        if len(names) > 1:
            given = f"{result}.joined"
            yield helper.make_node("Concat", names, [given], given, axis=1)
        own = f"{node.input[1]}.{node.name}.{index}"
        piece = np.ascontiguousarray(weight[:, start : start + width])
        model.graph.initializer.append(numpy_helper.from_array(piece, own))
        bias = node.input[2:] if index == 0 else []
        convolution = helper.make_node("Conv", [given, own, *bias], [result], result)
        convolution.attribute.extend(node.attribute)
        yield convolution
        if index:
            summed = node.output[0] if index == len(parts) - 1 else f"{result}.sum"
            yield helper.make_node("Add", [total, result], [summed], f"{result}.add")
            result = summed
        total, start = result, start + width


def _chain_before(
    name: str, kinds: tuple[str, ...], producers: dict[str, onnx.NodeProto]
) -> list[onnx.NodeProto] | None:
    """Nodes of these kinds, each of which made the first input of the one before it; None where they are others."""
    chain: list[onnx.NodeProto] = []
    for kind in kinds:
        node = producers.get(name)
        if node is None or node.op_type != kind:
            return None
        chain.append(node)
        name = node.input[0]
    return chain


def channels_in(model: onnx.ModelProto) -> dict[str, int]:
    """Size of the second axis of every tensor that the file gives the shape of."""
    graph = model.graph
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*graph.input, *graph.value_info, *graph.output)}
    return {name: dims[1].dim_value for name, dims in shapes.items() if len(dims) == 4 and dims[1].dim_value}


def set_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Let a graph have these nodes, some of which it may have had."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _is_float32(model: onnx.ModelProto, name: str) -> bool:
    return any(t.name == name and t.data_type == onnx.TensorProto.FLOAT for t in model.graph.initializer)


def _is_small(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    shape = next((list(tensor.dims) for tensor in model.graph.initializer if tensor.name == node.input[1]), None)
    return shape is not None and shape[0] <= FEW and shape[2:] == [3, 3] and len(weight_names(node)) == 2


def _value(model: onnx.ModelProto, name: str) -> Array:
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def _replace(model: onnx.ModelProto, name: str, value: Array) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
