"""Weights as other programs keep them."""

from __future__ import annotations

import torch
from networks import Tensors


def zeros(weights: Tensors) -> Tensors:
    return {name: torch.zeros_like(tensor) for name, tensor in weights.items()}


def prefixed(prefix: str, weights: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in weights.items()}
