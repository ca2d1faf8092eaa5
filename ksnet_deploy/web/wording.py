"""Words and markup of the page. Whatever comes from people or the library is escaped here, and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ksnet_deploy.base.frames import values_of
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.pages.embedding import data_uri, webp
from ksnet_deploy.web.jobs import FilmJob, Settings
from ksnet_deploy.web.progress import Progress
from ksnet_deploy.web.turns import Turn

__all__ = ["job_line", "job_panel", "notice", "preview_frame"]

WIDEST_PX = 720
"""Width of the picture of the last finished frame."""
QUALITY = 80  # of 100, of WebP


def job_line(job: FilmJob, turn: Turn | None, before: int) -> str:
    """Line of a job in the list, as plain text."""
    return f"{job.name}  ·  {_state(job, turn, before)}"


def _state(job: FilmJob, turn: Turn | None, before: int) -> str:
    """State of a job in a few words."""
    if turn is not None and not turn.started:
        return "waiting" if before <= 1 else f"waiting, {before} before it"
    if turn is not None:
        now = turn.progress.standing()
        share = f" {100 * now.done // now.total} %" if now.total else ""
        if turn.progress.is_stopping:
            return "stopping"
        return f"upscaling{share}" if turn.kind == "upscale" else "preview"
    if job.state == "stopped":
        return f"interrupted, {counted(job.finished, 'frame')} finished"
    return {"ready": "ready", "failed": "failed", "done": "done"}[job.state]


def notice(sentence: str) -> str:
    """A refusal, as HTML."""
    return f'<p class="message error" role="alert">{escape(sentence)}</p>'


def job_panel(job: FilmJob | None, turn: Turn | None, before: int, *, has_result: bool) -> str:
    """Facts of a job, as HTML; without one, how to begin."""
    if job is None:
        return '<p class="hint">Drop a film to begin.</p>'
    parts = [f'<h2 class="film">{escape(job.name)}</h2>']
    if turn is None:
        parts.append(f'<p class="state {job.state}">{escape(_state(job, None, 0).capitalize())}{_hint(job)}</p>')
    elif not turn.started:
        parts.append(f'<p class="state">{escape(_state(job, turn, before).capitalize())}</p>')
    else:
        parts.append(_progress(turn.progress, turn.kind))
    if turn is not None:
        parts.append(f'<p class="quiet">{escape(settings_line(job.settings))}</p>')
    if job.message and turn is None:
        lines = "<br>".join(escape(line) for line in job.message.splitlines())
        kind = "error" if job.state in ("failed", "ready") else "quiet"
        parts.append(f'<p class="message {kind}">{lines}</p>')
    if has_result:
        parts.append(
            f'<p><a class="download" href="/jobs/{job.id}/result" download>Download {escape(job.result_name)}</a></p>'
        )
    return "\n".join(parts)


def settings_line(settings: Settings) -> str:
    """Settings in a line for people."""
    part = f"{settings.start or 'the beginning'} to {settings.end or 'the end'}"
    facts = [
        f"network {settings.model or 'automatic'}",
        settings.codec if settings.quality is None else f"{settings.codec} at quality {settings.quality}",
        settings.size.replace("x", "") + " times" if settings.size.startswith("x") else settings.size,
        "the whole film" if not (settings.start or settings.end) else f"from {part}",
    ]
    return ", ".join(facts).capitalize()


def _hint(job: FilmJob) -> str:
    return ": resume it, or start it again" if job.can_go_on else ""


def _progress(progress: Progress, kind: str) -> str:
    now = progress.standing()
    share = min(now.done / now.total, 1.0) if now.total else None
    what = "Stopping" if progress.is_stopping else "Upscaling" if kind == "upscale" else "Preview"
    figures = [f"{now.done:,} of {now.total:,}" if now.total else f"{now.done:,} done"]
    if now.fps is not None:
        figures.append(f"{now.fps:.2f} {'fps' if kind == 'upscale' else 'steps a second'}")
    if now.left_s is not None:
        figures.append(f"{timedelta(seconds=round(now.left_s))} left")
    width = "" if share is None else f' style="width:{100 * share:.1f}%"'
    value = "" if share is None else f' aria-valuenow="{100 * share:.0f}"'
    parts = [
        f'<p class="state">{what}: <span>{escape(now.phase)}</span></p>',
        f'<div class="track{" unknown" if share is None else ""}" role="progressbar" aria-label="{what}" '
        f'aria-valuemin="0" aria-valuemax="100"{value}><div{width}></div></div>',
        f'<p class="figures">{escape(", ".join(figures))}</p>',
    ]
    parts += [f'<p class="quiet">{escape(note)}</p>' for note in progress.notes]
    if progress.picture is not None:
        number, picture = progress.picture
        parts.append(
            f'<figure class="last"><img decoding="sync" alt="Frame {number}" src="{_uri(number, _Same(picture))}">'
            f"<figcaption>Frame {number:,}, the last that is finished</figcaption></figure>"
        )
    return "\n".join(parts)


class _Same:
    """A picture as a key: the same array is the same picture."""

    def __init__(self, picture: NDArray[Any]) -> None:
        self.picture = picture

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.picture is self.picture

    def __hash__(self) -> int:
        return id(self.picture)


@lru_cache(maxsize=2)
def _uri(_number: int, same: _Same) -> str:
    """Address that holds a picture, no wider than :data:`WIDEST_PX`; made once for all who look at it."""
    image = Image.fromarray(values_of(same.picture, "uint8"))
    image.thumbnail((WIDEST_PX, WIDEST_PX))
    return data_uri(webp(np.asarray(image), QUALITY))


def preview_frame(job: FilmJob, page: Path) -> str:
    """The page of a preview in a frame, where it may run its script and nothing else; empty where there is none."""
    try:
        stamp = page.stat().st_mtime_ns
    except OSError:
        return ""
    return (
        f'<iframe class="preview" title="Preview of {escape(job.name)}" sandbox="allow-scripts" '
        f'src="/jobs/{job.id}/preview?{stamp}"></iframe>'
    )
