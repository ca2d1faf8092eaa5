"""The commands ``bench``, ``info`` and ``models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ksnet_deploy.cli.options import Json, Model, Size
from ksnet_deploy.cli.terminal import progress, show_notes
from ksnet_deploy.network.bundled import checkpoint_path


def bench(
    model: Model = "uni",
    size: Size = "180x320",
    clip: Annotated[Path | None, typer.Option("--clip", help="Video for the end-to-end row.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Time to measure each step for.", min=1)] = 15.0,
    as_json: Json = False,
) -> None:
    """Measure PyTorch and ONNX Runtime on the CPU: one step, and a whole clip from file to file."""
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.measure.speed import run_benchmark
    from ksnet_deploy.measure.speeds import keep_speed
    from ksnet_deploy.network.checkpoint_config import notes_of

    show_notes(notes_of(checkpoint_path(model)))
    with progress("Measuring", show=not as_json) as bar:
        report = run_benchmark(
            checkpoint_path(model), FrameSize.parse(size), clip=clip, seconds=seconds, on_phase=bar.begin
        )
    for result in report.results:
        for what, fps, measured in (
            ("step", result.step.fps, report.size),
            ("file", result.clip_fps, report.clip_size),
        ):
            keep_speed(checkpoint_path(model), measured, f"{result.backend} on cpu", what, fps)
    print(json.dumps(report.as_dict()) if as_json else report.as_text())


def info(
    model: Model = "uni",
    size: Size = "180x320",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, for example --set keep_ratio=0.5.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a network's configuration, parameters and multiply-adds, in training form and folded."""
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.network.checkpoints import load_checkpoint
    from ksnet_deploy.network.complexity import complexity

    checkpoint = load_checkpoint(checkpoint_path(model))
    show_notes(checkpoint.notes)
    config = checkpoint.config.replace(set_ or [])
    frame_size = FrameSize.parse(size)
    count = complexity(config, frame_size)
    if as_json:
        print(json.dumps({"config": json.loads(config.to_json()), "size": str(frame_size), **vars(count)}))
        return
    print(f"Configuration: {config.to_json()}")
    print(f"{'':16}{'training form':>16}{'deploy form':>16}")
    print(f"{'parameters':16}{count.params_training / 1e6:>14.3f} M{count.params_deploy / 1e6:>14.3f} M")
    print(f"{'multiply-adds':16}{count.gmacs_training:>14.1f} G{count.gmacs_deploy:>14.1f} G   at {frame_size}")
    print("KSNet-uni in the paper's Table 2: 3.4 M and 3.0 M parameters, 320.9 G and 296.9 G at 180x320.")


def models(as_json: Json = False) -> None:
    """List the bundled networks: what for, size, quality, licence, speed here where measured, and what is cached."""
    from ksnet_deploy.measure.models import list_models

    found = list_models()
    print(json.dumps(found.as_dict()) if as_json else found.as_text())
