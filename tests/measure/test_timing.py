"""Samples, rounds and their spread; shares of layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from standins import Time

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.measure.speed.layers import layer_shares, shares_of
from ksnet_deploy.measure.speed.timing import Latency, repeat, spread, warm_up


def test_percentiles_are_of_all_samples_and_the_median_is_of_rounds() -> None:
    latency = Latency(((1.0, 2.0, 3.0), (10.0, 20.0, 30.0), (4.0, 5.0, 6.0)))
    assert (latency.samples, latency.medians_ms, latency.p50_ms) == (9, [2.0, 20.0, 5.0], 5.0)
    assert latency.fps == pytest.approx(200)
    assert latency.percentile_ms(100) == 30


def test_a_single_round_has_no_noise_to_tell() -> None:
    assert Latency(((1.0, 2.0),)).noise is None
    assert Latency(((1.0,), (2.0,), (3.0,))).noise is not None


def test_one_disturbed_round_changes_neither_median_nor_spread_much() -> None:
    calm, disturbed = [10.0, 10.1, 9.9, 10.0, 10.2], [10.0, 10.1, 9.9, 10.0, 55.0]
    assert spread(disturbed) == pytest.approx(spread(calm), abs=0.01)
    assert spread([10.0, 12.0, 8.0, 11.0, 9.0]) > 0.1


def test_the_warm_up_goes_by_time_and_steps_once_at_least() -> None:
    time, steps = Time(), []

    def step() -> None:
        steps.append(time.now)
        time.now += 0.4

    assert warm_up(step, 1.0, clock=time) == pytest.approx(400)
    assert len(steps) == 3
    warm_up(step, 0.0, clock=time)
    assert len(steps) == 4


def test_repetitions_end_with_their_time() -> None:
    time = Time()

    def timed() -> float:
        time.now += 0.5
        return 500.0

    assert repeat(timed, 1.6, clock=time) == [500.0] * 4
    assert repeat(timed, 0.0, clock=time) == [500.0]


def test_frames_move_and_have_the_size_asked_for() -> None:
    frames = moving_frames(FrameSize(101, 200), 3)
    assert all(frame.shape == (101, 200, 3) for frame in frames)
    assert (frames[0] != frames[1]).any()


def test_shares_are_of_the_kernels_times() -> None:
    def event(operator: str, microseconds: int, name: str = "a_kernel_time") -> dict[str, object]:
        return {"cat": "Node", "name": name, "dur": microseconds, "args": {"op_name": operator}}

    events = [event("Conv", 60), event("Add", 10), event("Transpose", 30), event("Conv", 999, "a_fence_before")]
    assert shares_of(events) == {"convolutions": 0.6, "layout": 0.3, "elementwise": 0.1}
    assert list(shares_of(events)) == ["convolutions", "layout", "elementwise"]


def test_the_profile_of_a_step_has_its_convolutions(small_onnx: Callable[..., Path]) -> None:
    size = FrameSize(32, 48)
    shares = layer_shares(small_onnx("32x48"), size, moving_frames(size, 3))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["convolutions"] > 0.1
    assert shares["DeformConv"] > 0
