"""Weights of a flow network: those of ``train-flow``, public SpyNet checkpoints, and those inside larger networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.base.words import counted
from ksnet_deploy.network.flow import SpyNet
from ksnet_deploy.network.weights_file import finite_float32, read_state_dict

__all__ = ["load_flow_weights"]

PARTS = ("spynet.", "flow.")
"""Prefix of the flow network in larger networks: BasicVSR's, and KSNet's."""


def load_flow_weights(path: Path, model: SpyNet) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights of a SpyNet under our names, float32, and notes for the user on how the file was read.

    Public checkpoints name a layer ``...<level>...<layer>.weight``, the layers counted with or without the ReLUs
    between them: BasicSR's ``basic_module.0.basic_module.2.weight``, MMEditing's
    ``basic_module.0.basic_module.1.conv.weight``. Of a larger network, only the flow network's part is taken.

    Raises:
        CheckpointError: the file cannot be read, is no SpyNet of this width, or holds a weight that is not finite.
    """
    state = read_state_dict(path, "flow weights")
    found, notes = _flow_part(state.tensors, path)
    expected = model.state_dict()
    renamed: dict[str, Tensor] = {}
    unknown = []
    finer = 0
    for name, tensor in found.items():
        ours = _flow_name(name)
        if ours in model.finer_levels:
            finer += 1
            continue
        if ours not in expected or ours in renamed:
            unknown.append(name)
        renamed[ours] = tensor
    if finer:
        notes.append(f"Of {path.name}, the {len(model.levels)} coarsest levels were taken, as many as the network has.")
    wrong = [name for name, tensor in expected.items() if name not in renamed or renamed[name].shape != tensor.shape]
    if wrong or unknown:
        faults = [
            f"{len(names)} of its {whole} tensors are {kind} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for names, whole, kind in (
                (wrong, len(expected), "missing or misshaped"),
                (unknown, len(found), "unknown"),
            )
            if names
        ]
        raise CheckpointError(
            f"{path} is no SpyNet of {model.channels} channels: {', and '.join(faults)}; uni takes 32 channels, lite 16"
        )
    return finite_float32(renamed, f"{path}"), (*state.notes, *notes)


def _flow_part(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the flow network, and a note where others were left out. Its means of images are constants."""
    for prefix in PARTS:
        part = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if part:
            left = len(tensors) - len(part)
            others = counted(left, "other tensor was", "other tensors were")
            notes = [f"Of {path.name}, '{prefix}' was taken; {others} left out."] if left else []
            return _without_constants(part), notes
    return _without_constants(tensors), []


def _without_constants(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in ("mean", "std")}


def _flow_name(name: str) -> str:
    match = re.fullmatch(r"(?:.*\D)?(\d+)\.(?:\w*\.)?(\d+)(\.conv)?\.(weight|bias)", name)
    if match is None:
        return ""
    layer = int(match[2]) * (2 if match[3] else 1)
    return f"levels.{match[1]}.{layer}.{match[4]}"
