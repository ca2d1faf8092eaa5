"""The commands around training: pack, train, train-flow, evaluate. ``app.py`` adds them to the application."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ksnet_deploy.base.words import counted
from ksnet_deploy.cli.options import Json, Overwrite
from ksnet_deploy.cli.terminal import memory_sentence, progress, show_notes
from ksnet_deploy.cli.training_run import carry_out

__all__ = ["evaluate", "pack", "train", "train_flow"]

Data = Annotated[list[Path], typer.Argument(help="Shards, folders of frames, videos or stills, or folders of these.")]
Validation = Annotated[Path | None, typer.Option("--validation", help="Clips to watch the quality on.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the run; rerun the command to resume it.")]
DeviceOption = Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where to train.")]
Recorded = Annotated[
    bool,
    typer.Option(help="On CUDA, loss and gradients as one graph, in more memory."),
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16", "fp16"],
    typer.Option("--precision", help="Of the convolutions."),
]
Stages = Annotated[
    list[str] | None,
    typer.Option("--stage", help="Replace the recipe's stages: ITERATIONS:BATCHxFRAMESxPATCH, repeatable."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is drawn at random.", min=0)]
Workers = Annotated[int, typer.Option("--workers", help="Processes that load data; 0 loads in the loop.", min=0)]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads (default: all cores).", min=1)]
Minutes = Annotated[float | None, typer.Option("--max-minutes", help="Stop, resumably, after so long.", min=0)]
ValidateEvery = Annotated[int, typer.Option("--validate-every", help="Iterations between validations.", min=1)]


def evaluate(
    hr: Annotated[Path, typer.Argument(help="HR clips: folders of frames, videos or shards, or a folder of these.")],
    lr: Annotated[Path | None, typer.Option("--lr", help="LR clips of the same names; made from HR if absent.")] = None,
    protocol: Annotated[
        Literal["folder", "vid4", "reds4", "vimeo90k"], typer.Option("--protocol", help="Which frames and channels.")
    ] = "folder",
    method: Annotated[
        Literal["network", "bicubic"], typer.Option("--method", help="What enlarges the frames.")
    ] = "network",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A checkpoint, an .onnx, or a bundled name (default: lite or uni).",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", help="One of tensorrt, rtx, torch, onnxruntime, openvino (default: the fastest)."),
    ] = None,
    backend: Annotated[str | None, typer.Option("--backend", hidden=True, help="Older name of --runtime.")] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda (default: a GPU if there is one).")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="NAME", help="fp32 or int8, on a CPU (default: auto)."),
    ] = None,
    tiles: Annotated[
        str,
        typer.Option("--tiles", help="Largest tiles, such as 270x480, or 'off' (default: as memory allows)."),
    ] = "auto",
    degradation: Annotated[
        Literal["BI", "BD", "video"],
        typer.Option("--degradation", help="How LR is made; 'video' draws a reduction and an encoder for each clip."),
    ] = "BI",
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            metavar="NAME",
            help="Put LR through h264, hevc, mpeg2, vp9 or mjpeg first; bicubic is measured too (default: no encoder).",
        ),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option(
            "--crf",
            help="The codec's own quality, lower is better: 0-51 for h264 and hevc, 0-63 for vp9, 1-31 for mpeg2 and "
            "mjpeg (default: 23, 28, 33, 5, 5).",
        ),
    ] = None,
    space: Annotated[
        Literal["y", "rgb"] | None, typer.Option("--space", help="Luma or RGB (default: the protocol's).")
    ] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Leave out rows and columns that 4 does not divide.")] = False,
    warping: Annotated[bool, typer.Option("--warping", help="Measure temporal consistency too (slow).")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write PSNR over the frame index as a picture.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure PSNR and SSIM by the field's protocols: Vid4, REDS4, Vimeo90K-T, or any clips."""
    from ksnet_deploy.measure import front
    from ksnet_deploy.measure.plotting import check_plotting, plot_psnr

    if plot is not None:
        check_plotting(plot, overwrite=overwrite)
    memory: list[int] = []
    with progress("Evaluating", show=not as_json) as bar:

        def say(sentence: str) -> None:
            show_notes([sentence]) if as_json else bar.say(sentence)

        def on_memory(needed: int) -> None:
            memory.append(needed)
            bar.say(memory_sentence(needed))

        report = front.evaluate(
            hr,
            model,
            lr=lr,
            protocol=protocol,
            method=method,
            runtime=runtime,
            backend=backend,
            device=device,
            precision=precision,
            tiles=tiles,
            degradation=degradation,
            codec=codec,
            crf=crf,
            space=space,
            crop=crop,
            warping=warping,
            on_note=say,
            on_memory=on_memory,
            on_begin=lambda clips, frames: bar.begin(counted(clips, "clip"), frames),
            on_frame=bar.advance,
        )
    answer = report.as_dict() | {"memory_estimate_bytes": memory[0] if memory else None}
    print(json.dumps(answer) if as_json else report.as_text(), flush=True)
    if plot is not None:  # last, so that the figures are there even where the disk is full
        plot_psnr(report, plot)


def pack(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the shards to.")],
    hold_out: Annotated[
        int, typer.Option("--hold-out", help="Source videos to put aside in OUTPUT/validation.", min=0)
    ] = 0,
    shard_mb: Annotated[int, typer.Option("--shard-mb", help="Largest size of a file in 1e6 bytes.", min=1)] = 48,
    crop: Annotated[bool, typer.Option("--crop", help="Leave out rows and columns that 4 does not divide.")] = False,
    degradation: Annotated[
        Literal["video"] | None,
        typer.Option("--degradation", help="Keep LR versions that went through an encoder too (default: none)."),
    ] = None,
    variants: Annotated[
        int | None, typer.Option("--variants", help="How many of each clip (default: 4).", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the LR versions (default: 0).", min=0)] = None,
) -> None:
    """Decode clips once into shards, which training reads without decoding."""
    from ksnet_deploy.base.errors import ConfigError
    from ksnet_deploy.training.pack import pack_clips

    for option, number in (("variants", variants), ("seed", seed)):
        if number is not None and degradation is None:
            raise ConfigError(f"--{option} {number} needs to know of what; add --degradation video, or leave it out")

    with progress("Packing", show=True) as bar:
        bar.begin("clips", None)
        counts = pack_clips(
            data,
            output,
            hold_out=hold_out,
            max_bytes=shard_mb * 10**6,
            mod_crop=crop,
            variants=0 if degradation is None else variants or 4,
            seed=seed or 0,
            on_clip=lambda _: bar.advance(),
        )
    for folder, count in counts.items():
        print(f"{folder}: {counted(count, 'clip')}")


def train(
    data: Data,
    output: Output,
    size: Annotated[
        Literal["uni", "lite", "paper"] | None,
        typer.Option("--size", help="Which network (default: uni; with a paper's recipe 'paper', as published)."),
    ] = None,
    recipe: Annotated[
        Literal["short", "paper-reds", "paper-vimeo"], typer.Option("--recipe", help="Schedule and data selection.")
    ] = "short",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a network setting, for example --set keep_ratio=0.5.")
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", help="Start from the weights of a checkpoint or a bundled name.")
    ] = None,
    init_partial: Annotated[
        bool,
        typer.Option("--init-partial", help="Take from --init what fits, if the network differs (default: refuse)."),
    ] = False,
    flow: Annotated[
        Path | None, typer.Option("--flow", help="Start the flow network from train-flow's or public SpyNet weights.")
    ] = None,
    validation: Validation = None,
    stage: Stages = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="At the start (default: the recipe's).")
    ] = None,
    optimizer: Annotated[
        Literal["adam", "muon"] | None,
        typer.Option("--optimizer", help="Of the convolution kernels (default: the recipe's; muon in 'short')."),
    ] = None,
    flow_frozen: Annotated[
        int | None, typer.Option("--flow-frozen", help="Iterations for which the flow network stays as it is.", min=0)
    ] = None,
    degradation: Annotated[
        Literal["BI", "BD", "video"],
        typer.Option("--degradation", help="How LR is made; 'video' takes what 'pack' made of it (default: BI)."),
    ] = "BI",
    temporal_weight: Annotated[
        float,
        typer.Option("--temporal-weight", help="Weight of the change along the motion, which is seen as flicker."),
    ] = 0.0,
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "cpu",
    recorded: Recorded = False,
    licence: Annotated[
        str, typer.Option("--licence", help="Terms of the weights, which follow the data; kept in the checkpoint.")
    ] = "not stated",
    seed: Seed = 0,
    workers: Workers = 0,
    threads: Threads = None,
    max_minutes: Minutes = None,
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours",
            help="Measure the speed, then make the run so long that its rate ends when these are over; --stage and "
            "--recipe give shapes and proportions only (default: as many iterations as they say).",
        ),
    ] = None,
    validate_every: ValidateEvery = 500,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw log.png beside log.csv, after each validation too.")
    ] = False,
) -> None:
    """Train KSNet; rerun to resume. Several GPUs: torchrun --nproc-per-node=gpu -m ksnet_deploy train ..."""
    from ksnet_deploy.training.run import TrainingRequest, train_ksnet

    request = TrainingRequest(
        **_shared(locals()),
        size=size,
        recipe=recipe,
        settings=tuple(set_ or ()),
        init=init,
        init_partial=init_partial,
        flow=flow,
        learning_rate=learning_rate,
        optimizer=optimizer,
        flow_frozen=flow_frozen,
        degradation=degradation,
        temporal_weight=temporal_weight,
        licence=licence,
        hours=hours,
    )
    carry_out(train_ksnet, request, output if plot else None)


def train_flow(
    data: Data,
    output: Output,
    validation: Validation = None,
    channels: Annotated[int, typer.Option("--channels", help="Of the flow network: uni 32, lite 16.", min=2)] = 32,
    levels: Annotated[int, typer.Option("--levels", help="Of its pyramid: uni 6, lite 5.", min=1, max=6)] = 6,
    init: Annotated[Path | None, typer.Option("--init", help="Start from these weights.")] = None,
    stage: Stages = None,
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "cpu",
    recorded: Recorded = False,
    seed: Seed = 0,
    workers: Workers = 0,
    threads: Threads = None,
    max_minutes: Minutes = None,
    validate_every: ValidateEvery = 500,
) -> None:
    """Pretrain the flow network on synthetic motion with known flow, and report its end-point error."""
    from ksnet_deploy.training.run import FlowRequest, train_flow_network

    request = FlowRequest(**_shared(locals()), channels=channels, levels=levels, init=init)
    carry_out(train_flow_network, request)


def _shared(options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a request that both commands make alike, from a command's options by name."""
    minutes = options["max_minutes"]
    unchanged = ("validation", "precision", "device", "recorded", "seed", "workers", "threads", "validate_every")
    return {
        "data": tuple(options["data"]),
        "folder": options["output"],
        "stages": tuple(options["stage"] or ()),
        "max_seconds": None if minutes is None else 60 * minutes,
        **{name: options[name] for name in unchanged},
    }
