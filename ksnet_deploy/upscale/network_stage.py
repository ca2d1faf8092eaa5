"""The middle stage of upscaling a video: planned frames in, upscaled ones out, a window at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ksnet_deploy.upscale.plan import Planned
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.segments import Upscaled
from ksnet_deploy.upscale.upscaler import Upscaler

__all__ = ["NetworkStage"]


class NetworkStage:
    """Frames through the network, with its state forgotten where a scene begins."""

    def __init__(self, upscaler: Upscaler, events: Events) -> None:
        self._upscaler, self._events = upscaler, events
        upscaler.state = {}  # a frame that a job goes on with in mid-scene brings its own
        self._waiting: list[Planned] = []
        """Frames of one scene: a window, or its beginning, and then those after it."""
        self._last: Any = None

    def __call__(self, planned: Planned) -> Iterator[Upscaled]:
        """The frames of a window, once its look-ahead is there or its scene ends with this frame."""
        if planned.starts_scene or planned.state is not None:
            yield from self.flush()
        self._waiting.append(planned)
        if len(self._waiting) >= self._upscaler.windows.latency_frames:
            yield from self._window()

    def flush(self) -> Iterator[Upscaled]:
        """The frames that wait, at the end of a scene."""
        while self._waiting:
            yield from self._window()

    def _window(self) -> Iterator[Upscaled]:
        length = next((i for i, planned in enumerate(self._waiting) if i and planned.starts_window), len(self._waiting))
        window, self._waiting = self._waiting[:length], self._waiting[length:]
        ahead = self._waiting[: self._upscaler.windows.ahead]
        if window[0].starts_scene:
            self._upscaler.reset()
        state = self._upscaler.state if window[0].starts_segment else None
        if window[0].state is not None:  # in mid-scene; what was before it, if anything, ended with a scene
            self._upscaler.state, state = window[0].state, {}
        # A repeated frame is not seen again: the network's state stays that of the one picture.
        new = (planned.frame.rgb for planned in window if not planned.duplicate)
        hrs = self._upscaler.window(list(new), [planned.frame.rgb for planned in ahead if not planned.duplicate])
        for planned in window:
            if not planned.duplicate:
                self._last = next(hrs)
            self._events.on_picture(self._last)
            self._events.on_frame()
            before = state if planned.starts_segment else None
            yield Upscaled(replace(planned.frame, rgb=self._last), planned.index, before)
