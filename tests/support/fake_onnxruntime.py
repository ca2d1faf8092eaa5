"""A stand-in for ONNX Runtime's CUDA build: a CUDA device that is the CPU."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort
import pytest

from ksnet_deploy.runtime import onnx as runtime

__all__ = ["use_fake_cuda"]


def use_fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let :class:`OnnxRunner` find a CUDA device; the list has what it asked that device for."""
    asked: list[str] = []
    from_numpy, bind_output = ort.OrtValue.ortvalue_from_numpy, ort.IOBinding.bind_output

    def on_the_cpu(device: str) -> str:
        asked.append(device)
        return "cpu"

    def new_value(array: Any, device: str = "cpu", index: int = 0) -> Any:
        return from_numpy(array, on_the_cpu(device), index)

    def bind(self: Any, name: str, device: str = "cpu") -> None:
        bind_output(self, name, on_the_cpu(device))

    monkeypatch.setitem(runtime.PROVIDERS, "cuda", "CPUExecutionProvider")
    monkeypatch.setitem(runtime.PROVIDER_OPTIONS, "cuda", {})
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", staticmethod(new_value))
    monkeypatch.setattr(ort.IOBinding, "bind_output", bind)
    return asked
