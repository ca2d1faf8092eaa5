"""The commands around TensorRT: build-engine, build-plugins, cache. ``app.py`` adds them to the application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ksnet_deploy.cli.terminal import build_progress, complain, progress

if TYPE_CHECKING:
    from ksnet_deploy.export.engine.make import MadeEngine

__all__ = ["build_engine", "build_plugins", "cache"]

EXIT_INCOMPLETE = 3

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def build_engine(
    output: Annotated[
        Path | None, typer.Argument(help="The .engine to write, and its .json beside it (default: the cache).")
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="A checkpoint (.safetensors, .pth), an exported .onnx, 'uni' or 'lite'."),
    ] = "uni",
    fp16: Annotated[bool, typer.Option("--fp16", help="Convolutions in half precision (default: float32).")] = False,
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
    least: Annotated[str | None, typer.Option("--min", help="Smallest size of an engine for many sizes.")] = None,
    best: Annotated[str | None, typer.Option("--opt", help="Size to optimise for.")] = None,
    most: Annotated[str | None, typer.Option("--max", help="Largest size.")] = None,
    plugins: Annotated[
        Literal["auto", "on", "off"], typer.Option("--plugins", help="Native plugins; auto takes them where built.")
    ] = "auto",
    verify_frames: Annotated[
        int, typer.Option("--verify-frames", help="Recurrent frames to compare with float32; 0 for none.", min=0)
    ] = 30,
    min_psnr: Annotated[
        float, typer.Option("--min-psnr", metavar="DB", help="Of every compared frame; below it, exit with 3.")
    ] = 45.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Build a TensorRT engine; with TensorRT-RTX also for a GPU that is not in this machine."""
    from ksnet_deploy.base.files import check_new_file
    from ksnet_deploy.export.engine.make import EngineRequest, make_engine
    from ksnet_deploy.network.bundled import checkpoint_path
    from ksnet_deploy.runtime.tensorrt.target import SizeRange

    if output is not None:
        check_new_file(output, ".engine", overwrite=overwrite)
    request = EngineRequest(
        source=Path(model) if model.endswith(".onnx") else checkpoint_path(model),
        sizes=SizeRange.parse(size, least, best, most),
        precision="fp16" if fp16 else "fp32",
        flavour=runtime,
        gpu=gpu,
        plugins=plugins,
        output=output,
        verify_frames=verify_frames,
        least_psnr_db=min_psnr,
        model=model,
    )
    with progress("Building", show=not as_json) as bar:
        made = make_engine(
            request,
            say=bar.say,
            on_verify=lambda frames: bar.begin("comparing with float32", frames),
            on_frame=bar.advance,
            on_progress=build_progress(bar),
        )
    sidecar = made.sidecar
    if as_json:
        print(json.dumps({"output": str(made.path), "reused": made.reused, **sidecar.as_dict()}))
    else:
        _print(made)
    if sidecar.fault is not None:
        complain(f"{made.path} is there, but {sidecar.fault}; build in float32, or accept less with --min-psnr")
        raise typer.Exit(EXIT_INCOMPLETE)


def _print(made: MadeEngine) -> None:
    from ksnet_deploy.export.engine.layers import summary

    sidecar = made.sidecar
    how = "was in the cache" if made.reused else f"built in {sidecar.build_s:.1f} s"
    print(f"{made.path}: {made.path.stat().st_size / 1e6:.1f} MB, {how}, for {sidecar.spec}")
    print(f"Layers: {summary(sidecar.layers)}.")
    if sidecar.verified is None:
        print("Not compared with float32.")
    else:
        left_out = ("what", "against", "passed", "faults")
        result = ", ".join(f"{k} {v}" for k, v in sidecar.verified.items() if k not in left_out)
        print(f"Compared: {sidecar.verified['what']} with {sidecar.verified['against']}, {result}.")


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
        bool, typer.Option("--fetch-headers", help="Fetch TensorRT's headers from NVIDIA's public repository.")
    ] = False,
) -> None:
    """Compile the native TensorRT plugins, which engines then take; needs nvcc, CMake and TensorRT's headers."""
    from ksnet_deploy.ops.library import build_plugins as build

    with progress("Compiling", show=True) as bar:
        bar.begin("", None)
        path = build(
            tensorrt=tensorrt,
            architectures=architecture,
            kernels_only=kernels_only,
            fetch_headers=fetch_headers,
            on_line=lambda line: bar.describe(line[:60]),
        )
    print(path)


def cache(action: Annotated[Literal["list", "clear"], typer.Argument(help="What to do with it.")] = "list") -> None:
    """List or clear what was exported and built on demand."""
    from ksnet_deploy.export.cache import cache_folder, cached_files, clear_cache

    if action == "clear":
        count, size = clear_cache()
        print(f"{cache_folder()}: {count} files removed, {size / 1e6:.1f} MB")
        return
    files = cached_files()
    for path in files:
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path.name}")
    print(f"{cache_folder()}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")
