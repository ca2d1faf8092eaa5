"""What memory is needed and what there is: estimates against measured peaks, and the system's own figures."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ksnet_deploy.base.errors import BackendError, ConfigError, InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoint_config import config_of
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.runtime.tiles import TilePlan
from ksnet_deploy.upscale.memory import OVERLAP, available_memory, is_out_of_memory, memory_needed, plan_for_memory

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "tiling.json"


@pytest.mark.parametrize(
    "network", json.loads(RESULTS.read_text())["memory"], ids=lambda row: f"{row['model']}{row['size']}{row['tile']}"
)
def test_the_needed_memory_bounds_the_measured_peak(network: dict[str, Any]) -> None:
    size, tile = FrameSize.parse(network["size"]), network["tile"]
    plan = TilePlan(size, FrameSize.parse(tile), OVERLAP) if tile else None
    config = config_of(bundled_checkpoint(network["model"]))
    # uni at 180x320 is 1.31: a larger piece of the arena of ONNX Runtime is not begun there.
    assert 1.0 <= memory_needed(size, config, plan) / (network["peak_mb"] * 1e6) <= (1.45 if plan else 1.35)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gigabytes"), [("lite", 2), ("lite", 4), ("lite", 6), ("uni", 4), ("uni", 9)])
def test_a_frame_is_tiled_only_as_much_as_the_memory_asks(name: str, gigabytes: int) -> None:
    config, size, available = KSNetConfig.named(name), FrameSize(540, 960), gigabytes * 10**9
    plan = plan_for_memory(size, config, available, 32)
    if plan is None:
        assert memory_needed(size, config) <= available
        return
    assert memory_needed(size, config, plan) <= available < memory_needed(size, config)
    chosen, whole = plan.tile.height * plan.tile.width, size.height * size.width
    for pixels in range(chosen + 1, whole, 997):
        larger = TilePlan.make(size, pixels, 32)
        assert larger == plan or memory_needed(size, config, larger) > available


def test_too_little_memory_for_any_tiles_is_said() -> None:
    with pytest.raises(ConfigError, match=r"needs 13\.\d GB .* into the 1\.0 GB that are left for it; free memory"):
        plan_for_memory(FrameSize(540, 960), KSNetConfig.named("uni"), 10**9, 32)


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in ({"proc/meminfo": "MemTotal:  9000000 kB\nMemAvailable:  8000000 kB\n"} | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_container_bounds_the_available_memory(tmp_path: Path) -> None:
    v2 = {
        "proc/self/cgroup": "0::/slice/job\n",
        "sys/fs/cgroup/slice/job/memory.max": "max\n",
        "sys/fs/cgroup/slice/job/memory.current": "400000\n",
        "sys/fs/cgroup/slice/memory.max": "1000000\n",
        "sys/fs/cgroup/slice/memory.current": "600000\n",
        "sys/fs/cgroup/slice/memory.stat": "anon 400000\ninactive_file 50000\n",
    }
    assert available_memory(write_tree(tmp_path / "v2", v2)) == 450_000
    v1 = {
        "proc/self/cgroup": "5:cpu:/job\n4:memory:/docker/not-seen-from-within\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "2100000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 300000\n",
    }
    assert available_memory(write_tree(tmp_path / "v1", v1)) == 200_000
    limits = "Limit                     Soft Limit           Hard Limit           Units\n"
    own = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/limits": f"{limits}Max data size             unlimited            unlimited            bytes\n"
        "Max address space         4096000000           unlimited            bytes\n",
        "proc/self/status": "VmSize:\t 1000000 kB\nVmData:\t  500000 kB\n",
    }
    assert available_memory(write_tree(tmp_path / "ulimit", own)) == 4_096_000_000 - 1_024_000_000
    free = {"proc/self/cgroup": "0::/\n"}
    assert available_memory(write_tree(tmp_path / "free", free)) == 8_000_000 * 1024
    assert available_memory(tmp_path / "no-linux") is None


def test_this_machine_tells_its_memory() -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("not Linux")
    available = available_memory()
    assert available is not None
    assert 0 < available < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def allocate_in_onnx_runtime(arena: bool) -> None:
    import onnx.parser
    import onnxruntime as ort

    graph = "huge (int64[1] shape) => (float[n] y) { y = ConstantOfShape (shape) }"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {graph}')
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena, options.log_severity_level = arena, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"shape": np.array([2**50])})


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: np.empty(2**55),
        lambda: torch.empty(2**55),
        lambda: allocate_in_onnx_runtime(arena=True),
        lambda: allocate_in_onnx_runtime(arena=False),
    ],
    ids=["numpy", "torch", "onnxruntime", "onnxruntime without arena"],
)
def test_a_failed_allocation_is_recognised(allocate: Callable[[], object]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (each library has its own)
        allocate()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (BackendError("CUDA: cuMemAlloc failed with CUDA_ERROR_OUT_OF_MEMORY"), True),
        (BackendError("cudaMalloc failed with cudaErrorMemoryAllocation"), True),
        (BackendError("TensorRT failed: [defaultAllocator.cpp] out of memory"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (RuntimeError("Sizes of tensors must match"), False),
        (InputError("out of memory.mp4 cannot be read as a video"), False),
        (BackendError("cudaGraphLaunch failed with cudaErrorLaunchFailure"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_words_tell_used_up_memory_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
