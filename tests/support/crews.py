"""Workers of a cluster without Ray: threads of this process, which can be killed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ksnet_deploy.cluster.crew import Crew, Lost
from ksnet_deploy.cluster.film import ClusterFilm
from ksnet_deploy.cluster.parcel import NetworkParcel
from ksnet_deploy.cluster.worker import Worker
from ksnet_deploy.upscale.ladder import Choices
from ksnet_deploy.upscale.networks import find_network
from ksnet_deploy.upscale.result import Events, UpscaleResult
from ksnet_deploy.upscale.to_video import write_video_by
from ksnet_deploy.upscale.work import Work

__all__ = ["ThreadRemote", "upscale_by", "work_for"]


class ThreadRemote:
    """A worker in a thread; what it does is told to ``on_call`` first, which may kill it."""

    def __init__(self, place: str, on_call: Callable[[ThreadRemote, str, tuple[Any, ...]], None]) -> None:
        self.place, self._on_call = place, on_call
        self.worker = Worker()
        self.killed = threading.Event()
        self._calls: queue.Queue[tuple[Future[Any], str, tuple[Any, ...]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name=place, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, method, arguments = call
            if self.killed.is_set():
                future.set_exception(Lost("killed"))
                continue
            try:
                self._on_call(self, method, arguments)
                future.set_result(getattr(self.worker, method)(*arguments))
            except BaseException as error:
                future.set_exception(error)
        self.worker.close()

    def call(self, method: str, *arguments: Any) -> Callable[[], Any]:
        future: Future[Any] = Future()
        self._calls.put((future, method, arguments))

        def wait() -> Any:
            while not future.done():
                if self.killed.wait(0.002):
                    raise Lost("killed")
            if self.killed.is_set():
                raise Lost("killed")
            return future.result()

        return wait

    def stop(self) -> None:
        self.killed.set()
        self._calls.put(None)


def upscale_by(
    work: Work,
    workers: int,
    on_call: Callable[[ThreadRemote, str, tuple[Any, ...]], None] = lambda *_: None,
    *,
    events: Events | None = None,
    waiting_bytes: int = 1 << 20,
    say: Callable[[str], None] = lambda _: None,
    crew: Crew | None = None,
    shared_source: bool = False,
) -> UpscaleResult:
    """Upscale a video by workers in threads."""
    hired: list[ThreadRemote] = []

    def hire() -> ThreadRemote:
        hired.append(ThreadRemote(f"node{len(hired)}", on_call))
        return hired[-1]

    own = crew or Crew(hire, workers, waiting_bytes, say)
    events = events or Events()
    network, parcel = find_network("lite", "onnxruntime"), NetworkParcel("lite", Choices("onnxruntime", "cpu"))
    name = work.source.path.name
    film = ClusterFilm(
        name, own.pool, network, parcel, {}, "auto", own.workers, events.on_note, shared_source=shared_source
    )
    try:
        return write_video_by(work, film, film.upscale, events)
    finally:
        film.close()
        if crew is None:
            own.close()


def work_for(source: Path, target: Path, **settings: Any) -> Work:
    """Work on a video with the usual settings."""
    from ksnet_deploy.upscale.destination import Destination
    from ksnet_deploy.video.kinds import Source
    from ksnet_deploy.video.writing.presets import choose_encoder

    return Work(
        source=Source(source),
        destination=Destination(target, "video"),
        encoder=choose_encoder("h264", speed="ultrafast"),
        **settings,
    )
