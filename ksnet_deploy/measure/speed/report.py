"""The result of a benchmark: values, a table, CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.version import __version__
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.limits.floor import Floor, three_digits
from ksnet_deploy.measure.speed.card import Card
from ksnet_deploy.measure.speed.surroundings import Surroundings
from ksnet_deploy.measure.speed.timing import Latency
from ksnet_deploy.measure.speed.ways import Way, all_ways, ways_of_file

__all__ = ["FILM_FPS", "PAPER", "BenchReport", "Group", "Row"]

FILM_FPS = 24
PAPER = {"source": "KSNet, MM '23, Table 1", "machine": "RTX 3080", "size": "180x320", "ms": 31, "fps": 32.3}
"""Published, not measured here."""


@dataclass(frozen=True)
class Row:
    """One way to run one network at one size."""

    way: Way
    engine: Latency
    pipeline: Latency
    end_to_end_fps: float
    peak_memory_mb: float
    """Most of the main memory, in 1e6 bytes, that the process that ran it alone held while it stepped; where the system
    does not count anew, since it was started, with loading and compiling."""
    psnr_db: float | None
    """Least of some first frames against float32; infinite where equal, None where there is no float32 to compare."""
    reference: bool = False
    """Whether it is the float32 that the others are compared with."""
    floor: Floor | None = None
    """Least time of a step on this machine; None where it was not measured."""
    device_peak_mb: float | None = None
    """Most of the GPU's memory that its tensors took while it stepped, in 1e6 bytes; None where the runtime does not
    tell."""
    yardstick_ms: tuple[float, ...] = ()
    """Time of a fixed work beside every round, in ms."""
    kernel: str | None = None
    """Kernel of the alignment, where a runtime on the CPU has a choice: ``native kernel, avx2``, for example."""
    layers: dict[str, float] = field(default_factory=dict)
    """Shares of the layer types in a step, by the names that TensorRT has for them, from its own profiler; empty for
    runtimes that tell none of an open runner."""

    def as_dict(self) -> dict[str, Any]:
        equal = self.psnr_db == float("inf")
        return {
            "way": self.way.name,
            "label": self.way.label,
            "device": self.way.device,
            "kernel": self.kernel,
            "engine": self.engine.as_dict(),
            "yardstick_ms": list(self.yardstick_ms),
            "pipeline": self.pipeline.as_dict(),
            "end_to_end_fps": self.end_to_end_fps,
            "peak_memory_mb": self.peak_memory_mb,
            "device_peak_mb": self.device_peak_mb,
            "layers": self.layers,
            "psnr_db": None if equal else self.psnr_db,
            "equal_to_reference": equal,
            "is_reference": self.reference,
            "floor": None
            if self.floor is None
            else {**self.floor.as_dict(), "reached": self.floor.reached(self.engine.p50_ms)},
        }

    @property
    def quality(self) -> str:
        """PSNR in words for the table."""
        if self.reference:
            return "reference"
        if self.psnr_db is None:
            return "-"
        return "equal" if self.psnr_db == float("inf") else f"{self.psnr_db:.1f}"


@dataclass(frozen=True)
class Group:
    """All ways to run one network at one size, measured by turns."""

    model: str
    size: FrameSize
    rows: list[Row]
    missing: dict[str, str] = field(default_factory=dict)
    """Ways that this machine has not, or that failed, and why."""
    layers: dict[str, float] = field(default_factory=dict)
    """Shares of the layer types in ONNX Runtime's step."""
    weights_sha256: str | None = None
    """Hash of the network's file; None where it was not read."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "size": str(self.size),
            "weights_sha256": self.weights_sha256,
            "rows": [row.as_dict() for row in self.rows],
            "missing": self.missing,
            "layers": self.layers,
        }

    @property
    def fastest(self) -> Row:
        return max(self.rows, key=lambda row: row.end_to_end_fps)


@dataclass(frozen=True)
class BenchReport:
    """Everything that was measured in one run."""

    groups: list[Group]
    machine: str
    cores: int
    busyness: float
    """Factor by which work took longer than on an idle core, when it began."""
    surroundings: Surroundings
    card: Card | None
    clip: dict[str, Any] | None
    """Name, size in bytes and frames per second of the video whose frames were upscaled; None for the bundled one."""
    footage: str
    film_minutes: float
    promised_s: float
    memory_estimate_bytes: int
    """Estimate from before it began."""
    took_s: float
    complete: bool = True
    """Whether everything that was planned was measured, or found to be missing; else it was broken off."""
    command: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "version": __version__,
            "machine": self.machine,
            "cores": self.cores,
            "busyness": self.busyness,
            **self.surroundings.as_dict(),
            "card": self.card and self.card.as_dict(),
            "clip": self.clip,
            "end_to_end": self.footage,
            "promised_s": self.promised_s,
            "took_s": self.took_s,
            "complete": self.complete,
            "memory_estimate_bytes": self.memory_estimate_bytes,
            "command": self.command,
            "groups": [{**group.as_dict(), "film": self._film(group)} for group in self.groups],
            "published": PAPER,
        }

    @property
    def film_fps(self) -> float:
        """Frames per second of the film: the clip's, else :data:`FILM_FPS`."""
        return FILM_FPS if self.clip is None else float(self.clip["fps"])

    def _film_s(self, group: Group) -> float:
        """Seconds that the film takes from file to file in the fastest way."""
        return self.film_minutes * 60 * self.film_fps / group.fastest.end_to_end_fps

    def _film(self, group: Group) -> dict[str, Any] | None:
        """The film and the time that it takes; None where nothing was measured."""
        if not group.rows:
            return None
        facts = {"minutes": self.film_minutes, "fps": self.film_fps}
        return {**facts, "way": group.fastest.way.name, "takes_s": self._film_s(group)}

    def as_text(self) -> str:
        """Plain text for people."""
        lines = [
            f"{self.machine}, {counted(self.cores, 'core')}" + (f"; {self.card.as_text()}" if self.card else ", no GPU")
        ]
        if self.card is not None and self.card.thermal_note:
            lines.append(f"Note: {self.card.thermal_note}.")
        if self.busyness > 1.3:
            lines.append(f"Note: other programs run; work takes {self.busyness:.1f} times as long as on an idle core.")
        for group in self.groups:
            lines += ["", *self._table(group)]
        if not self.complete:
            lines += ["", "Note: this was broken off before all was measured."]
        return "\n".join([*lines, "", f"end to end: {self.footage}; took {self.took_s:.0f} s."])

    def _table(self, group: Group) -> list[str]:
        heading = f"{group.model} at {group.size} -> {group.size.upscaled} (height x width)"
        not_measured = [f"Not measured: {label} ({why})." for label, why in self._told(group).items()]
        if not group.rows:
            return [heading, *not_measured]
        wide = max(len(row.way.label) for row in group.rows) + 2
        lines = [
            heading,
            f"{'':{wide}}{'ms a step':>27}{'':8}{'frames per second':>29}{'':9}{'PSNR':>10}{'of the':>8}",
            f"{'':{wide}}{'p50':>9}{'p90':>9}{'p99':>9}{'noise':>8}{'engine':>9}{'pipeline':>9}{'end to end':>11}"
            f"{'peak MB':>9}{'dB':>10}{'limit':>8}",
        ]
        for row in group.rows:
            engine = row.engine
            noise = "-" if engine.noise is None else f"{engine.noise:.0%}"
            reached = "" if row.floor is None else f"{row.floor.reached(engine.p50_ms):.0%}"
            lines.append(
                f"{row.way.label:{wide}}{engine.p50_ms:>9.1f}{engine.percentile_ms(90):>9.1f}"
                f"{engine.percentile_ms(99):>9.1f}{noise:>8}{engine.fps:>9.2f}{row.pipeline.fps:>9.2f}"
                f"{row.end_to_end_fps:>11.2f}{row.peak_memory_mb:>9.0f}{row.quality:>10}{reached:>8}"
            )
        lines.append(f"{'paper, RTX 3080':{wide}}{31.0:>9.1f}{'':26}{32.3:>9.2f}   as published, uni at 180x320")
        if group.layers:
            lines.append(f"Layers on the CPU, by ONNX Runtime's profile: {_in_percent(group.layers)}.")
        lines += [
            f"Layers of {row.way.label}, by TensorRT's profiler, without a graph: {_in_percent(row.layers)}."
            for row in group.rows
            if row.layers
        ]
        if kernels := [f"{row.kernel} ({row.way.label})" for row in group.rows if row.kernel]:
            lines.append(f"Alignment: {'; '.join(kernels)}.")
        for row in group.rows:
            if row.floor is not None:
                lines.append(
                    f"Limit of {row.way.label}: {three_digits(row.floor.ms)} ms ({row.floor.gigaoperations:.1f} G "
                    f"operations, {row.floor.megabytes:.0f} MB; {row.floor.peaks.source})."
                )
                if row.floor.reached(row.engine.p50_ms) > 1:
                    lines.append(
                        "Note: no step is faster than its limit; this one was measured while the machine was slower."
                    )
        took = timedelta(seconds=round(self._film_s(group)))
        lines.append(
            f"A film of {self.film_minutes:g} minutes at {self.film_fps:g} frames a second of this size takes about "
            f"{took} (h:mm:ss) with {group.fastest.way.label}."
        )
        return [*lines, *not_measured]

    def _told(self, group: Group) -> dict[str, str]:
        """Missing ways and why, with all that needs a GPU in one line where there is none."""
        if self.card is not None:
            return group.missing
        ways = (*all_ways(), *ways_of_file("onnx", "fp32"))
        on_gpu = {way.label for way in ways if way.device == "cuda"} & group.missing.keys()
        rest = {label: why for label, why in group.missing.items() if label not in on_gpu}
        return rest | ({f"{counted(len(on_gpu), 'way')} on a GPU": "none is found here"} if on_gpu else {})

    def as_csv(self) -> str:
        """A line for each row, and the paper's."""
        columns = ("model", "size", "way", "p50_ms", "p90_ms", "p99_ms", "noise", "engine_fps", "pipeline_fps")
        more = ("end_to_end_fps", "peak_memory_mb", "psnr_db", "floor_ms")
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*columns, *more])
        for group in self.groups:
            for row in group.rows:
                e = row.engine
                times = [e.p50_ms, e.percentile_ms(90), e.percentile_ms(99), e.noise, e.fps, row.pipeline.fps]
                rest = [row.end_to_end_fps, row.peak_memory_mb, row.quality, "" if row.floor is None else row.floor.ms]
                table.writerow([group.model, group.size, row.way.name, *times, *rest])
        paper = ["paper", PAPER["size"], "uni as published, RTX 3080", PAPER["ms"], *[""] * 3, PAPER["fps"]]
        table.writerow([*paper, *[""] * (len(columns) + len(more) - len(paper))])
        return text.getvalue()


def _in_percent(shares: dict[str, float]) -> str:
    return ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
