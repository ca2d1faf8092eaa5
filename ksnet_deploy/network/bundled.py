"""Checkpoints by the name or path that a user gives, and those that ship with the package (see MODEL_CARD.md).

Nothing here loads PyTorch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ksnet_deploy.base.errors import CheckpointError, ConfigError

__all__ = [
    "CHECKPOINT_SUFFIXES",
    "CLIP",
    "EXPORTED_SUFFIXES",
    "BundledFacts",
    "bundled_checkpoint",
    "bundled_facts",
    "bundled_names",
    "check_is_file",
    "checkpoint_path",
    "is_checkpoint",
    "is_safetensors",
]

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
"""Suffixes of weights files, in lower case; ``.pth.tar`` ends in the last."""
EXPORTED_SUFFIXES = (".onnx", ".engine")
FOLDER = Path(__file__).parents[1] / "bundled"
CLIP = FOLDER / "city_lr.mp4"
"""The bundled clip, LR frames of 72x128."""


@dataclass(frozen=True)
class BundledFacts:
    """Purpose and quality of a bundled checkpoint; None for what was not measured."""

    purpose: str
    vid4_psnr_db: float | None
    """PSNR on Vid4 (BI, Y)."""
    validation_gain_db: float | None
    """PSNR over bicubic on clean clips."""
    h264_crf23_gain_db: float | None
    """PSNR over bicubic on clips that went through H.264 at CRF 23."""

    @property
    def gains(self) -> list[str]:
        """Gains over bicubic that were measured, in words."""
        known = {"clean": self.validation_gain_db, "H.264 at CRF 23": self.h264_crf23_gain_db}
        return [f"{gain:+.2f} dB over bicubic ({kind})" for kind, gain in known.items() if gain is not None]

    def sentence(self, name: str) -> str:
        """Purpose and gains of the network of a name."""
        gains = f"; {', '.join(self.gains)}" if self.gains else ""
        return f"{name} is for {self.purpose}{gains}."


def checkpoint_path(model: str) -> Path:
    """A checkpoint's path as it is; a bare name is a bundled checkpoint. Raises ConfigError for anything else."""
    path = Path(model)
    if is_checkpoint(path):
        return path
    if path.suffix or len(path.parts) != 1:
        raise ConfigError(
            f"'{model}' is not a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)}); give one, or a bundled one's name"
        )
    return bundled_checkpoint(model)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is meant as a weights file: by its suffix, or, unless exported, because there is a file."""
    suffix = path.suffix.lower()
    if suffix in CHECKPOINT_SUFFIXES or suffix in EXPORTED_SUFFIXES:
        return suffix in CHECKPOINT_SUFFIXES
    bare = not path.suffix and len(path.parts) == 1  # the name of a bundled one, whatever lies in this folder
    return not bare and path.is_file()


def is_safetensors(path: Path) -> bool:
    """Whether a file is of the safetensors format, by its first bytes: a length, then JSON. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def check_is_file(path: Path, what: str = "checkpoint") -> None:
    """Raise CheckpointError unless there is a file."""
    try:
        if path.is_file():
            return
        fault = "is not a file" if path.exists() else "does not exist"
    except OSError as error:  # a name that is too long
        fault = f"cannot be opened ({error.strerror})"
    raise CheckpointError(f"the {what} {path} {fault}; give the path of a .safetensors or .pth file")


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


def bundled_facts() -> dict[str, BundledFacts]:
    """Facts about the bundled checkpoints by name, the usual ones first."""
    known = json.loads((FOLDER / "models.json").read_text(encoding="utf-8"))
    shipped = bundled_names()
    return {name: BundledFacts(**facts) for name, facts in known.items() if name in shipped}
