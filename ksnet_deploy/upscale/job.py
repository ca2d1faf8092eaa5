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
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.hidden import hidden_name
from ksnet_deploy.base.locks import Lock, being_written
from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.video.reading.sources import picture_files
from ksnet_deploy.video.writing.encoding import EncodedPacket

__all__ = ["Job", "Segment", "fingerprint", "finished_frames", "job_folder", "unfinished_frames"]

SAMPLES, SAMPLE_BYTES = 64, 1 << 20


@dataclass(frozen=True)
class Segment:
    """A line of the journal: consecutive frames that were encoded together."""

    frames: int
    file: str
    sha256: str
    header: str
    """SHA-256 of the encoder's parameter sets."""
    state: str | None
    """File of the network's state after the last frame; None where a new scene begins."""
    state_sha256: str | None
    tiles: str | None
    """Size of the tiles that the frames were upscaled in, for example 288x498; None for whole frames."""


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
        self.segments: list[Segment] = []
        self._provisional: Segment | None = None
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = Lock(self.folder / "lock", being_written(target))
            if not resume:
                self._empty()
            self._open(target)
        except OSError as error:
            raise _disk_error(error, self.folder) from error
        except OutputError:
            if hasattr(self, "_lock"):
                self.close()
            raise

    def _open(self, target: Path) -> None:
        _check_identity(target, self._identity)
        _write_durably(self.folder / "job.json", json.dumps(self._identity, indent=2).encode())
        self.segments = _intact(self.folder)
        known = {"lock", "job.json", "journal.jsonl"} | {s.file for s in self.segments}
        self._empty(known | {s.state for s in self.segments[-1:] if s.state})
        # Rewritten, because its last line may have been cut off.
        lines = "".join(f"{json.dumps(asdict(segment))}\n" for segment in self.segments)
        _write_durably(self.folder / "journal.jsonl", lines.encode())

    @property
    def frames(self) -> int:
        """Number of frames in the complete segments."""
        return sum(segment.frames for segment in self.segments)

    def state(self) -> SavedState:
        """The network's state after the last complete segment; empty where a new scene begins.

        Raises:
            OutputError: it cannot be read.
        """
        name = self.segments[-1].state if self.segments else None
        if name is None:
            return {}
        try:
            return load_file(self.folder / name)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"the saved state in {self.folder} cannot be read ({error}); pass --no-resume to begin anew"
            ) from error

    def add(
        self,
        packets: list[EncodedPacket],
        pts: list[int],
        durations: list[int],
        header: bytes,
        state: SavedState,
        tiles: str | None = None,
        *,
        provisional: bool = False,
    ) -> None:
        """Keep a complete segment, and the network's state after it. It is on disk when this returns.

        A provisional one is not in the journal, and gone with the next opening.

        Raises:
            OutputError: it cannot be written, or the disk is full.
        """
        index = len(self.segments)
        path, state_path = self.folder / f"{index:06}.segment", self.folder / f"{index:06}.state"
        arrays = {
            "data": np.frombuffer(b"".join(p.data for p in packets), np.uint8),
            "sizes": np.array([len(p.data) for p in packets], np.int64),
            "packet_pts": np.array([p.pts for p in packets], np.int64),
            "keyframes": np.array([p.is_keyframe for p in packets], np.uint8),
            "pts": np.array(pts, np.int64),
            "durations": np.array(durations, np.int64),
        }
        try:
            _save_durably(arrays, path)
            if state:
                _save_durably(state, state_path)
            segment = Segment(
                frames=len(pts),
                file=path.name,
                sha256=sha256_of(path),
                header=hashlib.sha256(header).hexdigest(),
                state=state_path.name if state else None,
                state_sha256=sha256_of(state_path) if state else None,
                tiles=tiles,
            )
            if provisional:
                self._provisional = segment
            else:
                with (self.folder / "journal.jsonl").open("ab") as journal:
                    journal.write(f"{json.dumps(asdict(segment))}\n".encode())
                    _sync(journal)
            if not provisional and self.segments and self.segments[-1].state:
                (self.folder / self.segments[-1].state).unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            raise _disk_error(error, self.folder) from error
        self.segments.append(segment)

    def drop_provisional(self) -> None:
        if self._provisional is not None:
            self.segments.remove(self._provisional)
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
        """Times of all frames: presentation times and durations, in order; and per segment, those of its packets."""
        pts: list[int] = []
        durations: list[int] = []
        decoded: list[list[int]] = []
        for segment in self.segments:
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
    return sum(segment.frames for segment in _intact(job_folder(target)))


def _check_identity(target: Path, identity: Mapping[str, str]) -> None:
    """Raise OutputError unless what is in a target's folder, if anything, is of this identity."""
    settings, journal = (job_folder(target) / name for name in ("job.json", "journal.jsonl"))
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
        changes = ", ".join(_change(k, begun.get(k, "none"), identity.get(k, "none")) for k in names)
        raise OutputError(
            f"an unfinished job for {target} was begun with other settings ({changes}); run it with those to go on, or "
            "pass --no-resume to throw it away"
        )


def _change(name: str, before: str, after: str) -> str:
    """A change in words; of an encoder's many settings only those that differ."""
    if name == "encoder":
        pairs = ((before, after), (after, before))
        kept = [" ".join(word for word in a.split() if word not in b.split()) for a, b in pairs]
        before, after = (text or "unset" for text in kept)
    return f"{name}: {before} -> {after}"


def _intact(folder: Path) -> list[Segment]:
    """The segments of a job up to the first that is not as the journal says."""
    journal = folder / "journal.jsonl"
    found = []
    for line in journal.read_text(errors="replace").splitlines() if journal.exists() else ():
        try:
            segment = Segment(**json.loads(line))
        except (ValueError, TypeError):
            break
        if not isinstance(segment.frames, int) or not _is_whole(folder, segment.file, segment.sha256):
            break
        found.append(segment)
    while found and found[-1].state is not None and not _is_whole(folder, found[-1].state, found[-1].state_sha256):
        found.pop()
    return found


def _is_whole(folder: Path, name: object, sha256: str | None) -> bool:
    return isinstance(name, str) and (folder / name).is_file() and sha256_of(folder / name) == sha256


def _save_durably(arrays: Mapping[str, Any], path: Path) -> None:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    with path.open("r+b") as file:
        _sync(file)


def _write_durably(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        file.write(content)
        _sync(file)
    os.replace(temporary, path)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _disk_error(error: Exception, folder: Path) -> OutputError:
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC or "No space left" in str(error):
        return OutputError(
            f"the disk of {folder.parent} is full; free some space and run the same command again, which goes on from "
            "there"
        )
    return OutputError(
        f"{folder} cannot be written ({getattr(error, 'strerror', None) or error}); choose another output"
    )
