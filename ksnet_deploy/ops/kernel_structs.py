"""Structs of the CUDA kernels' launchers, as the headers below ``plugins/`` declare them."""

from __future__ import annotations

import ctypes

__all__ = [
    "AlignParams",
    "ConcatenateParams",
    "DeformConvParams",
    "Deformable",
    "EpilogueParams",
    "FlowInputParams",
    "Layout",
    "NarrowConvParams",
    "PictureParams",
    "TopKSplitParams",
    "WarpParams",
]


class Layout(ctypes.Structure):
    """``ksnet::Layout`` of plugins/common/layout.h: elements from one image, channel or pixel to the next."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("image", "channel", "pixel"))


class Deformable(ctypes.Structure):
    """``ksnet::Deformable`` of plugins/common/deformable.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "y", "workspace")),
        *((name, Layout) for name in ("x_layout", "y_layout")),
        *((name, ctypes.c_int32) for name in ("batch", "channels", "out_channels", "written_channels")),
        *((name, ctypes.c_int32) for name in ("height", "width", "offset_groups", "type")),
    )


class DeformConvParams(ctypes.Structure):
    """``ksnet::DeformConvParams`` of plugins/deform_conv/deform_conv.h."""

    _fields_ = (
        ("common", Deformable),
        *((name, ctypes.c_void_p) for name in ("offset", "mask")),
        *((name, Layout) for name in ("offset_layout", "mask_layout")),
    )


class AlignParams(ctypes.Structure):
    """``ksnet::AlignParams`` of plugins/align/align.h."""

    _fields_ = (
        ("common", Deformable),
        *((name, ctypes.c_void_p) for name in ("raw", "flow")),
        *((name, Layout) for name in ("raw_layout", "flow_layout")),
        *((name, ctypes.c_int32) for name in ("flows", "stride")),
    )


class TopKSplitParams(ctypes.Structure):
    """``ksnet::TopKSplitParams`` of plugins/topk_split/topk_split.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("f", "o", "lam", "con", "dis", "workspace")),
        *((name, Layout) for name in ("f_layout", "con_layout", "dis_layout")),
        *((name, ctypes.c_int32) for name in ("batch", "channels", "kept", "channel_multiple")),
        *((name, ctypes.c_int32) for name in ("height", "width", "type")),
    )


class ConcatenateParams(ctypes.Structure):
    """``ksnet::ConcatenateParams`` of plugins/concatenate/concatenate.h."""

    MOST = 8
    _fields_ = (
        ("parts", ctypes.c_void_p * MOST),
        ("y", ctypes.c_void_p),
        ("channels", ctypes.c_int32 * MOST),
        *((name, ctypes.c_int32) for name in ("pixels", "type")),
    )


class EpilogueParams(ctypes.Structure):
    """``ksnet::EpilogueParams`` of plugins/epilogue/epilogue.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "bias", "skip", "y")),
        *((name, ctypes.c_int32) for name in ("rows", "width", "pitch", "channels", "shuffle")),
        ("slope", ctypes.c_float),
        ("type", ctypes.c_int32),
    )


class FlowInputParams(ctypes.Structure):
    """``ksnet::FlowInputParams`` of plugins/flow_input/flow_input.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("image", "reference", "coarse", "correction", "seen", "flow")),
        *((f"{name}_layout", Layout) for name in ("image", "reference", "coarse", "correction")),
        *((name, ctypes.c_int32) for name in ("batch", "height", "width", "type")),
    )


class NarrowConvParams(ctypes.Structure):
    """``ksnet::NarrowConvParams`` of plugins/narrow_conv/narrow_conv.h."""

    CHANNELS = (32, 64)
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "bias", "weight", "out_bias", "y")),
        *((name, ctypes.c_int32) for name in ("batch", "height", "width", "channels", "outputs")),
        ("slope", ctypes.c_float),
    )


class PictureParams(ctypes.Structure):
    """``ksnet::PictureParams`` of plugins/picture/picture.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("residual", "lr", "y")),
        *((name, ctypes.c_int32) for name in ("batch", "height", "width", "type", "as_bytes")),
    )


class WarpParams(ctypes.Structure):
    """``ksnet::WarpParams`` of plugins/warp/warp.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "flow", "y")),
        *((name, Layout) for name in ("x_layout", "flow_layout", "y_layout")),
        *((name, ctypes.c_int32) for name in ("batch", "channels", "height", "width", "border", "type")),
    )
