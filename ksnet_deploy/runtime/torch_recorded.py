"""A step of a network as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.config import StepName
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.pixels import decode_frame
from ksnet_deploy.network.steps import AnyState, Step

__all__ = ["RecordedStep", "advance_into", "exact_and_tuned"]

Advance = Callable[..., tuple[torch.Tensor, Any]]
"""(frame, state, *features) -> (result, next state), frames as they are exchanged with the world."""


def exact_and_tuned() -> AbstractContextManager[None]:
    """Convolutions in the algorithm that was measured to be fastest, and float32 ones in float32.

    Unless told otherwise, PyTorch takes TF32 for those, which has the ten bits of half precision.
    """
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=True, allow_tf32=False
    )
    return flags


def advance_into(
    advance: Advance,
    frame: torch.Tensor,
    state: AnyState,
    following: AnyState,
    names: Sequence[str],
    features: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """A step from one state into the memory of another, as far as the named parts go; returns its result."""
    result, new = advance(frame, state, *features)
    for name in names:
        getattr(following, name).copy_(getattr(new, name))
    return result


class RecordedStep:
    """A step as CUDA graphs: frame in, network, frame out; with features in or out in the steps of bi.

    The state lies in two sets of tensors that swap roles after every step, and there is a graph for each role. Frames
    pass through page-locked memory. Each graph has its own, so that two steps may be in flight: while the card is at
    one, the host fills the next, and the last is downloaded, on a stream of its own, and read.
    """

    MOST_IN_FLIGHT = 2

    def __init__(
        self,
        advance: Advance,
        network: KSNet,
        size: FrameSize,
        dtype: torch.dtype,
        step: StepName = "step",
        lanes: int = 1,
    ) -> None:
        """``advance`` computes that step of the network on so many frames of that type, on the network's device."""
        self._part = Step(network, step)
        place = next(network.parameters()).device
        on_cuda = place.type == "cuda"
        with torch.inference_mode(), exact_and_tuned():
            frame, feature = (
                (lanes, size.height, size.width, 3),
                (lanes, network.config.channels, size.height, size.width),
            )
            result, kind = feature, network.dtype
            if self._part.gives == "hr":
                result, kind = (lanes, size.upscaled.height, size.upscaled.width, 3), dtype
            self._exchanges = [
                _Exchange(
                    given=[
                        torch.zeros(frame, dtype=dtype, pin_memory=on_cuda),
                        *(torch.zeros(feature, dtype=network.dtype, pin_memory=on_cuda) for _ in self._part.takes),
                    ],
                    result=torch.zeros(result, dtype=kind, pin_memory=on_cuda),
                    done=torch.cuda.Event(),  # type: ignore[no-untyped-call]
                )
                for _ in range(self.MOST_IN_FLIGHT)
            ]
            self._frame, *self._features = (host.to(place) for host in self._exchanges[0].given)
            self._states = [self._memory(), self._memory()]
            self._current = 0
            """Which of both is read by the next step."""
            self._oldest = 0
            """Which of both the first step in flight has."""
            self._downloads = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # cuDNN chooses its algorithms before the recording
                for _ in range(3):
                    advance(self._frame, self.state, *self._features)
            torch.cuda.current_stream().wait_stream(stream)
            orders = (self._states, self._states[::-1])
            self._graphs = [
                self._record(advance, order[0], order[1], exchange)
                for order, exchange in zip(orders, self._exchanges, strict=True)
            ]

    def _memory(self) -> AnyState:
        """Memory for a state in the layout that the network computes in; what it never reads has none of its own."""
        initial = self._part.initial_state(decode_frame(self._frame))
        own = {name: getattr(initial, name).clone(memory_format=torch.channels_last) for name in self._part.names}
        memory: AnyState = initial._replace(**own)
        return memory

    def _record(
        self, advance: Advance, state: AnyState, following: AnyState, exchange: _Exchange
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        """The graph, and where it leaves its result on the device."""
        graph = torch.cuda.CUDAGraph()
        # Another thread that calls CUDA, for a film of its own or an encoder, must neither end a recording nor fail.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for device, host in zip((self._frame, *self._features), exchange.given, strict=True):
                device.copy_(host, non_blocking=True)
            result = advance_into(advance, self._frame, state, following, self._part.names, self._features)
        return graph, result

    @property
    def state(self) -> AnyState:
        """The state before the next step, in the memory that the graphs use."""
        return self._states[self._current]

    @state.setter
    def state(self, state: AnyState) -> None:
        for name in self._part.names:
            getattr(self.state, name).copy_(getattr(state, name))

    def submit(self, frame: torch.Tensor, *features: torch.Tensor, fresh: bool) -> None:
        """Begin a step, from a fresh state or from that after the last one; two may be in flight."""
        exchange = self._exchanges[self._current]
        for host, given in zip(exchange.given, (frame, *features), strict=True):
            host.copy_(given)
        if fresh:
            self.state = self._part.initial_state(decode_frame(exchange.given[0].to(self._frame.device)))
        graph, result = self._graphs[self._current]
        graph.replay()
        self._downloads.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._downloads):
            exchange.result.copy_(result, non_blocking=True)
            exchange.done.record()
        self._current = 1 - self._current

    def collect(self) -> torch.Tensor:
        """The result of the first step in flight, in page-locked memory that the second submission from here writes."""
        exchange = self._exchanges[self._oldest]
        exchange.done.synchronize()
        self._oldest = 1 - self._oldest
        return exchange.result

    def wait(self) -> None:
        """Wait for the steps in flight, before what they use is let go."""
        for exchange in self._exchanges:
            exchange.done.synchronize()

    def __call__(self, frame: torch.Tensor, *features: torch.Tensor, fresh: bool) -> torch.Tensor:
        """A whole step, where none is in flight."""
        self.submit(frame, *features, fresh=fresh)
        return self.collect()


@dataclass(frozen=True)
class _Exchange:
    """Page-locked memory through which a step's frame, features and result pass."""

    given: list[torch.Tensor]
    result: torch.Tensor
    done: torch.cuda.Event
    """Recorded behind the download of the result."""
