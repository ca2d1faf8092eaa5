"""The command ``export``: a checkpoint to a proven ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ksnet_deploy.cli.options import Json, Overwrite
from ksnet_deploy.cli.terminal import progress, show_notes


def export(
    output: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A checkpoint (.safetensors, .pth), or a bundled one's name.")
    ] = "uni",
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            "-s",
            help="LR frame size, HEIGHTxWIDTH (default: 180x320); with --dynamic, of the proof (default: 72x128).",
        ),
    ] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Leave height and width free.")] = False,
    io: Annotated[
        Literal["uint8", "float16", "float32"], typer.Option("--io", help="Element type of the frames.")
    ] = "uint8",
    precision: Annotated[
        Literal["fp32", "fp16", "int8", "int8-fp16"],
        typer.Option("--precision", help="Of the convolutions; int8 is for CPUs, int8-fp16 in OpenVINO with bfloat16."),
    ] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option("--calibrate", help="Clip for the ranges of int8 (default: the bundled one).")
    ] = None,
    static_split: Annotated[
        Path | None,
        typer.Option(
            "--static-split",
            help="Clip of LR frames; keep the channels selected most often there (default: select for every frame).",
        ),
    ] = None,
    inline: Annotated[
        bool,
        typer.Option(
            "--inline",
            help="Write the custom operators as standard ones, for runtimes without ONNX functions (OpenVINO).",
        ),
    ] = False,
    batch: Annotated[
        int, typer.Option("--batch", help="Frames at once, of as many scenes, for 'upscale --scenes-in-flight'.", min=1)
    ] = 1,
    verify_frames: Annotated[
        int | None,
        typer.Option(
            "--verify-frames",
            help="Recurrent frames to compare with PyTorch; 0 for none (default: 8; 30 in int8).",
            min=0,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", help="A .json to write recorded steps to, for 'polygraphy run --load-inputs'."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Export a checkpoint to ONNX and prove that it computes what PyTorch computes."""
    from ksnet_deploy.export.front import export_onnx, frames_to_verify
    from ksnet_deploy.export.static_split import StaticSplit
    from ksnet_deploy.export.verified import VerificationPlan
    from ksnet_deploy.runtime.pair import files_of
    from ksnet_deploy.runtime.tensorrt.target import DEFAULT_SIZE
    from ksnet_deploy.upscale.scenes import SceneDetector

    splits: list[StaticSplit] = []
    plans: list[VerificationPlan] = []
    compared = frames_to_verify(precision) if verify_frames is None else verify_frames
    with progress("Exporting", show=not as_json) as bar:

        def on_plan(plan: VerificationPlan) -> None:
            plans.append(plan)
            what = "any size" if dynamic else size or DEFAULT_SIZE
            bar.begin(f"{output} ({what}, {precision}, {io} frames)", None)
            bar.say(plan.in_words)

        report = export_onnx(
            model,
            output,
            size,
            dynamic=dynamic,
            io=io,
            precision=precision,
            inline=inline,
            batch=batch,
            record=record,
            calibrate=calibrate,
            static_split=static_split,
            starts_scene=SceneDetector().starts_scene,
            verify_frames=verify_frames,
            overwrite=overwrite,
            on_note=lambda note: show_notes([note]),
            on_choosing=lambda count: bar.begin(f"(the network over {static_split}, twice)", count),
            on_split=splits.append,
            on_plan=on_plan,
            on_verify=lambda: bar.begin("and verifying against PyTorch", compared),
            on_frame=bar.advance,
        )
    files = files_of(output)
    size_bytes = sum(file.stat().st_size for file in files)
    answer: dict[str, Any] = {"output": str(output), "bytes": size_bytes, "verified": report is not None}
    if len(files) > 1:
        answer["files"] = [str(file) for file in files]
    if report is not None:
        answer |= report.as_dict()
    for split in splits:
        answer["static_split"] = split.as_dict()
    if record is not None:
        answer["recorded"] = str(record)
    answer["memory_estimate_bytes"] = plans[0].memory_bytes
    if as_json:
        print(json.dumps(answer))
    else:
        print(f"{' and '.join(map(str, files))}: {size_bytes / 1e6:.1f} MB")
        what = f"the network exported for {plans[0].size}, over " if plans[0].wanted_bytes and not dynamic else ""
        print(f"Verified: {what}{report.summary()}." if report else "Not verified (--verify-frames 0).")
        for split in splits:
            print(f"Static split: {split.summary()}.")
        if record is not None:
            print(f"Recorded: {record}, {record.stat().st_size / 1e6:.1f} MB.")
