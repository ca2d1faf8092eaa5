"""Abilities of this machine, found out by trying, and how to get what it lacks.

:func:`diagnose` makes a list of checks. Each stands alone: one that fails is a line with the reason, and the others go
on. Imported with the command line; what is heavy stands inside the functions.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.machine import cores, cpu_flags, has_bfloat16, has_vnni, is_x86
from ksnet_deploy.base.version import package_version
from ksnet_deploy.base.words import counted
from ksnet_deploy.cli.diagnosis import Check, Diagnosis, State
from ksnet_deploy.cli.requirements import _NAME, Requirement, fits, requirements

if TYPE_CHECKING:
    from ksnet_deploy.ops.align_library import AlignRuntime
    from ksnet_deploy.runtime.tensorrt.target import Flavour

__all__ = ["Check", "Diagnosis", "State", "diagnose"]

_LEAST_DRIVER = "580"  # for the CUDA 13 of TensorRT-RTX
_NEEDS_CARD = f"needs an NVIDIA card and its driver, {_LEAST_DRIVER} or later"
_HARDWARE = {"nvenc": _NEEDS_CARD, "qsv": "needs an Intel GPU and its driver", "videotoolbox": "needs macOS"}


def diagnose() -> Diagnosis:
    """Result of all checks. Takes a few seconds, most of them to import PyTorch."""
    from ksnet_deploy.upscale.ladder import Choices, available_rungs, this_machine
    from ksnet_deploy.upscale.networks import default_model, find_network, video_model

    checks = [check for name, needed, look in _LOOKS for check in _safely(name, look, needed=needed)]
    rung = available_rungs(Choices(), this_machine())[0]
    model, runtime = default_model(rung.device), rung.runtime
    if rung.device == "cpu":
        try:
            runtime = find_network(model).backend
        except Exception:  # whatever a broken installation raises; the checks have said it
            runtime = "onnxruntime"
    return Diagnosis(checks, model, video_model(rung.device), runtime, rung.device)


def _safely(name: str, look: Callable[[], Iterator[Check]], *, needed: bool) -> list[Check]:
    done: list[Check] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done.extend(look())
    except KSNetError as error:
        done.append(Check(name, "missing", str(error), None, needed))
    except Exception as error:  # whatever a broken installation raises
        reason = " ".join(f"cannot be looked at ({type(error).__name__}: {error})".split())
        done.append(Check(name, "missing", reason, "install it again, or report this", needed))
    return done


def _compared(name: str, version: str, bounds: str, *, needed: bool = False, found: str | None = None) -> Check:
    if fits(version, bounds):
        return Check(name, "ok", found or version, None, needed)
    return Check(name, "untested", found or version, f"tested with {bounds} only, install that", needed)


def _package(wanted: Requirement, *, needed: bool = False) -> Check:
    version = package_version(wanted.package)
    if version is None:
        target = f"{_NAME}[{wanted.extra}]" if wanted.extra else wanted.package + wanted.bounds
        return Check(wanted.package, "missing", "not installed", f"pip install '{target}'", needed)
    return _compared(wanted.package, version, wanted.bounds, needed=needed)


def _extra(package: str) -> Iterator[Check]:
    yield _package(next(wanted for wanted in requirements() if wanted.package == package))


def _python() -> Iterator[Check]:
    version, bounds = platform.python_version(), importlib.metadata.metadata(_NAME)["Requires-Python"]
    yield _compared("python", version, bounds, needed=True, found=f"{version} on {platform.platform()}")


def _packages() -> Iterator[Check]:
    yield from (_package(wanted, needed=True) for wanted in requirements() if wanted.extra is None)


def _onnxruntime() -> Iterator[Check]:
    known = [r for r in requirements() if r.package.startswith("onnxruntime") and r.extra]
    builds = [r for r in known if package_version(r.package)]
    if not builds:
        remedy = f"pip install '{_NAME}[cpu]', or '{_NAME}[gpu]' for CUDA"
        yield Check("onnxruntime", "missing", "not installed", remedy, True)
        return
    import onnxruntime

    version = package_version(builds[0].package) or ""
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    found = f"{version}, runs on {', '.join(providers)}"
    if len(builds) > 1:
        remedy = "onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, then install one"
        yield Check("onnxruntime", "untested", found, remedy, True)
    else:
        yield _compared("onnxruntime", version, builds[0].bounds, needed=True, found=found)


def _openvino() -> Iterator[Check]:
    from ksnet_deploy.runtime.openvino import export_precision

    (check,) = _extra("openvino")
    if check.state == "missing":
        yield replace(check, remedy=f"optional, faster where the processor has bfloat16: {check.remedy}")
    else:
        kind = "bfloat16" if export_precision() == "fp16" else "float32, which ONNX Runtime is faster in"
        yield replace(check, found=f"{check.found}, computes in {kind}")


def _checkpoint(name: str) -> Iterator[Check]:
    from ksnet_deploy.network.bundled import bundled_checkpoint
    from ksnet_deploy.network.checkpoints import load_checkpoint
    from ksnet_deploy.upscale.networks import default_model, video_model

    checkpoint = load_checkpoint(bundled_checkpoint(name))
    found = f"loads; licence {checkpoint.metadata.get('licence', 'not stated')}; SHA-256 {checkpoint.sha256}"
    yield Check(f"checkpoint {name}", "ok", found, None, name in (default_model(None), video_model(None)))


def _encoders() -> Iterator[Check]:
    from ksnet_deploy.video.writing.presets import available_encoders

    for name, problem in available_encoders().items():
        if problem is None:
            yield Check(f"encoder {name}", "ok", "works", None, name == "h264")
        elif needs := _HARDWARE.get(name.partition("-")[2]):
            yield Check(f"encoder {name}", "not here", problem, needs)
        else:
            remedy = "install PyAV from its wheel: pip install --force-reinstall av"
            yield Check(f"encoder {name}", "missing", problem, remedy, name == "h264")


def _cpu() -> Iterator[Check]:
    if (flags := cpu_flags()) is not None:
        extensions = [name for flag, name in (("avx2", "AVX2"), ("avx512f", "AVX512")) if flag in flags]
    else:
        import torch

        extensions = {"AVX2": ["AVX2"], "AVX512": ["AVX2", "AVX512"]}.get(torch.backends.cpu.get_cpu_capability(), [])
    can = " and ".join(extensions) or "neither AVX2 nor AVX512"
    if flags is not None:  # else the system does not say
        can += f"; {'with' if has_bfloat16() else 'no'} bfloat16, {'int8 can run' if has_vnni() else 'no int8 (VNNI)'}"
    found = f"{counted(cores(), 'core')} of {platform.machine()}, {can}"
    slow = not extensions and is_x86()
    yield Check("cpu", "not here" if slow else "ok", found, "upscale works, but slowly" if slow else None)


def _memory() -> Iterator[Check]:
    from ksnet_deploy.upscale.memory import available_memory

    if (available := available_memory()) is not None:
        yield Check("memory", "ok", f"{available / 1e9:.1f} GB free for this process")
    else:
        remedy = "should a frame not fit, give smaller --tiles"
        yield Check("memory", "not here", "this system does not say how much is free", remedy)


def _disk() -> Iterator[Check]:
    yield Check("disk", "ok", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB free in the current folder")


def _cache() -> Iterator[Check]:
    from ksnet_deploy.export.cache import cache_folder, cached_files

    folder, files = cache_folder().absolute(), cached_files()
    found = f"{folder}, {counted(len(files), 'file')}, {sum(path.lstat().st_size for path in files) / 1e6:.1f} MB"
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        yield Check("cache", "ok", found, None, True)
    else:
        yield Check("cache", "missing", f"{folder} cannot be written to", "set KSNET_CACHE_DIR to another", True)


def _gpu() -> Iterator[Check]:
    if shutil.which("nvidia-smi") is None:
        from ksnet_deploy.runtime.tensorrt.cuda import compute_capability

        try:
            yield Check("nvidia gpu", "ok", f"{compute_capability()}, says CUDA; nvidia-smi is not installed")
        except KSNetError:
            yield Check("nvidia gpu", "not here", "no nvidia-smi, and CUDA finds no device", _NEEDS_CARD)
        return
    fields = "--query-gpu=name,memory.total,compute_cap,driver_version"
    code, output = _run("nvidia-smi", fields, "--format=csv,noheader")
    if code != 0 or not output:
        reason = output.splitlines()[0] if output else f"it ended with {code}"
        yield Check("nvidia gpu", "missing", f"nvidia-smi finds none ({reason})", "install NVIDIA's driver anew")
        return
    for line in output.splitlines():
        *card, driver = (part.strip() for part in line.split(","))
        found = f"{', '.join(card)} (name, memory, compute capability), driver {driver}"
        old = None if fits(driver, f">={_LEAST_DRIVER}") else f"TensorRT-RTX needs driver {_LEAST_DRIVER} or later"
        yield Check("nvidia gpu", "untested" if old else "ok", found, old)


def _torch_cuda() -> Iterator[Check]:
    version, cuda = importlib.metadata.version("torch"), None
    if not version.endswith("+cpu"):  # any other build may be for CUDA
        import torch

        cuda = torch.version.cuda
    if cuda is None:
        found, remedy = f"PyTorch {version} is built without CUDA", "install a CUDA build from pytorch.org"
        yield Check("torch cuda", "not here", found, f"for --device cuda, {remedy}")
    elif torch.cuda.is_available():
        yield Check("torch cuda", "ok", f"CUDA {cuda} on {torch.cuda.get_device_name(0)}")
    else:
        yield Check("torch cuda", "not here", f"PyTorch is built for CUDA {cuda}, but finds no device", _NEEDS_CARD)


def _runtimes() -> Iterator[Check]:
    """Runtimes that upscale looked for to be fast, and the one that it found."""
    from ksnet_deploy.upscale.ladder import RUNGS, Choices, available_rungs, this_machine

    machine = this_machine()
    looked = [rung for rung in RUNGS if rung.device == "cuda"]
    if machine.gpu is None:
        titles = ", ".join(rung.title for rung in looked)
        yield Check("fastest", "not here", f"no GPU for {titles}: {machine.without_gpu}", _NEEDS_CARD)
        return
    taken = available_rungs(Choices(), machine)[0]
    lacking = [rung for rung in looked if machine.obstacle(rung) is not None]
    found = "; ".join([taken.on(machine), *(f"{rung.title}: {machine.obstacle(rung)}" for rung in lacking)])
    above = [] if taken.is_engine else [rung for rung in lacking if RUNGS.index(rung) < RUNGS.index(taken)]
    faster = [rung.install for rung in above if machine.can_have(rung)]
    yield Check("fastest", "missing" if faster else "ok", found, " or ".join(faster) or None)


def _tensorrt(name: str, flavour: Flavour) -> Iterator[Check]:
    from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, import_tensorrt

    if importlib.util.find_spec(FLAVOURS[flavour]) is None:
        yield Check(name, "missing", "not installed", f"for engines: pip install '{_NAME}[{flavour}]'")
    else:
        bounds = next(r.bounds for r in requirements() if r.extra == flavour and r.package.startswith("tensorrt"))
        yield _compared(name, str(import_tensorrt(flavour).__version__), bounds)


def _cuda_bindings() -> Iterator[Check]:
    wanted = [r for r in requirements() if r.package == "cuda-bindings"]
    version = package_version("cuda-bindings") or ""
    yield _package(next((r for r in wanted if fits(version, r.bounds)), wanted[0]))  # either TensorRT's will do


def _ray() -> Iterator[Check]:
    from ksnet_deploy.cluster.opening import seen_here

    (check,) = _extra("ray")
    yield check if check.state == "missing" else replace(check, found=f"{check.found}, {seen_here()}")


def _library(name: str, option: str) -> Iterator[Check]:
    from ksnet_deploy.ops.library import find_kernel_library, find_plugin_library

    path = find_plugin_library() if name == "plugin library" else find_kernel_library()
    missing = Check(name, "missing", "not built", f"optional: {_NAME} build-plugins{option}")
    yield missing if path is None else Check(name, "ok", str(path))


def _align_kernel(runtime: AlignRuntime) -> Iterator[Check]:
    from ksnet_deploy.ops.align_library import align_kernel

    name, kernel = f"alignment kernel, {runtime}", align_kernel(runtime)
    if kernel.library is not None:
        yield Check(name, "ok", f"{kernel.path}, {kernel.library}")
    elif runtime == "openvino" and package_version("openvino") is None:
        yield Check(name, "missing", "is for OpenVINO, which is not installed", "only with the extra 'openvino'")
    else:
        found = (kernel.note or "not built, or switched off").removesuffix(".")
        yield Check(name, "missing", found, f"optional, faster: {_NAME} build-plugins --cpu")


def _tool(name: str, pattern: str, least: str, remedy: str) -> Iterator[Check]:
    """A program that build-plugins needs, and the version that it prints."""
    roots = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    path = shutil.which(name) or shutil.which(name, path=os.pathsep.join(f"{root}/bin" for root in roots if root))
    if path is None:
        yield Check(name, "missing", "not found", f"only for build-plugins: {remedy}")
        return
    version = re.search(pattern, _run(path, "--version")[1])
    yield _compared(name, version[1] if version else "of an unknown version", f">={least}")


def _run(*command: str) -> tuple[int, str]:
    """Exit code and words of a program."""
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    return run.returncode, run.stdout.strip() or run.stderr.strip()


_CHECKPOINTS = {"lite": True, "lite-video": True, "uni": False, "bi": False}
_LOOKS: tuple[tuple[str, bool, Callable[[], Iterator[Check]]], ...] = (
    ("python", True, _python),
    ("packages", True, _packages),
    ("onnxruntime", True, _onnxruntime),
    ("openvino", False, _openvino),
    *((f"checkpoint {name}", needed, partial(_checkpoint, name)) for name, needed in _CHECKPOINTS.items()),
    ("encoders", True, _encoders),
    ("cache", True, _cache),
    ("cpu", False, _cpu),
    ("memory", False, _memory),
    ("disk", False, _disk),
    ("nvidia gpu", False, _gpu),
    ("torch cuda", False, _torch_cuda),
    ("tensorrt-rtx", False, partial(_tensorrt, "tensorrt-rtx", "rtx")),
    ("tensorrt", False, partial(_tensorrt, "tensorrt", "tensorrt")),
    ("cuda-bindings", False, _cuda_bindings),
    ("fastest", False, _runtimes),
    ("ray", False, _ray),
    *((name, False, partial(_extra, name)) for name in ("gradio", "matplotlib")),
    ("plugin library", False, partial(_library, "plugin library", "")),
    ("kernel library", False, partial(_library, "kernel library", " --kernels-only")),
    ("alignment kernel, onnxruntime", False, partial(_align_kernel, "onnxruntime")),
    ("alignment kernel, openvino", False, partial(_align_kernel, "openvino")),
    ("nvcc", False, partial(_tool, "nvcc", r"release ([\d.]+)", "12", "install the CUDA toolkit")),
    ("cmake", False, partial(_tool, "cmake", r"version ([\d.]+)", "3.25", "pip install cmake")),
)
"""Checks: the name where one fails, whether ``upscale`` needs it, and the function that looks."""
