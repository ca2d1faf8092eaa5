"""The network's stage with frames in flight: the same frames and states, in the same order, as without."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from runners import FadingRunner, LateRunner

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.network_stage import NetworkStage
from ksnet_deploy.upscale.plan import FramePlan
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.scenes import GivenCuts
from ksnet_deploy.upscale.segments import Upscaled
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import Frame

SIZE = FrameSize(14, 21)
"""Below the network's least height, so that frames are padded and cropped."""


def film() -> list[NDArray[np.uint8]]:
    """Fourteen frames, of which the sixth and seventh, and the last, repeat the one before."""
    lrs = [*np.random.default_rng(0).integers(0, 256, (14, SIZE.height, SIZE.width, 3), dtype=np.uint8)]
    lrs[5] = lrs[6] = lrs[4]
    lrs[13] = lrs[12]
    return lrs


def through(upscaler: Upscaler, lrs: list[NDArray[np.uint8]]) -> list[tuple[int, Upscaled]]:
    """Frames as the stages of upscale give them to the network, each with the number of those that had gone in."""
    upscaler.open(SIZE)
    plan = FramePlan(GivenCuts({9}), Fraction(1, 25), 4)
    network = NetworkStage(upscaler, Events())
    gone_in = itertools.count(1)
    out = [
        (number, upscaled)
        for planned in plan.of(Frame(lr, index) for index, lr in enumerate(lrs))
        for number in [next(gone_in)]
        for upscaled in network(planned)
    ]
    return out + [(len(lrs), upscaled) for upscaled in network.flush()]


def test_frames_in_flight_change_neither_pictures_nor_states_nor_their_order() -> None:
    with Upscaler(open_runner=FadingRunner) as plain, Upscaler(open_runner=LateRunner) as late:
        expected, found = through(plain, film()), through(late, film())
        assert (plain.steps, late.steps) == (11, 11)
    assert [upscaled.index for _, upscaled in found] == [*range(14)]
    for (_, one), (_, other) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.frame.rgb, other.frame.rgb)
        assert one.frame.rgb.shape == (4 * SIZE.height, 4 * SIZE.width, 3)
        assert (one.state_before is None) == (other.state_before is None)
        for name, array in (one.state_before or {}).items():
            np.testing.assert_array_equal(array, (other.state_before or {})[name])
    assert sum(bool(upscaled.state_before) for _, upscaled in expected) >= 2, "segments begin in mid-scene"


def test_one_frame_is_in_flight_while_the_next_is_submitted_where_the_runner_allows_it() -> None:
    with Upscaler(open_runner=FadingRunner) as plain, Upscaler(open_runner=LateRunner) as late:
        assert [number - upscaled.index for number, upscaled in through(plain, film())] == [1] * 14
        delays = [number - upscaled.index for number, upscaled in through(late, film())]
        runner = late.open(SIZE)
        assert isinstance(runner, LateRunner)
        # Frame 0 shows whether the network runs at all; 4 is collected for its repetitions, 8 for the cut.
        assert delays == [2, 2, 2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 2, 1]
        assert runner.log[:6] == ["submit", "collect", "submit", "submit", "collect", "submit"]


def test_a_stage_begins_without_what_another_left_in_flight() -> None:
    lrs = film()
    with Upscaler(open_runner=LateRunner) as upscaler, Upscaler(open_runner=FadingRunner) as plain:
        upscaler.open(SIZE)
        left = NetworkStage(upscaler, Events())
        for planned in FramePlan(GivenCuts(set()), Fraction(1, 25)).of(Frame(lr, i) for i, lr in enumerate(lrs[7:9])):
            [*left(planned)]
        for (_, one), (_, other) in zip(through(upscaler, lrs), through(plain, lrs), strict=True):
            np.testing.assert_array_equal(one.frame.rgb, other.frame.rgb)
