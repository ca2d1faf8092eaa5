"""The floor of a step: every layer at the peak of what limits it, computing or moving, and nothing beside them.

It is a bound, not a forecast: activations, sampling coordinates and copies between the layers are free in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.limits.cards import CardFigures
from ksnet_deploy.measure.limits.peaks import Peaks
from ksnet_deploy.measure.limits.work import Layer, layers_of

__all__ = ["Floor", "estimate_text", "floor_of", "layers_of_file", "three_digits"]


@dataclass(frozen=True)
class Floor:
    """Least time of a step."""

    ms: float
    compute_ms: float
    """If bytes cost nothing."""
    memory_ms: float
    """If operations cost nothing."""
    gigaoperations: float
    megabytes: float
    peaks: Peaks

    def reached(self, step_ms: float) -> float:
        """Share of the limit that a step reaches."""
        return self.ms / step_ms

    def as_dict(self) -> dict[str, Any]:
        return {
            "floor_ms": self.ms,
            "compute_ms": self.compute_ms,
            "memory_ms": self.memory_ms,
            "gigaoperations": self.gigaoperations,
            "megabytes": self.megabytes,
            "gigaoperations_per_s": self.peaks.operations_per_s / 1e9,
            "gigabytes_per_s": self.peaks.bytes_per_s / 1e9,
            "source": self.peaks.source,
        }


def floor_of(layers: Sequence[Layer], peaks: Peaks) -> Floor:
    """The sum over the layers of what takes longer, its operations or its bytes."""
    compute = [layer.operations / peaks.operations_per_s * 1e3 for layer in layers]
    memory = [layer.bytes / peaks.bytes_per_s * 1e3 for layer in layers]
    return Floor(
        ms=sum(map(max, compute, memory)),
        compute_ms=sum(compute),
        memory_ms=sum(memory),
        gigaoperations=sum(layer.operations for layer in layers) / 1e9,
        megabytes=sum(layer.bytes for layer in layers) / 1e6,
        peaks=peaks,
    )


def layers_of_file(path: Path) -> list[Layer]:
    """Layers of an exported file, or of the two of a pair. Raises ArtifactError where one cannot be read, or is for any
    size."""
    from ksnet_deploy.runtime.pair import files_of
    from ksnet_deploy.runtime.step_file import load_exported

    return [layer for file in files_of(path) for layer in layers_of(load_exported(file))]


def three_digits(value: float) -> str:
    """A number rounded to three digits, or to a whole one: ``0.652``, ``6.02``, ``1107``."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def estimate_text(
    model: str, size: FrameSize, layers: Sequence[Layer], card: CardFigures, *, precision: str = "half"
) -> str:
    """The floor on a card that is not here, in a few lines; ``precision`` is that of the layers, in words."""
    best, safe = (floor_of(layers, card.peaks(half_sum=half)) for half in (True, False))
    least, most = (
        three_digits(low) if low == high else f"{three_digits(low)} to {three_digits(high)}"
        for low, high in ((best.ms, safe.ms), (1e3 / safe.ms, 1e3 / best.ms))
    )
    return (
        f"ESTIMATE, not a measurement: {model} at {size} takes at least {least} ms a step on the {card.label}, "
        f"{most} frames per second at most.\n"
        f"{best.gigaoperations:.1f} G operations and {best.megabytes:.0f} MB in {len(layers)} layers in "
        f"{precision}; {card.tflops_fp16_sum:g} T operations/s where products are summed in half, "
        f"{card.tflops_fp32_sum:g} in float32, {card.gb_per_s:g} GB/s ({card.source}).\n"
        f"{'' if precision == 'half' else f'Those rates are of half; in {precision} it takes longer. '}"
        "What lies between the layers is free in this floor; real engines take longer."
    )
