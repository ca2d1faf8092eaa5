"""Synthetic motion on stills: camera paths for training windows, dense warps with known flow for the flow network."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["camera_window", "flow_pair", "smooth_flow"]

MAX_SPEED_PX = 12.0
"""Highest speed of the camera per frame, in HR pixels: 3 LR pixels."""
MAX_TURN = np.deg2rad(0.7)
MAX_ZOOM = 0.006


def camera_window(
    picture: NDArray[np.uint8], frames: int, height: int, width: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A moving camera's view of a picture (H, W, 3): (frames, height, width, 3).

    Position, angle and zoom change at a random, nearly steady rate. Beyond the picture the camera sees it mirrored.
    """
    h, w = picture.shape[:2]
    speed = MAX_SPEED_PX * rng.random() ** 2 * _direction(rng)
    sway = 0.3 * np.linalg.norm(speed) * rng.uniform(-1, 1, size=(frames, 2))
    shift = np.cumsum(speed + sway, axis=0)
    turn = np.cumsum(np.full(frames, MAX_TURN * rng.uniform(-1, 1)))
    zoom = np.exp(np.cumsum(np.full(frames, MAX_ZOOM * rng.uniform(-1, 1)))) * rng.uniform(1.0, 1.35)
    shift -= shift[frames // 2]
    centre = np.array([rng.uniform(width / 2, max(w - width / 2, width / 2 + 1)),
                       rng.uniform(height / 2, max(h - height / 2, height / 2 + 1))])  # fmt: skip
    rows, columns = np.meshgrid(np.arange(height) - height / 2, np.arange(width) - width / 2, indexing="ij")
    grids = []
    for t in range(frames):
        cos, sin = zoom[t] * np.cos(turn[t]), zoom[t] * np.sin(turn[t])
        x = centre[0] + shift[t, 0] + cos * columns - sin * rows
        y = centre[1] + shift[t, 1] + sin * columns + cos * rows
        grids.append(np.stack(((2 * x + 1) / w - 1, (2 * y + 1) / h - 1), axis=-1))
    grid = torch.from_numpy(np.stack(grids).astype(np.float32))
    source = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1).expand(frames, -1, -1, -1)
    view = F.grid_sample(source, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return view.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).numpy()


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def smooth_flow(height: int, width: int, max_px: float, rng: np.random.Generator) -> Tensor:
    """A flow field (2, height, width), dx before dy, of at most ``max_px`` pixels: affine, a smooth warp, or both."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    flow = torch.from_numpy(_direction(rng) * rng.uniform(0, 1)).float()[:, None, None].expand(2, height, width)
    kind = rng.integers(3)
    if kind != 1:
        matrix = torch.from_numpy(rng.uniform(-0.4, 0.4, size=(2, 2))).float()
        flow = flow + torch.einsum("ij,jhw->ihw", matrix, torch.stack((columns, rows)))
    if kind != 0:
        knots = torch.from_numpy(rng.normal(0, 0.4, size=(1, 2, *rng.integers(3, 6, size=2)))).float()
        flow = flow + F.interpolate(knots, size=(height, width), mode="bicubic", align_corners=True)[0]
    length = flow.square().sum(dim=0).max().sqrt()
    return flow * (max_px * float(rng.uniform(0, 1)) / max(float(length), 1e-6))


def flow_pair(
    picture: NDArray[np.uint8], height: int, width: int, max_px: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Two frames (3, height, width) in [0, 1] cut from an LR picture and the flow (2, height, width) between them.

    The second frame is a crop of the picture as it is, the first the picture sampled at the flow: the flow's definition
    ``second(p + flow(p)) = first(p)`` holds exactly, up to interpolation, beyond the crop's border too.

    Args:
        picture: (H, W, 3), H and W at least ``height`` and ``width`` plus twice ``max_px``.
    """
    margin = int(np.ceil(max_px))
    h, w = picture.shape[:2]
    top, left = rng.integers(margin, h - height - margin + 1), rng.integers(margin, w - width - margin + 1)
    region = picture[top - margin : top + height + margin, left - margin : left + width + margin]
    source = torch.from_numpy(np.ascontiguousarray(region)).permute(2, 0, 1)[None].float() / 255
    flow = smooth_flow(height, width, max_px, rng)
    h, w = source.shape[-2:]
    x = torch.arange(width) + margin + flow[0]
    y = torch.arange(height)[:, None] + margin + flow[1]
    grid = torch.stack(((2 * x + 1) / w - 1, (2 * y + 1) / h - 1), dim=-1)
    first = F.grid_sample(source, grid[None], mode="bicubic", padding_mode="border", align_corners=False)[0]
    second = source[0, :, margin : margin + height, margin : margin + width]
    return first.clamp(0, 1), second, flow
