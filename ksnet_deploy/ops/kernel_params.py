"""Parameters of the CUDA kernels' launchers, filled from tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.ops.epilogue import check_epilogue_shapes, check_narrow_shapes
from ksnet_deploy.ops.kernel_structs import (
    AlignParams,
    ConcatenateParams,
    Deformable,
    DeformConvParams,
    EpilogueParams,
    FlowInputParams,
    Layout,
    NarrowConvParams,
    PictureParams,
    TopKSplitParams,
    WarpParams,
)
from ksnet_deploy.ops.padding import VECTOR
from ksnet_deploy.ops.reference import Split, check_align_shapes, check_deform_shapes, check_split_shapes

__all__ = ["Filled", "Result"]

COLOURS = 3
_STORAGE = {torch.float32: 0, torch.float16: 1}


Result = TypeVar("Result")


class Filled(Generic[Result]):
    """A launcher's struct, with the tensors whose memory it points to; these must live until it was launched.

    The operators and the warp take tensors as they lie in memory, channels first or last, and give results that lie as
    the first input does; what else there is takes and gives channels last, but for flows and the frames beside them.

    Raises ValueError on construction where a tensor has 2^31 elements or more: the structs' fields have 32 bits, and
    ctypes would cut a number to them.
    """

    def __init__(self, params: ctypes.Structure, result: Result, kept: list[Tensor]) -> None:
        if (most := max(tensor.numel() for tensor in kept)) >= 2**31:
            raise ValueError(
                f"a tensor of {most} elements is too large for the native kernels, which count to 2^31 - 1"
            )
        self.params = params
        self.result = result
        """Tensor or tensors that the launch writes."""
        self._kept = kept

    def put_workspace(self, address: int) -> None:
        """Tell the launcher where its workspace is."""
        getattr(self.params, "common", self.params).workspace = address

    @staticmethod
    def deform_conv(x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor, mask: Tensor) -> Filled[Tensor]:
        """Parameters for the arguments of :func:`ksnet_deploy.ops.reference.deform_conv2d`.

        Raises ValueError where they do not fit."""
        groups = check_deform_shapes(x, weight, offset, bias, mask)
        common, y, kept = _deformable(x, weight, bias, groups)
        offset, offset_layout = _placed(offset.float())
        mask, mask_layout = _placed(mask.to(x.dtype))
        params = DeformConvParams(common, offset.data_ptr(), mask.data_ptr(), offset_layout, mask_layout)
        return Filled(params, y, [*kept, offset, mask])

    @staticmethod
    def align(x: Tensor, weight: Tensor, bias: Tensor, raw: Tensor, flow: Tensor | None, stride: int) -> Filled[Tensor]:
        """Parameters for the arguments of :func:`ksnet_deploy.ops.reference.align`.

        Raises ValueError where they do not fit."""
        groups = check_align_shapes(x, weight, bias, raw, flow, stride)
        common, y, kept = _deformable(x, weight, bias, groups)
        raw, raw_layout = _placed(raw.to(x.dtype))
        params = AlignParams(common, raw.data_ptr(), None, raw_layout, stride=stride)
        kept.append(raw)
        if flow is not None:
            flow, params.flow_layout = _placed(flow.float())
            params.flow, params.flows = flow.data_ptr(), flow.shape[1] // 2
            kept.append(flow)
        return Filled(params, y, kept)

    @staticmethod
    def topk_split(f: Tensor, o: Tensor, lam: Tensor, k: int, channels: int | None = None) -> Filled[Split]:
        """Parameters for the arguments of :func:`ksnet_deploy.ops.reference.topk_split`. With ``channels``, only
        so many of f count, which has its channels last; f and both parts hold the next multiple of eight then.

        Raises ValueError where they do not fit."""
        n, c, h, w = f.shape
        multiple = 1 if channels is None else VECTOR
        c = c if channels is None else channels
        check_split_shapes(f[:, :c], o, lam, k)
        kind = _storage(f)
        f, f_layout = _placed(f if channels is None else f.contiguous(memory_format=torch.channels_last))
        con_channels, dis_channels = (count + -count % multiple for count in (k, c - k))
        if channels is not None and f.shape[1] != c + -c % multiple:
            raise ValueError(
                f"topk_split: f has {f.shape[1]} channels, of which {c} count; {c + -c % multiple} fit them"
            )
        o, lam = o.float().contiguous(), lam.float().contiguous()
        con, con_layout = _empty(f, f_layout, con_channels)
        dis, dis_layout = _empty(f, f_layout, dis_channels)
        tensors = [f, o, lam, con, dis]
        layouts = f_layout, con_layout, dis_layout
        params = TopKSplitParams(*(t.data_ptr() for t in tensors), None, *layouts, n, c, k, multiple, h, w, kind)
        return Filled(params, Split(con, dis), tensors)

    @staticmethod
    def concatenate(parts: Sequence[Tensor]) -> Filled[Tensor]:
        """Parameters for channels-last tensors (N, C, H, W) of one type, to be put beside one another.

        Raises ValueError where they do not fit."""
        n, _, h, w = parts[0].shape
        shapes = [tuple(part.shape) for part in parts]
        same = all((*s[:1], *s[2:]) == (n, h, w) for s in shapes) and len({part.dtype for part in parts}) == 1
        if len(parts) > ConcatenateParams.MOST or not same:
            raise ValueError(f"concatenate: {len(parts)} tensors {shapes} do not fit; up to 8 of one size and type do")
        parts, last = [part.contiguous(memory_format=torch.channels_last) for part in parts], torch.channels_last
        channels = [part.shape[1] for part in parts]
        y = torch.empty((n, sum(channels), h, w), dtype=parts[0].dtype, device=parts[0].device, memory_format=last)
        params = ConcatenateParams(y=y.data_ptr(), pixels=n * h * w, type=_storage(y))
        params.parts[: len(parts)] = [part.data_ptr() for part in parts]
        params.channels[: len(parts)] = channels
        return Filled(params, y, [*parts, y])

    @staticmethod
    def epilogue(x: Tensor, bias: Tensor, slope: float, skip: Tensor | None, shuffle: int) -> Filled[Tensor]:
        """Parameters for the arguments of :func:`ksnet_deploy.ops.epilogue.epilogue`; the result is in x's own memory
        where it has as many channels.

        Raises ValueError where they do not fit."""
        c = check_epilogue_shapes(x, bias, skip, shuffle)
        x = x.contiguous(memory_format=torch.channels_last)
        n, pitch, h, w = x.shape
        shape = (n, c, shuffle * h, shuffle * w)
        in_place = shuffle == 1 and pitch == c
        last = torch.channels_last
        y = x if in_place else torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=last)
        bias = bias.to(x.dtype).contiguous()
        tensors = [x, bias, y]
        params = EpilogueParams(x.data_ptr(), bias.data_ptr(), None, y.data_ptr(), n * h, w, pitch, c, shuffle)
        params.slope, params.type = slope, _storage(x)
        if skip is not None:
            skip = skip.to(x.dtype).contiguous(memory_format=torch.channels_last)
            params.skip = skip.data_ptr()
            tensors.append(skip)
        return Filled(params, y, tensors)

    @staticmethod
    def flow_input(
        image: Tensor, reference: Tensor, coarse: Tensor | None, correction: Tensor | None, dtype: torch.dtype
    ) -> Filled[tuple[Tensor, Tensor]]:
        """Parameters for the arguments of :func:`ksnet_deploy.network.flow.flow_input`.

        Raises ValueError where they do not fit."""
        n, _, h, w = image.shape
        full, half = (n, COLOURS, h, w), (n, 2, h / 2, w / 2)
        given = {"image": image, "reference": reference, "coarse": coarse, "correction": correction}
        tensors = {name: tensor for name, tensor in given.items() if tensor is not None}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if found != dict(zip(given, (full, full, half, half)[: len(found)], strict=False)):
            raise ValueError(
                f"flow_input: {found} do not fit; two images and of half their size a flow, a correction do"
            )
        last = torch.channels_last
        seen = torch.empty((n, 2 * COLOURS + 2, h, w), dtype=dtype, device=image.device, memory_format=last)
        flow = torch.empty((n, 2, h, w), dtype=torch.float32, device=image.device)
        params = FlowInputParams(seen=seen.data_ptr(), flow=flow.data_ptr(), batch=n, height=h, width=w)
        params.type = _storage(seen)
        kept = [seen, flow]
        for name, tensor in tensors.items():
            placed, layout = _placed(tensor.to(dtype if name == "correction" else torch.float32))
            setattr(params, name, placed.data_ptr())
            setattr(params, f"{name}_layout", layout)
            kept.append(placed)
        return Filled(params, (seen, flow), kept)

    @staticmethod
    def narrow_conv(x: Tensor, bias: Tensor, weight: Tensor, out_bias: Tensor, slope: float) -> Filled[Tensor]:
        """Parameters for the arguments of :func:`ksnet_deploy.ops.epilogue.narrow_conv`.

        Raises ValueError where they do not fit."""
        check_narrow_shapes(x, bias, weight, out_bias)
        n, c, h, w = x.shape
        outs = len(out_bias)
        if c not in NarrowConvParams.CHANNELS or x.dtype != torch.float16:
            raise ValueError(f"narrow_conv: {c} channels of {x.dtype}; the kernel takes 32 or 64 of float16")
        last = torch.channels_last
        bias, weight, out_bias = (tensor.to(x.dtype).contiguous() for tensor in (bias, weight, out_bias))
        y = torch.empty((n, outs, h, w), dtype=x.dtype, device=x.device, memory_format=last)
        tensors = [x.contiguous(memory_format=last), bias, weight, out_bias, y]
        return Filled(NarrowConvParams(*(t.data_ptr() for t in tensors), n, h, w, c, outs, slope), y, tensors)

    @staticmethod
    def picture(lr: Tensor, residual: Tensor, dtype: torch.dtype) -> Filled[Tensor]:
        """Parameters for the arguments of :class:`ksnet_deploy.network.blocks.BicubicUpsample`, float32 or uint8.

        Raises ValueError where they do not fit."""
        n, c, h, w = lr.shape
        if dtype not in (torch.float32, torch.uint8):
            raise ValueError(f"picture: {dtype} is not made; float32 and uint8 are")
        if c != COLOURS or residual.shape != (n, c, SCALE * h, SCALE * w):
            raise ValueError(f"picture: lr {tuple(lr.shape)} and residual {tuple(residual.shape)} do not fit")
        lr, last = lr.float().contiguous(), torch.channels_last
        residual = residual.contiguous(memory_format=last)
        y = torch.empty(residual.shape, dtype=dtype, device=lr.device, memory_format=last)
        tensors = [residual, lr, y]
        pointers, kind, as_bytes = (t.data_ptr() for t in tensors), _storage(residual), dtype == torch.uint8
        return Filled(PictureParams(*pointers, n, h, w, kind, as_bytes), y, tensors)

    @staticmethod
    def warp(x: Tensor, flow: Tensor, padding_mode: str) -> Filled[Tensor]:
        """Parameters for the arguments of :func:`ksnet_deploy.network.flow.warp`.

        Raises ValueError where they do not fit."""
        n, c, h, w = x.shape
        if flow.shape != (n, 2, h, w) or padding_mode not in ("zeros", "border"):
            raise ValueError(f"warp: a flow {tuple(flow.shape)} and {padding_mode!r} do not fit x {tuple(x.shape)}")
        x, x_layout = _placed(x)
        flow, flow_layout = _placed(flow.float())
        y, y_layout = _empty(x, x_layout, c)
        layouts = (x_layout, flow_layout, y_layout)
        pointers = (x.data_ptr(), flow.data_ptr(), y.data_ptr())
        params = WarpParams(*pointers, *layouts, n, c, h, w, padding_mode == "border", _storage(x))
        return Filled(params, y, [x, flow, y])


def _deformable(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> tuple[Deformable, Tensor, list[Tensor]]:
    kind = _storage(x)
    n, c, h, w = x.shape
    outs = weight.shape[0]
    x, x_layout = _placed(x)
    weight, bias = (tensor.to(x.dtype).contiguous() for tensor in (weight, bias))
    y, y_layout = _empty(x, x_layout, outs)
    tensors = [x, weight, bias, y]
    common = Deformable(
        *(t.data_ptr() for t in tensors), None, x_layout, y_layout, n, c, outs, outs, h, w, groups, kind
    )
    return common, y, tensors


def _empty(like: Tensor, layout: Layout, channels: int) -> tuple[Tensor, Layout]:
    """A new tensor that lies as another does, whose layout is given, with so many channels; and its own layout."""
    n, _, h, w = like.shape
    order = torch.channels_last if layout.channel < layout.pixel else torch.contiguous_format
    return _placed(torch.empty((n, channels, h, w), dtype=like.dtype, device=like.device, memory_format=order))


def _placed(tensor: Tensor) -> tuple[Tensor, Layout]:
    """The tensor (N, C, H, W) and where its elements lie; a copy where its rows do not follow one another."""
    _, _, h, w = tensor.shape
    image, channel, row, column = tensor.stride()
    pixel = column if w > 1 else row
    if (h > 1 and w > 1 and row != w * column) or min(channel, pixel) < 1:
        return _placed(tensor.contiguous())
    return tensor, Layout(image, channel, pixel)


def _storage(tensor: Tensor) -> int:
    try:
        return _STORAGE[tensor.dtype]
    except KeyError:
        raise ValueError(f"the native kernels take float32 or float16, not {tensor.dtype}") from None
