"""The custom operators against independent references: ONNX Runtime's DeformConv and naive float64 loops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ksnet_deploy.ops.functions import (
    ALIGN,
    DEFORM_CONV,
    DOMAIN,
    OPSET,
    TOPK_SPLIT,
    VERSION,
    function_bodies,
)
from ksnet_deploy.ops.reference import align, channel_scores, deform_conv2d, topk_split
from ksnet_deploy.ops.rewriting import use_fast_operators

Array = NDArray[np.float32]


def run_node(
    node: onnx.NodeProto, inputs: Sequence[Array], outputs: int, functions: Sequence[onnx.FunctionProto] = ()
) -> list[Array]:
    """Run one ONNX node in ONNX Runtime."""
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
            for name, array in zip(node.input, inputs, strict=True)
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in node.output[:outputs]],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(node.input, inputs, strict=True)))


def deform_inputs(
    n: int, c: int, h: int, w: int, groups: int, offset_px: float, c_out: int = 6, seed: int = 0
) -> list[Array]:
    rng = np.random.default_rng(seed)
    shapes = [(n, c, h, w), (c_out, c, 3, 3), (n, groups * 18, h, w), (c_out,), (n, groups * 9, h, w)]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    arrays[2] *= offset_px
    arrays[4] = rng.uniform(0, 1, shapes[4]).astype(np.float32)
    return arrays


DEFORM_CASES = [
    pytest.param(1, 16, 12, 20, 1, 2.0, id="one group"),
    pytest.param(1, 16, 12, 20, 8, 2.0, id="eight groups"),
    pytest.param(3, 16, 12, 20, 8, 2.0, id="batch of 3"),
    pytest.param(2, 8, 13, 7, 4, 2.0, id="odd size"),
    pytest.param(1, 8, 16, 24, 8, 60.0, id="offsets far outside the frame"),
    pytest.param(1, 8, 1, 1, 2, 0.7, id="one pixel"),
    pytest.param(1, 4, 5, 2500, 2, 3.0, id="wider than 2048"),
]


@pytest.mark.parametrize(("n", "c", "h", "w", "groups", "offset_px"), DEFORM_CASES)
def test_deform_conv_matches_onnx_runtimes(n: int, c: int, h: int, w: int, groups: int, offset_px: float) -> None:
    inputs = deform_inputs(n, c, h, w, groups, offset_px)
    node = helper.make_node(
        "DeformConv",
        ["x", "weight", "offset", "bias", "mask"],
        ["y"],
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        offset_group=groups,
    )
    (expected,) = run_node(node, inputs, 1)
    found = deform_conv2d(*map(torch.from_numpy, inputs)).numpy()
    # A float32 coordinate of w px is exact to w * 6e-8 px; the features change by some units per pixel.
    np.testing.assert_allclose(found, expected, atol=1e-4 if w < 2048 else 4e-3)


@pytest.mark.parametrize("native", [True, False], ids=["standard DeformConv body", "GridSample body"])
@pytest.mark.parametrize(("n", "c", "h", "w", "groups", "offset_px"), DEFORM_CASES)
def test_deform_conv_body_matches_the_reference(
    n: int, c: int, h: int, w: int, groups: int, offset_px: float, native: bool
) -> None:
    inputs = deform_inputs(n, c, h, w, groups, offset_px)
    node = helper.make_node(
        DEFORM_CONV, ["x", "weight", "offset", "bias", "mask"], ["y"], domain=DOMAIN, offset_group=groups
    )
    (found,) = run_node(node, inputs, 1, function_bodies(native_deform_conv=native))
    expected = deform_conv2d(*map(torch.from_numpy, inputs)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 if w < 2048 else 4e-3)


def test_deform_conv_matches_a_naive_float64_loop() -> None:
    x, weight, offset, bias, mask = (a.astype(np.float64) for a in deform_inputs(2, 4, 5, 6, 2, 2.5, c_out=3))
    n, c, h, w = x.shape
    expected = np.zeros((n, 3, h, w))
    for b, co, i, j in np.ndindex(n, 3, h, w):
        total = bias[co]
        for ci, tap in np.ndindex(c, 9):
            group = ci // 2
            dy, dx = offset[b, group * 18 + 2 * tap : group * 18 + 2 * tap + 2, i, j]
            py, px = i + tap // 3 - 1 + dy, j + tap % 3 - 1 + dx
            y0, x0 = int(np.floor(py)), int(np.floor(px))
            for yy, xx in ((y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1)):
                if 0 <= yy < h and 0 <= xx < w:
                    share = (1 - abs(py - yy)) * (1 - abs(px - xx))
                    factor = weight[co, ci, tap // 3, tap % 3] * mask[b, group * 9 + tap, i, j]
                    total += factor * share * x[b, ci, yy, xx]
        expected[b, co, i, j] = total
    arrays = (a.astype(np.float32) for a in (x, weight, offset, bias, mask))
    found = deform_conv2d(*(torch.from_numpy(a) for a in arrays)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_deform_conv_without_offsets_is_a_plain_convolution() -> None:
    x, weight, offset, bias, mask = map(torch.from_numpy, deform_inputs(1, 8, 9, 11, 2, 0.0))
    found = deform_conv2d(x, weight, offset, bias, torch.ones_like(mask))
    torch.testing.assert_close(found, torch.nn.functional.conv2d(x, weight, bias, padding=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wrong", ["offset", "mask", "weight", "bias"])
def test_deform_conv_refuses_shapes_that_do_not_fit(wrong: str) -> None:
    names = ["x", "weight", "offset", "bias", "mask"]
    inputs = dict(zip(names, map(torch.from_numpy, deform_inputs(1, 8, 9, 11, 2, 1.0)), strict=True))
    inputs[wrong] = inputs[wrong][..., :-1]
    with pytest.raises(ValueError, match="deform_conv2d"):
        deform_conv2d(**inputs)


def align_inputs(n: int, c: int, h: int, w: int, groups: int, flows: int, stride: int) -> list[Array]:
    rng = np.random.default_rng(0)
    raw = (n, groups * 27, -(-h // stride), -(-w // stride))
    shapes = [(n, c, h, w), (6, c, 3, 3), (6,), raw, *([(n, 2 * flows, h, w)] if flows else [])]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return [*arrays[:4], *(8 * flow for flow in arrays[4:])]


ALIGN_CASES = [
    pytest.param(1, 16, 12, 20, 4, 1, 1, id="one flow"),
    pytest.param(1, 16, 12, 20, 4, 1, 2, id="half resolution"),
    pytest.param(2, 16, 13, 7, 8, 2, 2, id="batch of 2, two flows, odd size, half resolution"),
    pytest.param(2, 8, 9, 11, 8, 2, 1, id="batch of 2, two flows"),
    pytest.param(1, 8, 9, 12, 1, 0, 1, id="at rest, one group"),
    pytest.param(1, 8, 9, 12, 2, 0, 2, id="at rest, half resolution, odd height"),
]


@pytest.mark.parametrize(("n", "c", "h", "w", "groups", "flows", "stride"), ALIGN_CASES)
def test_alignment_is_a_deformable_convolution_at_the_flow_and_what_was_predicted(
    n: int, c: int, h: int, w: int, groups: int, flows: int, stride: int
) -> None:
    """Against offsets that are put together tap by tap, enlarged by a formula of its own in float64."""
    x, weight, bias, raw, *rest = align_inputs(n, c, h, w, groups, flows, stride)
    wide = raw.astype(np.float64)
    offset, mask = 10 * np.tanh(wide[:, : 18 * groups]), 1 / (1 + np.exp(-wide[:, 18 * groups :]))
    if stride == 2:
        for axis, length in ((2, h), (3, w)):
            at = np.clip((np.arange(length) + 0.5) / 2 - 0.5, 0, offset.shape[axis] - 1)
            near, share = np.floor(at).astype(int), at % 1
            far = np.minimum(near + 1, offset.shape[axis] - 1)
            share = share.reshape((-1, 1) if axis == 2 else (1, -1))
            offset, mask = (a.take(near, axis) * (1 - share) + a.take(far, axis) * share for a in (offset, mask))
    for group, tap in np.ndindex(groups, 9 if flows else 0):
        flow = rest[0][:, 2 * (group * flows // groups) :][:, :2]
        at = group * 18 + tap * 2
        offset[:, at : at + 2] += flow
    arrays = (a.astype(np.float32) for a in (x, weight, offset, bias, mask))
    expected = deform_conv2d(*(torch.from_numpy(a) for a in arrays)).numpy()
    found = align(*map(torch.from_numpy, (x, weight, bias, raw, *rest)), stride=stride).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("native", [True, False], ids=["standard DeformConv body", "GridSample body"])
@pytest.mark.parametrize(("n", "c", "h", "w", "groups", "flows", "stride"), ALIGN_CASES)
def test_alignment_body_matches_the_reference(
    n: int, c: int, h: int, w: int, groups: int, flows: int, stride: int, native: bool
) -> None:
    inputs = align_inputs(n, c, h, w, groups, flows, stride)
    names = ["x", "weight", "bias", "raw", "flow"][: len(inputs)]
    node = helper.make_node(ALIGN, names, ["y"], domain=DOMAIN, offset_group=groups, offset_stride=stride)
    bodies = function_bodies([node], native_deform_conv=native)
    assert stride == 2 or not any(inner.op_type == "Resize" for body in bodies for inner in body.node)
    (found,) = run_node(node, inputs, 1, bodies)
    expected = align(*map(torch.from_numpy, inputs), stride=stride).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("wrong", ["weight", "bias", "raw", "flow", "stride"])
def test_alignment_refuses_shapes_that_do_not_fit(wrong: str) -> None:
    names = ["x", "weight", "bias", "raw", "flow"]
    inputs = dict(zip(names, map(torch.from_numpy, align_inputs(1, 8, 9, 11, 4, 2, 2)), strict=True))
    stride = 3 if wrong == "stride" else 2
    if wrong == "flow":  # three flows for four groups
        inputs["flow"] = torch.zeros(1, 6, 9, 11)
    elif wrong in inputs:
        inputs[wrong] = inputs[wrong][..., :-1]
    with pytest.raises(ValueError, match=f"align: .*{wrong}"):
        align(**inputs, stride=stride)


def split_inputs(n: int, c: int, h: int, w: int, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    f = rng.standard_normal((n, c, h, w)).astype(np.float32)
    o = rng.uniform(0, 1, (n, 1, h, w)).astype(np.float32)
    return [f, o, np.array([0.3], np.float32)]


def naive_norms(f: Array, o: Array, lam: Array) -> NDArray[np.float64]:
    """Eqs. (1) and (2) to the letter, in float64."""
    f64, o64, weight = f.astype(np.float64), o.astype(np.float64), float(lam[0])
    norms = np.zeros(f.shape[:2])
    for b, ch in np.ndindex(*f.shape[:2]):
        gradient = np.zeros(f.shape[2:])
        for i, j in np.ndindex(*f.shape[2:]):
            dx = f64[b, ch, i, j + 1] - f64[b, ch, i, j] if j + 1 < f.shape[3] else 0.0
            dy = f64[b, ch, i + 1, j] - f64[b, ch, i, j] if i + 1 < f.shape[2] else 0.0
            gradient[i, j] = np.hypot(dx, dy)
        m = weight * gradient + (1 - weight) * gradient * f64[b, ch]
        norms[b, ch] = np.sqrt(((m - o64[b, 0]) ** 2).sum())
    return norms


def test_channel_scores_order_as_the_papers_norms_do() -> None:
    f, o, lam = split_inputs(2, 12, 7, 9)
    scores = channel_scores(*map(torch.from_numpy, (f, o, lam))).numpy()
    norms = naive_norms(f, o, lam)
    np.testing.assert_allclose(scores + (o**2).mean(axis=(2, 3)), norms**2 / (7 * 9), rtol=1e-5)
    np.testing.assert_array_equal(np.argsort(scores, axis=1), np.argsort(norms, axis=1))


@pytest.mark.parametrize("shape", [(1, 64, 9, 10), (3, 12, 7, 5)], ids=["64 channels", "batch of 3, odd size"])
def test_topk_split_keeps_the_nearest_channels_in_channel_order(shape: tuple[int, int, int, int]) -> None:
    f, o, lam = split_inputs(*shape)
    k = shape[1] * 3 // 4
    con, dis = topk_split(*map(torch.from_numpy, (f, o, lam)), k)
    for b, norms in enumerate(naive_norms(f, o, lam)):
        kept = np.sort(np.argsort(norms, kind="stable")[:k])
        np.testing.assert_array_equal(con[b].numpy(), f[b, kept])
        np.testing.assert_array_equal(dis[b].numpy(), np.delete(f[b], kept, axis=0))


def run_split(inputs: Sequence[Array], k: int) -> list[Array]:
    node = helper.make_node(TOPK_SPLIT, ["f", "o", "lam"], ["con", "dis"], domain=DOMAIN, k=k)
    return run_node(node, inputs, 2, function_bodies(native_deform_conv=False))


@pytest.mark.parametrize("shape", [(1, 64, 9, 10), (3, 12, 7, 5), (2, 5, 1, 1)])
def test_topk_split_body_matches_the_reference(shape: tuple[int, int, int, int]) -> None:
    inputs = split_inputs(*shape)
    k = max(shape[1] * 3 // 4, 1)
    for found, expected in zip(run_split(inputs, k), topk_split(*map(torch.from_numpy, inputs), k), strict=True):
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("run", ["reference", "body"])
def test_ties_go_to_the_lower_channel(run: str) -> None:
    f, o, lam = split_inputs(2, 8, 6, 6)
    f[:, 1] = f[:, 4] = f[:, 6] = f[:, 0]  # equal scores for four channels
    norms = naive_norms(f, o, lam)
    for b in range(2):
        order = np.argsort(norms[b], kind="stable")
        place = int(np.flatnonzero(np.isin(order, [0, 1, 4, 6]))[1]) + 1  # cut between the tied channels
        con = topk_split(*map(torch.from_numpy, (f, o, lam)), place).con.numpy() if run == "reference" else None
        con = con if con is not None else run_split([f, o, lam], place)[0]
        np.testing.assert_array_equal(con[b], f[b, np.sort(order[:place])])
        assert {0, 1} <= set(order[:place])
        assert not {4, 6} & set(order[:place])


def test_lambda_receives_the_gradient_of_the_gate_and_values_are_untouched() -> None:
    f, o, lam = map(torch.from_numpy, split_inputs(2, 8, 6, 6))
    lam.requires_grad_()
    con, dis = topk_split(f, o, lam, 6)
    plain = topk_split(f, o, lam.detach(), 6)
    assert torch.equal(con, plain.con)
    assert torch.equal(dis, plain.dis)
    (con.square().sum() + dis.sum()).backward()
    assert lam.grad is not None
    assert torch.isfinite(lam.grad).all()
    assert lam.grad.abs() > 0


def test_a_static_scene_of_constant_features_gives_finite_gradients() -> None:
    f, o = torch.zeros(1, 8, 6, 6, requires_grad=True), torch.zeros(1, 1, 6, 6)
    lam = torch.full((1,), 0.5, requires_grad=True)
    con, dis = topk_split(f, o, lam, 6)
    (con.sum() + dis.sum()).backward()
    assert f.grad is not None
    assert lam.grad is not None
    assert torch.isfinite(f.grad).all()
    assert torch.isfinite(lam.grad).all()


@pytest.mark.parametrize("k", [0, 8, 9])
def test_topk_split_refuses_an_empty_half(k: int) -> None:
    with pytest.raises(ValueError, match="k is"):
        topk_split(*map(torch.from_numpy, split_inputs(1, 8, 6, 6)), k)


def test_topk_split_refuses_another_offset_map() -> None:
    f, o, lam = map(torch.from_numpy, split_inputs(1, 8, 6, 6))
    with pytest.raises(ValueError, match="must be"):
        topk_split(f, o[..., :-1], lam, 4)


@pytest.mark.parametrize(("blocksize", "shape"), [(2, (2, 12, 5, 7)), (4, (1, 48, 3, 2))])
def test_fast_pixel_shuffle_equals_pixel_shuffle(blocksize: int, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=blocksize, mode="CRD")],
        "shuffle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    use_fast_operators(model)
    assert [node.op_type for node in model.graph.node] == ["PixelShuffle"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = torch.nn.functional.pixel_shuffle(torch.from_numpy(x), blocksize).numpy()
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)
