"""The alignment's CPU kernel by itself, each of its paths, against the PyTorch reference."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from native_kernels import ALIGN_CASES, align_tensors
from torch import Tensor

from ksnet_deploy.base.machine import cpu_flags
from ksnet_deploy.ops.reference import align

SOURCES = Path(__file__).parents[2] / "plugins" / "align_cpu"
FLAGS = {
    "portable": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
}


class Params(ctypes.Structure):
    """``ksnet::AlignParams`` of plugins/align_cpu/align.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "raw", "flow", "y")),
        *((name, ctypes.c_int32) for name in ("n", "c", "c_out", "h", "w", "groups", "flows", "stride", "is_bfloat16")),
    )


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernel with its C interface; no runtime."""
    compiler = shutil.which("g++")
    if compiler is None or not SOURCES.is_dir():
        pytest.skip("needs g++ and a checkout")
    folder = tmp_path_factory.mktemp("align")
    paths = FLAGS if cpu_flags() and {"x86_64", "lm"} & set(cpu_flags() or ()) else {"portable": FLAGS["portable"]}
    common = ["-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
    define = ["-DKSNET_X86"] if len(paths) > 1 else []
    objects = []
    for name, flags in {**{f"path_{path}": flags for path, flags in paths.items()}, "align": [], "c_api": []}.items():
        objects.append(folder / f"{name}.o")
        command = [compiler, *common, *define, *flags, "-c", SOURCES / f"{name}.cpp", "-o", objects[-1]]
        subprocess.run([str(part) for part in command], check=True)
    subprocess.run([compiler, "-shared", *map(str, objects), "-o", str(folder / "align.so")], check=True)
    loaded = ctypes.CDLL(str(folder / "align.so"))
    loaded.ksnet_align.restype = loaded.ksnet_align_path.restype = ctypes.c_char_p
    return loaded


@pytest.fixture(params=["portable", "avx2", "avx512"])
def kernel(library: ctypes.CDLL, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    monkeypatch.setenv("KSNET_ALIGN_PATH", request.param)
    if library.ksnet_align_path() is None:
        pytest.skip(f"this processor has no {request.param}")
    assert library.ksnet_align_path() == request.param.encode()
    return library


def params_of(inputs: list[Tensor], y: Tensor, stride: int) -> Params:
    x, weight, _, raw, *flow = inputs
    pointers = [tensor.data_ptr() for tensor in inputs]
    n, c, h, w = x.shape
    flows = flow[0].shape[1] // 2 if flow else 0
    numbers = (n, c, weight.shape[0], h, w, raw.shape[1] // 27, flows, stride, x.dtype == torch.bfloat16)
    return Params(*pointers[:4], pointers[4] if flow else None, y.data_ptr(), *numbers)


def run(kernel: ctypes.CDLL, inputs: list[Tensor], stride: int) -> Tensor:
    n, _, h, w = inputs[0].shape
    y = inputs[0].new_full((n, inputs[1].shape[0], h, w), torch.nan)
    said = kernel.ksnet_align(ctypes.byref(params_of(inputs, y, stride)))
    assert said is None, said
    return y


@pytest.mark.parametrize(("shape", "groups", "flows", "stride"), ALIGN_CASES)
def test_float32_is_the_reference(
    kernel: ctypes.CDLL, shape: tuple[int, int, int, int, int], groups: int, flows: int, stride: int
) -> None:
    inputs = align_tensors(shape, groups, flows, stride, torch.float32)
    # A float32 coordinate of w px is exact to w * 6e-8 px; the sums change by some tens of units per pixel.
    tolerance = {"atol": 5e-5 * max(1, shape[4] / 50), "rtol": 0}
    torch.testing.assert_close(run(kernel, inputs, stride), align(*inputs, stride=stride), **tolerance)


@pytest.mark.parametrize(("shape", "groups", "flows", "stride"), ALIGN_CASES)
def test_bfloat16_is_the_reference_rounded_once(
    kernel: ctypes.CDLL, shape: tuple[int, int, int, int, int], groups: int, flows: int, stride: int
) -> None:
    inputs = align_tensors(shape, groups, flows, stride, torch.bfloat16)
    wide = [tensor.float() for tensor in inputs]
    # Half a unit of bfloat16, which has eight bits, is at most 2^-8 of a value.
    torch.testing.assert_close(run(kernel, inputs, stride).float(), align(*wide, stride=stride), atol=1e-3, rtol=2**-8)


@pytest.mark.parametrize("stride", [1, 2])
def test_what_lies_far_outside_counts_as_zero(kernel: ctypes.CDLL, stride: int) -> None:
    inputs = align_tensors((1, 16, 8, 11, 18), 4, 2, stride, torch.float32, flow_px=1e9)
    found = run(kernel, inputs, stride)
    torch.testing.assert_close(found, inputs[2][None, :, None, None].expand_as(found), atol=0, rtol=0)


@pytest.mark.parametrize("size", [30.0, 1e4, torch.finfo(torch.float32).max])
def test_extreme_predictions_are_bounded_as_the_reference_bounds_them(kernel: ctypes.CDLL, size: float) -> None:
    inputs = align_tensors((1, 16, 8, 11, 18), 4, 1, 2, torch.float32)
    inputs[3] = inputs[3].sign() * size
    torch.testing.assert_close(run(kernel, inputs, 2), align(*inputs, stride=2), atol=1e-4, rtol=0)


def test_tanh_and_sigmoid_err_by_some_units_of_float32(kernel: ctypes.CDLL) -> None:
    """Seen through the operator: features that are a ramp tell the offset, and features of one tell the mask."""
    h, w = 1, 512
    values = torch.cat((torch.linspace(-9, 9, w - 64), torch.logspace(-6, 0, 64)))
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1  # the middle tap alone
    raw = torch.zeros(1, 27, h, w)
    raw[0, 18 + 4, 0] = values
    found = run(kernel, [torch.ones(1, 1, h, w), weight, torch.zeros(1), raw], 1)[0, 0, 0]
    torch.testing.assert_close(found, values.double().sigmoid().float(), atol=0, rtol=4 * 2**-23)
    # At the first column the ramp is zero, and what is at -x px has the value of minus x.
    ramp = torch.arange(-32.0, 33.0).expand(1, 1, 65, 65).contiguous()
    for value in (1e-4, 0.01, 0.1, 0.35, 0.6, 1.0, 2.0, 5.0, 20.0):
        raw = torch.zeros(1, 27, 65, 65)
        raw[0, 9] = value  # dx of the middle tap
        raw[0, 18 + 4] = 100.0
        middle = run(kernel, [ramp, weight, torch.zeros(1), raw], 1)[0, 0, 32, 32]
        assert float(middle) == pytest.approx(10 * float(torch.tensor(value).double().tanh()), abs=4e-6)


def test_a_batch_is_its_frames_one_by_one(kernel: ctypes.CDLL) -> None:
    inputs = align_tensors((3, 16, 16, 30, 20), 4, 1, 2, torch.float32)
    whole = run(kernel, inputs, 2)
    for index in range(3):
        one = [t[index : index + 1].contiguous() if k in (0, 3, 4) else t for k, t in enumerate(inputs)]
        assert torch.equal(run(kernel, one, 2)[0], whole[index])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("groups", 3, "groups"), ("stride", 3, "stride"), ("flows", 3, "flows"), ("h", 0, "side"), ("w", 2**30, "large")],
)
def test_what_does_not_fit_is_refused_in_a_sentence(library: ctypes.CDLL, name: str, value: int, said: str) -> None:
    inputs = align_tensors((1, 16, 8, 11, 18), 4, 1, 1, torch.float32)
    params = params_of(inputs, torch.empty(1, 8, 11, 18), 1)
    setattr(params, name, value)
    assert said in library.ksnet_align(ctypes.byref(params)).decode()


def test_a_path_that_is_not_there_is_no_other_one(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSNET_ALIGN_PATH", "avx1024")
    inputs = align_tensors((1, 16, 8, 11, 18), 4, 1, 1, torch.float32)
    assert library.ksnet_align_path() is None
    params = params_of(inputs, torch.empty(1, 8, 11, 18), 1)
    assert "KSNET_ALIGN_PATH" in library.ksnet_align(ctypes.byref(params)).decode()
