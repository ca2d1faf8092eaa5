"""The alignment's CPU kernel as a library of ONNX Runtime and one of OpenVINO: built, found, switched off.

Nothing needs it: without it the runtimes compute the alignment's function body. The library for ONNX Runtime is for all
versions from 1.17 on; that for OpenVINO is for the one that it was built with, whose number its name ends with. They
are looked for in the folder that ``KSNET_ALIGN_LIBRARY`` names, else in the user's folder and the package's; ``off``
there, or nothing, leaves them out. ``KSNET_ALIGN_PATH`` names one of the kernel's paths, ``avx512``, ``avx2`` or
``portable``, in the place of the processor's best.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.version import package_version
from ksnet_deploy.ops.library import compile_libraries, in_our_words, library_folders

__all__ = ["BUILD_ALIGN", "AlignKernel", "AlignRuntime", "BuiltAlign", "align_kernel", "build_align", "kernel_in_words"]

AlignRuntime = Literal["onnxruntime", "openvino"]

BUILD_ALIGN = "build it with 'ksnet-deploy build-plugins --cpu'"
"""Remedy for a missing library."""

_LIBRARY, _PATH = "KSNET_ALIGN_LIBRARY", "KSNET_ALIGN_PATH"
_OFF = ("", "0", "off")
_NAME = {"onnxruntime": "libksnet_align_onnxruntime", "openvino": "libksnet_align_openvino"}
_LEFT_OUT = "-- ksnet: left out "


class AlignKernel(NamedTuple):
    """The kernel in one runtime, if there is one that runs."""

    library: Path | None
    """File that the runtime loads."""
    path: str | None
    """Path of the kernel: ``avx512``, ``avx2`` or ``portable``."""
    note: str | None
    """Sentence that says why a library that is there is not taken."""

    def __str__(self) -> str:
        return f"native kernel, {self.path}" if self.library else "standard operators"


def kernel_in_words(kernel: AlignKernel | None) -> str:
    """``native kernel, avx2`` or ``standard operators``, which compute what no kernel is for (None) too."""
    return str(kernel or AlignKernel(None, None, None))


def align_kernel(runtime: AlignRuntime) -> AlignKernel:
    """The kernel for a runtime of this environment, tried out.

    Raises:
        BackendError: ``KSNET_ALIGN_LIBRARY`` names no folder.
    """
    return _kernel(runtime, os.environ.get(_LIBRARY), os.environ.get(_PATH))


@functools.cache
def _kernel(runtime: AlignRuntime, asked: str | None, path: str | None) -> AlignKernel:
    if asked is not None and asked.lower() in _OFF:
        return AlignKernel(None, None, None)
    if asked is not None and not Path(asked).is_dir():
        raise BackendError(
            f"{_LIBRARY} names {asked}, which is not a folder; name the folder of the libraries, or 'off' to do "
            "without them"
        )
    folders = library_folders() if asked is None else (Path(asked),)
    version = package_version("openvino")
    if runtime == "openvino" and version is None:
        return AlignKernel(None, None, None)
    name = f"{_NAME[runtime]}.so" if runtime == "onnxruntime" else f"{_NAME[runtime]}-{version}.so"
    library = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if library is None:
        others = [file for folder in folders for file in sorted(folder.glob(f"{_NAME[runtime]}-*.so"))]
        note = f"{others[0].name} is for another OpenVINO than {version}, which is installed" if others else None
        return AlignKernel(None, None, note and _note(note))
    try:
        if runtime == "openvino":
            import openvino  # noqa: F401  # whose libraries this one needs
        loaded = ctypes.CDLL(str(library))
        loaded.ksnet_align_path.restype = ctypes.c_char_p
        found: bytes | None = loaded.ksnet_align_path()
    except (OSError, AttributeError, ImportError) as error:
        return AlignKernel(None, None, _note(f"{library} does not load ({error})"))
    if found is None:
        return AlignKernel(None, None, f"The alignment's native kernel is left out: {_PATH} is '{path}', no path here.")
    return AlignKernel(library, found.decode(), None)


def _note(reason: str) -> str:
    return f"The alignment's native kernel is left out: {reason}; {BUILD_ALIGN}."


class BuiltAlign(NamedTuple):
    """Libraries that were compiled, and those that were not."""

    libraries: list[Path]
    left_out: list[str]
    """Sentences: which library, and why."""


def build_align(*, fetch_headers: bool = False, on_line: Callable[[str], None] = lambda _: None) -> BuiltAlign:
    """Compile the library for each runtime that is here, and put them where :func:`align_kernel` looks for them.

    That for ONNX Runtime needs its header, which its Python package lacks (``ONNXRUNTIME_INCLUDE_DIR``).

    Args:
        fetch_headers: download ONNX Runtime's header where it is not found.
        on_line: receives every line that the build prints.

    Raises:
        BackendError: a tool is missing, there is no runtime to build for, or the compilation failed.
    """
    left_out: list[str] = []

    def listen(line: str) -> None:
        if line.startswith(_LEFT_OUT):
            left_out.append(f"Left out {in_our_words(line.removeprefix(_LEFT_OUT))}")
        on_line(line)

    options = [f"-DKSNET_FETCH_ONNXRUNTIME_HEADERS={'ON' if fetch_headers else 'OFF'}"]
    package = importlib.util.find_spec("openvino")
    if package is not None and package.origin is not None and not os.environ.get("OPENVINO_ROOT"):
        options.append(f"-DOPENVINO_ROOT={Path(package.origin).parent}")
    libraries = compile_libraries(
        "align_cpu", options, lambda folder: sorted(file.name for file in folder.glob("libksnet_align_*.so")), listen
    )
    _kernel.cache_clear()
    return BuiltAlign(libraries, left_out)
