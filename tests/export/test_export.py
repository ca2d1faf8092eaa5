"""Exported files: their structure, and parity with PyTorch over recurrent sequences."""

from __future__ import annotations

import contextlib
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
from networks import SMALL, new_checkpoint

from ksnet_deploy.base.errors import ConfigError, OutputError, VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.version import __version__
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.export.proof import float32 as verify
from ksnet_deploy.export.proof.float32 import verify_onnx
from ksnet_deploy.export.proof.near_ties import swapped_channels
from ksnet_deploy.export.proof.sequence import moving_pattern
from ksnet_deploy.network.channel_selection import SplitLevel
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import KSNet, State
from ksnet_deploy.ops.functions import DEFORM_CONV, DOMAIN, TOPK_SPLIT
from ksnet_deploy.runtime.onnx import OnnxRunner

SmallOnnx = Callable[..., Path]


def test_graph_has_two_deform_convs_and_six_splits_with_their_bodies(small_onnx: SmallOnnx) -> None:
    model = onnx.load(small_onnx("32x48"))
    assert Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN) == {
        DEFORM_CONV: 2,
        TOPK_SPLIT: 6,
    }
    assert {(function.domain, function.name) for function in model.functions} == {
        (DOMAIN, DEFORM_CONV),
        (DOMAIN, TOPK_SPLIT),
    }
    standard = {node.domain for function in model.functions for node in function.node}
    assert standard <= {"", "ai.onnx"}


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


@pytest.mark.parametrize(
    "size",
    ["101x67", *(pytest.param(size, marks=pytest.mark.slow) for size in ("96x128", "180x320"))],
)
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


@pytest.mark.parametrize("io", ["uint8", "float16"])
def test_every_frame_type_matches_pytorch(small_onnx: SmallOnnx, small: Checkpoint, io: str) -> None:
    report = verify_onnx(small.model, small_onnx("32x48", io), FrameSize(32, 48), frames=6)
    assert max(frame.state for frame in report.frames) <= 1e-4
    assert max(frame.hr for frame in report.frames) <= (1.001 / 255 if io == "uint8" else 1e-3)


def test_the_dynamic_file_runs_with_the_bodies_it_carries(small_onnx: SmallOnnx, small: Checkpoint) -> None:
    verify_onnx(small.model, small_onnx(None, "float32"), FrameSize(33, 17), frames=2)


def test_verification_catches_a_wrong_body(small_onnx: SmallOnnx, small: Checkpoint, tmp_path: Path) -> None:
    """ONNX Runtime's own DeformConv would hide it."""
    model = onnx.load(small_onnx("32x48", "float32"))
    body = next(function for function in model.functions if function.name == DEFORM_CONV)
    grid_sample = next(node for node in body.node if node.op_type == "GridSample")
    next(a for a in grid_sample.attribute if a.name == "padding_mode").s = b"border"
    path = tmp_path / "wrong.onnx"
    onnx.save(model, path)
    with pytest.raises(VerificationError):
        verify_onnx(small.model, path, FrameSize(32, 48), frames=2)


def test_verification_catches_a_wrong_weight(small_onnx: SmallOnnx, small: Checkpoint, tmp_path: Path) -> None:
    model = onnx.load(small_onnx("32x48", "float32"))
    weight = next(t for t in model.graph.initializer if tuple(t.dims) == (16, 3, 3, 3))
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0, 0, 0, 0] += 0.05
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    path = tmp_path / "wrong.onnx"
    onnx.save(model, path)
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
    onnx.save(model, path)
    with pytest.raises(VerificationError, match="'feat_2'"):
        verify_onnx(small.model, path, FrameSize(32, 48), frames=4)


class SwappingRunner:
    """Stands for a runtime that orders two near-tied channels the other way on some frames: PyTorch made to do so."""

    def __init__(self, model: KSNet, swap_on: set[int], error: float = 0.0) -> None:
        self.io, self.size = "float32", FrameSize(32, 48)
        self._model, self._swap_on, self._error = model, swap_on, error
        self._level = next(module for module in model.modules() if isinstance(module, SplitLevel))
        self._state: State | None = None
        self._index = -1

    def step(self, lr: np.ndarray) -> np.ndarray:
        self._index += 1
        planes = torch.from_numpy(lr).permute(2, 0, 1)[None]
        swapping = self._index in self._swap_on
        with swapped_channels(self._level) if swapping else contextlib.nullcontext():
            hr, self._state = self._model(planes, self._state or self._model.initial_state(planes))
        return hr[0].permute(1, 2, 0).numpy() + (self._error if swapping else 0.0)

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self._state._asdict().items()}

    def reset(self) -> None:
        self._state = None


def compare_with_swaps(checkpoint: Checkpoint, swap_on: set[int], error: float = 0.0) -> verify.SequenceReport:
    images = list(moving_pattern(FrameSize(32, 48), 8))
    return verify._compare(checkpoint.model, SwappingRunner(checkpoint.model, swap_on, error), images, reset_at=None)


def test_a_swap_of_near_tied_channels_is_excused_and_reported(
    small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "TIE_GAP", math.inf)  # take any gap for a near-tie
    report = compare_with_swaps(small, {3})
    assert report.excused == [3]
    assert report.max_error <= 1e-5
    assert "near-tied channel scores swapped on frame 3" in report.summary()


def test_a_swap_of_channels_that_are_not_tied_is_an_error(small: Checkpoint) -> None:
    with pytest.raises(VerificationError, match="on frame 3"):
        compare_with_swaps(small, {3})


def test_a_near_tie_excuses_nothing_but_the_swap(small: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "TIE_GAP", math.inf)
    with pytest.raises(VerificationError, match="on frame 3"):
        compare_with_swaps(small, {3}, error=0.01)


def test_a_size_below_the_minimum_is_refused(small: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="16x48"):
        export_onnx(small, tmp_path / "a.onnx", size=FrameSize(8, 48))


def test_bi_export_is_refused(tmp_path: Path) -> None:
    bi = new_checkpoint(tmp_path, SMALL.replace(["direction=bi"]))
    with pytest.raises(ConfigError, match="uni"):
        export_onnx(bi, tmp_path / "a.onnx", size=FrameSize(32, 48))


def test_a_missing_folder_is_one_sentence_and_leaves_nothing(small: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        export_onnx(small, tmp_path / "none" / "a.onnx", size=FrameSize(32, 48))
    assert list(tmp_path.iterdir()) == []
