"""Files that are either whole or absent: temporary name first, renamed when complete."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.hidden import temporary_beside
from ksnet_deploy.base.leftovers import remove_leftovers

__all__ = [
    "check_apart",
    "check_new_file",
    "check_place",
    "making",
    "no_room",
    "publish",
    "replacing",
    "sha256_of",
    "try_beside",
    "writing",
]


def check_new_file(path: Path, suffix: str, *, overwrite: bool) -> None:
    """Raise OutputError unless a file of that suffix may be written, before any work is done."""
    if path.suffix != suffix:
        raise OutputError(f"{path} does not end in {suffix}; its readers know such a file by that suffix")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} already exists; pass --overwrite to replace it, or another name")
    check_place(path)


def check_place(path: Path) -> None:
    """Raise OutputError where a file of the name cannot be: it is a folder or a device, or is to lie in no folder or in
    one that takes no file, which is tried."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; make it first, or give another name")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is there already and is not a regular file; give another name")
    with writing(path, "choose another place"):
        try_beside(path)


def try_beside(path: Path) -> None:
    """Make a file in the folder of ``path`` and remove it. Raises OSError where the folder takes none."""
    trial = temporary_beside(temporary_beside(path))  # not the name of one that is being written there
    trial.touch()
    trial.unlink()


def check_apart(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Raise OutputError where two outputs are one file, or an output is an input; by options, None for none."""
    taken = {path.resolve(): name for name, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise OutputError(f"{path} is both {taken[path.resolve()]} and {name}; give {name} another name")
        taken[path.resolve()] = name


def no_room(error: BaseException) -> str | None:
    """The reason why there was no room for a file, with the remedy, as part of a sentence; None for other errors."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):  # Windows has no quota's number
        return "the disk is full; free some space"
    if number == errno.EFBIG:
        return "its file system holds no file so large, as FAT32 holds none of 4 GB; choose another disk"
    return None


@contextmanager
def making(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Context of a temporary path for a file that a user asked for; as :func:`replacing`, but without ``overwrite`` a
    file that has appeared in the meantime stays.

    Raises:
        OutputError: one has, there is no room, or the name is that of something that is no file.
    """
    try:
        with replacing(path, overwrite=overwrite) as temporary:
            yield temporary
    except OSError as error:
        if (problem := no_room(error)) is None:
            raise
        raise OutputError(f"{path} cannot be written: {problem}") from error


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Context of a temporary path to write; renamed to ``path`` on success, removed on any exception.

    What killed processes left behind under such a name is removed first.

    Raises:
        OutputError: there is something that is no file, such as a device, whose place the file would take; or a file
            has appeared, and may not be overwritten.
    """
    if path.exists() and not path.is_file() and not path.is_dir():  # the system refuses to replace a folder
        raise OutputError(f"{path} is there already and is not a regular file; give another name")
    remove_leftovers(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        if overwrite:
            os.replace(temporary, path)
        else:
            _rename_to_new(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(what: object, remedy: str) -> Iterator[None]:
    """Context that turns the system's refusal to write something into an OutputError, with the remedy."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{what} cannot be written ({error.strerror or error}); {remedy}") from error


def publish(finished: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name, once all of it is safely on disk.

    Raises:
        OutputError: a file of that name has appeared, and ``overwrite`` is not given.
    """
    with finished.open("r+b") as file:
        os.fsync(file.fileno())
    if overwrite:
        os.replace(finished, path)
    else:
        _rename_to_new(finished, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _rename_to_new(finished: Path, path: Path) -> None:
    """Rename, unless there is a file of the new name: a link fails then, a renaming does not."""
    try:
        os.link(finished, path)
    except OSError as error:
        if path.exists():
            raise OutputError(
                f"{path} has appeared in the meantime; pass --overwrite to replace it, or remove it, and run the same "
                "command again"
            ) from error
        os.replace(finished, path)  # on a file system without links
    else:
        finished.unlink()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
