"""An unfinished job on disk: encoded segments and the journal that says which of them are complete.

The folder lies beside the target, hidden. A segment counts once its line is in the journal, and a line is written
only when the segment's file is safely on disk; so whatever kills the process, what the journal names is whole. The
encoder starts anew with every segment, and the network's state at the start of the next one is kept with it, so a job
that goes on gives the bytes that an uninterrupted one gives.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import no_room, sha256_of
from ksnet_deploy.base.hidden import hidden_name
from ksnet_deploy.base.locks import Lock, being_written
from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.upscale.journal import (
    JOURNAL,
    Segment,
    append_line,
    frames_kept,
    going_on,
    intact_segments,
    rewrite_lines,
    save_durably,
    unneeded_states,
    write_durably,
)
from ksnet_deploy.upscale.plan import Planned
from ksnet_deploy.upscale.scenes import cuts_in_words
from ksnet_deploy.upscale.segments import EncodedSegment
from ksnet_deploy.video.reading.sources import picture_files
from ksnet_deploy.video.writing.encoding import EncodedPacket

__all__ = ["Job", "fingerprint", "finished_frames", "job_folder", "unfinished_frames"]

SAMPLES, SAMPLE_BYTES = 64, 1 << 20


def job_folder(target: Path) -> Path:
    """Folder of the unfinished job of a target."""
    return target.with_name(hidden_name(target.name, ".ksnet-job"))


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's length and of 64 MiB spread over it: enough to tell sources apart, without reading a film.

    Of a folder, of the names, lengths and times of change of its pictures.
    """
    if path.is_dir():
        entries = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in picture_files(path)]
        return hashlib.sha256(repr(entries).encode()).hexdigest()
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= SAMPLES * SAMPLE_BYTES:
            digest.update(file.read())
        else:
            for index in range(SAMPLES):
                file.seek(index * (size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


class Job(Closing):
    """The folder of one unfinished job, held by one process at a time."""

    def __init__(self, target: Path, identity: Mapping[str, str], *, resume: bool) -> None:
        """Open the job of a target, or begin it.

        Args:
            identity: everything that changes the output's bytes, by a name that a user understands.
            resume: go on with what is there; otherwise it is thrown away.

        Raises:
            OutputError: another process is at it, it was begun with another identity, or it cannot be written.
        """
        self.folder = job_folder(target)
        self._identity = dict(identity)
        self._segments: dict[int, Segment] = {}
        self._provisional: Segment | None = None
        begins = not self.folder.exists()
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = Lock(self.folder / "lock", being_written(target))
            if not resume:
                self._empty()
            self._open(target)
        except OSError as error:
            if begins and hasattr(self, "_lock"):
                self.discard()
            raise _disk_error(error, self.folder) from error
        except OutputError:
            if hasattr(self, "_lock"):
                self.close()
            raise

    def _open(self, target: Path) -> None:
        _check_identity(target, self._identity)
        write_durably(self.folder / "job.json", json.dumps(self._identity, indent=2).encode())
        self._segments = intact_segments(self.folder)
        self._empty({"lock", "job.json", JOURNAL} | {name for s in self.segments for name in (s.file, s.state) if name})
        for segment in self.segments:
            self._remove_states_before(segment)
        rewrite_lines(self.folder, self.segments)  # its last line may have been cut off

    @property
    def segments(self) -> list[Segment]:
        """The complete segments, in the order of the frames; between them others may lack."""
        return [self._segments[first] for first in sorted(self._segments)]

    @property
    def frames(self) -> int:
        """Number of frames that are not upscaled again when the job goes on."""
        return frames_kept(self._segments, self.folder)

    @property
    def beginning(self) -> list[Segment]:
        """The complete segments up to the first that lacks."""
        found: list[Segment] = []
        while (segment := self._segments.get(found[-1].end if found else 0)) is not None:
            found.append(segment)
        return found

    def remaining(self, frames: Iterator[Planned]) -> Iterator[Planned]:
        """The frames of a source that are still to be upscaled; one in mid-scene that is the first has its state.

        Where a segment lacks, the rest of its scene is upscaled, though later segments of it may be complete.

        Raises:
            OutputError: a saved state cannot be read.
        """
        place, before = 0, None
        for planned in frames:
            if planned.starts_chain and planned.index >= place:
                place, before = going_on(self._segments, planned.index, self.folder)
            if planned.index == place and before is not None:
                yield replace(planned, state=self._state_after(before))
            elif planned.index >= place:
                yield planned

    def _state_after(self, segment: Segment) -> SavedState:
        assert segment.state is not None
        try:
            return load_file(self.folder / segment.state)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"the saved state in {self.folder} cannot be read ({error}); pass --no-resume to begin anew"
            ) from error

    def add(self, encoded: EncodedSegment, *, provisional: bool = False) -> bool:
        """Keep a complete segment, and the network's state after it. It is on disk when this returns.

        A provisional one is not in the journal, and gone with the next opening.

        Returns:
            False where it was there already, and nothing changed.

        Raises:
            OutputError: it cannot be written, or the disk is full.
        """
        if (known := self._segments.get(encoded.first)) is not None:
            if encoded.state and known.state is not None and known.state_sha256 is None:
                self._keep_state(encoded.state, known)
            return False
        path, state_path = (self.folder / f"{encoded.first:08}.{kind}" for kind in ("segment", "state"))
        packets = encoded.packets
        arrays = {
            "data": np.frombuffer(b"".join(p.data for p in packets), np.uint8),
            "sizes": np.array([len(p.data) for p in packets], np.int64),
            "packet_pts": np.array([p.pts for p in packets], np.int64),
            "keyframes": np.array([p.is_keyframe for p in packets], np.uint8),
            "pts": np.array(encoded.pts, np.int64),
            "durations": np.array(encoded.durations, np.int64),
        }
        try:
            save_durably(arrays, path)
            if encoded.state:
                save_durably(encoded.state, state_path)
            segment = Segment(
                first=encoded.first,
                frames=len(encoded.pts),
                file=path.name,
                sha256=sha256_of(path),
                header=hashlib.sha256(encoded.header).hexdigest(),
                state=None if encoded.state == {} else state_path.name,
                state_sha256=sha256_of(state_path) if encoded.state else None,
                tiles=encoded.tiles,
            )
            if provisional:
                self._provisional = segment
            else:
                append_line(self.folder, segment)
                self._remove_states_before(segment)
        except (OSError, SafetensorError) as error:
            raise _disk_error(error, self.folder) from error
        self._segments[segment.first] = segment
        return True

    def _keep_state(self, state: SavedState, segment: Segment) -> None:
        try:
            path = self.folder / str(segment.state)
            save_durably(state, path)
            segment = replace(segment, state_sha256=sha256_of(path))
            self._segments[segment.first] = segment
            rewrite_lines(self.folder, self.segments)
            self._remove_states_before(segment)
        except (OSError, SafetensorError) as error:
            raise _disk_error(error, self.folder) from error

    def _remove_states_before(self, segment: Segment) -> None:
        if segment.state is None or segment.state_sha256 is not None:
            for path in unneeded_states(self._segments, segment, self.folder):
                path.unlink(missing_ok=True)

    def drop_provisional(self) -> None:
        if self._provisional is not None:
            del self._segments[self._provisional.first]
            (self.folder / self._provisional.file).unlink(missing_ok=True)
            self._provisional = None

    def packets(self, segment: Segment) -> list[EncodedPacket]:
        """The packets of a segment, in decoding order."""
        arrays = load_file(self.folder / segment.file)
        data, ends = arrays["data"].tobytes(), np.cumsum(arrays["sizes"])
        return [
            EncodedPacket(data[end - size : end], int(pts), bool(key))
            for size, end, pts, key in zip(
                arrays["sizes"], ends, arrays["packet_pts"], arrays["keyframes"], strict=True
            )
        ]

    def times(self) -> tuple[list[int], list[int], list[list[int]]]:
        """Times of the frames of :attr:`beginning`: presentation times and durations, in order; and per segment, those
        of its packets."""
        pts: list[int] = []
        durations: list[int] = []
        decoded: list[list[int]] = []
        for segment in self.beginning:
            arrays = load_file(self.folder / segment.file)
            pts += arrays["pts"].tolist()
            durations += arrays["durations"].tolist()
            decoded.append(arrays["packet_pts"].tolist())
        return pts, durations, decoded

    def _empty(self, but: Collection[str] = ("lock",)) -> None:
        for path in self.folder.iterdir():
            if path.name in but:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def discard(self) -> None:
        """Remove the folder and all in it, while no other process can begin to use it."""
        if os.name != "posix":  # Windows removes no file that is open
            self._empty()
            self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        self._lock.release()


def unfinished_frames(target: Path, identity: Mapping[str, str]) -> int:
    """Frames that are finished in the job of a target, which would go on from there; nothing is changed.

    Raises:
        OutputError: it was begun with another identity, or cannot be read.
    """
    if not job_folder(target).is_dir():
        return 0
    _check_identity(target, identity)
    return finished_frames(target)


def finished_frames(target: Path) -> int:
    """Frames that are finished in the job of a target, whatever it was begun with; nothing is changed."""
    return frames_kept(intact_segments(job_folder(target)), job_folder(target))


def _check_identity(target: Path, identity: Mapping[str, str]) -> None:
    """Raise OutputError unless what is in a target's folder, if anything, is of this identity."""
    settings, journal = (job_folder(target) / name for name in ("job.json", JOURNAL))
    if not settings.exists() and not journal.exists():
        return
    try:
        begun = dict(json.loads(settings.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(
            f"the unfinished job for {target} is damaged ({settings.name}: {error}); pass --no-resume to throw it away"
        ) from error
    names = sorted(k for k in {*begun, *identity} if begun.get(k) != identity.get(k))
    if names:
        changes = ", ".join(_change(k, str(begun.get(k, "none")), identity.get(k, "none")) for k in names)
        raise OutputError(
            f"an unfinished job for {target} was begun with other settings ({changes}); run it with those to go on, or "
            "pass --no-resume to throw it away"
        )


def _change(name: str, before: str, after: str) -> str:
    """A change in words; of an encoder's many settings, and of many cuts, only those that differ."""
    if name == "source":  # of which a hash says no more
        return "the source is another file, or was changed"
    if name == "part":
        before, after = (re.sub(r"\d+/[1-9]\d*", lambda n: f"{float(Fraction(n[0])):.10g}", s) for s in (before, after))
    if name == "scene cuts":
        before, after = (cuts_in_words(cuts, other) for cuts, other in ((before, after), (after, before)))
    if name == "encoder":
        pairs = ((before, after), (after, before))
        kept = [" ".join(word for word in a.split() if word not in b.split()) for a, b in pairs]
        before, after = (text or "unset" for text in kept)
    return f"{name}: {before} -> {after}"


def _disk_error(error: Exception, folder: Path) -> OutputError:
    if (number := re.search(r"os error ([0-9]+)", str(error))) is not None:  # a SafetensorError, which has no errno
        error = OSError(int(number[1]), os.strerror(int(number[1])))
    if no_room(error) is not None and getattr(error, "errno", None) != errno.EFBIG:
        return OutputError(
            f"the disk of {folder.parent} is full; free some space and run the same command again, which goes on from "
            "there"
        )
    return OutputError(
        f"{folder} cannot be written ({getattr(error, 'strerror', None) or error}); choose another output"
    )
