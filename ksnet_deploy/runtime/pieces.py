"""Steps in pieces, which pause between them: what ONNX Runtime and engines have in common.

``lockstep.py`` cuts them, and runs them in ONNX Runtime; ``tensorrt/pieces.py`` runs engines of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, SavedState, fitting_state, reset_planes
from ksnet_deploy.runtime.places import PLACE, inputs_of_place
from ksnet_deploy.runtime.tiles import LockstepRunner, PausedStep, TilePlace, run_alone

__all__ = ["WEIGHT", "Piece", "PiecesRunner", "part_names", "scores_name"]

WEIGHT = "score_weight"
"""Input of the pieces: what each pixel counts in the scores."""

Kind = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and type of a tensor."""
Piece = tuple[Mapping[str, Kind], Mapping[str, Kind]]
"""Inputs and outputs of a piece, by name."""


class PiecesRunner(LockstepRunner):
    """Runs pieces one after the other; every piece but the last ends with the scores of a ranking, which the frame's
    own take the place of. Tensors stay on the device between the pieces, states and pictures in the main memory."""

    def __init__(self, size: FrameSize, io: FrameType, pieces: Sequence[Piece], step: str) -> None:
        """``step`` is the name of the network's step."""
        super().__init__(size, io)
        self.takes = ("prop",) if step == "refine" else ()
        self.gives = "prop" if step == "propagate" else "hr"
        inputs: dict[str, Kind] = {name: kind for taken, _ in pieces for name, kind in taken.items()}
        self._zeros: SavedState = {
            name.removeprefix(STATE_PREFIX): np.zeros(*kind)
            for name, kind in inputs.items()
            if name.startswith(STATE_PREFIX)
        }
        self._place_types = {name: kind[1] for name, kind in inputs.items() if name.startswith(PLACE)}
        self._part_kinds = [inputs[part_names(index)[0]] for index in range(len(pieces) - 1)]
        self._inputs = [[*taken] for taken, _ in pieces]
        self._feature_kinds = {name: inputs[name][1] for name in self.takes}
        self._state: SavedState = {}

    @abstractmethod
    def _run(self, index: int, inputs: dict[str, Any]) -> dict[str, Any]:
        """Outputs of a piece, on the device."""

    @abstractmethod
    def _to_device(self, array: NDArray[Any]) -> Any: ...

    @abstractmethod
    def _to_host(self, value: Any) -> NDArray[Any]: ...

    def begin_step(self, lr: NDArray[Any], state: SavedState, place: TilePlace, *features: NDArray[Any]) -> PausedStep:
        state = fitting_state(state, self._zeros) if state else self._zeros | {"prev_lr": reset_planes(lr)[None]}
        given = {"lr": lr[None], WEIGHT: place.weight[None, None]}
        for name, array in zip(self.takes, features, strict=True):
            given[name] = np.ascontiguousarray(array, self._feature_kinds[name])
        placed = inputs_of_place(self.size, place)
        given |= {name: np.ascontiguousarray(placed[name], kind) for name, kind in self._place_types.items()}
        given |= {STATE_PREFIX + name: np.ascontiguousarray(array) for name, array in state.items()}
        values = {name: self._to_device(array) for name, array in given.items()}
        del given
        last = len(self._part_kinds)
        for index in range(last + 1):
            values |= self._run(index, {name: values[name] for name in self._inputs[index]})
            if index == last:
                break
            scores = yield self._to_host(values.pop(scores_name(index)))[0].astype(np.float64)
            needed = {NEXT_PREFIX + name for name in self._zeros}.union(*self._inputs[index + 1 :])
            values = {name: value for name, value in values.items() if name in needed}
            (kept,), kind = self._part_kinds[index]
            parts = np.split(scores.argsort(kind="stable"), [kept])
            for part, channels in zip(part_names(index), parts, strict=True):
                values[part] = self._to_device(np.sort(channels).astype(kind))
        following = {name: self._to_host(values[NEXT_PREFIX + name]) for name in self._zeros}
        result = self._to_host(values[self.gives])
        return result[0] if self.gives == "hr" else result, following

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        step = self.begin_step(lr, self._state, TilePlace.whole(self.size), *features)
        result, self._state = run_alone(step)
        return result

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


def scores_name(index: int) -> str:
    """Output of a piece: the scores of its ranking."""
    return f"scores.{index}"


def part_names(index: int) -> tuple[str, str]:
    """Inputs that say which channels the split of a ranking keeps, and which not."""
    return f"kept.{index}", f"rest.{index}"
