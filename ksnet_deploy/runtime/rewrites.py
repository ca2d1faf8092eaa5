"""Exact rewrites, in memory, of an exported step for processors: other sums of the same products.

They are made when a file is loaded for a CPU, and not in the file, because a GPU's kernels have other preferences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ksnet_deploy.base.machine import is_x86
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
    if is_x86():  # on others it has not been measured
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
    end = _find_end(model)
    if end is None:
        return
    scale = _value(model, end.scaling.input[1])
    for name in weight_names(end.head):
        _replace(model, name, _value(model, name) * scale)
    kernel = _value(model, end.base.input[1])
    by_color = kernel.reshape(3, -1, *kernel.shape[2:]) * scale
    apart = np.zeros((by_color.shape[1], 3, 3, *kernel.shape[2:]), kernel.dtype)
    for color in range(3):
        apart[:, color, color] = by_color[color]
    _replace(model, end.base.input[1], apart.reshape(-1, 3, *kernel.shape[2:]))
    next(entry for entry in end.base.attribute if entry.name == "group").i = 1
    bounds = []
    for name in end.clip.input[1:]:
        bounds.append(f"{name}.scaled")
        model.graph.initializer.append(numpy_helper.from_array(_value(model, name) * scale, bounds[-1]))
    changed = {node.output[0] for node in (end.add, end.clip, end.rounding)}
    shapes = [value for value in model.graph.value_info if value.name not in changed]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    end.add.input[:] = [end.head.output[0], end.base.output[0]]
    last, blocks = f"{end.add.output[0]}.last", "hr.blocks"
    taken = helper.make_node("Transpose", [end.add.output[0]], [last], last, perm=[0, 2, 3, 1])
    end.clip.input[:] = [last, *bounds]
    end.rounding.input[:] = [end.clip.output[0]]
    end.cast.input[:] = [end.rounding.output[0]]
    end.cast.output[:] = [blocks]
    size = attribute(end.learned, "blocksize")
    woven = helper.make_node(SHUFFLE_LAST, [blocks], ["hr"], "hr.woven", domain=DOMAIN, blocksize=size)
    moved = (end.cast, end.transpose, end.rounding, end.scaling, end.clip, end.learned, end.enlarged)
    gone = {node.name for node in moved}
    kept = [node for node in model.graph.node if node.name not in gone]
    set_nodes(model, [*kept, taken, end.clip, end.rounding, end.cast, woven])


class _End(NamedTuple):
    """The nodes that make bytes of what a network learned and of the enlarged frame, from the last one on."""

    cast: onnx.NodeProto
    transpose: onnx.NodeProto
    rounding: onnx.NodeProto
    scaling: onnx.NodeProto
    clip: onnx.NodeProto
    add: onnx.NodeProto
    learned: onnx.NodeProto
    enlarged: onnx.NodeProto
    head: onnx.NodeProto
    base: onnx.NodeProto


def _find_end(model: onnx.ModelProto) -> _End | None:
    """The end of a graph where both summands come from pixel shuffles of one size, each after a convolution in float32,
    and nothing else reads what is between; else None."""
    producers = {output: node for node in model.graph.node for output in node.output}
    chain = _chain_before("hr", ("Cast", "Transpose", "Round", "Mul", "Clip", "Add"), producers)
    if chain is None:
        return None
    shuffles = [_chain_before(name, ("DepthToSpace", "Conv"), producers) for name in chain[-1].input]
    modes = {attribute(shuffle[0], "mode"): shuffle for shuffle in shuffles if shuffle is not None}
    if modes.keys() != {b"DCR", b"CRD"}:
        return None
    (learned, head), (enlarged, base) = modes[b"DCR"], modes[b"CRD"]
    cast, transpose, rounding, scaling, clip, add = chain
    end = _End(cast, transpose, rounding, scaling, clip, add, learned, enlarged, head, base)
    weights = [*weight_names(head), *weight_names(base)]
    readers = Counter(name for node in model.graph.node for name in node.input)
    alone = all(readers[name] == 1 for node in end[1:] for name in node.output) and all(
        readers[name] == 1 for name in weights
    )
    known = all(_is_float32(model, name) for name in (*weights, scaling.input[1], *clip.input[1:]))
    same = attribute(learned, "blocksize") == attribute(enlarged, "blocksize")
    by_color = attribute(base, "group") == 3 and len(base.input) == 2 and attribute(transpose, "perm") == [0, 2, 3, 1]
    return end if alone and known and same and by_color else None


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
