"""Contexts that are kept give the pictures that new ones give, whatever came before."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame

from ksnet_deploy.video import scaling
from ksnet_deploy.video.colour import SWSCALE, SWSCALE_LANCZOS
from ksnet_deploy.video.scaling import filtered, reformatted

WAYS: list[dict[str, Any]] = [
    {"format": "rgb24", "interpolation": SWSCALE},
    {"format": "yuv444p16le", "interpolation": SWSCALE, "dst_color_range": 1},
    {"width": 30, "height": 14, "interpolation": SWSCALE_LANCZOS},
]


def yuv(seed: int, size: tuple[int, int] = (24, 40), matrix: int = 1, where: str = "left") -> VideoFrame:
    """Noise in 4:2:0, whose chroma lies somewhere."""
    height, width = size
    values = np.random.default_rng(seed).integers(16, 236, (height * 3 // 2, width), dtype=np.uint8)
    frame = VideoFrame.from_ndarray(values, format="yuv420p")
    frame.colorspace, frame.color_range = matrix, 1
    return filtered(frame, "setparams", f"chroma_location={where}")


def test_frames_by_turns_come_out_as_each_would_alone() -> None:
    kinds = itertools.product(((24, 40), (16, 16)), (1, 5), ("left", "center", "topleft"))
    made = [(yuv(seed, *kind), how) for seed, kind in enumerate(kinds) for how in WAYS]
    alone = [frame.reformat(**how).to_ndarray() for frame, how in made]
    for _ in range(2):
        for (frame, how), expected in zip(made, alone, strict=True):
            np.testing.assert_array_equal(reformatted(frame, **how).to_ndarray(), expected)
    assert len(scaling._reformatters._by_kind) == scaling.KINDS, "no more are kept"


def test_where_the_chroma_lies_makes_a_difference_though_the_kind_is_one() -> None:
    """Else the test above would not see a context that forgot to look."""
    left, centre = (reformatted(yuv(0, where=where), **WAYS[0]).to_ndarray() for where in ("left", "center"))
    assert (left != centre).any()


@pytest.mark.parametrize("where", ["left", "bottom"])
def test_a_filter_that_is_kept_changes_every_frame_and_keeps_its_time(where: str) -> None:
    frames = [yuv(seed) for seed in range(3)]
    for pts, frame in enumerate(frames):
        frame.pts = 10 - pts  # backward, as frames of another film would
    results = [filtered(frame, "setparams", f"chroma_location={where}") for frame in frames]
    assert [frame.pts for frame in results] == [10, 9, 8]
    for frame, result in zip(frames, results, strict=True):
        np.testing.assert_array_equal(frame.to_ndarray(), result.to_ndarray())


def test_threads_do_not_share_contexts() -> None:
    frames = [yuv(seed) for seed in range(64)]
    expected = [frame.reformat(**WAYS[0]).to_ndarray() for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda frame: reformatted(frame, **WAYS[0]).to_ndarray(), frames))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def _both(frame: VideoFrame) -> None:
    for how in WAYS:
        reformatted(filtered(frame, "setparams", "chroma_location=left"), **how)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forked processes")
def test_a_forked_process_has_contexts_of_its_own() -> None:
    """Those of the process that it came from wait for threads that are not there."""
    frame, met, done = yuv(0), threading.Event(), threading.Event()

    def other() -> None:  # a thread whose contexts are dropped with it in the forked process
        _both(frame)
        met.set()
        done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    met.wait()
    _both(frame)
    child = multiprocessing.get_context("fork").Process(target=_both, args=(frame,))
    child.start()
    child.join(timeout=60)
    done.set()
    thread.join()
    code = child.exitcode
    child.kill()
    assert code == 0, "it never ended"
