"""The limit of each way on this machine: the work of what it runs against the peaks that are measured here."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.machine import has_bfloat16
from ksnet_deploy.measure.limits.floor import Floor, floor_of, layers_of_file
from ksnet_deploy.measure.limits.peaks import Peaks, cpu_peaks, gpu_peaks
from ksnet_deploy.measure.speed.ways import Way
from ksnet_deploy.network.config import Precision

__all__ = ["Limits", "MeasuredPeaks"]


class MeasuredPeaks:
    """Peaks of this machine, each measured when it is first asked for, and once."""

    @cached_property
    def float32(self) -> Peaks:
        return cpu_peaks()

    @cached_property
    def bfloat16(self) -> Peaks:
        return cpu_peaks(bfloat16=True)

    @cached_property
    def gpu(self) -> Peaks:
        return gpu_peaks()


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
            return floor_of(layers_of_file(path), self._peaks_of(way))
        except KSNetError:  # a file for any size, or PyTorch without CUDA
            return None

    def _peaks_of(self, way: Way) -> Peaks:
        if way.device == "cuda":
            return self._peaks.gpu
        # ONNX Runtime widens a half file on a CPU, and OpenVINO does where there is no bfloat16.
        reduced = way.backend == "openvino" and way.export == "fp16" and has_bfloat16()
        return self._peaks.bfloat16 if reduced else self._peaks.float32
