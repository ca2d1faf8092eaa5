"""OpenVINO: what is its own. What it has in common with the other runners is tested in test_runtime.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from needs import needs_bfloat16, needs_openvino
from onnx import TensorProto

from ksnet_deploy.base import machine
from ksnet_deploy.base.errors import ArtifactError, BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.measure.speed.ways import way_name
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint
from ksnet_deploy.runtime import openvino
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.upscale.networks import NetworkFile, find_network
from ksnet_deploy.upscale.precision import precision_of_file
from ksnet_deploy.upscale.upscaler import Upscaler

SIZE = FrameSize(32, 48)


@pytest.fixture(scope="module")
def half(small_onnx: Callable[..., Path]) -> Path:
    return small_onnx("32x48", precision="fp16")


def test_no_float16_is_left_and_the_islands_stay_float32(half: Path) -> None:
    model = onnx.inliner.inline_local_functions(onnx.load(half))
    before = [tensor.data_type for tensor in model.graph.initializer]
    assert openvino.with_bfloat16(model)
    assert not openvino.with_bfloat16(model)
    after = [tensor.data_type for tensor in model.graph.initializer]
    assert TensorProto.FLOAT16 in before
    assert TensorProto.FLOAT in before
    assert after == [TensorProto.BFLOAT16 if kind == TensorProto.FLOAT16 else kind for kind in before]
    casts = [a.i for node in model.graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"]
    assert TensorProto.BFLOAT16 in casts
    assert TensorProto.FLOAT16 not in casts


@pytest.mark.parametrize("flags", [{"avx512_bf16"}, {"avx2"}])
def test_the_precision_is_part_of_what_a_job_is(monkeypatch: pytest.MonkeyPatch, flags: set[str], half: Path) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    expected = "bfloat16" if "avx512_bf16" in flags else "float32"
    assert find_network("lite", "openvino").identity()["precision"] == expected
    assert find_network(half, "openvino").identity()["precision"] == expected
    assert find_network("lite", "onnxruntime").identity()["precision"] == "float32"
    assert find_network("lite", "onnxruntime", "cuda").identity()["precision"] == "float16"
    assert "precision" not in find_network(half, "onnxruntime").identity()


@pytest.mark.parametrize(
    ("said", "expected"),
    [("fp32", "float32"), ("fp16", "bfloat16"), ("int8", "int8 and float32"), ("int8-fp16", "int8 and bfloat16")],
)
def test_a_file_is_said_to_run_in_its_own_precision(
    said: str, expected: str, monkeypatch: pytest.MonkeyPatch, small_onnx: Callable[..., Path]
) -> None:
    path = small_onnx("32x48")
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx512_bf16"})
    assert find_network(path, "openvino").identity()["precision"] == "float32"
    monkeypatch.setattr("ksnet_deploy.runtime.exported.metadata_of", lambda _: {"ksnet.precision": said})
    assert find_network(path, "openvino").identity()["precision"] == expected
    monkeypatch.setattr("ksnet_deploy.runtime.exported.metadata_of", lambda _: {})
    assert precision_of_file(path) is None


@needs_openvino
@needs_bfloat16
def test_bfloat16_is_near_float32_over_recurrent_frames(half: Path, small_onnx: Callable[..., Path]) -> None:
    with openvino.OpenVINORunner(half, SIZE) as runner, OnnxRunner(small_onnx("32x48"), SIZE) as reference:
        values = [psnr(runner.step(frame), reference.step(frame)) for frame in moving_frames(SIZE, 8)]
        notes = runner.notes
    assert min(values) >= 45
    assert max(values) < float("inf"), "nothing was reduced"
    assert "bfloat16" in notes[0]
    assert "--runtime onnxruntime" in notes[0]


@needs_openvino
def test_int8_is_near_float32_over_recurrent_frames(
    small: Checkpoint, clip: Path, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    export_onnx(small, tmp_path / "int8.onnx", size=SIZE, precision="int8", calibrate=clip)
    with (
        openvino.OpenVINORunner(tmp_path / "int8.onnx", SIZE) as runner,
        OnnxRunner(small_onnx("32x48"), SIZE) as other,
    ):
        values = [psnr(runner.step(frame), other.step(frame)) for frame in moving_frames(SIZE, 8)]
        assert "8 bits" in runner.notes[0]
    assert min(values) >= 45
    assert min(values) < float("inf"), "nothing was rounded"


@needs_openvino
def test_float32_is_what_onnx_runtime_gives(small_onnx: Callable[..., Path]) -> None:
    path = small_onnx("32x48")
    with openvino.OpenVINORunner(path, SIZE) as runner, OnnxRunner(path, SIZE) as reference:
        assert not runner.notes
        for frame in moving_frames(SIZE, 5):
            assert abs(runner.step(frame).astype(int) - reference.step(frame).astype(int)).max() <= 1


@needs_openvino
def test_a_processor_without_bfloat16_is_given_float32(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx2", "avx512f"})
    assert openvino.export_precision() == "fp32"
    with openvino.OpenVINORunner(half, SIZE) as runner:  # a half file is run in float32 there
        runner.step(moving_frames(SIZE, 1)[0])
        assert all(array.dtype == np.float32 for array in runner.state.values())


@needs_openvino
@pytest.mark.parametrize("size", ["32x64", "64x96", None])
def test_frames_that_the_flow_need_not_pad_are_run(small_onnx: Callable[..., Path], size: str | None) -> None:
    """OpenVINO leaves a padding by nothing out, and its input has two names from then on."""
    frame_size = FrameSize.parse(size or "32x64")
    path = small_onnx(size)
    with openvino.OpenVINORunner(path, frame_size) as runner, OnnxRunner(path, frame_size) as reference:
        for frame in moving_frames(frame_size, 3):
            assert abs(runner.step(frame).astype(int) - reference.step(frame).astype(int)).max() <= 1


@needs_openvino
def test_a_dynamic_file_is_run_at_the_size_at_hand(small_onnx: Callable[..., Path]) -> None:
    with openvino.OpenVINORunner(small_onnx(None), SIZE) as runner:
        assert runner.step(moving_frames(SIZE, 1)[0]).shape == (128, 192, 3)


@needs_openvino
def test_a_bidirectional_network_runs_in_windows(small_bi_onnx: Path) -> None:
    size = FrameSize(20, 24)
    lrs = [frame.astype(np.float32) / 255 for frame in moving_frames(size, 5)]
    with open_runner(small_bi_onnx, size, backend="openvino") as runner, open_runner(small_bi_onnx, size) as reference:
        assert (runner.backend, reference.backend) == ("openvino", "onnxruntime")
        for start, end in ((0, 3), (3, 5)):
            found, expected = (np.stack([*each.window(lrs[start:end], lrs[end:])]) for each in (runner, reference))
            np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_openvino
def test_a_state_goes_from_one_runtime_to_the_other(small_onnx: Callable[..., Path]) -> None:
    path, frames = small_onnx("32x48"), moving_frames(SIZE, 4)
    with openvino.OpenVINORunner(path, SIZE) as runner, OnnxRunner(path, SIZE) as other:
        for frame in frames[:3]:
            expected = other.step(frame)
        runner.state = other.state
        expected = other.step(frames[3])
        assert abs(runner.step(frames[3]).astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("installed", "flags", "taken"),
    [
        (True, {"avx512_bf16"}, "openvino"),
        (True, {"amx_bf16"}, "openvino"),
        (True, {"avx512f", "avx2"}, "onnxruntime"),
        (False, {"avx512_bf16"}, "onnxruntime"),
        (True, None, "onnxruntime"),
    ],
)
def test_it_is_taken_where_it_is_installed_and_faster(
    installed: bool, flags: set[str] | None, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: installed)
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    network = find_network("lite")
    assert (network.backend, network.can_be_tiled) == (taken, True)
    assert find_network("lite", "onnxruntime").backend == "onnxruntime"
    assert find_network("lite", None, "cuda").backend == "onnxruntime"
    assert not find_network("lite", "openvino").can_be_tiled


@pytest.mark.slow
def test_where_tiles_are_needed_onnx_runtime_runs_them(plain: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: True)
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx512_bf16"})
    said: list[str] = []
    with Upscaler(plain.path, tiles="96x96", on_note=said.append) as upscaler:
        assert upscaler.network.identity()["runtime"].startswith("openvino" if openvino_version() else "onnxruntime")
        assert upscaler.push(np.zeros((128, 128, 3), np.uint8)).shape == (512, 512, 3)
        assert upscaler.tiling is not None
        assert (upscaler.identity()["precision"], upscaler.precision) == ("bfloat16", "float32")
        assert isinstance(upscaler.network, NetworkFile)
        assert (way_name(upscaler.network), way_name(upscaler.network.in_tiles)) == (
            "openvino-cpu-bfloat16",
            "onnxruntime-cpu",
        )
    assert "ONNX Runtime runs the tiles" in " ".join(said)


def openvino_version() -> str | None:
    from ksnet_deploy.base.version import package_version

    return package_version("openvino")


def test_where_it_is_missing_or_asked_for_on_a_gpu_one_sentence_says_so(
    small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    with pytest.raises(BackendError, match="install ksnet-deploy with the 'openvino' extra"):
        openvino.OpenVINORunner(small_onnx("32x48"), SIZE)
    monkeypatch.setattr(openvino, "is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"cannot be imported .*or use --runtime onnxruntime"):
        openvino.OpenVINORunner(small_onnx("32x48"), SIZE)
    with pytest.raises(BackendError, match="runs on the CPU here, not on cuda"):
        openvino.check_openvino("cuda")
    with pytest.raises(ConfigError, match="give onnxruntime, openvino or torch"):
        find_network("lite", "opencv")


@needs_openvino
def test_what_it_cannot_load_is_refused(small_onnx: Callable[..., Path], tmp_path: Path) -> None:
    model = onnx.load(small_onnx("32x48"))
    model.graph.node.append(onnx.helper.make_node("Unheard", ["hr"], ["x"], domain="elsewhere"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("x", TensorProto.UINT8, None))
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ArtifactError, match="OpenVINO cannot load"):
        openvino.OpenVINORunner(tmp_path / "foreign.onnx", SIZE)


@needs_openvino
@needs_bfloat16
@pytest.mark.slow
@pytest.mark.parametrize("model", ["lite", "uni"])
def test_thirty_frames_of_the_bundled_networks_keep_45_db(model: str, tmp_path: Path) -> None:
    checkpoint, size = load_checkpoint(bundled_checkpoint(model)), FrameSize(72, 128)
    for precision in ("fp32", "fp16"):
        export_onnx(checkpoint, tmp_path / f"{precision}.onnx", size=size, precision=precision)
    with (
        openvino.OpenVINORunner(tmp_path / "fp16.onnx", size) as runner,
        OnnxRunner(tmp_path / "fp32.onnx", size) as reference,
    ):
        values = [psnr(runner.step(frame), reference.step(frame)) for frame in moving_frames(size, 30)]
    print(f"{model}: at least {min(values):.1f} dB over {len(values)} frames")
    assert min(values) >= 45
