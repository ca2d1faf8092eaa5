"""Channels in whole vectors: the split that gives such. The definition."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ksnet_deploy.ops.reference import Split, topk_split

__all__ = ["VECTOR", "padded_split"]

VECTOR = 8
"""Channels of half precision that one access of 16 bytes moves."""


def padded_split(f: Tensor, o: Tensor, lam: Tensor, k: int, *, channels: int, ranked: bool = False) -> Split:
    """:func:`ksnet_deploy.ops.reference.topk_split` of the first ``channels`` of f, each of its parts followed by
    channels of zeros up to a whole vector."""
    con, dis = topk_split(f[:, :channels], o, lam, k, ranked=ranked)
    return Split(*(F.pad(part, (0, 0, 0, 0, 0, -part.shape[1] % VECTOR)) for part in (con, dis)))
