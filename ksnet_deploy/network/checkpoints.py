"""Checkpoints: safetensors files with the network's configuration in their metadata.

Metadata keys, all strings: ``format`` ("ksnet"), ``config`` (JSON of KSNetConfig), ``training`` (free text on the
run), ``licence`` (of the weights, which follows the training data), ``sha256`` (checksum of all else). Files of other
tools are read too, as far as ``weights_file.py`` understands them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ksnet_deploy.base.errors import CheckpointError, ConfigError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import KSNet, new_network
from ksnet_deploy.network.weights_file import StateDict, finite_float32, read_state_dict, save_state_dict

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = "ksnet"
SIZES = ("uni", "lite", "paper")
Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""Shapes of weights by their names."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded weights file."""

    model: KSNet
    """Network in training form (unfolded), float32, evaluation mode, on the CPU."""
    path: Path
    sha256: str
    """Hexadecimal SHA-256 of the file."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Sentences for the user: what was assumed, chosen or left out on reading."""

    @property
    def config(self) -> KSNetConfig:
        return self.model.config


def load_checkpoint(path: Path, assumed: KSNetConfig | None = None) -> Checkpoint:
    """Load a checkpoint into a new network.

    Half-precision weights are widened to float32.

    Args:
        assumed: configuration of a file that carries none; without it, the size that alone fits the weights.

    Raises:
        CheckpointError: the file is missing or broken, a weight is missing, unknown, misshaped or not finite, or the
            file carries no configuration and several sizes fit.
    """
    state = read_state_dict(path)
    notes = state.notes
    try:
        if state.config is not None:
            config = KSNetConfig.from_json(state.config)
        elif assumed is not None:
            config = assumed
        else:
            config, note = _fitting(state, path)
            notes = (*notes, note)
        model = new_network(config)
    except ConfigError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used: {error}") from error
    _check_keys(path, model.state_dict(), state.tensors)
    model.load_state_dict(finite_float32(state.tensors, f"the checkpoint {path}"))
    return Checkpoint(model.eval(), path, sha256_of(path), state.metadata, notes)


def save_checkpoint(
    model: KSNet, path: Path, *, training: str, licence: str, dtype: torch.dtype = torch.float32
) -> None:
    """Write the training form of a network, atomically.

    Args:
        training: what produced the weights, for people.
        licence: terms of the weights.
        dtype: storage type; float16 halves the file.

    Raises:
        CheckpointError: a weight is not finite in that type.
    """
    tensors = {name: tensor.detach().to("cpu", dtype) for name, tensor in model.state_dict().items()}
    metadata = {"format": FORMAT, "config": model.config.to_json(), "training": training, "licence": licence}
    save_state_dict(tensors, path, metadata)


def _fitting(state: StateDict, path: Path) -> tuple[KSNetConfig, str]:
    """The named size that weights without a configuration fit, and a note that says so."""
    if state.metadata.get("format") == "spynet":
        raise CheckpointError(
            f"the checkpoint {path} holds a flow network alone, as train-flow writes it; give it to train with --flow"
        )
    shapes = _shapes(state.tensors)
    fitting = [name for name in SIZES if _shapes_of(name) == shapes]
    if not fitting:
        nearest = min(SIZES, key=lambda name: _differences(_shapes_of(name), shapes)[0])
        count, differences = _differences(_shapes_of(nearest), shapes)
        whole = len(_shapes_of(nearest))
        near = f" (nearest is {nearest}: of {whole} weights, {differences})" if 2 * count < whole else ""
        raise CheckpointError(
            f"the checkpoint {path} carries no KSNet configuration, and its weights fit none of {', '.join(SIZES)}"
            f"{near}; save the network's own weights and no others, or say which settings it has with 'ksnet-deploy "
            "convert --size ... --set ...'"
        )
    if len(fitting) > 1:
        raise CheckpointError(
            f"the checkpoint {path} carries no configuration, and its weights fit {' and '.join(fitting)}, which give "
            f"other pictures; say which with 'ksnet-deploy convert {path} NEW.safetensors --size "
            f"{' or --size '.join(fitting)}' (and --set for other settings), and use the new file"
        )
    return KSNetConfig.named(fitting[0]), (
        f"{path.name} carries no configuration; by its weights it was taken for {fitting[0]} with its usual settings."
    )


@cache
def _shapes_of(size: str) -> Shapes:
    """Shapes of a named size's weights, by their names."""
    with torch.random.fork_rng(devices=[]):  # a training's own random numbers stay what they are
        model = KSNet(KSNetConfig.named(size))
    return _shapes(model.state_dict())


def _check_keys(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    _, faults = _differences(
        *({name: tuple(tensor.shape) for name, tensor in side.items()} for side in (expected, found))
    )
    if faults:
        raise CheckpointError(
            f"the checkpoint {path} does not fit its network: of {len(expected)} weights, {faults}; its configuration "
            "and its weights belong to different networks"
        )


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _differences(expected: Shapes, found: Shapes) -> tuple[int, str]:
    """Number of the weights that are not as expected, and which they are, in words."""
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "misshaped": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    }
    words = (
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in kinds.items()
        if names
    )
    return sum(map(len, kinds.values())), "; ".join(words)
