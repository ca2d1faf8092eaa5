"""Encoders before they encode: what is refused, which is taken, and what is said of those that do not work."""

from __future__ import annotations

import dataclasses
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from runners import RepeatRunner
from software import SOFTWARE

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.colour import Colour
from ksnet_deploy.video.writing import presets as encoders
from ksnet_deploy.video.writing import trial
from ksnet_deploy.video.writing.encoding import FrameEncoder, PictureFormat
from ksnet_deploy.video.writing.presets import PRESETS, available_encoders, choose_encoder


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nope", {}, "no encoder 'nope' in this FFmpeg; use h264, hevc, av1, vp9, prores, ffv1"),
        ("aac", {}, "'aac' encodes audio"),
        ("libx264rgb", {}, "takes no Y'CbCr frames"),
        ("h264", {"quality": 52}, "qualities from 0 to 51, not 52"),
        ("av1", {"quality": 0}, "qualities from 1 to 63, not 0"),  # libsvtav1 would take its own default, 35
        ("prores", {"quality": 5}, "prores has no setting for quality"),
        ("mpeg4", {"quality": 5}, "mpeg4 has no setting for quality"),
        ("libvpx", {"quality": 64}, "qualities from 0 to 63, not 64"),
        ("vp9", {"speed": "-5"}, "no speed '-5'; give one of 0, 1, "),
        ("h264", {"speed": "warp"}, "no speed 'warp'; give one of ultrafast, "),
        ("av1", {"speed": "slow"}, "no speed 'slow'; give one of 0, 1, "),
        ("ffv1", {"speed": "slow"}, "ffv1 has no setting for speed"),
    ],
)
def test_what_an_encoder_has_not_is_refused_silently(
    name: str, settings: dict[str, object], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError, match=message):
        choose_encoder(name, **settings)  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", "")


def test_frames_on_which_an_encoder_is_unsound_are_refused() -> None:
    for name in ("hevc", "av1"):
        choose_encoder(name).check_size(FrameSize(16, 64))
        for size in (FrameSize(128, 48), FrameSize(8, 64)):
            with pytest.raises(OutputError, match=f"{name} encodes frames of at least 16x64, not {size}; use h264"):
                choose_encoder(name).check_size(size)
    choose_encoder("h264").check_size(FrameSize(8, 8))


def test_every_preset_is_tried_and_the_software_works(capfd: pytest.CaptureFixture[str]) -> None:
    found = available_encoders()
    assert tuple(found) == PRESETS
    assert {name for name in SOFTWARE if found[name] is not None} == set()
    assert all(problem is None or problem for problem in found.values())
    assert capfd.readouterr() == ("", "")


def test_a_preset_that_ffmpeg_lacks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders._PRESETS, "av1-qsv", encoders._Settings("no_such_encoder"))
    assert available_encoders()["av1-qsv"] == "FFmpeg was built without no_such_encoder"
    with pytest.raises(OutputError, match=r"no encoder 'av1-qsv' \(no_such_encoder\)"):
        choose_encoder("av1-qsv")


CRASHING = """
import json, os, sys, time
for name, *_ in json.load(sys.stdin):
    print("[INFO] a driver says hello", flush=True)
    if name == "hevc": os.abort()
    if name == "av1": time.sleep(60)
    print(json.dumps([name, None]), flush=True)
"""


def test_an_encoder_that_ends_or_stops_its_process_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_CHILD", CRASHING)
    monkeypatch.setattr(trial, "_PATIENCE_S", 1)
    found = trial.try_out([choose_encoder(name) for name in SOFTWARE])
    assert found == {
        "h264": None,
        "hevc": "trying it ended the process with -6",
        "av1": "it did not answer within 1 s",
        "vp9": None,
        "prores": None,
        "ffv1": None,
    }


def test_an_encoder_in_hardware_is_tried_before_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    if encoders._find("h264_nvenc") is None:
        pytest.skip("this FFmpeg has no encoder in hardware")
    monkeypatch.setattr(trial, "_CHILD", 'print(\'["h264-nvenc", "the card is on fire"]\')')
    with pytest.raises(OutputError, match=r"h264-nvenc does not work here \(the card is on fire\); use h264, "):
        choose_encoder("h264-nvenc")
    monkeypatch.setattr(trial, "_CHILD", "print('[\"h264-nvenc\", null]')")
    chosen = choose_encoder("h264-nvenc", quality=25, speed="p7")
    assert (chosen.options["cq"], chosen.options["preset"]) == ("25", "p7")
    assert [chosen.pixel_format(depth, "420") for depth in (8, 10)] == ["yuv420p", "p010le"]


def test_the_reason_is_what_ffmpeg_says() -> None:
    """The child process turns FFmpeg's words on and catches them; its error number alone says little."""
    refused = dataclasses.replace(choose_encoder("h264"), options={"preset": "warp"})
    assert trial.try_out([refused, choose_encoder("ffv1")]) == {
        "h264": "Error setting preset/tune warp/(null)",
        "ffv1": None,
    }


@pytest.mark.parametrize("name", ["h264", "hevc", "vp9", "av1", "prores", "ffv1"])
def test_every_preset_keeps_the_colour_tags(tmp_path: Path, name: str) -> None:
    source = tmp_path / "v.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, 16
        frame = av.VideoFrame(96, 64, "yuv420p10le")
        for plane in frame.planes:
            plane.update(np.full(plane.buffer_size // 2, 512, np.uint16).tobytes())
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    upscaler = Upscaler(open_runner=RepeatRunner)
    result = upscale_video(source, tmp_path / "o.mkv", upscaler, codec=choose_encoder(name))
    with av.open(str(result.target)) as container:
        next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        found = context.colorspace, context.color_range, context.color_primaries, context.color_trc
    assert found == (9, 1, 9, 16)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may raise a priority")
def test_no_encoder_raises_the_priority_of_the_process() -> None:
    """SVT-AV1 makes its threads and the caller real-time ones where it may, and all else waits for them."""
    before = os.sched_getscheduler(0)
    picture = PictureFormat(FrameSize(64, 64), "yuv420p", Colour(6, 1, 2, 2), Fraction(1, 25), Fraction(25))
    encoder = FrameEncoder(choose_encoder("av1"), picture)
    found = {os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir()}
    encoder.finish()
    assert found == {before} == {os.sched_getscheduler(0)}
