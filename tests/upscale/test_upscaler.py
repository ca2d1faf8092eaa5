"""The Python interface for frames."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from runners import RepeatRunner

import ksnet_deploy
from ksnet_deploy import Upscaler
from ksnet_deploy.base.errors import BackendError, CheckpointError, ConfigError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.tiles import TiledRunner, TilePlan
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.upscale.memory import TileChoice
from ksnet_deploy.upscale.networks import NetworkFile

SmallOnnx = Callable[..., Path]
SIZE = FrameSize(32, 48)


def test_frames_come_out_as_the_runtime_gives_them(small: Checkpoint, small_onnx: SmallOnnx) -> None:
    reference = TorchRunner(small.model, SIZE)
    with Upscaler(str(small_onnx("32x48"))) as upscaler:
        for index, frame in enumerate(moving_frames(SIZE, 5)):
            if index == 3:
                upscaler.reset()
                reference.reset()
            hr = upscaler.push(frame)
            assert (hr.shape, hr.dtype) == ((128, 192, 3), np.uint8)
            assert np.abs(hr.astype(int) - reference.step(frame)).max() <= 1


def test_deep_frames_keep_their_depth(small: Checkpoint) -> None:
    shallow = moving_frames(SIZE, 2)
    with Upscaler(str(small.path), backend="torch") as deep, Upscaler(str(small.path), backend="torch") as plain:
        for frame in shallow:
            hr = deep.push(frame.astype(np.uint16) * 257)
            assert hr.dtype == np.uint16
            assert np.abs(hr / 257 - plain.push(frame)).max() <= 0.51
        assert (hr % 257 != 0).any()  # more than 8 bits


@pytest.mark.parametrize("size", ["7x5", "16x16", "17x33"])
def test_any_size_comes_out_four_times_larger(small: Checkpoint, size: str) -> None:
    h, w = map(int, size.split("x"))
    with Upscaler(str(small.path), backend="torch") as upscaler:
        assert upscaler.push(np.zeros((h, w, 3), np.uint8)).shape == (4 * h, 4 * w, 3)


def test_what_is_no_frame_is_refused(small: Checkpoint) -> None:
    with Upscaler(str(small.path), backend="torch") as upscaler:
        for frame in (np.zeros((32, 48), np.uint8), np.zeros((32, 48, 4), np.uint8), np.zeros((32, 48, 3), np.float32)):
            with pytest.raises(BackendError, match="cannot be upscaled"):
                upscaler.push(frame)
        upscaler.push(np.zeros((32, 48, 3), np.uint8))
        with pytest.raises(BackendError, match="those before were 32x48"):
            upscaler.push(np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(CheckpointError, match="giant"):
        Upscaler("giant")


def test_the_package_offers_its_interface_by_name() -> None:
    assert set(ksnet_deploy.__all__) >= {"Upscaler", "upscale_video"}
    assert all(callable(getattr(ksnet_deploy, name)) for name in ("Upscaler", "upscale_video"))
    with pytest.raises(AttributeError, match="no attribute 'downscale'"):
        _ = ksnet_deploy.downscale


class LittleMemory:
    """Opens networks as ``NetworkFile.open`` does, for whole frames or tiles, that fail beyond a number of pixels."""

    def __init__(self, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pixels, self.opened = pixels, []  # type: tuple[int, list[str]]
        self.closed = 0
        monkeypatch.setattr(NetworkFile, "open", lambda _network, *args, **options: self.open(*args, **options))
        monkeypatch.setattr("ksnet_deploy.upscale.memory.available_memory", lambda: None)

    def open(self, size: FrameSize, _io: FrameType, tiling: TilePlan | None, **_: object) -> Runner:
        memory = self

        class Enlarging(RepeatRunner):
            def _step(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
                if self.size.height * self.size.width > memory.pixels:
                    raise MemoryError
                return super()._step(lr)

            def close(self) -> None:
                memory.closed += 1

        self.opened.append(str(tiling.tile if tiling else size))
        return TiledRunner(Enlarging(tiling.tile), tiling) if tiling else Enlarging(size)


def test_a_first_frame_that_does_not_fit_is_upscaled_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, notes = LittleMemory(12_000, monkeypatch), []  # type: tuple[LittleMemory, list[str]]
    frame = moving_frames(FrameSize(180, 320), 1)[0]
    with Upscaler("lite", on_note=notes.append) as upscaler:
        np.testing.assert_array_equal(upscaler.push(frame), frame.repeat(4, axis=0).repeat(4, axis=1))
        assert upscaler.summary()["tiles"] == str(upscaler.tiling)
    assert memory.opened[0] == "180x320"
    heights_and_widths = [FrameSize.parse(opened) for opened in memory.opened]
    pixels = [size.height * size.width for size in heights_and_widths]
    assert all(after <= before / 2 for before, after in pairwise(pixels))
    assert pixels[-1] <= 12_000 < pixels[-2]
    assert memory.closed == len(memory.opened)
    assert notes[0] == "The memory does not hold a whole frame."
    assert notes[-1] == f"Upscaling {upscaler.tiling}."


@pytest.mark.parametrize(
    ("pixels", "tiles", "runtime", "remedy"),
    [
        (60, "auto", None, "smaller frames"),
        (12_000, "off", None, "smaller tiles with --tiles"),
        (12_000, FrameSize(180, 160), None, "smaller tiles with --tiles"),
        (12_000, "auto", "torch", "smaller frames, or a checkpoint for ONNX Runtime, which takes frames in tiles"),
    ],
)
def test_memory_that_holds_no_tile_is_said_with_what_would_help(
    monkeypatch: pytest.MonkeyPatch, pixels: int, tiles: TileChoice, runtime: str | None, remedy: str
) -> None:
    LittleMemory(pixels, monkeypatch)
    sentence = f"does not hold the network on frames of 180x320; close other programs, or give {remedy}$"
    with Upscaler("lite", tiles=tiles, runtime=runtime) as upscaler, pytest.raises(BackendError, match=sentence):
        upscaler.push(np.zeros((180, 320, 3), np.uint8))


def test_a_scene_that_has_begun_does_not_change_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = LittleMemory(10**6, monkeypatch)
    frame = np.zeros((180, 320, 3), np.uint8)
    with Upscaler("lite") as upscaler:
        upscaler.push(frame)
        memory.pixels = 12_000
        with pytest.raises(BackendError, match="does not hold"):
            upscaler.push(frame)
    memory.pixels = 10**6
    with Upscaler("lite") as resumed:
        resumed.open(FrameSize(180, 320))
        resumed.state = {"last": np.zeros((1, 3, 180, 320), np.float32)}
        memory.pixels = 12_000
        with pytest.raises(BackendError, match="does not hold"):
            resumed.push(frame)


def test_a_network_that_is_open_keeps_its_tiles_unless_others_are_named(small_onnx: SmallOnnx) -> None:
    with Upscaler(str(small_onnx("32x48"))) as upscaler:
        opened = upscaler.open(SIZE)
        for same in ("auto", "off"):
            upscaler.keep_tiles(same)
            assert upscaler.open(SIZE) is opened
        upscaler.keep_tiles(FrameSize(16, 16))
        with pytest.raises(ConfigError, match="whole frames"):
            upscaler.open(SIZE)


def test_frames_that_would_not_fit_are_tiled_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = LittleMemory(10**6, monkeypatch)
    monkeypatch.setattr("ksnet_deploy.upscale.memory.available_memory", lambda: 700_000_000)
    with Upscaler("lite") as upscaler:
        upscaler.push(np.zeros((180, 320, 3), np.uint8))
        assert upscaler.tiling is not None
    assert memory.opened == [str(upscaler.tiling.tile)]


def test_what_runs_whole_frames_only_refuses_tiles(small: Checkpoint, small_onnx: SmallOnnx) -> None:
    frame, tiles = np.zeros((32, 48, 3), np.uint8), FrameSize(16, 16)
    for upscaler in (
        Upscaler(str(small_onnx("32x48")), tiles=tiles),
        Upscaler(str(small.path), backend="torch", tiles=tiles),
    ):
        with upscaler, pytest.raises(ConfigError, match="runs whole frames only"):
            upscaler.push(frame)
