"""The epilogue of a convolution as one operation: bias, leaky ReLU, a sum, a pixel shuffle. The definition."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["check_epilogue_shapes", "epilogue", "shuffled_order"]


def epilogue(x: Tensor, bias: Tensor, *, slope: float = 1.0, skip: Tensor | None = None, shuffle: int = 1) -> Tensor:
    """The pixel shuffle of leaky_relu(x + bias), plus skip.

    Args:
        x: (N, P, H, W) result of a convolution without its bias, of which the first r^2 * C channels count; the
            channels of a pixel shuffle by r lie in :func:`shuffled_order`.
        bias: (r^2 * C,), in the same order.
        slope: of the activation below zero: 1 for none, 0 for ReLU.
        skip: (N, C, r * H, r * W) added at the end.
        shuffle: r, the factor of the pixel shuffle (default: none).

    Returns:
        (N, C, r * H, r * W).

    Raises:
        ValueError: a shape does not fit.
    """
    c = check_epilogue_shapes(x, bias, skip, shuffle)
    y = F.leaky_relu(x[:, : len(bias)] + bias[:, None, None], slope)
    if shuffle > 1:
        n, _, h, w = y.shape
        y = F.pixel_shuffle(y.reshape(n, shuffle**2, c, h, w).transpose(1, 2).reshape(n, -1, h, w), shuffle)
    return y if skip is None else y + skip


def shuffled_order(weight: Tensor, factor: int) -> Tensor:
    """The output channels, the first axis, of a pixel shuffle's convolution, so that those of one pixel of the result
    lie beside one another: from c * r^2 + i * r + j to (i * r + j) * C + c."""
    return weight.reshape(-1, factor**2, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape)


def check_epilogue_shapes(x: Tensor, bias: Tensor, skip: Tensor | None, shuffle: int) -> int:
    """Channels of the result. Raises ValueError where a shape does not fit."""
    parts = shuffle**2
    if x.ndim != 4 or bias.ndim != 1 or shuffle < 1 or len(bias) % parts or not 0 < len(bias) <= x.shape[1]:
        raise ValueError(f"epilogue: x {tuple(x.shape)}, bias {tuple(bias.shape)} and shuffle {shuffle} do not fit")
    n, _, h, w = x.shape
    expected = (n, len(bias) // parts, shuffle * h, shuffle * w)
    if skip is not None and skip.shape != expected:
        raise ValueError(f"epilogue: skip is {tuple(skip.shape)}, and the result {expected}")
    return expected[1]
