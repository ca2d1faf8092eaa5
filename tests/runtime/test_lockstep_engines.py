"""Engines in lockstep over tiles, on a stand-in for the device, against ONNX Runtime in the same tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import FakeCuda, fake_engine, pretend_gpu

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner, cut_step
from ksnet_deploy.runtime.step_file import load_step
from ksnet_deploy.runtime.tensorrt.pieces import LockstepEngineRunner, piece_path
from ksnet_deploy.runtime.tiles import TiledRunner, TilePlan

FRAME, TILE = FrameSize(32, 72), FrameSize(32, 48)
PLAN = TilePlan(FRAME, TILE, 20)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return pretend_gpu(monkeypatch, layer="pycuda")  # the more particular of the two


@pytest.fixture
def pieces(small_onnx: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """Engines of the pieces of a small step."""
    paths = []
    for index, piece in enumerate(cut_step(load_step(small_onnx(str(TILE)), TILE))):
        exported = tmp_path / f"piece{index}.onnx"
        exported.write_bytes(piece.SerializeToString())
        paths.append(fake_engine(exported, piece_path(tmp_path / "tile.engine", index), (str(TILE),) * 3))
    return paths


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, FRAME.height, FRAME.width, 3), dtype=np.uint8)


def test_tiles_of_engines_are_those_of_onnx_runtime_to_the_bit(
    gpu: FakeCuda, pieces: list[Path], small_onnx: Callable[..., Path]
) -> None:
    on_cpu = LockstepOnnxRunner(small_onnx(str(TILE)), TILE, rewrite=lambda _model: None)
    with (
        TiledRunner(LockstepEngineRunner(pieces, TILE), PLAN) as tiled,
        TiledRunner(on_cpu, PLAN) as reference,
    ):
        assert len(PLAN.positions) == 2
        for index, lr in enumerate(frames(3)):
            if index == 2:
                tiled.reset()
                reference.reset()
            np.testing.assert_array_equal(tiled.step(lr), reference.step(lr))
        saved = reference.state
        assert tiled.state.keys() == saved.keys()
        for name, array in tiled.state.items():
            np.testing.assert_array_equal(array, saved[name])
        held = len(gpu.memory)
        tiled.state = saved
        np.testing.assert_array_equal(tiled.step(frames(1)[0]), reference.step(frames(1)[0]))
        assert len(gpu.memory) == held, "memory is kept from frame to frame"
    assert (gpu.memory, gpu.streams) == ({}, 0)


def test_a_card_without_room_for_the_engines_keeps_nothing(
    gpu: FakeCuda, pieces: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = LockstepEngineRunner(pieces, TILE)
    monkeypatch.setattr(FakeCuda, "cudaMalloc", lambda *_: (2, None))
    with pytest.raises(BackendError, match=r"CUDA cannot go on"):
        runner.step(frames(1)[0][:, : TILE.width])
    runner.close()
    runner.close()
    assert (gpu.memory, gpu.streams) == ({}, 0)
    pieces[-1].write_bytes(b"")
    with pytest.raises(Exception, match="cut off, or was changed"):
        LockstepEngineRunner(pieces, TILE)
    assert (gpu.memory, gpu.streams) == ({}, 0)
