"""Answers of ``upscale`` for each video, and the report that is made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import check_new_file, replacing, writing
from ksnet_deploy.base.hidden import hidden_name
from ksnet_deploy.base.locks import Lock, being_written
from ksnet_deploy.base.version import __version__
from ksnet_deploy.upscale.estimate import Estimate
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.video.kinds import PIPE

__all__ = ["Answer", "Failed", "Skipped", "begin_report", "write_report"]


@dataclass(frozen=True)
class Skipped:
    """A video that was left out, because its output exists."""

    target: Path

    def as_dict(self) -> dict[str, Any]:
        return {"output": str(self.target), "skipped": True}

    def as_text(self) -> str:
        return f"left out, {self.target} exists"


@dataclass(frozen=True)
class Failed:
    """A video that could not be upscaled."""

    error: str

    def as_dict(self) -> dict[str, Any]:
        return {"error": self.error}

    def as_text(self) -> str:
        return "failed"


@dataclass(frozen=True)
class Answer:
    """Outcome of one of the videos."""

    video: Path
    outcome: UpscaleResult | Estimate | Skipped | Failed
    model: str | None = None
    """Network that was taken."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` and ``--report`` give them."""
        model = {} if self.model is None else {"model": self.model}
        return {"input": str(self.video), **model, **self.outcome.as_dict()}

    def as_text(self) -> str:
        """Some lines for people."""
        text = self.outcome.as_text()
        return f"{self.video}: {text}" if isinstance(self.outcome, Skipped | Failed) else text

    @property
    def frames_lost(self) -> int:
        """Frames of the source that could not be decoded."""
        return self.outcome.frames_lost if isinstance(self.outcome, UpscaleResult) else 0

    @property
    def went_to_pipe(self) -> bool:
        """Whether standard output holds the frames."""
        return isinstance(self.outcome, UpscaleResult) and str(self.outcome.target) == PIPE


def begin_report(path: Path, *, overwrite: bool) -> Lock:
    """Write an empty report before any work is done, in the place of an older one.

    Returns:
        The lock on it, to be held until it is complete.

    Raises:
        OutputError: it cannot be written, another file has that name, or another process is writing it.
    """
    if path.exists() and not overwrite and not _is_report(path):
        raise OutputError(f"{path} exists and is no report; pass --overwrite to replace it, or another name")
    check_new_file(path, ".json", overwrite=True)
    with writing(f"the report {path}", "choose another place"):
        lock = Lock(path.with_name(hidden_name(path.name, ".lock")), being_written(path))
    try:
        write_report(path, [])
    except BaseException:
        lock.remove()
        raise
    return lock


def write_report(path: Path, answers: list[Answer]) -> None:
    """Write what came of all videos, as JSON. Raises OutputError where it cannot be written."""
    videos = [answer.as_dict() for answer in answers]
    with writing(f"the report {path}", "choose another place"), replacing(path) as temporary:
        temporary.write_text(json.dumps({"ksnet_deploy": __version__, "videos": videos}, indent=2) + "\n")


def _is_report(path: Path) -> bool:
    try:
        return {"ksnet_deploy", "videos"} <= set(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return False
