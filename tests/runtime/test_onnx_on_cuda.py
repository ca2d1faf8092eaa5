"""ONNX Runtime's CUDA device: never the CPU in its place, its libraries found, its operators; on stand-ins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fake_onnxruntime import PlayedSession, use_fake_cuda
from networks import SMALL
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network import elements
from ksnet_deploy.network.elements import largest_tensor
from ksnet_deploy.runtime import onnx as runtime
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.onnx import OnnxRunner, use_device_operators
from ksnet_deploy.runtime.open import open_runner

SIZE = FrameSize(32, 48)
SmallOnnx = Callable[..., Path]


@pytest.fixture
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu without CUDA's libraries: it lists its provider, and takes the CPU without a word."""
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this machine has a CUDA build of ONNX Runtime")
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(runtime.PROVIDERS.values()))
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublas.so.13"))


@pytest.mark.usefixtures("no_libraries")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_cuda_device_that_becomes_the_cpu_is_an_error(
    small_onnx: SmallOnnx, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in (OnnxRunner, LockstepOnnxRunner):
        with pytest.raises(BackendError, match="took CPUExecutionProvider in its place: its CUDA or cuDNN libraries"):
            kind(small_onnx("32x48"), SIZE, device="cuda")
    assert capsys.readouterr().out == ""  # frames may go there


def test_libraries_from_pip_are_loaded_before_a_session_on_cuda(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, loaded = use_fake_cuda(monkeypatch), []
    monkeypatch.setattr(ort, "preload_dlls", lambda: loaded.append(True))
    with OnnxRunner(small_onnx("32x48"), SIZE, device="cuda") as runner:
        runner.step(np.zeros((32, 48, 3), np.uint8))
        assert loaded == [True]
        assert "cuda" in asked  # the state stays there
    with OnnxRunner(small_onnx("32x48"), SIZE):
        assert loaded == [True]


def test_each_device_gets_its_own_operators(small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_onnx("32x48")
    kinds = {}
    for device in ("cpu", "cuda"):
        model = onnx.load(path)
        use_device_operators(device)(model)
        kinds[device] = [node.op_type for node in model.graph.node]
    assert "DepthToSpace" in kinds["cuda"]  # which has a kernel of its own
    assert "DepthToSpace" not in kinds["cpu"]
    lr = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    expected = OnnxRunner(path, SIZE).step(lr)
    use_fake_cuda(monkeypatch)
    np.testing.assert_array_equal(OnnxRunner(path, SIZE, device="cuda").step(lr), expected)


def test_tensors_stay_on_the_device_between_the_pieces_of_a_step(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lr = small_onnx("32x48"), frames(1)[0]
    expected = LockstepOnnxRunner(path, SIZE).step(lr)
    asked = use_fake_cuda(monkeypatch)
    with LockstepOnnxRunner(path, SIZE, device="cuda") as runner:
        given = sum(len(outputs) for outputs in runner._outputs)
        np.testing.assert_array_equal(runner.step(lr), expected)
        assert set(asked) == {"cuda"}
        assert len(asked) > given, "what the pieces give, and what they are given by us"


def test_frames_too_large_for_any_gpu_are_refused_on_cuda_alone(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_cuda(monkeypatch)
    monkeypatch.setattr(elements, "LIMIT", largest_tensor(SMALL, SIZE))
    with pytest.raises(ConfigError, match="2\\^31 elements"):
        open_runner(small_onnx("32x48"), SIZE, device="cuda")
    open_runner(small_onnx("32x48"), SIZE).close()
    monkeypatch.setattr(elements, "LIMIT", largest_tensor(SMALL, SIZE) + 1)
    open_runner(small_onnx("32x48"), SIZE, device="cuda").close()


def frames(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(count)]


FAST = {"prefer_nhwc", "enable_cuda_graph"}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_step_is_recorded_for_both_roles_of_the_state_and_computes_what_the_plain_one_does(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    use_fake_cuda(monkeypatch)
    lrs = frames(5)
    path = small_onnx("32x48", "uint8", precision)
    with (
        OnnxRunner(path, SIZE, device="cuda", recorded=False) as plain,
        OnnxRunner(path, SIZE, device="cuda") as runner,
    ):
        assert runner.notes == plain.notes == ()
        session = runner._session
        replayed = session.replayed
        found = []
        for lr in lrs:
            found.append(runner.step(lr))
            np.testing.assert_array_equal(found[-1], plain.step(lr))
        assert set(session.recorded) == {"1", "2"}
        assert session.replayed == replayed + len(lrs)
        assert all(np.array_equal(runner.state[name], value) for name, value in plain.state.items())
        saved = runner.state
        runner.reset()
        assert runner.state == {}
        np.testing.assert_array_equal(runner.step(lrs[0]), found[0])  # and what was returned before is not overwritten
        runner.state = saved
        plain.state = saved
        np.testing.assert_array_equal(runner.step(lrs[0]), plain.step(lrs[0]))
    fastest = PlayedSession.opened[-1]
    assert FAST & set(fastest) == (FAST if precision == "fp16" else {"enable_cuda_graph"})
    settings = {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE", "cudnn_conv_use_max_workspace": "1"}
    assert settings.items() <= fastest.items()


def test_a_recorded_step_runs_in_one_thread_whoever_asks_and_that_ends_with_it(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_cuda(monkeypatch)
    lrs, found, before = frames(3), list[NDArray[np.uint8]](), set(threading.enumerate())
    with OnnxRunner(small_onnx("32x48"), SIZE, device="cuda") as runner:
        session = runner._session
        expected = [runner.step(lr) for lr in lrs]
        runner.reset()
        for lr in lrs:
            asker = threading.Thread(target=lambda lr=lr: found.append(runner.step(lr)))
            asker.start()
            asker.join()
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
        assert len(session.threads) == 1
    (own,) = session.threads
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert own not in {thread.ident for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("refused", "kept", "said"),
    [
        (("prefer_nhwc",), {"enable_cuda_graph"}, "without channels last, which is slower"),
        (("enable_cuda_graph",), {"prefer_nhwc"}, "without its recorded step, which is slower"),
        (("prefer_nhwc", "enable_cuda_graph"), set(), "without channels last and its recorded step, which is slower"),
    ],
)
def test_a_build_that_lacks_a_setting_runs_without_it_and_says_so(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], kept: set[str], said: str
) -> None:
    use_fake_cuda(monkeypatch)
    path, lrs = small_onnx("32x48", "uint8", "fp16"), frames(2)
    with OnnxRunner(path, SIZE, device="cuda") as runner:
        expected = [runner.step(lr) for lr in lrs]
    monkeypatch.setattr(PlayedSession, "refused", refused)
    with OnnxRunner(path, SIZE, device="cuda") as runner:
        assert FAST & set(PlayedSession.opened[-1]) == kept
        (note,) = runner.notes
        assert said in note
        assert "Unknown provider option" in note
        for lr, wanted in zip(lrs, expected, strict=True):
            np.testing.assert_array_equal(runner.step(lr), wanted)


def test_a_graph_of_another_state_is_noticed_and_not_taken(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a version that records one graph whatever it is asked for: its second frame would be the first's."""
    use_fake_cuda(monkeypatch)
    path, lrs = small_onnx("32x48"), frames(3)
    with OnnxRunner(path, SIZE, device="cuda") as runner:
        expected = [runner.step(lr) for lr in lrs]
    monkeypatch.setattr(PlayedSession, "one_graph", True)
    with OnnxRunner(path, SIZE, device="cuda") as runner:
        assert "dB against the plain one" in runner.notes[0]
        for lr, wanted in zip(lrs, expected, strict=True):
            np.testing.assert_array_equal(runner.step(lr), wanted)
    with pytest.raises(BackendError, match=r"does not record this step \(the recorded step has .*leave recorded out"):
        OnnxRunner(path, SIZE, device="cuda", recorded=True)


def test_what_is_asked_for_is_never_left_out_silently(small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_cuda(monkeypatch)
    half = small_onnx("32x48", "uint8", "fp16")
    monkeypatch.setattr(PlayedSession, "refused", ("enable_cuda_graph",))
    with pytest.raises(BackendError, match=r"does not record this step .*Unknown provider option"):
        OnnxRunner(half, SIZE, device="cuda", recorded=True)
    monkeypatch.setattr(PlayedSession, "refused", ("prefer_nhwc",))
    with OnnxRunner(half, SIZE, device="cuda", recorded=True) as runner:
        assert "channels last" in runner.notes[0]
    with pytest.raises(BackendError, match="only a CUDA device"):
        OnnxRunner(half, SIZE, recorded=True)


def test_both_steps_of_a_pair_are_recorded(small_bi_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = FrameSize(20, 24)
    window = list(np.random.default_rng(0).random((3, 20, 24, 3), np.float32))
    with open_runner(small_bi_onnx, size) as runner:
        expected = list(runner.window(window))
    use_fake_cuda(monkeypatch)
    with open_runner(small_bi_onnx, size, device="cuda") as runner:
        assert runner.notes == ()
        for found, wanted in zip(runner.window(window), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert all(options["enable_cuda_graph"] == "1" for options in PlayedSession.opened)
