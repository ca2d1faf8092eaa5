"""The weights that ship with the package; MODEL_CARD.md describes them."""

from __future__ import annotations

from pathlib import Path

from ksnet_deploy.base.errors import CheckpointError, ConfigError

__all__ = ["CHECKPOINT_SUFFIXES", "bundled_checkpoint", "bundled_names", "check_is_file", "checkpoint_path"]


CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")


FOLDER = Path(__file__).parents[1] / "bundled"


def check_is_file(path: Path) -> None:
    """Raise CheckpointError unless there is a file."""
    if not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        raise CheckpointError(f"the checkpoint {path} {fault}; give the path of a .safetensors or .pth file")


def bundled_checkpoint(name: str = "uni") -> Path:
    """Path of a checkpoint that ships with the package. Raises CheckpointError for an unknown name."""
    path = FOLDER / f"{name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(bundled_names())
        raise CheckpointError(f"no checkpoint named '{name}' ships with ksnet-deploy; there is {shipped}")
    return path


def bundled_names() -> list[str]:
    """Names of the checkpoints that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def checkpoint_path(model: str) -> Path:
    """A path as it is; a bare name is a bundled checkpoint. Raises ConfigError for anything else."""
    path = Path(model)
    if path.suffix in CHECKPOINT_SUFFIXES:
        return path
    if path.suffix or len(path.parts) != 1:
        raise ConfigError(f"'{model}' is not a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)}); give one with --model")
    return bundled_checkpoint(model)
