"""ONNX Runtime in lockstep over tiles: an exported step, cut into pieces where it ranks its channels.

For a single frame the pieces compute what the whole graph does; ``tiles.py`` says what they are for.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.ops.functions import DOMAIN, TOPK_SPLIT
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, SavedState, fitting_state, reset_planes
from ksnet_deploy.runtime.onnx import SHARED, open_session, share_memory, use_align_kernel, use_device_operators
from ksnet_deploy.runtime.step_file import features_taken, frame_type, load_step, result_name, zero_state
from ksnet_deploy.runtime.tiles import RASTER, LockstepRunner, PausedStep, TilePlace, run_alone

__all__ = ["LockstepOnnxRunner", "cut_at_rankings"]

CHANNEL_SCORES = "KsChannelScores"
WEIGHT = "score_weight"
ROWS, COLUMNS = "attention.rows", "attention.columns"
"""Inputs of the pieces: what each pixel counts in the scores, and how the attention's coarse map is interpolated."""


class LockstepOnnxRunner(LockstepRunner):
    """Runs an exported step that pauses at every ranking."""

    backend = "onnxruntime"

    def __init__(self, path: Path, size: FrameSize, *, device: str = "cpu") -> None:
        """Load a static file for frames of this size; arguments as for OnnxRunner."""
        model = load_step(path, size)
        super().__init__(size, frame_type(path, model))
        self.takes, self.gives = tuple(features_taken(model)), result_name(model)
        self._device = device
        self._zeros = zero_state(model, size)
        self._state: SavedState = {}
        use_device_operators(device)(model)
        kernel = use_align_kernel(model, device)
        self._map_type = interpolate_by_place(model)
        pieces = cut_at_rankings(model)
        self._kept = [_kept(piece) for piece in pieces[1:]]
        share_memory()
        self._pieces = [open_session(path, piece, device, SHARED, kernel=kernel) for piece in pieces]
        self._inputs = [[value.name for value in piece.graph.input] for piece in pieces]
        self._outputs = [[value.name for value in piece.graph.output] for piece in pieces]

    def begin_step(self, lr: NDArray[Any], state: SavedState, place: TilePlace, *features: NDArray[Any]) -> PausedStep:
        state = fitting_state(state, self._zeros) if state else self._zeros | {"prev_lr": reset_planes(lr)[None]}
        arrays = {"lr": self._to_device(lr[None]), WEIGHT: self._to_device(place.weight[None, None])}
        arrays |= {
            name: self._to_device(np.ascontiguousarray(array)) for name, array in zip(self.takes, features, strict=True)
        }
        rows = _interpolation(self.size.height, place.top, place.frame.height)
        columns = _interpolation(self.size.width, place.left, place.frame.width)
        for name, matrix in ((ROWS, rows), (COLUMNS, columns.T)):
            arrays[name] = self._to_device(np.ascontiguousarray(matrix, self._map_type))
        arrays |= {STATE_PREFIX + name: self._to_device(np.ascontiguousarray(array)) for name, array in state.items()}
        for index, session in enumerate(self._pieces):
            wanted, given = self._outputs[index], {name: arrays[name] for name in self._inputs[index]}
            arrays |= zip(wanted, session.run_with_ort_values(wanted, given), strict=True)
            if index == len(self._kept):
                break
            scores = yield arrays.pop(_scores(index)).numpy()[0].astype(np.float64)
            needed = {NEXT_PREFIX + name for name in self._zeros}.union(*self._inputs[index + 1 :])
            arrays = {name: value for name, value in arrays.items() if name in needed}
            kept, rest = np.split(scores.argsort(kind="stable"), [self._kept[index]])
            for part, channels in zip(_parts(index), (kept, rest), strict=True):
                arrays[part] = self._to_device(np.sort(channels))
        following = {name: arrays[NEXT_PREFIX + name].numpy() for name in self._zeros}
        result = arrays[self.gives].numpy()
        return result[0] if self.gives == "hr" else result, following

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        step = self.begin_step(lr, self._state, TilePlace.whole(self.size), *features)
        result, self._state = run_alone(step)
        return result

    def _to_device(self, array: NDArray[Any]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)

    def reset(self) -> None:
        self._state = {}

    @property
    def state(self) -> SavedState:
        return {name: array.copy() for name, array in self._state.items()}

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._check_open()
        fitting = fitting_state(saved, self._zeros) if saved else {}
        self._state = {name: array.copy() for name, array in fitting.items()}

    def _close(self) -> None:
        self.reset()
        del self._pieces


def _scores(index: int) -> str:
    return f"scores.{index}"


def _parts(index: int) -> tuple[str, str]:
    """Inputs that say which channels the split of a ranking keeps, and which not."""
    return f"kept.{index}", f"rest.{index}"


def _kept(piece: onnx.ModelProto) -> int:
    value = next(value for value in piece.graph.input if value.name.startswith("kept."))
    size: int = value.type.tensor_type.shape.dim[0].dim_value
    return size


def _coarse(length: int) -> int:
    """Points of the attention's map along a side: a convolution 3 of stride 2, then a pooling 7 of stride 3."""
    return ((length - 3) // 2 + 1 - 7) // 3 + 1


@cache
def _interpolation(length: int, start: int, frame: int) -> NDArray[np.float32]:
    """(length, coarse): the part of a frame's bilinear interpolation that falls on a tile, with the tile's points."""
    at = (start + np.arange(length) + 0.5) * _coarse(frame) / frame - 0.5
    at = np.clip(np.clip(at, 0, _coarse(frame) - 1) - start / RASTER, 0, _coarse(length) - 1)
    matrix: NDArray[np.float32] = np.maximum(1 - np.abs(at[:, None] - np.arange(_coarse(length))), 0).astype(np.float32)
    return matrix


def interpolate_by_place(model: onnx.ModelProto) -> np.dtype[Any]:
    """Let the attention's interpolation, instead of stretching the map over the tile, be given as two inputs.

    Returns their type.
    """
    graph = model.graph
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.value_info}
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        mode = next((a.s for a in node.attribute if a.name == "coordinate_transformation_mode"), b"align_corners")
        if node.op_type != "Resize" or mode == b"align_corners":  # the latter is the flow's
            nodes.append(node)
            continue
        coarse, fine = shapes[node.input[0]], shapes[node.output[0]]
        half = f"{node.output[0]}.rows"
        nodes.append(helper.make_node("MatMul", [ROWS, node.input[0]], [half]))
        nodes.append(helper.make_node("MatMul", [half, COLUMNS], [node.output[0]]))
        kind = types[node.input[0]]
        graph.value_info.append(helper.make_tensor_value_info(half, kind, [*coarse[:2], fine[2], coarse[3]]))
    del graph.node[:]
    graph.node.extend(nodes)
    for name, shape in ((ROWS, [fine[2], coarse[2]]), (COLUMNS, [coarse[3], fine[3]])):
        graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    return helper.tensor_dtype_to_np_dtype(kind)


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
        rankings.append(_scores(index))
        known[_scores(index)] = helper.make_tensor_value_info(_scores(index), TensorProto.FLOAT, [1, channels])
        nodes.append(helper.make_node(CHANNEL_SCORES, [*node.input, WEIGHT], [_scores(index)], domain=DOMAIN))
        for part, output in zip(_parts(index), node.output, strict=True):
            size = known[output].type.tensor_type.shape.dim[1].dim_value
            known[part] = helper.make_tensor_value_info(part, TensorProto.INT64, [size])
            nodes.append(helper.make_node("Gather", [features, part], [output], axis=1))

    piece_of = _first_needed(nodes, rankings)
    functions = [*(f for f in model.functions if f.name != TOPK_SPLIT), _channel_scores(model)]
    pieces = []
    for index in range(len(rankings) + 1):
        mine = [node for node, piece in zip(nodes, piece_of, strict=True) if piece == index]
        made = {name for node in mine for name in node.output}
        used = dict.fromkeys(name for node in mine for name in node.input if name)
        later = {name for node, piece in zip(nodes, piece_of, strict=True) if piece > index for name in node.input}
        results = later | {value.name for value in graph.output} | {_scores(index)}
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
