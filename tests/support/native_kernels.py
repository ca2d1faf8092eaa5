"""Native kernels on this CPU: compiled, what they are given, and how near to the reference they must come."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from ksnet_deploy.ops.reference import topk_split

ROOT = Path(__file__).parents[2]
DTYPES = [torch.float32, torch.float16]
ORDERS = range(3)
"""Orders in which an emulated block's threads run: forward, backward, shuffled."""

ALIGN_CASES = [
    # (N, C, C_out, H, W), groups, flows, stride
    pytest.param((1, 32, 32, 18, 32), 4, 1, 2, id="lite"),
    pytest.param((1, 64, 64, 9, 14), 8, 1, 1, id="uni"),
    pytest.param((2, 16, 6, 13, 7), 8, 2, 2, id="batch of 2, two flows, odd size, half resolution"),
    pytest.param((2, 8, 33, 27, 5), 8, 2, 1, id="batch of 2, two flows, one channel to a group"),
    pytest.param((1, 6, 5, 17, 33), 1, 0, 1, id="at rest, one group of six"),
    pytest.param((1, 32, 8, 14, 33), 1, 1, 2, id="one group of 32, odd width"),
    pytest.param((1, 4, 4, 3, 1030), 4, 4, 2, id="three areas wide"),
    pytest.param((1, 8, 8, 1, 1), 2, 0, 2, id="one pixel"),
]


def align_tensors(
    shape: tuple[int, int, int, int, int],
    groups: int,
    flows: int,
    stride: int,
    dtype: torch.dtype,
    flow_px: float = 5.0,
) -> list[Tensor]:
    n, c, c_out, h, w = shape
    generator = torch.Generator().manual_seed(0)
    raw = (n, 27 * groups, -(-h // stride), -(-w // stride))
    shapes = [(n, c, h, w), (c_out, c, 3, 3), (c_out,), raw]
    made = [torch.randn(size, generator=generator).to(dtype) for size in shapes]
    return [*made, *([flow_px * torch.randn(n, 2 * flows, h, w, generator=generator)] if flows else [])]


def split_tensors(shape: tuple[int, int, int, int], dtype: torch.dtype) -> list[Tensor]:
    n, _, h, w = shape
    generator = torch.Generator().manual_seed(0)
    f, o = torch.randn(shape, generator=generator), torch.rand(n, 1, h, w, generator=generator)
    return [f.to(dtype), o, torch.tensor([0.3])]


def assert_same_split(found: tuple[Tensor, Tensor], inputs: Sequence[Tensor], k: int) -> None:
    """The reference's, value for value."""
    f, o, lam = inputs
    for part, expected in zip(found, topk_split(f, o, lam, k), strict=True):
        assert torch.equal(part, expected)


def assert_close_for(found: Tensor, exact: Tensor, plain_half: Callable[[], Tensor], atol: float = 2e-5) -> None:
    """float32: within ``atol``. float16: at most twice the error of plain half PyTorch."""
    error = (found.float() - exact).abs().max().item()
    allowed = atol if found.dtype == torch.float32 else 2 * (plain_half().float() - exact).abs().max().item()
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


def compile_for_cpu(library: Path, sources: Sequence[Path], kept: Path) -> Path:
    """Compile CUDA sources and what emulates a GPU into a library; skips where there is no compiler or no checkout.

    What each source becomes is kept in a folder that processes may share, by what is left of it after its includes: an
    error planted in one source leaves the others as they were.
    """
    compiler = shutil.which("g++")
    if compiler is None or not (ROOT / "plugins").is_dir():
        pytest.skip("needs g++ and a checkout")
    shim = ROOT / "tests" / "native" / "cuda_on_cpu"
    flags = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-I", str(shim)]
    kept.mkdir(exist_ok=True)

    def compiled(source: Path) -> Path:
        command = [compiler, *flags, "-x", "c++", str(source)]
        text = subprocess.run([*command, "-E", "-P"], check=True, stdout=subprocess.PIPE).stdout
        path = kept / f"{source.stem}-{hashlib.sha256(text).hexdigest()}.o"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                unfinished = path.with_suffix(".part")
                subprocess.run([*command, "-c", "-o", str(unfinished)], check=True)
                unfinished.rename(path)
        return path

    parts = [*sources, ROOT / "plugins" / "common" / "c_interface.cpp", shim / "cuda_on_cpu.cpp"]
    subprocess.run([compiler, "-shared", *map(str, map(compiled, parts)), "-o", str(library)], check=True)
    return library
