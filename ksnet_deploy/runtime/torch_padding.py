"""Channels of a selection unit in whole vectors, for CUDA in half precision.

The levels of a selection have as many channels as the keep ratio leaves: 36 and 12, then 27 and 9 of uni's 64. cuDNN's
kernels for tensor cores move eight at a time, and copy a tensor of any other number, and the weight with it, before
every convolution. So each level gets the next multiple of eight: channels of zeros, through kernels that are zero
there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ksnet_deploy.network.channel_selection import MultiChannelSelection, SplitLevel
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.ops.padding import VECTOR, padded_split
from ksnet_deploy.ops.reference import Split

__all__ = ["pad_selection"]


def pad_selection(network: KSNet, split: Callable[..., Split]) -> None:
    """Give the folded network's selection units whole vectors of channels, where the network itself has such; units of
    activated kernels have no fewer channels than the network, and stay as they are.

    Args:
        network: changed in place; what it computes stays the same.
        split: :func:`ksnet_deploy.ops.padding.padded_split`, or a faster one; levels whose channels go by rank take
            that itself.
    """
    for unit in network.modules():
        if isinstance(unit, MultiChannelSelection) and network.config.channels % VECTOR == 0:
            _pad_unit(unit, network.config.channels, split)


def _pad_unit(unit: MultiChannelSelection, channels: int, split: Callable[..., Split]) -> None:
    parts, width = [channels], channels
    for level in unit.levels:
        assert isinstance(level, SplitLevel)
        if level.selects:
            level.topk_split = partial(padded_split if level.ranked else split, channels=width)
            parts.append(width - level.c_keep)
            _pad_convolutions(level.buffer)
        _pad_convolutions(level.explore)
        width = level.c_keep
    parts.append(width)
    unit.merge = _padded(unit.merge, parts, [unit.merge.out_channels])


def _pad_convolutions(layers: nn.Module) -> None:
    assert isinstance(layers, nn.Sequential)
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            layers[index] = _padded(layer, [layer.in_channels], [layer.out_channels])


def _padded(conv: nn.Conv2d, ins: Sequence[int], outs: Sequence[int]) -> nn.Conv2d:
    """The convolution with zeros behind each group of its channels, up to a whole vector."""
    weight, bias = conv.weight.detach(), conv.bias
    assert bias is not None
    weight = _grouped(_grouped(weight, ins, 1), outs, 0)
    found = nn.Conv2d(weight.shape[1], len(weight), conv.kernel_size, conv.stride, conv.padding)  # type: ignore[arg-type]
    found.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    found.bias = nn.Parameter(_grouped(bias.detach(), outs, 0), requires_grad=False)
    return found


def _grouped(tensor: Tensor, groups: Sequence[int], axis: int) -> Tensor:
    pieces = []
    for piece in torch.split(tensor, list(groups), dim=axis):
        missing = -piece.shape[axis] % VECTOR
        shape = [missing if index == axis else size for index, size in enumerate(piece.shape)]
        pieces += [piece, piece.new_zeros(shape)]
    return torch.cat(pieces, dim=axis)
