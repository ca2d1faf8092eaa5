"""The split's CUDA kernels with channels last, run on this CPU in emulated blocks."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
import torch
from native_kernels import DTYPES, ORDERS, ROOT, assert_same_split, compile_for_cpu, split_tensors
from torch import Tensor

from ksnet_deploy.ops import native
from ksnet_deploy.ops.kernel_params import Filled
from ksnet_deploy.ops.native import KernelLibrary
from ksnet_deploy.ops.reference import Split, channel_scores, topk_split

pytestmark = pytest.mark.slow  # many emulated blocks; test_native_kernels.py has some in the default run

Shape = tuple[int, int, int, int]
FIRST, LAST = torch.contiguous_format, torch.channels_last
GUARD = 4096  # bytes behind the workspace
CASES = [
    pytest.param((1, 64, 9, 10), 48, id="64 channels"),
    pytest.param((2, 64, 13, 7), 27, id="64 channels, odd size, batch of 2"),
    pytest.param((2, 36, 11, 9), 27, id="36 channels, odd size, batch of 2"),
    pytest.param((2, 36, 12, 20), 27, id="36 channels"),
    pytest.param((1, 16, 1, 33), 1, id="16 channels of which one is kept, one row"),
    pytest.param((2, 6, 33, 1), 3, id="6 channels, one column"),
    pytest.param((2, 6, 5, 3), 5, id="6 channels of which five are kept"),
    pytest.param((1, 5, 8, 8), 3, id="5 channels"),
    pytest.param((3, 2, 3, 5), 1, id="2 channels"),
    pytest.param((2, 12, 1, 1), 5, id="one pixel"),
    pytest.param((1, 48, 70, 33), 37, id="several blocks"),
    pytest.param((1, 24, 3, 2100), 11, id="wider than 2048"),
    pytest.param((1, 600, 5, 4), 301, id="more channels than threads"),
    pytest.param((1, 1000, 6, 5), 641, id="1000 channels"),
    pytest.param((129, 6, 45, 31), 4, id="several tiles to a block"),
]


def last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=LAST)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "k"), CASES)
def test_the_split_is_the_references_and_lies_as_its_input(
    kernels: KernelLibrary, shape: Shape, k: int, dtype: torch.dtype
) -> None:
    f, o, lam = split_tensors(shape, dtype)
    found = kernels.topk_split(last(f), o, lam, k, stream=0)
    assert all(part.is_contiguous(memory_format=LAST) for part in found)
    assert_same_split(found, [f, o, lam], k)
    first = kernels.topk_split(f, o, lam, k, stream=0)
    assert all(part.is_contiguous() for part in first)
    assert_same_split(first, [f, o, lam], k)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [8, 12, 10], ids=lambda c: f"{c} channels")
def test_ties_go_to_the_lower_channel_and_undefined_scores_come_last(
    kernels: KernelLibrary, channels: int, dtype: torch.dtype
) -> None:
    f, o, lam = split_tensors((2, channels, 7, 9), dtype)
    f[:, 1] = f[:, 4] = f[:, 6] = f[:, 0]
    f[0, 2, 3, 3] = f[0, 7, 0, 0] = torch.nan
    f[1, 5, 2, 2] = torch.inf  # inf - inf in the gradient
    for k in range(1, channels):
        found, expected = kernels.topk_split(last(f), o, lam, k, stream=0), topk_split(f, o, lam, k)
        for part, reference in zip(found, expected, strict=True):
            assert torch.equal(part.nan_to_num(1e4), reference.nan_to_num(1e4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 64, 13, 7), (1, 40, 37, 35), (1, 30, 9, 20)], ids=str)
def test_the_order_of_a_blocks_threads_does_not_matter(
    cpu_library: Path, kernels: KernelLibrary, shape: Shape, dtype: torch.dtype
) -> None:
    """A missing barrier would show."""
    f, o, lam = split_tensors(shape, dtype)
    f[:, 1] = f[:, 0]
    set_order = ctypes.CDLL(str(cpu_library)).cuda_on_cpu_set_order
    try:
        for order in ORDERS:
            set_order(order)
            assert_same_split(kernels.topk_split(last(f), o, lam, 21, stream=0), [f, o, lam], 21)
    finally:
        set_order(ORDERS[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shift", [1, 2, 4])
def test_unaligned_tensors_are_split_too(kernels: KernelLibrary, shift: int, dtype: torch.dtype) -> None:
    f, o, lam = split_tensors((2, 16, 8, 9), dtype)
    memory = torch.full((f.numel() + shift,), torch.nan, dtype=dtype)
    shifted = memory[shift:].reshape(2, 8, 9, 16).permute(0, 3, 1, 2).copy_(f)
    found = kernels.topk_split(shifted, o, lam, 11, stream=0)
    assert all(part.is_contiguous(memory_format=LAST) for part in found)
    assert_same_split(found, [f, o, lam], 11)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", [FIRST, LAST], ids=["channels first", "channels last"])
@pytest.mark.parametrize("begin", [16, 12, 3])
def test_a_part_of_a_tensor_is_read_where_it_lies(
    kernels: KernelLibrary, begin: int, order: torch.memory_format, dtype: torch.dtype
) -> None:
    """Some of the channels, of the frames of a batch from the second on."""
    f, o, lam = split_tensors((2, 16, 6, 11), dtype)
    around = f.new_full((3, 40, 6, 11), torch.nan).contiguous(memory_format=order)
    part = around[1:, begin : begin + 16].copy_(f)
    found = kernels.topk_split(part, o, lam, 7, stream=0)
    assert all(tensor.is_contiguous(memory_format=order) for tensor in found)
    assert_same_split(found, [f, o, lam], 7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_second_channel_or_column_is_read_where_it_lies(kernels: KernelLibrary, dtype: torch.dtype) -> None:
    f, o, lam = split_tensors((2, 16, 6, 10), dtype)
    for order in (FIRST, LAST):
        around = f.new_full((2, 32, 6, 20), torch.nan).contiguous(memory_format=order)
        for part in (around[:, ::2, :, :10], around[:, :16, :, ::2]):
            part.copy_(f)
            assert_same_split(kernels.topk_split(part, o, lam, 7, stream=0), [f, o, lam], 7)


def launch(library: Path, filled: Filled[Split]) -> int:
    """The launcher's code; fails where it writes behind its workspace."""
    loaded = ctypes.CDLL(str(library))
    loaded.ksnet_topk_split_workspace.restype = ctypes.c_size_t
    size = loaded.ksnet_topk_split_workspace(ctypes.byref(filled.params))
    memory = torch.full((size + GUARD,), 77, dtype=torch.uint8)
    filled.put_workspace(memory.data_ptr())
    code: int = loaded.ksnet_topk_split(ctypes.byref(filled.params), None)
    assert (memory[size:] == 77).all()
    return code


@pytest.mark.parametrize(("channels", "k"), [(64, 48), (48, 36), (36, 27), (13, 8), (9, 1)])
@pytest.mark.parametrize(("h", "w"), [(5, 7), (24, 22)])
def test_channels_that_a_format_adds_are_not_looked_at_and_become_zeros(
    cpu_library: Path, channels: int, k: int, h: int, w: int
) -> None:
    """TensorRT's format HWC8 fills the channels of a pixel up to a multiple of eight."""
    f, o, lam = split_tensors((2, channels, h, w), torch.float16)
    given = Filled.topk_split(last(f), o, lam, k)
    params = given.params
    params.channel_multiple = 8
    tensors = {}
    for name, count in (("f", channels), ("con", k), ("dis", channels - k)):
        wide = -(-count // 8) * 8
        tensors[name] = torch.full((2, h, w, wide), torch.nan, dtype=torch.float16)
        setattr(params, name, tensors[name].data_ptr())
        layout = getattr(params, f"{name}_layout")
        layout.image, layout.channel, layout.pixel = h * w * wide, 1, wide
    tensors["f"][..., :channels] = f.permute(0, 2, 3, 1)
    assert launch(cpu_library, given) == 0
    con, dis = (tensors[name].permute(0, 3, 1, 2) for name in ("con", "dis"))
    assert_same_split((con[:, :k], dis[:, : channels - k]), [f, o, lam], k)
    assert (con[:, k:] == 0).all()
    assert (dis[:, channels - k :] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", [FIRST, LAST], ids=["channels first", "channels last"])
def test_the_workspace_is_large_enough_for_every_size_up_to_the_largest(
    cpu_library: Path, order: torch.memory_format, dtype: torch.dtype
) -> None:
    """TensorRT asks once, for the largest, and in another alignment."""
    lam = torch.tensor([0.5])
    workspace = ctypes.CDLL(str(cpu_library)).ksnet_topk_split_workspace
    workspace.restype = ctypes.c_size_t
    before = 0
    for size in (1, 5, 32, 33, 64, 100):
        f = torch.zeros(1, 36, size, size, dtype=dtype).contiguous(memory_format=order)
        filled = Filled.topk_split(f, torch.zeros(1, 1, size, size), lam, 9)
        assert workspace(ctypes.byref(filled.params)) >= before
        before = workspace(ctypes.byref(filled.params))
        assert launch(cpu_library, filled) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel_multiple", 0),
        ("channel_multiple", 3),
        pytest.param("channel_multiple", 8, id="no room for 16 channels of con"),
        ("width", 1 << 29),
        ("height", 0),
        ("batch", 65536),
    ],
)
def test_the_launcher_refuses_what_does_not_fit(cpu_library: Path, field: str, value: int) -> None:
    f, o, lam = split_tensors((1, 16, 2, 1), torch.float32)
    filled = Filled.topk_split(last(f), o, lam, 11)
    assert launch(cpu_library, filled) == 0
    setattr(filled.params, field, value)
    assert ctypes.CDLL(str(cpu_library)).ksnet_topk_split(ctypes.byref(filled.params), None) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        pytest.param("channels_last.h", "column + 1 < p.width ?", "column + 2 < p.width ?", id="the far right edge"),
        pytest.param("channels_last.h", "row + i + 1 < p.height ?", "row + i + 2 < p.height ?", id="the lowest row"),
        pytest.param("channels_last.h", "value[j] = below[j];", "", id="the next row's value"),
        pytest.param(
            "channels_last.h",
            "kVector - first_vector;",
            "kVector - 0 * first_vector;",
            id="vectors at the start of a block",
        ),
        pytest.param("channels_last.h", "number += gridDim.x", "number += tiles.count", id="later tiles"),
        pytest.param("channels_last.h", "(kept ? 0 : p.kept) + channel", "channel", id="the channels of dis"),
        pytest.param("choose.h", "other < channel", "other <= channel", id="places"),
        pytest.param("topk_split.h", "return a < b;", "return a > b;", id="ties"),
    ],
)
def test_an_error_planted_in_the_source_is_seen(
    tmp_path: Path, kept_objects: Path, file: str, right: str, wrong: str
) -> None:
    sources = tmp_path / "plugins"
    shutil.copytree(ROOT / "plugins", sources)
    header = sources / "topk_split" / file
    assert header.read_text().count(right) == 1
    header.write_text(header.read_text().replace(right, wrong))
    library = KernelLibrary(compile_for_cpu(tmp_path / "wrong.so", sorted(sources.glob("*/*.cu")), kept_objects))
    seen = 0
    small = [((1, 8, 6, 5), k) for k in range(1, 8)]
    for shape, k in (*small, ((2, 64, 13, 7), 27), ((1, 48, 70, 33), 37), ((129, 6, 45, 31), 4)):
        f, o, lam = split_tensors(shape, torch.float16)
        f[:, -1] = f[:, 0]
        found, expected = library.topk_split(last(f), o, lam, k, stream=0), topk_split(f, o, lam, k)
        seen += not all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert seen


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "k"),
    [((1, 64, 180, 320), 48), ((1, 48, 180, 320), 36), ((1, 36, 180, 320), 27), ((2, 36, 45, 67), 27)],
    ids=str,
)
def test_on_the_gpu_the_split_is_the_references(shape: Shape, k: int, dtype: torch.dtype) -> None:
    """Judged by the scores of the kept channels, because near-ties may fall either way."""
    f, o, lam = split_tensors(shape, dtype)
    on_gpu = last(f).cuda(), o.cuda(), lam.cuda()
    found, expected = native.topk_split(*on_gpu, k), topk_split(f, o, lam, k)
    assert all(part.is_contiguous(memory_format=LAST) for part in found)
    for part, reference in zip(found, expected, strict=True):
        scores = [channel_scores(t.cpu(), o, lam).sort(dim=1).values for t in (part, reference)]
        torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(found, native.topk_split(*on_gpu, k), strict=True))
