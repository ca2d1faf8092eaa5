from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import fake_engine, pretend_gpu
from networks import SMALL, new_checkpoint

from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.model import State
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.openvino import is_installed
from ksnet_deploy.runtime.tiles import TiledRunner, TilePlan
from ksnet_deploy.upscale.networks import find_network

SIZE = FrameSize(32, 48)
SmallOnnx = Callable[..., Path]


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 48, 3), dtype=np.uint8)


@pytest.fixture(
    params=["torch", "onnxruntime", "openvino", "lockstep", pytest.param("tiles", marks=pytest.mark.slow), "tensorrt"]
)
def runner(
    request: pytest.FixtureRequest,
    small: Checkpoint,
    small_onnx: SmallOnnx,
    plain_onnx: SmallOnnx,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Runner]:
    """Every runner of the small network, in tiles of the plain one, for one size; engines on a stand-in for the GPU."""
    if request.param == "torch":
        opened = open_runner(small.path, SIZE)
    elif request.param == "onnxruntime":
        opened = open_runner(small_onnx("32x48"), SIZE)
    elif request.param == "openvino":
        if not is_installed():
            pytest.skip("OpenVINO is not installed (extra 'openvino')")
        opened = open_runner(small_onnx("32x48"), SIZE, backend="openvino")
    elif request.param == "lockstep":
        opened = LockstepOnnxRunner(small_onnx("32x48"), SIZE)
    elif request.param == "tiles":
        plan = TilePlan.make(SIZE, FrameSize(32, 30), 12)
        assert len(plan.positions) == 2
        opened = TiledRunner(LockstepOnnxRunner(plain_onnx(str(plan.tile)), plan.tile), plan)
    else:
        pretend_gpu(monkeypatch)
        opened = open_runner(fake_engine(small_onnx("32x48"), tmp_path / "small.engine", ("32x48",) * 3), SIZE)
    with opened:
        yield opened


def test_a_step_gives_a_frame_four_times_larger(runner: Runner) -> None:
    hr = runner.step(frames(1)[0])
    assert (hr.shape, hr.dtype) == ((128, 192, 3), np.uint8)


def test_reset_starts_a_new_scene_bit_for_bit(runner: Runner) -> None:
    lrs = frames(4)
    first = [runner.step(lr) for lr in lrs[2:]]
    runner.reset()
    for lr in lrs:
        runner.step(lr)
    runner.reset()
    again = [runner.step(lr) for lr in lrs[2:]]
    np.testing.assert_array_equal(first, again)


def test_a_saved_state_continues_the_sequence_bit_for_bit(runner: Runner) -> None:
    lrs = frames(5)
    assert runner.state == {}
    expected = [runner.step(lr) for lr in lrs[:3]]
    saved = runner.state
    expected += [runner.step(lr) for lr in lrs[3:]]
    runner.reset()
    runner.step(frames(1, seed=1)[0])
    for _ in range(2):  # what was saved is a copy, and stays one
        runner.state = saved
        np.testing.assert_array_equal([runner.step(lr) for lr in lrs[3:]], expected[3:])
    runner.state = {}
    np.testing.assert_array_equal(runner.step(lrs[0]), expected[0])


def test_the_past_matters(runner: Runner) -> None:
    lrs = frames(3)
    fresh = runner.step(lrs[2])
    runner.reset()
    for lr in lrs[:2]:
        runner.step(lr)
    assert (runner.step(lrs[2]) != fresh).any()


def test_results_do_not_share_memory(runner: Runner) -> None:
    lrs = frames(2)
    first = runner.step(lrs[0])
    copy = first.copy()
    runner.step(lrs[1])
    np.testing.assert_array_equal(first, copy)


def test_a_frame_of_another_shape_or_type_is_refused(runner: Runner) -> None:
    with pytest.raises(BackendError, match="open a runner for that size"):
        runner.step(np.zeros((32, 47, 3), np.uint8))
    with pytest.raises(BackendError, match="float32"):
        runner.step(np.zeros((32, 48, 3), np.float32))


def test_a_closed_runner_says_so_and_may_be_closed_again(runner: Runner) -> None:
    runner.step(frames(1)[0])
    saved = runner.state
    runner.close()
    runner.close()
    assert runner.state == {}
    with pytest.raises(BackendError, match="is closed and cannot step; open a new one"):
        runner.step(frames(1)[0])
    with pytest.raises(BackendError, match="is closed and cannot step; open a new one"):
        runner.state = saved


@pytest.mark.parametrize(
    "spoil",
    [lambda array: array[:, :, :16], lambda array: array[:, :1, :1, :1], lambda array: array.astype(np.float64)],
    ids=["another size", "what would broadcast", "another type"],
)
def test_a_state_of_another_network_or_size_is_refused(
    runner: Runner, spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    lrs = frames(2)
    runner.step(lrs[0])
    saved = runner.state
    with pytest.raises(BackendError, match="saved state is"):
        runner.state = {name: spoil(array) for name, array in saved.items()}
    with pytest.raises(BackendError, match="saved state"):
        runner.state = dict(list(saved.items())[1:])


@pytest.mark.slow
def test_every_runner_keeps_the_states_that_the_network_reads_and_takes_older_ones(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(tmp_path, SMALL.replace(["flow_guidance=prev1"]))
    names = set(State._fields) - {"feat_2", "flow_1", "prop_2"}
    onnx, lrs = tmp_path / "step.onnx", frames(3)
    export_onnx(checkpoint, onnx, size=SIZE)
    for runner in (open_runner(checkpoint.path, SIZE), open_runner(onnx, SIZE), LockstepOnnxRunner(onnx, SIZE)):
        with runner:
            for lr in lrs[:2]:
                runner.step(lr)
            saved = runner.state
            assert saved.keys() == names
            expected = runner.step(lrs[2])
            # Earlier versions saved all seven.
            runner.state = {name: saved.get(name, np.ones((1, 16, 32, 48), np.float32)) for name in State._fields}
            np.testing.assert_array_equal(runner.step(lrs[2]), expected)
            with pytest.raises(BackendError, match="lacks feat_1"):
                runner.state = {name: array for name, array in saved.items() if name != "feat_1"}


def test_frames_that_are_not_contiguous_are_taken(runner: Runner) -> None:
    lr = frames(1)[0]
    expected = runner.step(lr)
    runner.reset()
    np.testing.assert_array_equal(runner.step(lr[::-1].copy()[::-1]), expected)


def test_backends_agree_within_one_level(small: Checkpoint, small_onnx: SmallOnnx) -> None:
    with open_runner(small.path, SIZE) as reference, open_runner(small_onnx("32x48"), SIZE) as onnx:
        for lr in frames(5):
            difference = reference.step(lr).astype(int) - onnx.step(lr).astype(int)
            assert abs(difference).max() <= 1


def test_an_onnx_of_another_size_is_refused_with_the_remedy(small_onnx: SmallOnnx) -> None:
    with pytest.raises(ArtifactError, match="--size 32x64"):
        open_runner(small_onnx("32x48"), FrameSize(32, 64))


def test_a_missing_broken_or_foreign_file_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    with pytest.raises(ArtifactError, match="does not exist"):
        open_runner(tmp_path / "none.onnx", SIZE)
    (tmp_path / "broken.onnx").write_bytes(b"not a protobuf" * 10)
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_runner(tmp_path / "broken.onnx", SIZE)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [])
    onnx.save(helper.make_model(graph), tmp_path / "foreign.onnx")
    with pytest.raises(ArtifactError, match="not a KSNet step"):
        open_runner(tmp_path / "foreign.onnx", SIZE)
    with pytest.raises(ArtifactError, match="neither a checkpoint"):
        open_runner(tmp_path / "weights.txt", SIZE)


def test_a_truncated_onnx_is_refused(tmp_path: Path, small_onnx: SmallOnnx) -> None:
    (tmp_path / "short.onnx").write_bytes(small_onnx("32x48").read_bytes()[:-5000])
    with pytest.raises(ArtifactError, match="cannot be read as ONNX"):
        open_runner(tmp_path / "short.onnx", SIZE)


def test_cuda_without_a_device_is_refused_not_replaced(small: Checkpoint, small_onnx: SmallOnnx) -> None:
    import onnxruntime
    import torch

    if torch.cuda.is_available() or "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has a CUDA device")
    for artifact in (small.path, small_onnx("32x48")):
        with pytest.raises(BackendError, match="--device cpu"):
            open_runner(artifact, SIZE, device="cuda")


def test_an_engine_is_not_run_where_something_else_was_asked_for(tmp_path: Path) -> None:
    engine = str(tmp_path / "x.engine")
    for backend, device in (("torch", None), (None, "cpu")):
        with pytest.raises(ConfigError, match="leave --runtime and --device out"):
            find_network(engine, backend, device)
