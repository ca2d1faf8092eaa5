"""Half precision: what is half in an exported file, and how near it stays to float32."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnxruntime as ort
import pytest
import torch
from networks import SMALL, new_checkpoint

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.export.proof.half import (
    HALF_TIE_GAP,
    PSNR_FLOOR_DB,
    SWAP_DB,
    HalfReport,
    compare_runners,
    verify_half,
)
from ksnet_deploy.export.proof.near_ties import RetakingRunner, swapped_channels
from ksnet_deploy.export.proof.rounding import round_half_results
from ksnet_deploy.export.proof.sequence import proof_frames
from ksnet_deploy.export.verified import export_verified
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.channel_selection import SplitLevel
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops.functions import DOMAIN, OPSET, VERSION, function_bodies
from ksnet_deploy.ops.reference import channel_scores, deform_conv2d, topk_split
from ksnet_deploy.runtime.base import StatelessRunner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.torch import TorchRunner

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
SmallOnnx = Callable[..., Path]


@pytest.fixture(scope="module")
def half_onnx(small_onnx: SmallOnnx) -> Path:
    """The small network, 32x48, in half precision."""
    return small_onnx("32x48", precision="fp16")


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(model)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_convolutions_are_half_and_the_islands_float32(half_onnx: Path) -> None:
    model = onnx.load(half_onnx)
    types = types_of(model)
    kinds: dict[str, set[int]] = {}
    for node in onnx.inliner.inline_local_functions(model).graph.node:
        if node.input:
            kinds.setdefault(node.op_type, set()).add(types[node.input[0]])
    assert kinds["Conv"] == {HALF}
    assert kinds["GridSample"] == kinds["Tanh"] == {FLOAT}
    assert kinds["TopK"] == {FLOAT}
    for node in model.graph.node:
        if node.op_type == "KsAlign":
            assert [types[name] for name in node.input] == [HALF, HALF, HALF, HALF, FLOAT]
        if node.op_type == "KsTopKSplit":
            assert [types[name] for name in node.input] == [HALF, FLOAT, FLOAT]


def test_frames_are_uint8_and_flows_float32_in_the_state(half_onnx: Path) -> None:
    graph = onnx.load(half_onnx).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    for prefix in ("state.", "next."):
        assert types[f"{prefix}flow_1"] == types[f"{prefix}prev_lr"] == FLOAT
        assert types[f"{prefix}feat_1"] == types[f"{prefix}prop_2"] == HALF
    assert types["lr"] == types["hr"] == onnx.TensorProto.UINT8


def test_the_file_says_its_precision(half_onnx: Path) -> None:
    assert {p.key: p.value for p in onnx.load(half_onnx).metadata_props}["ksnet.precision"] == "fp16"


def test_a_half_weight_is_the_rounded_weight(half_onnx: Path, small_onnx: SmallOnnx) -> None:
    """Nothing but rounding is done to the weights: their float32 values are those of the float32 file."""
    wide = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(small_onnx("32x48")).graph.initializer}
    for tensor in onnx.load(half_onnx).graph.initializer:
        if tensor.data_type == HALF and tensor.name in wide:
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), wide[tensor.name].astype(np.float16))


def one_op_model(op: str) -> onnx.ModelProto:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, ["x"], ["y"])],
        "one",
        [onnx.helper.make_tensor_value_info("x", HALF, [None])],
        [onnx.helper.make_tensor_value_info("y", HALF, [None])],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)


def test_results_are_rounded_as_numpy_rounds_to_half() -> None:
    """Exp turns half values into float32 ones between two halves, and into some that half cannot hold."""
    model = one_op_model("Exp")
    round_half_results(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.concatenate([np.linspace(-9, 11.08, 20_001), [11.2, 80.0]]).astype(np.float16).astype(np.float32)
    with np.errstate(over="ignore"):
        exact = ort.InferenceSession(
            onnx.parser.parse_model(
                f'<ir_version: 10, opset_import: ["": {OPSET}]> g (float[N] x) => (float[N] y) {{ y = Exp (x) }}'
            ).SerializeToString(),
            providers=["CPUExecutionProvider"],
        ).run(None, {"x": x})[0]
        found, expected = session.run(None, {"x": x})[0], exact.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
        np.testing.assert_array_equal(found[np.isfinite(found)], expected[np.isfinite(found)])


def half_error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found.astype(np.float64) - exact).max())


@pytest.mark.parametrize("native", [True, False])
def test_deform_conv_errs_at_most_twice_as_much_as_plain_half_pytorch(native: bool) -> None:
    rng = np.random.default_rng(0)
    n, c, h, w, groups = 2, 16, 20, 33, 4
    x, weight = rng.normal(size=(n, c, h, w)), rng.normal(size=(8, c, 3, 3)) / 12
    offset, mask = rng.normal(size=(n, 18 * groups, h, w)) * 4, rng.uniform(size=(n, 9 * groups, h, w))
    bias = rng.normal(size=8)
    exact = deform_conv2d(*(torch.from_numpy(a).float() for a in (x, weight, offset, bias, mask))).numpy()
    # Plain half PyTorch: half tensors; the reference still computes coordinates in float32.
    plain = deform_conv2d(*(torch.from_numpy(a).half() for a in (x, weight, offset, bias, mask)))
    types = {"x": HALF, "weight": HALF, "offset": FLOAT, "bias": HALF, "mask": HALF}
    values = dict(zip(types, (x, weight, offset, bias, mask), strict=True))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("KsDeformConv2d", list(types), ["y"], domain=DOMAIN, offset_group=groups)],
        "one",
        [onnx.helper.make_tensor_value_info(name, kind, values[name].shape) for name, kind in types.items()],
        [onnx.helper.make_tensor_value_info("y", HALF, exact.shape)],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    model.functions.extend(function_bodies(native_deform_conv=native))
    feeds = {name: values[name].astype(np.float16 if kind == HALF else np.float32) for name, kind in types.items()}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, feeds)
    assert found.dtype == np.float16
    assert half_error(found, exact) <= 2 * half_error(plain.numpy(), exact)


def test_scores_of_half_features_order_channels_as_float32_does() -> None:
    """Scores are float32 whatever the features are; in half, near scores would be ordered at random."""
    torch.manual_seed(0)
    f, o, lam = torch.randn(2, 64, 24, 31).half(), torch.rand(2, 1, 24, 31), torch.tensor([0.5])
    assert channel_scores(f, o, lam).dtype == torch.float32
    con, dis = topk_split(f, o, lam, 48)
    wide = topk_split(f.float(), o, lam, 48)
    assert con.dtype == dis.dtype == torch.float16
    torch.testing.assert_close(con.float(), wide.con, rtol=0, atol=0)
    torch.testing.assert_close(dis.float(), wide.dis, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "size"),
    [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("lite", "72x128"), ("uni", "90x160"))],
)
def test_thirty_frames_of_real_video_stay_near_float32(name: str, size: str, tmp_path: Path) -> None:
    checkpoint, frame_size = load_checkpoint(bundled_checkpoint(name)), FrameSize.parse(size)
    export_onnx(checkpoint, tmp_path / "fp16.onnx", size=frame_size, precision="fp16")
    with (
        RetakingRunner(checkpoint.model, frame_size, gap=HALF_TIE_GAP) as exact,
        OnnxRunner(tmp_path / "fp16.onnx", frame_size, rewrite=round_half_results) as half,
    ):
        report = compare_runners(exact, half, moving_frames(frame_size, 30))
    print(report.summary())
    assert len(report.psnr_db) == 30
    assert report.least_db >= PSNR_FLOOR_DB


class Swapping(TorchRunner):
    """The float32 network, made to drop the last channel it would keep on one frame, with an error on that frame."""

    backend = "swapping"

    def __init__(self, model: KSNet, swap_on: set[int], error: int = 0) -> None:
        super().__init__(model, FrameSize(32, 48))
        self._level = next(module for module in self._model.modules() if isinstance(module, SplitLevel))
        self._swap_on, self._error, self._index = swap_on, error, -1

    def _step(self, lr: np.ndarray) -> np.ndarray:
        self._index += 1
        if self._index not in self._swap_on:
            return super()._step(lr)
        with swapped_channels(self._level):
            return super()._step(lr) ^ np.uint8(self._error)


def compare_with_swaps(checkpoint: Checkpoint, swap_on: set[int], *, gap: float, error: int = 0) -> HalfReport:
    exact = RetakingRunner(checkpoint.model, FrameSize(32, 48), gap=gap)
    return compare_runners(exact, Swapping(checkpoint.model, swap_on, error), proof_frames(exact, 12))


@pytest.fixture(scope="module")
def selective(small: Checkpoint) -> Checkpoint:
    """The small network with a selection that shows in the picture, as training makes it."""
    model = copy.deepcopy(small.model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.reconstruct.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return replace(small, model=model)


def test_the_other_choice_of_a_near_tie_is_told_from_an_error(selective: Checkpoint) -> None:
    report = compare_with_swaps(selective, {3}, gap=math.inf)
    assert list(report.swapped) == [3]
    assert report.swapped[3] < SWAP_DB < report.least_db
    assert "near-tied channel scores swapped on frame 3" in report.summary()


def test_a_swap_of_channels_that_are_not_tied_is_no_excuse(selective: Checkpoint) -> None:
    with pytest.raises(VerificationError, match="frame 3 of the swapping run"):
        compare_with_swaps(selective, {3}, gap=0)


def test_a_near_tie_excuses_nothing_but_the_swap_in_half_either(selective: Checkpoint) -> None:
    with pytest.raises(VerificationError, match="frame 3 of the swapping run"):
        compare_with_swaps(selective, {3}, gap=math.inf, error=8)


def test_near_ties_on_many_frames_are_refused(selective: Checkpoint) -> None:
    with pytest.raises(VerificationError, match="on 3 of 12 frames"):
        compare_with_swaps(selective, {3, 5, 7}, gap=math.inf)


def test_verification_accepts_a_good_file_and_says_how_good(half_onnx: Path, small: Checkpoint) -> None:
    report = verify_half(small.model, half_onnx, FrameSize(32, 48), frames=4)
    assert len(report.psnr_db) == 4
    assert f"{report.least_db:.1f} dB" in report.summary()


@pytest.mark.slow
@pytest.mark.parametrize("io", ["float16", "float32"])
def test_every_frame_type_can_be_exported_in_half(plain: Checkpoint, io: FrameType, tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    report = export_verified(plain, path, FrameSize(20, 24), dynamic=False, io=io, precision="fp16", frames=2)
    assert isinstance(report, HalfReport)
    assert report.least_db > PSNR_FLOOR_DB
    assert path.exists()


class Noisy(StatelessRunner):
    """Gives its frame four times as large, with an error that grows by a factor at each step."""

    backend = "noisy"

    def __init__(self, growth: float, start: float = 0.2) -> None:
        super().__init__(FrameSize(16, 16), "float32")
        self.growth, self.start, self.index = growth, start, 0

    def _step(self, _lr: np.ndarray) -> np.ndarray:
        self.index += 1
        noise = np.random.default_rng(self.index).normal(size=(64, 64, 3))
        return (0.5 + noise * self.start / 255 * self.growth**self.index).astype(np.float32)

    def reset(self) -> None:
        self.index = 0


def compare_noisy(growth: float, start: float = 0.2) -> HalfReport:
    exact = Noisy(1, 0)
    return compare_runners(exact, Noisy(growth, start), proof_frames(exact, 30))


def test_an_error_that_grows_is_refused_before_it_is_large() -> None:
    assert compare_noisy(1, 0.7).least_db > 50
    with pytest.raises(VerificationError, match="grows along the sequence"):
        compare_noisy(1.06)
    with pytest.raises(VerificationError, match="at least 45 dB"):
        compare_noisy(1.3)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "words"), [(6e4, "not finite"), (None, "against float32")])
def test_verification_refuses_weights_that_half_cannot_carry(tmp_path: Path, scale: float | None, words: str) -> None:
    checkpoint = new_checkpoint(tmp_path, SMALL.replace(["flow_guidance=none"]))
    network = checkpoint.model
    with torch.no_grad():
        if scale is not None:  # features beyond 65504, of weights below
            network.extract[0].weight.mul_(scale)
        else:  # values a little beside each other, then their difference many times enlarged
            network.reconstruct.join.bias.add_(3000.0)
            network.reconstruct.head[0].bias.add_(1.0)
    path = tmp_path / "step.onnx"
    with pytest.raises(VerificationError, match=words):
        export_verified(checkpoint, path, FrameSize(20, 24), dynamic=False, io="float32", precision="fp16", frames=2)
    assert not path.exists()
