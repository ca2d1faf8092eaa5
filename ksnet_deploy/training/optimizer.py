"""The optimizer: Adam, or Muon for convolution kernels beside Adam for all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MuonWithAdam", "make_optimizer", "split_kernels"]

ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
MUON = {"momentum": 0.95, "ns_steps": 5, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}


def make_optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Optimizer of parameter groups; a group with ``muon`` set holds convolution kernels that Muon takes."""
    if any(group.get("muon") for group in groups):
        return MuonWithAdam(groups)
    return torch.optim.Adam(groups, **ADAM)  # type: ignore[arg-type]


def split_kernels(group: dict[str, Any]) -> list[dict[str, Any]]:
    """A parameter group as two: its convolution kernels (4-D tensors) for Muon, and the rest for Adam."""
    kernels = [parameter for parameter in group["params"] if parameter.ndim == 4]
    rest = [parameter for parameter in group["params"] if parameter.ndim != 4]
    return [{**group, "params": kernels, "muon": True}, {**group, "params": rest}]


class MuonWithAdam(torch.optim.Optimizer):
    """Muon (momentum 0.95, five Newton-Schulz steps) on kernels seen as matrices of outputs by inputs x taps.

    An update is scaled by 0.2 sqrt(max(rows, columns)), which gives it Adam's usual size (Liu et al., "Muon is Scalable
    for LLM Training", 2025), so both take the same learning rate. PyTorch's Muon takes matrices only: it is given views
    of the kernels, which share their memory.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.0, "muon": False})
        self._pairs = [
            (parameter, _matrix(parameter, parameter.detach()))
            for group in self.param_groups
            if group["muon"]
            for parameter in group["params"]
        ]
        matrices = iter(matrix for _, matrix in self._pairs)
        muon = [{"params": [next(matrices) for _ in group["params"]]} for group in self.param_groups if group["muon"]]
        adam = [{"params": group["params"]} for group in self.param_groups if not group["muon"]]
        self._muon = torch.optim.Muon(muon, **MUON)  # type: ignore[arg-type]
        self._adam = torch.optim.Adam(adam, **ADAM)  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise NotImplementedError("the loop computes gradients itself; call step() without a closure")
        inner = {True: iter(self._muon.param_groups), False: iter(self._adam.param_groups)}
        for group in self.param_groups:
            next(inner[bool(group["muon"])])["lr"] = group["lr"]
        for kernel, matrix in self._pairs:
            matrix.grad = None if kernel.grad is None else _matrix(kernel, kernel.grad)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._muon.load_state_dict(state_dict["muon"])
        self._adam.load_state_dict(state_dict["adam"])


def _matrix(kernel: nn.Parameter, tensor: Tensor) -> Tensor:
    """A tensor of a kernel's shape (O, I, h, w) as (O, I h w), columns in the order of the kernel's memory.

    For the kernel itself that is a view; Muon does not depend on the order of the columns.
    """
    if kernel.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.flatten(1)
