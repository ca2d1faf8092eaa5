"""The maps that channels are chosen by, Eqs. (1) and (2), and pictures of maps.

Pictures are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ksnet_deploy.ops.reference import gradient_maps
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["flow_picture", "flow_wheel", "grey_picture", "heat_picture", "maps_of", "signed_picture"]

Array = NDArray[np.float32]


def maps_of(features: Array, lam: float) -> tuple[Array, Array]:
    """Gradient map G of Eq. (1) and weighted map ``lam G + (1 - lam) G f`` of Eq. (2), for channels (C, H, W)."""
    gradient, weighted = gradient_maps(torch.from_numpy(features[None]), torch.tensor([lam]))
    return gradient[0].numpy(), weighted[0].numpy()


def grey_picture(values: Array, most: float | None = None) -> Picture:
    """A map (H, W) in grey: black for 0, white for ``most`` (default: the 99.5th percentile) and beyond."""
    most = float(np.quantile(values, 0.995)) if most is None else most
    levels = np.clip(values / (most or 1.0), 0, 1) * 255
    return np.asarray(np.rint(levels)[..., None].repeat(3, axis=-1), dtype=np.uint8)


def signed_picture(values: Array) -> Picture:
    """A map (H, W) in grey, stretched between its 0.5th and 99.5th percentiles."""
    low, high = (float(np.quantile(values, share)) for share in (0.005, 0.995))
    return grey_picture((values - low) / max(high - low, 1e-12), 1.0)


def flow_picture(flow: Array, most_px: float) -> Picture:
    """A flow (2, H, W) by the wheel of :func:`flow_wheel`: hue for direction, saturation for length up to most_px."""
    length = np.hypot(flow[0], flow[1])
    angle = (np.arctan2(flow[1], flow[0]) / (2 * np.pi)) % 1.0
    share = np.clip(length / (most_px or 1.0), 0, 1)[..., None]
    hues = _hues()[np.rint(angle * 360).astype(int) % 360]
    return np.asarray(np.rint(255 * (1 - share) + share * hues), dtype=np.uint8)


def flow_wheel(side: int) -> Picture:
    """The colours of all flows (side, side, 3), dx to the right and dy downwards; white for none."""
    at = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / ((side - 1) / 2)
    dx, dy = np.meshgrid(at, at)
    wheel = flow_picture(np.stack([dx, dy]), 1.0)
    wheel[np.hypot(dx, dy) > 1] = 255
    return wheel


def heat_picture(shares: Array, cell: int = 8) -> Picture:
    """Shares (rows, columns) in [0, 1] as squares of ``cell`` pixels, from dark blue over red to light yellow."""
    stops = np.array([0, 0.25, 0.5, 0.75, 1])
    colours = np.array([[13, 8, 60], [106, 23, 110], [188, 55, 84], [243, 120, 25], [252, 250, 160]])
    picture = np.stack([np.interp(shares, stops, colours[:, channel]) for channel in range(3)], axis=-1)
    return np.asarray(np.rint(picture), dtype=np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)


@lru_cache(maxsize=1)
def _hues() -> NDArray[np.float64]:
    return 255 * np.array([colorsys.hsv_to_rgb(degree / 360, 1, 0.9) for degree in range(360)])
