"""Jobs on disk: films that were uploaded, what is wanted of each, and how far it is. Needs no server.

Each has a folder of its own, named by an id of ours: ``job.json``, the source, the library's unfinished job beside the
output (``upscale/job.py``), the output, the preview. What people call a film is text for them, never part of a path.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.files import replacing, writing
from ksnet_deploy.base.locks import Lock
from ksnet_deploy.upscale.job import finished_frames, job_folder
from ksnet_deploy.video.kinds import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from ksnet_deploy.video.reading.sources import check_self_contained
from ksnet_deploy.video.writing.presets import DEFAULT_ENCODER

__all__ = ["FilmJob", "JobStore", "Settings", "State", "parse_quality", "shown_name"]

State = Literal["ready", "stopped", "failed", "done"]
"""State of a job: not begun; begun and not ended, whatever ended it; ended by an error; ended well.

``stopped`` is written before the first frame, so that a job of a server that was killed needs no mending."""

ID = re.compile(r"[0-9a-f]{12}")
LONGEST_SHOWN = 120
"""Characters of a name that are kept."""


@dataclass(frozen=True)
class Settings:
    """Wishes for a film, as people choose them on the page; :mod:`ksnet_deploy.web.work` hands them to the library."""

    model: str | None = None
    """Name of a bundled network; None for the one that suits the film."""
    codec: str = DEFAULT_ENCODER
    """Preset of the encoder."""
    quality: int | None = None
    """Quality on the encoder's own scale; None for the preset's."""
    size: str = "x4"
    """``x2``, ``x3``, ``x4``, or a height such as ``1080p``."""
    start: str = ""
    """Time from which the film is wanted, such as ``1:30``; empty for its beginning, as ``end`` for its end."""
    end: str = ""
    device: str = "auto"
    """``cpu``, ``cuda`` or ``auto``."""


@dataclass(frozen=True)
class FilmJob:
    """A film and what has become of it."""

    id: str
    name: str
    """Name that people know the film by: a text for people, not a name of a file."""
    source: str
    """Name of the film's file in the job's folder."""
    added_s: float
    """Seconds since 1970 at which it was added."""
    settings: Settings = field(default_factory=Settings)
    """Settings of the last start."""
    state: State = "ready"
    target: str | None = None
    """Name of the output's file in the job's folder, once it was started."""
    result: str | None = None
    """Name of a finished output; that of an earlier start stays until a later one is done."""
    message: str = ""
    """Last result or error, a sentence or some lines for people."""
    finished: int = 0
    """Frames that are finished on disk, where it was begun and is not done."""

    def as_json(self) -> str:
        """Text of ``job.json``; the finished frames are counted anew where they lie."""
        values = asdict(self)
        del values["finished"]
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Job of such a text. Raises ValueError, TypeError or KeyError for any other."""
        values = dict(json.loads(text))
        values["settings"] = Settings(**values["settings"])
        return cls(**values)

    def check(self, job_id: str) -> None:
        """Raise ValueError unless this is a job of that id, whose files lie in its own folder."""
        files = (self.source, *(name for name in (self.target, self.result) if name is not None))
        if self.id != job_id or self.state not in get_args(State) or not isinstance(self.name, str):
            raise ValueError("it is no job, or another")
        if not all(isinstance(name, str) and _is_plain(name) for name in files):
            raise ValueError("it names another place")

    @property
    def can_go_on(self) -> bool:
        """Whether there is something to resume."""
        return self.state == "stopped" or (self.state == "failed" and self.finished > 0)

    @property
    def result_name(self) -> str:
        """Name that the output is downloaded under: the film's, with what the library added to the source's."""
        ending = (self.result or self.target or "").removeprefix(Path(self.source).stem)
        return f"{Path(self.name).stem or 'film'}{ending}"


def parse_quality(text: str) -> int | None:
    """Quality as people write it; None for none. Raises ConfigError for anything but a whole number."""
    if not text.strip():
        return None
    if not re.fullmatch(r"[0-9]{1,3}", text.strip()):
        raise ConfigError(f"'{text}' is no quality; give a whole number, lower for better, or leave it empty")
    return int(text)


def shown_name(text: str) -> str:
    """A film's name as it is shown: the last part of a path, without what would disturb a line of text."""
    last = re.split(r"[/\\]", text)[-1]
    kept = "".join(character for character in last if character.isprintable() and not "\ud800" <= character <= "\udfff")
    kept = kept.strip()
    if len(kept) > LONGEST_SHOWN:
        suffix = Path(kept).suffix[:10]
        kept = kept[: LONGEST_SHOWN - len(suffix) - 1] + "…" + suffix
    return kept if kept.strip(".") else "film"


class JobStore(Closing):
    """The folder of all jobs, held by one server at a time. Its methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, or make it.

        Raises:
            OutputError: another server holds it, or it cannot be written.
        """
        self.folder = folder.absolute()
        self.uploads = self.folder / "uploads"
        """Folder in which films arrive; what is in it and no job is of no use after a while."""
        self.damaged: list[Path] = []
        """Folders whose ``job.json`` cannot be read; they are left alone."""
        self._access = threading.RLock()
        self._jobs: dict[str, FilmJob] = {}
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = Lock(
                self.folder / "lock",
                f"another ksnet-deploy web is at work in {self.folder}; stop it first, or give another --folder",
            )
            self.sweep(0)
            self.uploads.mkdir(exist_ok=True, mode=0o700)
            for path in sorted(self.folder.iterdir()):
                if ID.fullmatch(path.name) and path.is_dir():
                    self._load(path)

    def _writing(self) -> AbstractContextManager[None]:
        """Context that turns what the file system refuses into an OutputError."""
        remedy = "make room there and give access, or give another with --folder"
        return writing(f"the folder of the jobs, {self.folder},", remedy)

    def _load(self, path: Path) -> None:
        if not (path / "job.json").exists():  # killed while it was added or removed
            shutil.rmtree(path, ignore_errors=True)
            return
        try:
            job = FilmJob.from_json((path / "job.json").read_text(encoding="utf-8"))
            job.check(path.name)
        except (OSError, ValueError, TypeError, KeyError):
            self.damaged.append(path)
            return
        self._jobs[job.id] = self._counted(job)

    def _counted(self, job: FilmJob) -> FilmJob:
        """A job with its finished frames, counted where they lie."""
        if job.target is None or job.state not in ("stopped", "failed"):
            return replace(job, finished=0)
        return replace(job, finished=finished_frames(self.folder / job.id / job.target))

    def all(self) -> list[FilmJob]:
        """All jobs, the newest first."""
        with self._access:
            return sorted(self._jobs.values(), key=lambda job: job.added_s, reverse=True)

    def get(self, job_id: str) -> FilmJob:
        """The job of an id. Raises InputError where there is none."""
        with self._access:
            if job_id not in self._jobs:
                raise InputError("this film is no longer in the list; another person may have removed it")
            return self._jobs[job_id]

    def place(self, job: FilmJob) -> Path:
        """Folder of a job."""
        return self.folder / job.id

    def source(self, job: FilmJob) -> Path:
        """The film."""
        return self.place(job) / job.source

    def result(self, job: FilmJob) -> Path | None:
        """The output, where there is one."""
        path = None if job.result is None else self.place(job) / job.result
        return path if path is not None and path.is_file() else None

    def preview_page(self, job: FilmJob) -> Path:
        """The page of the job's preview, whether there is one yet or not."""
        return self.place(job) / "preview.html"

    def add(self, upload: Path, name: str) -> FilmJob:
        """Make a job of a film that has arrived in :attr:`uploads`.

        Raises:
            InputError: the file is somewhere else, is no film, or has its frames from other files.
            OutputError: the disk is full, or cannot be written.
        """
        if not upload.resolve().is_relative_to(self.uploads.resolve()) or not upload.is_file():
            raise InputError("the film has not arrived; drop it once more")
        shown = shown_name(name)
        try:
            check_self_contained(upload)
        except InputError as error:
            raise InputError(str(error).replace(str(upload), shown)) from error
        suffix = Path(shown).suffix.lower()
        job = FilmJob(
            secrets.token_hex(6),
            shown,
            f"film{suffix if suffix in VIDEO_SUFFIXES | PICTURE_SUFFIXES else ''}",
            time.time(),
        )
        with self._access, self._writing():
            self.place(job).mkdir(mode=0o700)
            try:
                _give_second_name(upload, self.source(job))
                self._write(job)
            except OSError:
                shutil.rmtree(self.place(job), ignore_errors=True)
                raise
        return job

    def change(self, job_id: str, **values: Any) -> FilmJob:
        """Change some of a job's values, on disk too. Raises InputError, OutputError.

        The finished frames stay as they were last counted; :meth:`count` is for when a work has ended.
        """
        with self._access, self._writing():
            job = replace(self.get(job_id), **values)
            self._write(job)
            return job

    def count(self, job_id: str) -> None:
        """Count a job's finished frames anew, which reads all of them. Raises InputError."""
        counted = self._counted(self.get(job_id)).finished
        with self._access:
            self._jobs[job_id] = replace(self.get(job_id), finished=counted)

    def _write(self, job: FilmJob) -> None:
        with replacing(self.place(job) / "job.json") as temporary:
            temporary.write_text(job.as_json(), encoding="utf-8")
        self._jobs[job.id] = job

    def discard_unfinished(self, job: FilmJob) -> None:
        """Throw away the finished frames of an output that is not done."""
        if job.target is not None:
            shutil.rmtree(job_folder(self.place(job) / job.target), ignore_errors=True)

    def remove(self, job_id: str) -> None:
        """Remove a job with all its files. Raises InputError, OutputError."""
        with self._access, self._writing():
            job = self.get(job_id)
            (self.place(job) / "job.json").unlink(missing_ok=True)  # first: what is left of it then is swept away
            shutil.rmtree(self.place(job), ignore_errors=True)
            del self._jobs[job_id]

    def sweep(self, older_than_s: float = 600) -> None:
        """Remove uploads that became no job."""
        before = time.time() - older_than_s
        for path in self.uploads.glob("*"):
            if path.stat().st_mtime <= before:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another server have the folder."""
        self._lock.release()


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file in the folder itself."""
    return bool(name) and name not in (".", "..") and not re.search(r"[/\\\0]", name)


def _give_second_name(path: Path, new: Path) -> None:
    """Make a file known under a second name; it is copied where the file system has no such thing."""
    try:
        os.link(path, new)
    except OSError:
        shutil.copyfile(path, new)
