"""Parameters and multiply-adds of a configuration, in training form and folded: the columns of the paper's Table 2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ksnet_deploy.config import FrameSize, KSNetConfig
from ksnet_deploy.folding import fold
from ksnet_deploy.model import KSNet

__all__ = ["Complexity", "complexity"]


@dataclass(frozen=True)
class Complexity:
    """Size and work of a network."""

    params_training: int
    params_deploy: int
    gmacs_training: float
    """Multiply-adds of all convolutions for one frame, in 1e9; what the paper calls FLOPs."""
    gmacs_deploy: float


def complexity(config: KSNetConfig, size: FrameSize) -> Complexity:
    """Count for one frame of the size, without computing anything (meta tensors)."""
    model = KSNet(config)
    folded = fold(model)
    return Complexity(
        params_training=_params(model),
        params_deploy=_params(folded),
        gmacs_training=_gmacs(model, size),
        gmacs_deploy=_gmacs(folded, size),
    )


def _params(model: KSNet) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _gmacs(model: KSNet, size: FrameSize) -> float:
    model = model.to("meta")
    frames = torch.empty(1, 3, 3, size.height, size.width, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        if model.config.direction == "uni":
            model(frames[:, 0], model.initial_state(frames[:, 0]))
        else:
            model.forward_window(frames)
    per_frame: float = counter.get_total_flops() / (1 if model.config.direction == "uni" else frames.shape[1])
    return per_frame / 2 / 1e9  # the counter counts a multiply-add as two operations
