"""PyTorch reference, shape checks and ONNX node of the custom operators.

Called in PyTorch they compute; traced by the ONNX exporter they emit one node of the ``ksnet`` domain, whose
function body in standard ONNX operators is in :mod:`ksnet_deploy.ops.functions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ksnet_deploy.ops.functions import ALIGN, DEFORM_CONV, DOMAIN, MAX_RESIDUAL_OFFSET_PX, TOPK_SPLIT, VERSION

__all__ = [
    "Split",
    "align",
    "channel_scores",
    "check_align_shapes",
    "check_deform_shapes",
    "check_split_shapes",
    "deform_conv2d",
    "gradient_maps",
    "topk_mask",
    "topk_split",
]

TAPS = 9
"""Sampling points of the 3x3 kernel, row by row from the top left."""


def deform_conv2d(x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Modulated deformable convolution, 3x3, stride 1, same size (DCNv2; D in the paper's Eq. (12)).

    Layouts are those of ONNX ``DeformConv``. Each of the G offset groups moves C / G channels of x together.

    Args:
        x: (N, C, H, W) features to sample; points outside the frame count as zero.
        weight: (C_out, C, 3, 3).
        offset: (N, G * 18, H, W) in pixels; per group and tap first dy, then dx.
        bias: (C_out,).
        mask: (N, G * 9, H, W) factor of each sample, usually in [0, 1].

    Returns:
        (N, C_out, H, W).

    Raises:
        ValueError: a shape does not fit.
    """
    groups = check_deform_shapes(x, weight, offset, bias, mask)
    n, c, h, w = x.shape
    c_out = weight.shape[0]
    if torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::{DEFORM_CONV}",
            (x, weight, offset, bias, mask),
            attrs={"offset_group": groups},
            dtype=x.dtype,
            shape=(n, c_out, h, w),
            version=VERSION,
        )
    # All taps of all groups in one grid_sample: the taps are stacked along the height.
    delta = offset.float().reshape(n, groups, TAPS, 2, h, w)
    tap = torch.arange(TAPS, device=x.device)
    rows = torch.arange(h, device=x.device)[:, None] + (tap // 3 - 1)[:, None, None]
    columns = torch.arange(w, device=x.device) + (tap % 3 - 1)[:, None, None]
    y = delta[:, :, :, 0] + rows
    x_ = delta[:, :, :, 1] + columns
    # Pixel p has its centre at (2 p + 1) / size - 1 in the [-1, 1] coordinates of align_corners=False.
    grid = torch.stack(((2 * x_ + 1) / w - 1, (2 * y + 1) / h - 1), dim=-1)
    samples = F.grid_sample(
        x.reshape(n * groups, c // groups, h, w).float(),
        grid.reshape(n * groups, TAPS * h, w, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    samples = samples.to(x.dtype).reshape(n, groups, c // groups, TAPS, h, w)
    samples = samples * mask.to(x.dtype).reshape(n, groups, 1, TAPS, h, w)
    return F.conv2d(samples.reshape(n, c * TAPS, h, w), weight.reshape(c_out, c * TAPS, 1, 1), bias)


def check_deform_shapes(x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor, mask: Tensor) -> int:
    """Return the number of offset groups. Raises ValueError unless the shapes fit :func:`deform_conv2d`."""
    n, c, h, w = x.shape
    groups = offset.shape[1] // (2 * TAPS)
    if weight.shape[1:] != (c, 3, 3) or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"deform_conv2d: weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit an input of "
            f"{c} channels; expected (C_out, {c}, 3, 3) and (C_out,)"
        )
    if groups < 1 or c % groups or offset.shape != (n, groups * 2 * TAPS, h, w):
        raise ValueError(
            f"deform_conv2d: offset {tuple(offset.shape)} does not fit the input {tuple(x.shape)}; "
            f"expected ({n}, 18 * groups, {h}, {w}) with groups a divisor of {c}"
        )
    if mask.shape != (n, groups * TAPS, h, w):
        raise ValueError(f"deform_conv2d: mask {tuple(mask.shape)} must be {(n, groups * TAPS, h, w)}")
    return groups


def align(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    raw: Tensor,
    flow: Tensor | None = None,
    *,
    stride: int = 1,
    deform: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = deform_conv2d,
) -> Tensor:
    """Flow-guided deformable alignment: :func:`deform_conv2d` at the flow and what a network predicts beside it.

    The offsets are ``10 px * tanh(raw)`` in float32, the masks ``sigmoid(raw)``; where they were predicted at half
    resolution both are enlarged bilinearly (``align_corners=False``). Then the flow is added to the offsets.

    Args:
        x: (N, C, H, W) features to sample; points outside the frame count as zero.
        weight: (C_out, C, 3, 3).
        bias: (C_out,).
        raw: (N, 27 G, ceil(H / stride), ceil(W / stride)), predicted: first 18 G channels for offsets, per group and
            tap dy and dx, then 9 G for masks, per group and tap.
        flow: (N, 2 F, H, W) float32 in pixels, of each flow dy, then dx; F divides G, and group g follows flow
            ``g * F // G``. None: at rest.
        stride: of the prediction, 1 or 2.
        deform: computes the deformable convolution.

    Returns:
        (N, C_out, H, W).

    Raises:
        ValueError: a shape does not fit.
    """
    groups = check_align_shapes(x, weight, bias, raw, flow, stride)
    n, _, h, w = x.shape
    if torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::{ALIGN}",
            (x, weight, bias, raw) if flow is None else (x, weight, bias, raw, flow),
            attrs={"offset_group": groups, "offset_stride": stride},
            dtype=x.dtype,
            shape=(n, weight.shape[0], h, w),
            version=VERSION,
        )
    taps = groups * TAPS
    offset = _enlarged(MAX_RESIDUAL_OFFSET_PX * torch.tanh(raw[:, : 2 * taps].float()), stride, h, w)
    mask = _enlarged(torch.sigmoid(raw[:, 2 * taps :]), stride, h, w)
    if flow is not None:  # added to all taps of its groups without being repeated for them
        flows = flow.shape[1] // 2
        guided = offset.view(n, flows, taps // flows, 2, h, w) + flow.view(n, flows, 1, 2, h, w)
        offset = guided.view(n, 2 * taps, h, w)
    return deform(x, weight, offset, bias, mask)


def _enlarged(predicted: Tensor, stride: int, h: int, w: int) -> Tensor:
    if stride == 1:
        return predicted
    return F.interpolate(predicted, scale_factor=float(stride), mode="bilinear", align_corners=False)[..., :h, :w]


def check_align_shapes(x: Tensor, weight: Tensor, bias: Tensor, raw: Tensor, flow: Tensor | None, stride: int) -> int:
    """Return the number of offset groups. Raises ValueError unless the shapes fit :func:`align`."""
    n, c, h, w = x.shape
    groups = raw.shape[1] // (3 * TAPS)
    if stride not in (1, 2):
        raise ValueError(f"align: the stride is {stride}; it must be 1 or 2")
    if weight.shape[1:] != (c, 3, 3) or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"align: weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit an input of {c} channels; "
            f"expected (C_out, {c}, 3, 3) and (C_out,)"
        )
    predicted = (n, groups * 3 * TAPS, (h - 1) // stride + 1, (w - 1) // stride + 1)
    if groups < 1 or c % groups or raw.shape != predicted:
        raise ValueError(
            f"align: raw {tuple(raw.shape)} does not fit the input {tuple(x.shape)} at stride {stride}; expected "
            f"({n}, 27 * groups, {predicted[2]}, {predicted[3]}) with groups a divisor of {c}"
        )
    flows = 1 if flow is None else flow.shape[1] // 2
    if flow is not None and (flows < 1 or groups % flows or flow.shape != (n, 2 * flows, h, w)):
        raise ValueError(
            f"align: flow {tuple(flow.shape)} does not fit; expected ({n}, 2 * flows, {h}, {w}) with flows a divisor "
            f"of the {groups} groups"
        )
    return groups


class Split(NamedTuple):
    """High-value and low-value channels, each in ascending channel order."""

    con: Tensor
    """(N, k, H, W), the k channels nearest to the temporal offset map."""
    dis: Tensor
    """(N, C - k, H, W), the rest."""


def channel_scores(f: Tensor, o: Tensor, lam: Tensor) -> Tensor:
    """Distance of every channel from the temporal offset map, Eqs. (1) and (2); float32 whatever the input.

    Returned is ``(||m_c - o||^2 - ||o||^2) / (H W)``, with m_c the weighted gradient map of channel c, instead of the
    norm ``||m_c - o||`` of Eq. (2). It orders the channels alike, but without the term that all channels share:
    where o is large, that term would drown their differences in rounding, and near-ties would fall at random.

    Args:
        f: (N, C, H, W) features.
        o: (N, 1, H, W) temporal offset map.
        lam: (1,) weight between the plain gradient and the gradient masked with f.

    Returns:
        (N, C); the smallest score marks the most correlated channel.
    """
    _, weighted = gradient_maps(f, lam)
    return (weighted * (weighted - 2 * o.float())).mean(dim=(2, 3))


def gradient_maps(f: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient map of Eq. (1) and weighted gradient map of Eq. (2) of every channel; float32 whatever the input.

    Args:
        f: (N, C, H, W) features.
        lam: (1,) weight between the plain gradient and the gradient masked with f.

    Returns:
        ``G = ||grad f||`` by forward differences, zero at the far edges, and ``lam G + (1 - lam) G f``, both
        (N, C, H, W).
    """
    f, lam = f.float(), lam.float()
    dx = F.pad(f, (0, 1, 0, 0), mode="replicate")[..., 1:] - f
    dy = F.pad(f, (0, 0, 0, 1), mode="replicate")[..., 1:, :] - f
    gradient = torch.sqrt(dx * dx + dy * dy)
    return gradient, gradient * (lam + (1 - lam) * f)


def topk_split(f: Tensor, o: Tensor, lam: Tensor, k: int, *, ranked: bool = False) -> Split:
    """Split the channels of f into the k most correlated with o and the rest, Eq. (3).

    Ties go to the lower channel index. The selection passes no gradient; so that lambda learns all the same, each
    channel is multiplied by a straight-through factor of value one whose gradient is that of a soft gate.

    Args:
        f: (N, C, H, W) features.
        o: (N, 1, H, W) temporal offset map.
        lam: (1,) learnable weight of Eq. (2).
        k: channels to keep, 1 <= k < C.
        ranked: give both parts in the order of their scores, best first, instead of ascending channel order. The
            operator of the exported network has no such attribute.

    Raises:
        ValueError: a shape does not fit or k is out of range.
    """
    check_split_shapes(f, o, lam, k)
    n, c, h, w = f.shape
    if torch.onnx.is_in_onnx_export():
        con, dis = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{TOPK_SPLIT}",
            (f, o, lam),
            attrs={"k": k},
            dtypes=(f.dtype, f.dtype),
            shapes=((n, k, h, w), (n, c - k, h, w)),
            version=VERSION,
        )
        return Split(con, dis)
    scores = channel_scores(f.detach(), o.detach(), lam)
    ordered, order = torch.sort(scores.detach(), dim=1, stable=True)
    kept, rest = order[:, :k], order[:, k:]
    if not ranked:
        kept, rest = kept.sort(dim=1).values, rest.sort(dim=1).values
    con, dis = _gather_channels(f, kept), _gather_channels(f, rest)
    if torch.is_grad_enabled() and lam.requires_grad:
        gate = _soft_gate(scores, ordered, k)
        con = con * _straight_through(gate.gather(1, kept)).to(f.dtype)
        dis = dis * _straight_through(1 - gate.gather(1, rest)).to(f.dtype)
    return Split(con, dis)


def check_split_shapes(f: Tensor, o: Tensor, lam: Tensor, k: int) -> None:
    """Raise ValueError unless they fit :func:`topk_split`."""
    n, c, h, w = f.shape
    if o.shape != (n, 1, h, w) or lam.shape != (1,):
        raise ValueError(
            f"topk_split: o {tuple(o.shape)} and lambda {tuple(lam.shape)} must be {(n, 1, h, w)} and (1,)"
        )
    if not 1 <= k < c:
        raise ValueError(f"topk_split: k is {k}; it must be at least 1 and below the {c} channels")


def topk_mask(f: Tensor, o: Tensor, lam: Tensor, k: int, active: Tensor, among: int) -> tuple[Tensor, Tensor]:
    """Masks of the k channels most correlated with o among the active ones, and of the other active ones.

    This is :func:`topk_split` without the packing; lambda learns through the masks as it does there.

    Args:
        f, o, lam: as there.
        k: channels to keep, 1 <= k <= among.
        active: (N, C, 1, 1), one for the channels to choose from, else zero.
        among: number of active channels.

    Returns:
        Two of (N, C, 1, 1), one for the channels in question, zero elsewhere.
    """
    candidates = active[:, :, 0, 0].detach() > 0.5
    scores = channel_scores(f.detach(), o.detach(), lam).masked_fill(~candidates, torch.inf)
    ordered, order = torch.sort(scores.detach(), dim=1, stable=True)
    keep = torch.zeros_like(scores.detach()).scatter(1, order[:, :k], 1.0)[:, :, None, None]
    rest = candidates[:, :, None, None].to(keep) - keep
    if torch.is_grad_enabled() and lam.requires_grad and k < among:
        gate = _soft_gate(scores.masked_fill(~candidates, 0.0), ordered[:, :among], k)
        keep, rest = keep * _straight_through(gate), rest * _straight_through(1 - gate)
    return keep.to(f.dtype), rest.to(f.dtype)


def _soft_gate(scores: Tensor, ordered: Tensor, k: int) -> Tensor:
    """(N, C) in (0, 1), a half at the threshold between the k-th and the next of the ordered scores."""
    threshold = ordered[:, k - 1 : k + 1].mean(dim=1, keepdim=True)
    spread = (ordered - threshold).abs().mean(dim=1, keepdim=True).clamp_min(1e-12)
    return torch.sigmoid((threshold - scores) / spread)


def _gather_channels(f: Tensor, index: Tensor) -> Tensor:
    batch = torch.arange(f.shape[0], device=f.device)[:, None]
    return f[batch, index]


def _straight_through(gate: Tensor) -> Tensor:
    return (1 + (gate - gate.detach()))[..., None, None]
