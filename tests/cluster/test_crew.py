"""Chains over several workers, in threads of this process: the bytes of one worker, whoever is lost."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from crews import ThreadRemote, upscale_by, work_for
from media import make_video
from runners import FadingRunner

from ksnet_deploy import Upscaler
from ksnet_deploy.base.errors import BackendError, InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cluster.chunks import Chunk
from ksnet_deploy.cluster.crew import Crew, Lost
from ksnet_deploy.upscale.destination import Destination
from ksnet_deploy.upscale.job import job_folder
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.run import carry_out
from ksnet_deploy.upscale.scenes import GivenCuts
from ksnet_deploy.video.kinds import Source

SIZE = FrameSize(16, 24)
CUTS = frozenset({20, 60, 70, 110, 150, 300})
"""The first and the third end no segment, which would be too short; the last scene but one is longer than a segment."""
FRAMES = 330


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pts = [512 * i + 700 * (i // 90) for i in range(FRAMES)]
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", SIZE, pts=pts, sound=True)


@pytest.fixture(autouse=True)
def _network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: FadingRunner(size, io)
    )


def alone(film: Path, target: Path, **settings: Any) -> bytes:
    """The result of one process without a crew."""
    work = work_for(film, target, detector=GivenCuts(CUTS), **settings)
    return carry_out(work, Upscaler("lite", runtime="onnxruntime", device="cpu"), Events()).target.read_bytes()


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _n, size, io, *_, **__: FadingRunner(size, io)
        )
        return alone(film, tmp_path_factory.mktemp("whole") / "o.mp4")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_bytes(film: Path, tmp_path: Path, whole: bytes, workers: int) -> None:
    result = upscale_by(work_for(film, tmp_path / "o.mp4", detector=GivenCuts(CUTS)), workers)
    assert result.target.read_bytes() == whole
    assert (result.frames, result.steps) == (FRAMES, FRAMES)
    assert set(result.times.busy_s) == {"decode", "network", "encode"}
    assert names(tmp_path) == {"o.mp4"}


@pytest.mark.parametrize("part", [False, True])
def test_workers_that_read_the_source_themselves_give_the_same_bytes(
    film: Path, tmp_path: Path, whole: bytes, part: bool
) -> None:
    sent = []
    work = work_for(film, tmp_path / "o.mp4", detector=GivenCuts(CUTS))
    if part:
        work = replace(work, source=Source(film, Fraction(3), Fraction(9)))
        expected = replace(work, destination=Destination(tmp_path / "e.mp4", "video"), detector=GivenCuts(CUTS))
        upscaler = Upscaler("lite", runtime="onnxruntime", device="cpu")
        whole = carry_out(expected, upscaler, Events()).target.read_bytes()
    result = upscale_by(
        replace(work, detector=GivenCuts(CUTS)),
        2,
        lambda _, method, arguments: sent.extend(arguments if method == "push" else ()),
        shared_source=True,
    )
    assert result.target.read_bytes() == whole
    assert sum(chunk.bytes for chunk in sent) == 0


def test_another_source_under_the_same_path_is_noticed(film: Path, tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    source.write_bytes(film.read_bytes())

    def exchange(_: ThreadRemote, method: str, __: tuple[Any, ...]) -> None:
        if method == "begin":
            make_video(source, SIZE, frames=FRAMES // 2)

    with pytest.raises(InputError, match="leave --shared-source out"):
        upscale_by(work_for(source, tmp_path / "o.mp4", detector=GivenCuts(CUTS)), 1, exchange, shared_source=True)


def test_little_room_for_waiting_frames_is_enough(film: Path, tmp_path: Path, whole: bytes) -> None:
    for workers in (1, 2):
        work = work_for(film, tmp_path / "o.mp4", detector=GivenCuts(CUTS), overwrite=True)
        assert upscale_by(work, workers, waiting_bytes=1).target.read_bytes() == whole


def test_workers_that_are_lost_change_no_byte(film: Path, tmp_path: Path, whole: bytes) -> None:
    calls: Counter[str] = Counter()

    def sometimes(remote: ThreadRemote, method: str, _: tuple[Any, ...]) -> None:
        calls[method] += 1
        if calls.total() in (3, 10, 24, 37, 60, 75):
            remote.stop()
            raise Lost("killed")

    said: list[str] = []
    for _ in range(2):
        work = work_for(film, tmp_path / "o.mp4", detector=GivenCuts(CUTS), overwrite=True)
        assert upscale_by(work, 3, sometimes, say=said.append).target.read_bytes() == whole
    assert len(said) > 4
    assert all(line.startswith("A worker on node") and "is done again" in line for line in said)
    assert calls["push"] > 2 * FRAMES / 24
    assert names(tmp_path) == {"o.mp4"}


def test_a_long_scene_goes_on_from_its_last_state(film: Path, tmp_path: Path) -> None:
    """The state of the stand-in is small beside the frames, so that it comes with every segment."""
    firsts: list[int] = []

    def lost_late(remote: ThreadRemote, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "push":
            (chunk,) = arguments
            assert isinstance(chunk, Chunk)
            firsts.append(chunk.first)
            if chunk.first >= 260 and firsts.count(chunk.first) == 1:
                remote.stop()
                raise Lost("killed")

    work = work_for(film, tmp_path / "o.mp4", detector=GivenCuts(frozenset()))
    result = upscale_by(work, 1, lost_late)
    again = Counter(firsts)
    assert min(first for first, count in again.items() if count > 1) >= 120
    assert result.frames == FRAMES


def stopped_after(frames: int) -> Events:
    seen = iter(range(frames))

    def on_frame() -> None:
        if next(seen, None) is None:
            raise KeyboardInterrupt

    return Events(on_frame=on_frame)


def interrupted(film: Path, target: Path, frames: int, workers: int = 3) -> list[dict[str, Any]]:
    """The journal of a run that was stopped."""
    with pytest.raises(KeyboardInterrupt):
        upscale_by(work_for(film, target, detector=GivenCuts(CUTS)), workers, events=stopped_after(frames))
    return [json.loads(line) for line in (job_folder(target) / "journal.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("frames", [100, 260])
def test_a_job_goes_on_and_what_is_finished_is_not_sent_again(
    film: Path, tmp_path: Path, whole: bytes, frames: int
) -> None:
    target = tmp_path / "o.mp4"
    lines = interrupted(film, target, frames)
    finished = {line["first"] for line in lines}
    sent: list[Chunk] = []
    result = upscale_by(
        work_for(film, target, detector=GivenCuts(CUTS)),
        2,
        lambda _, method, arguments: sent.extend(arguments if method == "push" else ()),
    )
    assert result.target.read_bytes() == whole
    assert 0 < result.resumed_frames <= sum(line["frames"] for line in lines)
    scenes = {0, 60, 110, 150, 300}
    again = finished & {chunk.first for chunk in sent}
    assert all(first not in scenes for first in again)
    assert names(tmp_path) == {"o.mp4"}


def test_one_process_goes_on_where_a_crew_stopped_and_the_other_way_round(
    film: Path, tmp_path: Path, whole: bytes
) -> None:
    target = tmp_path / "o.mp4"
    lines = interrupted(film, target, 250)
    assert alone(film, target) == whole
    assert lines

    (tmp_path / "two").mkdir()
    target = tmp_path / "two" / "o.mp4"
    with pytest.raises(KeyboardInterrupt):
        carry_out(
            work_for(film, target, detector=GivenCuts(CUTS)),
            Upscaler("lite", runtime="onnxruntime", device="cpu"),
            stopped_after(280),
        )
    result = upscale_by(work_for(film, target, detector=GivenCuts(CUTS)), 2)
    assert result.target.read_bytes() == whole
    assert result.resumed_frames >= 270


def test_segments_that_lack_in_between_are_made_by_one_process(film: Path, tmp_path: Path, whole: bytes) -> None:
    """As a crew leaves them whose worker at an early scene was slow."""
    target = tmp_path / "o.mp4"
    block = threading.Event()

    def slow(_: ThreadRemote, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "push" and arguments[0].first == 60:
            block.wait(20)

    seen = 0

    def on_frame() -> None:
        nonlocal seen
        seen += 1
        if seen > 250:
            block.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_by(work_for(film, target, detector=GivenCuts(CUTS)), 2, slow, events=Events(on_frame=on_frame))
    lines = [json.loads(line) for line in (job_folder(target) / "journal.jsonl").read_text().splitlines()]
    firsts = sorted(line["first"] for line in lines)
    assert 60 not in firsts
    assert max(firsts) > 110
    result = carry_out(
        work_for(film, target, detector=GivenCuts(CUTS)),
        Upscaler("lite", runtime="onnxruntime", device="cpu"),
        Events(),
    )
    assert result.target.read_bytes() == whole
    assert result.steps < FRAMES


def test_a_network_that_no_worker_can_run_is_one_sentence_with_the_machine(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise BackendError("the memory does not hold the network; give smaller --tiles")

    monkeypatch.setattr("ksnet_deploy.upscale.networks.NetworkFile.open", fails)
    with pytest.raises(BackendError, match=r"node[01] cannot run the network: the memory does not hold"):
        upscale_by(work_for(film, tmp_path / "o.mp4"), 2)
    assert names(tmp_path) == set()


def test_a_worker_that_runs_the_network_otherwise_is_left_out(
    film: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[int] = []

    def identity(upscaler: Any) -> dict[str, str]:
        first.append(id(upscaler))
        return {"runtime": "one" if id(upscaler) == first[0] else "another"}

    monkeypatch.setattr("ksnet_deploy.upscale.networks.NetworkFile.identity", identity)
    said: list[str] = []
    work = work_for(film, tmp_path / "o.mp4", detector=GivenCuts(CUTS))
    assert upscale_by(work, 2, say=said.append).target.read_bytes() == whole
    assert [line.split(" ", 1)[1] for line in said] == [
        "would run the network otherwise than the others (runtime: another instead of one); it is left out."
    ]


def test_workers_that_are_lost_again_and_again_end_the_film(film: Path, tmp_path: Path) -> None:
    def always(remote: ThreadRemote, method: str, _: tuple[Any, ...]) -> None:
        if method == "push":
            remote.stop()
            raise Lost("out of memory")

    with pytest.raises(
        BackendError, match=r"5 workers were lost one after another at the frames from 0 on of film.mp4"
    ):
        upscale_by(work_for(film, tmp_path / "o.mp4", detector=GivenCuts(frozenset())), 1, always)


def test_workers_that_end_before_they_are_there_are_hired_anew(film: Path, tmp_path: Path, whole: bytes) -> None:
    hired: list[int] = []

    def hire() -> ThreadRemote:
        hired.append(1)
        if len(hired) in (1, 3):
            raise Lost("killed")
        return ThreadRemote("node", lambda *_: None)

    crew = Crew(hire, 2, 1 << 20, lambda _: None)
    work = work_for(film, tmp_path / "o.mp4", detector=GivenCuts(CUTS))
    assert upscale_by(work, 2, crew=crew).target.read_bytes() == whole
    crew.close()


def test_workers_that_never_come_are_one_sentence(film: Path, tmp_path: Path) -> None:
    def hire() -> ThreadRemote:
        raise Lost("no such package")

    crew = Crew(hire, 1, 1 << 20, lambda _: None)
    with pytest.raises(BackendError, match=r"before they were there \(no such package"):
        upscale_by(work_for(film, tmp_path / "o.mp4"), 1, crew=crew)
    crew.close()


def test_one_film_that_fails_stops_no_other(film: Path, tmp_path: Path, whole: bytes) -> None:
    crew = Crew(lambda: ThreadRemote("node", lambda *_: None), 2, 1 << 20, lambda _: None)
    results: dict[str, Any] = {}

    def upscale(name: str) -> None:
        try:
            work = work_for(film, tmp_path / f"{name}.mp4", detector=GivenCuts(CUTS))
            results[name] = upscale_by(work, 2, crew=crew).target.read_bytes()
        except OutputError as error:
            results[name] = str(error)

    (tmp_path / "c.mp4").touch()
    threads = [threading.Thread(target=upscale, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    crew.close()
    assert results["a"] == results["b"] == whole
    assert "already exists" in results["c"]


def test_an_end_of_everything_reaches_whoever_waits(film: Path, tmp_path: Path) -> None:
    block = threading.Event()
    crew = Crew(lambda: ThreadRemote("node", lambda *_: block.wait(0.05)), 2, 1 << 20, lambda _: None)
    threading.Timer(0.3, lambda: crew.stop(BackendError("the cluster has gone"))).start()
    with pytest.raises(BackendError, match="the cluster has gone"):
        upscale_by(work_for(film, tmp_path / "o.mp4", detector=GivenCuts(CUTS)), 2, crew=crew)
    crew.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("worker ")]
