"""Memory of an upscale must not grow with the length of the video."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from media import make_video

from ksnet_deploy.config import FrameSize

PEAK = """
import resource, sys
from ksnet_deploy.cli import main
sys.argv = ["ksnet-deploy", "upscale", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_of(video: Path, network: Path) -> int:
    command = [sys.executable, "-c", PEAK, str(video), "-m", str(network)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def test_peak_of_300_frames_is_that_of_60_within_5_percent(tmp_path: Path, small_onnx: Callable[..., Path]) -> None:
    size = FrameSize(32, 48)
    network = small_onnx(str(size))
    short, long = (peak_of(make_video(tmp_path / f"{n}.mp4", size, frames=n, sound=True), network) for n in (60, 300))
    assert long <= 1.05 * short
