"""The front door: look inside a network while it upscales a frame, with settings as users give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.files import making
from ksnet_deploy.base.frames import FrameSize, pad, values_of
from ksnet_deploy.measure.inspection.channels import summarise
from ksnet_deploy.measure.inspection.recorder import record
from ksnet_deploy.measure.inspection.report import Inspection
from ksnet_deploy.measure.layout import save_picture
from ksnet_deploy.measure.pages.outputs import page_and_sheet
from ksnet_deploy.measure.pages.page import write_page
from ksnet_deploy.network.bundled import checkpoint_path
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.folding import fold
from ksnet_deploy.upscale.values import parse_rate, parse_time
from ksnet_deploy.video.kinds import DEFAULT_RATE, Source
from ksnet_deploy.video.reading.reader import VideoReader

__all__ = ["visualize"]

MOST_PIXELS = 640 * 360
"""Largest frame: PyTorch keeps every channel of every frame."""


def visualize(
    source: Path | str,
    model: Path | str = "uni",
    output: Path | str | None = None,
    *,
    at_s: Fraction | float | str = 0,
    frames: int = 12,
    rate: Fraction | float | str = DEFAULT_RATE,
    overwrite: bool = False,
    on_phase: Callable[[str, int], None] = lambda _what, _steps: None,
) -> Inspection:
    """Look at the flow, the maps of Eqs. (1) and (2) and the channels that a network keeps and passes on.

    The network runs in PyTorch, folded, from a fresh state over the frames up to the one asked for.

    Args:
        source: a video or a folder of pictures.
        model: a bundled network's name or a checkpoint.
        output: ``look.html`` for a page and ``look.png`` beside it, ``look.png`` for the picture alone (default:
            nothing is written).
        at_s: when the frame is shown, in seconds or as text such as ``"1:30"``; the last one that begins by then.
        frames: the part that is looked at: that frame and those before it, as far as there are.
        rate: frames per second of a folder of pictures (default: 25).
        overwrite: replace existing outputs.
        on_phase: told what begins and of how many steps it is.

    Raises:
        KSNetError: the source or the network cannot be read, or an output cannot be written.
    """
    if frames < 1:
        raise ConfigError(f"{frames} frames cannot be looked at; give 1 or more")
    film, moment = Source(Path(source), rate=parse_rate(rate)), parse_time(at_s)
    if film.kind == "pipe":
        raise InputError("a pipe cannot be looked at here and there; give the path of a video file")
    checkpoint = load_checkpoint(checkpoint_path(str(model)))
    outputs = {} if output is None else page_and_sheet(Path(output), [film.path], overwrite=overwrite)
    on_phase("reading", 1)
    pictures, time_s = _frames_until(film, moment, frames)
    size = FrameSize(*pictures[0].shape[:2])
    if size.height * size.width > MOST_PIXELS:
        raise InputError(
            f"frames of {size} are too large to keep all that is seen of them; give a film of at most 360x640 (height "
            "x width)"
        )
    on_phase("looking", 1)
    values = np.stack([pad(picture) for picture in pictures]).astype(np.float32) / 255
    records = record(fold(checkpoint.model.eval()), torch.from_numpy(values).permute(0, 3, 1, 2).contiguous())
    notes = [*checkpoint.notes]
    if records[-1].flow is None:
        notes.append("This network has no flow.")
    if not records[-1].levels:
        notes.append("This network keeps all channels (keep_ratio 1): there is nothing to choose.")
    if checkpoint.config.direction == "bi":
        notes.append("This network sees later frames too; here the frame shown is the last that it saw.")
    if len(pictures) < frames:
        notes.append(f"No more than {len(pictures)} of the {frames} frames asked for are there up to that moment.")
    if len(pictures) == 1:
        notes.append("A single frame has no motion: its correlations are 0 and the flow is empty.")
    result = Inspection(film.path, str(model), time_s, records, summarise(records), [*outputs.values()], notes)
    on_phase("writing", 1)
    for suffix, path in outputs.items():
        with making(path, overwrite=overwrite) as temporary:
            if suffix == ".png":
                save_picture(temporary, result.sheet())
            else:
                write_page(temporary, "maps", f"{film.path.name}: inside {model}", result.page())
    return result


def _frames_until(film: Source, moment: Fraction, count: int) -> tuple[list[np.ndarray], float]:
    """The last ``count`` frames that are shown by a moment, as 8-bit RGB, and when the last of them is."""
    with VideoReader(film) as reader:
        rate = reader.rate
    begin = max(moment - (count + 1) / rate, Fraction(0))
    kept: list[np.ndarray] = []
    time_s, passed = 0.0, False
    try:
        with VideoReader(replace(film, start_s=begin or None)) as reader:
            for frame in reader.frames():
                shown_s = begin + frame.pts * reader.time_base
                passed = shown_s > moment + Fraction(1, 1000)
                if passed and kept:
                    break
                kept = [*kept, values_of(frame.rgb, "uint8")][-count:]
                time_s = float(shown_s)
    except InputError as error:
        if kept or not begin:
            raise
        raise InputError(
            f"no frame of {film.path} can be read shortly before the {float(moment):g} s asked for; give --at within it"
        ) from error
    if not passed and moment - Fraction(time_s) > 1 / rate:
        raise InputError(
            f"{film.path} ends at {time_s:.3f} s, before the {float(moment):g} s asked for; give --at within it"
        )
    return kept, time_s
