"""Build, find and load the native library: the custom operators as TensorRT plugins and as plain CUDA kernels.

Nothing of the package needs it: without it an engine is built from the operators' bodies of standard ONNX operators.
There are two libraries. ``libksnet_plugins.so`` is loaded into TensorRT or TensorRT-RTX; ``libksnet_kernels.so`` holds
the same kernels without TensorRT, for PyTorch (:mod:`ksnet_deploy.ops.native`). Each is looked for where
``KSNET_PLUGIN_LIBRARY`` (``KSNET_KERNEL_LIBRARY``) points, then in the user's folder, then in the package's.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.base.version import __version__
from ksnet_deploy.ops.functions import DEFORM_CONV, DOMAIN, TOPK_SPLIT, VERSION

__all__ = [
    "BUILD_KERNELS",
    "KERNEL_LIBRARY",
    "PLUGIN_LIBRARY",
    "build_plugins",
    "compile_libraries",
    "find_kernel_library",
    "find_plugin_library",
    "in_our_words",
    "library_folders",
    "load_plugins",
    "plugin_folder",
    "rtx_preflight_environment",
]

PLUGIN_LIBRARY = "libksnet_plugins.so"
KERNEL_LIBRARY = "libksnet_kernels.so"

BUILD_KERNELS = "build it with 'ksnet-deploy build-plugins --kernels-only'"
"""Remedy for a missing kernel library."""

_PACKAGE = Path(__file__).parents[1]
_RTX_LIBRARY = "libtensorrt_rtx.so"
_LINES_OF_OUTPUT = 4
_REMEDIES = {
    "add -DKSNET_FETCH_TENSORRT_HEADERS=ON to download the headers": "pass --fetch-headers to download them",
    "add -DKSNET_FETCH_ONNXRUNTIME_HEADERS=ON to download it": "pass --fetch-headers to download it",
}
"""Remedies that CMake names for those who run CMake, and those for who runs ``ksnet-deploy build-plugins``."""
_COMPILER_ERROR = re.compile(r"\b(error|fatal)\b[^:]*:")


def plugin_folder() -> Path:
    """Folder that :func:`build_plugins` builds into: one per version of this package in the user's folder."""
    import platformdirs  # which a machine with PyTorch alone lacks

    return Path(platformdirs.user_data_dir("ksnet-deploy")) / "plugins" / __version__


def find_plugin_library() -> Path | None:
    """The TensorRT plugin library, or None where none was built.

    Raises:
        BackendError: ``KSNET_PLUGIN_LIBRARY`` names a file that does not exist.
    """
    return _find("KSNET_PLUGIN_LIBRARY", PLUGIN_LIBRARY)


def find_kernel_library() -> Path | None:
    """The library of plain CUDA kernels, else the plugin library, which holds them too; None where neither was built.

    Raises:
        BackendError: ``KSNET_KERNEL_LIBRARY`` names a file that does not exist.
    """
    return _find("KSNET_KERNEL_LIBRARY", KERNEL_LIBRARY) or find_plugin_library()


def _find(variable: str, name: str) -> Path | None:
    asked = os.environ.get(variable)
    if asked:
        if not Path(asked).is_file():
            raise BackendError(f"{variable} names {asked}, which is not a file; correct or unset it")
        return Path(asked)
    return next((folder / name for folder in library_folders() if (folder / name).is_file()), None)


def library_folders() -> tuple[Path, ...]:
    """Folders that native libraries are looked for in: the user's, where ``platformdirs`` is there to tell it, then the
    package's."""
    try:
        users = [plugin_folder()]
    except ModuleNotFoundError:
        users = []
    return (*users, *(folder / "lib" for folder in _package_folders()))


def _package_folders() -> list[Path]:
    """Folders of the package; in an editable installation two: the checkout's, and that of what was compiled."""
    spec = importlib.util.find_spec("ksnet_deploy")
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


def build_plugins(
    *,
    tensorrt: Path | None = None,
    architectures: Sequence[str] | None = None,
    kernels_only: bool = False,
    fetch_headers: bool = False,
    on_line: Callable[[str], None] = lambda _: None,
) -> Path:
    """Compile the native library from its sources and put it where the ``find_...`` functions look for it.

    It takes one to some minutes.

    Args:
        tensorrt: folder of TensorRT (or of its C++ headers); None looks in the usual places.
        architectures: GPU architectures as CMake spells them, for example ``["86-real"]``; None is every one from
            SM 7.5 on that this CUDA toolkit knows.
        kernels_only: build :data:`KERNEL_LIBRARY`, which needs no TensorRT headers, instead of :data:`PLUGIN_LIBRARY`.
        fetch_headers: download TensorRT's public headers where none are found.
        on_line: receives every line that the build prints.

    Returns:
        The library.

    Raises:
        BackendError: a tool is missing, or the compilation failed.
    """
    name = KERNEL_LIBRARY if kernels_only else PLUGIN_LIBRARY
    options = [
        f"-DKSNET_KERNELS_ONLY={'ON' if kernels_only else 'OFF'}",
        f"-DKSNET_FETCH_TENSORRT_HEADERS={'ON' if fetch_headers else 'OFF'}",
    ]
    if tensorrt is not None:
        include = next((f for f in (tensorrt, tensorrt / "include") if (f / "NvInferRuntime.h").is_file()), None)
        if include is None:
            raise BackendError(f"{tensorrt} holds no TensorRT headers: neither it nor its include has NvInferRuntime.h")
        options.append(f"-DTENSORRT_INCLUDE_DIR={include.resolve()}")
    if architectures is not None:
        options.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}")
    (target,) = compile_libraries(".", options, lambda _folder: [name], on_line)
    return target


def compile_libraries(
    project: str, options: Sequence[str], names: Callable[[Path], Sequence[str]], on_line: Callable[[str], None]
) -> list[Path]:
    """Configure and build a project below ``plugins/`` with CMake, and put its libraries into :func:`plugin_folder`.

    Args:
        project: folder below ``plugins/``.
        options: of CMake.
        names: tells, from the folder that was built in, which libraries there are.
        on_line: receives every line that the build prints.

    Raises:
        BackendError: a tool is missing, or the compilation failed.
    """
    cmake = shutil.which("cmake")
    if cmake is None:
        raise BackendError("building the native library needs cmake, which was not found; install it with pip or apt")
    generator = ["-GNinja"] if shutil.which("ninja") is not None else []
    targets = []
    with tempfile.TemporaryDirectory(prefix="ksnet-plugins-") as folder:
        settings = ["-DCMAKE_BUILD_TYPE=Release", *options, *generator]
        _run([cmake, "-S", str(_sources() / project), "-B", folder, *settings], on_line)
        _run([cmake, "--build", folder, "--parallel", str(os.cpu_count() or 1)], on_line)
        for name in names(Path(folder)):
            targets.append(plugin_folder() / name)
            try:
                targets[-1].parent.mkdir(parents=True, exist_ok=True)
                with replacing(targets[-1]) as temporary:
                    shutil.copyfile(Path(folder) / name, temporary)
            except OSError as error:
                raise BackendError(
                    f"the library cannot be written to {targets[-1]} ({error.strerror}); make room or a folder there "
                    "that can be written to"
                ) from error
    return targets


def _sources() -> Path:
    """The folder ``plugins`` of a checkout, or its copy in an installed package."""
    candidates = (_PACKAGE.parent / "plugins", _PACKAGE / "native" / "plugins")
    for folder in candidates:
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise BackendError(f"this installation has no plugin sources: looked for {' and '.join(map(str, candidates))}")


def _run(command: Sequence[str], on_line: Callable[[str], None]) -> None:
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            lines.append(line.rstrip())
            on_line(lines[-1])
    if run.returncode != 0:
        raise BackendError(_reason(lines))


def _reason(lines: Sequence[str]) -> str:
    """One sentence from what a failed build printed: the compiler's errors, else CMake's first."""
    found = [line.strip() for line in lines if _COMPILER_ERROR.search(line)]
    if found:
        return f"the native library did not compile: {' | '.join(found[:_LINES_OF_OUTPUT])}"
    starts = [index for index, line in enumerate(lines) if line.startswith("CMake Error")]
    if not starts:
        return f"the native library did not compile: {' | '.join(lines[-_LINES_OF_OUTPUT:])}"
    # CMake indents its sentence below that line, and wraps it.
    below = itertools.takewhile(lambda line: not line or line.startswith(" "), lines[starts[0] + 1 :])
    sentence = " ".join(line.strip() for line in below if line).removesuffix(".")
    return f"the native library cannot be built: {in_our_words(sentence)}"


def in_our_words(sentence: str) -> str:
    """A sentence of CMake's with the remedies of the command line."""
    for told, ours in _REMEDIES.items():
        sentence = sentence.replace(told, ours)
    return sentence


def load_plugins(trt: Any, library: Path) -> frozenset[str]:
    """Register the operators with a TensorRT or TensorRT-RTX Python module; returns their names.

    A library of an earlier version has no plugin for the whole alignment, but one for the deformable convolution in its
    body.

    With TensorRT-RTX, parsing a network that uses them needs :func:`rtx_preflight_environment` besides.

    Args:
        trt: the module, ``tensorrt`` or ``tensorrt_rtx``.
        library: :data:`PLUGIN_LIBRARY`.

    Raises:
        BackendError: the library does not load, or lacks an operator.
    """
    registry = trt.get_plugin_registry()
    needed = {DEFORM_CONV, TOPK_SPLIT}
    if not needed <= _operators(registry):
        # What load_library returns tells nothing: it is falsy on success too.
        registry.load_library(str(library.resolve()))
    found = _operators(registry)
    if missing := sorted(needed - found):
        raise BackendError(
            f"{library} does not load as a plugin library of {trt.__name__} {trt.__version__}: {' and '.join(missing)} "
            "not registered; build it again with 'ksnet-deploy build-plugins'"
        )
    return found


def _operators(registry: Any) -> frozenset[str]:
    """Names of the operators that a registry has plugins for."""
    # Asking for a creator that is not there logs an error; the list of all does not.
    fields = ("plugin_version", "plugin_namespace")
    ours = [c for c in registry.all_creators if tuple(getattr(c, f, None) for f in fields) == (str(VERSION), DOMAIN)]
    return frozenset(creator.name for creator in ours)


def rtx_preflight_environment(folder: Path) -> dict[str, str]:
    """Environment for a child process that parses networks with plugins through TensorRT-RTX's Python package.

    As soon as a node becomes a plugin, TensorRT-RTX opens ``libtensorrt_rtx.so`` by that name and *aborts* the process
    when it is not found; the Python package ships only ``libtensorrt_rtx.so.1``. The loader reads ``LD_LIBRARY_PATH``
    when a process starts, so that it is too late to set it in the process itself.

    Args:
        folder: receives a symbolic link with the missing name; must live as long as the child process.

    Returns:
        A copy of this process's environment in which ``LD_LIBRARY_PATH`` begins with the folder.

    Raises:
        BackendError: the package's library is not found.
    """
    library = _rtx_library()
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / _RTX_LIBRARY
    with replacing(link) as temporary:
        temporary.symlink_to(library)
    path = [str(folder.resolve()), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(path)}


def _rtx_library() -> Path:
    specification = importlib.util.find_spec("tensorrt_rtx_libs")
    folders = list(specification.submodule_search_locations or ()) if specification is not None else []
    found = [path for folder in folders for path in sorted(Path(folder).glob(f"{_RTX_LIBRARY}*"))]
    if not found:
        raise BackendError(
            f"{_RTX_LIBRARY} was not found in the package tensorrt_rtx_libs; "
            "install TensorRT-RTX with pip install 'ksnet-deploy[rtx]'"
        )
    return found[0].resolve()
