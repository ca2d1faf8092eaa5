"""Work that a job asks of the library: a preview, or the film, larger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.measure.pages.page import write_page
from ksnet_deploy.measure.preview.run import preview
from ksnet_deploy.network.bundled import bundled_names
from ksnet_deploy.upscale.choice import choose_network
from ksnet_deploy.upscale.destination import choose_destination
from ksnet_deploy.upscale.ladder import Choices, this_machine
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.values import parse_height, parse_scale, parse_time
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.presets import PRESETS, choose_encoder
from ksnet_deploy.web.jobs import FilmJob, JobStore, Settings
from ksnet_deploy.web.progress import Progress

__all__ = ["check_networks", "check_settings", "device_of", "named", "preview_film", "upscale_film"]


def check_settings(settings: Settings) -> None:
    """Refuse settings that the page does not offer, as a request that was made by hand may have.

    Raises:
        KSNetError: there is no such network, encoder, quality, size or time.
    """
    check_networks([] if settings.model is None else [settings.model])
    if settings.codec not in PRESETS:
        raise ConfigError(f"there is no encoder '{settings.codec}' to choose here; take one of {', '.join(PRESETS)}")
    choose_encoder(settings.codec, quality=settings.quality)
    _size(settings)
    _part(settings, Path("the film"))
    Choices.of(None, settings.device)


def check_networks(names: Sequence[str]) -> None:
    """Raise ConfigError for what is no bundled network: the page opens no other file."""
    for name in names:
        if name not in bundled_names():
            raise ConfigError(f"there is no network '{name}' to choose here; take one of {', '.join(bundled_names())}")


def device_of(settings: Settings) -> str:
    """The device that the work needs for itself."""
    return Choices.of(None, settings.device).settled_device(this_machine())


def upscale_film(store: JobStore, job: FilmJob, progress: Progress, *, anew: bool) -> FilmJob:
    """Upscale a job's film with its settings, as the command line does; from the beginning, or on from what there is.

    Raises:
        KSNetError: it cannot be done.
        Stopped: somebody stopped it.
    """
    settings = job.settings
    encoder = choose_encoder(settings.codec, quality=settings.quality)
    film = _part(settings, store.source(job))
    height, scale = _size(settings)
    model, taken = settings.model, ""
    if model is None:
        choice = choose_network(film, device_of(settings))
        model, taken = choice.name, f"The network is {choice.name}: {choice.reason}."
        progress.say(taken)
    target = choose_destination(film, None, encoder, scale=scale or SCALE).path
    before = store.result(job)
    if anew:  # not by resume=False, with which nothing would be kept of this run either
        store.discard_unfinished(job)
    job = store.change(job.id, target=target.name)
    device = None if settings.device == "auto" else settings.device
    upscaler = Upscaler(model, device=device, on_note=progress.say, on_build=progress.reach)
    result = upscale_video(
        film.path,
        target,
        upscaler,
        codec=encoder,
        height=height,
        scale=scale,
        start_s=film.start_s,
        end_s=film.end_s,
        overwrite=True,
        events=_events(film, progress),
    )
    if before is not None and before != target:
        before.unlink(missing_ok=True)
    job = store.change(job.id, state="done", result=target.name, finished=0)
    return store.change(job.id, message="\n".join(filter(None, (named(result.as_text(), store, job), taken))))


def preview_film(store: JobStore, job: FilmJob, progress: Progress, models: Sequence[str]) -> None:
    """Make the page of a job's preview.

    Raises:
        KSNetError: it cannot be made.
        Stopped: somebody stopped it.
    """
    film = _part(job.settings, store.source(job))
    found = preview(
        film.path,
        list(models) or None,
        start_s=film.start_s,
        end_s=film.end_s,
        device=None if job.settings.device == "auto" else job.settings.device,
        on_phase=progress.begin,
        on_step=progress.advance,
        on_note=progress.say,
    )
    shown = replace(found, source=Path(job.name))
    with replacing(store.preview_page(job)) as temporary:
        write_page(temporary, "slider", f"{job.name}: preview", shown.page())


def named(text: str, store: JobStore, job: FilmJob) -> str:
    """A text of the library with the film's name where it has paths of the server's disk."""
    if job.target is not None:
        text = text.replace(str(store.place(job) / job.target), job.result_name)
    return text.replace(str(store.source(job)), job.name).replace(str(store.place(job)), "the job's folder")


def _events(film: Source, progress: Progress) -> Events:
    upright: list[Callable[[NDArray[Any]], NDArray[Any]]] = []

    def on_start(size: FrameSize, frames: int | None, done: int) -> None:
        with VideoReader(film) as reader:
            next(iter(reader.frames()), None)  # which tells how players turn it
            if reader.display is not None:
                upright.append(reader.display.upright)
        progress.begin(f"{size} to {size.upscaled}", frames, done)

    def on_picture(picture: NDArray[Any]) -> None:
        progress.show(upright[0](picture) if upright else picture)

    return Events(on_start=on_start, on_frame=progress.advance, on_note=progress.say, on_picture=on_picture)


def _size(settings: Settings) -> tuple[int | None, int | None]:
    """Height and scale, at most one of them."""
    if settings.size.startswith("x"):
        return None, parse_scale(settings.size)
    return parse_height(settings.size), None


def _part(settings: Settings, path: Path) -> Source:
    start, end = (parse_time(text) if text.strip() else None for text in (settings.start, settings.end))
    return Source(path, start, end)
