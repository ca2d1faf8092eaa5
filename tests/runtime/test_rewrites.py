"""What is put in the place of an exported step's operators on a CPU: the same numbers, with less work around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from networks import SMALL, exports_of, new_checkpoint
from onnx import TensorProto, helper, numpy_helper

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint
from ksnet_deploy.ops.functions import DOMAIN, SPLIT_OF_GRADIENTS, TOPK_SPLIT, function_bodies
from ksnet_deploy.ops.rewriting import SHUFFLE_LAST, attribute, use_fast_operators
from ksnet_deploy.runtime import gradients, rewrites
from ksnet_deploy.runtime.gradients import gradients_in_registers
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.rewrites import (
    channels_in,
    parts_by_themselves,
    rounds_before_shuffling,
    shuffles_by_block,
    use_processor_operators,
)
from ksnet_deploy.runtime.torch import TorchRunner

SIZE = FrameSize(32, 48)
TEXT = str(SIZE)
Rewrite = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network whose last operation is a pixel shuffle of the result, as in lite."""
    return new_checkpoint(tmp_path_factory.mktemp("direct"), SMALL.replace(["upsampler=direct", "flow_guidance=none"]))


@pytest.fixture(scope="module")
def exports(direct: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    return exports_of(direct, tmp_path_factory.mktemp("exports"))


def only(*rewrites: Rewrite) -> Rewrite:
    def rewrite(model: onnx.ModelProto) -> None:
        for each in rewrites:
            each(model)
        use_fast_operators(model)

    return rewrite


def frames_of(path: Path, rewrite: Rewrite | None, size: FrameSize = SIZE) -> list[np.ndarray]:
    """Of five frames, with a reset after the third."""
    with OnnxRunner(path, size, rewrite=rewrite) as runner:
        results = []
        for index, frame in enumerate(moving_frames(size, 5)):
            if index == 3:
                runner.reset()
            results.append(runner.step(frame))
        return results


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def by_block(model: onnx.ModelProto) -> None:
    shuffles_by_block(model)
    rounds_before_shuffling(model)


@pytest.mark.parametrize("rewrite", [parts_by_themselves, by_block], ids=["parts", "rounding"])
@pytest.mark.parametrize("size", [SIZE, pytest.param(FrameSize(33, 50), marks=pytest.mark.slow)], ids=str)
def test_each_computes_what_the_file_computes(exports: Callable[..., Path], rewrite: Rewrite, size: FrameSize) -> None:
    path = exports(str(size))
    for found, expected in zip(
        frames_of(path, only(rewrite), size), frames_of(path, lambda _model: None, size), strict=True
    ):
        assert found.dtype == np.uint8
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert (found != expected).mean() < 0.01


@pytest.mark.slow
def test_together_they_compute_what_pytorch_computes(exports: Callable[..., Path], direct: Checkpoint) -> None:
    for size in (SIZE, FrameSize(33, 50)):
        with OnnxRunner(exports(None), size) as runner, TorchRunner(direct.model, size) as expected:
            for frame in moving_frames(size, 4):
                assert psnr(runner.step(frame), expected.step(frame)) > 60


def test_rounding_comes_before_the_shuffle_of_bytes(exports: Callable[..., Path]) -> None:
    model = onnx.load(exports(TEXT))
    before = kinds(model)
    by_block(model)
    after = kinds(model)
    assert before["DepthToSpace"] - after["DepthToSpace"] == 2  # the picture's and the enlarged frame's
    assert after[SHUFFLE_LAST] == 1
    assert before["Mul"] - after["Mul"] == 1
    assert [node.op_type for node in model.graph.node[-3:]] == ["Round", "Cast", SHUFFLE_LAST]
    assert model.graph.node[-1].output == ["hr"]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["float frames", "half", "another reader", "two block sizes"])
def test_another_end_than_that_stays_as_it_is(exports: Callable[..., Path], change: str) -> None:
    model = onnx.load(
        exports(TEXT, **{"float frames": {"io": "float32"}, "half": {"precision": "fp16"}}.get(change, {}))
    )
    ends = [node for node in model.graph.node if node.op_type == "DepthToSpace"]
    if change == "another reader":
        model.graph.node.append(helper.make_node("Identity", [ends[-1].output[0]], ["elsewhere"], "elsewhere"))
    if change == "two block sizes":
        next(entry for entry in ends[-1].attribute if entry.name == "blocksize").i = 2
    expected = kinds(model)
    by_block(model)
    assert kinds(model) == expected


def test_parts_of_whole_registers_are_not_joined(exports: Callable[..., Path]) -> None:
    model = onnx.load(exports(TEXT))
    before, widths = kinds(model), channels_in(model)
    joined = {
        node.output[0]: [widths[name] for name in node.input]
        for node in model.graph.node
        if node.op_type == "Concat" and attribute(node, "axis") == 1 and all(name in widths for name in node.input)
    }
    parts_by_themselves(model)
    left = {node.output[0]: node for node in model.graph.node if node.op_type == "Concat"}
    for name, parts in joined.items():
        whole = len(parts) > 1 and sum(parts) % 16 == 0 and any(part % 16 == 0 for part in parts)
        assert (name in left) != whole, (name, parts)
    assert sum(name not in left for name in joined) == 7
    assert kinds(model)["Conv"] > before["Conv"]
    assert [4, 3, 2, 7] in [[widths[name] for name in node.input] for node in left.values()]  # of the splits
    onnx.checker.check_model(model)


@pytest.mark.slow
def test_half_keeps_its_sums(exports: Callable[..., Path]) -> None:
    model = onnx.load(exports(TEXT, precision="fp16"))
    expected = kinds(model)
    parts_by_themselves(model)
    assert kinds(model) == expected


@pytest.mark.parametrize("flags", [{"avx2"}, {"avx2", "avx512f"}, None], ids=["avx2", "avx512", "unknown"])
def test_gradients_of_whole_registers(
    exports: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, flags: set[str] | None
) -> None:
    """Splits of 16, 12 and 9 channels in two branches: of these 16 fill the registers of every processor."""
    monkeypatch.setattr(gradients, "is_x86", lambda: True)
    monkeypatch.setattr(gradients, "cpu_flags", lambda: flags)
    model = onnx.load(exports(TEXT))
    use_fast_operators(model)
    gradients_in_registers(model)
    assert kinds(model)[SPLIT_OF_GRADIENTS] == 2
    assert kinds(model)[TOPK_SPLIT] == 4


@pytest.mark.parametrize(("flags", "width"), [({"avx2"}, 8), ({"avx2", "avx512f"}, 16), (None, 16), (set(), 16)])
def test_width_of_a_register(monkeypatch: pytest.MonkeyPatch, flags: set[str] | None, width: int) -> None:
    monkeypatch.setattr(gradients, "is_x86", lambda: True)
    monkeypatch.setattr(gradients, "cpu_flags", lambda: flags)
    assert gradients._register_width() == width


def test_other_processors_keep_what_was_not_measured_there(
    exports: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(exports(TEXT))
    for module in (gradients, rewrites):
        monkeypatch.setattr(module, "is_x86", lambda: False)
    use_processor_operators(model)
    gradients_in_registers(model)
    assert kinds(model)[TOPK_SPLIT] == 6
    assert kinds(model)["Concat"] == kinds(onnx.load(exports(TEXT)))["Concat"]


@pytest.mark.parametrize("shape", [(16, 9, 13), (16, 1, 5), (16, 6, 1)], ids=str)
def test_the_same_channels_are_selected(shape: tuple[int, ...]) -> None:
    """At the borders too, where a gradient of one pixel decides: in these features everything else is even."""
    rng = np.random.default_rng(0)
    features = np.ones((1, *shape), np.float32)
    features[..., -1, :] += rng.uniform(0, 1, (1, shape[0], shape[2])).astype(np.float32)
    features[..., :, -1] += rng.uniform(0, 1, (1, shape[0], shape[1])).astype(np.float32)
    frame = rng.uniform(0, 1, (1, 1, *shape[1:])).astype(np.float32)
    found, expected = (ort_session(shape, whole) for whole in (True, False))
    for left, right in zip(*(s.run(None, {"f": features, "o": frame}) for s in (found, expected)), strict=True):
        np.testing.assert_array_equal(left, right)


def ort_session(shape: tuple[int, ...], rewritten: bool) -> ort.InferenceSession:
    """A split of features after an operator, as gradients in registers need their shape from the file."""
    kind, feature_shape = TensorProto.FLOAT, [1, *shape]
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["f"], ["features"]),
            helper.make_node(TOPK_SPLIT, ["features", "o", "lam"], ["con", "dis"], domain=DOMAIN, k=5),
        ],
        "split",
        [
            helper.make_tensor_value_info("f", kind, feature_shape),
            helper.make_tensor_value_info("o", kind, [1, 1, *shape[1:]]),
        ],
        [helper.make_tensor_value_info(name, kind, None) for name in ("con", "dis")],
        [numpy_helper.from_array(np.array([0.4], np.float32), "lam")],
        value_info=[helper.make_tensor_value_info("features", kind, feature_shape)],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    bodies = function_bodies(native_deform_conv=False)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=bodies)
    if rewritten:
        gradients_in_registers(model)
        assert kinds(model)[SPLIT_OF_GRADIENTS] == 1
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lite", "uni"])
def test_bundled_networks_stay_what_they_are(name: str, tmp_path: Path) -> None:
    size = FrameSize(72, 128)
    path = tmp_path / "x.onnx"
    export_onnx(load_checkpoint(bundled_checkpoint(name)), path, size=size)
    for found, expected in zip(frames_of(path, None, size), frames_of(path, lambda _model: None, size), strict=True):
        assert psnr(found, expected) > 60
