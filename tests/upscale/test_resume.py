"""A job that was interrupted goes on, and its result is that of an uninterrupted one, to the byte."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from interrupted import stop_after
from media import make_video, presentation_times
from numpy.typing import NDArray
from runners import FadingRunner

from ksnet_deploy.base.errors import InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.hidden import temporary_beside
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.upscale.job import Job, job_folder, unfinished_frames
from ksnet_deploy.upscale.output import OutputFile
from ksnet_deploy.upscale.result import Events, UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.scenes import GivenCuts, NoCuts, SceneDetector, cuts_in_words
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.picture import write_png
from ksnet_deploy.video.writing.presets import choose_encoder

SIZE = FrameSize(16, 24)
SHORTEST, LONGEST = 6, 30
"""Frames of a segment; a quarter of the usual, for a quarter of the work."""
CUT = 38
FRAMES = 112


@pytest.fixture(scope="module", autouse=True)
def _short_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ksnet_deploy.upscale.plan.SHORTEST_SEGMENT", SHORTEST)
        patch.setattr("ksnet_deploy.upscale.plan.LONGEST_SEGMENT", LONGEST)
        yield


class Cuts:
    """A cut at a known frame."""

    def __init__(self) -> None:
        self._index = -1

    def starts_scene(self, _rgb: NDArray[Any]) -> bool:
        self._index += 1
        return self._index in (0, CUT)

    def __repr__(self) -> str:
        return "Cuts()"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames with sound; some frames shown for longer than others."""
    pts = [512 * i + 700 * (i // 22) for i in range(FRAMES)]
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", SIZE, pts=pts, sound=True)


def upscale(film: Path, target: Path, open_runner: Any = FadingRunner, **settings: Any) -> UpscaleResult:
    return upscale_video(film, target, Upscaler(open_runner=open_runner), detector=Cuts(), **settings)


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return upscale(film, tmp_path_factory.mktemp("whole") / "o.mp4").target.read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def interrupted(film: Path, target: Path, frames: int, **settings: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        upscale(film, target, events=stop_after(frames), **settings)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_two_runs_give_the_same_bytes(film: Path, tmp_path: Path, suffix: str) -> None:
    first, second = (upscale(film, tmp_path / f"{name}{suffix}").target.read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize("stops", [[36], [50, 66], [99], [43, 43, 43]])
def test_an_interrupted_job_goes_on_to_the_same_bytes(
    film: Path, tmp_path: Path, whole: bytes, stops: list[int]
) -> None:
    target = tmp_path / "o.mp4"
    done = 0
    for stop in stops:
        interrupted(film, target, stop - done)
        assert not target.exists()
        lines = (job_folder(target) / "journal.jsonl").read_text().splitlines()
        done = sum(json.loads(line)["frames"] for line in lines)
    result = upscale(film, target)
    assert result.target.read_bytes() == whole
    assert (result.frames, result.resumed_frames) == (FRAMES, done)
    assert result.steps == FRAMES - done - 0
    assert names(tmp_path) == {"o.mp4"}


def test_a_job_goes_on_after_a_disk_that_lost_its_last_writes(film: Path, tmp_path: Path, whole: bytes) -> None:
    target = tmp_path / "o.mp4"
    interrupted(film, target, 99)
    folder = job_folder(target)
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) >= 3
    last = json.loads(lines[-1])
    damaged = folder / last["file"]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    journal.write_bytes(b"".join(lines) + b'{"frames": 12')
    result = upscale(film, target)
    assert result.target.read_bytes() == whole
    assert result.resumed_frames < sum(json.loads(line)["frames"] for line in lines)


@pytest.mark.parametrize("damage", ["state", "file", "frames"])
def test_a_job_does_not_go_on_from_what_is_damaged(film: Path, tmp_path: Path, damage: str) -> None:
    target = tmp_path / "o.mp4"
    interrupted(film, target, 36)
    identity = json.loads((job_folder(target) / "job.json").read_text())
    assert unfinished_frames(target, identity) == LONGEST
    journal = job_folder(target) / "journal.jsonl"
    line = json.loads(journal.read_text())
    if damage == "state":
        state = job_folder(target) / line["state"]
        state.write_bytes(state.read_bytes()[:-1] + b"?")
    else:
        journal.write_text(json.dumps(line | {damage: {"file": 7, "frames": "x"}[damage]}) + "\n")
    assert unfinished_frames(target, identity) == 0


def test_segments_end_at_cuts_and_never_grow_long(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.mp4"
    interrupted(film, target, FRAMES - 1)  # the encoder is some frames behind
    lines = [json.loads(line) for line in (job_folder(target) / "journal.jsonl").read_text().splitlines()]
    assert [line["frames"] for line in lines] == [
        LONGEST,
        CUT - LONGEST,
        LONGEST,
        LONGEST,
    ]
    assert SHORTEST <= CUT - LONGEST
    # A scene that begins needs no state; only the last of the others is kept.
    assert [line["state"] is None for line in lines] == [False, True, False, False]
    assert names(job_folder(target)) == {"lock", "job.json", "journal.jsonl", lines[-1]["state"]} | {
        line["file"] for line in lines
    }


def test_other_settings_do_not_go_on_with_the_job(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.mp4"
    interrupted(film, target, 36)
    other = choose_encoder("h264", quality=30)
    with pytest.raises(OutputError, match=r"encoder: .*crf=18.* -> .*crf=30.*--no-resume"):
        upscale(film, target, codec=other)
    assert len((job_folder(target) / "journal.jsonl").read_text().splitlines()) == 1
    result = upscale(film, target, codec=other, resume=False)
    assert (result.resumed_frames, names(tmp_path)) == (0, {"o.mp4"})


def test_a_changed_source_is_noticed(film: Path, tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    source.write_bytes(film.read_bytes())
    interrupted(source, tmp_path / "o.mp4", 50)
    make_video(source, SIZE, frames=75)
    with pytest.raises(OutputError, match=r"other settings \(.*source"):
        upscale(source, tmp_path / "o.mp4")


def test_without_resume_nothing_is_left(film: Path, tmp_path: Path) -> None:
    interrupted(film, tmp_path / "o.mp4", 75, resume=False)
    assert names(tmp_path) == set()


def test_a_run_that_finished_no_segment_leaves_nothing(film: Path, tmp_path: Path) -> None:
    interrupted(film, tmp_path / "o.mp4", 20)
    assert names(tmp_path) == set()


def test_two_processes_do_not_write_one_target(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.mp4"

    def second() -> None:
        with pytest.raises(OutputError, match="another process is already writing"):
            upscale(film, target)

    steps = iter([None] * 5)
    result = upscale(film, target, events=Events(on_frame=lambda: second() if next(steps, 0) is None else None))
    assert result.frames == FRAMES


def test_duplicates_cost_no_step_and_show_the_same_picture(tmp_path: Path) -> None:
    source = tmp_path / "v.mkv"
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)
    shown = [0, 0, 0, 1, 2, 2, 3, 4, 4, 0]
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv444p"
        for index in shown:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[index])))
        container.mux(stream.encode(None))
    result = upscale_video(
        source, None, Upscaler(open_runner=FadingRunner), detector=Cuts(), codec=choose_encoder("ffv1")
    )
    assert (result.frames, result.duplicates, result.steps) == (10, 4, 6)
    with av.open(str(result.target)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    same = [bool((a == b).all()) for a, b in itertools.pairwise(frames)]
    assert same == [a == b for a, b in itertools.pairwise(shown)]


def _run_slowly(film: Path, target: Path) -> None:
    FadingRunner.delay_s = 0.016
    upscale(film, target)


def kill_at_random(film: Path, target: Path, kills: int, seed: int) -> Iterator[int]:
    """Run and kill, ``kills`` times; yields the frames that were safe each time."""
    rng = np.random.default_rng(seed)
    spawn = multiprocessing.get_context("fork")
    for _ in range(kills):
        child = spawn.Process(target=_run_slowly, args=(film, target))
        child.start()
        time.sleep(float(rng.uniform(0.05, 1.6)))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        journal = job_folder(target) / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        yield sum(json.loads(line)["frames"] for line in lines)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_at_random_moments_changes_no_byte(film: Path, tmp_path: Path, whole: bytes, kills: int) -> None:
    target = tmp_path / "o.mp4"
    finished, safe = 0, [0]
    for frames in kill_at_random(film, target, kills, seed=kills):
        safe.append(frames)
        if target.exists():  # the kill came after the end
            assert target.read_bytes() == whole
            target.unlink()
            finished += 1
    assert finished < kills
    result = upscale(film, target)
    assert result.resumed_frames == safe[-1]  # what the journal named after the last kill
    assert result.target.read_bytes() == whole
    assert names(tmp_path) == {"o.mp4"}


def _end_in_the_probe(film: Path, target: Path) -> None:
    OutputFile.try_out = _begin_and_die  # type: ignore[method-assign]
    upscale(film, target)


def _begin_and_die(output: OutputFile) -> None:
    temporary_beside(output._target).touch()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_a_kill_while_the_tracks_are_tried_leaves_nothing_for_good(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.mp4"
    child = multiprocessing.get_context("fork").Process(target=_end_in_the_probe, args=(film, target))
    child.start()
    child.join()
    assert names(tmp_path) == {f".o.mp4.{child.pid}.part"}
    upscale(film, target)
    assert names(tmp_path) == {"o.mp4"}


@pytest.mark.slow
def test_a_job_in_tiles_goes_on_in_the_same_tiles(
    plain: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksnet_deploy.upscale.plan.LONGEST_SEGMENT", 4)
    monkeypatch.setattr("ksnet_deploy.upscale.memory.BASE_BYTES", 0)  # else it is most of what frames so small need
    source = make_video(tmp_path / "v.mkv", FrameSize(40, 140), frames=12)

    def run(target: str, available: int, events: Events | None = None) -> UpscaleResult:
        monkeypatch.setattr("ksnet_deploy.upscale.memory.available_memory", lambda: available)
        return upscale_video(source, tmp_path / target, Upscaler(str(plain.path)), detector=NoCuts(), events=events)

    little, enough = 51_000_000, 10**9
    expected = run("once.mkv", little)
    assert expected.tiles is not None
    with pytest.raises(KeyboardInterrupt):
        run("twice.mkv", little, stop_after(9))
    resumed = run("twice.mkv", enough)
    assert (resumed.resumed_frames, resumed.tiles) == (8, expected.tiles)
    assert resumed.target.read_bytes() == expected.target.read_bytes()


class Breaking(Cuts):
    """Stands for a source that cannot be read beyond a frame."""

    def starts_scene(self, rgb: NDArray[Any]) -> bool:
        if self._index == CUT + 8:
            raise InputError("the timestamps jump back")
        return super().starts_scene(rgb)


def test_what_is_finished_of_a_source_that_breaks_off_can_be_kept(film: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jump back"):
        upscale_video(
            film, tmp_path / "o.mp4", Upscaler(open_runner=FadingRunner), detector=Breaking(), keep_partial=True
        )
    kept = presentation_times(tmp_path / "o.partial.mp4")
    assert len(kept) >= CUT
    assert kept == presentation_times(film)[: len(kept)]


def test_an_interruption_before_the_first_frame_leaves_nothing(film: Path, tmp_path: Path) -> None:
    def interrupted(*_: object) -> FadingRunner:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_video(film, tmp_path / "o.mp4", Upscaler(open_runner=interrupted), keep_partial=True)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b'{"source": '])
def test_a_damaged_job_is_one_sentence_and_can_be_thrown_away(film: Path, tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "o.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale(film, target, events=stop_after(50))
    (job_folder(target) / "job.json").write_bytes(content)
    (job_folder(target) / "folder").mkdir()
    with pytest.raises(OutputError, match=r"is damaged .*; pass --no-resume to throw it away"):
        upscale(film, target)
    assert upscale(film, target, resume=False).frames == FRAMES
    assert names(tmp_path) == {"o.mp4"}


def test_the_rate_of_a_folder_is_part_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(40):
        write_png(tmp_path / "in" / f"{index:04}.png", np.full((16, 24, 3), index, np.uint8))
    target = tmp_path / "in" / "o.mkv"  # the job lies among the pictures, and is none of them
    with pytest.raises(KeyboardInterrupt):
        upscale(tmp_path / "in", target, rate=Fraction(24), events=stop_after(36))
    with pytest.raises(OutputError, match=r"other settings \(frame rate: 24 -> 30\)"):
        upscale(tmp_path / "in", target, rate=Fraction(30))
    assert upscale(tmp_path / "in", target, rate=Fraction(24)).resumed_frames == LONGEST


@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        ("source", "ab" * 32, "cd" * 32, "the source is another file, or was changed"),
        ("part", "0 s to the end", "1/4 s to 181/2 s", "part: 0 s to the end -> 0.25 s to 90.5 s"),
        ("scene cuts", "detected", "given [0, 3]", "scene cuts: detected -> 1 given, 3 among them"),
        (
            "scene cuts",
            "given [0, 3, 9]",
            f"given {[*range(100)]}",
            "scene cuts: 2 given -> 99 given, 1, 2, 4, ... among them",
        ),
    ],
)
def test_a_change_is_told_in_words_that_a_user_knows(
    tmp_path: Path, name: str, before: str, after: str, words: str
) -> None:
    with Job(tmp_path / "a.mp4", {name: before}, resume=True):
        pass
    with (
        pytest.raises(OutputError, match=rf"with other settings \({re.escape(words)}\); run it with those"),
        Job(tmp_path / "a.mp4", {name: after}, resume=True),
    ):
        pass


def test_the_words_of_cuts_are_those_of_the_detectors() -> None:
    assert [cuts_in_words(repr(each), "") for each in (SceneDetector(), NoCuts(), GivenCuts(frozenset({5})))] == [
        "detected",
        "none",
        "1 given, 5 among them",
    ]


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ("libx264 crf=20 x264-params=sliced-threads=0:asm=AVX2", "crf=18 -> crf=20"),
        ("libx264 crf=18 preset=slow x264-params=sliced-threads=0:asm=AVX2", "unset -> preset=slow"),
    ],
)
def test_of_another_encoder_only_what_differs_is_told(tmp_path: Path, after: str, words: str) -> None:
    before = "libx264 crf=18 x264-params=sliced-threads=0:asm=AVX2"
    with Job(tmp_path / "a.mp4", {"encoder": before}, resume=True):
        pass
    with (
        pytest.raises(OutputError, match=rf"was begun with other settings \(encoder: {words}\); run it with those"),
        Job(tmp_path / "a.mp4", {"encoder": after}, resume=True),
    ):
        pass
