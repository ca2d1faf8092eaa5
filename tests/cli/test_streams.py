"""Readers of standard output and error that go away while there is work to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from media import make_video
from thinning import table

from ksnet_deploy.base.frames import FrameSize

COMMAND = """
import sys
from runners import RepeatRunner
from ksnet_deploy.cli.app import main
from ksnet_deploy.upscale.networks import NetworkFile
NetworkFile.open = lambda network, size, io, *_, **__: RepeatRunner(size, io)
sys.argv = ["ksnet-deploy", *sys.argv[1:]]
main()
"""
SUPPORT = str(Path(__file__).parents[1] / "support")


@pytest.mark.skipif(sys.platform == "win32", reason="what a closed pipe does is POSIX's")
@pytest.mark.parametrize(
    ("options", "closed"),
    table(("--json", "--progress json", "", "--progress json --json"), ("stdout", "stderr", "both"), every=3),
)
def test_a_reader_that_goes_away_does_not_end_the_work(tmp_path: Path, options: str, closed: str) -> None:
    source = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=30)
    command = [sys.executable, "-c", COMMAND, "upscale", str(source), *options.split()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": SUPPORT})
    assert process.stdout is not None
    assert process.stderr is not None
    if closed != "stderr":
        process.stdout.close()
    if closed != "stdout":
        process.stderr.close()
    for stream in (process.stdout, process.stderr):
        if not stream.closed:
            stream.read()
            stream.close()
    assert process.wait(60) == 0
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["v.mp4", "v_x4.mp4"]
