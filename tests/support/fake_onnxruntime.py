"""A stand-in for ONNX Runtime's CUDA build: a CUDA device that is the CPU."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import onnxruntime as ort
import pytest

from ksnet_deploy.runtime import onnx as runtime

__all__ = ["PlayedSession", "use_fake_cuda"]


class PlayedSession(ort.InferenceSession):
    """A session on the CPU that takes a CUDA device's options, and replays what was bound when a graph was recorded."""

    opened: ClassVar[list[dict[str, str]]] = []
    """Options of every session on the device."""
    refused: tuple[str, ...] = ()
    """Options that this build does not know."""
    one_graph = False
    """An old version, which records one graph whatever it is asked for."""

    def __init__(self, model: bytes, settings: Any = None, *, providers: list[Any], **more: Any) -> None:
        name, self.options = providers[0] if isinstance(providers[0], tuple) else (providers[0], {})
        if "enable_fallback" in more:
            PlayedSession.opened.append(self.options)
            for option in self.refused:
                if option in self.options:
                    raise RuntimeError(f"Unknown provider option: {option!r}")
        super().__init__(model, settings, providers=[(name, {})], **more)
        self.recorded: dict[str, Any] = {}
        self.replayed = 0
        self.threads: set[int] = set()
        """Threads that ran it: each would have a recording of its own."""

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        self.threads.add(threading.get_ident())
        asked = run_options.get_run_config_entry("gpu_graph_id") if run_options is not None else "0"
        if self.options.get("enable_cuda_graph") == "1" and asked != "-1":
            number = "0" if self.one_graph else asked
            self.replayed += number in self.recorded
            iobinding = self.recorded.setdefault(number, iobinding)
        super().run_with_iobinding(iobinding)


def use_fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let :class:`OnnxRunner` find a CUDA device; the list has what it asked that device for."""
    asked: list[str] = []
    monkeypatch.setattr(PlayedSession, "opened", [])
    from_numpy, bind_output = ort.OrtValue.ortvalue_from_numpy, ort.IOBinding.bind_output

    def on_the_cpu(device: str) -> str:
        asked.append(device)
        return "cpu"

    def new_value(array: Any, device: str = "cpu", index: int = 0) -> Any:
        return from_numpy(array, on_the_cpu(device), index)

    def bind(self: Any, name: str, device: str = "cpu") -> None:
        bind_output(self, name, on_the_cpu(device))

    monkeypatch.setitem(runtime.PROVIDERS, "cuda", "CPUExecutionProvider")
    monkeypatch.setattr(ort, "InferenceSession", PlayedSession)
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", staticmethod(new_value))
    monkeypatch.setattr(ort.IOBinding, "bind_output", bind)
    return asked
