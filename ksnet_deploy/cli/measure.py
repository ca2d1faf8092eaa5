"""The commands ``bench``, ``info`` and ``models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ksnet_deploy.cli.options import Json, Model
from ksnet_deploy.cli.terminal import memory_sentence, progress, show_notes
from ksnet_deploy.network.bundled import checkpoint_path

Size = Annotated[
    str | None,
    typer.Option("--size", "-s", help="LR frame size, HEIGHTxWIDTH (default: 180x320; of an exported file, its own)."),
]


def bench(
    model: Model = "uni",
    size: Size = None,
    clip: Annotated[Path | None, typer.Option("--clip", help="Video for the end-to-end row.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Time to measure each step for.", min=1)] = 15.0,
    as_json: Json = False,
) -> None:
    """Measure PyTorch and ONNX Runtime on the CPU: one step, and a whole clip from file to file.

    Of an exported .onnx ONNX Runtime alone is measured.
    """
    from ksnet_deploy.base.errors import ConfigError
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.measure.speed import run_benchmark
    from ksnet_deploy.measure.speeds import keep_speed
    from ksnet_deploy.network.checkpoint_config import notes_of
    from ksnet_deploy.runtime.exported import describe

    own: FrameSize | None = None
    if model.lower().endswith(".engine"):
        raise ConfigError(
            f"{model} is an engine, and bench measures on the CPU; give the checkpoint or .onnx that it was made of"
        )
    if model.lower().endswith(".onnx"):
        network = Path(model)
        own = describe(network).size
    else:
        network = checkpoint_path(model)
        show_notes(notes_of(network))
    frame_size = FrameSize.parse(size) if size else own or FrameSize(180, 320)
    with progress("Measuring", show=not as_json) as bar:
        report = run_benchmark(
            network,
            frame_size,
            clip=clip,
            seconds=seconds,
            on_phase=bar.begin,
            on_memory=lambda needed: bar.say(memory_sentence(needed)),
        )
    for result in report.results:
        keep_speed(network, report.size, f"{result.backend} on cpu", "step", result.step.fps)
        if result.clip_fps is not None:
            keep_speed(network, report.clip_size, f"{result.backend} on cpu", "file", result.clip_fps)
    print(json.dumps(report.as_dict()) if as_json else report.as_text())


def info(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A checkpoint (.safetensors, .pth), an exported .onnx or .engine, 'uni' or 'lite'."
        ),
    ] = "uni",
    size: Size = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, for example --set keep_ratio=0.5.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a network's configuration, parameters and multiply-adds, in training form and folded."""
    from ksnet_deploy.base.errors import ConfigError
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.network.checkpoints import load_checkpoint
    from ksnet_deploy.network.complexity import complexity
    from ksnet_deploy.runtime.exported import describe

    own, facts = None, {}
    if model.lower().endswith((".onnx", ".engine")):
        if set_:
            raise ConfigError(f"{model} is an exported file, whose settings are fixed; give a checkpoint for --set")
        exported = describe(Path(model))
        config, own, facts = exported.config, exported.size, exported.facts
    else:
        checkpoint = load_checkpoint(checkpoint_path(model))
        show_notes(checkpoint.notes)
        config = checkpoint.config.replace(set_ or [])
    frame_size = FrameSize.parse(size) if size else own or FrameSize(180, 320)
    count = complexity(config, frame_size)
    if as_json:
        answer = {"config": json.loads(config.to_json()), "size": str(frame_size), **vars(count)}
        print(json.dumps(answer | ({"exported": facts} if facts else {})))
        return
    for name, fact in facts.items():
        print(f"{name + ':':24}{fact}")
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
