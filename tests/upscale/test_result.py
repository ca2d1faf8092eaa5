"""Results and estimates in words."""

from __future__ import annotations

from pathlib import Path

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.estimate import Estimate
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.stages import StageTimes

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
