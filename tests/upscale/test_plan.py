from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.networks import GivenNetwork, find_network
from ksnet_deploy.upscale.plan import LONGEST_SEGMENT, FramePlan, longest_segment
from ksnet_deploy.upscale.scenes import GivenCuts
from ksnet_deploy.video.reading.reader import Frame


def frames(count: int) -> Iterator[Frame]:
    return (Frame(np.full((16, 16, 3), index, np.uint8), index) for index in range(count))


def segments(longest: int | None, cuts: frozenset[int], count: int = 60) -> list[int]:
    plan = FramePlan(GivenCuts(cuts), Fraction(1, 25), longest)
    return [planned.frame.pts for planned in plan.of(frames(count)) if planned.starts_segment]


@pytest.mark.parametrize(
    ("longest", "cuts", "expected"),
    [
        (None, frozenset(), [0]),
        (25, frozenset(), [0, 25, 50]),
        (7, frozenset({5, 9}), [0, 7, 14, 21, 28, 35, 42, 49, 56]),  # no cut after a whole segment
        (30, frozenset({10, 26}), [0, 26, 56]),
        (10, frozenset({10, 25}), [0, 10, 20, 30, 40, 50]),
    ],
)
def test_segments_end_at_cuts_or_at_their_length(
    longest: int | None, cuts: frozenset[int], expected: list[int]
) -> None:
    assert segments(longest, cuts) == expected


def test_heavier_work_is_kept_in_shorter_segments() -> None:
    lite, uni = find_network("lite"), find_network("uni")
    lengths = [
        longest_segment(network.macs_per_frame(size))
        for network, size in (
            (lite, FrameSize(72, 128)),
            (lite, FrameSize(180, 320)),
            (uni, FrameSize(180, 320)),
            (uni, FrameSize(1080, 1920)),
        )
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == LONGEST_SEGMENT
    assert 70 <= lengths[1] <= 110  # some 20 seconds at 4 to 5 frames per second
    assert 5 <= lengths[2] <= 15
    assert lengths[3] == 4
    assert longest_segment(GivenNetwork(lambda *_: None).macs_per_frame(FrameSize(180, 320))) == LONGEST_SEGMENT  # type: ignore[arg-type, return-value]
