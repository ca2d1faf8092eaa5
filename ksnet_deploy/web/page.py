"""The page: its parts, and what its buttons do. It asks the jobs and their turns, and knows nothing itself."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.measure.models import purposes
from ksnet_deploy.upscale.ladder import this_machine
from ksnet_deploy.video.writing.presets import DEFAULT_ENCODER, available_encoders
from ksnet_deploy.web.jobs import FilmJob, JobStore, Settings, parse_quality
from ksnet_deploy.web.turns import Turns
from ksnet_deploy.web.wording import job_line, job_panel, notice, preview_frame

__all__ = ["mount_page"]

REFRESH_S = 1.0
"""Seconds between two looks at the jobs."""
LOOK, SCRIPT = (Path(__file__).parent / name for name in ("look.css", "page.js"))
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
FONTS_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]
"""The system's own fonts, so that none is fetched."""
SIZES = [
    ("4 times", "x4"),
    ("3 times", "x3"),
    ("2 times", "x2"),
    ("720 lines", "720p"),
    ("1080 lines", "1080p"),
    ("1440 lines", "1440p"),
    ("2160 lines (4K)", "2160p"),
]
SURE = """(_, ...rest) => {
  const chosen = document.querySelector("#jobs input:checked");
  const name = chosen ? chosen.closest("label").innerText : "";
  return [confirm(`Remove this film, and all that was made of it?\\n\\n${name}`) ? "yes" : "", ...rest];
}"""
EVENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
"""Settings of every event: no veil over what it changes, and any number of people at once."""


class RawBlocks(gr.Blocks):
    """Blocks whose events get their values as a browser sent them.

    Gradio's own reading of a value first copies or fetches any file that the value names: of this disk, for it looks
    only in a launched application whether it may, and ours is mounted; or of another host.
    """

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Values of an event, as they came."""
        del state, explicit_call
        self.validate_inputs(block_fn, inputs)
        return list(inputs)


class Page:
    """The parts of the page, and what is done when they are used."""

    def __init__(self, store: JobStore, turns: Turns, codecs: list[str], devices: list[str]) -> None:
        self._store, self._turns = store, turns
        names = purposes()
        with RawBlocks(title="KSNet-Deploy", analytics_enabled=False, fill_width=True) as self.blocks:
            gr.HTML('<header class="top"><h1>KSNet-Deploy</h1><p>Film, four times larger</p></header>')
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=1, min_width=320):
                    self.film = gr.File(label="Film", height=150, elem_id="film")
                    self.name = gr.Textbox(visible=False)
                    self.jobs = gr.Radio(label="Films", choices=[], elem_id="jobs", visible=False)
                with gr.Column(scale=2, min_width=320, elem_id="job"):
                    self.notice = gr.HTML(elem_id="notice")
                    self.panel = gr.HTML(elem_id="panel")
                    with gr.Row(elem_id="actions"):
                        self.resume = gr.Button("Resume", variant="primary", elem_id="resume", visible=False)
                        self.start = gr.Button("Start", variant="primary", elem_id="start", visible=False)
                        self.cancel = gr.Button("Cancel", elem_id="cancel", visible=False)
                        self.show = gr.Button("Preview", elem_id="preview-button", visible=False)
                        self.remove = gr.Button("Remove", elem_id="remove", visible=False)
                    with gr.Group(visible=False, elem_id="settings") as self.settings:
                        with gr.Row():
                            networks = [("Automatic", ""), *((f"{name}: {purpose}", name) for name, purpose in names)]
                            self.model = gr.Dropdown(networks, value="", label="Network", elem_id="model")
                            self.size = gr.Dropdown(SIZES, value="x4", label="Size", elem_id="size")
                        with gr.Row():
                            self.codec = gr.Dropdown(codecs, value=codecs[0], label="Codec", elem_id="codec")
                            self.quality = gr.Textbox(
                                label="Quality (CRF)", placeholder="the codec's own", max_lines=1, elem_id="quality"
                            )
                        with gr.Row():
                            self.begin = gr.Textbox(
                                label="From (as 1:30)", placeholder="the beginning", max_lines=1, elem_id="from"
                            )
                            self.end = gr.Textbox(
                                label="To (as 1:45)", placeholder="the end", max_lines=1, elem_id="to"
                            )
                        self.device = gr.Dropdown(
                            devices, value=devices[0], label="Device", elem_id="device", visible=len(devices) > 2
                        )
                        self.shown = gr.CheckboxGroup(
                            [name for name, _ in names],
                            value=[name for name, _ in names][:2],
                            label="Networks in the preview",
                            elem_id="shown",
                        )
                    self.look = gr.HTML(elem_id="look")
            # Marks of what a browser shows; it keeps them itself, because answers may come in another order than made.
            self.seen = gr.Textbox(visible="hidden")
            timer = gr.Timer(REFRESH_S)
            self._connect(timer)

    def _connect(self, timer: gr.Timer) -> None:
        """Say what is done when."""
        view = [
            self.jobs,
            self.panel,
            self.look,
            self.start,
            self.resume,
            self.cancel,
            self.show,
            self.remove,
            self.settings,
            self.seen,
        ]
        form = [self.model, self.codec, self.quality, self.size, self.begin, self.end, self.device]
        chosen = [self.jobs, self.seen]
        gr.on(
            [timer.tick],
            self._view,
            chosen,
            view,
            queue=True,
            trigger_mode="once",
            **EVENT,
        )
        self.blocks.load(self._open, chosen, [*form, *view], **EVENT)
        self.jobs.input(self._choose, chosen, [self.notice, *form, *view], **EVENT)
        self.film.upload(
            self._add,
            [self.film, *chosen],
            [self.film, self.notice, *form, *view],
            **EVENT,
        )
        asked = [*chosen, *form]
        for button, do in (
            (self.start, self._start),
            (self.resume, self._resume),
            (self.cancel, self._cancel),
        ):
            button.click(self._doing(do), asked, [self.notice, *view], **EVENT)
        self.show.click(self._doing(self._preview), [*asked, self.shown], [self.notice, *view], **EVENT)
        self.remove.click(
            self._remove,
            [self.name, *chosen],
            [self.notice, *form, *view],
            js=SURE,
            **EVENT,
        )

    def _chosen(self, job_id: Any) -> FilmJob | None:
        """The job that a browser shows: the one that was chosen, else the newest."""
        jobs = self._store.all()
        return next((job for job in jobs if job.id == job_id), jobs[0] if jobs else None)

    def _view(self, job_id: Any, seen: Any, *, choose: bool = False) -> list[Any]:
        """Changes of the page since a browser last looked; which job it shows is its own choice, unless there is no
        such job or ``choose`` says otherwise."""
        jobs = self._store.all()
        works = {job.id: self._turns.of(job.id) for job in jobs}
        before = {job_id: 0 if turn is None else self._turns.before(turn) for job_id, turn in works.items()}
        job = self._chosen(job_id)
        turn = None if job is None else works.get(job.id)
        free = job is not None and turn is None
        lines = [(job_line(each, works[each.id], before[each.id]), each.id) for each in jobs]
        now = {
            "jobs": lines,
            "panel": job_panel(
                job,
                turn,
                0 if job is None else before[job.id],
                has_result=job is not None and self._store.result(job) is not None,
            ),
            "look": "" if job is None else preview_frame(job, self._store.preview_page(job)),
            "start": (free, "Start" if job is not None and job.state == "ready" else "Start again"),
            "resume": free and job is not None and job.can_go_on,
            "cancel": turn is not None,
            **dict.fromkeys(("show", "remove", "settings"), free),
        }
        known = _read(seen)
        marks = {part: _mark(value) for part, value in now.items()}
        updates = {part: _update(part, now[part]) for part in now if known.get(part) != marks[part]}
        if job is not None and (choose or job.id != job_id):
            updates["jobs"] = gr.Radio(choices=lines, value=job.id, visible=True)
        found = [updates.get(part, gr.skip()) for part in now]
        return [*found, json.dumps(marks) if updates else gr.skip()]

    def _form(self, job_id: Any) -> list[Any]:
        """Values of the form for a job: the settings that it was started with, or those to begin with."""
        job = self._chosen(job_id)
        chosen = Settings() if job is None else job.settings
        return [
            chosen.model or "",
            chosen.codec,
            "" if chosen.quality is None else str(chosen.quality),
            chosen.size,
            chosen.start,
            chosen.end,
            chosen.device,
        ]

    def _open(self, job_id: Any, _seen: Any) -> list[Any]:
        return [*self._form(job_id), *self._view(job_id, "", choose=True)]

    def _choose(self, job_id: Any, seen: Any) -> list[Any]:
        return ["", *self._form(job_id), *self._view(job_id, seen)]

    def _add(self, film: Any, job_id: Any, seen: Any) -> list[Any]:
        def add() -> None:
            nonlocal job_id
            if isinstance(film, dict):
                upload = Path(_text(film.get("path")))
                job_id = self._store.add(upload, _text(film.get("orig_name")) or upload.name).id
            self._store.sweep()

        said = _tried(add)
        return [None, said, *self._form(job_id), *self._view(job_id, seen, choose=not said)]

    def _doing(self, do: Callable[..., None]) -> Callable[..., list[Any]]:
        """Action of a button, with its errors as a notice."""

        def done(job_id: Any, seen: Any, *wishes: Any) -> list[Any]:
            said = _tried(lambda: do(self._store.get(_text(job_id)), *wishes))
            return [said, *self._view(job_id, seen)]

        return done

    def _start(self, job: FilmJob, *wishes: Any) -> None:
        self._turns.start(job.id, _settings(*wishes))

    def _resume(self, job: FilmJob, *_wishes: Any) -> None:
        self._turns.resume(job.id)

    def _cancel(self, job: FilmJob, *_wishes: Any) -> None:
        self._turns.stop(job.id)

    def _preview(self, job: FilmJob, *wishes: Any) -> None:
        *form, networks = wishes
        self._turns.preview(job.id, _settings(*form), [_text(name) for name in networks or ()])

    def _remove(self, sure: Any, job_id: Any, seen: Any) -> list[Any]:
        said = _tried(lambda: self._turns.remove(_text(job_id))) if sure == "yes" else ""
        return [said, *self._form(job_id), *self._view(job_id, seen)]


def _tried(do: Callable[[], None]) -> str:
    """Do something; a notice of why it could not be done, or nothing."""
    try:
        do()
    except KSNetError as error:
        return notice(f"{error}.")
    except Exception as error:
        traceback.print_exc()
        return notice(f"This is a fault of the program ({type(error).__name__}); what the server printed says more.")
    return ""


def _mark(value: Any) -> str:
    """A mark by which a browser knows a value again."""
    return hashlib.sha256(repr(value).encode("utf-8", "replace")).hexdigest()[:12]


def _read(seen: Any) -> dict[str, str]:
    """The marks that a browser keeps; none where it sends something else."""
    try:
        return dict(json.loads(seen))
    except (ValueError, TypeError):
        return {}


def _update(part: str, value: Any) -> Any:
    """A part's new value for the browser."""
    match part:
        case "jobs":
            return gr.Radio(choices=value, visible=bool(value))
        case "start":
            shown, text = value
            return gr.Button(text, visible=shown)
        case "settings":
            return gr.Group(visible=value)
        case "panel" | "look":
            return value
    return gr.Button(visible=value)


def _text(value: Any) -> str:
    """A value that should be a text, of a length that a person writes."""
    return value[:1000] if isinstance(value, str) else ""


def _settings(*values: Any) -> Settings:
    """Settings of the form's values."""
    model, codec, quality, size, start, end, device = map(_text, values)
    return Settings(model or None, codec, parse_quality(quality), size, start.strip(), end.strip(), device)


def mount_page(app: FastAPI, store: JobStore, turns: Turns, *, most_upload: int) -> None:
    """Put the page on some jobs into an application. Uploads arrive in the store's folder for them.

    Args:
        most_upload: bytes of the largest film that is taken.
    """
    encoders = available_encoders()
    codecs = [name for name, fault in encoders.items() if fault is None or name == DEFAULT_ENCODER]
    devices = ["auto"] if this_machine().gpu is None else ["auto", "cuda", "cpu"]
    gr.mount_gradio_app(
        app,
        Page(store, turns, codecs, devices).blocks,
        path="",
        allowed_paths=[],
        blocked_paths=[str(store.folder)],
        max_file_size=most_upload,
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=gr.themes.Base(primary_hue="blue", neutral_hue="zinc", font=FONTS, font_mono=FONTS_MONO),
        css=LOOK.read_text(encoding="utf-8"),
        js=SCRIPT.read_text(encoding="utf-8"),
    )
