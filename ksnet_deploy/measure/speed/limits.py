"""The limit of each way on this machine: the work of what it runs against the peaks that are measured here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.machine import has_bfloat16
from ksnet_deploy.measure.limits.floor import Floor, floor_of, layers_of_file
from ksnet_deploy.measure.limits.peaks import Peaks, cpu_peaks, gpu_peaks
from ksnet_deploy.measure.speed.ways import Way
from ksnet_deploy.network.config import Precision

__all__ = ["SPELL_S", "Limits", "MeasuredPeaks"]

SPELL_S = 0.6
"""Seconds that the peaks of one kind are measured at a time."""


class MeasuredPeaks:
    """Peaks of this machine: the greatest of all measurements, which others' work and the clock can only lower."""

    def __init__(self) -> None:
        self._greatest: dict[str, Peaks] = {}

    def measure(self, ways: Iterable[Way]) -> None:
        """Measure once more what bounds these ways.

        Raises:
            BackendError: a way is of a GPU that PyTorch does not find; what bounds the others is measured.
        """
        for kind in sorted({kind_of_peaks(way) for way in ways}):  # the GPU's last
            found = gpu_peaks(SPELL_S) if kind == "gpu" else cpu_peaks(bfloat16=kind == "bfloat16", seconds=SPELL_S)
            self._keep(kind, found)

    def of(self, way: Way) -> Peaks:
        """The peaks of what computes a way, measured now where they have not been. Raises BackendError likewise."""
        kind = kind_of_peaks(way)
        if kind not in self._greatest:
            self.measure([way])
        return self._greatest[kind]

    def _keep(self, kind: str, found: Peaks) -> None:
        last = self._greatest.get(kind, found)
        self._greatest[kind] = replace(
            found,
            operations_per_s=max(last.operations_per_s, found.operations_per_s),
            bytes_per_s=max(last.bytes_per_s, found.bytes_per_s),
        )


def kind_of_peaks(way: Way) -> str:
    """The peaks that bound a way: ``float32``, ``bfloat16`` or ``gpu``.

    ONNX Runtime widens a half file on a CPU, and OpenVINO does where there is no bfloat16.
    """
    if way.device == "cuda":
        return "gpu"
    return "bfloat16" if way.backend == "openvino" and way.export == "fp16" and has_bfloat16() else "float32"


class Limits:
    """Floors of a network at one size."""

    def __init__(self, exported: dict[Precision, Path], peaks: MeasuredPeaks) -> None:
        """``exported`` is the exported file of each precision, as far as there are any."""
        self._exported = exported
        self._peaks = peaks

    def of(self, way: Way) -> Floor | None:
        """Floor of a way; None where no exported file of its precision, or of one size, is at hand, or nothing that
        measures the GPU's peaks."""
        if way.export.startswith("int8"):
            return None  # no peak of whole numbers is measured
        path = self._exported.get("fp16" if way.device == "cuda" else way.export)
        if path is None:
            return None
        try:
            return floor_of(layers_of_file(path), self._peaks.of(way))
        except KSNetError:  # a file for any size, or PyTorch without CUDA
            return None
