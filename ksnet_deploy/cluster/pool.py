"""Chains that wait for a worker, of all films: which is next, and how many frames may wait.

A chain is a run of segments whose first begins with a scene: it needs nothing of what is before it, and what is in it
needs all that is before, so one worker takes it from its beginning to its end. Everything here is guarded by one lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.cluster.chunks import Chunk
from ksnet_deploy.runtime.base import SavedState

__all__ = ["Chain", "Film", "Pool"]

POLL_S = 0.5
"""Seconds after which what waits looks again whether all has ended, should it have missed being told."""
AHEAD = 2
"""Chunks that may wait in a chain that a worker is at, whatever else waits."""
TRIES = 5
"""Workers that may be lost with a chain, one after another, before it is given up."""


class Chain:
    """A run of segments for one worker. It holds the frames that a second worker would need if the first were lost."""

    def __init__(self, film: Film, first: int, state: SavedState) -> None:
        self.film, self.first = film, first
        self.chunks: list[Chunk] = []
        """Frames from the last state on that is known."""
        self.state = state
        """State before the first of them; empty where they begin a scene."""
        self.sent = 0
        """Chunks that the worker has."""
        self.complete = False
        """Whether all its frames are here."""
        self.worker: Any = None
        """Worker that is at it."""
        self.lost = 0
        """Workers that were lost with it since its last segment."""
        self.shown = first
        """Number of the frame up to which progress was told."""

    @property
    def frames(self) -> int:
        """Number of frames that are here."""
        return sum(len(chunk.frames) for chunk in self.chunks)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the frames that no worker has."""
        return sum(chunk.bytes for chunk in self.chunks[self.sent :])


class Film:
    """A film's chains, and who may take them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: list[Chain] = []
        self.running: list[Chain] = []
        self.finished = 0
        """Chains that are done."""
        self.failure: BaseException | None = None
        self.settled = False
        """Whether it is known how its network is run; until then one worker tries it out."""
        self.asked: Any = None
        """Worker that tries it out."""
        self.refused: dict[Any, BaseException] = {}
        """Workers that cannot run its network as the others do, and the reasons."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the frames that no worker has."""
        return sum(chain.waiting_bytes for chain in (*self.waiting, *self.running))


class Pool:
    """The films at work, and what workers take from them."""

    def __init__(self, waiting_bytes: int) -> None:
        """``waiting_bytes`` is how much may wait in all, divided among the films."""
        self._most = waiting_bytes
        self.changed = threading.Condition()
        self.films: list[Film] = []
        self.failure: BaseException | None = None
        """Reason why everything has ended, once it has."""

    def stop(self, failure: BaseException) -> None:
        """End everything: who waits here is raised ``failure``."""
        with self.changed:
            self.failure = self.failure or failure
            self.changed.notify_all()

    def enter(self, film: Film) -> None:
        with self.changed:
            self.films.append(film)

    def leave(self, film: Film) -> None:
        with self.changed:
            film.failure = film.failure or BackendError(f"the work on {film.name} has ended")
            self.films.remove(film)
            self.changed.notify_all()

    def fail(self, film: Film, failure: BaseException) -> None:
        """End the work on a film."""
        with self.changed:
            film.failure = film.failure or failure
            self.changed.notify_all()

    def _wait(self, film: Film | None, ready: Callable[[], bool]) -> None:
        """Wait, with the lock held; raise what ended everything, or the film."""
        while True:
            if self.failure is not None:
                raise self.failure
            if film is not None and film.failure is not None:
                raise film.failure
            if ready():
                return
            self.changed.wait(POLL_S)

    # For those who read a film.

    def wait_for_settling(self, film: Film) -> None:
        """Wait until a worker has tried out the film's network."""
        with self.changed:
            self._wait(film, lambda: film.settled)

    def begin(self, film: Film, first: int, state: SavedState) -> Chain:
        chain = Chain(film, first, state)
        with self.changed:
            film.waiting.append(chain)
        return chain

    def put(self, chain: Chain, chunk: Chunk) -> None:
        """Add frames to a chain, once there is room for them."""
        film = chain.film

        def has_room() -> bool:
            waiting = film.waiting_bytes
            if not waiting or waiting + chunk.bytes <= self._most // max(len(self.films), 1):
                return True
            # Who is at a chain would wait for frames that wait for others: those frames go before.
            return chain.worker is not None and len(chain.chunks) - chain.sent < AHEAD

        with self.changed:
            self._wait(film, has_room)
            chain.chunks.append(chunk)
            self.changed.notify_all()

    def complete(self, chain: Chain) -> None:
        with self.changed:
            chain.complete = True
            self.changed.notify_all()

    def wait_for_end(self, film: Film) -> None:
        """Wait until all chains of a film are done."""
        with self.changed:
            self._wait(film, lambda: not film.waiting and not film.running)

    # For workers.

    def take(self, worker: Any) -> Film | Chain:
        """The next work for a worker: a film to try out, or the longest chain of the film with the fewest workers."""
        with self.changed:
            self._wait(None, lambda: self._next_for(worker) is not None)
            found = self._next_for(worker)
            assert found is not None
            if isinstance(found, Film):
                found.asked = worker
            else:
                found.film.waiting.remove(found)
                found.film.running.append(found)
                found.worker = worker
            self.changed.notify_all()
            return found

    def _next_for(self, worker: Any) -> Film | Chain | None:
        films = [film for film in self.films if film.failure is None and worker not in film.refused]
        for film in films:
            if not film.settled and film.asked is None:
                return film
        ready = {film: chains for film in films if (chains := [chain for chain in film.waiting if chain.chunks])}
        if not ready:
            return None
        return max(ready[min(ready, key=lambda film: len(film.running))], key=lambda chain: chain.frames)

    def settle(self, film: Film, *, known: bool) -> None:
        """A worker has tried a film out; or could not."""
        with self.changed:
            film.settled, film.asked = known, None
            self.changed.notify_all()

    def refuse(self, film: Film, worker: Any, reason: BaseException, workers: int) -> None:
        """A worker cannot run a film's network as the others do; one that none of so many workers runs has failed."""
        with self.changed:
            film.refused[worker] = reason
            if len(film.refused) >= workers:
                film.failure = film.failure or reason
            self.changed.notify_all()

    def welcome(self, worker: Any) -> None:
        """A worker is another than before."""
        with self.changed:
            for film in self.films:
                film.refused.pop(worker, None)
            self.changed.notify_all()

    def chunks(self, chain: Chain) -> Iterator[Chunk]:
        """The frames of a chain as they come, for the worker that is at it."""
        while True:
            with self.changed:
                self._wait(chain.film, lambda: chain.sent < len(chain.chunks) or chain.complete)
                if chain.sent == len(chain.chunks):
                    return
                chunk = chain.chunks[chain.sent]
                chain.sent += 1
                self.changed.notify_all()
            yield chunk

    def kept(self, chain: Chain, end: int, state: SavedState | None) -> None:
        """A segment of a chain that ends before a frame is safe, and so is the state after it, where that is given."""
        with self.changed:
            chain.lost = 0
            if state:
                count = sum(chunk.first < end for chunk in chain.chunks)
                del chain.chunks[:count]
                chain.sent -= count
                chain.state = state

    def done(self, chain: Chain) -> None:
        """A chain is done, all its segments are safe."""
        with self.changed:
            chain.worker = None
            chain.film.running.remove(chain)
            chain.film.finished += 1
            self.changed.notify_all()

    def give_back(self, chain: Chain) -> None:
        """A chain is to be taken by another worker, from the last state on."""
        with self.changed:
            chain.worker, chain.sent = None, 0
            chain.film.running.remove(chain)
            chain.film.waiting.append(chain)
            self.changed.notify_all()

    def lose(self, chain: Chain, place: str, reason: str) -> None:
        """A worker is lost: its chain waits for another; or is given up."""
        with self.changed:
            self.give_back(chain)
            chain.lost += 1
            if chain.lost >= TRIES:
                chain.film.failure = chain.film.failure or BackendError(
                    f"{TRIES} workers were lost one after another at the frames from {chain.first} on of "
                    f"{chain.film.name}, the last on {place} ({reason}); see whether their memory is enough, and run "
                    "the same command again, which goes on from there"
                )
            self.changed.notify_all()
