"""A stand-in for PyTorch's CUDA: streams that are nothing, and graphs that record and replay operators on the CPU.

As a real graph does, a recorded one computes from the memory that it was recorded with and into the same memory, and
nothing of Python runs again.
"""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ksnet_deploy.runtime import torch as runtime

__all__ = ["FakeGraph", "FakeStream", "use_fake_cuda"]


class FakeStream:
    """Everything on it is done at once; in the log stands what it waits for."""

    log: ClassVar[list[tuple[FakeStream, FakeStream]]] = []
    """Who waited for whom."""
    current: ClassVar[FakeStream]

    def wait_stream(self, other: FakeStream) -> None:
        FakeStream.log.append((self, other))


class FakeEvent:
    """What it is behind is done before it is recorded."""

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class FakeGraph(TorchDispatchMode):
    """The operators of a block, to be done again."""

    settings: tuple[bool, bool]
    """cuDNN's autotuning and TF32 when it was recorded."""
    options: dict[str, Any]
    """Options of the recording."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextlib.contextmanager
def _on(stream: FakeStream) -> Any:
    before, FakeStream.current = FakeStream.current, stream
    yield
    FakeStream.current = before


@contextlib.contextmanager
def _recording(graph: FakeGraph, **options: Any) -> Any:
    graph.settings = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    graph.options = options
    with graph:
        yield


def use_fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[FakeGraph]:
    """Let :class:`TorchRunner` find a CUDA device, which is this CPU; the graphs that it records are in the list."""
    graphs: list[FakeGraph] = []

    def new_graph() -> FakeGraph:
        graphs.append(FakeGraph())
        return graphs[-1]

    monkeypatch.setattr(runtime, "cuda_device", lambda: torch.device("cpu"))
    monkeypatch.setattr("ksnet_deploy.ops.library.find_kernel_library", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(FakeStream, "log", [])
    monkeypatch.setattr(FakeStream, "current", FakeStream(), raising=False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: FakeStream.current)
    monkeypatch.setattr(torch.cuda, "stream", _on)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", new_graph)
    monkeypatch.setattr(torch.cuda, "graph", _recording)
    return graphs
