"""The CUDA sources, run on this CPU: their arithmetic element by element, and the very kernels in emulated blocks.

The tests marked ``gpu`` run the compiled kernels where there is a CUDA device.
"""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest
import torch
from native_kernels import DTYPES, ORDERS, assert_close_for, assert_same_split, split_tensors
from onnx import TensorProto, helper
from torch import Tensor

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.ops import native
from ksnet_deploy.ops.kernel_params import Filled
from ksnet_deploy.ops.native import KernelLibrary
from ksnet_deploy.ops.padding import padded_split
from ksnet_deploy.ops.reference import channel_scores, deform_conv2d, topk_split


def deform_tensors(
    shape: tuple[int, int, int, int], groups: int, offset_px: float, c_out: int, dtype: torch.dtype
) -> list[Tensor]:
    n, c, h, w = shape
    generator = torch.Generator().manual_seed(0)
    shapes = [shape, (c_out, c, 3, 3), (n, groups * 18, h, w), (c_out,), (n, groups * 9, h, w)]
    x, weight, offset, bias, mask = (torch.randn(s, generator=generator) for s in shapes)
    return [x.to(dtype), weight.to(dtype), offset * offset_px, bias.to(dtype), mask.sigmoid().to(dtype)]


def onnx_deform_conv(inputs: list[Tensor]) -> Tensor:
    """ONNX Runtime's DeformConv, in float32 from the very values of the inputs."""
    names = ["x", "weight", "offset", "bias", "mask"]
    groups = inputs[2].shape[1] // 18
    node = helper.make_node("DeformConv", names, ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], offset_group=groups)
    described = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in [*names, "y"]]
    graph = helper.make_graph([node], "deform_conv", described[:-1], described[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {name: tensor.float().numpy() for name, tensor in zip(names, inputs, strict=True)}
    return torch.from_numpy(session.run(None, feed)[0])


DEFORM_CASES = [
    pytest.param((1, 16, 12, 20), 1, 2.0, 6, id="one group"),
    pytest.param((2, 16, 9, 11), 8, 2.0, 16, id="eight groups, odd size, batch of 2"),
    pytest.param((1, 24, 7, 13), 4, 2.0, 24, id="channels not a multiple of 16"),
    pytest.param((1, 6, 7, 13), 3, 2.0, 3, id="fewer channels than a tile"),
    pytest.param((1, 80, 5, 9), 5, 2.0, 70, id="more channels than a tile"),
    pytest.param((1, 8, 16, 24), 8, 60.0, 6, id="offsets far outside the frame"),
    pytest.param((1, 8, 1, 1), 2, 0.7, 6, id="one pixel"),
    pytest.param((1, 4, 3, 2100), 2, 3.0, 6, id="wider than 2048"),
]


def tolerance(shape: tuple[int, ...]) -> float:
    # A float32 coordinate of w px is exact to w * 6e-8 px, and ONNX Runtime rounds it otherwise than the kernel does.
    return 2e-5 * shape[1] / 16 + (4e-3 if shape[3] > 2048 else 1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "groups", "offset_px", "c_out"), DEFORM_CASES)
def test_deform_conv_arithmetic_matches_onnx_runtime(
    cpu_library: Path,
    shape: tuple[int, int, int, int],
    groups: int,
    offset_px: float,
    c_out: int,
    dtype: torch.dtype,
) -> None:
    inputs = deform_tensors(shape, groups, offset_px, c_out, dtype)
    found = functors_deform_conv(cpu_library, inputs)
    assert_close_for(found, onnx_deform_conv(inputs), lambda: deform_conv2d(*inputs), tolerance(shape))


def functors_deform_conv(library: Path, inputs: list[Tensor]) -> Tensor:
    filled = Filled.deform_conv(*inputs)
    ctypes.CDLL(str(library)).functors_deform_conv(ctypes.byref(filled.params))
    found: Tensor = filled.result
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "groups", "offset_px", "c_out"), DEFORM_CASES)
def test_deform_conv_kernel_matches_onnx_runtime(
    kernels: KernelLibrary,
    shape: tuple[int, int, int, int],
    groups: int,
    offset_px: float,
    c_out: int,
    dtype: torch.dtype,
) -> None:
    inputs = deform_tensors(shape, groups, offset_px, c_out, dtype)
    found = kernels.deform_conv2d(*inputs, stream=0)
    assert_close_for(found, onnx_deform_conv(inputs), lambda: deform_conv2d(*inputs), tolerance(shape))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_samples_at_infinite_undefined_and_huge_offsets_are_zero(kernels: KernelLibrary, dtype: torch.dtype) -> None:
    inputs = deform_tensors((1, 16, 6, 7), 2, 1.0, 5, dtype)
    wild = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e30, -1e30, 2.0**31, -(2.0**31), 4000.0, -4000.0])
    inputs[2][:, ::3] = wild[torch.arange(inputs[2][:, ::3].numel()) % len(wild)].reshape(inputs[2][:, ::3].shape)
    far = [t.clone() for t in inputs]
    far[2][~(far[2].abs() < 100)] = 1000.0
    found = kernels.deform_conv2d(*inputs, stream=0)
    assert torch.isfinite(found).all()
    assert torch.equal(found, kernels.deform_conv2d(*far, stream=0))
    assert_close_for(found, onnx_deform_conv(far), lambda: deform_conv2d(*far), 1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_order_of_a_blocks_threads_does_not_matter(
    cpu_library: Path, kernels: KernelLibrary, dtype: torch.dtype
) -> None:
    """A missing barrier would show."""
    deform = deform_tensors((1, 80, 6, 13), 5, 2.0, 40, dtype)
    split = split_tensors((2, 40, 37, 35), dtype)
    set_order = ctypes.CDLL(str(cpu_library)).cuda_on_cpu_set_order
    results = []
    for order in ORDERS:
        set_order(order)
        results.append((kernels.deform_conv2d(*deform, stream=0), *kernels.topk_split(*split, 30, stream=0)))
    set_order(ORDERS[0])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


SPLIT_SHAPES = [
    pytest.param((1, 64, 9, 10), id="64 channels"),
    pytest.param((3, 12, 7, 5), id="batch of 3, odd size"),
    pytest.param((2, 5, 1, 1), id="one pixel"),
    pytest.param((1, 48, 70, 33), id="several bands"),
    pytest.param((1, 1000, 4, 4), id="1000 channels"),
    pytest.param((2, 8, 3, 2100), id="wider than 2048"),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SPLIT_SHAPES)
def test_topk_split_kernels_match_the_reference(
    kernels: KernelLibrary, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    inputs = split_tensors(shape, dtype)
    k = max(shape[1] * 3 // 4, 1)
    assert_same_split(kernels.topk_split(*inputs, k, stream=0), inputs, k)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_channel_score_arithmetic_matches_the_reference(cpu_library: Path, dtype: torch.dtype) -> None:
    f, o, lam = split_tensors((2, 12, 17, 9), dtype)
    scores = torch.empty(f.shape[:2])
    score = ctypes.CDLL(str(cpu_library)).functors_channel_scores
    for order in (torch.contiguous_format, torch.channels_last):
        filled = Filled.topk_split(f.to(memory_format=order), o, lam, 1)
        score(ctypes.byref(filled.params), ctypes.c_void_p(scores.data_ptr()))
        torch.testing.assert_close(scores, channel_scores(f, o, lam), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_go_to_the_lower_channel_and_undefined_scores_come_last(
    kernels: KernelLibrary, dtype: torch.dtype
) -> None:
    f, o, lam = split_tensors((2, 8, 6, 6), dtype)
    f[:, 1] = f[:, 4] = f[:, 6] = f[:, 0]
    f[0, 2, 3, 3] = f[0, 7, 0, 0] = torch.nan
    f[1, 5, 2, 2] = torch.inf  # inf - inf in the gradient
    for k in range(1, 8):
        con, dis = kernels.topk_split(f, o, lam, k, stream=0)
        expected = topk_split(f, o, lam, k)
        assert torch.equal(con.nan_to_num(1e4), expected.con.nan_to_num(1e4))
        assert torch.equal(dis.nan_to_num(1e4), expected.dis.nan_to_num(1e4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parts_of_whole_vectors_end_in_zeros(kernels: KernelLibrary, dtype: torch.dtype) -> None:
    f, o, lam = split_tensors((2, 40, 9, 13), dtype)
    f = f.contiguous(memory_format=torch.channels_last)
    found = kernels.topk_split(f, o, lam, 27, channels=36, stream=0)
    assert [part.shape[1] for part in found] == [32, 16]
    for part, expected in zip(found, padded_split(f, o, lam, 27, channels=36), strict=True):
        assert torch.equal(part, expected)


def test_a_tensor_without_room_for_whole_vectors_is_refused(kernels: KernelLibrary) -> None:
    with pytest.raises(ValueError, match="f has 36 channels, of which 36 count; 40 fit them"):
        kernels.topk_split(*split_tensors((1, 36, 4, 5), torch.float16), 27, channels=36, stream=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_unaligned_tensors_are_split_too(kernels: KernelLibrary, dtype: torch.dtype) -> None:
    f, o, lam = split_tensors((1, 8, 8, 8), dtype)
    shifted = torch.empty(f.numel() + 1, dtype=dtype)[1:].reshape(f.shape).copy_(f)
    assert shifted.data_ptr() % 16
    assert_same_split(kernels.topk_split(shifted, o, lam, 6, stream=0), [f, o, lam], 6)


def test_half_precision_storage_keeps_every_value(cpu_library: Path) -> None:
    """With the identity for a kernel, what goes in as FP16 comes out unchanged, subnormals and infinities included."""
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16).reshape(1, 1, 1, 2**16)
    x = torch.where(torch.isnan(x), torch.zeros(()), x).half()
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float16)
    weight[0, 0, 1, 1] = 1
    offset, bias = torch.full((1, 18, 1, 2**16), 1e6), torch.zeros(1, dtype=torch.float16)
    offset[:, 8:10] = 0
    mask = torch.ones(1, 9, 1, 2**16, dtype=torch.float16)
    assert torch.equal(functors_deform_conv(cpu_library, [x, weight, offset, bias, mask]), x)


def test_shapes_types_and_sizes_that_do_not_fit_are_refused(kernels: KernelLibrary) -> None:
    inputs = deform_tensors((1, 8, 4, 5), 2, 1.0, 4, torch.float32)
    with pytest.raises(ValueError, match="deform_conv2d: mask"):
        kernels.deform_conv2d(*inputs[:4], inputs[4][..., :-1], stream=0)
    with pytest.raises(ValueError, match="float32 or float16"):
        kernels.deform_conv2d(*(t.double() for t in inputs), stream=0)
    split = split_tensors((1, 8, 4, 5), torch.float32)
    with pytest.raises(ValueError, match="k is 8"):
        kernels.topk_split(*split, 8, stream=0)
    large = torch.empty((1, 1, 65537, 65536), dtype=torch.float16, device="meta")  # 65536 pixels to 32 bits
    with pytest.raises(ValueError, match="8590065664 elements is too large"):
        kernels.concatenate(large, large, stream=0)
    with pytest.raises(ValueError, match="4295032832 elements is too large"):
        kernels.epilogue(large, torch.zeros(1), stream=0)
    with pytest.raises(BackendError, match=r"topk_split: the launch failed \(invalid argument\)"):
        kernels.topk_split(torch.zeros(1, 1025, 2, 2), torch.zeros(1, 1, 2, 2), split[2], 8, stream=0)


def test_missing_and_foreign_libraries_and_cpu_tensors_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="not a usable kernel library"):
        KernelLibrary(tmp_path / "absent.so")
    other = tmp_path / "other.so"
    for source, reason in ((r"int other;", "ksnet_interface"), ("int ksnet_interface(void) { return 1; }", "number 1")):
        subprocess.run(["gcc", "-shared", "-x", "c", "-", "-o", str(other)], input=source.encode(), check=True)
        with pytest.raises(BackendError, match=f"not a usable kernel library .*{reason}"):
            KernelLibrary(other.rename(tmp_path / f"{reason.replace(' ', '-')}.so"))
    with pytest.raises(BackendError, match="one CUDA device; found cpu"):
        native.topk_split(*split_tensors((1, 8, 4, 5), torch.float32), 4)


PLAYED = """
#include <stddef.h>
int ksnet_interface(void) { return INTERFACE; }
const char *ksnet_error_string(int error) { return error ? "played" : ""; }
void *stream_of_last;
#define PLAYED(name) \\
    int ksnet_##name(const void *params, void *stream) { stream_of_last = stream; return 0; } \\
    size_t ksnet_##name##_workspace(const void *params) { return 64; }
"""


def test_a_stream_of_any_address_reaches_the_kernel_whole(tmp_path: Path) -> None:
    """Most processes have streams beyond 32 bits; the null stream, which other tests give, is not."""
    source = PLAYED.replace("INTERFACE", str(native.INTERFACE))
    names = (*native._PARAMS, *native._WITHOUT_WORKSPACE)
    source += "int ksnet_narrow_conv_runs(void) { return 1; }\n" + "".join(f"PLAYED({name})\n" for name in names)
    library = tmp_path / "played.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)], input=source.encode(), check=True)
    played, stream = KernelLibrary(library), 0x55D0C0FFEE00
    given = torch.zeros(1, 8, 4, 5)
    last = ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "stream_of_last")
    calls: dict[str, Callable[[], object]] = {
        "deform_conv": lambda: played.deform_conv2d(
            *(given, torch.zeros(8, 8, 3, 3), torch.zeros(1, 18, 4, 5), torch.zeros(8), torch.zeros(1, 9, 4, 5)),
            stream=stream,
        ),
        "align": lambda: played.align(
            given, torch.zeros(8, 8, 3, 3), torch.zeros(8), torch.zeros(1, 27, 4, 5), stream=stream
        ),
        "topk_split": lambda: played.topk_split(*split_tensors((1, 8, 4, 5), torch.float32), 4, stream=stream),
        "concatenate": lambda: played.concatenate(given, given, stream=stream),
        "epilogue": lambda: played.epilogue(given, torch.zeros(8), stream=stream),
        "narrow_conv": lambda: played.narrow_conv(
            torch.zeros(1, 32, 4, 5, dtype=torch.half),
            *(torch.zeros(*s) for s in ((32,), (8, 3, 3, 32), (3,))),
            slope=0.1,
            stream=stream,
        ),
        "flow_input": lambda: played.flow_input(given[:, :3], given[:, :3], dtype=torch.float16, stream=stream),
        "picture": lambda: played.picture(torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 16, 20), stream=stream),
        "warp": lambda: played.warp(given, torch.zeros(1, 2, 4, 5), stream=stream),
    }
    assert set(calls) == set(names)
    for name, call in calls.items():
        last.value = None
        call()
        assert last.value == stream, name


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

GPU_DEFORM_CASES = [
    pytest.param((1, 64, 180, 320), 8, 4.0, 64, id="the network's own"),
    pytest.param((2, 64, 45, 67), 8, 4.0, 64, id="odd size, batch of 2"),
    pytest.param((1, 24, 31, 2500), 4, 3.0, 70, id="wider than 2048"),
    pytest.param((1, 16, 64, 64), 16, 5000.0, 16, id="offsets far outside the frame"),
]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "groups", "offset_px", "c_out"), GPU_DEFORM_CASES)
def test_deform_conv_on_the_gpu_matches_the_reference(
    shape: tuple[int, int, int, int], groups: int, offset_px: float, c_out: int, dtype: torch.dtype
) -> None:
    inputs = deform_tensors(shape, groups, offset_px, c_out, dtype)
    exact = deform_conv2d(*(t.double() if i != 2 else t for i, t in enumerate(t.float() for t in inputs)))
    on_gpu = [t.cuda() for t in inputs]
    found = native.deform_conv2d(*on_gpu)
    assert_close_for(found.cpu(), exact.float(), lambda: deform_conv2d(*on_gpu).cpu(), 10 * tolerance(shape))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 64, 180, 320), (2, 48, 45, 67), (1, 36, 31, 2500)], ids=str)
def test_topk_split_on_the_gpu_matches_the_reference(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    """Judged by the scores of the kept channels, because near-ties may fall either way."""
    inputs = split_tensors(shape, dtype)
    k = shape[1] * 3 // 4
    found, expected = native.topk_split(*(t.cuda() for t in inputs), k), topk_split(*inputs, k)
    _, o, lam = inputs
    for part, reference in zip(found, expected, strict=True):
        scores = [channel_scores(t.cpu(), o, lam).sort(dim=1).values for t in (part, reference)]
        torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(found, native.topk_split(*(t.cuda() for t in inputs), k), strict=True))


@pytest.mark.gpu
@needs_gpu
def test_a_stream_of_another_thread_is_taken() -> None:
    """There its address lies far beyond 32 bits, whatever the interpreter."""
    inputs = [t.cuda() for t in split_tensors((1, 8, 40, 50), torch.float32)]
    expected = native.topk_split(*inputs, 4)
    torch.cuda.synchronize()
    found: list[torch.Tensor] = []

    def split() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            found.extend(native.topk_split(*inputs, 4))

    thread = threading.Thread(target=split)
    thread.start()
    thread.join()
    torch.cuda.synchronize()
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
