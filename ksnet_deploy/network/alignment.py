"""Past features brought to the current frame: by the flow alone, or by a deformable convolution that it guides.

Equation numbers are of "Kernel Dimension Matters" (MM '23). Flows are in pixels, dx before dy; see ``flow.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ksnet_deploy.network.blocks import activation, zero_conv3x3
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.flow import warp
from ksnet_deploy.ops.reference import deform_conv2d

__all__ = ["FlowAlignment", "FlowGuidedAlignment", "Motion"]

MAX_RESIDUAL_OFFSET_PX = 10.0
"""Bound of the offsets that the alignment adds to the flow."""


class Motion(NamedTuple):
    """Motion up to the current frame, n; the names count frames back from it. Flows are zero without SpyNet."""

    to_1: Tensor
    """(N, 2, H, W) flow s1: n -> n-1."""
    from_1_to_2: Tensor
    """(N, 2, H, W) flow s2: n-1 -> n-2, the last step's ``to_1``."""
    to_2: Tensor
    """(N, 2, H, W) flow sbar: n -> n-2, composed, Eq. (10)."""
    o: Tensor
    """(N, 1, H, W) temporal offset map of Eq. (2): mean absolute difference of the colours of n and n-1."""


class FlowAlignment(nn.Module):
    """Past features brought to the current frame by the flow alone."""

    def __init__(self, config: KSNetConfig) -> None:
        super().__init__()
        self.guidance = config.flow_guidance
        self.consistent = config.alignment == "consistent"
        self.groups = config.deform_groups

    def forward(self, u: Tensor, u_1: Tensor, u_2: Tensor, motion: Motion) -> Tensor:
        """Align u_1, u_2 (N, C, H, W), one and two frames back, with u."""
        del u
        return self._guide(u_1, u_2, motion)[2]

    def _guide(self, u_1: Tensor, u_2: Tensor, motion: Motion) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features to sample, flow to sample them at (None: at rest), and the warped features that offsets see."""
        if self.guidance == "none":
            return u_1, None, u_1
        if self.guidance == "prev1":
            return u_1, self._per_group(motion.to_1), warp(u_1, motion.to_1)
        if self.guidance == "prev2":
            return u_2, self._per_group(motion.to_2), warp(u_2, motion.to_2)
        warped = warp(u_2, motion.from_1_to_2) + warp(u_1, motion.to_1)  # (11)
        if not self.consistent:
            return u_1, self._per_group(motion.to_2), warped
        half = u_1.shape[1] // 2
        near, far = (self._per_group(flow, self.groups // 2) for flow in (motion.to_1, motion.to_2))
        return torch.cat((u_1[:, :half], u_2[:, half:]), dim=1), torch.cat((near, far), dim=1), warped

    @staticmethod
    def _per_group(flow: Tensor, groups: int = 1) -> Tensor:
        """(N, 2, H, W) as dx, dy -> (N, groups, 2, H, W) as dy, dx."""
        return torch.cat((flow[:, 1:], flow[:, :1]), dim=1)[:, None].expand(-1, groups, -1, -1, -1)


class FlowGuidedAlignment(FlowAlignment):
    """Multiple flow deformable alignment, Eqs. (11) and (12): at the flow and offsets that are predicted."""

    def __init__(self, config: KSNetConfig) -> None:
        super().__init__(config)
        c, taps, stride = config.channels, 9 * config.deform_groups, config.offset_stride
        self.stride = stride
        self.deform_conv2d = deform_conv2d  # a runtime may put a faster one in its place
        self.offsets = nn.Sequential(
            nn.Conv2d(2 * c, config.offset_channels, 3, stride=stride, padding=1),
            activation(),
            zero_conv3x3(config.offset_channels, 3 * taps),
        )
        self.weight = nn.Parameter(torch.empty(c, c, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c))
        nn.init.kaiming_normal_(self.weight, a=0.1)

    def forward(self, u: Tensor, u_1: Tensor, u_2: Tensor, motion: Motion) -> Tensor:
        source, flow, warped = self._guide(u_1, u_2, motion)
        raw = self.offsets(torch.cat((warped, u), dim=1))
        taps = 9 * self.groups
        offset = self._for_every_pixel(MAX_RESIDUAL_OFFSET_PX * torch.tanh(raw[:, : 2 * taps].float()), u)
        mask = self._for_every_pixel(torch.sigmoid(raw[:, 2 * taps :]), u)
        if flow is not None:  # added to all taps of a group without being repeated for them
            n, _, h, w = offset.shape
            offset = (offset.view(n, self.groups, 9, 2, h, w) + flow[:, :, None]).view(n, 2 * taps, h, w)
        return self.deform_conv2d(source, self.weight, offset, self.bias, mask)

    def _for_every_pixel(self, predicted: Tensor, u: Tensor) -> Tensor:
        if self.stride == 1:
            return predicted
        h, w = u.shape[-2:]
        enlarged = F.interpolate(predicted, scale_factor=float(self.stride), mode="bilinear", align_corners=False)
        return enlarged[..., :h, :w]
