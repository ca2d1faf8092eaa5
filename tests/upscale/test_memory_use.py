"""Memory of an upscale must not grow with the length of the video. Run as a program, this file upscales one."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from media import make_video
from numpy.typing import NDArray
from runners import RepeatRunner

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import peak_memory
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler

SIZE = FrameSize(144, 256)
"""A frame of the source has 110 kB: 180 of them are 19.9 MB, a sixth of what the process takes without them."""


class Leaking(RepeatRunner):
    """Of every frame a copy stays behind."""

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        self.kept = [*getattr(self, "kept", []), lr.copy()]
        return super()._step(lr)


def peak_of(video: Path, frames: int, *, leak: bool = False) -> int:
    """Bytes that a process of its own takes at most while it upscales the first frames of a video."""
    command = [sys.executable, __file__, str(video), str(frames), *(["leak"] if leak else [])]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    return int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_peak_of_330_frames_is_that_of_150_within_5_percent(tmp_path: Path) -> None:
    """The shorter is in its second segment, where all that a job ever holds has been there once."""
    video = make_video(tmp_path / "v.mp4", SIZE, frames=330, sound=True)
    short = peak_of(video, 150)
    assert peak_of(video, 330) <= 1.05 * short
    assert peak_of(video, 150, leak=True) >= 1.1 * short  # as a leak of 150 frames alone would show


if __name__ == "__main__":
    source, frames, *leak = sys.argv[1:]
    target, end_s = Path(source).with_name("".join(["o", frames, *leak, ".mp4"])), Fraction(int(frames), 25)
    upscale_video(
        Path(source), target, Upscaler(open_runner=Leaking if leak else RepeatRunner), height=SIZE.height, end_s=end_s
    )
    print(peak_memory())
