"""What ``upscale`` answers: objects for programs and for reports, and sentences for people."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import check_new_file, replacing
from ksnet_deploy.base.version import __version__
from ksnet_deploy.upscale.estimate import Estimate
from ksnet_deploy.upscale.result import UpscaleResult

__all__ = ["Answer", "answer_of", "begin_report", "text_of", "write_report"]

Answer = dict[str, Any]
"""Of one video, as ``--json`` and ``--report`` give it."""


def answer_of(result: UpscaleResult | Estimate) -> Answer:
    """What was done, or what would be."""
    common = {
        "output": str(result.target),
        "height": result.size.height,
        "width": result.size.width,
        "pixel_format": result.pixel_format,
        "frames": result.frames,
        "fps": round(result.fps, 3),
        "tiles": result.tiles,
    }
    if isinstance(result, Estimate):
        return common | {
            "dry_run": True,
            "seconds": None if result.seconds is None else round(result.seconds, 1),
            "bytes": result.bytes,
            "measured_frames": result.measured_frames,
            "finished_frames": result.finished_frames,
        }
    return common | {
        "frames_lost": result.frames_lost,
        "resumed_frames": result.resumed_frames,
        "duplicates": result.duplicates,
        "cuts_s": [round(cut, 3) for cut in result.cuts],
        "seconds": round(result.times.wall_s, 3),
        "stages_s": {name: round(busy, 3) for name, busy in result.times.busy_s.items()},
        "bottleneck": result.times.bottleneck,
        "stages": result.times.summary(),
        "tracks": [track.report() for track in result.tracks],
        "notes": result.notes,
    }


def text_of(answer: Answer) -> str:
    """The same for people, in a few lines."""
    if "error" in answer:
        return f"{answer['input']}: failed"
    if "skipped" in answer:
        return f"{answer['input']}: left out, {answer['output']} exists"
    frames = f"frames of {answer['height']}x{answer['width']} (height x width)"
    if "dry_run" in answer:
        return _text_of_estimate(answer, frames)
    lines = [
        f"{answer['output']}: {answer['frames']} {frames} in {answer['seconds']:.1f} s, {answer['fps']:.2f} fps; "
        f"{answer['stages']}"
    ]
    if answer["resumed_frames"]:
        lines.append(f"{answer['resumed_frames']} of the frames were finished by an earlier run.")
    if answer["cuts_s"] or answer["duplicates"]:
        lines.append(f"{len(answer['cuts_s'])} scene cuts; {answer['duplicates']} repeated frames cost nothing.")
    return "\n".join(lines + answer["notes"])


def _text_of_estimate(answer: Answer, frames: str) -> str:
    if answer["frames"] is None:
        takes = f"{frames}, {answer['fps']:.2f} fps; the source does not say how many"
    else:
        duration = timedelta(seconds=max(round(answer["seconds"]), 1))
        takes = (
            f"{answer['frames']} {frames} would take about {duration} (h:mm:ss, {answer['fps']:.2f} fps) and "
            f"{max(answer['bytes'] / 1e6, 0.1):,.1f} MB"
        )
    lines = [f"{answer['output']}: {takes}; measured on {answer['measured_frames']} frames, no output was written."]
    if answer["finished_frames"]:
        lines.append(f"{answer['finished_frames']} frames are finished in an unfinished job, which would go on.")
    return "\n".join(lines)


def begin_report(path: Path, *, overwrite: bool) -> None:
    """Write an empty report before any work is done, in the place of an older one.

    Raises:
        OutputError: it cannot be written, or another file has that name.
    """
    if path.exists() and not overwrite and not _is_report(path):
        raise OutputError(f"{path} exists and is no report; pass --overwrite to replace it, or another name")
    check_new_file(path, ".json", overwrite=True)
    try:
        write_report(path, [])
    except OSError as error:
        raise OutputError(f"the report {path} cannot be written ({error.strerror}); choose another place") from error


def write_report(path: Path, answers: list[Answer]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"ksnet_deploy": __version__, "videos": answers}, indent=2) + "\n")


def _is_report(path: Path) -> bool:
    try:
        return {"ksnet_deploy", "videos"} <= set(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return False
