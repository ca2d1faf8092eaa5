"""Frames as they are exchanged with the world, to the planes that a network computes on, and back."""

from __future__ import annotations

import torch

__all__ = ["decode_frame", "encode_frame"]


def decode_frame(frame: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) of any frame type -> (N, 3, H, W) float32 in [0, 1]."""
    # Cast before transposing: TensorRT lets uint8 touch nothing but a cast.
    planes = frame.to(torch.float32).permute(0, 3, 1, 2)
    return planes / 255.0 if frame.dtype == torch.uint8 else planes


def encode_frame(planes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(N, 3, H, W) -> (N, H, W, 3) of a frame type; uint8 is clamped to 0..255 and rounded, floats are as they are.
    Planes of uint8 are encoded already, and refused for another type with a ValueError."""
    if planes.dtype == torch.uint8 and dtype != torch.uint8:
        raise ValueError(f"planes that are encoded as uint8 are not encoded as {dtype}")
    if dtype == torch.uint8 and planes.dtype != torch.uint8:
        planes = (planes.clamp(0.0, 1.0) * 255.0).round()
    return planes.permute(0, 2, 3, 1).to(dtype)
