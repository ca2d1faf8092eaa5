"""Loss and gradients of a batch as a CUDA graph.

A window of ten frames is some twenty thousand small kernels, forward and backward. Launched one by one they keep the
host busy for longer than they take on a large card; as a graph they are one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["RecordedGradients"]

WARM_UP = 3
"""Passes before the recording, in which libraries choose algorithms and take their memory."""

Batch = tuple[Tensor, ...]


class RecordedGradients:
    """A function from a batch to its loss, which leaves the gradients with the parameters, played from a recording.

    It is recorded again where a batch has another shape, or other parameters are trained.
    """

    def __init__(self, compute: Callable[[Batch], Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """``compute`` takes tensors on the device, sets all gradients of the parameters anew, and never waits for the
        device."""
        self._compute, self._parameters = compute, parameters
        self._key: tuple[object, ...] = ()
        self._batch: Batch = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss: Tensor | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """The loss, in memory that the next call overwrites, as it does the gradients."""
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in batch)
        key = (shapes, tuple(parameter.requires_grad for parameter in self._parameters))
        if self._graph is None or key != self._key:
            self._record(batch)
            self._key = key
        for kept, given in zip(self._batch, batch, strict=True):
            kept.copy_(given, non_blocking=True)
        assert self._graph is not None
        assert self._loss is not None
        self._graph.replay()
        return self._loss

    def _record(self, batch: Batch) -> None:
        self._graph = self._loss = None  # its memory is free for the next one
        self._batch = tuple(tensor.clone() for tensor in batch)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._compute(self._batch)
        torch.cuda.current_stream().wait_stream(stream)
        for parameter in self._parameters:
            parameter.grad = None  # so that the gradients lie in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        # The thread that pins batches calls CUDA too, which must not end a recording.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._loss = self._compute(self._batch)
        self._graph = graph
