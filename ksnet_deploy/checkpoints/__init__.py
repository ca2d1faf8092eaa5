"""The weights that ship with the package; MODEL_CARD.md describes them."""

from __future__ import annotations

from pathlib import Path

from ksnet_deploy.config import KSNetConfig
from ksnet_deploy.errors import CheckpointError, ConfigError

__all__ = ["bundled_checkpoint", "check_is_file", "config_of"]


def check_is_file(path: Path) -> None:
    """Raise CheckpointError unless there is a file."""
    if not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        raise CheckpointError(f"the checkpoint {path} {fault}; give the path of a .safetensors or .pth file")


def bundled_checkpoint(name: str = "uni") -> Path:
    """Path of a checkpoint that ships with the package. Raises CheckpointError for an unknown name."""
    folder = Path(__file__).parent
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in folder.glob("*.safetensors")))
        raise CheckpointError(f"no checkpoint named '{name}' ships with ksnet-deploy; there is {shipped}")
    return path


def config_of(path: Path) -> KSNetConfig:
    """The configuration of a checkpoint's network; of a .safetensors file without loading PyTorch.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    check_is_file(path)
    if path.suffix != ".safetensors":
        from ksnet_deploy.weights import load_checkpoint

        return load_checkpoint(path).config
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return KSNetConfig.from_json((file.metadata() or {})["config"])
    except (SafetensorError, OSError, KeyError, ConfigError) as error:
        raise CheckpointError(
            f"the checkpoint {path} carries no KSNet configuration that can be read ({error})"
        ) from error
