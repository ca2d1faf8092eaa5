"""Parameters and multiply-adds of a configuration, in training form and folded: the columns of the paper's Table 2."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.blocks import RCB
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet

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
    with torch.device("meta"):
        model = KSNet(config)
        folded = fold(model)
    return Complexity(
        params_training=_params(model),
        params_deploy=_params(folded),
        gmacs_training=_gmacs(_with_branches(model), size),
        gmacs_deploy=_gmacs(folded, size),
    )


class _Branches(nn.Module):
    def __init__(self, block: RCB) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block.branches(x)


def _with_branches(model: KSNet) -> KSNet:
    """A copy whose RCBs compute each branch by itself, which is what the paper counts."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RCB):
                setattr(parent, name, _Branches(child))
    return model


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
