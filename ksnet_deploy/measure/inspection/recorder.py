"""Values of a network's forward pass, taken by hooks: the model's own code is not touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ksnet_deploy.network.channel_selection import MaskedLevel, SplitLevel
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops.reference import channel_scores

__all__ = ["BRANCHES", "FrameRecord", "LevelRecord", "record"]

BRANCHES = ("propagate", "refine")
"""The recurrent branches, by the names of their modules."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class LevelRecord:
    """One level of the channel selection in one branch, on one frame."""

    branch: str
    level: int
    """Number of the level, from 1."""
    lam: float
    """The learned weight of Eq. (2)."""
    features: Array
    """(C, H, W) channels that enter the level; those of the levels after the first are outputs of the one before."""
    scores: Array
    """(C,) distance from the temporal offset map as :func:`ksnet_deploy.ops.reference.channel_scores` gives it; the
    smallest are kept."""
    kept: NDArray[np.bool_]
    """(C,) whether a channel is high-value."""
    active: NDArray[np.bool_]
    """(C,) whether it was to be chosen from; all are, but with ``slots=masked``."""


@dataclass
class FrameRecord:
    """All that was seen of one frame."""

    lr: Array
    """(3, H, W) in [0, 1]."""
    hr: Array
    """(3, 4 H, 4 W)."""
    flow: Array | None = None
    """(2, H, W) flow to the frame before, dx before dy, in pixels; None for a network without flow."""
    offset: Array | None = None
    """(1, H, W) temporal offset map o of Eq. (2)."""
    levels: list[LevelRecord] = field(default_factory=list)
    """Levels that choose, of both branches; none for a keep ratio of 1."""


def record(model: KSNet, frames: Tensor) -> list[FrameRecord]:
    """Run a network over frames (T, 3, H, W) in [0, 1] from a fresh state, and keep what it computed for each.

    Of a network that runs in both directions the first branch meets the frames from the last to the first; its values
    are given to the frames that they are of, and the flow is that of the second branch, to the frame before.
    """
    seen: dict[str, list[Any]] = {"flow": []}
    handles = [*_hooks(model, seen)]
    try:
        with torch.inference_mode():
            hrs = model.forward_window(frames[None])[0]
    finally:
        for handle in handles:
            handle.remove()
    count = len(frames)
    records = [FrameRecord(_array(lr), _array(hr)) for lr, hr in zip(frames, hrs, strict=True)]
    for frame, flow in zip(records, seen["flow"][-count:], strict=False):
        frame.flow = flow
    for branch in BRANCHES:
        backward = model.config.direction == "bi" and branch == "propagate"
        order = records[::-1] if backward else records
        for name, values in seen.items():
            if name == f"{branch}.offset" and not backward:
                for frame, offset in zip(order, values, strict=True):
                    frame.offset = offset
            elif name.startswith(f"{branch}.level"):
                for frame, level in zip(order, values, strict=True):
                    frame.levels.append(level)
    return records


def _hooks(model: KSNet, seen: dict[str, list[Any]]) -> list[Any]:
    """Register hooks that add to ``seen`` at every call; what they return is to be removed."""
    handles = []
    if model.flow is not None:
        handles.append(model.flow.register_forward_hook(lambda _m, _x, y: seen["flow"].append(_array(y[0]))))
    for branch in BRANCHES:
        select = getattr(model, branch).select
        offsets = seen.setdefault(f"{branch}.offset", [])
        handles.append(select.register_forward_pre_hook(_taker(offsets, lambda x: _array(x[1][0]))))
        for number, level in enumerate(select.levels, 1):
            if getattr(level, "selects", True):
                values = seen.setdefault(f"{branch}.level{number}", [])
                handles.append(level.register_forward_pre_hook(_taker(values, _level_reader(level, branch, number))))
    return handles


def _taker(into: list[Any], read: Callable[[Any], Any]) -> Callable[[nn.Module, Any], None]:
    return lambda _module, inputs: into.append(read(inputs))


def _level_reader(level: SplitLevel | MaskedLevel, branch: str, number: int) -> Callable[[Any], LevelRecord]:
    """Reads a level's inputs: (f, o), or (con, o, active) of masked slots."""

    def read(inputs: tuple[Tensor, ...]) -> LevelRecord:
        f, o = inputs[:2]
        scores = channel_scores(f, o, level.lam)[0]
        active = torch.ones_like(scores, dtype=torch.bool) if len(inputs) == 2 else inputs[2][0, :, 0, 0] > 0.5
        order = torch.argsort(scores.masked_fill(~active, torch.inf), stable=True)  # as topk_split does
        kept = torch.zeros_like(active)
        kept[order[: level.c_keep]] = True
        return LevelRecord(
            branch,
            number,
            float(level.lam),
            _array(f[0]),
            _array(scores),
            kept.numpy(force=True).copy(),
            active.numpy(force=True).copy(),
        )

    return read


def _array(tensor: Tensor) -> Array:
    return tensor.detach().float().cpu().numpy().copy()
