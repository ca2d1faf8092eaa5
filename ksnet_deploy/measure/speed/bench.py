"""The work of ``bench``: every way of this machine to run some networks at some sizes, measured by turns.

Each way is measured in a process of its own. All are open at once where the memory holds them, and step in rounds, one
after the other, so that a disturbance of the machine meets all of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import ConfigError, KSNetError
from ksnet_deploy.base.machine import cores, cpu_name
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.base.words import counted
from ksnet_deploy.export.memory import check_memory, fits
from ksnet_deploy.measure.memory import benchmark_bytes
from ksnet_deploy.measure.speed.card import Card, find_card
from ksnet_deploy.measure.speed.child import Child
from ksnet_deploy.measure.speed.layers import layer_shares
from ksnet_deploy.measure.speed.limits import Limits, MeasuredPeaks
from ksnet_deploy.measure.speed.measured import Measured, noting
from ksnet_deploy.measure.speed.pace import LEAST_ROUNDS, ROUNDS, Costs, Pace, Phase, predicted_step_s
from ksnet_deploy.measure.speed.report import BenchReport, Group, Row
from ksnet_deploy.measure.speed.subjects import Subject
from ksnet_deploy.measure.speed.surroundings import find_surroundings
from ksnet_deploy.measure.speed.timing import Clock, Latency
from ksnet_deploy.measure.speed.ways import Way, artifact_of, open_way
from ksnet_deploy.measure.speed.worker import Footage
from ksnet_deploy.measure.speed.yardstick import busyness, gflops_now, yardstick_ms
from ksnet_deploy.runtime.base import Runner

__all__ = ["Bench"]

COMPARED_FRAMES = 5
WARM_UP_S = 1.5
MOST_FRAMES = 96
"""Upscaled from file to file."""

MOST_SECONDS, MOST_MINUTES = 86400.0, 1e6
"""Longest time to measure for, a day; longest film to tell the time for, two years."""

MakeChild = Callable[[str, Callable[[], Runner], Footage], Any]


class Bench:
    """A benchmark that is planned, says how long it will take, and is run once."""

    def __init__(
        self,
        subjects: list[Subject],
        *,
        clip: Path | None = None,
        seconds: float = 8.0,
        film_minutes: float = 90.0,
        command: str = "",
        clock: Clock = time.perf_counter,
        make_child: MakeChild = Child,
        yardstick: Callable[[], float] = yardstick_ms,
        costs: Costs | None = None,
        speed: tuple[float, float] | None = None,
    ) -> None:
        """Plan it.

        Args:
            subjects: networks at sizes, with their ways.
            clip: whose frames are upscaled (default: the bundled clip, tiled to each size).
            seconds: to measure each way's steps for.
            film_minutes: length of the film that the result is told for.
            command: that made the result, for its reader.
            clock, make_child, yardstick, costs, speed: stand-ins, for tests; the last is the machine's GFLOP/s and how
                many times longer work takes than on an idle core.

        Raises:
            ConfigError: a time is not above 0 or beyond its bound, or the memory is too small.
        """
        for name, value, most in (("--seconds", seconds, MOST_SECONDS), ("--film", film_minutes, MOST_MINUTES)):
            if not 0 < value <= most:
                raise ConfigError(f"{name} is {value:g}; give more than 0 and at most {most:g}")
        self._subjects = subjects
        self._lanes = [_lanes_of(subject) for subject in subjects]  # once, as what fits may be another a moment later
        self._groups: list[tuple[Group, Limits]] = []
        self._card: Card | None = None
        self._began = clock()
        self._clip = clip
        self._clip_facts = None if clip is None else _facts_of(clip)
        self._seconds = seconds
        self._film_minutes = film_minutes
        self._command = command
        self._clock = clock
        self._make_child = make_child
        self._yardstick = yardstick
        self._gflops, self._busyness = speed or (gflops_now(), busyness())
        self._costs = costs or Costs()
        self._peaks = MeasuredPeaks()
        self._pace = Pace(self._phases(), clock=clock)
        self.memory_bytes = max(_bytes(*each) for each in zip(subjects, self._lanes, strict=True))
        """Estimate of what it takes, from before it."""
        sizes = ", ".join(sorted({str(subject.size) for subject in subjects}))
        check_memory(f"to measure frames of {sizes}", self.memory_bytes, "choose a smaller --size or --clip")

    @property
    def announcement(self) -> str:
        """Sentence on what is going to be measured, and how long it will take."""
        things = [f"{s.label} at {s.size} in {counted(len(s.ways), 'way')}" for s in self._subjects]
        promised = self._pace.promised_s
        span = f"{promised:.0f} s" if promised < 100 else f"{promised / 60:.1f} minutes"
        return f"Measuring {', '.join(things)}; this takes about {span}."

    def _phases(self) -> Iterator[Phase]:
        """Phases in the order in which :meth:`run` asks for them."""
        costs, busy = self._costs, self._busyness
        for subject, lanes in zip(self._subjects, self._lanes, strict=True):
            for lane in lanes:
                steps = [predicted_step_s(subject.macs, w.backend, w.device, self._gflops) for w in lane]
                exported = {(w.takes, w.export) for w in lane if w.takes == "onnx" and not subject.is_ready(w)}
                engines = sum(w.takes == "engine" and subject.kind == "checkpoint" for w in lane)
                yield Phase(busy * (len(exported) * costs.export_s + engines * costs.engine_s))
                yield Phase(busy * costs.open_s * len(lane))
                yield Phase(busy * costs.peaks_s / 2 + sum(max(WARM_UP_S, 2 * step) for step in steps))
                for _ in range(ROUNDS):
                    yield Phase(sum(max(self._seconds / ROUNDS, step) for step in steps), elastic=True)
                yield Phase(sum(COMPARED_FRAMES * step for step in steps))
                yield Phase(sum(max(self._seconds / 4, step) for step in steps), elastic=True)
                yield Phase(busy * costs.end_to_end_s * len(lane))
                yield Phase(sum(max(self._seconds / 4, 3 * step) for step in steps), elastic=True)
            yield Phase(busy * (costs.peaks_s / 2 + costs.open_s) + 4 * steps[0])

    @property
    def planned(self) -> set[tuple[str, str, str]]:
        """Model, size and way of each row that is to be measured."""
        return {(s.label, str(s.size), way.name) for s in self._subjects for way in s.ways}

    def run(self, *, on_phase: Callable[[str], None] = lambda _what: None) -> BenchReport:
        """Measure.

        Args:
            on_phase: told what is going on.

        Raises:
            ConfigError: nothing could be measured of a network. The others are in :meth:`report`.
        """
        self._began = self._clock()
        self._pace.start()
        for subject, lanes in zip(self._subjects, self._lanes, strict=True):
            self._groups.append(self._group(subject, lanes, on_phase))
        if empty := [group for group, _ in self._groups if not group.rows]:
            reasons = (f"{g.model}: " + "; ".join(f"{way}: {why}" for way, why in g.missing.items()) for g in empty)
            raise ConfigError(f"nothing could be measured of {'; nor of '.join(reasons)}")
        return self.report()

    @property
    def has_rows(self) -> bool:
        """Whether anything was measured."""
        return any(group.rows for group, _ in self._groups)

    def report(self) -> BenchReport:
        """All that is measured by now, which is not the whole where :meth:`run` was broken off."""
        if (card := self._card) is None and (found := find_card()) is not None:
            card = found.idle()
        return BenchReport(
            groups=[  # all held against the same peaks, which any of them may have raised
                replace(group, rows=[replace(row, floor=limits.of(row.way)) for row in group.rows])
                for group, limits in self._groups
            ],
            machine=cpu_name(),
            cores=cores(),
            busyness=self._busyness,
            surroundings=find_surroundings(),
            card=card,
            clip=self._clip_facts,
            footage=f"{self._clip.name} to H.264" if self._clip else "PNG frames of a moving scene to H.264",
            film_minutes=self._film_minutes,
            promised_s=self._pace.promised_s,
            memory_estimate_bytes=self.memory_bytes,
            took_s=self._clock() - self._began,
            complete=len(self._groups) == len(self._subjects),
            command=self._command,
        )

    def _group(self, subject: Subject, lanes: list[list[Way]], on_phase: Callable[[str], None]) -> tuple[Group, Limits]:
        """Measurements of a subject, without rows where nothing could be measured, and what bounds them."""
        missing = dict(subject.missing)
        measured: list[Measured] = []
        reference: NDArray[np.uint8] | None = None
        for lane in lanes:
            with ExitStack() as children:
                open_ways = self._open(subject, lane, missing, children, on_phase)
                self._rounds(subject, open_ways, missing, on_phase)
                reference = self._qualities(subject, open_ways, reference, missing)
                self._whole_ways(subject, open_ways, missing, on_phase)
                measured += open_ways
        on_phase(f"{subject.label} at {subject.size}: layers and limits")
        self._pace.next()
        self._measure_peaks(measured)
        exported = {m.way.export: m.artifact for m in measured if m.way.takes == "onnx"}
        layers = {}
        if profiled := next((m.artifact for m in measured if m.way.name.startswith("onnxruntime-cpu")), None):
            with contextlib.suppress(KSNetError):  # a by-product, for which no result is to be lost
                layers = layer_shares(profiled, subject.size, Footage(subject.size, self._clip).frames(3))
        rows = [self._row(m, subject) for m in measured]
        group = Group(subject.label, subject.size, rows, missing, layers, subject.weights_sha256)
        return group, Limits(exported, self._peaks)

    def _measure_peaks(self, found: list[Measured]) -> None:
        """Twice in a group, with most of its time between, as a machine has slow moments."""
        with contextlib.suppress(KSNetError):  # of a GPU that PyTorch does not find, which leaves its ways no floor
            self._peaks.measure(m.way for m in found)

    @staticmethod
    def _row(m: Measured, subject: Subject) -> Row:
        return Row(
            way=m.way,
            engine=Latency(tuple(m.rounds)),
            pipeline=Latency((tuple(m.pipeline),)),
            end_to_end_fps=m.fps,
            peak_memory_mb=m.peak_mb,
            psnr_db=m.psnr_db,
            reference=subject.is_reference(m.way),
            yardstick_ms=tuple(m.yardsticks),
            kernel=m.kernel,
            layers=m.layers,
            device_peak_mb=m.device_peak_mb,
        )

    def _open(
        self,
        subject: Subject,
        lane: list[Way],
        missing: dict[str, str],
        children: ExitStack,
        on_phase: Callable[[str], None],
    ) -> list[Measured]:
        """Make what the ways run, and open each in a process."""
        artifacts: dict[Way, Path] = {}
        self._pace.next()
        for way in lane:
            with noting(way, missing):
                artifacts[way] = artifact_of(way, subject.path, subject.kind, subject.size, on_phase)
        self._pace.next()
        found = []
        for way, artifact in artifacts.items():
            on_phase(f"{subject.label} at {subject.size}: opening {way.label}")
            with noting(way, missing):
                opener = partial(open_way, way, artifact, subject.size)
                child = self._make_child(way.label, opener, Footage(subject.size, self._clip))
                children.callback(child.close)
                found.append(Measured(way, artifact, child))
        return found

    def _rounds(
        self, subject: Subject, found: list[Measured], missing: dict[str, str], on_phase: Callable[[str], None]
    ) -> None:
        """Warm up, and measure steps by turns, each round beside a yardstick."""
        self._pace.next()
        self._measure_peaks(found)
        for m in list(found):
            on_phase(f"{subject.label} at {subject.size}: warming up {m.way.label}")
            with noting(m.way, missing, found, m):
                m.step_ms = m.child.call("warm_up", WARM_UP_S)
        for index in range(ROUNDS):
            on_phase(f"{subject.label} at {subject.size}: round {index + 1} of {ROUNDS}")
            if index >= LEAST_ROUNDS and self._pace.is_late:
                self._pace.skip(ROUNDS - index)
                break
            seconds = self._pace.next() / max(len(found), 1)
            yardstick = self._yardstick()
            turn = index % max(len(found), 1)
            for m in [*found[turn:], *found[:turn]]:  # each goes first once, so that none always follows the same
                with noting(m.way, missing, found, m):
                    m.rounds.append(tuple(m.child.call("engine", seconds)))
                    m.yardsticks.append(yardstick)
                    if m.way.device == "cuda" and index >= LEAST_ROUNDS - 1:  # any of these rounds may be the last
                        self._card = find_card()  # before it rests, which lowers its clocks

    def _qualities(
        self,
        subject: Subject,
        found: list[Measured],
        reference: NDArray[np.uint8] | None,
        missing: dict[str, str],
    ) -> NDArray[np.uint8] | None:
        """Peak memory of the steps, and PSNR against float32, which is the first way's where that is float32."""
        self._pace.next()
        for m in list(found):
            with noting(m.way, missing, found, m):
                m.peak_mb = m.child.call("peak_memory_mb")
                m.device_peak_mb = m.child.call("device_peak_mb")
                m.kernel = m.child.call("kernel")
                m.layers = m.child.call("layers")
                pictures = m.child.call("pictures", COMPARED_FRAMES)
                if reference is None and subject.is_reference(m.way):
                    reference = pictures
                if reference is not None:
                    m.psnr_db = min(psnr(a, b) for a, b in zip(pictures, reference, strict=True))
        return reference

    def _whole_ways(
        self, subject: Subject, found: list[Measured], missing: dict[str, str], on_phase: Callable[[str], None]
    ) -> None:
        """The pipeline around the step, and the way from file to file."""
        seconds = self._pace.next() / max(len(found), 1)
        for m in list(found):
            on_phase(f"{subject.label} at {subject.size}: pipeline of {m.way.label}")
            with noting(m.way, missing, found, m):
                m.pipeline = m.child.call("pipeline", seconds)
        self._pace.next()
        seconds = self._pace.next() / max(len(found), 1)
        for m in list(found):
            on_phase(f"{subject.label} at {subject.size}: {m.way.label} from file to file")
            with noting(m.way, missing, found, m):
                m.fps = m.child.call("end_to_end", min(max(int(1e3 * seconds / m.step_ms), 3), MOST_FRAMES))


def _lanes_of(subject: Subject) -> list[list[Way]]:
    """The ways that are open at once: all where the memory holds them, else one after the other."""
    return [subject.ways] if fits(_bytes(subject, [subject.ways])) else [[way] for way in subject.ways]


def _facts_of(clip: Path) -> dict[str, Any]:
    """Name, bytes and frames per second of a video; the bytes of a folder of frames are those of all its files."""
    from ksnet_deploy.video.reading.reader import VideoReader

    files = [each for each in clip.iterdir() if each.is_file()] if clip.is_dir() else [clip]
    with VideoReader(clip) as reader:
        return {"name": clip.name, "bytes": sum(each.stat().st_size for each in files), "fps": float(reader.rate)}


def _bytes(subject: Subject, lanes: list[list[Way]]) -> int:
    """Estimate of the main memory that measuring takes; 0 where the configuration is not known."""
    if subject.config is None:
        return 0
    backends = [[way.backend for way in lane] for lane in lanes]
    return benchmark_bytes(subject.config, subject.size, backends, exports=subject.kind == "checkpoint")
