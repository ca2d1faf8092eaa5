"""The middle stage of upscaling a video: planned frames in, upscaled ones out.

A network that looks back only takes frames one by one, of which as many are in flight as its runtime takes; one that
looks ahead takes them a window at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.upscale.plan import Planned
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.segments import Upscaled
from ksnet_deploy.upscale.upscaler import Upscaler

__all__ = ["NetworkStage"]


class NetworkStage:
    """Frames through the network, with its state forgotten where a scene begins."""

    def __init__(self, upscaler: Upscaler, events: Events) -> None:
        self._upscaler, self._events = upscaler, events
        upscaler.drop()  # what another stage left behind
        upscaler.state = {}  # a frame that a job goes on with in mid-scene brings its own
        self._waiting: list[Planned] = []
        """Frames of one scene: a window, or its beginning, and then those after it."""
        self._in_flight: deque[tuple[Planned, SavedState | None, Callable[[], NDArray[Any]]]] = deque()
        """Frames that were begun, each with the state before it, where it begins a segment, and its result to come."""
        self._last: Any = None

    def __call__(self, planned: Planned) -> Iterator[Upscaled]:
        """The frames that come out: those of a window, once its look-ahead is there or its scene ends with this frame;
        or those that make room for this one."""
        if planned.starts_scene or planned.state is not None:
            yield from self.flush()
        if not self._upscaler.is_bidirectional:
            yield from self._one(planned)
            return
        self._waiting.append(planned)
        if len(self._waiting) >= self._upscaler.windows.latency_frames:
            yield from self._window()

    def flush(self) -> Iterator[Upscaled]:
        """The frames that wait, at the end of a scene."""
        yield from self._arrived(0)
        while self._waiting:
            yield from self._window()

    def _one(self, planned: Planned) -> Iterator[Upscaled]:
        # A repeated frame is not seen again: the network's state stays that of the one picture.
        if planned.duplicate:
            yield from self._arrived(0)
            yield self._out(planned, self._last, self._state_before(planned))
            return
        state = self._state_before(planned)
        self._in_flight.append((planned, state, self._upscaler.begin(planned.frame.rgb)))
        yield from self._arrived(self._upscaler.most_in_flight - 1)

    def _arrived(self, most: int) -> Iterator[Upscaled]:
        """The results of frames in flight, until so many are left."""
        while len(self._in_flight) > most:
            planned, state, result = self._in_flight.popleft()
            yield self._out(planned, result(), state)

    def _window(self) -> Iterator[Upscaled]:
        length = next((i for i, planned in enumerate(self._waiting) if i and planned.starts_window), len(self._waiting))
        window, self._waiting = self._waiting[:length], self._waiting[length:]
        ahead = self._waiting[: self._upscaler.windows.ahead]
        state = self._state_before(window[0])
        new = (planned.frame.rgb for planned in window if not planned.duplicate)
        hrs = self._upscaler.window(list(new), [planned.frame.rgb for planned in ahead if not planned.duplicate])
        for planned in window:
            hr = self._last if planned.duplicate else next(hrs)
            yield self._out(planned, hr, state if planned.starts_segment else None)

    def _state_before(self, planned: Planned) -> SavedState | None:
        """The network's state before a frame that is next, where it begins a segment; a scene's or a job's beginning
        sets that first."""
        if planned.starts_scene:
            self._upscaler.reset()
        state = self._upscaler.state if planned.starts_segment else None
        if planned.state is not None:  # in mid-scene; what was before it, if anything, ended with a scene
            self._upscaler.state, state = planned.state, {}
        return state

    def _out(self, planned: Planned, hr: NDArray[Any], state: SavedState | None) -> Upscaled:
        self._last = hr
        self._events.on_picture(hr)
        self._events.on_frame()
        return Upscaled(replace(planned.frame, rgb=hr), planned.index, state)
