"""Everything that is measured of one way to run a network, on an open runner."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize, pad, values_of
from ksnet_deploy.base.machine import peak_memory, reset_peak_memory
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.measure.speed.layers import in_shares
from ksnet_deploy.measure.speed.timing import Clock, repeat, warm_up
from ksnet_deploy.runtime.base import Runner

if TYPE_CHECKING:
    from ksnet_deploy.upscale.upscaler import Upscaler

__all__ = ["Footage", "Worker"]

WINDOW = 4
"""Frames of the windows in which a bidirectional network is measured, fewer than ``upscale`` takes: of a heavy one
those would take minutes. The work of a frame is the same, but for the look-ahead, which is left out."""


@dataclass(frozen=True)
class Footage:
    """Frames to upscale: the first frames of a video, or the bundled clip tiled to a size."""

    size: FrameSize
    clip: Path | None = None

    def frames(self, count: int) -> list[NDArray[np.uint8]]:
        """So many frames, or as many as there are, (H, W, 3) uint8; padded to the network's smallest size, as
        ``upscale`` does."""
        if self.clip is None:
            return moving_frames(self.size, count)
        from ksnet_deploy.video.reading.reader import VideoReader

        with VideoReader(self.clip) as reader:
            read = [frame.rgb for frame in itertools.islice(reader.frames(), count)]
        return [pad(values_of(rgb, "uint8").astype(np.uint8)) for rgb in read]


class Worker:
    """Measures one runner. Every method can be called from another process; see ``child.py``."""

    FRAMES = 8

    def __init__(self, opener: Callable[[], Runner], footage: Footage, *, clock: Clock = time.perf_counter) -> None:
        """Open the runner.

        Raises:
            KSNetError: it cannot be opened.
        """
        self._clock = clock
        self._footage = footage
        self._runner = opener()
        self._frames = [values_of(frame, self._runner.io) for frame in footage.frames(self.FRAMES)]
        self._next = 0

    def _frame(self) -> NDArray[Any]:
        self._next += 1
        return self._frames[(self._next - 1) % len(self._frames)]

    def warm_up(self, seconds: float) -> float:
        """Step for so long; milliseconds of the last step. Peaks of memory count from then on, where they can."""
        last_ms = warm_up(lambda: self._runner.timed_step(self._frame()), seconds, clock=self._clock)
        reset_peak_memory()
        if (cuda := self._cuda_of_torch()) is not None:
            cuda.reset_peak_memory_stats()
        return last_ms

    def engine(self, seconds: float) -> list[float]:
        """Milliseconds of single steps, by the runner's clock; see :meth:`Runner.timed_step`."""
        return repeat(lambda: self._runner.timed_step(self._frame()), seconds, clock=self._clock)

    def pipeline(self, seconds: float) -> list[float]:
        """Milliseconds from an 8-bit frame in memory to the larger one in memory, by the clock of the host."""
        frames = self._footage.frames(self.FRAMES)
        upscaler = self._upscaler()
        length = upscaler.windows.frames
        pushed = itertools.cycle(frames)

        def once() -> float:
            """Milliseconds of a frame; of a network that takes windows, its part of one, without the look-ahead."""
            window = [next(pushed) for _ in range(length)]
            before = self._clock()
            for _ in upscaler.window(window):
                pass
            return (self._clock() - before) * 1e3 / length

        return repeat(once, seconds, clock=self._clock)

    def pictures(self, count: int) -> NDArray[np.uint8]:
        """The first frames from a fresh state, (N, 4 H, 4 W, 3) uint8."""
        self._runner.reset()
        frames = [values_of(frame, self._runner.io) for frame in self._footage.frames(count)]
        found = [*self._runner.window(frames)]
        self._runner.reset()
        return np.stack([np.rint(np.clip(f, 0, 1) * 255).astype(np.uint8) if f.dtype != np.uint8 else f for f in found])

    def kernel(self) -> str | None:
        """Kernel that computes the alignment, where the runtime has a choice; see :attr:`Runner.kernel`."""
        return self._runner.kernel

    def layers(self) -> dict[str, float]:
        """Share of each layer type in a few steps, from most to least; see :meth:`Runner.layer_times`."""
        self._runner.layer_times(self._frame())  # the first is slower
        times: dict[str, float] = defaultdict(float)
        for _ in range(3):
            for kind, spent in self._runner.layer_times(self._frame()).items():
                times[kind] += spent
        return in_shares(times)

    def processor_s(self) -> float:
        """Seconds of processor time, of all cores, that this process has used so far."""
        return time.process_time()

    def peak_memory_mb(self) -> float:
        """Most of the main memory that this process has held, in 1e6 bytes: on Linux since the warm-up, so that it is
        the steps' own; else, or where that is not permitted, since its start, with loading and compiling."""
        return peak_memory() / 1e6

    def device_peak_mb(self) -> float | None:
        """Most of the GPU's memory that PyTorch's tensors took since the warm-up, in 1e6 bytes; None for other runtimes
        and on the CPU."""
        cuda = self._cuda_of_torch()
        return None if cuda is None else cuda.max_memory_allocated() / 1e6

    def _cuda_of_torch(self) -> Any:
        """``torch.cuda`` where PyTorch runs the network on a GPU, else None."""
        if self._runner.backend != "torch":
            return None
        import torch

        return torch.cuda if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]

    def end_to_end(self, frames: int) -> float:
        """Frames per second from file to file: decoding, network, encoding in H.264. The runner is closed then."""
        from ksnet_deploy.upscale.run import upscale_video

        self._runner.reset()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            end_s = None
            if self._footage.clip is None:
                source = folder / "frames"
                _write_pictures(source, list(itertools.islice(itertools.cycle(self._footage.frames(8)), frames)))
            else:
                from ksnet_deploy.video.reading.reader import VideoReader

                source = self._footage.clip
                with VideoReader(source) as reader:
                    end_s = frames / reader.rate
            return upscale_video(source, folder / "larger.mkv", self._upscaler(), end_s=end_s).fps

    def _upscaler(self) -> Upscaler:
        """The runner in an upscaler; in windows of :data:`WINDOW` frames where it takes windows."""
        from ksnet_deploy.runtime.windows import WindowRunner
        from ksnet_deploy.upscale.networks import GivenNetwork
        from ksnet_deploy.upscale.upscaler import Upscaler

        bidirectional = isinstance(self._runner, WindowRunner)
        network = GivenNetwork(lambda _size, _io: self._runner, is_bidirectional=bidirectional)
        return Upscaler(network, window=WINDOW if bidirectional else None, look_ahead=0 if bidirectional else None)

    def close(self) -> None:
        self._runner.close()


def _write_pictures(folder: Path, frames: list[NDArray[np.uint8]]) -> None:
    from ksnet_deploy.video.picture import write_png

    folder.mkdir()
    for index, frame in enumerate(frames):
        write_png(folder / f"{index:04d}.png", frame)
