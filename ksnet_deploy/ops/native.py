"""The CUDA kernels of the two custom operators, called from PyTorch without TensorRT.

:func:`deform_conv2d` and :func:`topk_split` compute what their namesakes in :mod:`ksnet_deploy.ops.reference` do, on
CUDA tensors, on PyTorch's current stream, without a gradient. They need the kernel library
(:func:`ksnet_deploy.ops.library.build_plugins`). Not yet run on a GPU.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.ops import reference
from ksnet_deploy.ops.library import BUILD_KERNELS, find_kernel_library
from ksnet_deploy.ops.reference import Split, check_deform_shapes, check_split_shapes

__all__ = ["KernelLibrary", "align", "deform_conv2d", "kernel_library", "topk_split"]

_STORAGE = {torch.float32: 0, torch.float16: 1}
_ALIGNMENT = 32  # of the workspace, in bytes


class DeformConvParams(ctypes.Structure):
    """``ksnet::DeformConvParams`` of plugins/deform_conv/deform_conv.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "weight", "offset", "bias", "mask", "y", "workspace")),
        *(
            (name, ctypes.c_int32)
            for name in ("batch", "channels", "out_channels", "height", "width", "offset_groups", "type")
        ),
    )


class TopKSplitParams(ctypes.Structure):
    """``ksnet::TopKSplitParams`` of plugins/topk_split/topk_split.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("f", "o", "lam", "con", "dis", "workspace")),
        *((name, ctypes.c_int32) for name in ("batch", "channels", "kept", "height", "width", "type")),
    )


class KernelLibrary:
    """A loaded kernel library; its methods enqueue on the given stream of the tensors' device.

    Args:
        path: libksnet_kernels.so, or libksnet_plugins.so, which holds the same functions.

    Raises:
        BackendError: the library cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
            for name, params in (("deform_conv", DeformConvParams), ("topk_split", TopKSplitParams)):
                launcher, workspace = self._library[f"ksnet_{name}"], self._library[f"ksnet_{name}_workspace"]
                launcher.argtypes, launcher.restype = [ctypes.POINTER(params), ctypes.c_void_p], ctypes.c_int
                workspace.argtypes, workspace.restype = [ctypes.POINTER(params)], ctypes.c_size_t
            self._library.ksnet_error_string.argtypes = [ctypes.c_int]
            self._library.ksnet_error_string.restype = ctypes.c_char_p
        except (OSError, AttributeError) as error:
            raise BackendError(f"{path} is not a usable kernel library ({error}); {BUILD_KERNELS}") from error

    def deform_conv2d(
        self, x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor, mask: Tensor, *, stream: int
    ) -> Tensor:
        """Launch :func:`deform_conv2d` on the stream."""
        groups = check_deform_shapes(x, weight, offset, bias, mask)
        n, c, h, w = x.shape
        x, offset = x.contiguous(), offset.float().contiguous()
        weight, bias, mask = (tensor.to(x.dtype).contiguous() for tensor in (weight, bias, mask))
        y = x.new_empty(n, weight.shape[0], h, w)
        params = DeformConvParams(
            *(tensor.data_ptr() for tensor in (x, weight, offset, bias, mask, y)),
            batch=n,
            channels=c,
            out_channels=weight.shape[0],
            height=h,
            width=w,
            offset_groups=groups,
            type=_storage(x),
        )
        self._run("deform_conv", params, x.device, stream)
        return y

    def topk_split(self, f: Tensor, o: Tensor, lam: Tensor, k: int, *, stream: int) -> Split:
        """Launch :func:`topk_split` on the stream."""
        check_split_shapes(f, o, lam, k)
        n, c, h, w = f.shape
        f, o, lam = f.contiguous(), o.float().contiguous(), lam.float().contiguous()
        split = Split(f.new_empty(n, k, h, w), f.new_empty(n, c - k, h, w))
        params = TopKSplitParams(
            *(tensor.data_ptr() for tensor in (f, o, lam, *split)),
            batch=n,
            channels=c,
            kept=k,
            height=h,
            width=w,
            type=_storage(f),
        )
        self._run("topk_split", params, f.device, stream)
        return split

    def _run(self, name: str, params: Any, device: torch.device, stream: int) -> None:
        size = self._library[f"ksnet_{name}_workspace"](ctypes.byref(params))
        # PyTorch's allocator knows the current stream: the memory is not given to other work on it too early.
        workspace = torch.empty(size + _ALIGNMENT, dtype=torch.uint8, device=device)
        params.workspace = (workspace.data_ptr() + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
        error = self._library[f"ksnet_{name}"](ctypes.byref(params), stream)
        if error:
            reason = self._library.ksnet_error_string(error).decode()
            raise BackendError(
                f"{name}: the launch failed ({reason}); see the limits in plugins/{name}/README.md, "
                "and that the library was built for this GPU"
            )


def deform_conv2d(x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Modulated deformable convolution on the GPU; arguments and result as in the reference, float32 or float16.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    _check_device(x, weight, offset, bias, mask)
    with torch.cuda.device(x.device):
        stream = torch.cuda.current_stream().cuda_stream
        return kernel_library().deform_conv2d(x, weight, offset, bias, mask, stream=stream)


def align(
    x: Tensor, weight: Tensor, bias: Tensor, raw: Tensor, flow: Tensor | None = None, *, stride: int = 1
) -> Tensor:
    """Flow-guided deformable alignment on the GPU, its deformable convolution in :func:`deform_conv2d`; arguments and
    result as in the reference.

    Raises:
        BackendError, ValueError: as there.
    """
    return reference.align(x, weight, bias, raw, flow, stride=stride, deform=deform_conv2d)


def topk_split(f: Tensor, o: Tensor, lam: Tensor, k: int, *, ranked: bool = False) -> Split:
    """Split the channels on the GPU; arguments and result as in the reference, float32 or float16, not ``ranked``.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit, or k is out of range.
    """
    if ranked:
        raise ValueError("the native topk_split gives channels in ascending order, not ranked")
    _check_device(f, o, lam)
    with torch.cuda.device(f.device):
        return kernel_library().topk_split(f, o, lam, k, stream=torch.cuda.current_stream().cuda_stream)


@functools.cache
def kernel_library() -> KernelLibrary:
    """The library that :func:`ksnet_deploy.ops.library.find_kernel_library` finds, loaded once.

    Raises:
        BackendError: there is none, or it cannot be loaded.
    """
    path = find_kernel_library()
    if path is None:
        raise BackendError(f"the kernel library is not on this machine; {BUILD_KERNELS}")
    return KernelLibrary(path)


def _storage(tensor: Tensor) -> int:
    try:
        return _STORAGE[tensor.dtype]
    except KeyError:
        raise ValueError(f"the native kernels take float32 or float16, not {tensor.dtype}") from None


def _check_device(*tensors: Tensor) -> None:
    devices = {tensor.device for tensor in tensors}
    if len(devices) != 1 or not tensors[0].is_cuda:
        found = ", ".join(sorted(map(str, devices)))
        raise BackendError(f"the native kernels need all tensors on one CUDA device; found {found}")
