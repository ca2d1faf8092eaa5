"""The front door: films upscaled by the workers of a cluster, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.memory import available_memory
from ksnet_deploy.cluster.crew import Crew
from ksnet_deploy.cluster.film import ClusterFilm
from ksnet_deploy.cluster.nodes import Nodes
from ksnet_deploy.cluster.parcel import packed
from ksnet_deploy.upscale.ladder import Choices
from ksnet_deploy.upscale.networks import find_network
from ksnet_deploy.upscale.result import Events, UpscaleResult
from ksnet_deploy.upscale.to_video import write_video_by
from ksnet_deploy.upscale.values import TileChoice
from ksnet_deploy.upscale.work import Work

__all__ = ["WAITING_BYTES", "Cluster"]

WAITING_BYTES = 32 << 20
"""Bytes of frames that may wait for each worker: a scene of 6 seconds at 180x320, so that the longest of several can go
first. All films share what there is for all workers."""
MEMORY_SHARE = 8
"""Part of the free memory, as a divisor, that waiting frames take at most."""


class Cluster(Closing):
    """Workers on one machine or many. A context manager, which ends them."""

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        threads: int | None = None,
        choices: Choices | None = None,
        say: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        """Join the cluster at an address, or start one on this machine; arguments and errors as of
        :class:`ksnet_deploy.cluster.nodes.Nodes`.

        Args:
            choices: runtime and device of the networks (default: the fastest that each worker has).
            say: told of workers that come and go, and what is left out, a sentence at a time.
        """
        self._stopping = threading.Event()
        self._choices = choices or Choices()
        self.nodes = Nodes(
            address,
            workers=workers,
            threads=threads,
            device=self._choices.device,
            is_stopped=self._stopping.is_set,
            on_gone=self.stop,
        )
        size = self.nodes.size
        self.device = "cuda" if size.gpus else "cpu"
        """Device of the workers, ``cpu`` or ``cuda``."""
        self.sent_bytes = self.received_bytes = 0
        """Bytes of frames that went to workers; of segments and states that came back."""
        free = available_memory()
        most = WAITING_BYTES * max(size.workers, 2)
        self.crew = Crew(self.nodes.hire, size.workers, most if free is None else min(most, free // MEMORY_SHARE), say)

    def upscale(
        self,
        work: Work,
        model: str,
        events: Events,
        *,
        tiles: TileChoice = "auto",
        window: int | None = None,
        look_ahead: int | None = None,
        shared_source: bool = False,
    ) -> UpscaleResult:
        """Upscale a video to a file; see :func:`ksnet_deploy.upscale.run.upscale_video`. Each of several has a thread.

        Args:
            model: a bundled checkpoint's name, or the path of a network's file here.
            shared_source: every worker opens the source itself, under its path here, and only ranges are sent.
        """
        if work.destination.kind != "video":
            raise ConfigError(
                f"{work.destination.path} is no video file, and only those are made on a cluster; leave --cluster out"
            )
        choices = self._choices
        device = None if choices.device == "auto" else choices.device
        network = find_network(model, choices.backend, device, choices.precision)
        parcel, files = packed(model, choices)
        film = ClusterFilm(
            work.source.path.name,
            self.crew.pool,
            network,
            parcel,
            self.nodes.put(files) if files else {},
            tiles,
            self.crew.workers,
            events.on_note,
            window=window,
            look_ahead=look_ahead,
            shared_source=shared_source,
        )
        try:
            return write_video_by(work, film, film.upscale, events)
        finally:
            film.close()
            self.sent_bytes += film.sent_bytes
            self.received_bytes += film.received_bytes

    @property
    def failure(self) -> BaseException | None:
        """Reason why all work has ended; None while it goes on."""
        return self.crew.pool.failure

    def stop(self, failure: BaseException) -> None:
        """End all work at once, from any thread; who waits for it is raised ``failure``."""
        self.crew.stop(failure)
        self._stopping.set()

    def close(self) -> None:
        if hasattr(self, "crew"):
            self.stop(BackendError("the cluster was closed"))
            self.crew.close()
        self.nodes.close()
