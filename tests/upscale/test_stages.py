"""Three stages at the same time: order, overlap, bounded queues, failures."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from ksnet_deploy.upscale.stages import DEPTH, run_stages


def nothing_runs_on() -> bool:
    return not any(thread.name in ("decode", "encode") for thread in threading.enumerate())


def test_items_go_through_in_order_and_the_end_is_told_last() -> None:
    seen: list[object] = []
    run_stages(range(100), lambda item: [item * 2], seen.append, finish=lambda: seen.append("end"))
    assert seen == [*range(0, 200, 2), "end"]
    assert nothing_runs_on()


def test_the_middle_may_hold_items_back_and_give_several_at_once() -> None:
    held: list[int] = []
    seen: list[int] = []

    def by_threes(item: int) -> Iterator[int]:
        held.append(item)
        if len(held) == 3:
            while held:
                time.sleep(0.01)
                yield held.pop(0)

    times = run_stages(range(8), by_threes, seen.append, flush=lambda: held)
    assert seen == [*range(8)]
    assert times.busy_s["network"] >= 0.06


def test_no_items_are_no_error() -> None:
    seen: list[int] = []
    times = run_stages(iter(()), lambda item: [item], seen.append)
    assert seen == []
    assert times.wall_s < 5


def test_the_stages_work_at_the_same_time() -> None:
    """The middle of one item and the ends of two others meet at a barrier, which opens only for all three."""
    barrier = threading.Barrier(3, timeout=10)

    def meet(item: int) -> int:
        if item >= 0:
            barrier.wait()
        return item

    class Source:
        def __iter__(self):
            for item in range(6):
                if item >= 2:
                    barrier.wait()  # items 0 and 1 are in the two stages behind
                yield item

    met = []

    def last(item: int) -> None:
        if item < 4:
            barrier.wait()
        met.append(item)

    run_stages(Source(), lambda item: [meet(item) if 1 <= item < 5 else item], last)
    assert met == list(range(6))


def test_a_fast_stage_waits_so_that_memory_stays_flat() -> None:
    made = itertools.count()
    most_ahead = 0
    done = 0

    def slow(_item: int) -> None:
        nonlocal most_ahead, done
        time.sleep(0.002)
        done += 1

    def source():
        nonlocal most_ahead
        for _ in range(60):
            index = next(made)
            most_ahead = max(most_ahead, index - done)
            yield index

    run_stages(source(), lambda item: [item], slow)
    assert done == 60
    assert most_ahead <= 2 * DEPTH + 4  # two queues, and an item in each hand


@pytest.mark.parametrize("where", ["decode", "network", "encode", "finish"])
def test_a_failure_anywhere_ends_all_and_is_raised(where: str) -> None:
    def fail(name: str, item: int) -> int:
        if name == where and item == 20:
            raise ValueError(name)
        return item

    with pytest.raises(ValueError, match=where):
        run_stages(
            (fail("decode", item) for item in range(1000)),
            lambda item: [fail("network", item)],
            lambda item: fail("encode", item),  # type: ignore[arg-type, return-value]
            finish=lambda: fail("finish", 20),  # type: ignore[arg-type, return-value]
        )
    assert nothing_runs_on()


def test_an_interruption_of_the_caller_ends_the_others() -> None:
    def interrupted(item: int) -> list[int]:
        if item == 3:
            raise KeyboardInterrupt
        return [item]

    with pytest.raises(KeyboardInterrupt):
        run_stages(itertools.count(), interrupted, lambda _item: None)
    assert nothing_runs_on()


def test_the_slowest_stage_is_named() -> None:
    times = run_stages(range(5), lambda item: [item], lambda _item: time.sleep(0.01))
    assert times.bottleneck == "encode"
    assert "encode" in times.summary().split("(the bottleneck)")[0].split(",")[-1]
    assert 0.05 <= times.busy_s["encode"] <= times.wall_s
