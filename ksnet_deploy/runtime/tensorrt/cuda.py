"""The GPU at hand, through the package that is installed: pycuda where it imports, else NVIDIA's cuda-bindings."""

from __future__ import annotations

from ksnet_deploy.runtime.tensorrt import cuda_pycuda
from ksnet_deploy.runtime.tensorrt.cuda_bindings import BindingsDevice
from ksnet_deploy.runtime.tensorrt.cuda_layer import Device
from ksnet_deploy.runtime.tensorrt.cuda_pycuda import PycudaDevice
from ksnet_deploy.runtime.tensorrt.target import GpuTarget

__all__ = ["compute_capability", "open_device"]


def open_device() -> Device:
    """The GPU that engines run on. Raises BackendError, with the reason, where none can be used."""
    return PycudaDevice() if cuda_pycuda.imports() else BindingsDevice()


def compute_capability() -> GpuTarget:
    """Compute capability of the GPU at hand. Raises BackendError, with the reason, where none can be used."""
    return open_device().target
