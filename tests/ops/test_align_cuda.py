"""The alignment's CUDA kernel, run on this CPU: its arithmetic by itself, and the kernel in emulated blocks."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
import torch
from native_kernels import ALIGN_CASES, DTYPES, ORDERS, ROOT, align_tensors, assert_close_for, compile_for_cpu
from torch import Tensor

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.ops import native
from ksnet_deploy.ops.kernel_params import Filled
from ksnet_deploy.ops.kernel_structs import AlignParams
from ksnet_deploy.ops.native import KernelLibrary
from ksnet_deploy.ops.reference import align, deform_conv2d

pytestmark = pytest.mark.slow  # many emulated blocks; test_native_kernels.py has some in the default run

Shape = tuple[int, int, int, int, int]
LAST = torch.channels_last
CASES = [
    *ALIGN_CASES,
    pytest.param((1, 80, 70, 5, 9), 5, 5, 2, id="more channels than a tile"),
    pytest.param((2, 24, 9, 7, 13), 6, 3, 1, id="four channels to a group"),
    pytest.param((2, 24, 72, 9, 21), 3, 1, 2, id="channels of half a tile, outputs of more than one"),
    pytest.param((2, 72, 24, 5, 17), 9, 3, 1, id="one group more than a tile"),
    pytest.param((1, 64, 16, 6, 35), 4, 2, 2, id="16 channels to a group"),
]


def tolerance(shape: Shape) -> float:
    """Of float32, as for the CPU kernel: a coordinate of w px is exact to w * 6e-8 px."""
    return 5e-5 * max(1, shape[4] / 50)


def assert_is_the_reference(found: Tensor, inputs: list[Tensor], stride: int, shape: Shape) -> None:
    exact = align(*(tensor.float() for tensor in inputs), stride=stride)
    assert_close_for(found, exact, lambda: align(*inputs, stride=stride), tolerance(shape))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "groups", "flows", "stride"), CASES)
def test_the_kernel_is_the_reference_with_channels_first_and_last(
    kernels: KernelLibrary, shape: Shape, groups: int, flows: int, stride: int, dtype: torch.dtype
) -> None:
    inputs = align_tensors(shape, groups, flows, stride, dtype)
    found = kernels.align(*inputs, stride=stride, stream=0)
    assert found.is_contiguous()
    assert_is_the_reference(found, inputs, stride, shape)
    last = [t.to(memory_format=LAST) if t.ndim == 4 and i != 1 else t for i, t in enumerate(inputs)]
    turned = kernels.align(*last, stride=stride, stream=0)
    assert turned.is_contiguous(memory_format=LAST)
    assert torch.equal(turned, found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("flows", "stride"), [(2, 1), (2, 2), (0, 1)])
def test_the_arithmetic_is_the_reference(cpu_library: Path, flows: int, stride: int, dtype: torch.dtype) -> None:
    shape = (2, 8, 6, 9, 7)
    inputs = align_tensors(shape, 4, flows, stride, dtype)
    filled = Filled.align(*inputs[:4], inputs[4] if flows else None, stride)
    ctypes.CDLL(str(cpu_library)).functors_align(ctypes.byref(filled.params))
    assert_is_the_reference(filled.result, inputs, stride, shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_part_of_a_tensor_is_read_where_it_lies(kernels: KernelLibrary, dtype: torch.dtype) -> None:
    """Half of the channels, or the frames of a batch from the second on, as they come out of a split."""
    shape = (2, 16, 8, 6, 11)
    inputs = align_tensors(shape, 4, 1, 2, dtype)
    expected = kernels.align(*inputs, stride=2, stream=0)
    for order in (torch.contiguous_format, LAST):
        parts = []
        for whole in (inputs[0], *inputs[3:]):
            n, c, h, w = whole.shape
            around = whole.new_full((n + 1, 2 * c, h, w), torch.nan).contiguous(memory_format=order)
            parts.append(around[1:, c:].copy_(whole))
        found = kernels.align(parts[0], *inputs[1:3], *parts[1:], stride=2, stream=0)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("before", "behind"), [(4, 0), (4, 12), (8, 8)])
def test_channels_last_need_not_be_aligned(
    kernels: KernelLibrary, before: int, behind: int, dtype: torch.dtype
) -> None:
    """A part of a pixel's channels, whose distance or beginning allows vectors or not."""
    inputs = align_tensors((2, 16, 16, 6, 11), 2, 1, 1, dtype)
    x = inputs[0]
    n, c, h, w = x.shape
    around = x.new_full((n, before + c + behind, h, w), torch.nan).contiguous(memory_format=LAST)
    part = around[:, before : before + c].copy_(x)
    found = kernels.align(part, *inputs[1:], stream=0)
    assert torch.equal(found, kernels.align(*inputs, stream=0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_flows_that_lead_outside_give_the_bias_alone(kernels: KernelLibrary, stride: int, dtype: torch.dtype) -> None:
    inputs = align_tensors((1, 16, 8, 11, 18), 4, 2, stride, dtype)
    wild = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e30, -1e30, 2.0**31, -(2.0**31), 4000.0, -4000.0])
    inputs[4] = wild[torch.arange(inputs[4].numel()) % len(wild)].reshape(inputs[4].shape)
    found = kernels.align(*inputs, stride=stride, stream=0)
    assert torch.equal(found, inputs[2][None, :, None, None].expand_as(found))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flows_across_the_border_are_the_reference(kernels: KernelLibrary, dtype: torch.dtype) -> None:
    """Every distance up to two pixels outside of each side, in steps of an eighth."""
    inputs = align_tensors((1, 8, 8, 5, 33), 1, 1, 1, dtype)
    inputs[3][:, :18] = 0
    steps = torch.arange(33) / 8 - 2
    for rows, columns in ((steps, 0 * steps), (0 * steps, steps), (steps, steps)):
        at = torch.stack((rows * (5 + 1) / 4, columns * (33 + 1) / 4)).reshape(1, 2, 1, 33).expand(1, 2, 5, 33)
        inputs[4] = at.contiguous()
        assert_is_the_reference(kernels.align(*inputs, stream=0), inputs, 1, (1, 8, 8, 5, 33))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [30.0, 1e4, torch.inf])
def test_extreme_predictions_are_bounded_as_the_reference_bounds_them(
    kernels: KernelLibrary, size: float, dtype: torch.dtype
) -> None:
    shape = (1, 16, 8, 11, 18)
    inputs = align_tensors(shape, 4, 1, 2, dtype)
    inputs[3] = inputs[3].sign() * size
    found = kernels.align(*inputs, stride=2, stream=0)
    assert found.isfinite().all()
    assert_is_the_reference(found, inputs, 2, shape)


def test_the_largest_features_of_half_precision_stay_finite(kernels: KernelLibrary) -> None:
    inputs = align_tensors((1, 16, 8, 6, 9), 4, 1, 1, torch.float16)
    inputs[0] = inputs[0].sign() * torch.finfo(torch.float16).max
    inputs[1] = inputs[1] * 1e-2
    found = kernels.align(*inputs, stream=0)
    assert found.isfinite().all()
    assert_is_the_reference(found, inputs, 1, (1, 16, 8, 6, 9))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_order_of_a_blocks_threads_does_not_matter(
    cpu_library: Path, kernels: KernelLibrary, dtype: torch.dtype
) -> None:
    """A missing barrier would show, with channels first and last."""
    inputs = align_tensors((1, 80, 40, 6, 13), 5, 1, 2, dtype)
    last = [inputs[0].to(memory_format=LAST), *inputs[1:]]
    set_order = ctypes.CDLL(str(cpu_library)).cuda_on_cpu_set_order
    results = []
    for order in ORDERS:
        set_order(order)
        results += [kernels.align(*given, stride=2, stream=0) for given in (inputs, last)]
    set_order(ORDERS[0])
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_a_batch_is_its_frames_one_by_one(kernels: KernelLibrary) -> None:
    inputs = align_tensors((3, 16, 16, 9, 10), 4, 1, 2, torch.float32)
    whole = kernels.align(*inputs, stride=2, stream=0)
    for index in range(3):
        one = [t[index : index + 1] if k in (0, 3, 4) else t for k, t in enumerate(inputs)]
        assert torch.equal(kernels.align(*one, stride=2, stream=0)[0], whole[index])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(
            "kMaxResidualOffsetPx * (2.0f * sigmoid(2.0f * raw) - 1.0f)", "kMaxResidualOffsetPx * raw", id="no tanh"
        ),
        pytest.param("return sigmoid(raw)", "return raw", id="no sigmoid"),
        pytest.param("0.25f : 0.75f", "0.75f : 0.25f", id="shares of the half resolution"),
        pytest.param("first + 1 < size", "first + 1 <= size", id="its far border"),
        pytest.param("pixel == 0 ? 0.0f :", "", id="its near border"),
        pytest.param("flow_dy = flow[2 *", "flow_dx = flow[2 *", id="rows of the flow"),
        pytest.param("group * p.flows / p.common.offset_groups", "0", id="flow of a group"),
        pytest.param("2 * kTaps * p.common.offset_groups", "kTaps * p.common.offset_groups", id="place of the factors"),
    ],
)
def test_an_error_planted_in_the_source_is_seen(tmp_path: Path, kept_objects: Path, right: str, wrong: str) -> None:
    sources = tmp_path / "plugins"
    shutil.copytree(ROOT / "plugins", sources)
    header = sources / "align" / "align.h"
    assert header.read_text().count(right) == 1
    header.write_text(header.read_text().replace(right, wrong))
    library = KernelLibrary(compile_for_cpu(tmp_path / "wrong.so", sorted(sources.glob("*/*.cu")), kept_objects))
    shape = (1, 8, 8, 8, 10)
    inputs = align_tensors(shape, 4, 2, 2, torch.float32)
    found = library.align(*inputs, stride=2, stream=0)
    with pytest.raises(AssertionError, match="error"):
        assert_is_the_reference(found, inputs, 2, shape)


def test_channels_that_a_format_adds_are_zeros(cpu_library: Path) -> None:
    """TensorRT's format HWC8 fills the channels of a pixel up to a multiple of eight."""
    inputs = align_tensors((1, 16, 13, 5, 7), 4, 1, 1, torch.float16)
    filled = Filled.align(*inputs[:4], inputs[4], 1)
    wide = torch.full((5, 7, 16), torch.nan, dtype=torch.float16)
    common = filled.params.common
    common.y, common.written_channels = wide.data_ptr(), 16
    common.y_layout.image, common.y_layout.channel, common.y_layout.pixel = wide.numel(), 1, 16
    library = ctypes.CDLL(str(cpu_library))
    library.ksnet_align_workspace.argtypes, library.ksnet_align_workspace.restype = [ctypes.c_void_p], ctypes.c_size_t
    memory = torch.empty(library.ksnet_align_workspace(ctypes.addressof(filled.params)) + 32, dtype=torch.uint8)
    filled.put_workspace((memory.data_ptr() + 31) // 32 * 32)
    assert library.ksnet_align(ctypes.byref(filled.params), None) == 0
    assert torch.equal(wide[..., 13:], torch.zeros(5, 7, 3, dtype=torch.float16))
    assert_is_the_reference(wide[None, ..., :13].permute(0, 3, 1, 2), inputs, 1, (1, 16, 13, 5, 7))


@pytest.mark.parametrize(
    ("name", "value"), [("flows", 3), ("stride", 3), ("offset_groups", 3), ("written_channels", 65), ("batch", 65536)]
)
def test_the_launcher_refuses_what_does_not_fit(cpu_library: Path, name: str, value: int) -> None:
    filled = Filled.align(*align_tensors((1, 16, 8, 4, 5), 4, 1, 1, torch.float32), 1)  # type: ignore[misc]
    memory = torch.empty(1 << 20, dtype=torch.uint8)
    filled.put_workspace((memory.data_ptr() + 31) // 32 * 32)
    launch = ctypes.CDLL(str(cpu_library)).ksnet_align
    assert launch(ctypes.byref(filled.params), None) == 0
    owner = filled.params if name in dict(AlignParams._fields_) else filled.params.common
    setattr(owner, name, value)
    assert launch(ctypes.byref(filled.params), None) == 1


def test_what_does_not_fit_is_one_sentence(kernels: KernelLibrary) -> None:
    inputs = align_tensors((1, 8, 8, 4, 5), 2, 1, 1, torch.float32)
    with pytest.raises(ValueError, match="align: raw"):
        kernels.align(*inputs, stride=2, stream=0)
    with pytest.raises(ValueError, match="float32 or float16"):
        kernels.align(*(t.double() for t in inputs), stream=0)
    with pytest.raises(
        BackendError, match=r"align: the launch failed \(invalid argument\); see .*plugins/align/align\.h"
    ):
        kernels.align(
            torch.zeros(1, 4097, 1, 1), torch.zeros(1, 4097, 3, 3), torch.zeros(1), torch.zeros(1, 27, 1, 1), stream=0
        )
    with pytest.raises(BackendError, match="one CUDA device; found cpu"):
        native.align(*inputs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "groups", "flows", "stride"),
    [
        pytest.param((1, 64, 64, 180, 320), 8, 1, 1, id="uni"),
        pytest.param((2, 32, 32, 91, 67), 4, 1, 2, id="lite, odd size, batch of 2"),
        pytest.param((1, 24, 70, 31, 2500), 4, 2, 2, id="wider than 2048"),
    ],
)
def test_on_the_gpu_the_kernel_is_the_reference_and_its_parts(
    shape: Shape, groups: int, flows: int, stride: int, dtype: torch.dtype
) -> None:
    inputs = align_tensors(shape, groups, flows, stride, dtype)
    exact = align(*(t.float() for t in inputs), stride=stride)
    on_gpu = [t.cuda() for t in inputs]
    for order in (torch.contiguous_format, LAST):
        x, weight, bias, raw, *flow = on_gpu
        given = [x.to(memory_format=order), weight, bias, raw.to(memory_format=order), *flow]
        found = native.align(*given, stride=stride)
        assert found.is_contiguous(memory_format=order)
        plain = align(*on_gpu, stride=stride, deform=deform_conv2d)
        assert_close_for(found.cpu(), exact, lambda plain=plain: plain.cpu(), 20 * tolerance(shape))  # type: ignore[misc]
