"""Names and ONNX function bodies of the two custom operators.

The exported file carries a *function body* for each custom operator, written in standard ONNX operators, so that a
runtime that knows nothing of ``ksnet`` still runs the file, and one that has the native plugin takes its kernel.
This module needs no PyTorch, because running an exported network must not load it, and imports ONNX only where it is
used, because training must not need it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = [
    "DEFORM_CONV",
    "DOMAIN",
    "OPSET",
    "TOPK_SPLIT",
    "VERSION",
    "function_bodies",
    "name_nodes",
    "use_cuda_operators",
    "use_fast_operators",
]

DOMAIN = "ksnet"
VERSION = 1
OPSET = 20
"""Version of the standard ONNX operators in the graph and in the function bodies."""

DEFORM_CONV = "KsDeformConv2d"
TOPK_SPLIT = "KsTopKSplit"
PIXEL_SHUFFLE = "PixelShuffle"

_DEFORM_CONV_STANDARD = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>
{DEFORM_CONV} <offset_group> (x, weight, offset, bias, mask) => (y)
{{
    x_f = Cast <to: int = 1> (x)
    weight_f = Cast <to: int = 1> (weight)
    bias_f = Cast <to: int = 1> (bias)
    mask_f = Cast <to: int = 1> (mask)
    y_f = DeformConv <kernel_shape: ints = [3, 3], pads: ints = [1, 1, 1, 1], offset_group: int = @offset_group>
        (x_f, weight_f, offset, bias_f, mask_f)
    y = CastLike (y_f, x)
}}
"""

# The steps of the PyTorch reference, in float32 between the casts.
_DEFORM_CONV_GRID_SAMPLE = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>
{DEFORM_CONV} <offset_group> (x, weight, offset, bias, mask) => (y)
{{
    g0 = Constant <value_int: int = @offset_group> ()
    axis0 = Constant <value = int64[1] {{0}}> ()
    g = Unsqueeze (g0, axis0)
    n = Shape <start: int = 0, end: int = 1> (x)
    c = Shape <start: int = 1, end: int = 2> (x)
    h = Shape <start: int = 2, end: int = 3> (x)
    w = Shape <start: int = 3, end: int = 4> (x)
    c_out = Shape <start: int = 0, end: int = 1> (weight)
    one = Constant <value = int64[1] {{1}}> ()
    two = Constant <value = int64[1] {{2}}> ()
    taps = Constant <value = int64[1] {{9}}> ()
    ng = Mul (n, g)
    cg = Div (c, g)
    h_taps = Mul (h, taps)
    c_taps = Mul (c, taps)

    delta_shape = Concat <axis: int = 0> (n, g, taps, two, h, w)
    offset_f = Cast <to: int = 1> (offset)
    delta = Reshape (offset_f, delta_shape)
    to_xy = Constant <value = int64[2] {{1, 0}}> ()
    delta_xy = Gather <axis: int = 3> (delta, to_xy)

    i0 = Constant <value_int: int = 0> ()
    i1 = Constant <value_int: int = 1> ()
    h0 = Squeeze (h, axis0)
    w0 = Squeeze (w, axis0)
    y_range = Range (i0, h0, i1)
    x_range = Range (i0, w0, i1)
    y_float = Cast <to: int = 1> (y_range)
    x_float = Cast <to: int = 1> (x_range)
    axes12 = Constant <value = int64[2] {{1, 2}}> ()
    axes02 = Constant <value = int64[2] {{0, 2}}> ()
    axes01 = Constant <value = int64[2] {{0, 1}}> ()
    plane = Concat <axis: int = 0> (one, h, w)
    y_column = Unsqueeze (y_float, axes02)
    x_row = Unsqueeze (x_float, axes01)
    y_plane = Expand (y_column, plane)
    x_plane = Expand (x_row, plane)
    pixels = Concat <axis: int = 0> (x_plane, y_plane)
    tap_x_flat = Constant <value = float[9] {{-1.0, 0.0, 1.0, -1.0, 0.0, 1.0, -1.0, 0.0, 1.0}}> ()
    tap_y_flat = Constant <value = float[9] {{-1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0}}> ()
    tap_x = Unsqueeze (tap_x_flat, one)
    tap_y = Unsqueeze (tap_y_flat, one)
    tap_xy = Concat <axis: int = 1> (tap_x, tap_y)
    axes23 = Constant <value = int64[2] {{2, 3}}> ()
    tap_planes = Unsqueeze (tap_xy, axes23)
    at_rest = Add (pixels, tap_planes)
    p = Add (delta_xy, at_rest)

    f1 = Constant <value_float: float = 1.0> ()
    f2 = Constant <value_float: float = 2.0> ()
    sides = Concat <axis: int = 0> (w, h)
    sides_float = Cast <to: int = 1> (sides)
    sides_xy = Unsqueeze (sides_float, axes12)
    p2 = Mul (p, f2)
    p2_1 = Add (p2, f1)
    p_unit = Div (p2_1, sides_xy)
    p_grid = Sub (p_unit, f1)
    grid_6d = Transpose <perm: ints = [0, 1, 2, 4, 5, 3]> (p_grid)
    grid_shape = Concat <axis: int = 0> (ng, h_taps, w, two)
    grid = Reshape (grid_6d, grid_shape)

    x_shape = Concat <axis: int = 0> (ng, cg, h, w)
    x_f = Cast <to: int = 1> (x)
    x_groups = Reshape (x_f, x_shape)
    sampled = GridSample <mode = "linear", padding_mode = "zeros", align_corners: int = 0> (x_groups, grid)
    sampled_shape = Concat <axis: int = 0> (n, g, cg, taps, h, w)
    sampled_6d = Reshape (sampled, sampled_shape)
    mask_shape = Concat <axis: int = 0> (n, g, one, taps, h, w)
    mask_f = Cast <to: int = 1> (mask)
    mask_6d = Reshape (mask_f, mask_shape)
    modulated_f = Mul (sampled_6d, mask_6d)
    modulated = CastLike (modulated_f, x)
    columns_shape = Concat <axis: int = 0> (n, c_taps, h, w)
    columns = Reshape (modulated, columns_shape)
    weight_shape = Concat <axis: int = 0> (c_out, c_taps, one, one)
    weight_1x1 = Reshape (weight, weight_shape)
    y = Conv <kernel_shape: ints = [1, 1]> (columns, weight_1x1, bias)
}}
"""

# Two sorts: one by score, one that brings both halves back into channel order. In the second the key of a
# channel is its index, plus C when it was not selected.
_TOPK_SPLIT = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>
{TOPK_SPLIT} <k> (f, o, lam) => (con, dis)
{{
    f32 = Cast <to: int = 1> (f)
    o32 = Cast <to: int = 1> (o)
    lam32 = Cast <to: int = 1> (lam)
    pad_right = Constant <value = int64[8] {{0, 0, 0, 0, 0, 0, 0, 1}}> ()
    pad_bottom = Constant <value = int64[8] {{0, 0, 0, 0, 0, 0, 1, 0}}> ()
    one = Constant <value = int64[1] {{1}}> ()
    end = Constant <value = int64[1] {{2147483647}}> ()
    axis2 = Constant <value = int64[1] {{2}}> ()
    axis3 = Constant <value = int64[1] {{3}}> ()
    right_padded = Pad <mode = "edge"> (f32, pad_right)
    right = Slice (right_padded, one, end, axis3)
    bottom_padded = Pad <mode = "edge"> (f32, pad_bottom)
    bottom = Slice (bottom_padded, one, end, axis2)
    dx = Sub (right, f32)
    dy = Sub (bottom, f32)
    dx2 = Mul (dx, dx)
    dy2 = Mul (dy, dy)
    gradient2 = Add (dx2, dy2)
    gradient = Sqrt (gradient2)
    f1 = Constant <value_float: float = 1.0> ()
    rest_weight = Sub (f1, lam32)
    masked = Mul (f32, rest_weight)
    factor = Add (masked, lam32)
    weighted = Mul (gradient, factor)
    o_twice = Add (o32, o32)
    weighted_2o = Sub (weighted, o_twice)
    excess = Mul (weighted, weighted_2o)
    axes23 = Constant <value = int64[2] {{2, 3}}> ()
    scores = ReduceMean <keepdims: int = 0> (excess, axes23)

    c = Shape <start: int = 1, end: int = 2> (f)
    ordered, order = TopK <axis: int = 1, largest: int = 0, sorted: int = 1> (scores, c)
    i0 = Constant <value_int: int = 0> ()
    i1 = Constant <value_int: int = 1> ()
    c0 = Squeeze (c)
    place = Range (i0, c0, i1)
    k0 = Constant <value_int: int = @k> ()
    unselected = GreaterOrEqual (place, k0)
    unselected_i = Cast <to: int = 7> (unselected)
    lift = Mul (unselected_i, c0)
    key = Add (order, lift)
    key_f = Cast <to: int = 1> (key)
    sorted_key_f, unused = TopK <axis: int = 1, largest: int = 0, sorted: int = 1> (key_f, c)
    sorted_key = Cast <to: int = 7> (sorted_key_f)
    channel = Sub (sorted_key, lift)
    last = Constant <value = int64[1] {{-1}}> ()
    index = Unsqueeze (channel, last)
    axis0 = Constant <value = int64[1] {{0}}> ()
    k1 = Unsqueeze (k0, axis0)
    rest = Sub (c, k1)
    sizes = Concat <axis: int = 0> (k1, rest)
    kept, dropped = Split <axis: int = 1> (index, sizes)
    con = GatherND <batch_dims: int = 1> (f, kept)
    dis = GatherND <batch_dims: int = 1> (f, dropped)
}}
"""


_PIXEL_SHUFFLE = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>
{PIXEL_SHUFFLE} <blocksize> (x) => (y)
{{
    block0 = Constant <value_int: int = @blocksize> ()
    axis0 = Constant <value = int64[1] {{0}}> ()
    block = Unsqueeze (block0, axis0)
    n = Shape <start: int = 0, end: int = 1> (x)
    h = Shape <start: int = 2, end: int = 3> (x)
    w = Shape <start: int = 3, end: int = 4> (x)
    rest = Constant <value = int64[1] {{-1}}> ()
    hw = Mul (h, w)
    h_out = Mul (h, block)
    w_out = Mul (w, block)
    phases_shape = Concat <axis: int = 0> (rest, block, hw)
    phases = Reshape (x, phases_shape)
    interleaved = Transpose <perm = [0, 2, 1]> (phases)
    rows_shape = Concat <axis: int = 0> (rest, block, h, w_out)
    rows = Reshape (interleaved, rows_shape)
    woven = Transpose <perm = [0, 2, 1, 3]> (rows)
    y_shape = Concat <axis: int = 0> (n, rest, h_out, w_out)
    y = Reshape (woven, y_shape)
}}
"""


def use_fast_operators(model: onnx.ModelProto) -> None:
    """Put, in memory, what ONNX Runtime is fastest at on a CPU in the place of function bodies and pixel shuffles.

    Its CPU kernel of DepthToSpace took 147 ms for (1, 256, 360, 640) where two transpositions that it has fast paths
    for take 75 ms, with the same result. The file keeps the bodies that every runtime can run.
    """
    import onnx.helper
    import onnx.parser

    use_cuda_operators(model)
    for node in model.graph.node:
        if node.op_type == "DepthToSpace" and any(a.name == "mode" and a.s == b"CRD" for a in node.attribute):
            blocksize = next(a for a in node.attribute if a.name == "blocksize")
            node.CopyFrom(
                onnx.helper.make_node(
                    PIXEL_SHUFFLE, node.input, node.output, node.name, domain=DOMAIN, blocksize=blocksize.i
                )
            )
    model.functions.append(onnx.parser.parse_function(_PIXEL_SHUFFLE))


def use_cuda_operators(model: onnx.ModelProto) -> None:
    """Put ONNX Runtime's deformable convolution in the place of its function body: all that a CUDA device needs, which
    has a kernel of DepthToSpace. Not yet run on a GPU."""
    import onnx.helper

    if DOMAIN not in {opset.domain for opset in model.opset_import}:  # a file with inlined functions
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    del model.functions[:]
    model.functions.extend(function_bodies(native_deform_conv=True))


def function_bodies(*, native_deform_conv: bool) -> list[onnx.FunctionProto]:
    """The function bodies of both operators, in standard ONNX operators.

    Args:
        native_deform_conv: write the deformable convolution as ONNX ``DeformConv`` (four to five times faster in
            ONNX Runtime on a CPU) instead of ``GridSample`` and a 1x1 convolution (which every runtime has).
    """
    import onnx.parser

    deform_conv = _DEFORM_CONV_STANDARD if native_deform_conv else _DEFORM_CONV_GRID_SAMPLE
    functions = [onnx.parser.parse_function(text) for text in (deform_conv, _TOPK_SPLIT)]
    for function in functions:
        name_nodes(function.node)
    return functions


def name_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    """Name every node that has no name after its first output.

    Older versions of ONNX Runtime derive the names of fused nodes from those of the nodes they replace, and refuse
    the graph when two without a name give the same.
    """
    for node in nodes:
        node.name = node.name or node.output[0]
