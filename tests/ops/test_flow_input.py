"""What lies between two levels of SpyNet as one CUDA kernel: in emulated blocks on this CPU, and on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from native_kernels import DTYPES
from torch import Tensor, nn

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.flow import SpyNet, flow_input
from ksnet_deploy.ops import native
from ksnet_deploy.ops.epilogue import epilogue
from ksnet_deploy.ops.native import KernelLibrary
from ksnet_deploy.runtime.torch_kernels import NativeFlow, fuse_convolutions

LAST = torch.channels_last
Level = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def level(size: tuple[int, int, int], flow_px: float, dtype: torch.dtype, order: torch.memory_format) -> Level:
    """Two images, and of the coarser level the flow and, with its channels last, the correction."""
    n, h, w = size
    image, reference = (normal(n, 3, h, w, seed=seed).contiguous(memory_format=order) for seed in range(2))
    coarse, correction = (flow_px / 2 * normal(n, 2, h // 2, w // 2, seed=seed) for seed in range(2, 4))
    return image, reference, coarse, correction.to(dtype).contiguous(memory_format=LAST)


def assert_defined(found: tuple[Tensor, Tensor], given: Level, dtype: torch.dtype) -> None:
    """The flow is PyTorch's but for the last bit; the rest is what the definition makes of that flow."""
    seen, flow = found
    image = given[0]
    exact, expected = flow_input(*given, dtype=torch.float32)
    n, _, h, w = image.shape
    assert (seen.shape, seen.dtype, flow.shape, flow.dtype) == ((n, 8, h, w), dtype, (n, 2, h, w), torch.float32)
    assert seen.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(flow, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    assert torch.equal(seen[:, :3], image.to(dtype))
    assert torch.equal(seen[:, 6:], flow.to(dtype))
    # grid_sample normalises coordinates, which costs it w * 6e-8 px of them; half is rounded once, to 11 bits.
    rounding = 0.0 if dtype == torch.float32 else 2**-11
    torch.testing.assert_close(seen[:, 3:6].float(), exact[:, 3:6], rtol=rounding, atol=1e-5 * max(w, 50))


LEVELS = [
    # (N, H, W), largest flow
    pytest.param((3, 12, 20), 3.0, id="batch of 3"),
    pytest.param((1, 6, 10), 40.0, id="beyond the border"),
    pytest.param((2, 2, 2), 1.0, id="above one pixel"),
    pytest.param((1, 2, 258), 5.0, id="two rows above one"),
    pytest.param((1, 34, 18), 0.01, id="hardly moved, several blocks"),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", [torch.contiguous_format, LAST], ids=["first", "last"])
@pytest.mark.parametrize(("size", "flow_px"), LEVELS)
def test_what_a_level_sees_is_the_definition(
    kernels: KernelLibrary, size: tuple[int, int, int], flow_px: float, order: torch.memory_format, dtype: torch.dtype
) -> None:
    given = level(size, flow_px, dtype, order)
    assert_defined(kernels.flow_input(*given, dtype=dtype, stream=0), given, dtype)
    uncorrected = (*given[:3], None)
    assert_defined(kernels.flow_input(*uncorrected, dtype=dtype, stream=0), uncorrected, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_coarsest_level_sees_both_images_unmoved(kernels: KernelLibrary, dtype: torch.dtype) -> None:
    image, reference, *_ = level((3, 5, 7), 1.0, dtype, LAST)
    seen, flow = kernels.flow_input(image, reference, dtype=dtype, stream=0)
    assert torch.equal(seen, torch.cat((image, reference, torch.zeros(3, 2, 5, 7)), dim=1).to(dtype))
    assert torch.equal(flow, torch.zeros(3, 2, 5, 7))


def test_flows_outside_and_undefined_ones_read_the_border(kernels: KernelLibrary) -> None:
    image, reference, *_ = level((1, 4, 6), 1.0, torch.float32, torch.contiguous_format)
    for px, row, column in ((-1e9, 0, 0), (1e9, -1, -1), (torch.nan, 0, 0)):
        seen, flow = kernels.flow_input(image, reference, torch.full((1, 2, 2, 3), px), dtype=torch.float32, stream=0)
        assert torch.equal(seen[:, 3:6], reference[..., row, column, None, None].expand(1, 3, 4, 6))
        torch.testing.assert_close(flow, torch.full((1, 2, 4, 6), 2 * px), equal_nan=True)


def test_levels_that_do_not_fit_are_refused(kernels: KernelLibrary) -> None:
    image, reference, coarse, correction = level((1, 4, 6), 1.0, torch.float32, LAST)
    odd = image[..., :5]
    for given in (
        (image, odd),
        (odd, odd, coarse),
        (image, reference, None, correction),
        (image, reference, coarse, image),
        (coarse, coarse),
    ):
        with pytest.raises(ValueError, match=r"flow_input: .* do not fit"):
            kernels.flow_input(*given, dtype=torch.float32, stream=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float32 or float16"):
        kernels.flow_input(image, reference, dtype=torch.bfloat16, stream=0)
    with pytest.raises(BackendError, match="one CUDA device; found cpu"):
        native.flow_input(image, reference, dtype=torch.float32)


def frames(n: int, h: int, w: int) -> tuple[Tensor, Tensor]:
    """A smooth scene that moves by (2, -3) pixels, with a part that stands still."""
    coarse = torch.rand(n, 3, h // 4 + 4, w // 4 + 4, generator=torch.Generator().manual_seed(0))
    scene = nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic")
    one, other = scene[..., 4 : h + 4, 4 : w + 4], scene[..., 6 : h + 6, 1 : w + 1].clone()
    other[..., : h // 3, : w // 3] = one[..., : h // 3, : w // 3]
    return one, other


@pytest.fixture
def flow_network(kernels: KernelLibrary, monkeypatch: pytest.MonkeyPatch) -> Callable[[SpyNet], NativeFlow]:
    """What puts the kernel, in emulated blocks, into a SpyNet."""
    monkeypatch.setattr(native, "flow_input", lambda *given, dtype: kernels.flow_input(*given, dtype=dtype, stream=0))

    def put(network: SpyNet) -> NativeFlow:
        return NativeFlow(network)

    return put


@pytest.mark.parametrize("levels", [6, 4, 1])
def test_a_flow_network_with_the_kernel_gives_the_flow(
    levels: int, flow_network: Callable[[SpyNet], NativeFlow]
) -> None:
    torch.manual_seed(0)
    plain = SpyNet(8, levels).eval()
    kernel = flow_network(fuse_convolutions(copy_of(plain), epilogue))
    one, other = frames(3, 45, 70)
    with torch.inference_mode():
        expected, found = plain(one, other), kernel(one, other)
        assert found.shape == expected.shape
        assert expected.std() > 1e-3
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def copy_of(network: SpyNet) -> SpyNet:
    fresh = SpyNet(network.channels, len(network.levels)).eval()
    fresh.load_state_dict(network.state_dict())
    return fresh


@pytest.mark.parametrize("size", [(16, 16), (33, 47), pytest.param((180, 320), marks=pytest.mark.slow)], ids=str)
def test_the_flow_of_uni_is_the_same_with_the_kernel(
    size: tuple[int, int], flow_network: Callable[[SpyNet], NativeFlow]
) -> None:
    plain = load_checkpoint(bundled_checkpoint("uni")).model.flow
    assert plain is not None
    one, other = frames(1, *size)
    kernel = flow_network(copy_of(plain))
    with torch.inference_mode():
        expected, found = plain(one, other), kernel(one, other)
    assert found.shape == expected.shape
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("order", [torch.contiguous_format, LAST], ids=["first", "last"])
def test_both_frames_in_one_pyramid_are_the_bits_of_each_in_its_own(order: torch.memory_format) -> None:
    network = SpyNet(2)
    one, other = (frame.contiguous(memory_format=order) for frame in frames(3, 45, 70))
    for (both,), apart in zip(network.images(torch.cat((one, other))), network.images(one, other), strict=True):
        assert torch.equal(both, torch.cat(apart))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", [torch.contiguous_format, LAST], ids=["first", "last"])
def test_what_a_level_sees_on_the_gpu_is_the_definition(order: torch.memory_format, dtype: torch.dtype) -> None:
    for size, flow_px in (((3, 192, 320), 3.0), ((1, 6, 10), 40.0), ((2, 2, 2), 1.0)):
        given = level(size, flow_px, dtype, order)
        found = native.flow_input(*(t.cuda() for t in given if t is not None), dtype=dtype)
        assert_defined(tuple(t.cpu() for t in found), given, dtype)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_flow_of_uni_on_the_gpu_is_the_same_with_the_kernel() -> None:
    plain = load_checkpoint(bundled_checkpoint("uni")).model.flow
    assert plain is not None
    kernel = NativeFlow(copy_of(plain).cuda())
    one, other = frames(3, 180, 320)
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        found, expected = kernel(one.cuda(), other.cuda()), plain.cuda()(one.cuda(), other.cuda())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
