"""Weights to start from: all of a network, or what fits of one that is built a little differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.network.checkpoints import SIZES, load_checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import KSNet

__all__ = ["initialise"]


def initialise(
    model: KSNet, path: Path, *, partial: bool = False, on_note: Callable[[str], None] = lambda _sentence: None
) -> list[str]:
    """Load a checkpoint's weights into the network to train.

    Args:
        partial: take the layers of which all tensors fit by name and shape, and leave the others as they are.
        on_note: told how the file was read, where that leaves a choice.

    Returns:
        Names of the modules that got nothing and so start anew; the largest ones that hold all of it. Empty when all
        was loaded.

    Raises:
        CheckpointError: the checkpoint cannot be read; or it holds another network, and ``partial`` is not given or
            nothing fits.
    """
    checkpoint = load_checkpoint(path, None if partial else model.config)
    for note in checkpoint.notes:
        on_note(note)
    found, expected = checkpoint.model.state_dict(), model.state_dict()
    misfits = {name for name in expected if name not in found or found[name].shape != expected[name].shape}
    # A layer is taken whole: a bias without its weights would be another layer's.
    layers = {name.rpartition(".")[0] for name in misfits}
    fitting = {name: found[name] for name in expected if name.rpartition(".")[0] not in layers}
    if misfits or len(found) != len(expected):
        differing = _changes(model.config, checkpoint.config)
        what = f"{path} holds another network than the one to train{f' ({differing})' if differing else ''}"
        if not fitting:
            raise CheckpointError(f"{what}, of which nothing fits; choose another --init")
        if not partial:
            raise CheckpointError(
                f"{what}; train that one{_options(model.config, checkpoint.config)}, choose another --init, or take "
                f"the {len(fitting)} of {len(expected)} tensors that fit with --init-partial"
            )
    changes = _changes(checkpoint.config, model.config)
    if not misfits and changes:
        on_note(f"{path} was trained with other settings; its weights are taken for {changes}.")
    model.load_state_dict(fitting, strict=False)
    return _modules(set(expected) - set(fitting), set(expected))


def _differing(before: KSNetConfig, after: KSNetConfig) -> list[tuple[str, object, object]]:
    """Settings that two configurations have otherwise: the name and both values."""
    old, new = asdict(before), asdict(after)
    return [(name, old[name], new[name]) for name in new if new[name] != old[name]]


def _changes(before: KSNetConfig, after: KSNetConfig) -> str:
    return ", ".join(f"{name} {new} instead of {old}" for name, old, new in _differing(before, after))


def _options(given: KSNetConfig, wanted: KSNetConfig) -> str:
    """`` with --set flow_levels=6``, which makes one configuration another, or its ``--size``; empty where they are
    equal."""
    named = next((size for size in SIZES if given != wanted == KSNetConfig.named(size)), None)
    if named is not None:
        return f" with --size {named} and no --set"
    settings = [f"--set {name}={str(new).lower()}" for name, _, new in _differing(given, wanted)]
    return f" with {' '.join(settings)}" if settings else ""


def _modules(new: set[str], names: set[str]) -> list[str]:
    """The largest modules of which all tensors are new, in the order of names."""
    kept = names - new
    modules = set()
    for name in new:
        parts = name.split(".")
        prefixes = [".".join(parts[:depth]) for depth in range(1, len(parts))]
        whole = (prefix for prefix in prefixes if not any(other.startswith(f"{prefix}.") for other in kept))
        modules.add(next(whole, name))
    return sorted(modules)
