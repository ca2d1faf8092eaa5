"""The command line. A command parses, calls one library function, and prints.

Heavy imports (PyTorch, ONNX Runtime, PyAV) stand inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.machine import ending_signals
from ksnet_deploy.base.memory import is_out_of_memory
from ksnet_deploy.base.version import __version__
from ksnet_deploy.cli.compare import compare
from ksnet_deploy.cli.convert import convert
from ksnet_deploy.cli.doctor import doctor
from ksnet_deploy.cli.engines import build_engine, build_plugins, cache
from ksnet_deploy.cli.export import export
from ksnet_deploy.cli.measure import bench, info, models
from ksnet_deploy.cli.options import Command
from ksnet_deploy.cli.seeing import preview, visualize
from ksnet_deploy.cli.terminal import complain, make_streams_last, out_of_memory_sentence
from ksnet_deploy.cli.training import evaluate, pack, train, train_flow
from ksnet_deploy.cli.upscale import UpscaleCommand, upscale
from ksnet_deploy.cli.web import web

EXIT_FAILED = 1


class Commands(TyperGroup):
    """The commands, with refusals of values in Typer's own words, without those of the library below it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    cls=Commands,
    help="Deploy KSNet, a real-time x4 video super-resolution network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[Callable[..., None], tuple[str, str]] = {
    upscale: ("film.mkv", "holiday/ -o larger/ --codec hevc --skip-existing"),
    preview: ("film.mkv", "film.mkv --models lite,lite-video,uni -o look.html"),
    web: ("", "--host 0.0.0.0 --auth anna:secret --max-upload 20GB"),
    visualize: ("film.mkv --at 12.5 -o page.html", "film.mkv --at 1:30 --model lite --frames 24"),
    export: ("lite.onnx --model lite --size 180x320", "uni16.onnx --model uni --precision fp16"),
    convert: ("net.pth net.safetensors --size uni", "net.ckpt net.safetensors --size lite"),
    bench: ("--plot bench.png", "--model lite --model uni --compare before.json"),
    info: ("--model uni", "--model lite --size 360x640"),
    models: ("", "--json"),
    build_engine: ("uni.engine --fp16 --gpu rtx3080", "uni.engine --fp16 --min 90x160 --opt 180x320 --max 540x960"),
    build_plugins: ("--fetch-headers", "--kernels-only"),
    cache: ("list", "clear"),
    compare: ("film.mkv film_x4.mkv", "hr.mp4 film_x4.mp4 --source film.mp4 -o page.html"),
    doctor: ("", "--json"),
    evaluate: ("Vid4/ --protocol vid4", "clips/ --codec h264 --crf 23"),
    train: ("data/train -o runs/lite --size lite --hours 2.5", "data/train -o runs/uni --init uni --device cuda"),
    train_flow: (
        "data/train -o runs/flow --channels 16 --levels 5",
        "data/train -o runs/flow32 --validation data/validation",
    ),
    pack: ("videos/ -o data --hold-out 12", "videos/ -o data --degradation video --variants 8"),
}
"""Commands, each with the arguments of two examples."""


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"ksnet-deploy {__version__}")
        raise typer.Exit


for _command, _examples in COMMANDS.items():
    _name = _command.__name__.replace("_", "-")
    _lines = (f"Example: ksnet-deploy {_name} {example}".strip() for example in _examples)
    _kind = UpscaleCommand if _command is upscale else Command
    app.command(_name, cls=_kind, epilog="\n".join(_lines))(_command)


EXTRA_OF = {"onnxruntime": "'cpu' (or 'gpu')", "openvino": "'openvino'", "matplotlib": "'plots'", "ray": "'cluster'"}
"""Extras that bring the libraries which some commands need."""
stopped_by: list[int] = []
"""Signals that ended this process."""


def _stop(signum: int, _frame: object) -> None:
    """Leave by an exception, so that unfinished files are removed on the way out."""
    if multiprocessing.parent_process() is None:  # a loading process leaves quietly with its parent
        complain("interrupted; no partial file was left under the output's name")
    stopped_by.append(signum)
    raise SystemExit(128 + signum)


def _missing_library(error: Exception) -> str:
    return (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""


def main() -> None:
    """Entry point: run a command; turn what went wrong into one sentence and an exit code."""
    stopped_by.clear()
    try:
        _main()
    except Exception:
        if not stopped_by:
            raise
        sys.exit(128 + stopped_by[0])  # what a library made of it, where it was loading or catches everything


def _main() -> None:
    make_streams_last()
    # Threads that wait sleep: where other programs use the cores, spinning ones keep the work from its end. PyTorch
    # reads this when it is loaded, which no command has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for signum in ending_signals():
        signal.signal(signum, _stop)
    try:
        app()
    except KSNetError as error:
        complain(str(error))
        sys.exit(EXIT_FAILED)
    except Exception as error:
        if is_out_of_memory(error):
            complain(out_of_memory_sentence(error))
        elif (library := _missing_library(error)) in EXTRA_OF:
            complain(f"{library} is not installed; install ksnet-deploy with the extra {EXTRA_OF[library]}")
        elif isinstance(error, OSError):  # the rarer ones: names too long, folders that may not be entered
            what = error.filename or "a file"
            complain(f"{what} cannot be used ({error.strerror or error}); check its path and access")
        else:
            raise
        sys.exit(EXIT_FAILED)
