"""Precision on a CPU: what may be asked for, and what is exported for it. On a GPU networks run in half precision.

Imported with the command line; what is heavy stands inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ksnet_deploy.base.errors import ConfigError

if TYPE_CHECKING:
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.network.config import Precision

__all__ = [
    "IN_TILES",
    "CpuPrecision",
    "check_choice",
    "check_precision",
    "exported_precision",
    "precision_in_words",
    "precision_of_file",
    "precision_used",
    "prove_int8",
]

CpuPrecision = Literal["auto", "fp32", "int8"]
"""``auto`` is bfloat16 in OpenVINO on a processor that has it, else float32; ``int8`` computes convolutions in whole
numbers and the rest as ``auto``."""
PROOF_FRAMES = 30
IN_TILES = "precision in tiles"
"""Name of the precision, in a network's identity, where tiles have another than whole frames."""


def check_choice(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    """Raise ConfigError for a value that is none of the choices; None is no value."""
    if value is not None and value not in choices:
        *most, last = choices
        raise ConfigError(f"there is no {name} '{value}'; give {', '.join(most)} or {last}")


def check_precision(precision: str | None, label: str, *, exported: bool, device: str | None) -> None:
    """Raise ConfigError for a precision that is unknown, or asked for an exported file or a GPU."""
    check_choice("precision", precision, get_args(CpuPrecision))
    if precision in (None, "auto"):
        return
    if device == "cuda":
        raise ConfigError(f"a precision of {precision} is for CPUs, and GPUs run in half; leave --precision out")
    if exported:
        raise ConfigError(f"{label} is an exported file, whose precision is its own; leave --precision out")


def exported_precision(backend: str, wanted: CpuPrecision = "auto") -> Precision:
    """Precision of the export that a runtime is given for a checkpoint."""
    from ksnet_deploy.runtime.openvino import export_precision

    usual: Precision = export_precision() if backend == "openvino" and wanted != "fp32" else "fp32"
    if wanted == "int8":
        return "int8-fp16" if usual == "fp16" else "int8"
    return usual


def precision_in_words(backend: str, wanted: CpuPrecision) -> str:
    """``int8 and bfloat16``: what a network computes in on this machine."""
    from ksnet_deploy.base.machine import has_bfloat16

    rest = "bfloat16" if backend == "openvino" and wanted != "fp32" and has_bfloat16() else "float32"
    return f"int8 and {rest}" if wanted == "int8" else rest


def precision_of_file(path: Path) -> str | None:
    """Precision that OpenVINO computes an ``.onnx`` in on this machine, or the first of a pair; None where it says
    none of its own. Raises ArtifactError for a file that is no step."""
    from ksnet_deploy.runtime.exported import metadata_of
    from ksnet_deploy.runtime.pair import files_of

    said = metadata_of(files_of(path)[0]).get("ksnet.precision")
    words: dict[str | None, tuple[str, CpuPrecision]] = {
        "fp32": ("openvino", "fp32"),
        "fp16": ("openvino", "auto"),
        "int8": ("onnxruntime", "int8"),
        "int8-fp16": ("openvino", "int8"),
    }
    return precision_in_words(*words[said]) if said in words else None


def precision_used(identity: Mapping[str, str], *, tiled: bool) -> str | None:
    """The precision that a network with this identity computes in; None where its file alone says that."""
    return (identity.get(IN_TILES) if tiled else None) or identity.get("precision")


def prove_int8(
    checkpoint: Path, label: str, size: FrameSize, precision: Precision, on_note: Callable[[str], None]
) -> None:
    """Compare a checkpoint's export in int8 with float32, once, and keep the result.

    Raises:
        BackendError: the processor is not for int8.
        ConfigError: the network does not pass.
    """
    from ksnet_deploy.base.errors import ConfigError, VerificationError
    from ksnet_deploy.export.engine.proof import proof_of_export
    from ksnet_deploy.runtime.int8 import check_int8

    check_int8()
    try:
        proof_of_export(checkpoint, size, precision, 1, PROOF_FRAMES, on_note, lambda _frames: None, lambda: None)
    except VerificationError as error:
        raise ConfigError(f"{label} cannot run in int8: {error}") from error
