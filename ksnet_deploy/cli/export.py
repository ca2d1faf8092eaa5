"""The command ``export``: a checkpoint to a proven ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ksnet_deploy.cli.options import Json, Model, Overwrite
from ksnet_deploy.cli.terminal import progress, show_notes
from ksnet_deploy.network.bundled import checkpoint_path


def export(
    output: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    model: Model = "uni",
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
    precision: Annotated[Literal["fp32", "fp16"], typer.Option("--precision", help="Of the convolutions.")] = "fp32",
    inline: Annotated[
        bool,
        typer.Option(
            "--inline",
            help="Write the custom operators as standard ones, for runtimes without ONNX functions (OpenVINO).",
        ),
    ] = False,
    verify_frames: Annotated[
        int, typer.Option("--verify-frames", help="Recurrent frames to compare with PyTorch; 0 for none.", min=0)
    ] = 8,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Export a checkpoint to ONNX and prove that it computes what PyTorch computes."""
    from ksnet_deploy.base.errors import ConfigError
    from ksnet_deploy.base.files import check_new_file
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.export.proof.sequence import PROOF_SIZE
    from ksnet_deploy.export.verified import VerificationPlan, export_verified
    from ksnet_deploy.network.checkpoints import load_checkpoint

    if model.endswith((".onnx", ".engine")):
        raise ConfigError(
            f"{model} is an exported file, and only checkpoints can be exported; give the checkpoint that it was made "
            "of with --model"
        )
    frame_size = FrameSize.parse(size) if size else PROOF_SIZE if dynamic else FrameSize(180, 320)
    check_new_file(output, ".onnx", overwrite=overwrite)
    checkpoint = load_checkpoint(checkpoint_path(model))
    show_notes(checkpoint.notes)
    plans: list[VerificationPlan] = []
    with progress("Exporting", show=not as_json) as bar:
        bar.begin(f"{output} ({'any size' if dynamic else frame_size}, {precision}, {io} frames)", None)

        def on_plan(plan: VerificationPlan) -> None:
            plans.append(plan)
            bar.say(plan.in_words)

        report = export_verified(
            checkpoint,
            output,
            frame_size,
            dynamic=dynamic,
            io=io,
            precision=precision,
            frames=verify_frames,
            inline=inline,
            on_plan=on_plan,
            on_verify=lambda: bar.begin("and verifying against PyTorch", verify_frames),
            on_frame=bar.advance,
        )
    answer: dict[str, Any] = {"output": str(output), "bytes": output.stat().st_size, "verified": report is not None}
    if report is not None:
        answer |= report.as_dict()
    answer["memory_estimate_bytes"] = plans[0].memory_bytes
    if as_json:
        print(json.dumps(answer))
    else:
        print(f"{output}: {answer['bytes'] / 1e6:.1f} MB")
        what = "" if dynamic or plans[0].size == frame_size else f"the network exported for {plans[0].size}, over "
        print(f"Verified: {what}{report.summary()}." if report else "Not verified (--verify-frames 0).")
