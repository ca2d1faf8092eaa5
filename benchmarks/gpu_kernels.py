"""Times of the native kernels beside PyTorch and the memory's speed, for `gpu.py`."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops import reference
from ksnet_deploy.ops.library import find_kernel_library

WARM_UP = 5
INPUT_SETS = 4
"""That the kernels take in turn: one set of uni's at 180x320 is 56 MB, which the cache of an H100 nearly holds."""

Attempt = Callable[[str, dict[str, Any], Callable[[], dict[str, Any]]], None]
"""Adds a row to a part of the report: its names, and what measures the rest."""
Candidates = dict[str, Callable[[], object]]
"""Calls that compute the same, by the names of their rows."""


def taking_turns(work: Callable[..., object], inputs: Sequence[tuple[Any, ...]]) -> Callable[[], object]:
    """A call with the next of the inputs each time."""
    turns = itertools.cycle(inputs)
    return lambda: work(*next(turns))


def milliseconds(work: Callable[[], object], device: str, seconds: float) -> float:
    """Median time of a call, on the device's own clock."""
    for _ in range(WARM_UP if device == "cuda" else 1):
        work()
    times: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times) < 3:
        if device == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            before = time.perf_counter()
            work()
            times.append((time.perf_counter() - before) * 1e3)
    return statistics.median(times)


def kernel_rows(attempt: Attempt, size: FrameSize, model: KSNet, device: str, gb_s: float, seconds: float) -> None:
    """The operators at the network's shapes. The floor is the time to read the inputs and write the outputs once."""
    native = device == "cuda" and find_kernel_library() is not None
    for dtype in (torch.float32, torch.float16):
        if device == "cpu" and dtype == torch.float16:
            continue
        torch.manual_seed(0)
        for operator, rows in (("align", align_rows), ("deform_conv2d", deform_rows), ("topk_split", split_rows)):
            candidates, moved = rows(size, model, device, dtype, native)
            floor = moved / gb_s / 1e6
            for name, work in candidates.items():

                def measure(work: Callable[[], object] = work, floor: float = floor) -> dict[str, Any]:
                    ms = milliseconds(work, device, seconds)
                    return {"ms": ms, "memory_floor_ms": floor, "over_floor": ms / floor}

                names = {"operator": operator, "dtype": str(dtype).removeprefix("torch."), "implementation": name}
                attempt("kernels", names, measure)


def align_rows(size: FrameSize, model: KSNet, device: str, dtype: torch.dtype, native: bool) -> tuple[Candidates, int]:
    """The whole alignment, beside its parts: the deformable convolution and the operators around it."""
    c, groups, stride = model.config.channels, model.config.deform_groups, model.config.offset_stride
    h, w = size.height, size.width

    def inputs() -> tuple[Tensor, ...]:
        x, weight, bias = _kernel_inputs(c, size, device, dtype)
        raw = torch.randn(1, 27 * groups, -(-h // stride), -(-w // stride), device=device).to(dtype)
        return x, weight, bias, raw, 3 * torch.randn(1, 2, h, w, device=device)

    sets = [inputs() for _ in range(INPUT_SETS)]
    candidates: Candidates = {"PyTorch": taking_turns(partial(reference.align, stride=stride), sets)}
    if native:
        from ksnet_deploy.ops import native as kernels

        parts = partial(reference.align, stride=stride, deform=kernels.deform_conv2d)
        whole = partial(kernels.align, stride=stride)
        last = [(_last(x), weight, bias, _last(raw), flow) for x, weight, bias, raw, flow in sets]
        candidates["native deform_conv2d, PyTorch around it"] = taking_turns(parts, sets)
        candidates["native deform_conv2d, PyTorch around it, channels last"] = taking_turns(parts, last)
        candidates["native"] = taking_turns(whole, sets)
        candidates["native, channels last"] = taking_turns(whole, last)
    return candidates, _bytes(*sets[0], sets[0][0])


def deform_rows(size: FrameSize, model: KSNet, device: str, dtype: torch.dtype, native: bool) -> tuple[Candidates, int]:
    """The deformable convolution, at offsets and factors that are there."""
    groups = model.config.deform_groups
    h, w = size.height, size.width

    def inputs() -> tuple[Tensor, ...]:
        x, weight, bias = _kernel_inputs(model.config.channels, size, device, dtype)
        offset = torch.randn(1, 18 * groups, h, w, device=device) * 3
        return x, weight, offset, bias, torch.rand(1, 9 * groups, h, w, device=device).to(dtype)

    sets = [inputs() for _ in range(INPUT_SETS)]
    candidates: Candidates = {"PyTorch, grid_sample": taking_turns(reference.deform_conv2d, sets)}
    if native:
        from ksnet_deploy.ops import native as kernels

        candidates["native"] = taking_turns(kernels.deform_conv2d, sets)
    try:
        from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

        same = [
            (x, offset.to(dtype), weight, bias, (1, 1), (1, 1), (1, 1), mask) for x, weight, offset, bias, mask in sets
        ]
        candidates["torchvision"] = taking_turns(torchvision_deform_conv2d, same)
    except (ImportError, RuntimeError):  # there is none, or one of another PyTorch
        pass
    return candidates, _bytes(*sets[0], sets[0][0])


def split_rows(size: FrameSize, model: KSNet, device: str, dtype: torch.dtype, native: bool) -> tuple[Candidates, int]:
    """The split of the first level's channels."""
    lam, k = torch.tensor([0.5], device=device), model.config.level_channels[1]

    def inputs() -> tuple[Any, ...]:
        x, _, _ = _kernel_inputs(model.config.channels, size, device, dtype)
        return x, torch.rand(1, 1, size.height, size.width, device=device), lam, k

    sets = [inputs() for _ in range(INPUT_SETS)]
    candidates: Candidates = {"PyTorch": taking_turns(reference.topk_split, sets)}
    if native:
        from ksnet_deploy.ops import native as kernels

        last = [(_last(x), o, lam, k) for x, o, lam, k in sets]
        candidates["native"] = taking_turns(kernels.topk_split, sets)
        candidates["native, channels last"] = taking_turns(kernels.topk_split, last)
    x, o, *_ = sets[0]
    return candidates, _bytes(x, x, x, o)  # read twice, written once


def _kernel_inputs(c: int, size: FrameSize, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Features, weight and bias of a deformable operator."""
    x = torch.randn(1, c, size.height, size.width, device=device).to(dtype)
    weight = torch.randn(c, c, 3, 3, device=device).to(dtype) / 24
    return x, weight, torch.zeros(c, device=device, dtype=dtype)


def _last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
