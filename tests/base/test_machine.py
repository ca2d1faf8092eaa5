"""What is asked of the C library."""

from __future__ import annotations

import ctypes

import numpy as np
import psutil
import pytest

from ksnet_deploy.base.machine import give_free_memory_back, peak_memory, reset_peak_memory


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_memory_that_lies_free_between_what_is_used_goes_back() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    blocks = [np.ones(64 * 1024 // 8) for _ in range(2000)]  # 64 kB each, below the size that has pages of its own
    last = blocks[-1]
    del blocks
    give_free_memory_back()
    assert process.memory_info().rss - before < 20e6, "of 131 MB"
    assert last.sum() == last.size


def test_another_c_library_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> ctypes.CDLL:
        raise OSError("libc.so.6: not found")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    give_free_memory_back()


def test_the_peak_of_the_memory_begins_anew() -> None:
    block = np.ones(200_000_000, np.uint8)
    del block
    before = peak_memory()
    if not reset_peak_memory():
        pytest.skip("this system does not count anew")
    assert peak_memory() < before - 100_000_000
