"""Optical flow and motion compensation.

Flows are in pixels, (N, 2, H, W), dx before dy. A flow ``s`` from frame a to frame b says where a's pixels are found
in b: ``b(p + s(p)) ~ a(p)``.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SpyNet", "enlarged", "flow_input", "warp"]


def warp(x: Tensor, flow: Tensor, padding_mode: str = "zeros") -> Tensor:
    """Motion compensation MC: sample x (N, C, H, W) at every pixel plus flow, bilinearly."""
    h, w = x.shape[-2:]
    flow = flow.float()  # coordinates in half precision would be off by pixels
    if padding_mode == "border" and flow.requires_grad:
        flow = flow.nan_to_num()  # on a CPU, grid_sample's backward pass crashes on NaN at the border
    column = torch.arange(w, device=x.device) + flow[:, 0]
    row = torch.arange(h, device=x.device)[:, None] + flow[:, 1]
    grid = torch.stack(((2 * column + 1) / w - 1, (2 * row + 1) / h - 1), dim=-1)
    return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode=padding_mode, align_corners=False).to(x.dtype)


def enlarged(flow: Tensor) -> Tensor:
    """A flow (N, 2, H, W) at twice the size, (N, 2, 2 H, 2 W), in pixels of that."""
    return 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=True)


def flow_input(
    image: Tensor,
    reference: Tensor,
    coarse: Tensor | None = None,
    correction: Tensor | None = None,
    *,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Input of a level of SpyNet, and the flow in it, which the level is to correct.

    Args:
        image, reference: (N, 3, H, W) float32, normalised.
        coarse: (N, 2, H / 2, W / 2) float32, the flow of the coarser level, without which there is none yet.
        correction: (N, 2, H / 2, W / 2), what that level gave, where it is not yet part of the flow.
        dtype: of the level's weights.

    Returns:
        (N, 8, H, W) of the dtype: the image, the reference moved to it, the flow; and the flow, (N, 2, H, W) float32.
    """
    if coarse is None:
        flow = torch.zeros_like(image[:, :2])
    else:
        flow = enlarged(coarse if correction is None else coarse + correction.float())
    return torch.cat((image, warp(reference, flow, "border"), flow), dim=1).to(dtype), flow


class SpyNet(nn.Module):
    """Coarse-to-fine optical flow (Ranjan and Black, 2017): at most six levels of five 7x7 convolutions.

    The layer sizes and the normalisation are those of the public SpyNet weights.
    """

    LEVELS = 6
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 32, levels: int = LEVELS) -> None:
        """New weights.

        Args:
            channels: width of a level's first convolution; 32 are the paper's and the public weights'.
            levels: how many of the six there are, from the coarsest, which sees a 32nd of the frame's size.
        """
        super().__init__()
        self.channels = channels
        self.levels = nn.ModuleList(self._level(channels) for _ in range(levels))
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406))[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225))[:, None, None], persistent=False)

    @staticmethod
    def _level(channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise((8, channels, 2 * channels, channels, channels // 2, 2)):
            layers += [nn.Conv2d(c_in, c_out, 7, padding=3), nn.ReLU()]
        for layer in layers[::2]:
            # The default initialisation shrinks the signal in each layer; five of them in a row hardly start to learn.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            layers[-2].weight.mul_(0.1)  # type: ignore[operator]
        return nn.Sequential(*layers[:-1])

    @property
    def finer_levels(self) -> set[str]:
        """Names of the tensors of the levels that there are not, of the six."""
        names = [name.split(".", 2)[2] for name in self.state_dict() if name.startswith("levels.0.")]
        return {f"levels.{level}.{name}" for level in range(len(self.levels), self.LEVELS) for name in names}

    def forward(self, lr: Tensor, ref: Tensor) -> Tensor:
        """Flow from lr to ref, both (N, 3, H, W): ``ref(p + flow) ~ lr(p)``."""
        h, w = lr.shape[-2:]
        flow = self.pyramid(lr, ref)[-1]
        for _ in range(self.LEVELS - len(self.levels)):
            flow = enlarged(flow)
        return flow[..., :h, :w]

    def pyramid(self, lr: Tensor, ref: Tensor) -> list[Tensor]:
        """The flows of all levels, coarsest first, each in pixels of its own size; a sixth is cut to (H, W)."""
        h, w = lr.shape[-2:]
        flow: Tensor | None = None
        flows = []
        for level, (image, reference) in zip(self.levels, self.images(lr, ref), strict=False):
            seen, flow = flow_input(image, reference, flow, dtype=self.dtype)
            flow = flow + level(seen).float()
            flows.append(flow)
        return [*flows[:-1], flows[-1][..., :h, :w]]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights; flows and images are always float32."""
        dtype: torch.dtype = self.levels[0][0].weight.dtype  # type: ignore[index]
        return dtype

    def images(self, *frames: Tensor) -> list[tuple[Tensor, ...]]:
        """The frames (N, 3, H, W), normalised, at the size of each of the six levels, coarsest first."""
        h, w = frames[0].shape[-2:]
        multiple = 2 ** (self.LEVELS - 1)
        # Not -w % multiple: for a free size, TensorRT-RTX cannot tell then that the padded one is positive.
        bottom, right = ((side + multiple - 1) // multiple * multiple - side for side in (h, w))
        pyramid = [
            tuple((F.pad(frame, (0, right, 0, bottom), mode="replicate") - self.mean) / self.std for frame in frames),
        ]
        for _ in range(self.LEVELS - 1):
            pyramid.append(tuple(F.avg_pool2d(image, 2) for image in pyramid[-1]))
        return pyramid[::-1]
