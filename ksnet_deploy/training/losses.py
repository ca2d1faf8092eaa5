"""Losses of a training: Charbonnier, and the temporal loss, which is what makes an enlarged video flicker."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ksnet_deploy.measure.warping import WarpingError
from ksnet_deploy.network.flow import SpyNet, warp

__all__ = ["charbonnier", "temporal_loss"]

EPS = 1e-3
TRUSTED = WarpingError.TRUSTED_LEVELS / 255
"""Largest difference, in the mean of the colours, between a pixel of the original and the one that the flow brings."""


def charbonnier(found: Tensor, expected: Tensor, where: Tensor | None = None) -> Tensor:
    """Charbonnier loss, Eq. (13): mean of sqrt((found - expected)^2 + eps^2), eps = 1e-3, values in [0, 1].

    ``where`` (N, 1, H, W) chooses the pixels of frames (N, C, H, W) that count; 0 where there are none.
    """
    each = ((found - expected).float().square() + EPS**2).sqrt()
    return each.mean() if where is None else (each * where).sum() / (each.shape[1] * where.sum()).clamp(min=1)


def temporal_loss(found: Tensor, original: Tensor, flow_network: SpyNet, counts: Tensor) -> Tensor:
    """Mean change between neighbouring frames along the original's motion (Lai et al., ECCV 2018, Eq. 4).

    The last frame is brought to the current one by the flow between the originals, and the Charbonnier loss, Eq. (13),
    is taken of the difference, over the pixels whose original follows the flow: occlusions and wrong flow do not count.
    The flow is estimated at half of HR's size, which takes a quarter of the work. On its own a still blur would be
    best, so it stands beside the loss by pixels.

    Args:
        found: HR frames (N, T, 3, H, W), values in [0, 1]; H and W even, T at least 2 or the loss is 0.
        original: those they should be, alike.
        flow_network: estimates the flow; no gradient reaches it from here.
        counts: (N,) bool, the windows that count; the loss is a mean over all, and 0 of the others.
    """
    now, before = original[:, 1:].flatten(0, 1), original[:, :-1].flatten(0, 1)
    if not len(now):
        return found.sum() * 0
    with torch.no_grad():
        flow = flow_network(F.avg_pool2d(now, 2), F.avg_pool2d(before, 2)).float()
        flow = 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=False)
        trusted = (warp(before, flow, "border") - now).abs().mean(1, keepdim=True) < TRUSTED
    moved = warp(found[:, :-1].flatten(0, 1).float(), flow, "border")
    of_these = counts.repeat_interleave(found.shape[1] - 1)[:, None, None, None]
    return counts.float().mean() * charbonnier(moved, found[:, 1:].flatten(0, 1), trusted & of_these)
