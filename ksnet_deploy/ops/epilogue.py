"""The epilogue of a convolution as one operation: bias, leaky ReLU, a sum, a pixel shuffle, or the next convolution
where that gives few channels. The definitions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "NARROW_OUTPUTS",
    "check_epilogue_shapes",
    "check_narrow_shapes",
    "epilogue",
    "narrow_conv",
    "narrow_order",
    "shuffled_order",
]


NARROW_OUTPUTS = 8
"""Columns of one product on tensor cores."""


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


def narrow_conv(x: Tensor, bias: Tensor, weight: Tensor, out_bias: Tensor, *, slope: float) -> Tensor:
    """A 3x3 convolution, padded by one zero, of leaky_relu(x + bias).

    Args:
        x: (N, C, H, W) result of a convolution without its bias.
        bias: (C,) of that convolution.
        weight: of this one, in :func:`narrow_order`.
        out_bias: (O,) of this one.
        slope: of the activation below zero.

    Returns:
        (N, O, H, W).

    Raises:
        ValueError: a shape does not fit.
    """
    check_narrow_shapes(x, bias, weight, out_bias)
    kernel = weight[: len(out_bias)].permute(0, 3, 1, 2)
    return F.conv2d(F.leaky_relu(x + bias[:, None, None], slope), kernel, out_bias, padding=1)


def narrow_order(weight: Tensor) -> Tensor:
    """The weight (O, C, 3, 3) of a convolution as tensor cores read it: (8, 3, 3, C), zero from O on.

    Raises:
        ValueError: there are more than eight output channels.
    """
    if len(weight) > NARROW_OUTPUTS:
        raise ValueError(f"narrow_conv: {len(weight)} output channels; at most {NARROW_OUTPUTS} fit")
    return F.pad(weight.permute(0, 2, 3, 1), (0, 0, 0, 0, 0, 0, 0, NARROW_OUTPUTS - len(weight))).contiguous()


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


def check_narrow_shapes(x: Tensor, bias: Tensor, weight: Tensor, out_bias: Tensor) -> None:
    """Raises ValueError where a shape does not fit."""
    c = x.shape[1] if x.ndim == 4 else 0
    fits = c > 0 and bias.shape == (c,) and weight.shape == (NARROW_OUTPUTS, 3, 3, c)
    if not fits or out_bias.ndim != 1 or not 0 < len(out_bias) <= NARROW_OUTPUTS:
        given = ", ".join(f"{name} {tuple(t.shape)}" for name, t in (("x", x), ("bias", bias), ("weight", weight)))
        raise ValueError(f"narrow_conv: {given} and out_bias {tuple(out_bias.shape)} do not fit")
