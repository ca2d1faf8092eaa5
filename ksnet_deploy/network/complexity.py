"""Parameters and multiply-adds of a configuration, in training form and folded: the columns of the paper's Table 2."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

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


@functools.cache
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


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the operations of convolutions and matrix products, by PyTorch's own formulas.

    PyTorch's ``FlopCounterMode`` gives the same sum, but first takes everything apart that it has no formula for.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if func is torch.ops.aten.grid_sampler_2d.default:  # its form for meta tensors is a hundred Python operations
            x, grid = args[:2]
            return x.new_empty((*x.shape[:2], *grid.shape[1:3]))
        result = func(*args, **kwargs or {})
        if (count := flop_registry.get(func._overloadpacket)) is not None:  # type: ignore[attr-defined]
            self.operations += count(*args, **kwargs or {}, out_val=result)
        return result


def _gmacs(model: KSNet, size: FrameSize) -> float:
    model = model.to("meta")
    window = torch.empty(1, 1, 3, size.height, size.width, device="meta")  # one frame: each takes the same work
    with torch.no_grad(), _Counter() as counter:
        model.forward_window(window)
    per_frame: float = counter.operations / 2 / 1e9  # the formulas count a multiply-add as two operations
    return per_frame
