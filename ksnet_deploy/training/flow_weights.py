"""Weights of a flow network: those of ``train-flow``, and public SpyNet checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.network.flow import SpyNet

__all__ = ["load_flow_weights"]


def load_flow_weights(path: Path, model: SpyNet) -> dict[str, Tensor]:
    """Weights of ``train-flow``, or of a public SpyNet, under our names.

    Public checkpoints name a layer ``...<level>...<layer>.weight``, the layers counted with or without the ReLUs
    between them: BasicSR's ``basic_module.0.basic_module.2.weight``, MMEditing's
    ``basic_module.0.basic_module.1.conv.weight``.

    Raises:
        CheckpointError: the file cannot be read, or is no SpyNet of this width.
    """
    if not path.is_file():
        raise CheckpointError(f"the flow weights {path} do not exist; give a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
            found = found.get("params", found.get("state_dict", found))
    except Exception as error:  # bytes that are no pickle make the unpickler raise almost anything
        raise CheckpointError(f"the flow weights {path} cannot be read ({type(error).__name__})") from error
    expected = model.state_dict()
    renamed = {_flow_name(name): tensor.float() for name, tensor in found.items() if _flow_name(name)}
    wrong = [name for name, tensor in expected.items() if name not in renamed or renamed[name].shape != tensor.shape]
    if wrong or len(renamed) != len(expected):
        raise CheckpointError(
            f"{path} is no SpyNet of {model.channels} channels: {len(wrong)} of its {len(expected)} tensors are "
            f"missing or misshaped{f' ({wrong[0]}, ...)' if wrong else ''}; uni takes 32 channels, lite 16"
        )
    return renamed


def _flow_name(name: str) -> str:
    match = re.fullmatch(r"(?:.*\D)?(\d+)\.(?:\w*\.)?(\d+)(\.conv)?\.(weight|bias)", name)
    if match is None:
        return ""
    layer = int(match[2]) * (2 if match[3] else 1)
    return f"levels.{match[1]}.{layer}.{match[4]}"
