"""Past features brought to the current frame: by the flow alone, or by a deformable convolution that it guides.

Equation numbers are of "Kernel Dimension Matters" (MM '23). Flows are in pixels, dx before dy; see ``flow.py``.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ksnet_deploy.network.blocks import Concatenate, activation, zero_conv3x3
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.flow import warp
from ksnet_deploy.ops.reference import align

__all__ = ["FlowAlignment", "FlowGuidedAlignment", "Motion"]


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
        self.warp = warp  # a runtime may put a faster one in its place

    def forward(self, u: Tensor, u_1: Tensor, u_2: Tensor, motion: Motion) -> Tensor:
        """Align u_1, u_2 (N, C, H, W), one and two frames back, with u."""
        del u
        return self._guide(u_1, u_2, motion)[2]

    def _guide(self, u_1: Tensor, u_2: Tensor, motion: Motion) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features to sample, flows to sample them at (None: at rest), and the warped features that offsets see."""
        if self.guidance == "none":
            return u_1, None, u_1
        if self.guidance == "prev1":
            return u_1, _rows_first(motion.to_1), self.warp(u_1, motion.to_1)
        if self.guidance == "prev2":
            return u_2, _rows_first(motion.to_2), self.warp(u_2, motion.to_2)
        warped = self.warp(u_2, motion.from_1_to_2) + self.warp(u_1, motion.to_1)  # (11)
        if not self.consistent:
            return u_1, _rows_first(motion.to_2), warped
        half = u_1.shape[1] // 2
        near_and_far = _rows_first(motion.to_1), _rows_first(motion.to_2)
        return torch.cat((u_1[:, :half], u_2[:, half:]), dim=1), torch.cat(near_and_far, dim=1), warped


def _rows_first(flow: Tensor) -> Tensor:
    """(N, 2, H, W) as dx, dy -> as dy, dx."""
    return torch.cat((flow[:, 1:], flow[:, :1]), dim=1)


class Align(Protocol):
    """:func:`ksnet_deploy.ops.reference.align`, or what a runtime puts in its place."""

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor, raw: Tensor, flow: Tensor | None = None, *, stride: int = 1
    ) -> Tensor: ...


class FlowGuidedAlignment(FlowAlignment):
    """Multiple flow deformable alignment, Eqs. (11) and (12): at the flow and offsets that are predicted."""

    def __init__(self, config: KSNetConfig) -> None:
        super().__init__(config)
        c = config.channels
        self.stride = config.offset_stride
        self.concatenate = Concatenate()
        self.align: Align = align  # a runtime may put a faster one in its place
        self.offsets = nn.Sequential(
            nn.Conv2d(2 * c, config.offset_channels, 3, stride=self.stride, padding=1),
            activation(),
            zero_conv3x3(config.offset_channels, 27 * config.deform_groups),
        )
        self.weight = nn.Parameter(torch.empty(c, c, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c))
        nn.init.kaiming_normal_(self.weight, a=0.1)

    def forward(self, u: Tensor, u_1: Tensor, u_2: Tensor, motion: Motion) -> Tensor:
        source, flow, warped = self._guide(u_1, u_2, motion)
        raw = self.offsets(self.concatenate(warped, u))
        return self.align(source, self.weight, self.bias, raw, flow, stride=self.stride)
