"""The configuration of a checkpoint's network, of our safetensors files without loading PyTorch."""

from __future__ import annotations

from pathlib import Path

from ksnet_deploy.base.errors import CheckpointError, ConfigError
from ksnet_deploy.network.bundled import check_is_file, is_safetensors
from ksnet_deploy.network.config import KSNetConfig

__all__ = ["config_of", "notes_of"]


def config_of(path: Path) -> KSNetConfig:
    """The configuration of a checkpoint's network; of a file that carries one without loading PyTorch.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    check_is_file(path)
    text = _own_config(path)
    if text is None:  # of another tool
        from ksnet_deploy.network.checkpoints import load_checkpoint

        return load_checkpoint(path).config
    try:
        return KSNetConfig.from_json(text)
    except ConfigError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used: {error}") from error


def notes_of(path: Path) -> tuple[str, ...]:
    """Sentences on how a checkpoint is read; none, without loading PyTorch, for one of ours. Raises CheckpointError."""
    check_is_file(path)
    if path.suffix == ".safetensors" and _own_config(path) is not None:
        return ()
    from ksnet_deploy.network.checkpoints import load_checkpoint

    return load_checkpoint(path).notes


def _own_config(path: Path) -> str | None:
    """JSON of the configuration in a safetensors file of ours; None for others, and for damaged ones."""
    from safetensors import SafetensorError, safe_open

    try:
        if not is_safetensors(path):
            return None
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return metadata.get("config") if metadata.get("format") == "ksnet" else None
