"""Scenes side by side: the bytes of one after the other, whatever their borders, number and order; refusals."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import failure_of, run
from interrupted import stop_after
from media import make_video, presentation_times
from runners import FadingRunner, both_ways

from ksnet_deploy.base.errors import BackendError, ConfigError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.job import job_folder
from ksnet_deploy.upscale.lanes import LaneStage
from ksnet_deploy.upscale.network_stage import NetworkStage
from ksnet_deploy.upscale.networks import GivenNetwork
from ksnet_deploy.upscale.plan import FramePlan
from ksnet_deploy.upscale.result import Events, UpscaleResult
from ksnet_deploy.upscale.run import estimate_video, upscale_video
from ksnet_deploy.upscale.scenes import GivenCuts
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import Frame

SIZE = FrameSize(16, 24)
CUTS = frozenset({4, 20, 24, 40, 60, 120})
"""The first and the third end no segment, which would be too short; the last scene but one is longer than a segment."""
FRAMES = 140
CHAINS = 5

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")


@pytest.fixture(scope="module", autouse=True)
def _short_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ksnet_deploy.upscale.plan.SHORTEST_SEGMENT", 8)
        patch.setattr("ksnet_deploy.upscale.plan.LONGEST_SEGMENT", 30)
        yield


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pts = [512 * i + 700 * (i // 40) for i in range(FRAMES)]
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", SIZE, pts=pts, sound=True)


def side_by_side(scenes: int, runner: Any = FadingRunner, *, exact: bool = True, **settings: Any) -> Upscaler:
    return Upscaler(GivenNetwork(runner, lanes_are_exact=exact), scenes_in_flight=scenes, **settings)


def upscale(film: Path, target: Path, scenes: int, *, exact: bool = True, **settings: Any) -> UpscaleResult:
    settings = {"detector": GivenCuts(CUTS), **settings}
    return upscale_video(film, target, side_by_side(scenes, exact=exact), **settings)


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return upscale(film, tmp_path_factory.mktemp("whole") / "o.mp4", 1).target.read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("scenes", [3, CHAINS + 3])
def test_any_number_of_scenes_in_flight_gives_the_same_bytes(
    film: Path, tmp_path: Path, whole: bytes, scenes: int
) -> None:
    steps = []

    class Counted(FadingRunner):
        def _step(self, lr: np.ndarray) -> np.ndarray:
            steps.append(lr.shape[0])
            return super()._step(lr)

    result = upscale_video(film, tmp_path / "o.mp4", side_by_side(scenes, Counted), detector=GivenCuts(CUTS))
    assert result.target.read_bytes() == whole
    assert (result.frames, result.steps) == (FRAMES, FRAMES)
    assert set(steps) == {scenes}
    assert len(steps) <= FRAMES * 0.7  # most batches had frames of several scenes
    assert f"{FRAMES / len(steps):.1f} of {scenes} scenes were in flight on average" in result.notes[-1]
    assert names(tmp_path) == {"o.mp4"}


@pytest.mark.parametrize("waiting_bytes", [0, 15 * 3 * 16 * 24])
def test_little_room_for_waiting_frames_is_enough(
    film: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, waiting_bytes: int
) -> None:
    """A scene that does not fit is begun alone; the frames that wait never take more, beside those of a batch."""
    held: list[int] = []

    class Watched(LaneStage):
        def __call__(self, planned: Any) -> Iterator[Any]:
            for upscaled in super().__call__(planned):
                held.append(self._bytes)
                yield upscaled

    monkeypatch.setattr("ksnet_deploy.upscale.to_video.LaneStage", Watched)
    monkeypatch.setattr("ksnet_deploy.upscale.to_video.most_waiting", lambda _scenes: waiting_bytes)
    assert upscale(film, tmp_path / "o.mp4", 3).target.read_bytes() == whole
    assert held
    assert max(held) <= waiting_bytes + 3 * 3 * 16 * 24


def test_repeated_frames_cost_no_step_in_a_lane_either() -> None:
    """A scene whose frames repeat is not stepped with the others while it has none; at a scene's end and beginning."""
    rng = np.random.default_rng(0)
    picture, frames = rng.integers(0, 256, (16, 24, 3), np.uint8), []
    for index in range(160):
        if not (index % 7 < 4 or 50 <= index < 62):
            picture = rng.integers(0, 256, (16, 24, 3), np.uint8)
        frames.append(picture)

    def run(scenes: int) -> tuple[int, list[tuple[int, bytes, Any]]]:
        with side_by_side(scenes) as upscaler:
            upscaler.open(SIZE)
            plan = FramePlan(GivenCuts(frozenset({30, 60, 90, 120})), Fraction(1, 25))
            planned = plan.of(Frame(rgb, index, 1) for index, rgb in enumerate(frames))
            stage = NetworkStage(upscaler, Events()) if scenes == 1 else LaneStage(upscaler, Events(), 1 << 20)
            out = [upscaled for each in planned for upscaled in stage(each)] + [*stage.flush()]
            found = [(each.index, each.frame.rgb.tobytes(), each.state_before) for each in out]
            return upscaler.steps, sorted(found, key=lambda each: each[0])

    (steps, expected), (steps_of_lanes, found) = run(1), run(3)
    assert steps == steps_of_lanes < 160
    assert [each[:2] for each in found] == [each[:2] for each in expected]
    assert [each[2] is None for each in found] == [each[2] is None for each in expected]


def test_a_film_with_one_scene_goes_through_one_lane_and_it_is_said(film: Path, tmp_path: Path) -> None:
    alone = upscale(film, tmp_path / "a.mp4", 1, detector=GivenCuts(frozenset()), end_s=1)
    result = upscale(film, tmp_path / "b.mp4", 2, detector=GivenCuts(frozenset()), end_s=1)
    assert result.target.read_bytes() == alone.target.read_bytes()
    assert "1.0 of 2 scenes were in flight" in result.notes[-1]
    assert "leave --scenes-in-flight out" in result.notes[-1]


@pytest.mark.parametrize("stops", [[80, 20]])
def test_an_interrupted_job_goes_on_to_the_same_bytes(
    film: Path, tmp_path: Path, whole: bytes, stops: list[int]
) -> None:
    target = tmp_path / "o.mp4"
    for stop, scenes in zip(stops, (3, 2), strict=False):
        with pytest.raises(KeyboardInterrupt):
            upscale(film, target, scenes, events=stop_after(stop))
    assert upscale(film, target, 4).target.read_bytes() == whole
    assert names(tmp_path) == {"o.mp4"}


def test_what_is_playable_of_an_interrupted_job_is_its_beginning(film: Path, tmp_path: Path) -> None:
    target, said = tmp_path / "o.mp4", list[str]()
    stopping = stop_after(90)
    events = Events(on_frame=stopping.on_frame, on_note=said.append)
    with pytest.raises(KeyboardInterrupt):
        upscale(film, target, 3, events=events, keep_partial=True)
    (partial,) = tmp_path.glob("*.partial*")
    stamps = presentation_times(partial)
    assert f"{len(stamps)} frames are finished" in "".join(said)
    assert stamps == presentation_times(film)[: len(stamps)]
    journal = [json.loads(line) for line in (job_folder(target) / "journal.jsonl").read_text().splitlines()]
    assert sum(line["frames"] for line in journal) != len(stamps)  # others, that lie later, are finished too


@needs_fork
def test_a_killed_job_goes_on_to_the_same_bytes(film: Path, tmp_path: Path, whole: bytes) -> None:
    target = tmp_path / "o.mp4"
    kill_and_go_on(film, target, 2, seed=1)
    assert target.read_bytes() == whole
    assert names(tmp_path) == {"o.mp4"}


@needs_fork
@pytest.mark.slow
def test_many_kills_change_no_byte(film: Path, tmp_path: Path, whole: bytes) -> None:
    kill_and_go_on(film, tmp_path / "o.mp4", 20, seed=2)
    assert (tmp_path / "o.mp4").read_bytes() == whole


def kill_and_go_on(film: Path, target: Path, kills: int, seed: int) -> None:
    rng, safe = np.random.default_rng(seed), [0]
    for _ in range(kills):
        child = multiprocessing.get_context("fork").Process(target=_run_slowly, args=(film, target))
        child.start()
        journal, frames, wanted = job_folder(target) / "journal.jsonl", 0, int(rng.integers(1, 40))
        while child.is_alive() and frames < safe[-1] + wanted:
            time.sleep(0.005)
            lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
            frames = sum(json.loads(line)["frames"] for line in lines if line.endswith(b"\n"))
        child.kill()
        child.join()
        safe.append(frames)
        if target.exists():  # the kill came after the end
            target.unlink()
            safe.append(0)
    assert max(safe) > 0
    upscale(film, target, 3)


def _run_slowly(film: Path, target: Path) -> None:
    FadingRunner.delay_s = 0.02
    upscale(film, target, 3)


def test_a_job_of_a_runtime_that_rounds_by_the_batch_goes_on_with_the_same_number_only(
    film: Path, tmp_path: Path, whole: bytes
) -> None:
    target = tmp_path / "o.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale(film, target, 2, exact=False, events=stop_after(110))
    for other in (1, 3):
        with pytest.raises(OutputError, match=r"begun with other settings \(scenes in flight: 2 -> "):
            upscale(film, target, other, exact=False)
    assert upscale(film, target, 2, exact=False).target.read_bytes() == whole


def test_what_does_not_go_side_by_side_is_refused_in_a_sentence(film: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 scenes in flight upscale nothing"):
        side_by_side(0)
    with pytest.raises(ConfigError, match="takes windows of one scene at a time"):
        Upscaler(GivenNetwork(both_ways, is_bidirectional=True), scenes_in_flight=2)
    with pytest.raises(ConfigError, match="leave --tiles or --scenes-in-flight out"):
        side_by_side(2, tiles="270x480")
    with side_by_side(2) as upscaler, pytest.raises(ConfigError, match="2 scenes in flight are of a video file"):
        upscaler.push(np.zeros((16, 24, 3), np.uint8))
    for target in ("frames", "-"):
        with pytest.raises(ConfigError, match="2 scenes in flight are of a video file"):
            upscale_video(film, tmp_path / target if target != "-" else target, side_by_side(2))
    with pytest.raises(ConfigError, match="an estimate is made of one scene at a time"):
        estimate_video(film, tmp_path / "o.mp4", side_by_side(2))
    assert names(tmp_path) == set()


def test_a_job_in_tiles_does_not_go_on_side_by_side() -> None:
    with side_by_side(2) as upscaler, pytest.raises(ConfigError, match="tiles of 16x16 are taken of one scene"):
        upscaler.keep_tiles(FrameSize(16, 16))


def test_a_memory_that_does_not_hold_so_many_scenes_is_told_before_the_start(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksnet_deploy.upscale.side_by_side.available_memory", lambda: 10**9)
    target = tmp_path / "o.mp4"
    upscaler = Upscaler("lite", runtime="torch", device="cpu", scenes_in_flight=500)
    with pytest.raises(ConfigError, match=r"500 scenes of 16x24 side by side take .* a smaller --scenes-in-flight"):
        upscale_video(film, target, upscaler)


def test_a_way_that_fails_at_the_first_batch_gives_way_to_the_next(film: Path, tmp_path: Path, whole: bytes) -> None:
    class Failing(FadingRunner):
        def _step(self, _lr: np.ndarray) -> np.ndarray:
            raise RuntimeError("no such kernel")

    ways: list[type[FadingRunner]] = [Failing, FadingRunner]

    class TwoWays(GivenNetwork):
        def open(self, size: FrameSize, io: Any, *_: Any, lanes: int = 1, **__: Any) -> FadingRunner:
            return ways[0](size, io, lanes)

        def step_down(self, error: Exception, tell: Any) -> bool:
            tell(str(error))
            ways.pop(0)
            return True

    said: list[str] = []
    upscaler = Upscaler(TwoWays(FadingRunner), scenes_in_flight=2, on_note=said.append)
    assert upscale_video(film, tmp_path / "o.mp4", upscaler, detector=GivenCuts(CUTS)).target.read_bytes() == whole
    assert said == ["no such kernel"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scenes-in-flight", "0"), "0 scenes in flight upscale nothing; give 1 or more"),
        (("--scenes-in-flight", "2", "--cluster"), "a worker of a cluster takes one scene at a time; leave"),
        (("--scenes-in-flight", "2", "--dry-run"), "--dry-run measures one scene at a time; leave"),
        (("--scenes-in-flight", "2", "-o", "frames"), "--scenes-in-flight has no effect on a folder of pictures"),
        (("--scenes-in-flight", "2", "-o", "-"), "--scenes-in-flight has no effect on a pipe as output; leave it out"),
    ],
)
def test_the_command_refuses_what_cannot_be(clip: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    video = tmp_path / clip.name
    video.write_bytes(clip.read_bytes())
    assert words in failure_of(run("upscale", video, *options))
    assert names(tmp_path) == {clip.name}


def test_the_command_takes_scenes_side_by_side_and_one_by_itself(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(_: Any, size: FrameSize, io: Any, *__: Any, lanes: int = 1, **___: Any) -> FadingRunner:
        return FadingRunner(size, io, lanes)

    monkeypatch.setattr("ksnet_deploy.upscale.networks.NetworkFile.open", opened)
    (cuts := tmp_path / "cuts.txt").write_text("".join(f"{cut}\n" for cut in sorted(CUTS)))
    options = "upscale", film, "--model", "lite", "--runtime", "onnxruntime", "--scenes-in-flight", "2"
    done = run(*options, "--cuts", cuts, "-o", tmp_path / "a.mp4")
    assert "scenes were in flight on average" in done.stdout
    assert "2 scenes go side by side; frames that wait take" in done.stderr
    done = run(*options, "--no-scene-reset", "--end", "1", "-o", tmp_path / "b.mp4")
    assert "There are no cuts, so there is one scene, which goes by itself" in done.stderr
    assert "in flight on average" not in done.stderr


def test_a_memory_that_runs_out_is_told_with_its_remedy(film: Path, tmp_path: Path) -> None:
    class Full(FadingRunner):
        def _step(self, _lr: np.ndarray) -> np.ndarray:
            raise MemoryError

    with pytest.raises(BackendError, match="or give a smaller --scenes-in-flight"):
        upscale_video(film, tmp_path / "o.mp4", side_by_side(2, Full))
