"""The workers of a cluster, each with a thread here that hands it chain after chain. Knows nothing of Ray."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import BackendError, KSNetError
from ksnet_deploy.cluster.film import ClusterFilm
from ksnet_deploy.cluster.pool import AHEAD, TRIES, Chain, Film, Pool
from ksnet_deploy.cluster.worker import Opened

__all__ = ["Crew", "Hire", "Lost", "Remote"]


class Lost(Exception):  # noqa: N818
    """A worker is gone, with all that it had."""


class Remote(Protocol):
    """A :class:`ksnet_deploy.cluster.worker.Worker` somewhere."""

    place: str
    """Name of its machine, for messages."""

    def call(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Have a method called, after those before. What is returned waits for what it returns.

        Raises:
            Lost: the worker is gone; from either call.
            KSNetError: what the method raised.
        """

    def stop(self) -> None:
        """End it at once, whatever it is at."""


Hire = Callable[[], Remote]
"""Gives a new worker, once there is room for one. Raises KSNetError where there never will be."""


class Crew(Closing):
    """Workers, and the films that they are at."""

    def __init__(self, hire: Hire, workers: int, waiting_bytes: int, say: Callable[[str], None]) -> None:
        """Hire workers. ``say`` is told of workers that come and go, a sentence at a time."""
        self.pool, self.workers, self._say = Pool(waiting_bytes), workers, say
        self.lost = 0
        """Workers that were lost."""
        self.present: set[int] = set()
        """Numbers of the workers that are there."""
        self._attendants = [_Attendant(number, self, hire) for number in range(workers)]
        for attendant in self._attendants:
            attendant.start()

    def say(self, sentence: str) -> None:
        self._say(sentence)

    def counts(self) -> dict[str, int]:
        """Workers that are there; scenes that are done, in flight and waiting."""
        with self.pool.changed:
            films = list(self.pool.films)
            return {
                "workers": len(self.present),
                "scenes_done": sum(film.finished for film in films),
                "scenes_in_flight": sum(len(film.running) for film in films),
                "scenes_waiting": sum(len(film.waiting) for film in films),
            }

    def stop(self, failure: BaseException) -> None:
        """End all work at once; who waits for it is raised ``failure``."""
        self.pool.stop(failure)

    def close(self) -> None:
        self.stop(BackendError("the cluster was closed"))
        for attendant in self._attendants:
            attendant.join()


class _Attendant(threading.Thread):
    """The thread of one worker, and of those that follow when it is lost."""

    def __init__(self, number: int, crew: Crew, hire: Hire) -> None:
        super().__init__(name=f"worker {number}", daemon=True)
        self._number, self._crew, self._pool, self._hire = number, crew, crew.pool, hire

    def run(self) -> None:
        failed = 0
        while self._pool.failure is None:
            try:
                remote = self._hire()
            except Lost as lost:  # before it was there
                failed += 1
                if failed >= TRIES:
                    self._pool.stop(
                        BackendError(
                            f"{failed} workers ended one after another before they were there ({lost}); see 'ray "
                            "status' and the logs of Ray"
                        )
                    )
                continue
            except BaseException as error:
                self._pool.stop(error)
                return
            failed = 0
            self._crew.present.add(self._number)
            self._pool.welcome(self._number)
            try:
                while True:
                    self._do(remote, self._pool.take(self._number))
            except Lost as lost:
                self._crew.lost += 1
                if self._pool.failure is None:
                    self._crew.say(f"A worker on {remote.place} was lost ({lost}); what it was at is done again.")
            except BaseException as error:
                self._pool.stop(error)  # which does nothing where it is what stopped everything
            finally:
                self._crew.present.discard(self._number)
                remote.stop()

    def _do(self, remote: Remote, work: Film | Chain) -> None:
        film = work if isinstance(work, Film) else work.film
        assert isinstance(film, ClusterFilm)
        try:
            if isinstance(work, Film):
                self._try_out(remote, film)
            else:
                self._carry(remote, film, work)
        except Lost as lost:
            if isinstance(work, Film):
                self._pool.settle(film, known=False)
            else:
                self._pool.lose(work, remote.place, str(lost))
            raise
        except BaseException as error:
            if self._pool.failure is not None:
                raise
            self._pool.fail(film, error)
            if isinstance(work, Chain):
                self._pool.done(work)
                remote.call("abort")()

    def _try_out(self, remote: Remote, film: ClusterFilm) -> None:
        """Let a worker load the film's network, so that it is known how it is run."""
        try:
            opened = self._opened(remote, film)
        except KSNetError as error:
            self._leave_out(remote, film, f"cannot run the network: {error}")
            self._pool.settle(film, known=False)
            return
        film.learn(opened)
        self._pool.settle(film, known=True)

    def _carry(self, remote: Remote, film: ClusterFilm, chain: Chain) -> None:
        """Let a worker do a chain."""
        try:
            opened = self._opened(remote, film)
        except KSNetError as error:
            self._pool.give_back(chain)
            self._leave_out(remote, film, f"cannot run the network: {error}")
            return
        if difference := film.difference(opened):
            self._pool.give_back(chain)
            self._leave_out(remote, film, f"would run the network otherwise than the others ({difference})")
            return
        _answer(remote, remote.call("begin", film.encoder, film.picture, chain.state, film.source_from(chain)))
        answers: deque[Callable[[], Any]] = deque()
        for chunk in self._pool.chunks(chain):
            answers.append(remote.call("push", chunk))
            film.sent_bytes += chunk.bytes
            if len(answers) > AHEAD - 1:
                film.receive(chain, _answer(remote, answers.popleft()), self._pool)
        while answers:
            film.receive(chain, _answer(remote, answers.popleft()), self._pool)
        answer, totals = _answer(remote, remote.call("end"))
        film.receive(chain, answer, self._pool)
        film.count(totals)
        self._pool.done(chain)

    def _opened(self, remote: Remote, film: ClusterFilm) -> Opened:
        opened: Opened = remote.call("open", film.settings, film.files)()
        for note in opened.notes:
            film.say(note)
        return opened

    def _leave_out(self, remote: Remote, film: ClusterFilm, why: str) -> None:
        reason = BackendError(f"{remote.place} {why}")
        self._pool.refuse(film, self._number, reason, self._crew.workers)
        if film.failure is None:
            self._crew.say(f"{reason}; it is left out.")


def _answer(remote: Remote, wait: Callable[[], Any]) -> Any:
    """The answer of a worker, whose errors name its machine."""
    try:
        return wait()
    except KSNetError as error:
        raise type(error)(f"{error} (on {remote.place})") from error
