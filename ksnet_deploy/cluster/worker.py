"""A worker: takes the frames of one chain after another and gives the encoded segments back. Knows nothing of Ray.

Its methods are called one at a time and from afar, so what they take and give is small or arrays. The network and the
encoder work in threads of their own while the next frames arrive (``upscale/stages.py``).
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from filelock import FileLock

from ksnet_deploy.base.errors import BackendError, InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import give_free_memory_back
from ksnet_deploy.cluster.chunks import Chunk, check_of
from ksnet_deploy.cluster.parcel import NetworkParcel
from ksnet_deploy.export.cache import made_cache_folder
from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.upscale.network_stage import NetworkStage
from ksnet_deploy.upscale.plan import Planned
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.segments import EncodedSegment, SegmentEncoder, Upscaled
from ksnet_deploy.upscale.stages import StageTimes, run_stages
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.values import TileChoice
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import PictureFormat

__all__ = ["Answer", "FilmSettings", "Opened", "Totals", "Worker"]

WAITING_FRAMES = 4
"""Frames that may wait for the network beside those between its stages."""
POLL_S = 0.1
STATE_S = 30.0
"""Seconds of work that are lost at most with a worker, beside a segment, where the state is larger than the frames."""


@dataclass(frozen=True)
class FilmSettings:
    """Settings of a film that a worker needs for its frames."""

    parcel: NetworkParcel
    size: FrameSize
    dtype: str
    """``uint8`` or ``uint16``, the type of the frames."""
    tiles: TileChoice
    window: int | None = None
    look_ahead: int | None = None
    """Frames of a window and of those ahead, of a bidirectional network; None for its defaults."""


@dataclass(frozen=True)
class Opened:
    """A worker's answer where it has loaded a network."""

    identity: dict[str, str]
    """Everything about the network there that changes the pictures."""
    tiles: str
    """Size of the tiles that frames are run in; ``off`` for whole frames."""
    io: str
    """Type of the frames that the network takes."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """Segments that are complete since the last answer."""

    segments: tuple[EncodedSegment, ...]
    done: int
    """Number of the frame after the last one that went through the network."""


@dataclass(frozen=True)
class Totals:
    """Counts and seconds of a chain that is complete."""

    steps: int
    step_s: float
    busy_s: dict[str, float]
    """Seconds by stage."""


class Worker:
    """Holds the network of one film at a time, and the line of stages of one chain."""

    def __init__(self) -> None:
        self._settings: FilmSettings | None = None
        self._upscaler: Upscaler | None = None
        self._line: _Line | None = None
        self._reader: VideoReader | None = None
        self._frames: Iterator[Frame] | None = None
        self._notes: list[str] = []

    def place(self) -> tuple[str, int]:
        """Name of the machine, and id of the process."""
        return socket.gethostname(), os.getpid()

    def open(self, settings: FilmSettings, files: Mapping[str, bytes]) -> Opened:
        """Load the network of a film, unless it is loaded.

        Args:
            files: contents of the parcel's files.

        Raises:
            KSNetError: it cannot be loaded or run here.
        """
        loaded = self._settings
        if self._upscaler is None or loaded is None or replace(loaded, tiles=settings.tiles) != settings:
            self.close()
            self._notes = []
            choices = settings.parcel.choices
            self._upscaler = Upscaler(
                settings.parcel.place(files),
                runtime=choices.runtime,
                device=choices.device,
                precision=choices.precision,
                tiles=settings.tiles,
                window=settings.window,
                look_ahead=settings.look_ahead,
                on_note=self._notes.append,
            )
        else:
            self._upscaler.keep_tiles(settings.tiles)
        self._settings, upscaler = settings, self._upscaler
        folder = made_cache_folder()
        with FileLock(folder / "opening.lock"):  # an export or an engine is made once on a machine
            runner = upscaler.open(settings.size, np.dtype(settings.dtype))
        tiles = str(upscaler.tiling.tile) if upscaler.tiling else "off"
        notes, self._notes[:] = tuple(self._notes), []
        return Opened(upscaler.network.identity(), tiles, runner.io, notes)

    def begin(self, encoder: Encoder, picture: PictureFormat, state: SavedState, source: Source | None = None) -> None:
        """Begin a chain: from a scene's first frame, or from a state after one of its segments.

        Args:
            source: the film from the first frame on, where it is read here instead of being sent.

        Raises:
            InputError: it cannot be read here.
        """
        if self._upscaler is None:
            raise BackendError("no network is loaded; open one before a chain is begun")
        self.abort()
        if source is not None:
            self._reader = VideoReader(source)
            self._frames = self._reader.frames()
        self._line = _Line(self._upscaler, SegmentEncoder(encoder, picture, self._upscaler), state)

    def push(self, chunk: Chunk) -> Answer:
        """Take the next frames; returns when the last of them waits for the network.

        Raises:
            KSNetError: the network or the encoder failed.
        """
        line = self._going()
        for place, planned in enumerate(chunk.planned()):
            line.put(self._read(planned, chunk.checks[place]) if chunk.checks else planned)
        return line.answer()

    def _read(self, planned: Planned, check: int) -> Planned:
        """The planned frame with its picture from the source."""
        assert self._frames is not None
        found = next(self._frames, None)
        if found is None or check_of(found) != check:
            raise InputError(
                f"frame {planned.index} of the source, read from the middle, is not as it is read from the beginning; "
                "leave --shared-source out, and see that it is the same file on every machine"
            )
        return replace(planned, frame=replace(planned.frame, rgb=found.rgb))

    def end(self) -> tuple[Answer, Totals]:
        """Wait for the end of the chain, whose last frame was taken. Raises as :meth:`push` does."""
        line, self._line = self._going(), None
        totals = line.end()
        self._close_source()
        give_free_memory_back()  # every chain has threads of its own
        return line.answer(), totals

    def abort(self) -> None:
        """Forget the chain that was begun, if there is one."""
        if self._line is not None:
            self._line.stop()
            self._line = None
        self._close_source()

    def _close_source(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = self._frames = None

    def close(self) -> None:
        """Forget chain and network."""
        self.abort()
        if self._upscaler is not None:
            self._upscaler.close()
            self._upscaler = self._settings = None

    def _going(self) -> _Line:
        if self._line is None:
            raise BackendError("no chain was begun; begin one before its frames are given")
        return self._line


class _Stopped(Exception):  # noqa: N818
    """The chain was aborted."""


class _Line:
    """The stages of one chain, fed from outside."""

    def __init__(self, upscaler: Upscaler, segments: SegmentEncoder, state: SavedState) -> None:
        self._upscaler, self._segments = upscaler, segments
        self._state: SavedState | None = state or None
        self._queue: queue.Queue[Planned | None] = queue.Queue(WAITING_FRAMES)
        self._complete: list[EncodedSegment] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._times = StageTimes()
        self._done = 0
        self._held_bytes, self._held_since = 0, time.monotonic()
        self._steps, self._step_s = upscaler.steps, upscaler.step_s
        self._thread = threading.Thread(target=self._run, name="chain", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            stage = NetworkStage(self._upscaler, Events())
            names = ("wait", "network", "encode")
            self._times = run_stages(
                self._frames(), stage, self._take, names=names, flush=stage.flush, finish=self._finish
            )
        except _Stopped:
            pass
        except BaseException as error:
            self._failure = error

    def _frames(self) -> Iterator[Planned]:
        while True:
            try:
                planned = self._queue.get(timeout=POLL_S)
            except queue.Empty:
                if self._stopped.is_set():
                    raise _Stopped from None
                continue
            if planned is None:
                return
            if self._state is not None:
                planned, self._state = replace(planned, state=self._state), None
            yield planned

    def _take(self, upscaled: Upscaled) -> None:
        segment = self._segments.take(upscaled)
        self._done = upscaled.index + 1
        self._held_bytes += 0 if upscaled.frame.rgb is None else upscaled.frame.rgb.nbytes // 16
        if segment is not None:
            self._keep(segment)

    def _finish(self) -> None:
        if (segment := self._segments.end()) is not None:
            self._keep(segment)

    def _keep(self, segment: EncodedSegment) -> None:
        """Hand a segment over, with its state where the frames since the last one are worth it."""
        state_bytes = sum(array.nbytes for array in (segment.state or {}).values())
        if state_bytes and self._held_bytes < state_bytes and time.monotonic() - self._held_since < STATE_S:
            segment = replace(segment, state=None)
        else:
            self._held_bytes, self._held_since = 0, time.monotonic()
        with self._lock:
            self._complete.append(segment)

    def put(self, planned: Planned) -> None:
        while True:
            self._check()
            try:
                self._queue.put(planned, timeout=POLL_S)
            except queue.Full:
                continue
            return

    def answer(self) -> Answer:
        with self._lock:
            segments, self._complete = tuple(self._complete), []
        return Answer(segments, self._done)

    def end(self) -> Totals:
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=POLL_S)
            except queue.Full:
                continue
            break
        self._thread.join()
        self._check()
        steps, step_s = self._upscaler.steps - self._steps, self._upscaler.step_s - self._step_s
        return Totals(steps, step_s, {k: v for k, v in self._times.busy_s.items() if k != "wait"})

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
