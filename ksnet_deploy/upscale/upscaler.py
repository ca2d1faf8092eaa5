"""Frames in, frames four times larger out: the network with padding, frame types and scenes taken care of.

with Upscaler("lite") as upscaler:
    for frame in frames:               # (H, W, 3) RGB, uint8 or uint16
        larger = upscaler.push(frame)  # (4 H, 4 W, 3) of the same type

A bidirectional network sees later frames too, so it is given them all, one after the other, and takes them in windows:

with Upscaler("bi") as upscaler:
    for larger in upscaler.upscale(frames):
        ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize, FrameType, as_levels, crop, levels_of, pad, values_of
from ksnet_deploy.runtime.base import Runner, SavedState
from ksnet_deploy.runtime.lanes import Lanes
from ksnet_deploy.runtime.tiles import TilePlan
from ksnet_deploy.upscale.card_engines import OnBuild
from ksnet_deploy.upscale.ladder import Choices, find_fastest
from ksnet_deploy.upscale.networks import GivenNetwork, Network
from ksnet_deploy.upscale.precision import precision_used
from ksnet_deploy.upscale.side_by_side import check_scenes, several_at_once
from ksnet_deploy.upscale.values import TileChoice, parse_tiles
from ksnet_deploy.upscale.way import Way
from ksnet_deploy.upscale.windows import Windows

__all__ = ["Upscaler"]

UINT8 = np.dtype(np.uint8)


class Upscaler(Closing):
    """Upscales the frames of one video, in order. A context manager."""

    def __init__(
        self,
        model: str | Path | Network | None = None,
        *,
        runtime: str | None = None,
        device: str | None = None,
        backend: str | None = None,
        precision: str | None = None,
        tiles: TileChoice | str = "auto",
        window: int | None = None,
        look_ahead: int | None = None,
        scenes_in_flight: int = 1,
        on_note: Callable[[str], None] = lambda _sentence: None,
        on_build: OnBuild = lambda _phase, _done, _total: None,
        open_runner: Callable[[FrameSize, FrameType], Runner] | None = None,
    ) -> None:
        """Find the network; it is loaded with the first frame, which tells the size.

        Args:
            model: a bundled checkpoint's name, or the path of a checkpoint, an ``.onnx`` or an ``.engine``
                (default: lite on a CPU, uni on a GPU).
            runtime: ``tensorrt``, ``rtx``, ``torch``, ``onnxruntime`` or ``openvino`` (default: the fastest that is
                here).
            device: ``cpu`` or ``cuda`` (default: the GPU where there is one that can be used). What is asked for is
                taken or refused, and never replaced.
            backend: older name of ``runtime``.
            precision: ``fp32`` or ``int8``, of CPUs (default: auto).
            tiles: largest tiles that a frame is upscaled in, in LR pixels; ``off`` for whole frames (default: the
                largest that the memory allows). Exported files and PyTorch run whole frames only.
            window, look_ahead: frames that a bidirectional network takes at a time, and those that it looks at after
                them (default: 32 and 8).
            scenes_in_flight: scenes of a video that go through the network as a batch, by :meth:`step` (default: 1).
            on_note: told what a user should know, a sentence at a time: what runs it on a GPU, an export, tiles.
            on_build: told the progress of an engine that is built now: its phase, the steps done and their number.
            open_runner: opens the network for whole frames, instead of all these.

        Raises:
            KSNetError: there is no such network, backend, device, size of tiles or window, or number of scenes.
        """
        chosen = parse_tiles(tiles)
        self.steps = 0
        """Frames that went through the network."""
        self.step_s = 0.0
        """Seconds spent in it."""
        if open_runner is not None:
            self.network: Network = GivenNetwork(open_runner)
        elif isinstance(model, Network):
            self.network = model
        else:
            self.network = find_fastest(model, Choices.of(runtime, device, backend, precision), on_build=on_build)
        self.is_bidirectional = self.network.is_bidirectional
        """Whether the network looks at later frames too, so that :meth:`push` is refused."""
        self.windows = Windows.of(self.network, window, look_ahead)
        """The windows that it takes frames in; of one frame for a network that looks back only."""
        self.scenes_in_flight = scenes_in_flight
        check_scenes(scenes_in_flight, self.network, chosen)
        self._way = Way(self.network, chosen, self.windows, scenes_in_flight, on_note)
        self._size: FrameSize | None = None

    @property
    def tiles(self) -> TileChoice:
        """The tiles that were asked for."""
        return self._way.tiles

    @property
    def tiling(self) -> TilePlan | None:
        """The tiles in use; None for whole frames."""
        return self._way.tiling

    @property
    def lanes(self) -> Lanes:
        """The scenes side by side, once it is open for several."""
        return self._way.lanes

    def identity(self) -> dict[str, str]:
        """Everything about the network that changes its pictures, by names a user understands."""
        alike = self.scenes_in_flight == 1 or self.network.lanes_are_exact
        scenes = {} if alike else {"scenes in flight": str(self.scenes_in_flight)}
        return {**self.network.identity(), "tiles": str(self.tiles), **self.windows.identity(), **scenes}

    @property
    def precision(self) -> str | None:
        """Precision of the network, once it is open; None where its file alone says that."""
        return precision_used(self.identity(), tiled=self.tiling is not None)

    def macs_per_frame(self, size: FrameSize) -> int | None:
        """Multiply-adds for an LR frame of a size; None where the network's configuration is not known."""
        return self.network.macs_per_frame(size.padded)

    def settle(self, size: FrameSize, dtype: np.dtype[Any]) -> None:
        """Let :meth:`identity` know all of what runs frames of a size and type, where only opening tells."""
        if self.network.settles_when_opened:
            self.open(size, dtype)

    def open(self, size: FrameSize, dtype: np.dtype[Any] = UINT8) -> Runner:
        """Load the network for frames of a size and type; :meth:`push` does so by itself.

        Raises:
            KSNetError: the network cannot be loaded or run here, or not in such tiles.
        """
        if self._way.runner is None:
            self._size = size
        return self._way.open(size, "uint8" if dtype == np.uint8 else "float32")

    def keep_tiles(self, tiles: TileChoice) -> None:
        """Take those tiles, or none, from now on; for a network without a state, which is opened anew if need be.

        ``auto`` leaves a network that is open as it is.
        """
        check_scenes(self.scenes_in_flight, self.network, tiles)
        self._way.tiles = tiles
        is_open = self._way.runner is not None
        if tiles != "auto" and is_open and (self.tiling.tile if self.tiling else "off") != tiles:
            self.close()

    def push(self, frame: Any) -> NDArray[Any]:
        """Upscale the next frame.

        Args:
            frame: an array or a tensor, (H, W, 3) RGB in R'G'B' levels, uint8 in 0..255 or uint16 in 0..65535, as the
                frames before.

        Returns:
            (4 H, 4 W, 3) of the same type. A network that takes 8-bit frames gives 8 bits of precision.

        Raises:
            BackendError: the frame has another shape than the first, or no levels.
            ConfigError: the network is bidirectional: :meth:`upscale` takes all frames.
            KSNetError: the network cannot be loaded or run here.
        """
        if self.is_bidirectional:
            raise ConfigError(
                f"{self.network.label} sees later frames too, so it cannot give a frame for each at once; give all "
                "frames to Upscaler.upscale, or take a network such as 'uni'"
            )
        return next(self.window([frame]))

    def upscale(self, frames: Iterable[Any]) -> Iterator[NDArray[Any]]:
        """Upscale the frames of a scene, one after the other; :meth:`reset` before those of the next.

        A bidirectional network gives the first when it has seen a window and its look-ahead; any other gives each as
        soon as it has it.

        Args:
            frames: each as :meth:`push` takes it.

        Raises:
            KSNetError: as :meth:`push`.
        """
        waiting: list[Any] = []
        length, ahead = self.windows.frames, self.windows.ahead
        for frame in frames:
            waiting.append(frame)
            if len(waiting) >= length + ahead:
                yield from self.window(waiting[:length], waiting[length:])
                del waiting[:length]
        while waiting:
            yield from self.window(waiting[:length], waiting[length : length + ahead])
            del waiting[:length]

    def window(self, frames: Sequence[Any], ahead: Sequence[Any] = ()) -> Iterator[NDArray[Any]]:
        """Upscale the next frames of a scene, looking at those ``ahead``, which follow them.

        Raises:
            KSNetError: as :meth:`push`.
        """
        if self.scenes_in_flight > 1:
            raise several_at_once(self.scenes_in_flight)
        arrays, later = ([self._checked(frame) for frame in each] for each in (frames, ahead))
        results: Iterator[NDArray[Any]] | None = None
        for array in arrays:
            started = time.perf_counter()
            if results is None:
                hr, results = self._begun(arrays, later)
            else:
                hr = next(results)
            self.step_s += time.perf_counter() - started
            self._count(1)
            yield crop(levels_of(hr, array.dtype), FrameSize(*array.shape[:2]).upscaled)

    @property
    def most_in_flight(self) -> int:
        """Frames that may be begun before the result of the first is asked for, so that the network never waits."""
        runner = self._way.runner
        return 1 if runner is None or self.is_bidirectional else runner.most_in_flight

    def begin(self, frame: Any) -> Callable[[], NDArray[Any]]:
        """Begin to upscale the next frame, as :meth:`push` takes it.

        Returns:
            A function that waits for the larger frame and gives it, to be called once, in the order of the frames.

        Raises:
            KSNetError: as :meth:`push`; of the function too.
        """
        array, started = self._checked(frame), time.perf_counter()
        at_once = not self._way.has_begun  # a first frame shows whether this way works

        def begin(runner: Runner) -> Any:
            lr = pad(values_of(array, runner.io))
            return runner.step(lr) if at_once else runner.submit(lr)

        first = self._way.run(begin)
        self.step_s += time.perf_counter() - started
        self._count(1)

        def result() -> NDArray[Any]:
            started = time.perf_counter()
            hr = first if at_once else self._way.run(lambda runner: runner.collect())
            self.step_s += time.perf_counter() - started
            return crop(levels_of(hr, array.dtype), FrameSize(*array.shape[:2]).upscaled)

        return result

    def drop(self) -> None:
        """Forget the frames that were begun, whose results nobody asks for any more."""
        if self._way.runner is not None:
            self._way.runner.drop()

    def step(self, frames: Mapping[int, Any]) -> dict[int, NDArray[Any]]:
        """Upscale the next frames of several scenes as one batch, each as :meth:`push` takes it, by its lane, from 0.

        Raises:
            KSNetError: as :meth:`push`.
        """
        arrays = {lane: self._checked(frame) for lane, frame in frames.items()}
        started = time.perf_counter()

        def step(runner: Runner) -> dict[int, NDArray[Any]]:
            return self.lanes.step({lane: pad(values_of(array, runner.io)) for lane, array in arrays.items()})

        hrs = self._way.run(step)
        self.step_s += time.perf_counter() - started
        self._count(len(arrays))
        return {
            lane: crop(levels_of(hrs[lane], array.dtype), FrameSize(*array.shape[:2]).upscaled)
            for lane, array in arrays.items()
        }

    def go_on(self, lane: int, saved: SavedState) -> None:
        """Go on in a lane from a saved state. Raises BackendError where it is of another network or size."""
        self.lanes.go_on(lane, saved)
        self._way.has_begun = True

    def _checked(self, frame: Any) -> NDArray[Any]:
        """A frame as an array, for which the network is open."""
        array = as_levels(frame)
        size = FrameSize(*array.shape[:2])
        self.open(size, array.dtype)
        if size != self._size:
            raise BackendError(f"the frame is {size}, those before were {self._size}; use another Upscaler for it")
        return array

    def _begun(
        self, frames: Sequence[NDArray[Any]], ahead: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[Any], Iterator[NDArray[Any]]]:
        """The first result of a window and the others."""

        def begin(runner: Runner) -> tuple[NDArray[Any], Iterator[NDArray[Any]]]:
            results = runner.window(*([pad(values_of(frame, runner.io)) for frame in each] for each in (frames, ahead)))
            return next(results), results

        return self._way.run(begin)

    def _count(self, frames: int) -> None:
        self.steps += frames
        self._way.has_begun = True

    def reset(self) -> None:
        """Forget the past: the next frame begins a new scene."""
        if self._way.runner is not None:
            self._way.runner.reset()

    @property
    def state(self) -> SavedState:
        """Copy of the network's recurrent state."""
        return {} if self._way.runner is None else self._way.runner.state

    @state.setter
    def state(self, saved: SavedState) -> None:
        assert self._way.runner is not None, "open() first"
        self._way.runner.state = saved
        self._way.has_begun = bool(saved or self.steps)

    def summary(self) -> dict[str, Any]:
        """Values for a result."""
        return {"steps": self.steps, "step_s": self.step_s, "tiles": self.tiling and str(self.tiling)}

    def close(self) -> None:
        self._way.close()
