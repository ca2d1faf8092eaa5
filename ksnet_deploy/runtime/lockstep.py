"""ONNX Runtime in lockstep over tiles: an exported step, cut into pieces where it ranks its channels.

For a single frame the pieces compute what the whole graph does; ``tiles.py`` says what they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.ops.functions import DOMAIN, TOPK_SPLIT
from ksnet_deploy.runtime.int8 import IN_INT8, check_int8
from ksnet_deploy.runtime.onnx import SHARED, open_session, share_memory, use_fastest_operators
from ksnet_deploy.runtime.pieces import WEIGHT, Piece, PiecesRunner, part_names, scores_name
from ksnet_deploy.runtime.places import AXES, attention_name, enlarging_name, own_name, seen_name
from ksnet_deploy.runtime.rewrites import set_nodes
from ksnet_deploy.runtime.step_file import exported_metadata, frame_type, is_int8, load_step
from ksnet_deploy.runtime.tiles import padded

__all__ = ["CHANNEL_SCORES", "LockstepOnnxRunner", "cut_at_rankings", "cut_step"]

CHANNEL_SCORES = "KsChannelScores"


class LockstepOnnxRunner(PiecesRunner):
    """Runs an exported step that pauses at every ranking."""

    backend = "onnxruntime"

    def __init__(
        self,
        path: Path,
        size: FrameSize,
        *,
        device: str = "cpu",
        rewrite: Callable[[onnx.ModelProto], None] | None = None,
    ) -> None:
        """Load a static file for frames of this size; arguments as for OnnxRunner."""
        model = load_step(path, size)
        kernel = use_fastest_operators(model, device, rewrite)
        if kernel is not None and kernel.note is not None:
            self.notes = (kernel.note,)
        if is_int8(model):
            check_int8(device)
            self.notes = (*self.notes, IN_INT8)
        pieces = cut_step(model)
        step = exported_metadata(model).get("ksnet.step", "step")
        super().__init__(size, frame_type(path, model), [kinds_of(piece) for piece in pieces], step)
        self._device = device
        share_memory()
        self._pieces = [open_session(path, piece, device, SHARED, kernel=kernel) for piece in pieces]
        self._outputs = [[value.name for value in piece.graph.output] for piece in pieces]

    def _run(self, index: int, inputs: dict[str, Any]) -> dict[str, Any]:
        binding = self._pieces[index].io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs[index]:  # which by itself ONNX Runtime brings to the main memory
            binding.bind_output(name, self._device)
        self._pieces[index].run_with_iobinding(binding)
        return dict(zip(self._outputs[index], binding.get_outputs(), strict=True))

    def _to_device(self, array: NDArray[Any]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)

    def _to_host(self, value: ort.OrtValue) -> NDArray[Any]:
        array: NDArray[Any] = value.numpy()
        return array

    def _close(self) -> None:
        self.reset()
        del self._pieces


def cut_step(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """Pieces of a step for tiles: cut before every channel split, with what depends on a tile's place as inputs."""
    interpolate_by_place(model)
    pad_flow_by_place(model)
    return cut_at_rankings(model)


def kinds_of(piece: onnx.ModelProto) -> Piece:
    """Inputs and outputs of a piece, with their shapes and types."""

    def kinds(values: Iterable[onnx.ValueInfoProto]) -> dict[str, Any]:
        types = {value.name: value.type.tensor_type for value in values}
        return {
            name: (tuple(dim.dim_value for dim in kind.shape.dim), helper.tensor_dtype_to_np_dtype(kind.elem_type))
            for name, kind in types.items()
        }

    return kinds(piece.graph.input), kinds(piece.graph.output)


def interpolate_by_place(model: onnx.ModelProto) -> None:
    """Let what is stretched over the tile, the attention's map and the flow, be interpolated as inputs say."""
    graph, values = model.graph, _values(model)
    nodes: list[onnx.NodeProto] = []
    matrices: dict[str, onnx.ValueInfoProto] = {}
    for node in graph.node:
        if node.op_type != "Resize":
            nodes.append(node)
            continue
        source, target = node.input[0], node.output[0]
        (coarse, kind), (fine, _) = values[source], values[target]
        mode = next(a.s for a in node.attribute if a.name == "coordinate_transformation_mode")
        names = [
            enlarging_name(axis, coarse[at]) if mode == b"align_corners" else attention_name(axis)
            for at, axis in enumerate(AXES, 2)
        ]
        for name, shape in zip(names, ([fine[2], coarse[2]], [coarse[3], fine[3]]), strict=True):
            matrices[name] = helper.make_tensor_value_info(name, kind, shape)
        half = f"{target}.{AXES[0]}"
        nodes.append(helper.make_node("MatMul", [names[0], source], [half]))
        nodes.append(helper.make_node("MatMul", [half, names[1]], [target]))
        graph.value_info.append(helper.make_tensor_value_info(half, kind, [*coarse[:2], fine[2], coarse[3]]))
    set_nodes(model, nodes)
    graph.input.extend(matrices.values())


def pad_flow_by_place(model: onnx.ModelProto) -> None:
    """Let inputs say where the frames that the flow network sees are filled up, and what of its flow is the tile's."""
    graph, values = model.graph, _values(model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    whole = [padded(length) for length in values["lr"][0][1:3]]

    def names_by_axis(node: onnx.NodeProto) -> dict[int, str]:
        """Inputs that say what a node takes of its own, along each axis that it changes; none for other nodes."""
        if node.op_type not in ("Pad", "Slice"):
            return {}
        before, after = values[node.input[0]][0], values[node.output[0]][0]
        if node.op_type == "Pad":
            # Here the frame is filled up at its end; the bicubic enlargement pads it on all four sides.
            at_its_end = after[2:] == whole and not numpy_helper.to_array(constants[node.input[1]])[:4].any()
            name_of = seen_name if at_its_end else None
        else:
            name_of = own_name if before[:2] == after[:2] == [1, 2] else None
        return {at: name_of(axis) for at, axis in enumerate(AXES, 2) if name_of and before[at] != after[at]}

    nodes: list[onnx.NodeProto] = []
    lengths: dict[str, int] = {}
    for node in graph.node:
        names = names_by_axis(node)
        if not names:
            nodes.append(node)
            continue
        source, target = node.input[0], node.output[0]
        (shape, kind), (after, _) = values[source], values[target]
        for at, name in names.items():
            lengths[name] = after[at]
            shape = [*shape[:at], after[at], *shape[at + 1 :]]
            output = target if shape == after else f"{target}.{AXES[0]}"
            nodes.append(helper.make_node("Gather", [source, name], [output], axis=at))
            if output != target:
                graph.value_info.append(helper.make_tensor_value_info(output, kind, shape))
            source = output
    set_nodes(model, nodes)
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.INT64, [n]) for name, n in lengths.items())


def cut_at_rankings(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """Cut a step before every channel split.

    A piece ends with the scores that the next split needs, and computes only what these need; the split itself takes
    the channels as an input. Every tensor that passes from piece to piece is an output of one and an input of others.
    """
    graph = model.graph
    known = {value.name: value for value in [*graph.input, *graph.output, *graph.value_info]}
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    height, width = (dim.dim_value for dim in known["lr"].type.tensor_type.shape.dim[1:3])
    known[WEIGHT] = helper.make_tensor_value_info(WEIGHT, TensorProto.FLOAT, [1, 1, height, width])

    nodes: list[onnx.NodeProto] = []
    rankings: list[str] = []
    for node in graph.node:
        if node.op_type != TOPK_SPLIT:
            nodes.extend([] if node.op_type == "Constant" else [node])
            continue
        index, features = len(rankings), node.input[0]
        channels = known[features].type.tensor_type.shape.dim[1].dim_value
        rankings.append(scores_name(index))
        known[scores_name(index)] = helper.make_tensor_value_info(scores_name(index), TensorProto.FLOAT, [1, channels])
        nodes.append(helper.make_node(CHANNEL_SCORES, [*node.input, WEIGHT], [scores_name(index)], domain=DOMAIN))
        for part, output in zip(part_names(index), node.output, strict=True):
            size = known[output].type.tensor_type.shape.dim[1].dim_value
            known[part] = helper.make_tensor_value_info(part, TensorProto.INT64, [size])
            nodes.append(helper.make_node("Gather", [features, part], [output], axis=1))

    piece_of = _first_needed(nodes, rankings)
    functions = [f for f in model.functions if f.name != TOPK_SPLIT]
    if rankings:  # of which a file with a static split has none
        functions.append(_channel_scores(model))
    pieces = []
    for index in range(len(rankings) + 1):
        mine = [node for node, piece in zip(nodes, piece_of, strict=True) if piece == index]
        made = {name for node in mine for name in node.output}
        used = dict.fromkeys(name for node in mine for name in node.input if name)
        later = {name for node, piece in zip(nodes, piece_of, strict=True) if piece > index for name in node.input}
        results = later | {value.name for value in graph.output} | {scores_name(index)}
        # What is an input of the whole and also a result, handed through unchanged, is not in ``made``.
        piece = helper.make_graph(
            [*(constants[name] for name in used if name in constants), *mine],
            f"piece_{index}",
            [known[name] for name in used if name not in made | constants.keys() | weights.keys()],
            [known[name] for name in sorted(made & results)],
            [weights[name] for name in used if name in weights],
        )
        pieces.append(
            helper.make_model(piece, opset_imports=model.opset_import, functions=functions, ir_version=model.ir_version)
        )
    return pieces


def _values(model: onnx.ModelProto) -> dict[str, tuple[list[int], int]]:
    """Shape and element type of every tensor that the file gives them of."""
    graph = model.graph
    types = {value.name: value.type.tensor_type for value in [*graph.input, *graph.output, *graph.value_info]}
    return {name: ([dim.dim_value for dim in kind.shape.dim], kind.elem_type) for name, kind in types.items()}


def _first_needed(nodes: list[onnx.NodeProto], rankings: list[str]) -> list[int]:
    """First ranking that needs each node, or their number where none does."""
    needed = [{name} for name in rankings]
    pieces = []
    for node in reversed(nodes):
        piece = next((i for i, names in enumerate(needed) if names.intersection(node.output)), len(rankings))
        if piece < len(rankings):
            needed[piece].update(node.input)
        pieces.append(piece)
    return pieces[::-1]


def _channel_scores(model: onnx.ModelProto) -> onnx.FunctionProto:
    """The scoring half of the split's function body, with a weight for every pixel instead of a mean."""
    split = next(function for function in model.functions if function.name == TOPK_SPLIT)
    end = next(i for i, node in enumerate(split.node) if "excess" in node.output) + 1
    axes = next(node for node in split.node if "axes23" in node.output)
    weighing = [
        helper.make_node("Mul", ["excess", WEIGHT], ["weighted_excess"]),
        helper.make_node("ReduceSum", ["weighted_excess", "axes23"], ["scores"], keepdims=0),
    ]
    return helper.make_function(
        DOMAIN,
        CHANNEL_SCORES,
        [*split.input, WEIGHT],
        ["scores"],
        [*split.node[:end], axes, *weighing],
        split.opset_import,
    )
