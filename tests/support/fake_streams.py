"""A stand-in for CUDA's streams and events: queues of work that is done when something waits for it, and not before.

What is read too early, or overwritten too early, shows. So does an event that is missing, of which there are two kinds:
a stream that did not wait for another computes with what that has not done yet, where it is *eager*; and one that was
not waited for is too late, where it is not. A stream is eager that does its work as soon as its events allow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Streams", "Work"]

Work = Callable[[], None]


@dataclass(eq=False)
class Moment:
    """A place in a stream: where an event was recorded."""

    stream: int
    is_past: bool = False


@dataclass
class Streams:
    """All streams, by their handles, in the order in which they were made."""

    eager: tuple[int, ...] = ()
    """Places, in that order, of the streams that do their work at once."""
    done: Callable[[], None] = lambda: None
    """Called after every work."""
    queues: dict[int, deque[Work | Moment]] = field(default_factory=dict)
    captures: dict[int, list[Work]] = field(default_factory=dict)
    """Streams that are recorded, with what was put on them since."""
    events: dict[int, Moment] = field(default_factory=dict)
    """Place at which each event was recorded last."""
    _made: int = 0

    def create(self) -> int:
        self._made += 1
        self.queues[handle := 76 + self._made] = deque()
        return handle

    def destroy(self, stream: int) -> None:
        assert not self.queues[stream], "a stream with work on it was destroyed"
        del self.queues[stream]

    @property
    def pending(self) -> list[Work | Moment]:
        return [work for queue in self.queues.values() for work in queue]

    def put(self, stream: int, work: Work) -> None:
        if stream in self.captures:
            self.captures[stream].append(work)
            return
        self.queues[stream].append(work)
        self._hurry()

    def record(self, event: int, stream: int, work: Work) -> None:
        """Put an event's moment on a stream; ``work`` is done at it."""
        assert stream not in self.captures
        moment = self.events[event] = Moment(stream)

        def pass_by() -> None:
            work()
            moment.is_past = True

        self.put(stream, pass_by)

    def wait(self, stream: int, event: int) -> None:
        """Let a stream wait for an event as it was recorded last."""
        assert stream not in self.captures
        if event in self.events:  # of one that never was, CUDA says that it is past
            self.queues[stream].append(self.events[event])
        self._hurry()

    def run(self, stream: int, until: Moment | None = None) -> None:
        """Do what is on a stream, and on others what it waits for."""
        assert not self.captures, "nothing can be waited for while it is recorded"
        queue = self.queues[stream]
        while queue and not (until is not None and until.is_past):
            work = queue.popleft()
            if isinstance(work, Moment):
                self.run(work.stream, work)
            else:
                self._do(work)

    def run_to(self, event: int) -> None:
        """Do what comes before an event."""
        if event in self.events:
            self.run(self.events[event].stream, self.events[event])

    def _hurry(self) -> None:
        handles = [*self.queues]
        going = True
        while going:
            going = False
            for place in self.eager:
                queue = self.queues[handles[place]] if place < len(handles) else deque()
                while queue and not (isinstance(queue[0], Moment) and not queue[0].is_past):
                    work = queue.popleft()
                    going = True
                    if not isinstance(work, Moment):
                        self._do(work)

    def _do(self, work: Work) -> None:
        work()
        self.done()
