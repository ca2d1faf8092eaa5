"""The engine runtime on a stand-in for the device: buffers, their roles, recording, resets, release."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_gpu import LAYERS, FakeCuda, FakeEngine, fake_engine, pretend_gpu
from networks import save_as_exported

from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.pair import files_of
from ksnet_deploy.runtime.step_file import exported_metadata, load_exported
from ksnet_deploy.runtime.tensorrt import cuda_bindings, cuda_pycuda
from ksnet_deploy.runtime.tensorrt.profile import UNKNOWN
from ksnet_deploy.runtime.tensorrt.runner import TensorRTRunner
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar
from ksnet_deploy.runtime.tensorrt.target import GpuTarget, SizeRange
from ksnet_deploy.upscale.upscaler import Upscaler

Exports = Callable[..., Path]
SIZE = FrameSize(32, 48)


@pytest.fixture(params=LAYERS)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Everything below holds whichever package does the work."""
    return pretend_gpu(monkeypatch, layer=request.param)


@pytest.fixture
def engine(plain_onnx: Exports, tmp_path: Path) -> Path:
    return fake_engine(plain_onnx("32x48"), tmp_path / "small.engine", ("32x48", "32x48", "32x48"))


def frames(count: int, size: FrameSize = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8)


@pytest.mark.usefixtures("gpu")
def test_a_sequence_with_resets_equals_onnx_runtimes(engine: Path, plain_onnx: Exports) -> None:
    as_it_is = OnnxRunner(plain_onnx("32x48"), SIZE, rewrite=lambda _model: None)
    with open_runner(engine, SIZE) as runner, as_it_is as reference:
        assert runner.backend == "rtx"
        for index, frame in enumerate(frames(9)):
            if index in (3, 4):  # after an odd and an even number of steps: both roles of the buffers
                runner.reset()
                reference.reset()
            np.testing.assert_array_equal(runner.step(frame), reference.step(frame))


@pytest.mark.usefixtures("gpu")
def test_two_engines_run_the_windows_of_a_bidirectional_network(small_bi_onnx: Path, tmp_path: Path) -> None:
    size, lrs = FrameSize(20, 24), [*(frames(5, FrameSize(20, 24)) / np.float32(255))]
    engines = [tmp_path / f"bi.{step}.engine" for step in ("propagate", "refine")]
    for file, engine in zip(files_of(small_bi_onnx), engines, strict=True):
        fake_engine(file, engine, ("20x24", "20x24", "20x24"))
    first, second = map(Sidecar.read, engines)
    for engine, sidecar, other in ((engines[0], first, second), (engines[1], second, first)):
        metadata = {"ksnet.step": engine.stem.rpartition(".")[2]}
        replace(sidecar, metadata=metadata, other_engine_sha256=other.engine_sha256).write(engine)
    with open_runner(tmp_path / "bi.engine", size) as runner, open_runner(small_bi_onnx, size) as reference:
        assert runner.backend == "rtx"
        for start, end in ((0, 3), (3, 5)):
            found, expected = (np.stack([*each.window(lrs[start:end], lrs[end:])]) for each in (runner, reference))
            np.testing.assert_allclose(found, expected, atol=1e-5)
        assert runner.timed_step(lrs[0]) > 0
    replace(first, metadata={"ksnet.step": "propagate"}, other_engine_sha256="0" * 64).write(engines[0])
    with pytest.raises(ArtifactError, match="were not made together"):
        open_runner(tmp_path / "bi.engine", size)


def test_a_state_that_the_engine_has_lost_is_not_asked_for(gpu: FakeCuda, plain_onnx: Exports, tmp_path: Path) -> None:
    """TensorRT takes away an input that nothing reads; what the file gives as its next value stays an output."""
    model = onnx.load(plain_onnx("32x48"))
    model.graph.node.append(onnx.helper.make_node("Identity", ["state.prop_1"], ["next.spare"]))
    spare = copy.deepcopy(next(value for value in model.graph.output if value.name == "next.prop_1"))
    spare.name = "next.spare"
    model.graph.output.append(spare)
    save_as_exported(model, tmp_path / "spare.onnx")
    path = fake_engine(tmp_path / "spare.onnx", tmp_path / "spare.engine", ("32x48", "32x48", "32x48"))
    sidecar = Sidecar.read(path)
    lost = replace(next(tensor for tensor in sidecar.inputs if tensor.name == "state.prop_1"), name="state.spare")
    replace(sidecar, inputs=(*sidecar.inputs, lost)).write(path)
    with open_runner(path, SIZE) as runner, OnnxRunner(plain_onnx("32x48"), SIZE, rewrite=lambda _: None) as reference:
        for frame in frames(3):
            np.testing.assert_array_equal(runner.step(frame), reference.step(frame))
        assert "spare" not in runner.state
    assert gpu.memory == {}


def test_steps_are_launches_of_two_recorded_graphs(gpu: FakeCuda, engine: Path) -> None:
    with open_runner(engine, SIZE) as runner:
        before, recorded = gpu.launches, len(gpu.graphs)
        for frame in frames(4):
            runner.step(frame)
        assert recorded == len(gpu.graphs) == 2
        assert gpu.launches - before == 4


def test_closing_releases_everything_once(gpu: FakeCuda, engine: Path) -> None:
    runner = open_runner(engine, SIZE)
    runner.step(frames(1)[0])
    runner.close()
    runner.close()
    with pytest.raises(BackendError, match="is closed"):
        runner.step(frames(1)[0])
    assert runner.state == {}
    assert (gpu.memory, gpu.graphs, gpu.streams) == ({}, [], 0)


def test_a_recording_that_rounds_otherwise_is_taken(engine: Path, gpu: FakeCuda) -> None:
    """TensorRT does not promise equal bits in two runs."""
    gpu.replay_error = 1  # level, of a few values
    with open_runner(engine, SIZE) as runner:
        assert runner.recorded
        assert runner.notes == ()


def test_a_recording_that_computes_something_else_is_not_taken_and_said(
    gpu: FakeCuda, engine: Path, plain_onnx: Exports
) -> None:
    gpu.replay_error = 40
    as_it_is = OnnxRunner(plain_onnx("32x48"), SIZE, rewrite=lambda _model: None)
    said: list[str] = []
    with Upscaler(engine, on_note=said.append) as upscaler, as_it_is as reference:
        for frame in frames(3):
            np.testing.assert_array_equal(upscaler.push(frame), reference.step(frame))
    assert len(said) == 1
    assert "dB against the plain one, where 60 dB were expected; the plain one is run" in said[0]
    assert gpu.memory == {}


@pytest.mark.slow
def test_what_tensorrt_rtx_compiled_is_kept_beside_the_engine(gpu: FakeCuda, engine: Path) -> None:
    kept = engine.with_name("small.engine.rtxcache")

    def compilations() -> int:
        before = gpu.compilations
        open_runner(engine, SIZE).close()
        return gpu.compilations - before

    assert compilations() == 1
    whole = kept.read_bytes()
    assert (compilations(), kept.read_bytes()) == (0, whole)
    of_another_engine = hashlib.sha256(b"another" + whole[32:]).digest() + whole[32:]
    for damaged in (whole[:-1], whole[:40] + b"x" + whole[41:], b"", of_another_engine):
        kept.write_bytes(damaged)
        assert (compilations(), kept.read_bytes()) == (1, whole)
    gpu.driver = b"kernels for driver 600"  # TensorRT-RTX itself refuses what is of another
    assert compilations() == 1
    assert compilations() == 0
    kept.unlink()
    kept.mkdir()  # where nothing can be written, an engine runs all the same
    assert compilations() == 1
    gpu.has_runtime_cache = False  # full TensorRT, and older versions
    assert compilations() == 0


def test_frames_too_large_for_any_gpu_are_refused(gpu: FakeCuda, engine: Path, plain_onnx: Exports) -> None:
    huge = FrameSize(9000, 9000)
    sidecar, metadata = Sidecar.read(engine), exported_metadata(load_exported(plain_onnx("32x48")))
    spec = replace(sidecar.spec, sizes=SizeRange.fixed(huge))
    replace(sidecar, spec=spec, metadata=metadata).write(engine)
    with pytest.raises(ConfigError, match="2\\^31 elements"):
        open_runner(engine, huge)
    assert gpu.memory == {}


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
def test_an_engine_for_many_sizes_runs_at_one_of_them(small_onnx: Exports, tmp_path: Path) -> None:
    path = fake_engine(small_onnx(None, "float32"), tmp_path / "any.engine", ("16x16", "32x48", "64x64"))
    size = FrameSize(20, 36)
    with TensorRTRunner(path, size) as runner, OnnxRunner(small_onnx(None, "float32"), size) as reference:
        for frame in frames(3, size).astype(np.float32) / 255:
            np.testing.assert_allclose(runner.step(frame), reference.step(frame), atol=1e-4)
    with pytest.raises(ArtifactError, match="takes frames of 16x16 to 64x64"):
        TensorRTRunner(path, FrameSize(65, 64))


@pytest.mark.usefixtures("gpu")
def test_cuda_errors_become_one_sentence(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCuda, "cudaMalloc", lambda *_: (2, None))
    with pytest.raises(BackendError, match=r"cudaMalloc: error 2|cuMemAlloc failed: out of memory"):
        open_runner(engine, SIZE)


@pytest.mark.usefixtures("gpu")
def test_no_gpu_is_said_in_one_sentence(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCuda, "cudaGetDeviceCount", lambda _self: (0, 0))
    with pytest.raises(
        BackendError, match=r"needs a GPU: CUDA (finds no device|cannot go on .*no CUDA-capable device)"
    ):
        open_runner(engine, SIZE)


@pytest.mark.usefixtures("gpu")
def test_where_nothing_records_the_runner_goes_step_by_step(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer in (cuda_bindings.BindingsDevice, cuda_pycuda.PycudaDevice):
        monkeypatch.setattr(layer, "record", lambda *_: None)
    with TensorRTRunner(engine, SIZE) as runner:
        assert not runner.recorded
        first = runner.step(frames(1)[0])
        runner.reset()
        np.testing.assert_array_equal(runner.step(frames(1)[0]), first)


@pytest.mark.parametrize("fails_at", ["cudaStreamEndCapture", "cudaGraphInstantiate", "execute_async_v3"])
def test_where_a_recording_fails_the_engine_runs_step_by_step_and_says_so(
    gpu: FakeCuda, engine: Path, plain_onnx: Exports, fails_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with TensorRT 10 and 11, which cannot be asked whether an engine can be recorded."""
    if fails_at == "execute_async_v3":
        run = FakeEngine.execute_async_v3
        monkeypatch.setattr(FakeEngine, fails_at, lambda self, stream: not gpu.recording and run(self, stream))
    else:
        done = getattr(FakeCuda, fails_at)
        monkeypatch.setattr(FakeCuda, fails_at, lambda *given: (901, done(*given)[1]))
    as_it_is = OnnxRunner(plain_onnx("32x48"), SIZE, rewrite=lambda _model: None)
    with TensorRTRunner(engine, SIZE) as runner, as_it_is as reference:
        assert not runner.recorded
        (note,) = runner.notes
        reason = "TensorRT could not run the engine" if fails_at == "execute_async_v3" else f"{fails_at}: error 901"
        assert note.startswith("The step is launched without a graph, which is slower: it was not recorded (")
        assert reason in note
        for frame in frames(3):
            np.testing.assert_array_equal(runner.step(frame), reference.step(frame))
    assert gpu.memory == {}


@pytest.mark.parametrize("answer", [None, False])
@pytest.mark.usefixtures("gpu")
def test_an_engine_that_cannot_be_recorded_runs_step_by_step(
    engine: Path, plain_onnx: Exports, answer: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT 10 and 11 cannot be asked, and can be recorded; TensorRT-RTX may say no."""
    if answer is None:
        monkeypatch.delattr(FakeEngine, "is_stream_capturable")
    else:
        monkeypatch.setattr(FakeEngine, "is_stream_capturable", lambda *_: answer)
    as_it_is = OnnxRunner(plain_onnx("32x48"), SIZE, rewrite=lambda _model: None)
    with TensorRTRunner(engine, SIZE) as runner, as_it_is as reference:
        assert runner.recorded == (answer is None)
        for frame in frames(3):
            np.testing.assert_array_equal(runner.step(frame), reference.step(frame))


def refusal(engine: Path, size: FrameSize = SIZE) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_runner(engine, size)
    message = str(caught.value)
    assert "\n" not in message
    assert "build" in message
    assert "--model" not in message or f"build-engine {engine} --overwrite --model small" in message
    return message


@pytest.mark.usefixtures("gpu")
def test_engines_that_do_not_fit_are_refused_with_the_reason(engine: Path) -> None:
    sidecar, plan = Sidecar.read(engine), engine.read_bytes()
    assert "takes frames of 32x48" in refusal(engine, FrameSize(40, 48))
    engine.write_bytes(plan[:-100])
    assert "cut off" in refusal(engine)
    engine.write_bytes(plan[:1000] + b"x" + plan[1001:])
    assert "changed" in refusal(engine)
    engine.write_bytes(plan)
    replace(sidecar, version="1.6.0").write(engine)
    assert "1.6.0" in refusal(engine)
    replace(sidecar, spec=replace(sidecar.spec, target=GpuTarget(89))).write(engine)
    assert "built for sm89, and this GPU is sm86" in refusal(engine)
    engine.with_name("small.engine.json").write_text("{")
    assert "damaged" in refusal(engine)
    replace(sidecar, format=0).write(engine)
    assert "format 0" in refusal(engine)
    engine.with_name("small.engine.json").unlink()
    assert "missing" in refusal(engine)
    engine.unlink()
    assert "does not exist" in refusal(engine)


def test_a_step_is_timed_by_the_devices_own_clock(gpu: FakeCuda, engine: Path) -> None:
    with open_runner(engine, SIZE) as runner:
        expected = runner.step(frames(1)[0])
        runner.reset()
        untimed = len(gpu.events)
        assert runner.timed_step(frames(1)[0]) > 0
        assert len(gpu.events) == untimed + 2
        runner.timed_step(frames(1)[0])
        assert len(gpu.events) == untimed + 2, "made once"
        runner.reset()
        np.testing.assert_array_equal(runner.step(frames(1)[0]), expected)
    assert not gpu.events


@pytest.mark.parametrize("details", [True, False])
def test_layers_are_told_by_type_and_steps_go_on_as_before(gpu: FakeCuda, engine: Path, *, details: bool) -> None:
    operators = Counter(node.op_type for node in onnx.load(engine).graph.node)
    first, second, third = frames(3)
    with TensorRTRunner(engine, SIZE) as runner, TensorRTRunner(engine, SIZE) as other:
        runner._engine._engine.details = details
        runner.step(first)
        launches = gpu.launches
        times = runner.layer_times(second)
        assert gpu.launches == launches, "layers of a recorded graph are not told"
        expected = {kind: count * (0.5 if kind == "Conv" else 0.125) for kind, count in operators.items()}
        assert times == pytest.approx(expected if details else {UNKNOWN: sum(expected.values())})
        assert runner._engine._context.profiler is None
        for frame in (first, second):
            other.step(frame)
        np.testing.assert_array_equal(runner.step(third), other.step(third))
        assert gpu.launches > launches
