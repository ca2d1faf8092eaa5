"""Turns: one work at a time, stopped and resumed without a loss, and what is said of what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command
import numpy as np
import pytest
from runners import FadingRunner
from webjobs import add_film, wait_until

from ksnet_deploy.base.errors import ConfigError, InputError, KSNetError
from ksnet_deploy.upscale.job import finished_frames
from ksnet_deploy.web.jobs import FilmJob, JobStore, Settings
from ksnet_deploy.web.progress import Progress
from ksnet_deploy.web.turns import Turns

STEP = FadingRunner._step
FRAMES, SEGMENT = 60, 24


class Gate:
    """Lets a network do so many steps, and then waits."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self.open_until, self.steps = 0, 0

    def let(self, steps: int) -> None:
        with self._change:
            self.open_until = steps
            self._change.notify_all()

    def step(self, runner: FadingRunner, lr: Any) -> Any:
        with self._change:
            self.steps += 1
            assert self._change.wait_for(lambda: self.steps <= self.open_until, 20)
        return STEP(runner, lr)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()

    def step(runner: FadingRunner, lr: Any) -> Any:
        return gate.step(runner, lr)

    monkeypatch.setattr(FadingRunner, "_step", step)
    yield gate
    gate.let(10**9)


def ended(turns: Turns, job: FilmJob) -> None:
    wait_until(lambda: turns.of(job.id) is None, "the work ends")


def on_disk(store: JobStore, job: FilmJob) -> int:
    """Frames that are finished whatever happens now."""
    target = store.get(job.id).target
    return 0 if target is None else finished_frames(store.place(job) / target)


def by_command(film: Path, target: Path, *options: object) -> bytes:
    done = command.run("upscale", film, "-o", target, *options)
    assert done.returncode == 0, done.stderr
    return target.read_bytes()


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (Settings(), ""),
        (Settings(model="lite", codec="ffv1", size="x2"), "-m lite --codec ffv1 --scale 2"),
        (Settings(size="32p", start="1", end="0:02"), "--target 32p --start 1 --end 2"),
    ],
)
def test_a_result_is_that_of_the_command_line_to_the_byte(
    store: JobStore, turns: Turns, long_film: Path, tmp_path: Path, settings: Settings, options: str
) -> None:
    job = add_film(store, long_film, "My film.mp4")
    turns.start(job.id, settings)
    ended(turns, job)
    job = store.get(job.id)
    assert job.state == "done", job.message
    assert job.message.startswith("My film_") and "frames of" in job.message  # noqa: PT018
    assert str(store.folder) not in job.message
    assert ("The network is lite-video: the source is compressed" in job.message) == (settings.model is None)
    found = store.result(job)
    assert found is not None
    assert found.read_bytes() == by_command(long_film, tmp_path / f"o{found.suffix}", *options.split())
    assert [path.name for path in store.place(job).iterdir() if path.name.startswith(".")] == []


def test_a_stopped_work_keeps_its_segments_and_goes_on_to_the_same_bytes(
    store: JobStore, turns: Turns, long_film: Path, tmp_path: Path, gate: Gate
) -> None:
    job = add_film(store, long_film)
    turns.start(job.id, Settings(quality=30))
    gate.let(SEGMENT + 10)
    wait_until(lambda: gate.steps > SEGMENT + 10, "some steps")
    turn = turns.of(job.id)
    assert turn is not None
    now = turn.progress.standing()
    assert (now.done, now.total) == (SEGMENT + 10, FRAMES)
    assert turn.progress.picture is not None
    assert turn.progress.picture[0] == SEGMENT + 10
    assert turn.progress.picture[1].shape == (64, 96, 3)
    wait_until(lambda: on_disk(store, job) == SEGMENT, "a segment on disk")
    turns.stop(job.id)
    gate.let(10**9)
    ended(turns, job)
    assert (store.get(job.id).state, store.get(job.id).finished) == ("stopped", SEGMENT)
    gate.steps = 0
    turns.resume(job.id)
    ended(turns, job)
    assert gate.steps == FRAMES - SEGMENT
    found = store.result(store.get(job.id))
    assert found is not None
    assert found.read_bytes() == by_command(long_film, tmp_path / "o.mp4", "--crf", 30)


@pytest.mark.usefixtures("costless")
def test_a_work_of_a_server_that_is_gone_is_interrupted_and_can_go_on(
    tmp_path: Path, long_film: Path, gate: Gate
) -> None:
    store = JobStore(tmp_path / "jobs")
    turns = Turns(store)
    job = add_film(store, long_film)
    other = add_film(store, long_film)
    turns.start(job.id, Settings())
    turns.start(other.id, Settings())
    gate.let(SEGMENT + 5)
    wait_until(lambda: gate.steps > SEGMENT + 5, "some steps")
    wait_until(lambda: on_disk(store, job) == SEGMENT, "a segment on disk")
    store.close()  # all that the system does for a process that was killed
    with JobStore(tmp_path / "jobs") as again:
        assert (again.get(job.id).state, again.get(job.id).finished) == ("stopped", SEGMENT)
        assert (again.get(other.id).state, again.get(other.id).finished) == ("stopped", 0)
    gate.let(10**9)
    turns.close()


def test_one_work_at_a_time_in_the_order_that_they_were_asked_for(
    store: JobStore, turns: Turns, clip: Path, gate: Gate
) -> None:
    first, second, third = (add_film(store, clip) for _ in range(3))
    for job in (first, second, third):
        turns.start(job.id, Settings())
    wait_until(lambda: gate.steps > 0, "the first begins")
    works = [turns.of(job.id) for job in (first, second, third)]
    assert [turn is not None and turn.started for turn in works] == [True, False, False]
    assert [turns.before(turn) for turn in works if turn is not None] == [0, 1, 2]
    turns.stop(second.id)
    assert turns.of(second.id) is None
    assert (store.get(second.id).state, store.get(second.id).finished) == ("stopped", 0)
    gate.let(10**9)
    ended(turns, third)
    assert [store.get(job.id).state for job in (first, second, third)] == ["done", "stopped", "done"]
    turns.resume(second.id)
    ended(turns, second)
    assert store.get(second.id).state == "done"


def test_each_device_has_a_work_of_its_own(
    store: JobStore, turns: Turns, clip: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksnet_deploy.web.turns.device_of", lambda settings: settings.model)
    jobs = [add_film(store, clip) for _ in range(2)]
    for job, name in zip(jobs, ("lite", "uni"), strict=True):
        turns.start(job.id, Settings(model=name))
    wait_until(lambda: gate.steps == 2, "both begin")
    gate.let(10**9)
    for job in jobs:
        ended(turns, job)


def test_what_is_at_work_can_be_neither_started_nor_removed(
    store: JobStore, turns: Turns, clip: Path, gate: Gate
) -> None:
    job = add_film(store, clip)
    turns.start(job.id, Settings())
    asked = (
        lambda: turns.start(job.id, Settings()),
        lambda: turns.resume(job.id),
        lambda: turns.preview(job.id, Settings(), ["lite"]),
        lambda: turns.remove(job.id),
    )
    for ask in asked:
        with pytest.raises(ConfigError, match="cancel it first"):
            ask()
    gate.let(10**9)
    ended(turns, job)
    turns.remove(job.id)
    for gone in (turns.resume, turns.remove):
        with pytest.raises(InputError, match="no longer in the list"):
            gone(job.id)
    turns.stop(job.id)


def test_the_library_s_sentence_is_told_with_the_film_s_name(store: JobStore, turns: Turns, clip: Path) -> None:
    job = add_film(store, clip, "Mine.mp4")
    store.source(job).write_bytes(b"broken since")
    turns.start(job.id, Settings())
    ended(turns, job)
    job = store.get(job.id)
    assert job.state == "failed"
    assert job.message.startswith("Mine.mp4 cannot be read as a video")
    assert "\n" not in job.message
    store.source(job).unlink()
    turns.preview(job.id, Settings(), ["lite"])
    ended(turns, job)
    assert store.get(job.id).message.startswith("Mine.mp4 does not exist")


def test_a_fault_of_the_program_ends_one_work_and_not_the_others(
    store: JobStore, turns: Turns, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(_runner: object, _lr: object) -> None:
        raise ZeroDivisionError("by zero")

    job = add_film(store, clip)
    with monkeypatch.context() as patch:
        patch.setattr(FadingRunner, "_step", faulty)
        turns.start(job.id, Settings())
        ended(turns, job)
    assert "ZeroDivisionError: by zero" in store.get(job.id).message
    assert "Traceback" in capsys.readouterr().err
    turns.start(job.id, Settings())
    ended(turns, job)
    assert store.get(job.id).state == "done"


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "/etc/passwd"},
        {"model": "../lite"},
        {"model": "mine.pth"},
        {"codec": "rawvideo"},
        {"codec": "h264 -f null"},
        {"quality": 99},
        {"size": "x9"},
        {"size": "huge"},
        {"start": "soon"},
        {"start": "2", "end": "1"},
        {"device": "tpu"},
    ],
)
def test_settings_that_the_page_does_not_offer_are_refused(
    store: JobStore, turns: Turns, clip: Path, settings: dict[str, Any]
) -> None:
    job = add_film(store, clip)
    with pytest.raises(KSNetError):
        turns.start(job.id, Settings(**settings))
    with pytest.raises(KSNetError):
        turns.preview(job.id, Settings(**settings), ["lite"])
    assert store.get(job.id) == job
    assert turns.of(job.id) is None


@pytest.mark.parametrize("name", ["/etc/passwd", "x.onnx", ""])
def test_a_preview_by_a_file_is_refused(store: JobStore, turns: Turns, clip: Path, name: str) -> None:
    job = add_film(store, clip)
    with pytest.raises(ConfigError, match="there is no network"):
        turns.preview(job.id, Settings(), ["lite", name])


def test_a_preview_shows_the_film_under_its_name_and_leaves_the_job_as_it_is(
    store: JobStore, turns: Turns, clip: Path, gate: Gate
) -> None:
    job = add_film(store, clip, "<b>Mine.mp4")
    turns.preview(job.id, Settings(start="0.1"), ["lite", "uni"])
    wait_until(lambda: gate.steps > 0, "it begins")
    turns.stop(job.id)
    gate.let(10**9)
    ended(turns, job)
    assert not store.preview_page(job).exists()
    turns.preview(job.id, Settings(start="0.1"), ["lite", "uni"])
    ended(turns, job)
    page = store.preview_page(job).read_text()
    assert "&lt;b&gt;Mine.mp4: preview" in page
    assert str(store.folder) not in page
    for name in ("lite", "uni", "h:mm:ss"):
        assert name in page
    job = store.get(job.id)
    assert (job.state, job.settings.start, job.message) == ("ready", "0.1", "")


def test_an_earlier_result_stays_until_a_later_one_is_done(
    store: JobStore, turns: Turns, clip: Path, gate: Gate
) -> None:
    job = add_film(store, clip)
    gate.let(10**9)
    turns.start(job.id, Settings(codec="h264"))
    ended(turns, job)
    first = store.result(store.get(job.id))
    assert first is not None
    gate.steps, gate.open_until = 0, 2
    turns.start(job.id, Settings(codec="vp9", size="x2"))
    wait_until(lambda: gate.steps > 2, "it begins")
    assert store.result(store.get(job.id)) == first
    turns.stop(job.id)
    gate.let(10**9)
    ended(turns, job)
    assert store.result(store.get(job.id)) == first
    assert first.exists()
    turns.start(job.id, Settings(codec="vp9", size="x2"))
    ended(turns, job)
    assert store.result(store.get(job.id)) not in (None, first)
    assert not first.exists()


def test_the_last_frame_is_shown_as_players_turn_it(tmp_path: Path, store: JobStore, turns: Turns) -> None:
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "photo.jpg", exif=exif)
    job = add_film(store, tmp_path / "photo.jpg")
    kept: list[Progress] = []
    show = Progress.show
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "show", lambda progress, shown: (kept.append(progress), show(progress, shown)))
        turns.start(job.id, Settings())
        ended(turns, job)
    assert store.get(job.id).state == "done"
    assert kept[0].picture is not None
    assert kept[0].picture[1].shape == (192, 128, 3)


@pytest.mark.usefixtures("costless")
def test_closing_stops_what_is_at_work_and_forgets_what_waits(store: JobStore, clip: Path, gate: Gate) -> None:
    first, second = add_film(store, clip), add_film(store, clip)
    with Turns(store) as turns:
        for job in (first, second):
            turns.start(job.id, Settings())
        wait_until(lambda: gate.steps > 0, "it begins")
        gate.let(1)
        closing = threading.Thread(target=turns.close)
        closing.start()
        gate.let(10**9)
        closing.join(20)
    assert [store.get(job.id).state for job in (first, second)] == ["stopped", "stopped"]
