"""The NVIDIA GPU of this machine, asked of its driver: nothing but the driver need be installed."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

from ksnet_deploy.base.errors import BackendError

__all__ = ["Gpu", "find_gpu", "free_memory"]

DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...`` of NVIDIA's cuda.h."""


@dataclass(frozen=True)
class Gpu:
    """A graphics card."""

    name: str
    """Name that its driver gives it, for example ``NVIDIA GeForce RTX 3080``."""
    sm: int
    """Compute capability, times ten."""
    memory_bytes: int

    def __str__(self) -> str:
        return self.name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def find_gpu() -> Gpu:
    """The first GPU that CUDA shows to this process (``CUDA_VISIBLE_DEVICES`` counts).

    Raises BackendError, with the reason, where there is none.
    """
    try:
        driver = _driver()
    except OSError:
        raise BackendError(f"there is no NVIDIA driver here ({DRIVER} is not found)") from None
    number, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _ask(driver, "cuInit", 0)
    _ask(driver, "cuDeviceGetCount", ctypes.byref(number))
    if not number.value:
        raise BackendError("NVIDIA's driver shows no GPU to this process; see CUDA_VISIBLE_DEVICES and nvidia-smi")
    _ask(driver, "cuDeviceGet", ctypes.byref(device), 0)
    _ask(driver, "cuDeviceGetName", name, len(name), device)
    _ask(driver, "cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
    _ask(driver, "cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
    _ask(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(name.value.decode(errors="replace"), 10 * major.value + minor.value, memory.value)


def free_memory() -> int | None:
    """Bytes that are free on the first GPU; None where its driver does not say.

    They are those of the primary context, which PyTorch, ONNX Runtime and TensorRT use, so that its own are counted.
    """
    try:
        driver = _driver()
        device, context = ctypes.c_int(), ctypes.c_void_p()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        _ask(driver, "cuInit", 0)
        _ask(driver, "cuDeviceGet", ctypes.byref(device), 0)
        _ask(driver, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        try:
            _ask(driver, "cuCtxPushCurrent_v2", context)
            try:
                _ask(driver, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
            finally:
                _ask(driver, "cuCtxPopCurrent_v2", ctypes.byref(context))
        finally:
            _ask(driver, "cuDevicePrimaryCtxRelease_v2", device)
    except (OSError, AttributeError, BackendError):
        return None
    return free.value


def _driver() -> Any:
    return ctypes.CDLL(DRIVER)


def _ask(driver: Any, function: str, *arguments: Any) -> None:
    status = getattr(driver, function)(*arguments)
    if status:
        raise BackendError(f"NVIDIA's driver finds no usable GPU ({function} gives {status}); see nvidia-smi")
