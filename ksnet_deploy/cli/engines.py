"""The commands around TensorRT: build-engine, build-plugins, cache. ``app.py`` adds them to the application."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.words import counted, without_effect
from ksnet_deploy.cli.options import Json, Model, Overwrite
from ksnet_deploy.cli.terminal import build_progress, complain, progress, show_notes

if TYPE_CHECKING:
    from ksnet_deploy.export.engine.make import MadeEngine

__all__ = ["build_engine", "build_plugins", "cache"]

EXIT_INCOMPLETE = 3


def build_engine(
    output: Annotated[
        Path | None, typer.Argument(help="The .engine to write, and its .json beside it (default: the cache).")
    ] = None,
    model: Model = "uni",
    precision: Annotated[
        Literal["fp32", "fp16"] | None, typer.Option("--precision", help="Of the convolutions (default: fp32).")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Short for --precision fp16.")] = False,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Card or architecture, as rtx3080 or sm86 (default: this machine's).")
    ] = None,
    runtime: Annotated[
        Literal["auto", "rtx", "tensorrt"],
        typer.Option("--runtime", help="rtx can build for another machine's GPU (default: what is installed)."),
    ] = "auto",
    size: Annotated[
        str | None, typer.Option("--size", "-s", help="LR frame size, HEIGHTxWIDTH (default: 180x320).")
    ] = None,
    smallest: Annotated[str | None, typer.Option("--min", help="Smallest size of an engine for many sizes.")] = None,
    optimum: Annotated[str | None, typer.Option("--opt", help="Size to optimise for.")] = None,
    largest: Annotated[str | None, typer.Option("--max", help="Largest size.")] = None,
    plugins: Annotated[
        Literal["auto", "on", "off"], typer.Option("--plugins", help="Native plugins; auto takes them where built.")
    ] = "auto",
    effort: Annotated[
        int | None,
        typer.Option(
            "--effort",
            help="Builder optimization level of full TensorRT, 0 to 5 (default: its own).",
            min=0,
            max=5,
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", help="Frames at once, of as many scenes, for 'upscale --scenes-in-flight'.", min=1)
    ] = 1,
    verify_frames: Annotated[
        int, typer.Option("--verify-frames", help="Recurrent frames to compare with float32; 0 for none.", min=0)
    ] = 30,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show how far each output is from the reference, over recorded states.")
    ] = False,
    min_psnr: Annotated[
        float | None,
        typer.Option("--min-psnr", metavar="DB", help="Of every compared frame; below it, exit with 3 (default: 45)."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Build a TensorRT engine; with TensorRT-RTX also for a GPU that is not in this machine."""
    from ksnet_deploy.export import front
    from ksnet_deploy.export.proof.half import PSNR_FLOOR_DB
    from ksnet_deploy.runtime.tensorrt.target import SizeRange

    if fp16 and precision == "fp32":
        raise ConfigError("--fp16 and --precision fp32 contradict each other; give one of them")
    if min_psnr is not None and verify_frames == 0:
        raise ConfigError(f"{without_effect(['--min-psnr'], 'an engine that is not compared')}, or compare some frames")
    with progress("Building", show=not as_json) as bar:
        made = front.build_engine(
            model,
            output,
            SizeRange.parse(size, smallest, optimum, largest),
            precision="fp16" if fp16 else precision or "fp32",
            gpu=gpu,
            runtime=runtime,
            plugins=plugins,
            effort=effort,
            batch=batch,
            compare=compare,
            verify_frames=verify_frames,
            least_psnr_db=PSNR_FLOOR_DB if min_psnr is None else min_psnr,
            overwrite=overwrite,
            say=bar.say,
            on_verify=lambda frames: bar.begin("comparing with float32", frames),
            on_frame=bar.advance,
            on_progress=build_progress(bar),
        )
    sidecar = made.sidecar
    if as_json:
        more = {} if made.outputs is None else {"compared": made.outputs.as_dict()}
        if len(made.sidecars) > 1:
            more["engines"] = {each.metadata["ksnet.step"]: each.as_dict() for each in made.sidecars}
        print(json.dumps({"output": str(made.path), "reused": made.reused, **sidecar.as_dict(), **more}))
    else:
        _print(made)
    if sidecar.fault is not None:
        other = "build in float32" if sidecar.spec.precision != "fp32" else "report this"
        complain(f"{made.path} is there, but {sidecar.fault}; {other}, or accept less with --min-psnr")
        raise typer.Exit(EXIT_INCOMPLETE)


def _print(made: MadeEngine) -> None:
    from ksnet_deploy.export.engine.layers import summary
    from ksnet_deploy.runtime.pair import files_of

    sidecar = made.sidecar
    for path, each in zip(files_of(made.path), made.sidecars, strict=True):
        how = "was in the cache" if made.reused else f"built in {each.build_s:.1f} s"
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {how}, for {each.spec}")
        print(f"Layers: {summary(each.layers)}.")
    if sidecar.verified is None:
        print("Not compared with float32.")
    else:
        print(f"Compared: {_proof_in_words(sidecar.verified)}.")
    if made.outputs is not None:
        print(f"Each output over {made.outputs.steps} recorded steps, absolute:\n{made.outputs.as_table()}")


def _proof_in_words(proof: dict[str, Any]) -> str:
    """The files compared, and the figures; of near-tied channels only where there were any."""
    words = [f"{proof['what']} with {proof['against']}"]
    for name, value in proof.items():
        if name == "near_ties" and value:
            frames = " and ".join(value) if isinstance(value, dict) else f"{value}"
            words.append(f"other choice of near-tied channels on frame {frames}")
        elif name not in ("what", "against", "near_ties", "passed", "faults") and value is not None:
            words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)


def build_plugins(
    tensorrt: Annotated[
        Path | None, typer.Option("--tensorrt", help="Folder of TensorRT, or of its headers (default: searched).")
    ] = None,
    architecture: Annotated[
        list[str] | None,
        typer.Option("--arch", help="Compute capability, as 86; repeatable (default: all)."),
    ] = None,
    kernels_only: Annotated[
        bool, typer.Option("--kernels-only", help="Only the kernels for PyTorch, which need no TensorRT.")
    ] = False,
    fetch_headers: Annotated[
        bool, typer.Option("--fetch-headers", help="Fetch headers that are missing from public repositories.")
    ] = False,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Instead, the alignment's kernel for ONNX Runtime and OpenVINO on a CPU.")
    ] = False,
) -> None:
    """Compile the native TensorRT plugins, which engines then take; needs nvcc, CMake and TensorRT's headers.

    With --cpu, compile the kernel that ONNX Runtime and OpenVINO then take; needs g++ and CMake.
    """
    from ksnet_deploy.ops.align_library import BuiltAlign, build_align
    from ksnet_deploy.ops.library import build_plugins as build

    if cpu and (tensorrt or architecture or kernels_only):
        raise ConfigError("--cpu builds for no GPU; leave --tensorrt, --arch and --kernels-only out, or --cpu")

    with progress("Compiling", show=True) as bar:
        bar.begin("(looking for compilers and headers)", None)
        shown: list[int] = []

        def on_line(line: str) -> None:
            """Ninja and make say how far they are at the head of a line; all else is for their authors."""
            if (step := re.match(r"\[ *(\d+)(?:/(\d+)|%)\] ", line)) is None:
                return
            done, total = int(step[1]), int(step[2] or 100)
            if shown != [total]:
                shown[:] = [total]
                bar.begin("", total)
            bar.reach(done)

        if cpu:
            built = build_align(fetch_headers=fetch_headers, on_line=on_line)
        else:
            library = build(
                tensorrt=tensorrt,
                architectures=architecture,
                kernels_only=kernels_only,
                fetch_headers=fetch_headers,
                on_line=on_line,
            )
            built = BuiltAlign([library], [])
    show_notes(built.left_out)
    print(*built.libraries, sep="\n")


def cache(action: Annotated[Literal["list", "clear"], typer.Argument(help="What to do with it.")] = "list") -> None:
    """List or clear what was exported and built on demand."""
    from ksnet_deploy.export.cache import cache_folder, cached_files, clear_cache

    if action == "clear":
        count, size = clear_cache()
        print(f"{cache_folder()}: {counted(count, 'file')} removed, {size / 1e6:.1f} MB")
        return
    files = cached_files()
    for path in files:
        print(f"{path.lstat().st_size / 1e6:8.1f} MB  {path.name}")
    size = sum(path.lstat().st_size for path in files)
    print(f"{cache_folder()}: {counted(len(files), 'file')}, {size / 1e6:.1f} MB")
