"""Steps that pause at every ranking against steps that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.tiles import TiledRunner, TilePlace, TilePlan, run_alone

SIZE = FrameSize(32, 48)
WHOLE = TilePlace.whole(SIZE)


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_steps_that_pause_are_those_that_do_not(small_onnx: Callable[..., Path], io: str) -> None:
    path = small_onnx(str(SIZE), io)
    lrs = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    with LockstepOnnxRunner(path, SIZE) as pausing, OnnxRunner(path, SIZE) as runner:
        for index, lr in enumerate(lrs if io == "uint8" else (lrs / 255).astype(io)):
            if index == 3:
                pausing.reset()
                runner.reset()
            found, expected = pausing.step(lr), runner.step(lr)
            np.testing.assert_allclose(found.astype(float), expected, rtol=0, atol=1 if io == "uint8" else 1e-4)
            assert pausing.state.keys() == runner.state.keys()
            for name, array in runner.state.items():
                np.testing.assert_allclose(pausing.state[name], array, rtol=0, atol=1e-4)


def test_two_scenes_under_way_at_once_do_not_mix(small_onnx: Callable[..., Path]) -> None:
    first, second = np.random.default_rng(1).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    with LockstepOnnxRunner(small_onnx(str(SIZE)), SIZE) as runner:
        expected = [run_alone(runner.begin_step(lr, {}, WHOLE))[0] for lr in (first, second)]
        steps = [runner.begin_step(lr, {}, WHOLE) for lr in (first, second)]
        scores: list[Any] = [None, None]
        found: list[NDArray[np.uint8]] = []
        while not found:
            for index, step in enumerate(steps):
                try:
                    scores[index] = step.send(scores[index])
                except StopIteration as end:
                    found.append(end.value[0])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lite", "uni"])
def test_tiles_of_moving_video_are_the_whole_frame_within_50_db_and_show_no_seam(model: str, tmp_path: Path) -> None:
    plan = TilePlan.make(FrameSize(72, 128), FrameSize(72, 86), 32)
    whole, tile = (cached_onnx(bundled_checkpoint(model), size) for size in (plan.frame, plan.tile))
    frames = moving_frames(plan.frame, 15)
    with OnnxRunner(whole, plan.frame) as one, TiledRunner(LockstepOnnxRunner(tile, plan.tile), plan) as many:
        expected, found = (np.stack([runner.step(lr) for lr in frames]) for runner in (one, many))

    error = found.astype(float) - expected
    shared = slice(4 * plan.columns[1], 4 * plan.tile.width)
    # A seam is a step of the error from column to column that lasts over the height of the picture, here in levels.
    seam = np.abs(np.diff(error.mean(axis=(1, 3)), axis=1)).max(axis=0)[shared].max()
    # Flow, attention and ranking are the frame's, so that only its border spoils a tile: here the mean over what lies
    # at least 16 pixels from the shared ones, before some channels' scores are nearly equal and their order turns.
    apart = np.abs(error[1:4])[:, :, [*range(4 * 32), *range(4 * 96, 4 * 128)]].mean()
    assert apart <= 0.05, apart
    picture = tmp_path / "difference.png"
    from ksnet_deploy.video.picture import write_png

    write_png(picture, np.clip(128 + 16 * error[-1], 0, 255).astype(np.uint8))
    said = f"a seam of {seam:.2f} levels; 16 times the last frame's difference is in {picture}"
    assert psnr(found, expected) >= {"lite": 58, "uni": 50}[model], said
    assert min(psnr(a, b) for a, b in zip(found, expected, strict=True)) >= 48, said
    assert seam <= 0.5, said  # rounding to levels alone makes as much
