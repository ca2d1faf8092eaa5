"""Turns: who is at work, and who waits. One work at a time on each device, each device with a thread of its own."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import ConfigError, KSNetError
from ksnet_deploy.base.memory import is_out_of_memory
from ksnet_deploy.web.jobs import FilmJob, JobStore, Settings
from ksnet_deploy.web.progress import Progress, Stopped
from ksnet_deploy.web.work import check_networks, check_settings, device_of, named, preview_film, upscale_film

__all__ = ["Turn", "Turns"]

Kind = Literal["preview", "upscale"]


@dataclass
class Turn:
    """A work that waits or is being done."""

    job_id: str
    kind: Kind
    device: str
    do: Callable[[FilmJob, Progress], object]
    progress: Progress = field(default_factory=Progress)
    started: bool = False


class Turns(Closing):
    """The works of all jobs. Its methods may be called from any thread."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._turns: list[Turn] = []
        self._change = threading.Condition()
        self._closing = False
        self._threads: dict[str, threading.Thread] = {}

    def preview(self, job_id: str, settings: Settings, models: Sequence[str]) -> None:
        """Ask for a preview of the part of a film that the settings name.

        Raises:
            KSNetError: the settings cannot be, or something is done with the film already.
        """
        check_networks(models)
        self._ask(job_id, "preview", settings, lambda job, progress: preview_film(self._store, job, progress, models))

    def start(self, job_id: str, settings: Settings) -> None:
        """Ask for a film to be upscaled from its beginning. Raises KSNetError as :meth:`preview` does."""
        work = partial(upscale_film, self._store, anew=True)
        self._ask(job_id, "upscale", settings, work)

    def resume(self, job_id: str) -> None:
        """Ask for a film to be upscaled on from what is finished, with its settings. Raises KSNetError as above."""
        work = partial(upscale_film, self._store, anew=False)
        self._ask(job_id, "upscale", self._store.get(job_id).settings, work)

    def _ask(self, job_id: str, kind: Kind, settings: Settings, do: Callable[[FilmJob, Progress], object]) -> None:
        check_settings(settings)
        device = device_of(settings)
        with self._change:
            self._check_free(job_id)
            # Written before the work: a server that is killed leaves what it began as stopped.
            state = {"state": "stopped"} if kind == "upscale" else {}
            self._store.change(job_id, settings=settings, message="", **state)
            self._turns.append(Turn(job_id, kind, device, do))
            if device not in self._threads:
                self._threads[device] = threading.Thread(target=self._serve, args=(device,), name=f"work on {device}")
                self._threads[device].start()
            self._change.notify_all()

    def of(self, job_id: str) -> Turn | None:
        """The work of a job that waits or is being done."""
        with self._change:
            return next((turn for turn in self._turns if turn.job_id == job_id), None)

    def before(self, turn: Turn) -> int:
        """Number of works that must end before one can begin."""
        with self._change:
            if turn.started or turn not in self._turns:
                return 0
            return sum(other.device == turn.device for other in self._turns[: self._turns.index(turn)])

    def stop(self, job_id: str) -> None:
        """Stop what is done with a film, or let it wait no longer; nothing happens where there is nothing."""
        with self._change:
            for turn in self._turns:
                if turn.job_id == job_id:
                    turn.progress.stop()
            self._turns = [turn for turn in self._turns if turn.started or turn.job_id != job_id]

    def remove(self, job_id: str) -> None:
        """Remove a job. Raises ConfigError while something is done with it, InputError, OutputError."""
        with self._change:
            self._check_free(job_id)
            self._store.remove(job_id)

    def _check_free(self, job_id: str) -> None:
        if any(turn.job_id == job_id for turn in self._turns):
            raise ConfigError("something is being done with this film; wait for it, or cancel it first")

    def close(self) -> None:
        """Stop all works, and wait until they have kept what they finished."""
        with self._change:
            self._closing = True
            for turn in self._turns:
                turn.progress.stop()
            self._change.notify_all()
        for thread in self._threads.values():
            thread.join()

    def _serve(self, device: str) -> None:
        while (turn := self._next(device)) is not None:
            try:
                self._do(turn)
            finally:
                with self._change:
                    self._turns.remove(turn)

    def _next(self, device: str) -> Turn | None:
        """The next work on a device, as soon as there is one; None when the server ends."""
        with self._change:
            while True:
                if self._closing:
                    return None
                for turn in self._turns:
                    if turn.device == device:
                        turn.started = True
                        return turn
                self._change.wait()

    def _do(self, turn: Turn) -> None:
        try:
            job = self._store.get(turn.job_id)
            turn.do(job, turn.progress)
        except Stopped:
            self._tell(turn, "stopped", "")
        except KSNetError as error:
            self._tell(turn, "failed", f"{error}.")
        except Exception as error:
            if is_out_of_memory(error):
                fault = "the memory is used up; close other programs, or take a smaller network or film."
            elif isinstance(error, OSError):
                fault = f"{error.filename or 'a file'} cannot be used ({error.strerror or error})."
            else:
                traceback.print_exc()
                fault = f"this is a fault of the program ({type(error).__name__}: {error}); what it printed says more."
            self._tell(turn, "failed", fault)

    def _tell(self, turn: Turn, state: str, message: str) -> None:
        """Keep what became of a work; a preview leaves the state of its job as it is."""
        try:
            job = self._store.get(turn.job_id)
            changes = {"state": state} if turn.kind == "upscale" else {}
            self._store.change(job.id, message=named(message, self._store, job), **changes)
            if turn.kind == "upscale":
                self._store.count(job.id)
        except KSNetError as error:  # a full disk: what is on it says that the job is not done, which is so
            print(f"Error: {error}.", file=sys.stderr)
