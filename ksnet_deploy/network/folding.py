"""Re-parameterization: fold every RCB of a trained network into one plain 3x3 convolution, Eqs. (5)-(8).

The fold is algebra on (weight, bias) pairs in float64; modules are touched only at the two ends.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ksnet_deploy.network.blocks import RCB, EdgeConv

__all__ = ["Kernel", "fold", "fold_rcb"]

M = TypeVar("M", bound=nn.Module)


class Kernel(NamedTuple):
    """A convolution as values: weight (C_out, C_in, h, w) and bias (C_out,), float64."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Kernel:
        bias = conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.out_channels)
        return cls(conv.weight.detach().double(), bias.detach().double())

    @classmethod
    def of_edge_filter(cls, edge: EdgeConv) -> Kernel:
        """The depthwise filter of an edge branch as a dense convolution, zero between channels."""
        depthwise = edge.scale.detach().double()[:, None, None] * edge.kernel.double()
        channels = torch.arange(len(depthwise), device=depthwise.device)
        weight = depthwise.new_zeros(len(depthwise), *depthwise.shape)
        weight[channels, channels] = depthwise
        return cls(weight, edge.bias.detach().double())


def sequential(first: Kernel, second: Kernel) -> Kernel:
    """Second convolution after a 1x1 one, as a single convolution, Eqs. (5) and (6).

    Exact everywhere when the 1x1's output is padded with its own bias, as :class:`EdgeConv` does.
    """
    weight = F.conv2d(second.weight, first.weight.permute(1, 0, 2, 3))
    bias = torch.einsum("oihw,i->o", second.weight, first.bias) + second.bias
    return Kernel(weight, bias)


def embed(kernel: Kernel, height: int, width: int) -> Kernel:
    """Embed a convolution in a larger kernel of odd size: the weights in the centre, zeros around, Eq. (7)."""
    rows, columns = height - kernel.weight.shape[2], width - kernel.weight.shape[3]
    if rows < 0 or columns < 0 or rows % 2 or columns % 2:
        raise ValueError(f"a {tuple(kernel.weight.shape[2:])} kernel has no centre place in {height}x{width}")
    return Kernel(F.pad(kernel.weight, (columns // 2, columns // 2, rows // 2, rows // 2)), kernel.bias)


def parallel(kernels: Iterable[Kernel]) -> Kernel:
    """Sum of parallel convolutions, each embedded in the largest kernel, Eq. (8)."""
    kernels = list(kernels)
    height = max(kernel.weight.shape[2] for kernel in kernels)
    width = max(kernel.weight.shape[3] for kernel in kernels)
    embedded = [embed(kernel, height, width) for kernel in kernels]
    return Kernel(
        torch.stack([kernel.weight for kernel in embedded]).sum(0),
        torch.stack([kernel.bias for kernel in embedded]).sum(0),
    )


def fold_rcb(block: RCB) -> nn.Conv2d:
    """One 3x3 convolution, in the block's dtype, that computes what the block computes."""
    edges = (block.sobel_x, block.sobel_y, block.laplacian)
    weight, bias = parallel(
        [
            Kernel.of(block.plain),
            *(sequential(Kernel.of(edge.squeeze), Kernel.of_edge_filter(edge)) for edge in edges),
        ]
    )
    plain = block.plain
    conv = nn.Conv2d(plain.in_channels, plain.out_channels, 3, padding=1)
    conv = conv.to(device=plain.weight.device, dtype=plain.weight.dtype)
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)  # type: ignore[union-attr]
    return conv


def fold(model: M) -> M:
    """A copy of the model in evaluation mode with every RCB folded; the argument stays as it is."""
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RCB):
                setattr(parent, name, fold_rcb(child))
    return folded
