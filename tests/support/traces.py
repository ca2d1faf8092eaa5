"""Traces of networks, each made once in a run of the tests.

Tracing takes seconds, and many tests begin with an exported network of the same weights and size.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import torch
from filelock import FileLock
from torch import Tensor, nn

__all__ = ["SharedTraces"]


class SharedTraces:
    """`torch.onnx.export` that keeps its results in a folder, which processes may share."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._export = folder, torch.onnx.export
        folder.mkdir(exist_ok=True)

    def __call__(self, step: nn.Module, inputs: tuple[Tensor, ...], **options: Any) -> Any:
        path = self._folder / f"{_key(step, inputs, options)}.onnx"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                program = self._export(step, inputs, **options)
                assert program is not None
                path.write_bytes(program.model_proto.SerializeToString())
        return SimpleNamespace(model_proto=onnx.load(path))


def _key(step: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> str:
    """Digest of everything that the trace depends on: code, settings, weights and types."""
    parts = [repr(step), repr(getattr(step, "dtype", None)), repr(sorted(options.items(), key=str))]
    parts += [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in inputs]
    parts += [module.config.to_json() for module in step.modules() if hasattr(module, "config")]
    digest = hashlib.sha256("\n".join(parts).encode())
    for name, tensor in step.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
