"""Error of each output of a step, over recorded states: Polygraphy's comparison, on our own runners.

A proof says that a sequence went wrong; by then an error of one output has spread to all. Here every step begins with
the same recorded state on both sides, so the output that is wrong is the one that differs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, SimpleCompareFunc

from ksnet_deploy.export.polygraphy import errors_of_polygraphy
from ksnet_deploy.export.proof.recording import Step, record_steps
from ksnet_deploy.network.config import Precision
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, Runner

__all__ = ["OutputComparison", "OutputError", "compare_outputs"]

QUANTILE = 0.99
"""Share of an output's values that is held to the tolerance."""
EXCUSED_STEPS = 1
"""Steps that may be beyond the tolerance: where two channels' scores are nearly tied, both sides may be right."""
TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2.0**-4}
"""Tolerance of an output, as a share of the standard deviation of its values."""
INFINITY = float("inf")
ONE_LEVEL = 1.0
"""Frames of 8 bits may be rounded the other way."""


@dataclass(frozen=True)
class OutputError:
    """Absolute differences of one output."""

    name: str
    largest: float
    """Largest of any value on any step."""
    most: float
    """Bound of 99 % of the values, on every step but the worst one."""
    worst: float
    """Bound of 99 % of the values on the worst step, which may be beyond the tolerance (:data:`EXCUSED_STEPS`)."""
    tolerance: float
    """Accepted bound of those 99 %."""

    @property
    def is_near(self) -> bool:
        return self.most <= self.tolerance

    @property
    def is_excused(self) -> bool:
        """Whether it is near on all steps but one."""
        return self.is_near and self.worst > self.tolerance

    def __str__(self) -> str:
        return f"{self.name} by {self.largest:.2g} (99 % within {self.most:.2g}, accepted {self.tolerance:.2g})"


@dataclass(frozen=True)
class OutputComparison:
    """All outputs of a step, those that differ most, by their tolerance, first."""

    steps: int
    outputs: tuple[OutputError, ...]

    @property
    def far(self) -> list[OutputError]:
        """Outputs beyond their tolerance."""
        return [output for output in self.outputs if not output.is_near]

    def as_dict(self) -> dict[str, Any]:
        outputs = [asdict(output) | {"is_near": output.is_near} for output in self.outputs]
        return {"steps": self.steps, "outputs": outputs}

    def in_words(self) -> str:
        """End of a sentence."""
        if not self.far:
            excused = ", ".join(output.name for output in self.outputs if output.is_excused)
            but = f" but for {excused} on one step, where scores may be nearly tied" if excused else ""
            return (
                f"from the same state, over {self.steps} recorded steps, every output is near{but}: the error builds up"
            )
        return f"from the same state, over {self.steps} recorded steps, differ: {', '.join(map(str, self.far))}"

    def as_table(self) -> str:
        width = max(len(output.name) for output in self.outputs)
        lines = [f"{'output':{width}}  {'largest':>9}  {'99 %':>9}  {'accepted':>9}"]
        for output in self.outputs:
            verdict = "  differs on one step" if output.is_excused else "" if output.is_near else "  differs"
            numbers = f"{output.largest:9.2g}  {output.most:9.2g}  {output.tolerance:9.2g}"
            lines.append(f"{output.name:{width}}  {numbers}{verdict}")
        return "\n".join(lines)


def compare_outputs(
    reference: Runner, candidate: Runner, precision: Precision, features: Sequence[NDArray[Any]] | None = None
) -> OutputComparison:
    """Run both on steps that the reference records, each from the recorded state, and compare every output.

    Args:
        reference: of the size and frame type of the candidate.
        precision: of the candidate.
        features: what :func:`~ksnet_deploy.export.proof.recording.record_steps` takes.
    """
    steps = record_steps(reference, features)
    names = ("reference", "candidate")
    with errors_of_polygraphy():
        runners = [_StepRunner(*pair, steps[0]) for pair in zip(names, (reference, candidate), strict=True)]
        results = Comparator.run(runners, data_loader=steps)
        expected, found = ([dict(one) for one in results[name]] for name in names)
        tolerances = {name: _tolerance([one[name] for one in expected], precision) for name in expected[0]}
        if reference.io == "uint8" and reference.gives == "hr":
            tolerances["hr"] = max(tolerances["hr"], ONE_LEVEL)
        compare = SimpleCompareFunc(
            check_error_stat="quantile", error_quantile=QUANTILE, atol=tolerances, rtol=0.0, check_shapes=True
        )
        compared = Comparator.compare_accuracy(results, compare_func=compare)[0][names]
    errors = []
    for name, tolerance in tolerances.items():
        seen = [step.get(name) for step in compared]
        if not all(hasattr(each, "max_absdiff") for each in seen):  # it is missing, or of another shape
            errors.append(OutputError(name, INFINITY, INFINITY, INFINITY, tolerance))
            continue
        largest = max(_finite(each.max_absdiff) for each in seen)
        bounds = sorted(_finite(each.quantile_absdiff) for each in seen)
        errors.append(OutputError(name, largest, bounds[-1 - EXCUSED_STEPS], bounds[-1], tolerance))
    for name in found[0].keys() - expected[0].keys():
        errors.append(OutputError(name, INFINITY, INFINITY, INFINITY, 0.0))
    errors.sort(
        key=lambda error: (error.is_near, not error.is_excused, -error.most / (error.tolerance or 1.0), error.name)
    )
    return OutputComparison(len(steps), tuple(errors))


def _tolerance(arrays: list[NDArray[Any]], precision: Precision) -> float:
    return TOLERANCE[precision] * max(float(np.std(array)) for array in arrays)


def _finite(value: float) -> float:
    """NaN compares false with everything; as infinity it cannot pass."""
    return value if np.isfinite(value) else INFINITY


class _StepRunner(BaseRunner):  # type: ignore[misc]
    """One of our runners as one of Polygraphy's: each inference is a step from the state that is fed."""

    def __init__(self, name: str, runner: Runner, example: Step) -> None:
        super().__init__(name)
        self._runner, self._example = runner, example
        runner.reset()
        runner.step(example["lr"][0], *(example[name] for name in runner.takes))
        self._types = {name: array.dtype for name, array in runner.state.items()}

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for name, array in self._example.items():
            metadata.add(name, array.dtype, array.shape)
        return metadata

    def infer_impl(self, feed_dict: Step) -> dict[str, NDArray[np.float32]]:
        started = time.perf_counter()
        # A step of half precision takes what one of float32 recorded, and the reverse.
        self._runner.state = {
            name: np.asarray(feed_dict[STATE_PREFIX + name]).astype(kind)
            for name, kind in self._types.items()
            if STATE_PREFIX + name in feed_dict
        }
        features = (np.asarray(feed_dict[name]) for name in self._runner.takes)
        result = self._runner.step(np.asarray(feed_dict["lr"])[0], *features)
        outputs = {self._runner.gives: result[None] if self._runner.gives == "hr" else result}
        outputs |= {NEXT_PREFIX + name: array for name, array in self._runner.state.items()}
        self.inference_time = time.perf_counter() - started
        return {name: np.ascontiguousarray(array, np.float32) for name, array in outputs.items()}
