"""The command line. A command parses, calls one library function, and prints.

Heavy imports (PyTorch, ONNX Runtime, PyAV) stand inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ksnet_deploy import __version__
from ksnet_deploy.cli_compare import compare
from ksnet_deploy.cli_doctor import doctor
from ksnet_deploy.cli_engines import build_engine, build_plugins, cache
from ksnet_deploy.cli_training import evaluate, pack, train, train_flow
from ksnet_deploy.cli_upscale import upscale
from ksnet_deploy.errors import KSNetError
from ksnet_deploy.models import checkpoint_path
from ksnet_deploy.terminal import complain, progress

EXIT_FAILED = 1

app = typer.Typer(
    help="Deploy KSNet, a real-time x4 video super-resolution network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[
    str, typer.Option("--model", "-m", help="A checkpoint (.safetensors, .pth), an exported .onnx, 'uni' or 'lite'.")
]
Device = Annotated[
    Literal["cpu", "cuda"] | None, typer.Option("--device", help="Where the network runs; the CPU unless told.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Size = Annotated[str, typer.Option("--size", "-s", help="LR frame size, HEIGHTxWIDTH.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"ksnet-deploy {__version__}")
        raise typer.Exit


app.command()(upscale)


@app.command()
def export(
    output: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    model: Model = "uni",
    size: Size = "180x320",
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Leave height and width free.")] = False,
    io: Annotated[
        Literal["uint8", "float16", "float32"], typer.Option("--io", help="Element type of the frames.")
    ] = "uint8",
    precision: Annotated[Literal["fp32", "fp16"], typer.Option("--precision", help="Of the convolutions.")] = "fp32",
    verify_frames: Annotated[
        int, typer.Option("--verify-frames", help="Recurrent frames to compare with PyTorch; 0 for none.", min=0)
    ] = 8,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Export a checkpoint to ONNX and prove that it computes what PyTorch computes."""
    from ksnet_deploy.config import FrameSize
    from ksnet_deploy.export.verified import export_verified
    from ksnet_deploy.files import check_new_file
    from ksnet_deploy.weights import load_checkpoint

    frame_size = FrameSize.parse(size)
    check_new_file(output, ".onnx", overwrite=overwrite)
    checkpoint = load_checkpoint(checkpoint_path(model))
    with progress("Exporting", show=not as_json) as bar:
        bar.begin(f"{output} ({'any size' if dynamic else frame_size}, {precision}, {io} frames)", None)
        report = export_verified(
            checkpoint,
            output,
            frame_size,
            dynamic=dynamic,
            io=io,
            precision=precision,
            frames=verify_frames,
            on_verify=lambda: bar.begin("and verifying against PyTorch", verify_frames),
            on_frame=bar.advance,
        )
    answer: dict[str, Any] = {"output": str(output), "bytes": output.stat().st_size, "verified": report is not None}
    if report is not None:
        answer |= report.as_dict()
    if as_json:
        print(json.dumps(answer))
    else:
        print(f"{output}: {answer['bytes'] / 1e6:.1f} MB")
        print(f"Verified: {report.summary()}." if report else "Not verified (--verify-frames 0).")


@app.command()
def bench(
    model: Model = "uni",
    size: Size = "180x320",
    clip: Annotated[Path | None, typer.Option("--clip", help="Video for the end-to-end row.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Time to measure each step for.", min=1)] = 15.0,
    as_json: Json = False,
) -> None:
    """Measure PyTorch and ONNX Runtime on the CPU: one step, and a whole clip from file to file."""
    from ksnet_deploy.benchmark import run_benchmark
    from ksnet_deploy.config import FrameSize

    with progress("Measuring", show=not as_json) as bar:
        report = run_benchmark(
            checkpoint_path(model), FrameSize.parse(size), clip=clip, seconds=seconds, on_phase=bar.begin
        )
    print(json.dumps(report.as_dict()) if as_json else report.as_table())


@app.command()
def info(
    model: Model = "uni",
    size: Size = "180x320",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, for example --set keep_ratio=0.5.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a network's configuration, parameters and multiply-adds, in training form and folded."""
    from ksnet_deploy.complexity import complexity
    from ksnet_deploy.config import FrameSize
    from ksnet_deploy.weights import load_checkpoint

    config = load_checkpoint(checkpoint_path(model)).config.replace(set_ or [])
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


for _command in (build_engine, build_plugins, cache, compare, doctor, evaluate, train, train_flow, pack):
    app.command()(_command)


def _stop(signum: int, _frame: object) -> None:
    """Leave by an exception, so that unfinished files are removed on the way out."""
    if multiprocessing.parent_process() is None:  # a loading process leaves quietly with its parent
        complain("stopped before the end; nothing unfinished has its final name")
    raise SystemExit(128 + signum)


def main() -> None:
    """Entry point: run a command; turn what went wrong into one sentence and an exit code."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    try:
        app()
    except KSNetError as error:
        complain(str(error))
        sys.exit(EXIT_FAILED)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, which is not imported here
            raise
        complain("the GPU has too little memory; give smaller frames, or train with a smaller batch or patch (--stage)")
        sys.exit(EXIT_FAILED)
    except MemoryError:
        complain("the memory is used up; close other programs, give smaller frames, or upscale in smaller --tiles")
        sys.exit(EXIT_FAILED)
    except OSError as error:  # the rarer ones: names too long, folders that may not be entered
        complain(f"{error.filename or 'a file'} cannot be used ({error.strerror or error}); check its path and access")
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
