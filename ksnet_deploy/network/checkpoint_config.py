"""The configuration of a checkpoint's network, of a .safetensors file without loading PyTorch."""

from __future__ import annotations

from pathlib import Path

from ksnet_deploy.base.errors import CheckpointError, ConfigError
from ksnet_deploy.network.bundled import check_is_file
from ksnet_deploy.network.config import KSNetConfig

__all__ = ["config_of"]


def config_of(path: Path) -> KSNetConfig:
    """The configuration of a checkpoint's network; of a .safetensors file without loading PyTorch.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    check_is_file(path)
    if path.suffix != ".safetensors":
        from ksnet_deploy.network.checkpoints import load_checkpoint

        return load_checkpoint(path).config
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return KSNetConfig.from_json((file.metadata() or {})["config"])
    except (SafetensorError, OSError, KeyError, ConfigError) as error:
        raise CheckpointError(
            f"the checkpoint {path} carries no KSNet configuration that can be read ({error})"
        ) from error
