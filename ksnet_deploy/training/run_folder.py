"""The folder of a run: what is kept there to go on with, and what the system refuses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import CheckpointError, OutputError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.network.weights_file import read_content

__all__ = ["LOCK_FILE", "LOG_FILE", "RESUME_FILE", "another_way", "held", "keep", "kept", "writing_in"]

RESUME_FILE = "resume.pt"
LOG_FILE = "log.csv"
LOCK_FILE = ".lock"


def kept(folder: Path, weights: Path) -> Any:
    """The state that an earlier process has kept to go on with, as :func:`keep` got it; None where a run begins.

    Args:
        weights: the run's result.

    Raises:
        CheckpointError: it is damaged.
        OutputError: there is a result alone, which a run that begins would replace.
    """
    path = folder / RESUME_FILE
    if path.exists():
        try:
            return read_content(path, "file")[0]
        except CheckpointError as error:
            raise CheckpointError(f"{error}; or {another_way(weights)}") from error
    if weights.exists():
        raise OutputError(
            f"{weights} is there without {path.name}, from which its training would go on, and a new run would replace "
            f"it; give another --output, with --init {weights} to start from it, or move it away"
        )
    return None


def keep(folder: Path, serialised: memoryview, save_weights: Callable[[], None]) -> None:
    """Keep what a run goes on with, and its result. Raises OutputError.

    Both are written before either is replaced, so that the two that there are stay together where room is lacking, and
    are on the disk: days of work are to outlive a power cut.
    """
    with writing_in(folder), replacing(folder / RESUME_FILE) as temporary:
        with temporary.open("wb") as file:
            file.write(serialised)
            file.flush()
            os.fsync(file.fileno())
        save_weights()


def another_way(weights: Path) -> str:
    """The remedy where a run cannot go on, as the end of a sentence."""
    if weights.exists():
        return f"start a new run from its weights, with --init {weights} and another --output"
    return "remove it, to start the run anew"


def held(folder: Path) -> str:
    """Sentence on a folder that another process works in."""
    return f"another training is at work in {folder}; wait for it, stop it first, or choose another folder"


@contextlib.contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Context that turns the system's refusal to write a file into a sentence."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder} cannot be written to ({error.strerror or error}); make room or give another "
            "--output"
        ) from error
