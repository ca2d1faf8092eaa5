"""The output file: its name, what its container can hold, and how it is put together from encoded segments."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import publish, try_beside
from ksnet_deploy.base.hidden import fitting_name, temporary_beside
from ksnet_deploy.base.leftovers import remove_leftovers
from ksnet_deploy.upscale.job import Job
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.containers import (
    container_problem,
    facts_kept,
    fitting_codecs,
    fitting_suffixes,
    loss,
)
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import PictureFormat
from ksnet_deploy.video.writing.tracks import FORMATS, TrackPlan, TrackPlanner
from ksnet_deploy.video.writing.writer import VideoWriter, decoding_times, frame_times

__all__ = ["OutputFile", "check_target", "choose_target", "container_notes", "track_notes"]


def choose_target(tracks: TrackPlanner, target: Path | None, encoder: Encoder, ending: str) -> Path:
    """The given target, or a name beside the source or in the given folder, in the container that loses the least.

    Args:
        ending: of the stem of such a name, for example ``_x4``.
    """
    reader, fitting = tracks.reader, fitting_suffixes(tracks, encoder)
    if target is None or target.is_dir():
        suffix = fitting[0] if fitting else ".mkv"
        folder = reader.path.parent if target is None else target
        stem = f"{reader.source.stem}{reader.source.part_in_words}"
        target = folder / fitting_name(stem, f"{ending}{suffix}")
    if problem := container_problem(tracks, target.suffix, encoder.codec):
        remedies = []
        if codecs := fitting_codecs(tracks, target.suffix):
            remedies.append(f"pass {' or '.join(f'--codec {name}' for name in codecs)}")
        if fitting:
            best = [suffix for suffix in fitting if loss(tracks, suffix) == loss(tracks, fitting[0])]
            remedies.append(f"write to a file ending in {' or '.join(best)}")
        if tracks.choice == "copy" and "cannot be copied" in problem:
            remedies.append("pass --tracks convert")
        remedy = ", or ".join(remedies) or "choose another --codec"
        raise OutputError(f"{target} cannot be written: {problem}; {remedy}")
    return target


def container_notes(tracks: TrackPlanner, target: Path | None, encoder: Encoder, chosen: str) -> list[str]:
    """Reasons why the chosen container, by its suffix, is not the source's own, where that is one that is written."""
    if target is not None and not target.is_dir():
        return []
    own = tracks.reader.path.suffix.lower()
    if own == chosen or own not in FORMATS:
        return []
    if container_problem(tracks, own, encoder.codec) is None and loss(tracks, own) == loss(tracks, chosen):
        return []
    return [f"The output is a {chosen} file, because {own} cannot hold {encoder.name} with these tracks."]


def track_notes(plans: Sequence[TrackPlan]) -> list[str]:
    """Notes on the tracks that are not copied."""
    return [
        f"The {plan.name} ({plan.codec}) was converted to {plan.codec_after}{plan.mixed}, because {plan.why}."
        for plan in plans
        if plan.done == "converted"
    ]


def check_target(reader: VideoReader, target: Path, *, overwrite: bool) -> None:
    """Everything else that can be known to go wrong with the target, before any work is done."""
    if target.exists():
        if target.samefile(reader.path):
            raise OutputError(f"{target} is the source itself; give another name for the output")
        if not overwrite:
            raise OutputError(f"{target} already exists; pass --overwrite to replace it, or another name")
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; make it first, or give another name")
    remove_leftovers(target)
    try:
        try_beside(target)
    except OSError as error:
        raise OutputError(
            f"the folder {target.parent} cannot be written to ({error.strerror}); choose another with --output"
        ) from error


class OutputFile:
    """The file to be made: its container, and how it comes from the segments."""

    def __init__(self, tracks: TrackPlanner, target: Path, picture: PictureFormat, encoder: Encoder) -> None:
        self._reader, self._target, self._picture, self._encoder = tracks.reader, target, picture, encoder
        self.tracks = tracks.plan(target.suffix)
        """Plans for the source's other tracks."""
        reader = tracks.reader
        reader.left_out += [f"{p.name} ({p.codec}: {p.why})" for p in self.tracks if p.done == "left out"]
        reader.keeps(*facts_kept(reader, picture, target.suffix, encoder.codec))
        self.damaged_packets = 0
        """Packets of the other tracks, left out because they are damaged, or come after later ones."""

    def _writer(self, path: Path, reader: VideoReader) -> VideoWriter:
        return VideoWriter(
            path,
            self._target.suffix,
            reader,
            self._picture,
            self._encoder,
            self.tracks,
        )

    def try_out(self) -> None:
        """Write such a file without its frames, so that whatever cannot be is known before the first of them."""
        probe = temporary_beside(self._target)
        try:
            if not self._reader.tracks:
                self._writer(probe, self._reader).abort()
                return
            with self._reader.reopened() as tracks:
                self._writer(probe, tracks).try_tracks()
        finally:
            probe.unlink(missing_ok=True)

    def assemble_partial(self, job: Job) -> Path:
        """Put a file together from the segments up to the first that lacks; its name."""
        path = self._target.with_name(fitting_name(self._target.stem, f".partial{self._target.suffix}"))
        pts, durations, _ = job.times()
        self.assemble(job, path, overwrite=True, end_s=(pts[-1] + durations[-1]) * self._picture.time_base)
        return path

    def assemble(self, job: Job, target: Path, *, overwrite: bool, end_s: Fraction | None = None) -> None:
        """Put the file together from the job's segments, check it, and give it its name.

        The other tracks are copied up to ``end_s``, or to their ends.

        Raises:
            OutputError: something of it cannot be written, or a file of that name has appeared.
        """
        pts, durations, decoded = job.times()
        duration_of = dict(zip(pts, durations, strict=True))
        dts = decoding_times(decoded, pts)
        packets = itertools.chain.from_iterable(map(job.packets, job.beginning))
        unfinished = job.folder / "output.part"
        with self._reader.reopened() as tracks:
            writer = self._writer(unfinished, tracks)
            try:
                for segment in job.beginning:
                    if segment.header != sha256(writer.header).hexdigest():
                        raise OutputError(
                            f"{self._encoder.name} begins its segments differently from the file; choose another "
                            "encoder with --codec, and report this"
                        )
                writer.write(((packet, next(dts), duration_of[packet.pts]) for packet in packets), end_s)
            except BaseException:
                writer.abort()
                raise
        self.damaged_packets = writer.damaged_packets
        self._check(unfinished, pts)
        publish(unfinished, target, overwrite=overwrite)

    def _check(self, path: Path, pts: list[int]) -> None:
        """Every frame is in the file, at its time."""
        found = frame_times(path)
        expected = [value * self._picture.time_base for value in pts]
        if len(found) != len(expected):
            raise OutputError(f"{len(found)} of {len(expected)} frames are in the finished file; report this, please")
        # Containers may move the start to zero, and some round to milliseconds.
        shift = found[0] - expected[0]
        worst = max((abs(a - b - shift) for a, b in zip(found, expected, strict=True)), default=Fraction(0))
        if worst > Fraction(1, 1000):
            raise OutputError(
                f"a frame of the finished file is {float(worst) * 1000:.1f} ms from its time; report this, please"
            )
