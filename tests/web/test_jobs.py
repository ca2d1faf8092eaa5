"""Jobs on disk: names that are not trusted, files that stay in their place, and what outlives the server."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from webjobs import add_film, arrived

from ksnet_deploy.base.errors import InputError, OutputError
from ksnet_deploy.web.jobs import FilmJob, JobStore, Settings, shown_name

HOSTILE = '"><img src=x onerror=alert(1)>.mp4'


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("holiday.mp4", "holiday.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\anna\\film.mkv", "film.mkv"),
        ("/etc/", "film"),
        ("..", "film"),
        ("", "film"),
        ("a\nb\x00c\x1b[31m.mp4", "abc[31m.mp4"),
        ("evil\u202egpj.mp4", "evilgpj.mp4"),
        ("broken\udcff.mp4", "broken.mp4"),
        ("Ärger im Büro 映画.mp4", "Ärger im Büro 映画.mp4"),
        (HOSTILE, HOSTILE),
        ("l" * 500 + ".mp4", "l" * 115 + "….mp4"),
    ],
)
def test_a_name_is_shown_as_a_line_of_text(said: str, shown: str) -> None:
    assert shown_name(said) == shown


@pytest.mark.parametrize("name", [HOSTILE, "../../x.mp4", "/etc/passwd", "film.mp4/..", "a" * 300, "CON.mp4", "x.sh"])
def test_a_film_is_stored_under_an_id_whatever_it_is_called(store: JobStore, clip: Path, name: str) -> None:
    before = {path for path in store.folder.parent.rglob("*") if path.is_file()}
    job = add_film(store, clip, name)
    assert store.source(job).read_bytes() == clip.read_bytes()
    assert store.source(job).parent == store.folder / job.id
    assert store.source(job).name in ("film", "film.mp4")
    new = {path for path in store.folder.parent.rglob("*") if path.is_file()} - before
    assert {path.relative_to(store.folder).parts[0] for path in new} == {job.id, "uploads"}


def test_only_what_arrived_as_an_upload_becomes_a_job(store: JobStore, clip: Path) -> None:
    link = store.uploads / "link.mp4"
    link.symlink_to(clip)
    for place in (clip, link, store.uploads / ".." / "lock", store.uploads / "none.mp4", Path("/etc/passwd")):
        with pytest.raises(InputError, match="has not arrived"):
            store.add(place, "film.mp4")
    assert store.all() == []


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile {film}\n",
        "ffconcat version 1.0\nfile clip.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n",
        "Not a film at all.\n",
        "",
    ],
)
def test_what_is_no_film_of_its_own_is_refused_by_its_name(
    store: JobStore, clip: Path, tmp_path: Path, text: str
) -> None:
    for name in ("list.mp4", "list.m3u8", "list"):
        playlist = tmp_path / name
        playlist.write_text(text.format(film=clip))
        with pytest.raises(InputError) as caught:
            add_film(store, playlist, "list.m3u8 of mine")
        assert str(caught.value).startswith("list.m3u8 of mine")
        assert str(store.folder) not in str(caught.value)
    assert [path.name for path in store.folder.iterdir() if path.name not in ("lock", "uploads")] == []


def test_jobs_outlive_the_server_newest_first(tmp_path: Path, clip: Path) -> None:
    with JobStore(tmp_path / "jobs") as store:
        first, second = add_film(store, clip, "first.mp4"), add_film(store, clip, HOSTILE)
        store.change(first.id, settings=Settings(model="lite", quality=20, start="1:30"), state="failed", message="why")
    with JobStore(tmp_path / "jobs") as store:
        assert [job.name for job in store.all()] == [HOSTILE, "first.mp4"]
        found = store.get(first.id)
        assert found.settings == Settings(model="lite", quality=20, start="1:30")
        assert (found.state, found.message) == ("failed", "why")
        assert store.get(second.id) == second


def test_one_server_at_a_time_has_the_folder(store: JobStore) -> None:
    with pytest.raises(OutputError, match=r"another ksnet-deploy web is at work in .*--folder"):
        JobStore(store.folder)


def test_a_folder_that_is_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written .*--folder"):
        JobStore(tmp_path / "jobs")


@pytest.mark.parametrize(
    "change",
    [
        {"source": "../../secret"},
        {"source": "/etc/passwd"},
        {"target": "../x.mp4"},
        {"result": ".."},
        {"id": "0" * 12},
        {"unknown": 1},
        {"settings": {"model": "lite", "shell": "sh"}},
        {"name": None, "source": ""},
    ],
)
def test_a_job_that_names_another_place_or_is_damaged_is_left_alone(
    tmp_path: Path, clip: Path, change: dict[str, Any]
) -> None:
    with JobStore(tmp_path / "jobs") as store:
        job = add_film(store, clip)
    path = store.place(job) / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with JobStore(tmp_path / "jobs") as store:
        assert store.all() == []
        assert store.damaged == [store.place(job)]
    path.write_text("{")
    with JobStore(tmp_path / "jobs") as store:
        assert store.damaged == [store.place(job)]
    assert store.source(job).exists()


def test_what_was_killed_while_it_was_added_is_removed(tmp_path: Path, clip: Path) -> None:
    with JobStore(tmp_path / "jobs") as store:
        job = add_film(store, clip)
    (store.place(job) / "job.json").unlink()
    with JobStore(tmp_path / "jobs") as store:
        assert store.all() == []
    assert not store.place(job).exists()
    assert list(store.uploads.iterdir()) == []


def test_a_full_disk_is_said_and_loses_nothing(store: JobStore, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = add_film(store, clip)
    upload = arrived(store, clip)

    def full(_old: object, _new: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for do in (lambda: store.change(job.id, message="new"), lambda: store.add(upload, "film.mp4")):
        with pytest.raises(OutputError, match="No space left on device"):
            do()
    monkeypatch.undo()
    assert store.all() == [job]
    with_lock = {"lock", "uploads", job.id}
    assert {path.name for path in store.folder.iterdir()} == with_lock
    assert FilmJob.from_json((store.place(job) / "job.json").read_text()) == job


def test_old_uploads_are_swept_away_and_new_ones_stay(store: JobStore, clip: Path) -> None:
    job = add_film(store, clip)
    old = arrived(store, clip, "old.mp4").parent
    os.utime(old, (time.time() - 3600,) * 2)
    new = store.uploads / "new"
    new.mkdir()
    store.sweep()
    assert not old.exists()
    assert new.exists()
    assert store.source(job).read_bytes() == clip.read_bytes()


def test_a_removed_job_is_gone_with_its_files(store: JobStore, clip: Path) -> None:
    job, other = add_film(store, clip), add_film(store, clip)
    store.remove(job.id)
    assert store.all() == [other]
    assert not store.place(job).exists()
    for call in (store.get, store.remove):
        with pytest.raises(InputError, match="no longer in the list"):
            call(job.id)
    for job_id in ("", "..", "../uploads", "uploads"):
        with pytest.raises(InputError):
            store.remove(job_id)
    assert store.uploads.exists()


def test_a_result_is_named_after_the_film(store: JobStore, clip: Path) -> None:
    job = add_film(store, clip, "Ärger.mov")
    assert store.result(job) is None
    job = store.change(job.id, target="film_90s-105s_x4.mp4", result="film_90s-105s_x4.mp4")
    assert job.result_name == "Ärger_90s-105s_x4.mp4"
    assert store.result(job) is None  # its file is gone
