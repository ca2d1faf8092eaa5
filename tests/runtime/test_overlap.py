"""Frames in flight: uploads, steps and downloads of neighbouring frames beside one another.

The stand-in puts every copy off until something waits for it, and can let any stream run ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_gpu import LAYERS, FakeCuda, fake_engine, pretend_gpu
from numpy.typing import NDArray
from runners import FadingRunner, LateRunner

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.base import Runner, pipelined
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.open import open_runner

SIZE = FrameSize(32, 48)
STEPS, UPLOADS, DOWNLOADS = range(3)
"""The runner's streams, in the order in which it makes them."""


@pytest.fixture(params=LAYERS)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return pretend_gpu(monkeypatch, layer=request.param)


@pytest.fixture
def engine(plain_onnx: Callable[..., Path], tmp_path: Path) -> Path:
    return fake_engine(plain_onnx("32x48"), tmp_path / "small.engine", ("32x48", "32x48", "32x48"))


def frames(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE.height, SIZE.width, 3), dtype=np.uint8)


def scenes(runner: Runner, lrs: Sequence[NDArray[Any]]) -> tuple[list[NDArray[Any]], dict[str, NDArray[Any]]]:
    """Scenes from frames 0, 3, 4 and 7, the last of which goes on from the state after frame 2; as many in flight as
    the runner takes. The results, and that state."""
    results, saved = [], {}
    runner.reset()
    for index, lr in enumerate(lrs):
        if index in (3, 4):
            saved = saved or runner.state  # with a frame in flight, where the runner takes two
            runner.reset()
        if index == 7:
            runner.state = saved
        if runner.in_flight == runner.most_in_flight:
            results.append(runner.collect())
        runner.submit(lr)
    results += [runner.collect() for _ in range(runner.in_flight)]
    return results, saved


def test_frames_in_flight_come_out_as_one_by_one_whichever_stream_is_ahead(
    gpu: FakeCuda, engine: Path, plain_onnx: Callable[..., Path]
) -> None:
    lrs = frames(9)
    with OnnxRunner(plain_onnx("32x48"), SIZE, rewrite=lambda _model: None) as reference:
        expected, expected_state = scenes(reference, lrs)
    with open_runner(engine, SIZE) as runner:
        assert runner.most_in_flight == 2
        for eager in ((), (STEPS,), (UPLOADS,), (DOWNLOADS,), (DOWNLOADS, STEPS, UPLOADS)):
            gpu.work.eager = eager
            found, state = scenes(runner, lrs)
            np.testing.assert_array_equal(found, expected, err_msg=f"eager: {eager}")
            assert state.keys() == expected_state.keys()
            for name in state:
                np.testing.assert_array_equal(state[name], expected_state[name], err_msg=f"{name}, eager: {eager}")


def test_the_next_frame_is_uploaded_before_a_step_ends_and_the_last_one_downloaded_after_the_next_began(
    gpu: FakeCuda, engine: Path
) -> None:
    with open_runner(engine, SIZE) as runner:
        runner.step(frames(1)[0])
        gpu.log.clear()
        for lr in frames(2):
            runner.submit(lr)
        assert gpu.log == [], "the host waits for nothing"
        steps, uploads, downloads = gpu.work.queues
        gpu.work.run(uploads)
        assert gpu.log == ["upload", "upload"], "neither waits for a step"
        gpu.work.run(steps)
        assert gpu.log[2:] == ["compute", "compute"], "the second does not wait for the first one's download"
        gpu.work.run(downloads)
        assert gpu.log[4:] == ["download", "download"]
        gpu.log.clear()
        runner.collect()
        runner.submit(frames(1)[0])
        runner.collect()
        assert gpu.log == [], "the result of a frame does not wait for the frame after it"


def test_closing_with_frames_in_flight_waits_for_them_and_releases_everything(gpu: FakeCuda, engine: Path) -> None:
    runner = open_runner(engine, SIZE)
    for lr in frames(2):
        runner.submit(lr)
    runner.close()
    assert (gpu.memory, gpu.graphs, gpu.streams, gpu.events) == ({}, [], 0, {})
    with pytest.raises(BackendError, match="is closed"):
        runner.collect()


def test_an_error_on_the_device_is_told_by_the_frame_that_waits_for_it(
    gpu: FakeCuda, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del gpu
    with open_runner(engine, SIZE) as runner:
        for lr in frames(2):
            runner.submit(lr)
        with monkeypatch.context() as broken:
            broken.setattr(FakeCuda, "cudaEventSynchronize", lambda *_: (700,))
            with pytest.raises(BackendError, match=r"CUDA cannot go on .*error 700"):
                runner.collect()
        runner.collect()


@pytest.mark.parametrize("kind", [FadingRunner, LateRunner])
def test_steps_in_flight_are_taken_up_to_their_number_and_collected_before_another(kind: type[FadingRunner]) -> None:
    with kind(SIZE) as runner, kind(SIZE) as reference:
        expected = [reference.step(lr) for lr in frames(4)]
        with pytest.raises(BackendError, match="submit a frame first"):
            runner.collect()
        for lr in frames(runner.most_in_flight):
            runner.submit(lr)
        with pytest.raises(BackendError, match="collect one before the next"):
            runner.submit(frames(1)[0])
        with pytest.raises(BackendError, match="collect them before"):
            runner.step(frames(1)[0])
        runner.drop()
        runner.reset()
        results = pipelined(runner, ((lr,) for lr in frames(4)))
        np.testing.assert_array_equal([next(results), next(results)], expected[:2])
        results.close()
        runner.reset()
        np.testing.assert_array_equal([*runner.window(frames(4))], expected)
