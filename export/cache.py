"""ONNX files that were exported on demand, kept in the user's cache folder.

The folder is ``KSNET_CACHE_DIR``, or the platform's place for caches. What is in it is believed only when it is whole:
a file has its SHA-256 beside it, or in it where it is JSON, and is made anew where the two do not agree.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import replacing, sha256_of
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.base.hidden import LONGEST_NAME, shortened
from ksnet_deploy.network.bundled import CLIP, check_is_file
from ksnet_deploy.network.bundled import FOLDER as BUNDLED
from ksnet_deploy.network.checkpoint_config import config_of
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.pair import part_path

__all__ = [
    "SPEEDS_NAME",
    "UNFINISHED_PREFIX",
    "cache_folder",
    "cached_files",
    "cached_onnx",
    "cached_path",
    "check_cache_place",
    "clear_cache",
    "code_sha256",
    "fault_of",
    "hash_path",
    "made_cache_folder",
    "name_in_cache",
    "note",
    "using_cache",
    "write_hash",
]


UNFINISHED_PREFIX = ".ksnet-engine-"
"""Prefix of the folders that engines are built in; the id of the process follows."""

SPEEDS_NAME = "speeds.json"
"""File of the speeds that were measured on this machine."""

note = logging.getLogger("ksnet_deploy.cache").warning
"""Note for a caller that gave no function for notes: on the error output, unless logging is set up otherwise."""


def cache_folder() -> Path:
    """Folder in which exported files are kept."""
    if told := os.environ.get("KSNET_CACHE_DIR"):
        return Path(told)
    import platformdirs  # which a machine with PyTorch alone lacks

    return Path(platformdirs.user_cache_dir("ksnet-deploy"))


@contextlib.contextmanager
def using_cache() -> Iterator[None]:
    """Context that turns what the file system refuses into an OutputError naming the folder and the remedy."""
    try:
        yield
    except OSError as error:
        place = error.filename or cache_folder()
        raise OutputError(
            f"the cache folder {cache_folder()} cannot be used ({place}: {error.strerror or error}); make room and "
            "give access, or set KSNET_CACHE_DIR to another folder"
        ) from error


def made_cache_folder() -> Path:
    """The folder, made if need be. Raises OutputError when it cannot be made or written in."""
    folder = cache_folder()
    with using_cache():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    return folder


def check_cache_place(*paths: Path) -> None:
    """Raise OutputError where a file of the cache cannot have its name, because a folder or such stands there."""
    with using_cache():
        blocked = next((path for path in paths if path.exists() and not path.is_file()), None)
    if blocked is not None:
        kind = "a folder" if blocked.is_dir() else "no regular file"
        raise OutputError(
            f"{blocked} is {kind}, where the cache keeps a file; remove it, or set KSNET_CACHE_DIR to another folder"
        )


def cached_files() -> list[Path]:
    """Files in the cache: exported files, engines with their sidecars, proofs, timings, hashes, speeds, remains.

    Raises OutputError when the folder cannot be read.
    """
    folder = cache_folder()
    engines = ("*.engine", "*.engine.json", "*.rtxcache", "*.cache")
    names = ("*.onnx", "*.proof.json", *engines, "*.sha256", ".*.part", SPEEDS_NAME)
    kinds = (*names, f"{UNFINISHED_PREFIX}*/*")
    with using_cache():
        found = (path for kind in kinds for path in folder.glob(kind)) if folder.is_dir() else ()
        return sorted(path for path in found if path.is_file() or path.is_symlink())


def clear_cache() -> tuple[int, int]:
    """Remove all of :func:`cached_files`; their number and bytes."""
    files = cached_files()
    with using_cache():
        size = sum(path.lstat().st_size for path in files)
        for path in files:
            path.unlink(missing_ok=True)
        for folder in cache_folder().glob(f"{UNFINISHED_PREFIX}*"):
            shutil.rmtree(folder)
    return len(files), size


def hash_path(path: Path) -> Path:
    """``x.onnx`` -> ``x.onnx.sha256``, in the format of ``sha256sum``."""
    return path.with_name(f"{path.name}.sha256")


def write_hash(path: Path, digest: str) -> None:
    """Write a file's SHA-256 beside it. Raises OSError when it cannot be written."""
    with replacing(hash_path(path)) as temporary:
        temporary.write_text(f"{digest}  {path.name}\n")


def fault_of(path: Path) -> str | None:
    """Reason why a file cannot be believed, in words; None where it is the one that was written under this name."""
    if not hash_path(path).is_file():
        return "has no hash beside it"
    if hash_path(path).read_bytes() != f"{sha256_of(path)}  {path.name}\n".encode():
        return "is not what its hash says: one of the two is damaged"
    return None


def name_in_cache(stem: str) -> str:
    """Beginning of the names of what is made of a checkpoint, with room for the rest, where a hash tells them apart."""
    return shortened(stem, LONGEST_NAME // 2)


def cached_path(checkpoint: Path, size: FrameSize | None, io: FrameType, precision: Precision, batch: int = 1) -> Path:
    """Path of what :func:`cached_onnx` gives, whether it is there or not. Raises CheckpointError without checkpoint."""
    check_is_file(checkpoint)
    identity = f"{sha256_of(checkpoint)} {size} {io} {precision} {batch} {code_sha256()} {version('torch')}"
    if precision.startswith("int8"):
        identity += f" {sha256_of(CLIP)}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    what = f"{size or 'any'}{'' if batch == 1 else f'x{batch}'}-{io}-{precision}"
    return cache_folder() / f"{name_in_cache(checkpoint.stem)}-{what}-{digest}.onnx"


def cached_onnx(
    checkpoint: Path,
    size: FrameSize | None,
    io: FrameType = "uint8",
    precision: Precision = "fp32",
    *,
    batch: int = 1,
    on_export: Callable[[], None] = lambda: None,
    on_note: Callable[[str], None] = note,
) -> Path:
    """The ONNX step of a checkpoint at a size (None: any), exported now if it is not in the cache, whole. Of a
    bidirectional network it is the name of a pair (:mod:`ksnet_deploy.runtime.pair`).

    Everything that changes the file's bytes is in its name: weights, size, frame type, precision, batch, this package's
    code, the version of PyTorch that exports it and, for ``int8``, the bundled clip that it is calibrated on.

    Args:
        on_export: called before an export, which takes some ten seconds.
        on_note: told that a file in the cache is damaged and is made anew.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        OutputError: the cache folder cannot be used.
    """
    path = cached_path(checkpoint, size, io, precision, batch)
    files = [part_path(path, step) for step in config_of(checkpoint).steps]
    check_cache_place(*files, *map(hash_path, files))
    with using_cache():
        faults = {file: fault_of(file) for file in files if file.is_file()}
        if len(faults) == len(files) and not any(faults.values()):
            return path
        for file, fault in faults.items():
            if fault is not None:
                on_note(f"the cached file {file} {fault}; it is made anew")
    # Imported here: a cached file is run without loading PyTorch.
    from ksnet_deploy.export.onnx import exported_models
    from ksnet_deploy.network.checkpoints import load_checkpoint

    on_export()
    made_cache_folder()
    models = exported_models(load_checkpoint(checkpoint), size=size, io=io, precision=precision, batch=batch)
    with using_cache():
        for file in files:  # so that of two files, one new and one old are never believed
            hash_path(file).unlink(missing_ok=True)
    for step, model in models.items():
        file, content = part_path(path, step), model.SerializeToString()
        with using_cache():
            with replacing(file) as temporary:
                temporary.write_bytes(content)
            write_hash(file, hashlib.sha256(content).hexdigest())
    return path


def code_sha256() -> str:
    """SHA-256 over all Python files of the package: whichever of them changes, the export may change too."""
    package = BUNDLED.parent  # outside of which this file lies in a checkout, where export/ is a link
    files = (Path(folder, name) for folder, _, names in os.walk(package, followlinks=True) for name in names)
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.suffix == ".py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
