"""The command doctor: what this machine can do. ``app.py`` adds it to the application."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from ksnet_deploy.cli.options import Json

if TYPE_CHECKING:
    from ksnet_deploy.cli.checks import Diagnosis

__all__ = ["doctor"]

EXIT_FAILED = 1
BACKENDS = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "torch": "PyTorch",
    "rtx": "TensorRT-RTX",
    "tensorrt": "TensorRT",
}
DEVICES = {"cpu": "the CPU", "cuda": "the GPU"}


def doctor(
    as_json: Json = False,
) -> None:
    """Say what this machine can do and how to get the rest; exit with 1 where upscale cannot work."""
    from ksnet_deploy.cli.checks import diagnose

    diagnosis = diagnose()
    print(json.dumps(diagnosis.as_dict()) if as_json else _table(diagnosis))
    if diagnosis.lacking:
        raise typer.Exit(EXIT_FAILED)


def _table(diagnosis: Diagnosis) -> str:
    """A line for each check, and what follows from them."""
    width = max(len(check.name) for check in diagnosis.checks)
    lines = [
        f"{check.name:{width}}  {check.state:8}  {check.found}" + (f" -> {check.remedy}" if check.remedy else "")
        for check in diagnosis.checks
    ]
    if diagnosis.lacking:
        last = f"upscale cannot run here; missing: {', '.join(diagnosis.lacking)}"
    else:
        backend, device = BACKENDS[diagnosis.backend], DEVICES[diagnosis.device]
        taken = f"'{diagnosis.model}'"
        if diagnosis.video_model is not None:
            taken += f" ('{diagnosis.video_model}' for compressed video)"
        last = f"upscale takes the network {taken} and runs it with {backend} on {device} by default"
    return "\n".join([*lines, "", last])
