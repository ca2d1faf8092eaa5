"""Recorded steps: frames with the recurrent states before them, which a step can be run on again, by itself.

Random inputs would tell nothing of a recurrent network: its states are features and flows of the frames before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.polygraphy import check_polygraphy, errors_of_polygraphy
from ksnet_deploy.export.proof.sequence import proof_frames
from ksnet_deploy.runtime.base import STATE_PREFIX, Runner, SavedState, reset_planes
from ksnet_deploy.runtime.onnx import OnnxRunner

__all__ = ["RECORDED", "Step", "record_steps", "recorded_features", "write_steps"]

RECORDED = (0, 1, 3, 7)
"""Frames of the sequence whose steps are recorded: the first of a scene, the second, and later ones."""

Step = dict[str, NDArray[Any]]
"""Every input of an exported step by its name: ``lr`` (1, H, W, 3), features and ``state.<name>`` (1, C, H, W)."""


def record_steps(runner: Runner, features: Sequence[NDArray[Any]] | None = None) -> list[Step]:
    """Run the proofs' sequence and keep what the steps of :data:`RECORDED` began with.

    ``features`` are those of :func:`recorded_features` for a step that takes some.
    """
    steps = []
    runner.reset()
    for index, frame in enumerate(proof_frames(runner, RECORDED[-1] + 1)):
        state = runner.state
        given = [] if features is None else [features[index]]
        runner.step(frame, *given)
        if index in RECORDED:
            state = state or _fresh(runner.state, frame)
            inputs = {"lr": frame[None], **dict(zip(runner.takes, given, strict=True))}
            inputs |= {STATE_PREFIX + name: array for name, array in state.items()}
            steps.append({name: np.ascontiguousarray(array) for name, array in inputs.items()})
    return steps


def recorded_features(runner: Runner) -> list[NDArray[Any]]:
    """Features of every frame of that sequence, by the first step of a bidirectional network."""
    runner.reset()
    return [runner.step(frame) for frame in proof_frames(runner, RECORDED[-1] + 1)[::-1]][::-1]


def _fresh(following: SavedState, frame: NDArray[Any]) -> SavedState:
    """The state of a new scene, in the shapes and types of the one after its first frame."""
    state = {name: np.zeros_like(array) for name, array in following.items()}
    return state | {"prev_lr": reset_planes(frame)[None]}


def write_steps(onnx: Path, size: FrameSize, path: Path) -> int:
    """Record an exported file, as ONNX Runtime runs it, in the JSON of Polygraphy's ``--load-inputs``.

    Returns:
        The number of steps.

    Raises:
        BackendError: Polygraphy is not installed.
    """
    check_polygraphy()
    from polygraphy.json import save_json

    with OnnxRunner(onnx, size, rewrite=lambda _model: None) as runner:
        steps = record_steps(runner)
    with errors_of_polygraphy():
        save_json(steps, str(path))
    return len(steps)
