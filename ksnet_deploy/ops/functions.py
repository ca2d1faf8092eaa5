"""Names and ONNX function bodies of the custom operators.

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
    "ALIGN",
    "DEFORM_CONV",
    "DOMAIN",
    "MAX_RESIDUAL_OFFSET_PX",
    "OPSET",
    "SPLIT_OF_GRADIENTS",
    "TOPK_SPLIT",
    "VERSION",
    "function_bodies",
    "name_nodes",
    "split_of_gradients",
]

DOMAIN = "ksnet"
VERSION = 1
OPSET = 20
"""Version of the standard ONNX operators in the graph and in the function bodies."""

ALIGN = "KsAlign"
DEFORM_CONV = "KsDeformConv2d"
TOPK_SPLIT = "KsTopKSplit"
SPLIT_OF_GRADIENTS = f"{TOPK_SPLIT}OfGradients"
"""Split that some runtimes have in memory and no file has."""

MAX_RESIDUAL_OFFSET_PX = 10.0
"""Bound of the offsets that the alignment adds to the flow."""

_ALIGN_HEAD = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}, "{DOMAIN}": {VERSION}]>
{ALIGN} <offset_group, offset_stride> (x, weight, bias, raw, flow) => (y)
{{
    zero = Constant <value = int64[1] {{0}}> ()
    one = Constant <value = int64[1] {{1}}> ()
    two = Constant <value = int64[1] {{2}}> ()
    taps = Constant <value = int64[1] {{9}}> ()
    end = Constant <value = int64[1] {{2147483647}}> ()
    bound = Constant <value_float: float = {MAX_RESIDUAL_OFFSET_PX}> ()
    g0 = Constant <value_int: int = @offset_group> ()
    g = Unsqueeze (g0, zero)
    g_taps = Mul (g, taps)
    offset_channels = Mul (g_taps, two)
    n = Shape <start: int = 0, end: int = 1> (x)
    h = Shape <start: int = 2, end: int = 3> (x)
    w = Shape <start: int = 3, end: int = 4> (x)
    raw_offset = Slice (raw, zero, offset_channels, one)
    raw_offset_f = Cast <to: int = 1> (raw_offset)
    tanh = Tanh (raw_offset_f)
    predicted_offset = Mul (tanh, bound)
    raw_mask = Slice (raw, offset_channels, end, one)
    predicted_mask = Sigmoid (raw_mask)
"""
# A slice to the end is one that ONNX Runtime leaves out.
_ALIGN_ENLARGED = """
    scales = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()
    zeros = Constant <value = int64[2] {0, 0}> ()
    axes23 = Constant <value = int64[2] {2, 3}> ()
    sides = Shape <start: int = 2> (x)
    raw_sides = Shape <start: int = 2> (raw)
    enlarged_sides = Mul (raw_sides, two)
    whole = Equal (enlarged_sides, sides)
    to_the_end = Constant <value = int64[1] {9223372036854775807}> ()
    ends = Where (whole, to_the_end, sides)
    enlarged_offset = Resize <mode = "linear"> (predicted_offset, , scales)
    enlarged_mask = Resize <mode = "linear"> (predicted_mask, , scales)
    residual = Slice (enlarged_offset, zeros, ends, axes23)
    mask = Slice (enlarged_mask, zeros, ends, axes23)
"""
_ALIGN_AT_EVERY_PIXEL = """
    residual = Identity (predicted_offset)
    mask = Identity (predicted_mask)
"""
_ALIGN_GUIDED = """
    flow_channels = Shape <start: int = 1, end: int = 2> (flow)
    flows = Div (flow_channels, two)
    taps_of_flow = Div (g_taps, flows)
    offset_shape = Concat <axis: int = 0> (n, offset_channels, h, w)
    residual_shape = Concat <axis: int = 0> (n, flows, taps_of_flow, two, h, w)
    flow_shape = Concat <axis: int = 0> (n, flows, one, two, h, w)
    residual_6d = Reshape (residual, residual_shape)
    flow_6d = Reshape (flow, flow_shape)
    guided = Add (residual_6d, flow_6d)
    offset = Reshape (guided, offset_shape)
"""
_ALIGN_AT_REST = """
    offset = Identity (residual)
"""
_ALIGN_TAIL = f"""
    y = {DOMAIN}.{DEFORM_CONV} <offset_group: int = @offset_group> (x, weight, offset, bias, mask)
}}
"""

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
_SPLIT_HEAD = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>
{TOPK_SPLIT} <k> (f, o, lam) => (con, dis)
{{
    f32 = Cast <to: int = 1> (f)
    o32 = Cast <to: int = 1> (o)
    lam32 = Cast <to: int = 1> (lam)
"""
_SPLIT_GRADIENT = """
    pad_right = Constant <value = int64[8] {0, 0, 0, 0, 0, 0, 0, 1}> ()
    pad_bottom = Constant <value = int64[8] {0, 0, 0, 0, 0, 0, 1, 0}> ()
    one = Constant <value = int64[1] {1}> ()
    end = Constant <value = int64[1] {2147483647}> ()
    axis2 = Constant <value = int64[1] {2}> ()
    axis3 = Constant <value = int64[1] {3}> ()
    right_padded = Pad <mode = "edge"> (f32, pad_right)
    right = Slice (right_padded, one, end, axis3)
    bottom_padded = Pad <mode = "edge"> (f32, pad_bottom)
    bottom = Slice (bottom_padded, one, end, axis2)
    dx = Sub (right, f32)
    dy = Sub (bottom, f32)
    dx2 = Mul (dx, dx)
    dy2 = Mul (dy, dy)
    gradient2 = Add (dx2, dy2)
"""
_SPLIT_TAIL = """
    gradient = Sqrt (gradient2)
    f1 = Constant <value_float: float = 1.0> ()
    rest_weight = Sub (f1, lam32)
    masked = Mul (f32, rest_weight)
    factor = Add (masked, lam32)
    weighted = Mul (gradient, factor)
    o_twice = Add (o32, o32)
    weighted_2o = Sub (weighted, o_twice)
    excess = Mul (weighted, weighted_2o)
    axes23 = Constant <value = int64[2] {2, 3}> ()
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
    last = Constant <value = int64[1] {-1}> ()
    index = Unsqueeze (channel, last)
    axis0 = Constant <value = int64[1] {0}> ()
    k1 = Unsqueeze (k0, axis0)
    rest = Sub (c, k1)
    sizes = Concat <axis: int = 0> (k1, rest)
    kept, dropped = Split <axis: int = 1> (index, sizes)
    con = GatherND <batch_dims: int = 1> (f, kept)
    dis = GatherND <batch_dims: int = 1> (f, dropped)
}
"""
_TOPK_SPLIT = _SPLIT_HEAD + _SPLIT_GRADIENT + _SPLIT_TAIL


def function_bodies(nodes: Iterable[onnx.NodeProto] = (), *, native_deform_conv: bool) -> list[onnx.FunctionProto]:
    """The function bodies of the operators.

    Args:
        nodes: of the graph; the alignment has a body where one of them is an alignment, and that for its kind: a
            function cannot leave nodes out by an attribute. All alignments of a network are of one kind. The split
            has one where one of them is a split, or where none are given.
        native_deform_conv: write the deformable convolution as ONNX ``DeformConv`` (four to five times faster in
            ONNX Runtime on a CPU) instead of ``GridSample`` and a 1x1 convolution (which every runtime has).
    """
    import onnx.parser

    nodes = list(nodes)
    texts = [_DEFORM_CONV_STANDARD if native_deform_conv else _DEFORM_CONV_GRID_SAMPLE]
    if not nodes or any((node.domain, node.op_type) == (DOMAIN, TOPK_SPLIT) for node in nodes):
        texts.append(_TOPK_SPLIT)
    texts.extend({_align_body(node) for node in nodes if (node.domain, node.op_type) == (DOMAIN, ALIGN)})
    functions = [onnx.parser.parse_function(text) for text in texts]
    for function in functions:
        name_nodes(function.node)
    return functions


def split_of_gradients() -> onnx.FunctionProto:
    """Function body of the split as :data:`SPLIT_OF_GRADIENTS`, which is given the squared gradients: (f, gradient2, o,
    lam) to (con, dis)."""
    import onnx.parser

    head = _SPLIT_HEAD.replace(TOPK_SPLIT, SPLIT_OF_GRADIENTS).replace("(f, o,", "(f, gradient2, o,")
    function = onnx.parser.parse_function(head + _SPLIT_TAIL)
    name_nodes(function.node)
    return function


def _align_body(node: onnx.NodeProto) -> str:
    stride = next(attribute.i for attribute in node.attribute if attribute.name == "offset_stride")
    guided = len(node.input) == 5
    return "".join(
        (
            _ALIGN_HEAD if guided else _ALIGN_HEAD.replace("raw, flow) =>", "raw) =>"),
            _ALIGN_ENLARGED if stride == 2 else _ALIGN_AT_EVERY_PIXEL,
            _ALIGN_GUIDED if guided else _ALIGN_AT_REST,
            _ALIGN_TAIL,
        )
    )


def name_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    """Name every node that has no name after its first output.

    Older versions of ONNX Runtime derive the names of fused nodes from those of the nodes they replace, and refuse
    the graph when two without a name give the same.
    """
    for node in nodes:
        node.name = node.name or node.output[0]
