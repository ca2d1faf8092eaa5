"""Results and estimates in words."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from runners import RepeatRunner

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.estimate import Estimate
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.stages import StageTimes
from ksnet_deploy.upscale.upscaler import Upscaler

TARGET, SIZE = Path("a.mp4"), FrameSize(4, 4)


def result(count: int) -> UpscaleResult:
    return UpscaleResult(
        TARGET,
        SIZE,
        count,
        frames_lost=0,
        resumed_frames=count,
        duplicates=count,
        cuts=[0.5] * count,
        steps=count,
        step_s=1.0,
        tiles=None,
        times=StageTimes(1.0),
        pixel_format="yuv420p",
    )


def test_one_frame_is_not_called_several() -> None:
    text = result(1).as_text()
    assert text.startswith("a.mp4: 1 frame of 4x4")
    assert text.endswith(
        "\n1 of the frames was finished by an earlier run.\n1 scene cut; 1 repeated frame cost nothing."
    )
    assert result(2).as_text().startswith("a.mp4: 2 frames of 4x4")
    assert result(2).as_text().endswith("\n2 scene cuts; 2 repeated frames cost nothing.")
    one = Estimate(TARGET, SIZE, "yuv420p", 1, 1.0, 1.0, 1, 1, None, 1).as_text()
    assert one.startswith("a.mp4: 1 frame of 4x4")
    assert "measured on 1 frame," in one
    assert "\n1 frame is finished" in one


@pytest.mark.parametrize(
    ("transfer", "primaries", "words"),
    [(16, 9, "HDR"), (18, 9, "HDR"), (8, 1, "linear"), (1, 9, r"BT\.2020"), (1, 12, "Display P3"), (1, 1, None)],
)
def test_pictures_and_pipes_do_not_say_how_their_colours_are_to_be_read(
    tmp_path: Path, transfer: int, primaries: int, words: str | None
) -> None:
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 16, 24, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_trc, context.color_primaries = 1, 1, transfer, primaries
        frame = av.VideoFrame.from_ndarray(np.full((16, 24, 3), 90, np.uint8), format="rgb24")
        frame = frame.reformat(format="yuv420p10le")
        frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 1, 1, transfer, primaries
        frame.pts = 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    for target, tagged in ((tmp_path / "frames", False), (tmp_path / "o.mkv", True)):
        notes = " ".join(upscale_video(source, target, Upscaler(open_runner=RepeatRunner)).notes)
        assert ("The output does not say that" in notes) == (words is not None and not tagged)
        assert ("its tags kept" in notes) == (words == "HDR" and tagged)
        if words is not None and not tagged:
            assert re.search(words, notes)
