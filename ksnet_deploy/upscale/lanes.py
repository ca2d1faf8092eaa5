"""Scenes in flight: the middle stage of upscaling a video with several chains of scenes side by side.

A chain is a run of segments whose first begins with a scene, so that it needs nothing of what is before it. Frames come
in order; those of chains that have no lane yet wait. What is done follows from the frames alone, never from the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.upscale.plan import Planned
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.segments import Upscaled
from ksnet_deploy.upscale.upscaler import Upscaler

__all__ = ["LaneStage"]

FEW = 1.5
"""Scenes in flight on average, below which several cost more than they give."""


@dataclass
class _Chain:
    """Frames that wait, of a chain."""

    frames: deque[Planned] = field(default_factory=deque)
    complete: bool = False
    """Whether no frame follows those that are here."""
    last: Any = None
    """Last picture that came out."""


class LaneStage:
    """Frames of several chains through the network, as one batch; what comes out is in order in each chain alone."""

    def __init__(self, upscaler: Upscaler, events: Events, waiting_bytes: int) -> None:
        """``waiting_bytes`` of frames wait at most, beside one of each lane: past that, lanes are left empty."""
        self._upscaler, self._events, self._most = upscaler, events, waiting_bytes
        self._lanes: list[_Chain | None] = [None] * upscaler.scenes_in_flight
        self._waiting: list[_Chain] = []
        """Chains without a lane."""
        self._newest: _Chain | None = None
        self._expected = 0
        self._bytes = 0
        self._batches = self._frames = 0

    def __call__(self, planned: Planned) -> Iterator[Upscaled]:
        """The frames that come out, once every lane has one or too many wait."""
        if self._newest is None or planned.starts_chain or planned.index != self._expected:
            self._end_newest()
            self._newest = _Chain()
            self._waiting.append(self._newest)
        self._newest.frames.append(planned)
        self._expected = planned.index + 1
        self._bytes += planned.frame.rgb.nbytes
        yield from self._go(ending=False)

    def flush(self) -> Iterator[Upscaled]:
        """All frames that wait."""
        self._end_newest()
        yield from self._go(ending=True)

    def notes(self) -> list[str]:
        """Notes for a user: how many scenes were in flight."""
        if not self._batches:
            return []
        mean, scenes = self._frames / self._batches, len(self._lanes)
        advice = "; the others cost time for nothing, so leave --scenes-in-flight out here" if mean < FEW else ""
        return [f"{mean:.1f} of {scenes} scenes were in flight on average{advice}."]

    def _end_newest(self) -> None:
        if self._newest is not None:
            self._newest.complete = True

    def _go(self, *, ending: bool) -> Iterator[Upscaled]:
        """Batches, as long as every chain in a lane has a frame and no lane is empty that need not be."""
        while True:
            self._fill()
            for lane, chain in enumerate(self._lanes):
                while chain is not None and chain.frames and chain.frames[0].duplicate:
                    yield self._out(lane, chain, chain.frames[0], None)
            self._fill()
            chains = {lane: chain for lane, chain in enumerate(self._lanes) if chain is not None}
            full = len(chains) == len(self._lanes) or ending or self._bytes > self._most
            if not chains or not full or not all(chain.frames for chain in chains.values()):
                return
            yield from self._batch(chains)

    def _fill(self) -> None:
        """Give every lane whose chain has ended the longest that waits."""
        for lane, chain in enumerate(self._lanes):
            if chain is not None and chain.complete and not chain.frames:
                self._lanes[lane] = None
            if self._lanes[lane] is None and self._waiting:
                longest = max(self._waiting, key=lambda chain: len(chain.frames))
                self._waiting.remove(longest)
                self._lanes[lane] = longest

    def _batch(self, chains: dict[int, _Chain]) -> Iterator[Upscaled]:
        """The next frame of every chain, with the state before it where it begins a segment."""
        lanes = self._upscaler.lanes
        states = {}
        for lane, chain in chains.items():
            planned = chain.frames[0]
            if planned.starts_scene:
                lanes.reset(lane)
            states[lane] = lanes.state(lane) if planned.starts_segment else None
            if planned.state is not None:  # in mid-scene
                self._upscaler.go_on(lane, planned.state)
                states[lane] = {}
        hrs = self._upscaler.step({lane: chain.frames[0].frame.rgb for lane, chain in chains.items()})
        self._batches += 1
        self._frames += len(chains)
        for lane, chain in chains.items():
            chain.last = hrs[lane]
            yield self._out(lane, chain, chain.frames[0], states[lane])

    def _out(self, lane: int, chain: _Chain, planned: Planned, before: SavedState | None) -> Upscaled:
        """A chain's first frame, with the chain's last picture."""
        chain.frames.popleft()
        self._bytes -= planned.frame.rgb.nbytes
        self._events.on_picture(chain.last)
        self._events.on_frame()
        frame = replace(planned.frame, rgb=chain.last)
        return Upscaled(frame, planned.index, before, lane, chain.complete and not chain.frames)
