"""Processes that load data keep to one core each."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_info
from torch.utils.data import Dataset, Sampler

from ksnet_deploy.training.loading import loaded


class Threads(Dataset[torch.Tensor]):
    """The most threads that a library takes in the process that loads."""

    def __getitem__(self, _index: int) -> torch.Tensor:
        return torch.tensor([torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())]).max()


class Draws(Sampler[list[int]]):
    def __iter__(self):  # type: ignore[no-untyped-def]
        yield from ([0, 1], [2, 3], [4, 5])


def test_every_library_of_a_loading_process_takes_one_thread() -> None:
    assert [batch.tolist() for batch in loaded(Threads(), Draws(), workers=2)] == [[1, 1]] * 3  # type: ignore[attr-defined]


def test_a_run_that_loads_by_itself_keeps_its_threads() -> None:
    before = {library["filepath"]: library["num_threads"] for library in threadpool_info()}
    list(loaded(Threads(), Draws(), workers=0))
    assert {library["filepath"]: library["num_threads"] for library in threadpool_info()} == before
