"""A film on a cluster: read here, in chains, and put together here from the segments that come back in any order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cluster.chunks import ChunkPacker
from ksnet_deploy.cluster.parcel import NetworkParcel
from ksnet_deploy.cluster.pool import Chain, Film, Pool
from ksnet_deploy.cluster.worker import Answer, FilmSettings, Opened, Totals
from ksnet_deploy.upscale.networks import Network
from ksnet_deploy.upscale.plan import Planned
from ksnet_deploy.upscale.prepare import tell_windows
from ksnet_deploy.upscale.stages import StageTimes
from ksnet_deploy.upscale.to_video import Course, Done
from ksnet_deploy.upscale.values import TileChoice
from ksnet_deploy.upscale.windows import Windows
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import PictureFormat

__all__ = ["ClusterFilm"]


class ClusterFilm(Film):
    """A film that workers upscale; the means of :func:`ksnet_deploy.upscale.to_video.write_video_by`."""

    def __init__(
        self,
        name: str,
        pool: Pool,
        network: Network,
        parcel: NetworkParcel,
        files: Any,
        tiles: TileChoice,
        workers: int,
        say: Callable[[str], None],
        *,
        window: int | None = None,
        look_ahead: int | None = None,
        shared_source: bool = False,
    ) -> None:
        """Announce a film; a worker tries its network out when its size is known.

        Args:
            network: found here, for what its configuration tells; it is never opened here.
            files: contents of the parcel's files, as workers are given them.
            tiles, window, look_ahead: as they were asked for.
            shared_source: every worker can open the source under its path here, and does so; frames are not sent.
        """
        super().__init__(name)
        self._pool, self._network, self._parcel, self._tiles, self._workers = pool, network, parcel, tiles, workers
        self.files, self.say, self._shared_source = files, say, shared_source
        self._window, self._look_ahead = window, look_ahead
        self.windows = Windows.of(network, window, look_ahead)
        self.settings: FilmSettings
        self.encoder: Encoder
        self.picture: PictureFormat
        self.on_frame: Callable[[], None]
        self.sent_bytes = 0
        """Bytes of pictures that were sent to workers."""
        self.received_bytes = 0
        """Bytes of packets and states that came back."""
        self._opened: Opened | None = None
        self._course: Course | None = None
        self._lock = threading.Lock()
        self._steps, self._step_s, self._busy_s = 0, 0.0, {"network": 0.0, "encode": 0.0}

    # The means, as ``prepare`` asks for them.

    def macs_per_frame(self, size: FrameSize) -> int | None:
        """Multiply-adds for an LR frame of a size; None where the network's configuration is not known."""
        return self._network.macs_per_frame(size.padded)

    def settle(self, size: FrameSize, dtype: np.dtype[Any]) -> None:
        """Let a worker load the network for frames of a size and type. Raises KSNetError where none can."""
        self.settings = FilmSettings(self._parcel, size, dtype.name, self._tiles, self._window, self._look_ahead)
        self._pool.enter(self)
        self._pool.wait_for_settling(self)

    def identity(self) -> dict[str, str]:
        """Everything about the network on the workers that changes the pictures."""
        assert self._opened is not None, "settle() first"
        return {**self._opened.identity, "tiles": str(self._tiles), **self.windows.identity()}

    def learn(self, opened: Opened) -> None:
        """Take what the first worker found as the rule for all."""
        self._opened = opened
        self._fix_tiles(FrameSize.parse(opened.tiles) if opened.tiles != "off" else "off")

    def _fix_tiles(self, tiles: TileChoice) -> None:
        self.settings = replace(self.settings, tiles=tiles)

    def difference(self, opened: Opened) -> str:
        """Difference of a worker's network from the first's, in words; empty where there is none."""
        assert self._opened is not None
        mine, other = opened.identity, self._opened.identity
        names = sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))
        return ", ".join(f"{name}: {mine.get(name, 'none')} instead of {other.get(name, 'none')}" for name in names)

    def upscale(self, course: Course) -> Done:
        """Have the segments that lack made by workers. Raises KSNetError, or what ended everything."""
        self._course, self.encoder, self.picture = course, course.work.encoder, course.picture
        self.on_frame = course.events.on_frame
        if course.tiles is not None:
            self._fix_tiles(course.tiles)
        tell_windows(course.reader, self._network, self.windows, course.events)
        course.begin()
        began = time.perf_counter()
        try:
            decode_s = self._feed(course.frames)
            self._pool.wait_for_end(self)
        finally:
            with self._lock:  # the job is no longer ours
                self._course = None
        wall_s = time.perf_counter() - began
        share = {name: seconds / self._workers for name, seconds in self._busy_s.items()}
        assert self._opened is not None
        return Done(
            times=StageTimes(wall_s, {"decode": decode_s, **share}),
            steps=self._steps,
            step_s=self._step_s,
            tiles=self._opened.tiles if self._opened.tiles != "off" else None,
            io=self._opened.io,
        )

    def source_from(self, chain: Chain) -> Source | None:
        """The source from where a chain goes on, for a worker that is to read it; None where frames are sent."""
        if not self._shared_source or self._course is None:
            return None
        source = self._course.work.source
        return replace(source, path=source.path.resolve(), start_s=chain.chunks[0].start_s)

    def close(self) -> None:
        """Leave the pool; what workers still do of the film is dropped."""
        if self in self._pool.films:
            self._pool.leave(self)

    def _feed(self, frames: Iterator[Planned]) -> float:
        """Cut the frames into chains; the seconds that reading took."""
        seconds_of = self._course.reader.seconds_of if self._shared_source and self._course is not None else None
        packer, chain, expected = ChunkPacker(seconds_of), None, -1
        reading_s = 0.0
        while True:
            began = time.perf_counter()
            planned = next(frames, None)
            reading_s += time.perf_counter() - began
            ends = planned is None or planned.starts_segment or packer.is_full
            if ends and chain is not None and (chunk := packer.take()) is not None:
                self._pool.put(chain, chunk)
            if planned is None or planned.starts_chain or planned.index != expected:
                if chain is not None:
                    self._pool.complete(chain)
                if planned is None:
                    return reading_s
                chain = self._pool.begin(self, planned.index, planned.state or {})
            packer.add(planned)
            expected = planned.index + 1

    # What the threads of the workers tell.

    def receive(self, chain: Chain, answer: Answer, pool: Pool) -> None:
        """Take the segments of a chain that are complete. Raises OutputError where the disk does not take them."""
        for segment in answer.segments:
            with self._lock:
                if self._course is None:
                    return
                self._course.job.add(segment)
                self.received_bytes += sum(len(packet.data) for packet in segment.packets)
                self.received_bytes += sum(array.nbytes for array in (segment.state or {}).values())
            pool.kept(chain, segment.end, segment.state)
        for _ in range(chain.shown, answer.done):
            self.on_frame()
        chain.shown = max(chain.shown, answer.done)

    def count(self, totals: Totals) -> None:
        """Add up what a chain took."""
        with self._lock:
            self._steps += totals.steps
            self._step_s += totals.step_s
            for name, seconds in totals.busy_s.items():
                self._busy_s[name] += seconds
