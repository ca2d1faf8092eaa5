"""A chain of three stages that work at the same time, each in a thread of its own but the middle one.

Decoding, the network and encoding spend their time outside of Python's lock, so the chain takes as long as its slowest
stage. The queues between them are short: a fast stage waits, and memory stays flat.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["StageTimes", "run_stages"]

A = TypeVar("A")
B = TypeVar("B")

DEPTH = 4
"""Items that may wait between two stages."""
POLL_S = 0.1
"""Seconds after which a waiting stage looks whether another one has failed."""


@dataclass
class StageTimes:
    """Seconds that each stage worked; waiting for its neighbours is not in it."""

    wall_s: float = 0.0
    busy_s: dict[str, float] = field(default_factory=dict)
    """Seconds by stage, in their order."""

    def measure(self, name: str, work: Callable[[], A]) -> A:
        started = time.perf_counter()
        try:
            return work()
        finally:
            self.busy_s[name] += time.perf_counter() - started

    @property
    def bottleneck(self) -> str:
        """The stage that worked longest."""
        return max(self.busy_s, key=lambda name: self.busy_s[name])

    def summary(self) -> str:
        """Text for people, such as ``decode 3 %, network 98 % (the bottleneck), encode 12 % of the time``."""
        parts = [
            f"{name} {busy / max(self.wall_s, 1e-9):.0%}" + (" (the bottleneck)" if name == self.bottleneck else "")
            for name, busy in self.busy_s.items()
        ]
        return f"{', '.join(parts)} of the time"


_END = object()


class _Stopped(Exception):  # noqa: N818
    """Another stage has failed, or the chain was interrupted."""


class _Pipe(Generic[A]):
    """A bounded queue with an end, which gives up waiting when the chain stops."""

    def __init__(self, stop: threading.Event) -> None:
        self._queue: queue.Queue[tuple[A] | None] = queue.Queue(DEPTH)
        self._stop = stop

    def put(self, item: tuple[A] | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return
        raise _Stopped

    def __iter__(self) -> Iterator[A]:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if item is None:
                return
            yield item[0]
        raise _Stopped


def run_stages(
    first: Iterable[A],
    middle: Callable[[A], Iterable[B]],
    last: Callable[[B], None],
    *,
    names: tuple[str, str, str] = ("decode", "network", "encode"),
    flush: Callable[[], Iterable[B]] = tuple,
    finish: Callable[[], None] = lambda: None,
) -> StageTimes:
    """Run every item of ``first`` through ``middle``, in the calling thread, and ``last``; then ``finish``.

    ``middle`` makes any number of items of one, and hands them on one by one; what it holds back at the end ``flush``
    gives. ``finish`` is called in the thread of ``last``, once all items are through.

    Raises:
        BaseException: the first that any stage raised, or that interrupted the calling thread; the other stages have
            ended by then.
    """
    stop = threading.Event()
    times = StageTimes(busy_s=dict.fromkeys(names, 0.0))
    before: _Pipe[A] = _Pipe(stop)
    after: _Pipe[B] = _Pipe(stop)

    def produce() -> None:
        items = iter(first)
        while (item := times.measure(names[0], lambda: next(items, _END))) is not _END:
            before.put((item,))  # type: ignore[arg-type]
        before.put(None)

    def consume() -> None:
        for item in after:
            times.measure(names[2], lambda item=item: last(item))  # type: ignore[misc]
        times.measure(names[2], finish)

    def hand_on(make: Callable[[], Iterable[B]]) -> None:
        items = times.measure(names[1], lambda: iter(make()))
        while (item := times.measure(names[1], lambda: next(items, _END))) is not _END:
            after.put((item,))  # type: ignore[arg-type]

    threads = [_Worker(produce, names[0], stop), _Worker(consume, names[2], stop)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        for item in before:
            hand_on(lambda item=item: middle(item))  # type: ignore[misc]
        hand_on(flush)
        after.put(None)
        while any(thread.is_alive() for thread in threads):  # a join without a limit could not be interrupted
            threads[-1].join(POLL_S)
    except _Stopped:
        pass
    finally:
        # Where all went well the threads have ended; a stop means nothing to them then.
        stop.set()
        for thread in threads:
            thread.join()
    for failure in [thread.failure for thread in threads if thread.failure is not None]:
        raise failure
    times.wall_s = time.perf_counter() - began
    return times


class _Worker(threading.Thread):
    """A stage in a thread of its own, which keeps what it raised and stops the chain."""

    def __init__(self, work: Callable[[], None], name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self._work, self._stop_chain = work, stop
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except _Stopped:
            pass
        except BaseException as error:
            self.failure = error
            self._stop_chain.set()
