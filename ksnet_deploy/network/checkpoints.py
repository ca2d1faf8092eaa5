"""Checkpoints: safetensors files with the network's configuration in their metadata (and ``.pth`` for reading).

Metadata keys, all strings: ``format`` ("ksnet"), ``config`` (JSON of KSNetConfig), ``training`` (free text on the
run), ``licence`` (of the weights, which follows the training data).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ksnet_deploy.base.errors import CheckpointError, ConfigError
from ksnet_deploy.base.files import replacing, sha256_of
from ksnet_deploy.network.bundled import check_is_file
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import KSNet

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = "ksnet"
PTH_SUFFIXES = (".pth", ".pt")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded weights file."""

    model: KSNet
    """In training form (unfolded), float32, evaluation mode, on the CPU."""
    path: Path
    sha256: str
    """Of the file."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> KSNetConfig:
        return self.model.config


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint into a new network.

    Half-precision weights are widened to float32. A ``.pth`` without a configuration is read as KSNet-uni.

    Raises:
        CheckpointError: the file is missing or broken, or a weight is missing, unknown, misshaped or not finite.
    """
    check_is_file(path)
    tensors, metadata = _read_pth(path) if path.suffix in PTH_SUFFIXES else _read_safetensors(path)
    try:
        config = KSNetConfig.from_json(metadata["config"])
    except ConfigError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used: {error}") from error
    model = KSNet(config)
    _check_keys(path, model.state_dict(), tensors)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"the checkpoint {path} holds NaN or infinity in '{name}'; use an earlier checkpoint of that training"
            )
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return Checkpoint(model.eval(), path, sha256_of(path), metadata)


def save_checkpoint(
    model: KSNet, path: Path, *, training: str, licence: str, dtype: torch.dtype = torch.float32
) -> None:
    """Write the training form of a network, atomically.

    Args:
        training: what produced the weights, for people.
        licence: terms of the weights.
        dtype: storage type; float16 halves the file.
    """
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"format": FORMAT, "config": model.config.to_json(), "training": training, "licence": licence}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read as safetensors ({error}); it is damaged or of another format"
        ) from error
    if metadata.get("format") != FORMAT or "config" not in metadata:
        raise CheckpointError(
            f"the checkpoint {path} carries no KSNet configuration; save it with "
            "ksnet_deploy.network.checkpoints.save_checkpoint"
        )
    return tensors, metadata


def _read_pth(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle make the unpickler raise almost anything
        raise CheckpointError(
            f"the checkpoint {path} cannot be read as a plain dictionary of tensors "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "it is damaged, or holds pickled objects, which are refused because they can run code"
        ) from error
    config = KSNetConfig().to_json()
    if isinstance(content, dict) and isinstance(content.get("config"), str):
        config = content["config"]
    for key in ("state_dict", "params", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CheckpointError(f"the checkpoint {path} holds no dictionary of tensors; expected a PyTorch state_dict")
    return dict(content), {"format": FORMAT, "config": config}


def _check_keys(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    misshaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unknown", unknown), ("misshaped", misshaped))
        if names
    ]
    if faults:
        raise CheckpointError(
            f"the checkpoint {path} does not fit its network: of {len(expected)} weights, {'; '.join(faults)}; "
            "its configuration and its weights belong to different networks"
        )
