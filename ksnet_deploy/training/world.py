"""World of a training run: its processes, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ksnet_deploy.base.errors import BackendError

__all__ = ["World"]


@dataclass(frozen=True)
class World:
    """The processes of a run, one per device; torchrun's environment variables say which this is."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> World:
        """This process's place. Under torchrun, connects the processes."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
        place = torch.device("cuda", local) if device == "cuda" else torch.device(device)
        if place.type == "cuda":
            if local >= torch.cuda.device_count():
                raise BackendError(
                    f"process {local} of this machine has no GPU of its own; there are {torch.cuda.device_count()}, "
                    "so start that many with torchrun --nproc-per-node"
                )
            torch.cuda.set_device(place)
        if size > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
        return cls(rank, size, place)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all must leave the loop at the same iteration."""
        if self.size == 1:
            return flag
        sum_of_flags = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(sum_of_flags)
        return bool(sum_of_flags > 0)

    def all(self, flag: Tensor) -> Tensor:
        """Whether a flag on the device is set in all processes, on the device; unlike :meth:`any` it is not waited
        for."""
        if self.size == 1:
            return flag
        unset = (~flag).float()
        torch.distributed.all_reduce(unset)
        return unset == 0

    def agreed(self, number: int) -> int:
        """The number that the leading process has."""
        if self.size == 1:
            return number
        value = torch.tensor(number if self.leads else 0, device=self.device)
        torch.distributed.all_reduce(value)
        return int(value)

    def leave(self) -> None:
        """Disconnect the processes, all at once: one that leaves early aborts the others."""
        if self.size > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over all processes."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
