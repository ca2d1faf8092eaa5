"""Trying encoders with a frame, in a process of their own, which a driver may end without harm.

An encoder that does so costs only itself: the others are tried in another process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import av.error
import av.logging
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ksnet_deploy.video.reading.sources import reason_of

if TYPE_CHECKING:
    from ksnet_deploy.video.writing.encoder import Encoder

__all__ = ["try_out"]

_CHILD = "from ksnet_deploy.video.writing.trial import _answer; _answer()"
_PATIENCE_S = 30


def try_out(encoders: Sequence[Encoder]) -> dict[str, str | None]:
    """The reason why each does not work here, or None, by its name."""
    answers: dict[str, str | None] = {}
    child, waiting = [sys.executable, "-c", _CHILD], list(encoders)
    while waiting:
        request = json.dumps([(e.name, e.codec, dict(e.options), e.pixel_format(8, "420")) for e in waiting])
        try:
            run = subprocess.run(child, input=request.encode(), capture_output=True, timeout=_PATIENCE_S, check=False)
            output, end = run.stdout, f"trying it ended the process with {run.returncode}"
        except subprocess.TimeoutExpired as error:
            output, end = error.stdout or b"", f"it did not answer within {_PATIENCE_S} s"
        for line in output.splitlines():
            if line.startswith(b'["'):  # a driver may print too
                name, problem = json.loads(line)
                answers[name] = problem
        waiting = [encoder for encoder in waiting if encoder.name not in answers]
        if waiting:  # they are tried in order, so the first without an answer is the culprit
            answers[waiting.pop(0).name] = end
    return answers


def _answer() -> None:
    """Work of the child process: try the encoders on its input, and print an answer for each."""
    av.logging.set_libav_level(av.logging.ERROR)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)  # FFmpeg's last words there say more than its error numbers
        for name, codec, options, pixel_format in json.load(sys.stdin):
            said.truncate(said.seek(0))
            if problem := _problem(codec, options, pixel_format):
                said.seek(0)
                words = said.read().decode(errors="replace").split("\n")
                problem = re.sub(r"^\[.*?\]\s*|\.$", "", next(filter(None, reversed(words)), problem))
            print(json.dumps([name, problem]), flush=True)


def _problem(codec: str, options: dict[str, str], pixel_format: str) -> str | None:
    """Reason why an encoder does not take a frame; None when it does."""
    try:
        context = av.CodecContext.create(codec, "w")
        assert isinstance(context, VideoCodecContext)
        context.height, context.width, context.pix_fmt = 256, 256, pixel_format
        context.time_base, context.framerate, context.options = Fraction(1, 25), Fraction(25), options
        grey = VideoFrame.from_ndarray(np.full((256, 256, 3), 128, np.uint8), format="rgb24")
        context.encode(grey.reformat(format=pixel_format))
        context.encode(None)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return reason_of(error)
    return None
