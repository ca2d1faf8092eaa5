"""Exported files: their structure, and parity with PyTorch over recurrent sequences."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from networks import SMALL, new_checkpoint, save_as_exported

from ksnet_deploy.base.errors import ConfigError, OutputError, VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.version import __version__
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.export.proof.float32 import FLOAT32_TIE_GAP, SequenceReport, compare_to_float32, verify_onnx
from ksnet_deploy.export.proof.half import HalfReport
from ksnet_deploy.export.proof.near_ties import RetakingRunner, swapped_channels
from ksnet_deploy.export.proof.sequence import moving_pattern, proof_frames
from ksnet_deploy.export.verified import export_verified, verify
from ksnet_deploy.network.channel_selection import SplitLevel
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig, Precision
from ksnet_deploy.network.model import KSNet, State
from ksnet_deploy.ops.functions import ALIGN, DEFORM_CONV, DOMAIN, TOPK_SPLIT
from ksnet_deploy.runtime import torch as torch_runtime
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.torch import TorchRunner

SmallOnnx = Callable[..., Path]


def test_graph_has_two_alignments_and_six_splits_with_their_bodies(small_onnx: SmallOnnx) -> None:
    model = onnx.load(small_onnx("32x48"))
    assert Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN) == {
        ALIGN: 2,
        TOPK_SPLIT: 6,
    }
    assert {(function.domain, function.name) for function in model.functions} == {
        (DOMAIN, ALIGN),
        (DOMAIN, DEFORM_CONV),
        (DOMAIN, TOPK_SPLIT),
    }
    called = {(function.name, node.op_type) for function in model.functions for node in function.node if node.domain}
    assert called == {(ALIGN, DEFORM_CONV)}


def test_inputs_and_outputs_are_the_documented_ones(small_onnx: SmallOnnx) -> None:
    model = onnx.load(small_onnx("32x48"))
    assert [v.name for v in model.graph.input] == ["lr", *(f"state.{name}" for name in State._fields)]
    assert [v.name for v in model.graph.output] == ["hr", *(f"next.{name}" for name in State._fields)]

    def shape(value: onnx.ValueInfoProto) -> list[int]:
        return [dim.dim_value for dim in value.type.tensor_type.shape.dim]

    assert shape(model.graph.input[0]) == [1, 32, 48, 3]
    assert shape(model.graph.output[0]) == [1, 128, 192, 3]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert shape(model.graph.input[2]) == [1, 16, 32, 48]
    assert model.opset_import[0].version >= 20


def test_metadata_says_what_the_file_is(small_onnx: SmallOnnx, small: Checkpoint) -> None:
    props = {p.key: p.value for p in onnx.load(small_onnx("32x48")).metadata_props}
    assert json.loads(props["ksnet.config"]) == json.loads(SMALL.to_json())
    assert props["ksnet.weights_sha256"] == small.sha256
    assert props["ksnet.precision"] == "fp32"
    assert props["ksnet.version"] == __version__
    assert props["ksnet.least_size"] == "16x16"


def test_bodies_have_what_older_runtimes_ask_for(small_onnx: SmallOnnx) -> None:
    """ONNX Runtime before 1.25 sees no shape in a list attribute, 1.20 wants names, 1.17 knows format 9 at most."""
    model = onnx.load(small_onnx("32x48"))
    assert model.ir_version == 9
    for function in model.functions:
        names = [node.name for node in function.node]
        assert all(names)
        assert len(set(names)) == len(names)
        attributes = {attribute.name for node in function.node for attribute in node.attribute}
        assert not attributes & {"value_ints", "value_floats"}


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_an_inlined_file_has_standard_operators_alone_and_passes_the_same_proof(
    small: Checkpoint, precision: Precision, tmp_path: Path
) -> None:
    path, size = tmp_path / "step.onnx", FrameSize(32, 48)
    export_verified(small, path, size, dynamic=False, io="float32", precision=precision, frames=4, inline=True)
    model = onnx.load(path)
    assert not model.functions
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert {opset.domain for opset in model.opset_import} == {""}
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert {p.key: p.value for p in model.metadata_props}["ksnet.least_size"] == "16x16"


@pytest.mark.slow
@pytest.mark.parametrize("guidance", ["prev1", "none", "prev2", "multi"])
def test_states_that_the_network_does_not_read_are_not_in_the_file(guidance: str, tmp_path: Path) -> None:
    config = SMALL.replace([f"flow_guidance={guidance}"])
    checkpoint, path, size = new_checkpoint(tmp_path, config), tmp_path / "step.onnx", FrameSize(32, 48)
    report = export_verified(checkpoint, path, size, dynamic=False, io="uint8", precision="fp32", frames=6)
    assert report is not None
    unread = {"feat_2", "flow_1", "prop_2"} if guidance in ("none", "prev1") else set()
    names = [name for name in State._fields if name not in unread]
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["lr", *(f"state.{name}" for name in names)]
    assert [value.name for value in graph.output] == ["hr", *(f"next.{name}" for name in names)]
    # What is left is read: another value of it changes the frame or a state.
    used = {name for node in graph.node for name in node.input}
    assert {f"state.{name}" for name in names} <= used


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "dynamic"),
    [("fp32", True), ("fp16", False)],
)
def test_less_work_for_the_alignment_is_exported_too(precision: Precision, dynamic: bool, tmp_path: Path) -> None:
    config = SMALL.replace(["flow_levels=5", "offset_stride=2", "refine_alignment=flow", "flow_guidance=prev1"])
    checkpoint, path, size = new_checkpoint(tmp_path, config), tmp_path / "step.onnx", FrameSize(21, 27)
    report = export_verified(checkpoint, path, size, dynamic=dynamic, io="float32", precision=precision, frames=6)
    assert report is not None
    deformable = [node for node in onnx.load(path).graph.node if node.op_type == ALIGN]
    assert len(deformable) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "said"), [(2, "no reset"), (3, "no reset"), (4, "reset at 2"), (5, "reset at 2")])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_both_proofs_reset_in_the_middle_of_what_is_long_enough(
    small: Checkpoint, precision: Precision, frames: int, said: str, small_files: dict[str, Path]
) -> None:
    report = verify(small.model, small_files[precision], FrameSize(32, 48), precision=precision, frames=frames)
    assert f"{frames} recurrent frames at 32x48, {said}:" in report.summary()
    assert report.as_dict()["reset_at"] == report.reset_at


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_single_frame_is_no_recurrent_proof(
    small: Checkpoint, precision: Precision, small_files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--verify-frames 2"):
        verify(small.model, small_files[precision], FrameSize(32, 48), precision=precision, frames=1)
    with pytest.raises(ConfigError, match="--verify-frames 2"):
        export_verified(
            small, tmp_path / "a.onnx", FrameSize(32, 48), dynamic=False, io="uint8", precision=precision, frames=1
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_both_proofs_compare_with_the_unfolded_network(
    small: Checkpoint, precision: Precision, small_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong fold that the reference shares would not be seen."""
    monkeypatch.setattr(torch_runtime, "folded", lambda _model: pytest.fail("the reference was folded"))
    verify(small.model, small_files[precision], FrameSize(32, 48), precision=precision, frames=2)


@pytest.mark.slow
def test_the_proof_refuses_a_file_that_carries_the_past_over_a_reset(
    small: Checkpoint, small_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxRunner, "reset", lambda _self: None)
    monkeypatch.setattr(OnnxRunner, "_close", lambda _self: None)
    with pytest.raises(VerificationError, match="frame 3"):
        verify(small.model, small_files["fp32"], FrameSize(32, 48), precision="fp32", frames=6)


def test_the_half_proof_sees_a_file_that_carries_the_past_over_a_reset(
    small: Checkpoint, small_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By 5.9 dB here, of 63.3: in a random network the past weighs too little to fall below the floor."""

    def worst() -> float:
        report = verify(small.model, small_files["fp16"], FrameSize(32, 48), precision="fp16", frames=6)
        assert isinstance(report, HalfReport)
        return min(report.psnr_db)

    whole = worst()
    monkeypatch.setattr(OnnxRunner, "reset", lambda _self: None)
    monkeypatch.setattr(OnnxRunner, "_close", lambda _self: None)
    assert worst() < whole - 4


@pytest.fixture(scope="module")
def small_files(small_onnx: SmallOnnx) -> dict[str, Path]:
    """The small network for 32x48, by precision."""
    return {precision: small_onnx("32x48", precision=precision) for precision in ("fp32", "fp16")}


def test_a_runtime_without_our_code_runs_the_file_as_it_is(small_onnx: SmallOnnx, small: Checkpoint) -> None:
    """The GridSample body that the file carries, in ONNX Runtime without the swap, against PyTorch."""
    session = ort.InferenceSession(str(small_onnx("32x48", "float32")), providers=["CPUExecutionProvider"])
    state: State | None = None
    feeds: dict[str, np.ndarray] = {}
    for image in moving_pattern(FrameSize(32, 48), 4):
        lr = torch.from_numpy(image).permute(2, 0, 1)[None]
        state = state or small.model.initial_state(lr)
        feeds = feeds or {f"state.{name}": tensor.numpy() for name, tensor in state._asdict().items()}
        with torch.no_grad():
            hr, state = small.model(lr, state)
        found, *following = session.run(None, {"lr": image[None], **feeds})
        np.testing.assert_allclose(found[0], hr[0].permute(1, 2, 0).numpy(), atol=1e-4)
        feeds = {f"state.{name}": array for name, array in zip(State._fields, following, strict=True)}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The paper's network, random weights."""
    return new_checkpoint(tmp_path_factory.mktemp("full"), KSNetConfig())


@pytest.mark.slow
@pytest.mark.parametrize("size", ["101x67", "64x96"])
def test_thirty_recurrent_frames_match_pytorch(full: Checkpoint, tmp_path: Path, size: str) -> None:
    frame_size, path = FrameSize.parse(size), tmp_path / "step.onnx"
    export_onnx(full, path, size=frame_size, io="float32")
    report = verify_onnx(full.model, path, frame_size, frames=30)
    print(report.summary())
    assert len(report.frames) == 30
    assert report.reset_at == 15
    assert report.max_error <= 1e-4
    assert len(report.excused) <= 1, report.summary()


@pytest.mark.slow
def test_dynamic_graph_gives_what_the_fixed_one_gives(small_onnx: SmallOnnx) -> None:
    for size in (FrameSize(32, 48), FrameSize(33, 17)):
        with (
            OnnxRunner(small_onnx(str(size), "float32"), size) as fixed,
            OnnxRunner(small_onnx(None, "float32"), size) as dynamic,
        ):
            for image in moving_pattern(size, 5):
                np.testing.assert_allclose(dynamic.step(image), fixed.step(image), atol=1e-5)
                for name, array in fixed.state.items():
                    np.testing.assert_allclose(dynamic.state[name], array, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("io", ["uint8", pytest.param("float16", marks=pytest.mark.slow)])
def test_every_frame_type_matches_pytorch(plain_onnx: SmallOnnx, plain: Checkpoint, io: str) -> None:
    report = verify_onnx(plain.model, plain_onnx("32x48", io), FrameSize(32, 48), frames=6)
    assert max(frame.state for frame in report.frames) <= 1e-4
    assert max(frame.hr for frame in report.frames) <= (1.001 / 255 if io == "uint8" else 1e-3)


@pytest.mark.slow
def test_the_dynamic_file_runs_with_the_bodies_it_carries(small_onnx: SmallOnnx, small: Checkpoint) -> None:
    verify_onnx(small.model, small_onnx(None, "float32"), FrameSize(33, 17), frames=2)


def test_verification_catches_a_wrong_body(small_onnx: SmallOnnx, small: Checkpoint, tmp_path: Path) -> None:
    """ONNX Runtime's own DeformConv would hide it."""
    model = onnx.load(small_onnx("32x48", "float32"))
    body = next(function for function in model.functions if function.name == DEFORM_CONV)
    grid_sample = next(node for node in body.node if node.op_type == "GridSample")
    next(a for a in grid_sample.attribute if a.name == "padding_mode").s = b"border"
    path = tmp_path / "wrong.onnx"
    save_as_exported(model, path)
    with pytest.raises(VerificationError, match="differs from PyTorch on frame"):
        verify_onnx(small.model, path, FrameSize(32, 48), frames=2)


def test_verification_catches_a_wrong_weight(small_onnx: SmallOnnx, small: Checkpoint, tmp_path: Path) -> None:
    model = onnx.load(small_onnx("32x48", "float32"))
    weight = next(t for t in model.graph.initializer if tuple(t.dims) == (16, 3, 3, 3))
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0, 0, 0, 0] += 0.05
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    path = tmp_path / "wrong.onnx"
    save_as_exported(model, path)
    with pytest.raises(VerificationError, match="differs from PyTorch on frame 0"):
        verify_onnx(small.model, path, FrameSize(32, 48), frames=4)


def test_verification_catches_a_state_that_is_not_passed_on(
    small_onnx: SmallOnnx, small: Checkpoint, tmp_path: Path
) -> None:
    """A single frame cannot show this."""
    model = onnx.load(small_onnx("32x48", "float32"))
    for node in model.graph.node:
        if "next.feat_2" in node.output:
            del node.input[:]
            node.input.append("state.feat_2")
    path = tmp_path / "wrong.onnx"
    save_as_exported(model, path)
    with pytest.raises(VerificationError, match="'feat_2'"):
        verify_onnx(small.model, path, FrameSize(32, 48), frames=4)


class SwappingRunner(TorchRunner):
    """Stands for a runtime that orders two near-tied channels the other way on some frames: PyTorch made to do so."""

    backend = "swapping"

    def __init__(self, model: KSNet, swap_on: set[int], error: float = 0.0) -> None:
        super().__init__(model, FrameSize(32, 48), io="float32")
        self._swap_on, self._error, self._index = swap_on, error, -1
        self._level = next(module for module in self._model.modules() if isinstance(module, SplitLevel))

    def _step(self, lr: np.ndarray) -> np.ndarray:
        self._index += 1
        if self._index not in self._swap_on:
            return super()._step(lr)
        with swapped_channels(self._level):
            return super()._step(lr) + np.float32(self._error)


def compare_with_swaps(
    checkpoint: Checkpoint, swap_on: set[int], *, gap: float = math.inf, error: float = 0.0, reset_at: int | None = None
) -> SequenceReport:
    """``gap`` infinite takes any gap of two scores for a near-tie."""
    with (
        RetakingRunner(checkpoint.model, FrameSize(32, 48), io="float32", gap=gap) as reference,
        SwappingRunner(checkpoint.model, swap_on, error) as candidate,
    ):
        return compare_to_float32(reference, candidate, proof_frames(reference, 8), reset_at=reset_at)


@pytest.mark.parametrize("reset_at", [None, 3, 5])
def test_a_swap_of_near_tied_channels_is_excused_and_reported(small: Checkpoint, reset_at: int | None) -> None:
    report = compare_with_swaps(small, {3}, reset_at=reset_at)
    assert report.excused == [3]
    assert report.max_error <= 1e-5
    assert "near-tied channel scores swapped on frame 3" in report.summary()


def test_a_swap_of_channels_that_are_not_tied_is_an_error(small: Checkpoint) -> None:
    with pytest.raises(VerificationError, match="on frame 3"):
        compare_with_swaps(small, {3}, gap=FLOAT32_TIE_GAP)


def test_a_near_tie_excuses_nothing_but_the_swap(small: Checkpoint) -> None:
    with pytest.raises(VerificationError, match="on frame 3"):
        compare_with_swaps(small, {3}, error=0.01)


def test_swaps_on_many_frames_are_refused(small: Checkpoint) -> None:
    with pytest.raises(VerificationError, match="on 3 of 8 frames"):
        compare_with_swaps(small, {1, 3, 5})


def test_a_size_below_the_minimum_is_refused(small: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="16x48"):
        export_onnx(small, tmp_path / "a.onnx", size=FrameSize(8, 48))


def test_a_missing_folder_is_one_sentence_and_leaves_nothing(small: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        export_onnx(small, tmp_path / "none" / "a.onnx", size=FrameSize(32, 48))
    assert list(tmp_path.iterdir()) == []
