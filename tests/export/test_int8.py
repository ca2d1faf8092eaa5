"""Convolutions of an exported network in whole numbers: which they are, how near they stay, who may run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from media import make_video
from needs import needs_vnni
from networks import save_as_exported

import ksnet_deploy
from ksnet_deploy.base import machine
from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError, InputError, VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.export import cache
from ksnet_deploy.export.calibration import Scale, activation_ranges
from ksnet_deploy.export.engine.make import EngineRequest, make_engine
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.export.proof.half import verify_half
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig, Precision
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import new_network
from ksnet_deploy.network.precision import in_whole_numbers
from ksnet_deploy.runtime.int8 import check_int8, without_rounded_sums
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.onnx import OnnxRunner, use_device_operators
from ksnet_deploy.runtime.rewrites import shuffles_by_block
from ksnet_deploy.runtime.tensorrt.target import SizeRange
from ksnet_deploy.upscale.ladder import Choices
from ksnet_deploy.upscale.networks import find_network

SIZE = FrameSize(32, 48)


@pytest.fixture(scope="module")
def exported(plain: Checkpoint, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    export_onnx(plain, path, size=SIZE, precision="int8", calibrate=clip)
    return path


@pytest.fixture(scope="module")
def unrounded(plain: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float32") / "float32.onnx"
    export_onnx(plain, path, size=SIZE)
    return path


@pytest.fixture(scope="module", params=["small", "plain"])
def rounded(request: pytest.FixtureRequest, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """With flow and without."""
    path = tmp_path_factory.mktemp("rounded") / "int8.onnx"
    export_onnx(request.getfixturevalue(request.param), path, size=SIZE, precision="int8", calibrate=clip)
    return onnx.load(path)


def whole_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    scaled = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in scaled]


def chosen_in(model: onnx.ModelProto, precision: Precision = "int8") -> int:
    """Number of convolutions that a precision has in whole numbers in a network of the model's configuration."""
    config = {entry.key: entry.value for entry in model.metadata_props}["ksnet.config"]
    return len(in_whole_numbers(fold(new_network(KSNetConfig.from_json(config))), precision))


def test_every_convolution_that_is_not_ranked_lies_between_bytes(rounded: onnx.ModelProto) -> None:
    weights = {tensor.name: tensor for tensor in rounded.graph.initializer}
    makers = {output: node for node in rounded.graph.node for output in node.output}
    whole = whole_convolutions(rounded)
    assert len(whole) == chosen_in(rounded) > 6
    for node in whole:
        entering, weight = makers[node.input[0]], makers[node.input[1]]
        assert entering.op_type == weight.op_type == "DequantizeLinear"
        tensor = weights[weight.input[0]]
        assert tensor.data_type == onnx.TensorProto.INT8
        assert list(weights[weight.input[1]].dims) == [tensor.dims[0]]  # a scale for every output channel
        name = weight.output[0].removeprefix("network.")
        assert not name.startswith(("propagate.fuse", "refine.fuse", "propagate.select", "refine.select"))
        assert not name.startswith("extract.") or name.endswith(".body.2.weight.scaled"), name
    assert {entry.key: entry.value for entry in rounded.metadata_props}["ksnet.precision"] == "int8"


def test_what_only_convolutions_want_rounded_is_rounded_for_them_alone(rounded: onnx.ModelProto) -> None:
    nodes = rounded.graph.node
    makers = {output: node for node in nodes for output in node.output}
    convolved = {node.output[0] for node in nodes if node.op_type == "Conv"}
    for node in nodes:
        for name in node.input:
            if name.endswith(".rounded") and name.removesuffix(".rounded") not in convolved:
                assert node.op_type == "Conv", f"{node.op_type} {node.name} reads {name}"
    # Bytes from zero on are rectified: no ReLU is left between two convolutions in whole numbers.
    whole = {node.input[0] for node in whole_convolutions(rounded)}
    for node in (node for node in nodes if node.op_type == "Relu"):
        assert not (node.output[0] + ".rounded" in whole and makers[node.input[0]].op_type == "DequantizeLinear")


def test_onnx_runtime_computes_them_in_bytes(rounded: onnx.ModelProto, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(rounded.SerializeToString())
    use_device_operators("cpu")(model)
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "fused.onnx"), 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert kinds.count("QLinearConv") == chosen_in(rounded)
    assert kinds.count("QLinearLeakyRelu") == 6


@needs_vnni
def test_frames_and_states_stay_near_float32(exported: Path, unrounded: Path) -> None:
    with OnnxRunner(exported, SIZE) as found, OnnxRunner(unrounded, SIZE) as expected:
        for frame in moving_frames(SIZE, 6):
            assert psnr(found.step(frame), expected.step(frame)) >= 45
        for name, array in expected.state.items():
            assert np.abs(found.state[name] - array).mean() <= 0.05 * array.std() + 1e-6, name
        assert "8 bits" in found.notes[0]


@needs_vnni
def test_beside_half_the_state_is_equal(plain: Checkpoint, clip: Path, tmp_path: Path) -> None:
    for precision in ("fp16", "int8-fp16"):
        export_onnx(plain, tmp_path / f"{precision}.onnx", size=SIZE, precision=precision, calibrate=clip)
    assert len(whole_convolutions(onnx.load(tmp_path / "int8-fp16.onnx"))) == 4
    with OnnxRunner(tmp_path / "int8-fp16.onnx", SIZE) as found, OnnxRunner(tmp_path / "fp16.onnx", SIZE) as expected:
        for frame in moving_frames(SIZE, 4):
            assert psnr(found.step(frame), expected.step(frame)) >= 45
        for name, array in expected.state.items():
            np.testing.assert_allclose(found.state[name], array, atol=1e-5)


@needs_vnni
def test_what_openvino_runs_rounds_nothing_between_a_convolution_and_its_activation(
    exported: Path, tmp_path: Path
) -> None:
    model = onnx.load(exported)
    without_rounded_sums(model)
    makers = {output: node for node in model.graph.node for output in node.output}
    readers = {(name, node.op_type) for node in model.graph.node for name in node.input}
    scaled = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    rounding = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(rounding) == 12
    for node in rounding:  # after a convolution only what another reads as it is
        if makers[node.input[0]].op_type == "Conv":
            assert (scaled[node.output[0]], "Conv") in readers
    onnx.checker.check_model(model, full_check=True)
    save_as_exported(model, tmp_path / "bare.onnx")
    with OnnxRunner(exported, SIZE) as whole, OnnxRunner(tmp_path / "bare.onnx", SIZE) as bare:
        for frame in moving_frames(SIZE, 3):
            assert psnr(bare.step(frame), whole.step(frame)) >= 45


@needs_vnni
def test_a_network_out_of_its_ranges_is_refused_with_the_value(
    plain: Checkpoint, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = activation_ranges(plain.model, clip)
    narrow = {n: (Scale(a.step / 10, a.zero), Scale(b.step / 10, b.zero)) for n, (a, b) in ranges.items()}
    monkeypatch.setattr("ksnet_deploy.export.onnx.activation_ranges", lambda *_: narrow)
    export_onnx(plain, tmp_path / "bad.onnx", size=SIZE, precision="int8", calibrate=clip)
    with pytest.raises(VerificationError, match=r"has \d+\.\d dB against float32.*'ksnet-deploy export --calibrate'"):
        verify_half(plain.model, tmp_path / "bad.onnx", SIZE, precision="int8", frames=4)


def test_a_scale_gives_up_outliers_for_the_rest() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 10_000), 8).astype(np.float32)
    span = float(values.max() - values.min())
    whole = Scale(span / 255, round(-255 * float(values.min()) / span))
    found = Scale.of(values)
    assert found.step < whole.step
    assert np.mean((found.rounded(values) - values) ** 2) < np.mean((whole.rounded(values) - values) ** 2)
    assert found.rounded(np.zeros(1, np.float32)) == 0  # so that padding is exact


def test_a_clip_of_one_frame_calibrates_nothing(plain: Checkpoint, tmp_path: Path) -> None:
    short = make_video(tmp_path / "short.mp4", SIZE, frames=1)
    with pytest.raises(InputError, match="two or more"):
        activation_ranges(plain.model, short)


@pytest.mark.parametrize("runner", [OnnxRunner, LockstepOnnxRunner])
def test_gpus_and_processors_without_vnni_are_refused(
    exported: Path, runner: type[OnnxRunner | LockstepOnnxRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendError, match="int8 is for CPUs"):
        check_int8("cuda")
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx2"})
    with pytest.raises(BackendError, match="VNNI"):
        runner(exported, SIZE)


def test_a_proof_that_cannot_be_made_here_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx2"})
    with pytest.raises(BackendError, match="--verify-frames 0"):
        ksnet_deploy.export_onnx(tmp_path / "not-read.safetensors", tmp_path / "x.onnx", precision="int8-fp16")


def test_engines_are_not_built_in_int8(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="for CPUs"):
        ksnet_deploy.build_engine("lite", precision="int8")
    monkeypatch.setattr("ksnet_deploy.export.engine.make.choose_flavour", lambda _wanted: "rtx")
    with pytest.raises(ArtifactError, match="for CPUs"):
        make_engine(EngineRequest(exported, SizeRange.fixed(SIZE), gpu="sm86", plugins="off"))


@pytest.mark.parametrize(("runtime", "device"), [("torch", None), (None, "cuda"), ("rtx", None)])
def test_what_cannot_compute_in_int8_is_refused_by_name(runtime: str | None, device: str | None) -> None:
    with pytest.raises(ConfigError, match="a precision of int8 is for CPUs, by ONNX Runtime or OpenVINO, and not for"):
        Choices.of(runtime, device, precision="int8")


def test_float32_is_for_cpus_by_whatever_runtime() -> None:
    with pytest.raises(ConfigError, match="a precision of fp32 is for CPUs and not for rtx; leave"):
        Choices.of("rtx", None, precision="fp32")
    assert Choices.of("torch", None, precision="fp32").rungs()


def test_an_exported_file_keeps_its_own_precision(exported: Path) -> None:
    with pytest.raises(ConfigError, match="--precision out"):
        find_network(exported, precision="int8")


def test_calibrating_another_precision_is_refused(plain: Checkpoint, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs no calibration"):
        ksnet_deploy.export_onnx(plain.path, tmp_path / "x.onnx", calibrate=clip)


def test_the_cache_knows_the_clip_and_a_job_its_precision(
    plain: Checkpoint, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = cache.cached_path(plain.path, SIZE, "uint8", "int8")
    monkeypatch.setattr(cache, "CLIP", clip)
    assert cache.cached_path(plain.path, SIZE, "uint8", "int8") != bundled
    found = [find_network(plain.path, "onnxruntime", precision=kind).identity() for kind in ("auto", "int8")]
    assert [identity["precision"] for identity in found] == ["float32", "int8 and float32"]


def test_rewrites_for_a_cpu_change_no_frame(plain: Checkpoint, unrounded: Path) -> None:
    model = onnx.load(unrounded)
    use_device_operators("cpu")(model)
    last = next(tensor for tensor in model.graph.initializer if tensor.name == "network.reconstruct.head.2.weight")
    assert list(last.dims) == [12, plain.config.channels, 4, 4]
    assert sum(node.op_type == "BlockShuffle" for node in model.graph.node) == 3
    with OnnxRunner(unrounded, SIZE) as found, OnnxRunner(unrounded, SIZE, rewrite=lambda _model: None) as expected:
        for frame in moving_frames(SIZE, 3):
            assert np.abs(found.step(frame).astype(int) - expected.step(frame)).max() <= 1


def test_a_shuffle_whose_channels_another_node_reads_stays_as_it_is(unrounded: Path) -> None:
    model = onnx.load(unrounded)
    shuffle = next(node for node in model.graph.node if node.op_type == "DepthToSpace")
    model.graph.node.append(onnx.helper.make_node("Relu", [shuffle.input[0]], ["another"]))
    shuffles_by_block(model)
    assert next(a.s for a in shuffle.attribute if a.name == "mode") == b"CRD"


@pytest.mark.slow
@needs_vnni
def test_the_report_of_a_film_says_int8(plain: Checkpoint, clip: Path, tmp_path: Path) -> None:
    with ksnet_deploy.Upscaler(plain.path, runtime="onnxruntime", precision="int8") as upscaler:
        result = ksnet_deploy.upscale_video(clip, tmp_path / "larger.mp4", upscaler)
    assert result.as_dict()["precision"] == "int8 and float32"


@pytest.mark.slow
@needs_vnni
def test_frames_are_upscaled_in_int8_after_one_comparison(
    plain: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path))
    told: list[list[str]] = []
    for _ in range(2):
        told.append([])
        with ksnet_deploy.Upscaler(
            plain.path, runtime="onnxruntime", precision="int8", on_note=told[-1].append
        ) as upscaler:
            upscaler.push(moving_frames(SIZE, 1)[0])
            assert upscaler.identity()["precision"] == "int8 and float32"
    assert [any("over 30 frames" in note for note in notes) for notes in told] == [True, False]
