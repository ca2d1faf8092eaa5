"""Nodes that one device's runtime is fastest at, put into an exported step in memory; the file stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ksnet_deploy.ops.functions import ALIGN, DOMAIN, OPSET, VERSION, function_bodies

if TYPE_CHECKING:
    import onnx

__all__ = ["aligns_in", "leave_alignment", "use_cuda_operators", "use_fast_operators"]

PIXEL_SHUFFLE = "PixelShuffle"

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
