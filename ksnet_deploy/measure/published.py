"""Figures that the paper publishes, for tables beside ours. None of them was measured here."""

from __future__ import annotations

__all__ = ["PUBLISHED", "PUBLISHED_SOURCE"]

PUBLISHED_SOURCE = "KSNet, MM '23, Table 1"
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "Bicubic": {"vid4": (23.78, 0.6347), "reds4": (26.14, 0.7292), "vimeo90k": (31.30, 0.8687)},
    "VESPCN": {"vid4": (25.35, 0.7557)},
    "RLSP": {"vid4": (27.05, 0.8139), "vimeo90k": (36.49, 0.9403)},
    "RRN": {"vid4": (27.09, 0.8185)},
    "DAP-128": {"reds4": (30.59, 0.8703), "vimeo90k": (37.29, 0.9476)},
    "RSDN": {"vid4": (27.22, 0.8249), "vimeo90k": (37.23, 0.9471)},
    "EDVR-M": {"vid4": (27.10, 0.8186), "reds4": (30.53, 0.8699), "vimeo90k": (37.33, 0.9484)},
    "KSNet-uni": {"vid4": (27.14, 0.8208), "reds4": (30.69, 0.8724), "vimeo90k": (37.34, 0.9490)},
    "ASSL-bi": {"vid4": (27.03, 0.8163), "reds4": (30.72, 0.8783), "vimeo90k": (36.71, 0.9410)},
    "RSCL-bi": {"vid4": (27.16, 0.8213), "reds4": (30.99, 0.8831), "vimeo90k": (36.83, 0.9421)},
    "BasicVSR": {"vid4": (27.24, 0.8251), "reds4": (31.42, 0.8909), "vimeo90k": (37.53, 0.9450)},
    "KSNet-bi": {"vid4": (27.22, 0.8245), "reds4": (31.14, 0.8862), "vimeo90k": (37.54, 0.9503)},
}
"""PSNR in dB and SSIM by data set and method."""
