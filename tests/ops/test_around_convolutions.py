"""The CUDA kernels around the convolutions (epilogue, last convolution, warp, picture), in emulated blocks here."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from native_kernels import DTYPES, align_tensors, assert_close_for
from torch import Tensor

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.network.blocks import BicubicUpsample
from ksnet_deploy.network.flow import warp
from ksnet_deploy.network.pixels import encode_frame
from ksnet_deploy.ops import native
from ksnet_deploy.ops.epilogue import epilogue, narrow_conv, narrow_order, shuffled_order
from ksnet_deploy.ops.native import KernelLibrary
from ksnet_deploy.ops.reference import align, topk_split

pytestmark = pytest.mark.slow  # many emulated blocks; test_native_kernels.py has some in the default run

LAST = torch.channels_last


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


EPILOGUES = [
    # (N, P, H, W), bias, shuffle
    pytest.param((1, 64, 5, 7), 64, 1, id="as wide as it is read"),
    pytest.param((2, 8, 3, 9), 3, 1, id="three of eight channels, batch of 2"),
    pytest.param((2, 32, 3, 5), 32, 2, id="pixel shuffle, batch of 2"),
    pytest.param((1, 24, 4, 3), 20, 2, id="pixel shuffle to five channels, padded"),
    pytest.param((1, 48, 2, 3), 48, 4, id="pixel shuffle by four to three channels"),
    pytest.param((1, 8, 1, 1), 8, 1, id="one pixel"),
    pytest.param((1, 40, 3, 5), 36, 1, id="vectors of four"),
    pytest.param((1, 8, 3, 5), 6, 1, id="vectors of two"),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("with_skip", [False, True])
@pytest.mark.parametrize("slope", [1.0, 0.0, 0.1])
@pytest.mark.parametrize(("shape", "biases", "shuffle"), EPILOGUES)
def test_the_epilogue_is_the_definition(
    kernels: KernelLibrary,
    shape: tuple[int, int, int, int],
    biases: int,
    shuffle: int,
    slope: float,
    with_skip: bool,
    dtype: torch.dtype,
) -> None:
    n, _, h, w = shape
    x, bias = normal(*shape, dtype=dtype), normal(biases, seed=1, dtype=dtype)
    out = (n, biases // shuffle**2, shuffle * h, shuffle * w)
    skip = normal(*out, seed=2, dtype=dtype) if with_skip else None
    exact = epilogue(x.float(), bias.float(), slope=slope, skip=None if skip is None else skip.float(), shuffle=shuffle)
    given = x.to(memory_format=LAST, copy=True)
    found = kernels.epilogue(given, bias, slope=slope, skip=skip, shuffle=shuffle, stream=0)
    assert (found.shape, found.dtype) == (out, dtype)
    assert found.is_contiguous(memory_format=LAST)
    assert (found.data_ptr() == given.data_ptr()) == (shape[1] == biases and shuffle == 1)
    # One rounding, of the exact sum: nearer than half PyTorch, which rounds after every operation.
    torch.testing.assert_close(found, exact.to(dtype), rtol=0 if dtype == torch.float16 else 1e-6, atol=1e-6)


def test_a_shuffled_order_is_that_of_a_pixel_shuffle() -> None:
    weight, bias, x = normal(20, 3, 3, 3), normal(20, seed=1), normal(2, 3, 6, 5, seed=2)
    expected = F.pixel_shuffle(F.leaky_relu(F.conv2d(x, weight, bias, padding=1), 0.1), 2)
    conv = F.conv2d(x, shuffled_order(weight, 2), padding=1)
    torch.testing.assert_close(epilogue(conv, shuffled_order(bias, 2), slope=0.1, shuffle=2), expected)


def test_undefined_and_infinite_values_stay_what_they_are(kernels: KernelLibrary) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0]).repeat(2).reshape(1, 8, 1, 1)
    found = kernels.epilogue(x.clone(), torch.zeros(8), slope=0.1, stream=0)
    torch.testing.assert_close(found, F.leaky_relu(x, 0.1), equal_nan=True)


def test_epilogues_that_do_not_fit_are_refused(kernels: KernelLibrary) -> None:
    x = normal(1, 8, 3, 4)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.epilogue(x, normal(9), stream=0)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.epilogue(x, normal(6), shuffle=2, stream=0)
    with pytest.raises(ValueError, match=r"skip is .*, and the result \(1, 8, 3, 4\)"):
        kernels.epilogue(x, normal(8), skip=normal(1, 8, 4, 3), stream=0)
    with pytest.raises(BackendError, match=r"epilogue: the launch failed \(invalid argument\)"):
        kernels.epilogue(normal(1, 289, 1, 1), normal(289), shuffle=17, stream=0)
    with pytest.raises(BackendError, match="one CUDA device; found cpu"):
        native.epilogue(x, normal(8))


WARPS = [
    pytest.param((1, 16, 9, 14), id="vectors"),
    pytest.param((2, 3, 7, 11), id="three channels, batch of 2"),
    pytest.param((2, 36, 5, 6), id="36 channels, batch of 2"),
    pytest.param((1, 8, 1, 1), id="one pixel"),
    pytest.param((1, 4, 2, 700), id="one row above another"),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize("order", [torch.contiguous_format, LAST], ids=["first", "last"])
@pytest.mark.parametrize("shape", WARPS)
def test_the_warp_is_the_definition(
    kernels: KernelLibrary,
    shape: tuple[int, int, int, int],
    order: torch.memory_format,
    padding_mode: str,
    dtype: torch.dtype,
) -> None:
    n, _, h, w = shape
    x, flow = normal(*shape, dtype=dtype), 4 * normal(n, 2, h, w, seed=1)
    found = kernels.warp(x.contiguous(memory_format=order), flow, padding_mode, stream=0)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=order)
    # grid_sample normalises coordinates, which costs it w * 6e-8 px of them.
    assert_close_for(found, warp(x.float(), flow, padding_mode), lambda: warp(x, flow, padding_mode), 1e-5 * max(w, 50))


def test_a_warp_by_whole_pixels_moves_and_a_warp_outside_is_the_border_or_nothing(kernels: KernelLibrary) -> None:
    x = normal(1, 8, 6, 7).contiguous(memory_format=LAST)
    flow = torch.tensor([2.0, -1.0]).reshape(1, 2, 1, 1).expand(1, 2, 6, 7)
    torch.testing.assert_close(kernels.warp(x, flow, stream=0)[..., 1:, :-2], x[..., :-1, 2:])
    for wild in (torch.inf, -torch.inf, 1e30, -1e30, torch.nan):
        far = torch.full((1, 2, 6, 7), wild)
        assert not kernels.warp(x, far, stream=0).any()
        side = slice(-1, None) if wild > 0 else slice(0, 1)
        assert torch.equal(kernels.warp(x, far, "border", stream=0), x[..., side, side].expand_as(x))


def test_warps_that_do_not_fit_are_refused(kernels: KernelLibrary) -> None:
    x = normal(1, 8, 3, 4)
    with pytest.raises(ValueError, match="do not fit x"):
        kernels.warp(x, normal(1, 2, 4, 3), stream=0)
    with pytest.raises(ValueError, match="'reflection' do not fit"):
        kernels.warp(x, normal(1, 2, 3, 4), "reflection", stream=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "channels",
    [(8, 16), (64, 64, 64), (16, 4, 3, 2, 7), (1,), (3, 5), (1, 1, 1, 1, 1, 1, 1, 1), tuple(range(1, 18))],
    ids=str,
)
def test_tensors_are_put_beside_one_another(
    kernels: KernelLibrary, channels: tuple[int, ...], dtype: torch.dtype
) -> None:
    parts = [normal(2, c, 5, 7, seed=i, dtype=dtype) for i, c in enumerate(channels)]
    found = kernels.concatenate(*(part.contiguous(memory_format=LAST) for part in parts), stream=0)
    assert found.is_contiguous(memory_format=LAST)
    assert torch.equal(found, torch.cat(parts, dim=1))
    assert torch.equal(found, kernels.concatenate(*parts, stream=0)), "channels first"


def test_tensors_that_do_not_fit_beside_one_another_are_refused(kernels: KernelLibrary) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        kernels.concatenate(normal(1, 8, 3, 4), normal(1, 8, 4, 3), stream=0)
    with pytest.raises(ValueError, match="one size and type"):
        kernels.concatenate(normal(1, 8, 3, 4), normal(1, 8, 3, 4, dtype=torch.float16), stream=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(2, 5, 9), (1, 1, 1), (3, 4, 2)], ids=str)
def test_the_picture_is_the_definition(kernels: KernelLibrary, size: tuple[int, int, int], dtype: torch.dtype) -> None:
    n, h, w = size
    lr, residual = torch.rand(n, 3, h, w), normal(n, 3, 4 * h, 4 * w, dtype=dtype)
    found = kernels.picture(lr, residual, stream=0)
    assert found.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(found, BicubicUpsample()(lr, residual), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_picture_as_bytes_is_the_encoded_one(kernels: KernelLibrary, dtype: torch.dtype) -> None:
    """But for the last bit of what lies between two bytes."""
    lr, residual = torch.rand(2, 3, 5, 9), normal(2, 3, 20, 36, dtype=dtype)
    found = encode_frame(kernels.picture(lr, residual, dtype=torch.uint8, stream=0), torch.uint8)
    expected = encode_frame(BicubicUpsample()(lr, residual), torch.uint8)
    assert found.is_contiguous()
    assert {0, 255} < set(found.flatten().tolist())
    differs = found != expected
    assert differs.float().mean() < 1e-3
    assert (found.int() - expected.int()).abs().max() <= 1


def narrow_tensors(n: int, c: int, h: int, w: int, outs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    half = {"dtype": torch.float16}
    weight = normal(outs, c, 3, 3, seed=2) / (9 * c) ** 0.5
    bias, out_bias = normal(c, seed=1, **half), normal(outs, seed=3, **half)  # type: ignore[arg-type]
    return normal(n, c, h, w, **half), bias, narrow_order(weight).half(), out_bias  # type: ignore[arg-type]


NARROW_CASES = [
    pytest.param((1, 64, 8, 32, 3), id="one area"),
    pytest.param((2, 64, 9, 33, 3), id="one pixel more, batch of 2"),
    pytest.param((1, 32, 17, 40, 8), id="32 to 8 channels"),
    pytest.param((1, 32, 1, 1, 1), id="one pixel"),
]


@pytest.mark.parametrize("case", NARROW_CASES)
def test_the_last_convolution_is_the_definition(kernels: KernelLibrary, case: tuple[int, int, int, int, int]) -> None:
    tensors = narrow_tensors(*case)
    found = kernels.narrow_conv(*tensors, slope=0.1, stream=0)
    assert found.is_contiguous(memory_format=LAST)
    exact = narrow_conv(*(tensor.float() for tensor in tensors), slope=0.1)
    assert_close_for(found, exact, lambda: narrow_conv(*tensors, slope=0.1))


def test_a_last_convolution_that_the_kernel_is_not_made_for_is_refused(kernels: KernelLibrary) -> None:
    x, *others = narrow_tensors(1, 64, 4, 5, 3)
    with pytest.raises(ValueError, match=r"64 channels of torch\.float32; the kernel takes 32 or 64 of float16"):
        kernels.narrow_conv(x.float(), *others, slope=0.1, stream=0)
    with pytest.raises(ValueError, match="48 channels"):
        kernels.narrow_conv(*narrow_tensors(1, 48, 4, 5, 3), slope=0.1, stream=0)
    with pytest.raises(ValueError, match=r"weight \(8, 3, 3, 64\) .* do not fit"):
        kernels.narrow_conv(x[:, :32], *others, slope=0.1, stream=0)


def test_pictures_that_do_not_fit_are_refused(kernels: KernelLibrary) -> None:
    with pytest.raises(ValueError, match=r"torch\.float16 is not made; float32 and uint8 are"):
        kernels.picture(normal(1, 3, 3, 4), normal(1, 3, 12, 16), dtype=torch.float16, stream=0)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.picture(normal(1, 3, 3, 4), normal(1, 3, 12, 12), stream=0)


def test_the_functions_hand_their_arguments_on(kernels: KernelLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stand-in for a device; each with all of its options set."""
    monkeypatch.setattr(native, "_check_device", lambda *_: None)
    monkeypatch.setattr(native, "kernel_library", lambda: kernels)
    monkeypatch.setattr(torch.cuda, "device", lambda _device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    x, bias, skip, flow = normal(1, 8, 4, 5), normal(8, seed=1), normal(1, 2, 8, 10, seed=2), normal(1, 2, 4, 5, seed=3)
    found = native.epilogue(x.clone(), bias, slope=0.1, skip=skip, shuffle=2)
    torch.testing.assert_close(found, epilogue(x, bias, slope=0.1, skip=skip, shuffle=2))
    torch.testing.assert_close(native.warp(x, flow, "border"), warp(x, flow, "border"))
    assert torch.equal(native.concatenate(x, skip[..., :4, :5]), torch.cat((x, skip[..., :4, :5]), dim=1))
    last = narrow_tensors(1, 32, 4, 5, 3)
    exact = narrow_conv(*(tensor.float() for tensor in last), slope=0.2)
    assert_close_for(native.narrow_conv(*last, slope=0.2), exact, lambda: narrow_conv(*last, slope=0.2))
    lr, residual = normal(1, 3, 4, 5), normal(1, 3, 16, 20)
    found = native.picture(lr, residual, dtype=torch.uint8)
    assert found.dtype == torch.uint8
    torch.testing.assert_close(native.picture(lr, residual), BicubicUpsample()(lr, residual))
    *inputs, towards = align_tensors((1, 8, 8, 4, 5), 2, 1, 2, torch.float32)
    torch.testing.assert_close(native.align(*inputs, towards, stride=2), align(*inputs, towards, stride=2))
    o, lam = normal(1, 1, 4, 5).abs(), torch.tensor([0.3])
    assert torch.equal(native.topk_split(x, o, lam, 6).con, topk_split(x, o, lam, 6).con)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [64, 36, 3])
def test_both_on_the_gpu_are_the_definition(channels: int, dtype: torch.dtype) -> None:
    x = normal(2, channels, 45, 67, dtype=dtype).cuda().contiguous(memory_format=LAST)
    flow, bias = 6 * normal(2, 2, 45, 67, seed=1).cuda(), normal(channels, seed=2, dtype=dtype).cuda()
    skip = normal(2, channels, 45, 67, seed=3, dtype=dtype).cuda().contiguous(memory_format=LAST)
    for mode in ("zeros", "border"):
        assert_close_for(native.warp(x, flow, mode), warp(x.float(), flow, mode), lambda m=mode: warp(x, flow, m), 1e-3)  # type: ignore[misc]
    expected = epilogue(x.float(), bias.float(), slope=0.1, skip=skip.float()).to(dtype)
    torch.testing.assert_close(native.epilogue(x, bias, slope=0.1, skip=skip), expected)
    assert torch.equal(native.concatenate(x, skip), torch.cat((x, skip), dim=1))
    lr, residual = torch.rand(2, 3, 45, 67).cuda(), normal(2, 3, 180, 268, dtype=dtype).cuda()
    with torch.backends.cudnn.flags(allow_tf32=False):
        picture = BicubicUpsample().cuda()(lr, residual)
    torch.testing.assert_close(native.picture(lr, residual), picture, rtol=0, atol=1e-5)
    encoded = native.picture(lr, residual, dtype=torch.uint8).int()
    assert (encoded - encode_frame(picture, torch.uint8).permute(0, 3, 1, 2).int()).abs().max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", [*NARROW_CASES, pytest.param((1, 64, 720, 1280, 3), id="uni's own")])
def test_the_last_convolution_on_the_gpu_is_the_definition(case: tuple[int, int, int, int, int]) -> None:
    if not native.kernel_library().narrow_conv_runs():
        pytest.skip("needs compute capability 8.0")
    tensors = [tensor.cuda() for tensor in narrow_tensors(*case)]
    exact = narrow_conv(*(tensor.double() for tensor in tensors), slope=0.1).float()
    found = native.narrow_conv(*tensors, slope=0.1)
    assert_close_for(found, exact, lambda: narrow_conv(*tensors, slope=0.1))
