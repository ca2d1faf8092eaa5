"""The limit of each way on this machine: the work of what it runs against the peaks that are measured here."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.measure.limits.floor import Floor, floor_of, layers_of_file
from ksnet_deploy.measure.limits.peaks import Peaks, cpu_peaks, gpu_peaks
from ksnet_deploy.measure.speed.ways import Way
from ksnet_deploy.network.config import Precision

__all__ = ["Limits"]


class Limits:
    """Floors of a network at one size; peaks are measured when they are first asked for."""

    def __init__(self, exported: dict[Precision, Path]) -> None:
        """``exported`` is the exported file of each precision, as far as there are any."""
        self._exported = exported

    @cached_property
    def _float32(self) -> Peaks:
        return cpu_peaks()

    @cached_property
    def _bfloat16(self) -> Peaks:
        return cpu_peaks(bfloat16=True)

    @cached_property
    def _gpu(self) -> Peaks:
        return gpu_peaks()

    def of(self, way: Way) -> Floor | None:
        """Floor of a way; None where no exported file of its precision, or of one size, is at hand, or nothing that
        measures the GPU's peaks."""
        if way.export.startswith("int8"):
            return None  # no peak of whole numbers is measured
        reduced = way.device == "cuda" or way.export == "fp16"
        path = self._exported.get("fp16" if reduced else "fp32")
        if path is None:
            return None
        try:
            peaks = self._gpu if way.device == "cuda" else self._bfloat16 if reduced else self._float32
            return floor_of(layers_of_file(path), peaks)
        except KSNetError:  # a file for any size, or PyTorch without CUDA
            return None
