"""The front door: a few frames of a film by several networks, with settings as users give them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.files import making
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.layout import save_picture
from ksnet_deploy.measure.pages.areas import Area, busiest
from ksnet_deploy.measure.pages.outputs import page_and_sheet
from ksnet_deploy.measure.pages.page import write_page
from ksnet_deploy.measure.preview.moments import Moment, Stretch, choose_moments, read_stretch
from ksnet_deploy.measure.preview.report import NetworkEstimate, Preview
from ksnet_deploy.measure.preview.spots import BICUBIC, Pace, Spot, bicubic_of, part_size, upscale_stretches
from ksnet_deploy.measure.speed.ways import way_name
from ksnet_deploy.measure.speeds import keep_speed
from ksnet_deploy.upscale.destination import choose_destination
from ksnet_deploy.upscale.estimate import FRAMES, MOMENTS, estimate
from ksnet_deploy.upscale.ladder import Choices, find_fastest, this_machine
from ksnet_deploy.upscale.networks import Network, NetworkFile, default_model, video_model
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.values import parse_rate, parse_time
from ksnet_deploy.upscale.windows import Windows
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.kinds import DEFAULT_RATE, Source
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.comparison import Picture
from ksnet_deploy.video.writing.presets import DEFAULT_ENCODER, choose_encoder

__all__ = ["BEFORE", "SPOTS", "preview"]

SPOTS = 4
BEFORE = 8
"""Frames that a network sees before the one that is shown. On the bundled clip the picture is then within 62 dB of what
a run from the clip's beginning makes of it; after 2 frames it is within 41 dB, after none within 31."""


def preview(
    source: Path | str,
    models: Sequence[str | Path | Network] | str | None = None,
    output: Path | str | None = None,
    *,
    spots: int = SPOTS,
    before: int = BEFORE,
    start_s: Fraction | float | str | None = None,
    end_s: Fraction | float | str | None = None,
    rate: Fraction | float | str = DEFAULT_RATE,
    runtime: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    whole_frames: bool = False,
    overwrite: bool = False,
    on_phase: Callable[[str, int], None] = lambda _what, _steps: None,
    on_step: Callable[[], None] = lambda: None,
    on_note: Callable[[str], None] = lambda _sentence: None,
) -> Preview:
    """Upscale a few frames of a film with several networks, and say what each would take for all of it.

    Args:
        source: a video or a folder of pictures.
        models: networks, by name or file, in a list or parted by commas (default: the bundled ones that suit the
            device).
        output: ``look.html`` for a page and ``look.png`` beside it, ``look.png`` for the picture alone (default:
            nothing is written).
        spots: frames to show, spread over the film and unlike each other.
        before: frames of the same scene that the networks see before each.
        start_s, end_s: the part of the film to look at, in seconds or as text such as ``"1:30"``.
        rate: frames per second of a folder of pictures (default: 25).
        runtime, device, precision: as :class:`ksnet_deploy.Upscaler` takes them.
        whole_frames: upscale whole frames, where a part of them is taken otherwise to end in about a minute.
        overwrite: replace existing outputs.
        on_phase: told what begins and of how many steps it is; ``on_step`` after each of them.
        on_note: told what a user should know meanwhile, a sentence at a time.

    Raises:
        KSNetError: the source cannot be read, there is no such network, or an output cannot be written.
    """
    began = time.monotonic()
    if spots < 1 or before < 0:
        raise ConfigError(f"{spots} frames with {before} before each cannot be shown; give 1 or more, and 0 or more")
    begin, end = (None if moment is None else parse_time(moment) for moment in (start_s, end_s))
    film = Source(Path(source), begin, end, parse_rate(rate))
    if film.kind == "pipe":
        raise InputError("a pipe cannot be looked at here and there; give the path of a video file")
    networks = _networks(models, Choices.of(runtime, device, precision=precision))
    outputs = {} if output is None else page_and_sheet(Path(output), [film.path], overwrite=overwrite)
    on_phase("choosing frames", 1)
    moments = choose_moments(film, spots, before)
    encoder = choose_encoder(DEFAULT_ENCODER)
    destination = choose_destination(film, next((path.parent for path in outputs.values()), None), encoder)
    with VideoReader(film) as reader:
        size, frames = reader.size, 1 if destination.kind == "picture" else reader.estimated_frames
    on_gpu = all(network.device == "cuda" for network in networks)
    most = len(moments) * (before + 1 if frames is None else min(before + 1, frames))
    shown = size if whole_frames or on_gpu else part_size(size, networks, most)
    stretches, parts = _read(film, moments, before, max(Windows.of(n, None, None).ahead for n in networks), shown)
    on_step()
    steps = sum(len(stretch.frames) for stretch in stretches)
    pictures = [{BICUBIC: bicubic_of(stretch)} for stretch in stretches]
    work = Work(source=film, destination=destination, encoder=encoder, overwrite=True, resume=False)
    whole = shown == size and destination.kind == "video"
    notes: list[str] = []
    estimates: list[NetworkEstimate] = []
    for network in networks:
        on_phase(network.label, steps + (FRAMES * len(MOMENTS) if whole else 0))
        with Upscaler(network, on_note=on_note) as upscaler:
            found, pace = upscale_stretches(upscaler, stretches, on_step)
            for versions, picture in zip(pictures, found, strict=True):
                versions[network.label] = picture
            if whole:
                estimates.append(_whole(network.label, work, upscaler, on_step))
                if isinstance(network, NetworkFile) and network.kind == "checkpoint":
                    way = way_name(network.in_tiles if upscaler.tiling else network)
                    keep_speed(network.path, size, way, "file", estimates[-1].fps)
            else:
                estimates.append(_scaled(network.label, frames, pace, size, shown))
    if shown != size:
        notes.append(
            f"Parts of {shown} (height x width) of frames of {size} were upscaled, where there is most detail; whole "
            "frames would take longer than a minute or so (--whole-frames)."
        )
    if any(each.scaled for each in estimates):
        notes.append("The times are the networks' alone; reading and encoding come on top.")
    result = Preview(
        film.path,
        size,
        _spots(stretches, parts, pictures, size),
        estimates,
        0.0,
        [*outputs.values()],
        notes,
        is_part=film.is_part,
    )
    on_phase("writing", max(len(outputs), 1))
    for suffix, path in outputs.items():
        with making(path, overwrite=overwrite) as temporary:
            if suffix == ".png":
                save_picture(temporary, result.sheet())
            else:
                write_page(temporary, "slider", f"{film.path.name}: preview", result.page())
        on_step()
    return Preview(**{**vars(result), "seconds": time.monotonic() - began})


def _networks(models: Sequence[str | Path | Network] | str | None, choices: Choices) -> list[Network]:
    """The networks of names, each once, run as ``upscale`` would run them."""
    if models is None:
        device = choices.settled_device(this_machine())
        models = [name for name in (default_model(device), video_model(device)) if name is not None]
    named = [part.strip() for part in models.split(",") if part.strip()] if isinstance(models, str) else models
    found = [model if isinstance(model, Network) else find_fastest(model, choices) for model in named]
    networks = {network.label: network for network in found}
    if not networks:
        raise ConfigError("no network is named; give for example --models lite,lite-video")
    return [*networks.values()]


def _read(
    film: Source, moments: Sequence[Moment], before: int, ahead: int, shown: FrameSize
) -> tuple[list[Stretch], list[Area]]:
    """The part with most detail of every moment, and where in the frames it is; never all of the frames at once."""
    stretches, parts = [], []
    for moment in moments:
        stretch = read_stretch(film, moment.start_s, before, ahead)
        part = busiest(stretch.frames[-1], shown)
        parts.append(part)
        frames, later = ([np.ascontiguousarray(part.of(f)) for f in each] for each in (stretch.frames, stretch.ahead))
        stretches.append(replace(stretch, frames=frames, ahead=later))
    return stretches, parts


def _spots(
    stretches: Sequence[Stretch], parts: Sequence[Area], pictures: Sequence[dict[str, Picture]], size: FrameSize
) -> list[Spot]:
    return [
        Spot(
            stretch.time_s,
            len(stretch.frames) - 1,
            None if FrameSize(part.height, part.width) == size else part,
            versions,
        )
        for stretch, part, versions in zip(stretches, parts, pictures, strict=True)
    ]


def _whole(name: str, work: Work, upscaler: Upscaler, on_step: Callable[[], None]) -> NetworkEstimate:
    """Measured on the whole way of some frames, from the file to the encoder."""
    upscaler.reset()
    found = estimate(work, upscaler, Events(on_frame=on_step))
    return NetworkEstimate(name, found.fps, found.seconds, found.bytes, found.measured_frames, scaled=False)


def _scaled(name: str, frames: int | None, pace: Pace, size: FrameSize, shown: FrameSize) -> NetworkEstimate:
    """Told from the network's steps on a part of the frames."""
    frame_s = pace.frame_s * (size.height * size.width) / (shown.height * shown.width)
    seconds = None if frames is None else frames * frame_s
    return NetworkEstimate(name, 1 / max(frame_s, 1e-9), seconds, None, pace.steps, scaled=True)
