"""Temporal loss: what makes an enlarged video flicker, as something to train on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ksnet_deploy.network.flow import SpyNet, warp

__all__ = ["temporal_loss"]

EPS = 1e-3
TRUSTED = 4 / 255
"""Largest difference, in the mean of the colours, between a pixel of the original and the one that the flow brings."""


def temporal_loss(found: Tensor, original: Tensor, flow_network: SpyNet) -> Tensor:
    """Mean change between neighbouring frames along the original's motion (Lai et al., ECCV 2018, Eq. 4).

    The last frame is brought to the current one by the flow between the originals, and the Charbonnier loss, Eq. (13),
    is taken of the difference, over the pixels whose original follows the flow: occlusions and wrong flow do not count.
    The flow is estimated at half of HR's size, which takes a quarter of the work. On its own a still blur would be
    best, so it stands beside the loss by pixels.

    Args:
        found: HR frames (N, T, 3, H, W), values in [0, 1]; H and W even, T at least 2 or the loss is 0.
        original: those they should be, alike.
        flow_network: estimates the flow; no gradient reaches it from here.
    """
    now, before = original[:, 1:].flatten(0, 1), original[:, :-1].flatten(0, 1)
    if not len(now):
        return found.sum() * 0
    with torch.no_grad():
        flow = flow_network(F.avg_pool2d(now, 2), F.avg_pool2d(before, 2)).float()
        flow = 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=False)
        trusted = (warp(before, flow, "border") - now).abs().mean(1, keepdim=True) < TRUSTED
    moved = warp(found[:, :-1].flatten(0, 1).float(), flow, "border")
    change = ((moved - found[:, 1:].flatten(0, 1)).square() + EPS**2).sqrt()
    return (change * trusted).sum() / (change.shape[1] * trusted.sum()).clamp(min=1)
