"""Temporal consistency of an enlarged video."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.metrics import luma

__all__ = ["WarpingError"]


class WarpingError:
    """Temporal consistency: how much a result changes along the original's motion.

    The flow between neighbouring original frames brings the last result to the current one; the error is the mean
    absolute difference of their luma, of 255, over the pixels whose original follows the flow (to within
    ``TRUSTED_LEVELS``, so that occlusions and wrong flow do not count). Lower is steadier; still blur is steady too, so
    it is to be read beside PSNR. The flow is the bundled network's at HR size, the same for every method.
    """

    TRUSTED_LEVELS = 4.0

    def __init__(self, flow_checkpoint: Path, *, remember: bool = False) -> None:
        """``remember`` keeps all flows, 8 bytes an HR pixel, for scoring other methods on the same clips."""
        import torch

        from ksnet_deploy.network.checkpoints import load_checkpoint

        self._torch = torch
        self._flow = load_checkpoint(flow_checkpoint).model.flow
        self._last: tuple[Any, Any] | None = None
        self._known: dict[bytes, Any] | None = {} if remember else None

    def begin(self) -> None:
        self._last = None

    def add(self, found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float | None:
        """The error between this frame and the one before; None for the first."""
        from ksnet_deploy.network.flow import warp

        torch = self._torch
        with torch.inference_mode():
            rgb = torch.from_numpy(expected).permute(2, 0, 1)[None].float() / 255
            planes = torch.from_numpy(np.stack([luma(found), luma(expected)]))[None]
            last, self._last = self._last, (rgb, planes)
            if last is None:
                return None
            moved = warp(last[1], self._flow_between(rgb, last[0]), "border")
            change = (moved - planes)[0].abs()
            trusted = change[1] < self.TRUSTED_LEVELS
            return float(change[0][trusted].mean()) if bool(trusted.any()) else None

    def _flow_between(self, rgb: Any, last: Any) -> Any:
        assert self._flow is not None
        if self._known is None:
            return self._flow(rgb, last)
        pair = hashlib.sha256(rgb.numpy().tobytes() + last.numpy().tobytes()).digest()
        if pair not in self._known:
            self._known[pair] = self._flow(rgb, last)
        return self._known[pair]
