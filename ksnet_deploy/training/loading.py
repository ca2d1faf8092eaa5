"""Batches from processes that load data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["loaded"]


def loaded(
    dataset: Dataset[Any], batches: Sampler[list[Any]], *, workers: int, pinned: bool = False
) -> Iterable[tuple[Tensor, ...]]:
    """The batches of a sampler, in order.

    Args:
        dataset: what the sampler draws from.
        batches: gives the draws of each batch.
        workers: processes that load; 0 loads in this one.
        pinned: whether batches come in page-locked memory, for a GPU.
    """
    return DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, pin_memory=pinned, worker_init_fn=_one_thread
    )


def _one_thread(_worker: int) -> None:
    """Let NumPy's matrix products in this process take one thread, as PyTorch's operators do in a process that loads.

    By itself each process has as many as there are cores, and they wait for one another.
    """
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
