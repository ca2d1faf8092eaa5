"""Nodes that one device's runtime is fastest at, put into an exported step in memory; the file stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ksnet_deploy.ops.functions import ALIGN, DOMAIN, OPSET, VERSION, function_bodies

if TYPE_CHECKING:
    import onnx

__all__ = ["SHUFFLE_LAST", "aligns_in", "attribute", "leave_alignment", "use_cuda_operators", "use_fast_operators"]

SHUFFLE_LAST = "BlockShuffleLast"
"""Operator of the pixel shuffle of ONNX's mode ``DCR`` for a tensor with its channels last, and of any type."""

_PIXEL_SHUFFLE = """<blocksize> (x) => (y)
{
    block0 = Constant <value_int: int = @blocksize> ()
    axis0 = Constant <value = int64[1] {0}> ()
    block = Unsqueeze (block0, axis0)
    n = Shape <start: int = 0, end: int = 1> (x)
    h = Shape <start: int = 2, end: int = 3> (x)
    w = Shape <start: int = 3, end: int = 4> (x)
    rest = Constant <value = int64[1] {-1}> ()
    h_out = Mul (h, block)
    w_out = Mul (w, block)
    hw = Mul (h, w)
    phases_shape = Concat <axis: int = 0> (rest, block, hw)
    phases = Reshape (x, phases_shape)
    interleaved = Transpose <perm = [0, 2, 1]> (phases)
    rows_shape = Concat <axis: int = 0> (rest, block, h, w_out)
    rows = Reshape (interleaved, rows_shape)
    woven = Transpose <perm = [0, 2, 1, 3]> (rows)
    y_shape = Concat <axis: int = 0> (n, rest, h_out, w_out)
    y = Reshape (woven, y_shape)
}
"""
_BLOCK_SHUFFLE = f"""<blocksize> (x) => (y)
{{
    channels_last = Transpose <perm = [0, 2, 3, 1]> (x)
    shuffled = {DOMAIN}.{SHUFFLE_LAST} <blocksize: int = @blocksize> (channels_last)
    y = Transpose <perm = [0, 3, 1, 2]> (shuffled)
}}
"""
_BLOCK_SHUFFLE_LAST = """<blocksize> (x) => (y)
{
    block0 = Constant <value_int: int = @blocksize> ()
    axis0 = Constant <value = int64[1] {0}> ()
    block = Unsqueeze (block0, axis0)
    n = Shape <start: int = 0, end: int = 1> (x)
    h = Shape <start: int = 1, end: int = 2> (x)
    w = Shape <start: int = 2, end: int = 3> (x)
    rest = Constant <value = int64[1] {-1}> ()
    rows = Mul (n, h)
    h_out = Mul (h, block)
    w_out = Mul (w, block)
    phases_shape = Concat <axis: int = 0> (rows, w, block, rest)
    phases = Reshape (x, phases_shape)
    woven = Transpose <perm = [0, 2, 1, 3]> (phases)
    y_shape = Concat <axis: int = 0> (n, h_out, w_out, rest)
    y = Reshape (woven, y_shape)
}
"""
_SHUFFLES = {b"CRD": "PixelShuffle", b"DCR": "BlockShuffle"}
"""Name of the operator for each mode of DepthToSpace."""
_BODIES = {"PixelShuffle": _PIXEL_SHUFFLE, "BlockShuffle": _BLOCK_SHUFFLE, SHUFFLE_LAST: _BLOCK_SHUFFLE_LAST}


def use_fast_operators(model: onnx.ModelProto) -> None:
    """Put, in memory, what ONNX Runtime is fastest at on a CPU in the place of function bodies and pixel shuffles.

    Its CPU kernel of DepthToSpace took 147 ms for (1, 256, 360, 640) where two transpositions that it has fast paths
    for take 75 ms, with the same result. The file keeps the bodies that every runtime can run.
    """
    import onnx.helper
    import onnx.parser

    use_cuda_operators(model)
    for node in model.graph.node:
        if node.op_type == "DepthToSpace":
            name = _SHUFFLES[attribute(node, "mode") or b"DCR"]  # the mode's default in ONNX
            size = attribute(node, "blocksize")
            node.CopyFrom(
                onnx.helper.make_node(name, node.input, node.output, node.name, domain=DOMAIN, blocksize=size)
            )
    for name, body in _BODIES.items():
        head = f'<domain: "{DOMAIN}", opset_import: ["": {OPSET}, "{DOMAIN}": {VERSION}]>\n{name} '
        model.functions.append(onnx.parser.parse_function(head + body))


def use_cuda_operators(model: onnx.ModelProto) -> None:
    """Put ONNX Runtime's deformable convolution in the place of its function body: all that a CUDA device needs, which
    has a kernel of DepthToSpace. Not yet run on a GPU."""
    import onnx.helper

    if DOMAIN not in {opset.domain for opset in model.opset_import}:  # a file with inlined functions
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    del model.functions[:]
    model.functions.extend(function_bodies(model.graph.node, native_deform_conv=True))


def aligns_in(model: onnx.ModelProto) -> set[int | None]:
    """Element types of the weights of a graph's alignments, None for one that is computed; empty where there are no
    alignments, as in an inlined file."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {types.get(node.input[1]) for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, ALIGN)}


def leave_alignment(model: onnx.ModelProto) -> None:
    """Take away, in memory, the alignment's body, so that its nodes are for a runtime's own operator."""
    others = [function for function in model.functions if function.name != ALIGN]
    del model.functions[:]
    model.functions.extend(others)


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """The value of a node's attribute; None where it has none of the name."""
    import onnx.helper

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)
