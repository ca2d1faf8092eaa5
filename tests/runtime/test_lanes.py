"""Scenes side by side as one batch: each lane gives what a runner of one scene gives, whenever the others forget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import LAYERS, fake_engine, pretend_gpu
from fake_torch_cuda import use_fake_cuda
from needs import needs_openvino
from numpy.typing import NDArray

from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.elements import check_elements
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.exported import describe
from ksnet_deploy.runtime.lanes import Lanes, as_one
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.openvino import OpenVINORunner
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar
from ksnet_deploy.runtime.torch import TorchRunner

SIZE = FrameSize(16, 20)
LANES = 2
STEPS = 7
RESETS = {(0, 0), (1, 0), (1, 2), (0, 3), (0, 5), (1, 5)}
"""(lane, step) before which a lane forgets: alone, two at once, after odd and even numbers of steps."""

Open = Callable[..., Runner]


@pytest.fixture(scope="module")
def exported(smallest: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Its exports, for one scene and for several."""
    folder = tmp_path_factory.mktemp("lanes")
    for lanes in (1, LANES):
        export_onnx(smallest, folder / f"{lanes}.onnx", size=SIZE, batch=lanes)
    return {lanes: folder / f"{lanes}.onnx" for lanes in (1, LANES)}


def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (LANES, STEPS, SIZE.height, SIZE.width, 3), np.uint8)


def check_lanes(runner: Runner, alone: Callable[[], Runner], tolerance: float = 0) -> None:
    """Hold every lane to a runner of one scene: pictures, states; through resets, pauses and states given back."""
    frames, singles = pictures(), [alone() for _ in range(LANES)]
    levels = 1 if tolerance else 0
    with Lanes(runner) as lanes:
        for step in range(STEPS):
            stepped = [0] if step in (3, 4) else [0, 1]  # the last has no scene for a while
            for lane in stepped:
                if (lane, step) in RESETS:
                    lanes.reset(lane)
                    singles[lane].reset()
                assert lanes.state(lane).keys() == singles[lane].state.keys()
            found = lanes.step({lane: frames[lane, step] for lane in stepped})
            assert list(found) == stepped
            for lane in stepped:
                expected = singles[lane].step(frames[lane, step])
                np.testing.assert_allclose(found[lane].astype(int), expected.astype(int), atol=levels, rtol=0)
                state = lanes.state(lane)
                for name, array in singles[lane].state.items():
                    np.testing.assert_allclose(state[name], array, atol=tolerance, rtol=0)
        saved = singles[0].state  # a lane goes on from a state of a runner of one scene, and gives one to it
        lanes.go_on(1, saved)
        singles[1].state = lanes.state(1)
        np.testing.assert_allclose(
            lanes.step({1: frames[0, 0]})[1].astype(int), singles[1].step(frames[0, 0]).astype(int), atol=levels, rtol=0
        )
        with pytest.raises(BackendError, match="the saved state lacks"):
            lanes.go_on(0, {})
        with pytest.raises(BackendError, match="was given to lanes for"):
            lanes.step({0: frames[0, 0, 1:]})
    for single in singles:
        single.close()


def test_lanes_of_onnx_runtime_are_those_of_one_scene_to_the_bit(exported: dict[int, Path]) -> None:
    check_lanes(open_runner(exported[LANES], SIZE, lanes=LANES), lambda: open_runner(exported[1], SIZE))


def test_lanes_of_pytorch_are_those_of_one_scene(smallest: Checkpoint) -> None:
    """Its kernels may choose otherwise for a batch, so what it rounds is not promised."""
    check_lanes(open_runner(smallest.path, SIZE, lanes=LANES), lambda: open_runner(smallest.path, SIZE), 1e-5)


def test_lanes_of_a_recorded_step_are_those_of_one_scene(smallest: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = use_fake_cuda(monkeypatch)

    def opened(lanes: int = 1) -> Runner:
        return TorchRunner(smallest.model, SIZE, device="cuda", precision="fp32", lanes=lanes)

    check_lanes(opened(LANES), opened, 1e-5)
    assert sum(graph.replays for graph in graphs[:2]) == STEPS + 1


@pytest.mark.parametrize("layer", LAYERS)
def test_lanes_of_an_engine_are_those_of_one_scene(
    exported: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    gpu = pretend_gpu(monkeypatch, layer=layer)
    paths = {lanes: fake_engine(path, tmp_path / f"{lanes}.engine", ("16x20",) * 3) for lanes, path in exported.items()}
    check_lanes(open_runner(paths[LANES], SIZE, lanes=LANES), lambda: open_runner(paths[1], SIZE))
    assert gpu.memory == {}
    assert Sidecar.read(paths[LANES]).spec.batch == LANES
    with pytest.raises(ArtifactError, match=r"1 frame at once, .* and 2 were asked for; make it again with --batch 2$"):
        open_runner(paths[1], SIZE, lanes=LANES)
    with pytest.raises(ArtifactError, match=r"2 frames at once.*--batch 1; or give a film .* --scenes-in-flight 2$"):
        open_runner(paths[LANES], SIZE)


@needs_openvino
def test_lanes_of_openvino_are_those_of_one_scene(exported: dict[int, Path]) -> None:
    check_lanes(OpenVINORunner(exported[LANES], SIZE), lambda: OpenVINORunner(exported[1], SIZE), 1e-5)


def test_a_file_of_another_batch_is_refused_and_a_file_says_its_own(exported: dict[int, Path]) -> None:
    with pytest.raises(ArtifactError, match=r"1.onnx takes 1 frame at once, of as many scenes, and 3 were asked for"):
        open_runner(exported[1], SIZE, lanes=3)
    with pytest.raises(ArtifactError, match=r"takes 2 frames at once, of as many scenes, and 1 was asked for"):
        open_runner(exported[LANES], SIZE)
    assert describe(exported[LANES]).facts["frames at once"] == "2"
    assert "frames at once" not in describe(exported[1]).facts


def test_a_proof_of_several_lanes_is_of_one_among_others(exported: dict[int, Path]) -> None:
    frames = pictures()[0]
    with as_one(OnnxRunner(exported[LANES], SIZE)) as one, as_one(OnnxRunner(exported[1], SIZE)) as alone:
        assert isinstance(alone, OnnxRunner)
        for step, frame in enumerate(frames):
            if step == 4:
                one.reset()
                alone.reset()
            np.testing.assert_array_equal(one.step(frame), alone.step(frame))
        one.state = alone.state
        np.testing.assert_array_equal(one.step(frames[0]), alone.step(frames[0]))
        one.state = {}
        assert one.state == {}


def test_more_frames_at_once_than_gpu_libraries_count_are_refused(smallest: Checkpoint) -> None:
    check_elements(smallest.config, FrameSize(1080, 1920))
    with pytest.raises(ConfigError, match=r"90 frames of 1080x1920 at once .* give --scenes-in-flight \d+ or less"):
        check_elements(smallest.config, FrameSize(1080, 1920), 90)
