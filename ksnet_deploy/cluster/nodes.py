"""Ray: a cluster that is joined, or one that is started here; its machines looked at, and workers hired on them."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import BackendError, ConfigError, KSNetError
from ksnet_deploy.base.leftovers import remove_leftover_folders
from ksnet_deploy.base.machine import cores
from ksnet_deploy.cluster.chunks import Chunk
from ksnet_deploy.cluster.crew import Lost
from ksnet_deploy.cluster.opening import TOKEN_FILE, check_address, import_ray, versions
from ksnet_deploy.cluster.witness import Witness
from ksnet_deploy.cluster.worker import Worker

__all__ = ["Nodes", "RayWorker", "Size"]

FOLDER = "ksnet-ray-"
"""Beginning of the names of a local cluster's own folder; the id of the process follows."""
LONGEST_PLACE = 14
"""Characters of the temporary folder's name, below which Ray's sockets have names that the system takes."""
STORE_BYTES = 512 << 20
"""Object store of a cluster that is started here: all that is on its way at once is far less."""
POLL_S = 0.5
GONE_S = 15.0
"""Seconds without an answer of a cluster's head after which it is taken for gone."""
PROBE_S = 120.0
STARTS = 3
CLOSING_S = 15.0


@dataclass(frozen=True)
class Size:
    """Workers that there are to be."""

    workers: int
    cpus: int
    """CPU cores of each."""
    gpus: int
    """GPUs of each: one, or none."""


class Nodes(Closing):
    """The machines of a cluster."""

    def __init__(
        self,
        address: str | None,
        *,
        workers: int | None = None,
        threads: int | None = None,
        device: str = "auto",
        is_stopped: Callable[[], bool],
        on_gone: Callable[[BackendError], None],
    ) -> None:
        """Join a cluster, or start one here.

        Args:
            address: ``HOST:PORT`` of the head, ``auto`` for the cluster that this machine is part of; None to start
                one that ends with this process.
            workers: how many there are to be (default: one for each GPU where there are some, else for each core).
            threads: CPU cores of each worker (default: one where it has a GPU or where the number of workers is not
                given, else an equal share).
            device: ``cpu`` for workers without a GPU, ``cuda`` for such with one alone (default: auto).
            is_stopped: asked while something is waited for.
            on_gone: told, from another thread, that the cluster has gone.

        Raises:
            BackendError: Ray is not installed, or there is no such cluster.
            ConfigError: the cluster has not the cores or the GPUs for so many workers.
        """
        self._is_stopped, self._on_gone = is_stopped, on_gone
        self._closed, self._gone = threading.Event(), False
        self._witness: Witness | None = None
        if address not in (None, "auto"):
            check_address(str(address))
        self._ray = import_ray(joins=address is not None)
        self._folder: Path | None = None
        self.address = address
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            if address is None:
                self._start(workers, threads)
            else:
                self._join(address)
        finally:
            with contextlib.suppress(ValueError):  # not the main thread, whose signals Ray leaves alone
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        try:
            self.size = self._sized(workers, threads, device)
            self._check_versions()
            self._actor = self._ray.remote(
                num_cpus=self.size.cpus, num_gpus=self.size.gpus, max_restarts=0, max_task_retries=0
            )(Worker)
            if (raylet := self._raylet_socket()) is not None:
                self._witness = Witness(raylet, f"Error: {self._gone_error()}")
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def _watch(self) -> None:
        """Notice a cluster that is no more there: its head does not answer, or no machine is left."""
        host, _, port = self._ray.get_runtime_context().gcs_address.rpartition(":")
        answered = time.monotonic()
        while not self._closed.wait(POLL_S):
            with contextlib.suppress(Exception):
                socket.create_connection((host.strip("[]"), int(port)), timeout=POLL_S).close()
                if any(node["Alive"] and node["Resources"].get("CPU") for node in self._ray.nodes()):
                    answered = time.monotonic()
            if time.monotonic() - answered > GONE_S or not self._own_part_runs():
                self._gone = True
                self._on_gone(self._gone_error())
                return

    def _gone_error(self) -> BackendError:
        where = "that was started here" if self.address is None else f"at {self.address}"
        return BackendError(
            f"the cluster {where} has gone, or this machine's part of it; start it again and run the same command, "
            "which goes on after what is finished"
        )

    def _raylet_socket(self) -> str | None:
        """Path of the socket of this machine's raylet; None where Ray, of whose own names it is one, has it no more."""
        try:
            return str(self._ray._private.worker.global_worker.node.raylet_socket_name)
        except AttributeError:
            return None

    def _own_part_runs(self) -> bool:
        """Whether this machine's raylet takes connections; a while after it does not, Ray ends this process."""
        if (raylet := self._raylet_socket()) is None:
            return True
        with socket.socket(socket.AF_UNIX) as trial:
            try:
                trial.connect(raylet)
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except OSError:  # nothing that it would say of the raylet
                pass
        return True

    def _start(self, workers: int | None, threads: int | None) -> None:
        place = Path(tempfile.gettempdir())
        if len(str(place)) > LONGEST_PLACE:
            place = Path("/tmp")
        remove_leftover_folders(place, FOLDER)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=place))
        for attempt in range(STARTS):
            try:
                self._ray.init(
                    address="local",
                    num_cpus=max((workers or 1) * (threads or 1), cores()),
                    _node_ip_address="127.0.0.1",
                    object_store_memory=STORE_BYTES,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    _temp_dir=str(self._folder),
                )
            except Exception as error:  # of many kinds, and texts of many lines
                if "timed out" in str(error) and attempt + 1 < STARTS:  # on a busy machine; its limit is 30 s
                    self._ray.shutdown()
                    continue
                self.close()
                raise BackendError(
                    f"Ray could not be started here ({_first_line(error)}); see whether 'ray start --head' works, or "
                    "leave --cluster out"
                ) from error
            return

    def _join(self, address: str) -> None:
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except Exception as error:
            self.close()
            raise BackendError(
                f"the cluster at {address} cannot be joined ({_first_line(error)}); start this on one of its machines, "
                f"after 'ray start' there, with the {TOKEN_FILE} of its head"
            ) from error

    def _sized(self, workers: int | None, threads: int | None, device: str) -> Size:
        resources = self._ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        if device == "cuda" and not gpus:
            raise ConfigError("the cluster has no GPU, and --device cuda was asked for; leave it out")
        if gpus and device != "cpu":
            if workers is not None and workers > gpus:
                raise ConfigError(f"the cluster has {gpus} GPUs, too few for {workers} workers; give --workers {gpus}")
            return Size(workers or gpus, threads or 1, 1)
        if not cpus:
            raise ConfigError("the cluster has no CPU cores to work on; give 'ray start' some with --num-cpus")
        if workers is not None and workers > cpus:
            raise ConfigError(f"the cluster has {cpus} cores, too few for {workers} workers; give --workers {cpus}")
        count = workers or max(cpus // (threads or 1), 1)
        return Size(count, threads or cpus // count, 0)

    def _check_versions(self) -> None:
        """Raise BackendError where a machine has other versions than this one."""
        mine = versions()
        ray = self._ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        def probe() -> dict[str, str]:  # nested, so that it travels as it is and needs nothing of ours there
            try:
                from ksnet_deploy.cluster.opening import versions as found
            except ImportError as error:
                return {"ksnet-deploy": f"none ({error})"}
            return found()

        task = ray.remote(num_cpus=0, max_retries=0)(probe)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        calls = {
            node["NodeManagerHostname"]: task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote()
            for node in nodes
        }
        for name, call in calls.items():
            found = self.wait(call, PROBE_S, f"{name} did not say its versions within {PROBE_S:.0f} s")
            if differing := sorted(k for k in mine if found.get(k, "none") != mine[k]):
                what = ", ".join(f"{k} {found.get(k, 'none')} instead of {mine[k]}" for k in differing)
                raise BackendError(
                    f"{name} has other versions than this machine ({what}), and films would differ by who upscales "
                    "them; install the same there"
                )

    def wait(self, reference: Any, limit_s: float | None = None, late: str = "") -> Any:
        """The value that a call returns.

        Raises:
            Lost: its worker is gone.
            KSNetError: what the call raised; or it took longer than the limit.
        """
        ray, began = self._ray, time.monotonic()
        while not ray.wait([reference], timeout=POLL_S)[0]:
            if self._is_stopped():
                raise Lost("everything is stopped")
            if limit_s is not None and time.monotonic() - began > limit_s:
                raise BackendError(f"{late}; see 'ray status' on the head")
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, KSNetError):
                raise cause from None
            raise BackendError(f"a worker failed: {_last_line(error)}; report this, please") from error
        except ray.exceptions.RayError as error:
            raise Lost(_first_line(error)) from error

    def hire(self) -> RayWorker:
        """A new worker, once there is room for it."""
        return RayWorker(self, self._actor.remote())

    def put(self, value: Any) -> Any:
        """A reference to a value in the object store, once that has room."""
        while True:
            try:
                return self._ray.put(value)
            except self._ray.exceptions.ObjectStoreFullError:
                if self._is_stopped():
                    raise Lost("everything is stopped") from None
                time.sleep(POLL_S)

    def kill(self, actor: Any) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(actor, no_restart=True)

    def close(self) -> None:
        self._closed.set()
        ending = threading.Thread(target=self._shut_down, name="shutdown", daemon=True)
        ending.start()
        ending.join(CLOSING_S)  # a cluster that has gone would be waited for
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._witness is not None and not self._gone:  # else Ray may still end this process before it has said why
            self._witness.dismiss()

    def _shut_down(self) -> None:
        with contextlib.suppress(Exception):
            self._ray.shutdown()


class RayWorker:
    """A :class:`ksnet_deploy.cluster.worker.Worker` in an actor."""

    def __init__(self, nodes: Nodes, actor: Any) -> None:
        """Wait until it is there. Raises Lost where it ends before."""
        self._nodes, self._actor = nodes, actor
        try:
            self.place, self.process = nodes.wait(actor.place.remote())
        except BaseException:
            self.stop()
            raise

    def call(self, method: str, *arguments: Any) -> Callable[[], Any]:
        large = (isinstance(value, Chunk) or (isinstance(value, dict) and value) for value in arguments)
        sent = [self._nodes.put(value) if big else value for value, big in zip(arguments, large, strict=True)]
        reference = getattr(self._actor, method).remote(*sent)
        return lambda: self._nodes.wait(reference)

    def stop(self) -> None:
        self._nodes.kill(self._actor)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


def _last_line(error: BaseException) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
