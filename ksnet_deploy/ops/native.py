"""The CUDA kernels of the custom operators, called from PyTorch without TensorRT.

:func:`align`, :func:`deform_conv2d` and :func:`topk_split` compute what their namesakes in
:mod:`ksnet_deploy.ops.reference` do, the others what ``ops/epilogue.py``, ``network/blocks.py`` and ``network/flow.py``
say, on CUDA tensors, on PyTorch's current stream, without a gradient. The operators and :func:`warp` take tensors with
channels first or last, and results lie as the first input does; the others give channels last, but for the flow of
:func:`flow_input`. They need the kernel library (:func:`ksnet_deploy.ops.library.build_plugins`).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.ops.kernel_params import Filled, Result
from ksnet_deploy.ops.kernel_structs import (
    AlignParams,
    ConcatenateParams,
    DeformConvParams,
    EpilogueParams,
    FlowInputParams,
    NarrowConvParams,
    PictureParams,
    TopKSplitParams,
    WarpParams,
)
from ksnet_deploy.ops.library import BUILD_KERNELS, find_kernel_library
from ksnet_deploy.ops.reference import Split

__all__ = [
    "KernelLibrary",
    "align",
    "concatenate",
    "deform_conv2d",
    "epilogue",
    "flow_input",
    "kernel_library",
    "narrow_conv",
    "picture",
    "topk_split",
    "warp",
]

INTERFACE = 3
"""Number of the launchers' parameters, as plugins/common/c_interface.cpp has it; another one with every change."""
_ALIGNMENT = 32  # of the workspace, in bytes
_PARAMS = {"align": AlignParams, "deform_conv": DeformConvParams, "topk_split": TopKSplitParams}
"""The launchers with a workspace, by their names without the prefix."""
_WITHOUT_WORKSPACE = {
    "concatenate": ConcatenateParams,
    "epilogue": EpilogueParams,
    "flow_input": FlowInputParams,
    "narrow_conv": NarrowConvParams,
    "picture": PictureParams,
    "warp": WarpParams,
}


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
            found = self._library.ksnet_interface()
            if found != INTERFACE:
                raise AttributeError(f"its interface is number {found}, and {INTERFACE} is expected")
            # Kept, because a library makes a new function at every [name], which would know nothing of these types and
            # pass a stream's address as 32 bits.
            self._launchers = {name: self._library[f"ksnet_{name}"] for name in _PARAMS | _WITHOUT_WORKSPACE}
            for name, params in (_PARAMS | _WITHOUT_WORKSPACE).items():
                launcher = self._launchers[name]
                launcher.argtypes, launcher.restype = [ctypes.POINTER(params), ctypes.c_void_p], ctypes.c_int
            self._workspaces = {name: self._library[f"ksnet_{name}_workspace"] for name in _PARAMS}
            for name, params in _PARAMS.items():
                workspace = self._workspaces[name]
                workspace.argtypes, workspace.restype = [ctypes.POINTER(params)], ctypes.c_size_t
            self._library.ksnet_narrow_conv_runs.restype = ctypes.c_int
            self._library.ksnet_error_string.argtypes = [ctypes.c_int]
            self._library.ksnet_error_string.restype = ctypes.c_char_p
        except (OSError, AttributeError) as error:
            raise BackendError(f"{path} is not a usable kernel library ({error}); {BUILD_KERNELS}") from error

    def deform_conv2d(
        self, x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor, mask: Tensor, *, stream: int
    ) -> Tensor:
        """Launch :func:`deform_conv2d` on the stream."""
        return self._run("deform_conv", Filled.deform_conv(x, weight, offset, bias, mask), x.device, stream)

    def align(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        raw: Tensor,
        flow: Tensor | None = None,
        *,
        stride: int = 1,
        stream: int,
    ) -> Tensor:
        """Launch :func:`align` on the stream."""
        return self._run("align", Filled.align(x, weight, bias, raw, flow, stride), x.device, stream)

    def topk_split(
        self, f: Tensor, o: Tensor, lam: Tensor, k: int, *, channels: int | None = None, stream: int
    ) -> Split:
        """Launch :func:`topk_split` on the stream."""
        return self._run("topk_split", Filled.topk_split(f, o, lam, k, channels), f.device, stream)

    def concatenate(self, *parts: Tensor, stream: int) -> Tensor:
        """Launch :func:`concatenate` on the stream."""
        while len(parts) > ConcatenateParams.MOST:
            first = self.concatenate(*parts[: ConcatenateParams.MOST], stream=stream)
            parts = (first, *parts[ConcatenateParams.MOST :])
        return self._run("concatenate", Filled.concatenate(parts), parts[0].device, stream)

    def epilogue(
        self,
        x: Tensor,
        bias: Tensor,
        *,
        slope: float = 1.0,
        skip: Tensor | None = None,
        shuffle: int = 1,
        stream: int,
    ) -> Tensor:
        """Launch :func:`epilogue` on the stream."""
        return self._run("epilogue", Filled.epilogue(x, bias, slope, skip, shuffle), x.device, stream)

    def flow_input(
        self,
        image: Tensor,
        reference: Tensor,
        coarse: Tensor | None = None,
        correction: Tensor | None = None,
        *,
        dtype: torch.dtype,
        stream: int,
    ) -> tuple[Tensor, Tensor]:
        """Launch :func:`flow_input` on the stream."""
        filled = Filled.flow_input(image, reference, coarse, correction, dtype)
        return self._run("flow_input", filled, image.device, stream)

    def narrow_conv(
        self, x: Tensor, bias: Tensor, weight: Tensor, out_bias: Tensor, *, slope: float, stream: int
    ) -> Tensor:
        """Launch :func:`narrow_conv` on the stream."""
        filled = Filled.narrow_conv(x, bias, weight, out_bias, slope)
        return self._run("narrow_conv", filled, x.device, stream)

    def narrow_conv_runs(self) -> bool:
        """Tell whether :func:`narrow_conv` runs on the current device."""
        return bool(self._library.ksnet_narrow_conv_runs())

    def picture(self, lr: Tensor, residual: Tensor, *, dtype: torch.dtype = torch.float32, stream: int) -> Tensor:
        """Launch :func:`picture` on the stream."""
        return self._run("picture", Filled.picture(lr, residual, dtype), lr.device, stream)

    def warp(self, x: Tensor, flow: Tensor, padding_mode: str = "zeros", *, stream: int) -> Tensor:
        """Launch :func:`warp` on the stream."""
        return self._run("warp", Filled.warp(x, flow, padding_mode), x.device, stream)

    def _run(self, name: str, filled: Filled[Result], device: torch.device, stream: int) -> Result:
        params = ctypes.byref(filled.params)
        if name in _PARAMS:
            size = self._workspaces[name](params)
            # PyTorch's allocator knows the current stream: the memory is not given to other work on it too early.
            workspace = torch.empty(size + _ALIGNMENT, dtype=torch.uint8, device=device)
            filled.put_workspace((workspace.data_ptr() + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT)
        error = self._launchers[name](params, stream)
        if error:
            reason = self._library.ksnet_error_string(error).decode()
            raise BackendError(
                f"{name}: the launch failed ({reason}); see the limits in plugins/{name}/{name}.h, "
                "and that the library was built for this GPU"
            )
        return filled.result


def deform_conv2d(x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Modulated deformable convolution on the GPU; arguments and result as in the reference, float32 or float16.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    return _launched(KernelLibrary.deform_conv2d, x, weight, offset, bias, mask)


def align(
    x: Tensor, weight: Tensor, bias: Tensor, raw: Tensor, flow: Tensor | None = None, *, stride: int = 1
) -> Tensor:
    """Flow-guided deformable alignment on the GPU, in one kernel; arguments and result as in the reference, float32 or
    float16.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    return _launched(KernelLibrary.align, x, weight, bias, raw, flow, stride=stride)


def topk_split(
    f: Tensor, o: Tensor, lam: Tensor, k: int, *, ranked: bool = False, channels: int | None = None
) -> Split:
    """Split the channels on the GPU; arguments and result as in the reference, float32 or float16, not ``ranked``; with
    ``channels`` as :func:`ksnet_deploy.ops.padding.padded_split`.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit, or k is out of range.
    """
    if ranked:
        raise ValueError("the native topk_split gives channels in ascending order, not ranked")
    return _launched(KernelLibrary.topk_split, f, o, lam, k, channels=channels)


def concatenate(*parts: Tensor) -> Tensor:
    """The tensors (N, C, H, W), all of float32 or of float16, beside one another along their channels, on the GPU; the
    result has its channels last.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    return _launched(KernelLibrary.concatenate, *parts)


def epilogue(x: Tensor, bias: Tensor, *, slope: float = 1.0, skip: Tensor | None = None, shuffle: int = 1) -> Tensor:
    """The epilogue of a convolution, on the GPU, in one kernel; arguments and result as in
    :func:`ksnet_deploy.ops.epilogue.epilogue`, float32 or float16, channels last. It may write over x.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    return _launched(KernelLibrary.epilogue, x, bias, slope=slope, skip=skip, shuffle=shuffle)


def flow_input(
    image: Tensor,
    reference: Tensor,
    coarse: Tensor | None = None,
    correction: Tensor | None = None,
    *,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Input of a level of SpyNet, channels last, and the flow in it, on the GPU, in one kernel; arguments and result as
    in :func:`ksnet_deploy.network.flow.flow_input`, the dtype float32 or float16.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    return _launched(KernelLibrary.flow_input, image, reference, coarse, correction, dtype=dtype)


def narrow_conv(x: Tensor, bias: Tensor, weight: Tensor, out_bias: Tensor, *, slope: float) -> Tensor:
    """Bias and leaky ReLU of x, and a convolution of that to few channels, on the GPU, in one kernel on tensor cores;
    arguments and result as in :func:`ksnet_deploy.ops.epilogue.narrow_conv`, float16, channels last. It runs where
    :meth:`KernelLibrary.narrow_conv_runs`: from compute capability 8.0 on, by a library that was built for such.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    return _launched(KernelLibrary.narrow_conv, x, bias, weight, out_bias, slope=slope)


def picture(lr: Tensor, residual: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The HR frame, on the GPU, in one kernel; arguments and result as in
    :class:`ksnet_deploy.network.blocks.BicubicUpsample`, the residual float32 or float16, the result channels last; of
    ``dtype`` uint8 it is clamped to [0, 1], times 255 and rounded, as a frame is encoded.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    return _launched(KernelLibrary.picture, lr, residual, dtype=dtype)


def warp(x: Tensor, flow: Tensor, padding_mode: str = "zeros") -> Tensor:
    """Motion compensation on the GPU; arguments and result as in :func:`ksnet_deploy.network.flow.warp`, float32 or
    float16.

    Raises:
        BackendError: no kernel library, no CUDA tensor, or a failed launch.
        ValueError: a shape or the type does not fit.
    """
    return _launched(KernelLibrary.warp, x, flow, padding_mode)


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


def _launched(method: Callable[..., Result], *given: object, **options: object) -> Result:
    """The result of a method of the library, on the current stream of the one device that all tensors are on."""
    tensors = [value for value in (*given, *options.values()) if isinstance(value, Tensor)]
    _check_device(*tensors)
    with torch.cuda.device(tensors[0].device):
        return method(kernel_library(), *given, **options, stream=torch.cuda.current_stream().cuda_stream)


def _check_device(*tensors: Tensor) -> None:
    devices = {tensor.device for tensor in tensors}
    if len(devices) != 1 or not tensors[0].is_cuda:
        found = ", ".join(sorted(map(str, devices)))
        raise BackendError(f"the native kernels need all tensors on one CUDA device; found {found}")
