"""Videos that are upscaled at the same time by the workers of a cluster; a part of the command ``upscale``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from ksnet_deploy.cli.answers import Answer
from ksnet_deploy.cli.batch import Batch
from ksnet_deploy.cli.terminal import Progress
from ksnet_deploy.video.kinds import Source

__all__ = ["upscale_together"]

MOST_FILMS = 16
"""Films that are open at once: each is read by a thread of its own, and together they keep the workers busy."""
POLL_S = 0.2
TOLD_S = 0.5
"""Seconds between two looks at the counts."""


def upscale_together(
    batch: Batch,
    sources: Sequence[Source],
    bar: Progress,
    take: Callable[[Answer], None],
    *,
    address: str | None,
    workers: int | None,
    raises: bool,
) -> None:
    """Upscale videos by the workers of a cluster, and give the answers to ``take`` as they come.

    Args:
        address: of the cluster; None to start one on this machine.
        workers: how many there are to be (default: as many as the cluster has room for).
        raises: whether a video that fails raises; else it is complained of.

    Raises:
        KSNetError: there is no such cluster, or it has gone; what is finished of each video is kept.
    """
    from ksnet_deploy.cluster.front import Cluster

    with Cluster(address, workers=workers, choices=batch.choices, say=bar.say) as cluster:
        sum_of = _Sum(bar, cluster.crew.counts, f"{len(sources)} films")
        films = min(len(sources), cluster.crew.workers + 1, MOST_FILMS)
        with ThreadPoolExecutor(films, thread_name_prefix="film") as pool:
            try:

                def attempt(source: Source) -> None:
                    if cluster.failure is None:
                        part = _Part(sum_of, source.path.name, alone=len(sources) == 1)
                        batch.attempt(source, part, sum_of.taken(take), cluster=cluster, raises=raises)

                waiting = {pool.submit(attempt, source) for source in sources}
                while waiting and cluster.failure is None:  # which a signal interrupts
                    done, waiting = wait(waiting, POLL_S)
                    for future in done:
                        future.result()
            except BaseException as error:
                cluster.stop(error)
                raise
        if cluster.failure is not None:
            raise cluster.failure


class _Sum:
    """One progress of all films, told by several threads."""

    def __init__(self, bar: Progress, counts: Callable[[], dict[str, int]], what: str) -> None:
        self.bar, self._counts, self._what = bar, counts, what
        self.lock = threading.RLock()
        self._totals: dict[Any, int | None] = {}
        self._began = False
        self._told = time.monotonic()

    def begin(self, part: Any, what: str, total: int | None, done: int, *, alone: bool) -> None:
        with self.lock:
            self._totals[part] = None if total is None else total
            totals = list(self._totals.values())
            known = None if None in totals else sum(total for total in totals if total is not None)
            if not self._began:
                self._began = True
                self.bar.begin(what if alone else self._what, known, done)
            else:
                self.bar.extend(known)
                for _ in range(done):
                    self.bar.advance()
            self.bar.tell(**self._counts())

    def advance(self) -> None:
        with self.lock:
            if time.monotonic() - self._told > TOLD_S:
                self._told = time.monotonic()
                self.bar.tell(**self._counts())
            self.bar.advance()

    def taken(self, take: Callable[[Answer], None]) -> Callable[[Answer], None]:
        def locked(answer: Answer) -> None:
            with self.lock:
                take(answer)

        return locked


class _Part:
    """Progress of one of the films."""

    def __init__(self, whole: _Sum, name: str, *, alone: bool) -> None:
        self._whole, self._name, self._alone = whole, name, alone

    def begin(self, what: str, total: int | None, done: int = 0) -> None:
        self._whole.begin(self, what, total, done, alone=self._alone)

    def extend(self, total: int | None) -> None:
        """Nothing: a film says once how long it is."""

    def tell(self, **counts: int) -> None:
        """Nothing: the counts are of all films."""

    def advance(self) -> None:
        self._whole.advance()

    def say(self, line: str) -> None:
        with self._whole.lock:
            self._whole.bar.say(line if self._alone else f"{self._name}: {line}")

    def say_result(self, text: str) -> None:
        with self._whole.lock:
            self._whole.bar.say_result(text)

    def complain(self, sentence: str) -> None:
        with self._whole.lock:
            self._whole.bar.complain(sentence)
