"""Exported pairs: the two steps of a bidirectional network lie in two files, and go by one name.

``film.onnx`` stands for ``film.propagate.onnx`` and ``film.refine.onnx``, and the same with ``.engine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import ArtifactError
from ksnet_deploy.network.config import KSNetConfig, StepName

__all__ = ["PAIR", "check_pair", "files_of", "is_pair", "named_pair", "pair_name", "part_path", "step_files"]

PAIR: tuple[Literal["propagate"], Literal["refine"]] = ("propagate", "refine")
"""The steps of a bidirectional network, in the order in which they run."""


def part_path(path: Path, step: str) -> Path:
    """``film.onnx`` -> ``film.propagate.onnx``; of a network with a single step the path itself."""
    return path.with_name(f"{path.stem}.{step}{path.suffix}") if step in PAIR else path


def is_pair(path: Path) -> bool:
    """Whether a name stands for two files, both of which are there, and is no file itself."""
    return not path.exists() and all(part_path(path, step).is_file() for step in PAIR)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that a name stands for."""
    return tuple(part_path(path, step) for step in PAIR) if is_pair(path) else (path,)


def pair_name(path: Path) -> Path:
    """``film.refine.onnx`` -> ``film.onnx``; any other path as it is."""
    stem, _, step = path.stem.rpartition(".")
    return path.with_name(f"{stem}{path.suffix}") if stem and step in PAIR else path


def named_pair(path: Path) -> Path:
    """The name that a pair goes by, for the name of one of its files, where that is there; any other path as it is.

    Raises ArtifactError where the other file is missing.
    """
    name = pair_name(path)
    if name == path or not path.is_file():
        return path
    if missing := [part for part in PAIR if not part_path(name, part).is_file()]:
        raise ArtifactError(
            f"{path} is one of the two files of a bidirectional network, and {part_path(name, missing[0])} is missing; "
            "put it beside, or make both again"
        )
    return name


def check_pair(path: Path, propagate: Mapping[str, str], refine: Mapping[str, str]) -> None:
    """Raise ArtifactError unless the metadata of two exported files say that they were made together."""
    for step, own, other in (("propagate", propagate, refine), ("refine", refine, propagate)):
        if own.get("ksnet.step") != step:
            raise ArtifactError(
                f"{part_path(path, step)} holds the step '{own.get('ksnet.step', 'step')}', where '{step}' was "
                "expected; export both again"
            )
        if own.get("ksnet.other_graph_sha256") != other.get("ksnet.graph_sha256"):
            raise ArtifactError(
                f"{part_path(path, 'propagate')} and {part_path(path, 'refine')} were not made together; export both "
                "again"
            )


def step_files(path: Path, config: KSNetConfig) -> dict[StepName, Path]:
    """The file of each of a network's steps."""
    return {step: part_path(path, step) for step in config.steps}
