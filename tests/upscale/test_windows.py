"""Bidirectional networks in windows: where windows begin, what they see, and that a job of them goes on."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import folder_of_frames
from command import failure_of, run
from interrupted import stop_after
from media import make_video
from networks import SMALL, new_checkpoint
from numpy.typing import NDArray
from runners import RepeatRunner, both_ways

from ksnet_deploy.base.errors import ConfigError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import peak_memory
from ksnet_deploy.measure.evaluation import NetworkMethod
from ksnet_deploy.measure.preview.moments import Stretch, read_stretch
from ksnet_deploy.measure.preview.spots import upscale_stretches
from ksnet_deploy.measure.speed.worker import Footage, Worker
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.upscale.job import job_folder
from ksnet_deploy.upscale.memory import memory_needed, plan_for_memory
from ksnet_deploy.upscale.network_stage import NetworkStage, Upscaled
from ksnet_deploy.upscale.networks import GivenNetwork, find_network
from ksnet_deploy.upscale.plan import FramePlan
from ksnet_deploy.upscale.result import Events, UpscaleResult
from ksnet_deploy.upscale.run import estimate_video, upscale_video
from ksnet_deploy.upscale.scenes import GivenCuts, NoCuts
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.upscale.windows import LOOK_AHEAD, WINDOW, Windows
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.reader import Frame

SIZE = FrameSize(16, 24)
CUT = 70
FRAMES = 200


def costless(window: int | None = 10, look_ahead: int | None = 4) -> Upscaler:
    return Upscaler(GivenNetwork(both_ways, is_bidirectional=True), window=window, look_ahead=look_ahead)


def pictures(count: int, size: FrameSize = SIZE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8)


def through(upscaler: Upscaler, lrs: list[NDArray[np.uint8]], cuts: frozenset[int] = frozenset()) -> list[Upscaled]:
    """Frames as the stages of upscale give them to the network."""
    upscaler.open(FrameSize(*lrs[0].shape[:2]))
    plan = FramePlan(GivenCuts(cuts), Fraction(1, 25), 20, window=upscaler.windows.frames)
    network = NetworkStage(upscaler, Events())
    frames = (Frame(lr, index) for index, lr in enumerate(lrs))
    return [*itertools.chain.from_iterable(map(network, plan.of(frames))), *network.flush()]


@pytest.mark.parametrize(
    ("cuts", "longest", "windows", "segments"),
    [
        (frozenset(), 20, [0, 10, 20, 30, 40], [0, 20, 40]),
        (frozenset(), 7, [0, 10, 20, 30, 40], [0, 10, 20, 30, 40]),  # a segment is a window at least
        (frozenset({5, 33}), 20, [0, 5, 15, 25, 33, 43], [0, 25]),  # a cut after 8 frames ends no segment
        (frozenset({27}), 20, [0, 10, 20, 27, 37, 47], [0, 20, 47]),
    ],
)
def test_windows_begin_at_cuts_and_every_so_many_frames_and_segments_with_windows(
    cuts: frozenset[int], longest: int, windows: list[int], segments: list[int]
) -> None:
    plan = FramePlan(GivenCuts(cuts), Fraction(1, 25), longest, window=10)
    found = [*plan.of((Frame(lr, index) for index, lr in enumerate(pictures(50))))]
    assert [planned.frame.pts for planned in found if planned.starts_window] == windows
    assert [planned.frame.pts for planned in found if planned.starts_segment] == segments


@pytest.mark.parametrize(("window", "ahead"), [(10, 4), (10, 0), (3, 7), (1, 0), (1, 5), (100, 100)])
def test_every_frame_is_of_its_window_and_look_ahead_and_of_its_scene_alone(window: int, ahead: int) -> None:
    lrs, cuts = [*pictures(53)], [0, 17, 40, 53]
    with costless(window, ahead) as upscaler:
        found = through(upscaler, lrs, frozenset(cuts[1:-1]))
    assert [upscaled.frame.pts for upscaled in found] == [*range(53)]
    expected: list[NDArray[Any]] = []
    for begin, end in itertools.pairwise(cuts):
        runner, scene = both_ways(SIZE), lrs[begin:end]
        for start in range(0, len(scene), window):
            expected += runner.window(scene[start : start + window], scene[start + window :][:ahead])
    for upscaled, hr in zip(found, expected, strict=True):
        np.testing.assert_array_equal(upscaled.frame.rgb, hr)


@pytest.mark.slow
def test_one_window_over_a_scene_is_the_network_over_the_whole_scene(small_bi: Checkpoint) -> None:
    lrs = [*pictures(5, FrameSize(20, 24))]
    with Upscaler(str(small_bi.path), runtime="torch", window=5, look_ahead=0) as upscaler:
        found = [upscaled.frame.rgb for upscaled in through(upscaler, lrs)]
    with Upscaler(str(small_bi.path), runtime="torch") as upscaler:
        assert upscaler.windows == Windows(WINDOW, LOOK_AHEAD)
        np.testing.assert_array_equal([*upscaler.upscale(lrs)], found)


def test_a_repeated_frame_does_not_go_through_the_network() -> None:
    distinct = [*pictures(19)]
    lrs = [lr for index, lr in enumerate(distinct) for _ in range(1 + (index == 4))]
    with costless(50, 0) as upscaler:
        found = [upscaled.frame.rgb for upscaled in through(upscaler, lrs)]
        assert upscaler.steps == 19
    with costless(50, 0) as upscaler:
        expected = [upscaled.frame.rgb for upscaled in through(upscaler, distinct)]
    np.testing.assert_array_equal(found, [*expected[:5], *expected[4:]])


def test_frames_in_python_come_in_windows_too_and_one_by_one_is_refused() -> None:
    lrs = [*pictures(33)]
    with costless() as upscaler:
        staged = [upscaled.frame.rgb for upscaled in through(upscaler, lrs)]
    with costless() as upscaler:
        taken: list[int] = []

        def fed() -> Iterator[NDArray[np.uint8]]:
            for index, lr in enumerate(lrs):
                taken.append(index)
                yield lr

        larger = upscaler.upscale(fed())
        first = next(larger)
        assert len(taken) == 14  # a window and its look-ahead
        np.testing.assert_array_equal([first, *larger], staged)
        with pytest.raises(ConfigError, match=r"sees later frames too.*give all frames to Upscaler\.upscale"):
            upscaler.push(lrs[0])
    with Upscaler(open_runner=RepeatRunner) as upscaler:
        assert [hr.shape for hr in upscaler.upscale(lrs[:2])] == [(64, 96, 3)] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--window", "8"], "lite takes frames one by one; leave --window and --look-ahead out, or give a"),
        (["--look-ahead", "0"], "takes frames one by one"),
    ],
)
def test_windows_of_a_network_that_has_none_are_refused(clip: Path, arguments: list[str], words: str) -> None:
    assert words in failure_of(run("upscale", clip, "--model", "lite", *arguments))


@pytest.mark.parametrize(("window", "ahead"), [(0, 1), (-1, 0), (4, -1)])
def test_windows_that_cannot_be_are_refused(window: int, ahead: int) -> None:
    with pytest.raises(ConfigError, match="give --window 1 or more and --look-ahead 0 or more"):
        costless(window, ahead)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", SIZE, frames=FRAMES, sound=True)


def upscale(film: Path, target: Path, upscaler: Upscaler | None = None, **settings: Any) -> UpscaleResult:
    return upscale_video(film, target, upscaler or costless(), detector=GivenCuts(frozenset({CUT})), **settings)


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return upscale(film, tmp_path_factory.mktemp("whole") / "o.mp4").target.read_bytes()


@pytest.mark.parametrize("stops", [[65], [125, 40]])
def test_an_interrupted_job_goes_on_to_the_same_bytes(
    film: Path, tmp_path: Path, whole: bytes, stops: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksnet_deploy.upscale.plan.LONGEST_SEGMENT", 25)
    expected = upscale(film, tmp_path / "once.mp4").target.read_bytes()
    assert expected != whole  # of other segments
    target = tmp_path / "o.mp4"
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            upscale(film, target, events=stop_after(stop))
    lines = (job_folder(target) / "journal.jsonl").read_text().splitlines()
    done = [json.loads(line)["frames"] for line in lines]
    assert all(frames % 10 == 0 for frames in done)  # segments end with windows
    with pytest.raises(OutputError, match=r"windows: 10 frames, 4 ahead -> 10 frames, 5 ahead"):
        upscale(film, target, costless(10, 5))
    result = upscale(film, target)
    assert result.resumed_frames == sum(done) > 0
    assert result.target.read_bytes() == expected


def _killed(film: Path, target: Path) -> None:
    upscale(film, target, events=Events(on_frame=lambda: time.sleep(0.004)))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_kill_at_random_moments_changes_no_byte(film: Path, tmp_path: Path, whole: bytes) -> None:
    target, rng = tmp_path / "o.mp4", random.Random(0)
    for _ in range(12):
        child = multiprocessing.get_context("fork").Process(target=_killed, args=(film, target))
        child.start()
        time.sleep(rng.uniform(0.1, 1.2))
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        if target.exists():
            assert target.read_bytes() == whole
            target.unlink()
    assert upscale(film, target).target.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"o.mp4"}


def test_latency_and_memory_are_told_before_the_start(film: Path, tmp_path: Path) -> None:
    told: list[str] = []
    events = Events(on_note=told.append, on_start=lambda *_: told.append("start"))
    upscale(film, tmp_path / "o.mp4", events=events)
    assert told[0].startswith(
        "The network sees windows of 10 frames and 4 ahead: a frame comes out when 14 have been read, 0.6 s"
    )
    assert told[1] == "start"
    estimate = estimate_video(film, tmp_path / "p.mp4", costless())
    assert estimate.frames == FRAMES


def test_the_memory_of_a_window_is_known(tmp_path: Path) -> None:
    config, size = KSNetConfig.named("uni").replace(["direction=bi"]), FrameSize(180, 320)
    windows = Windows(32, 8)
    assert windows.bytes(size, config) == size.height * size.width * (4 * 64 * 32 + 6 * 40)
    sentence = windows.sentence(Fraction(25), size, config)
    assert "40 have been read, 1.6 s of the video; a window takes 486 MB, however long the video is." in sentence
    assert memory_needed(size, config, windows=windows) > memory_needed(size, config) + 4 * 10**8
    enough = memory_needed(size, config, windows=windows)
    assert plan_for_memory(size, config, enough, 32, windows) is None
    with pytest.raises(ConfigError, match="a smaller --window, or try with --tiles off"):
        plan_for_memory(size, config, enough // 4, 32, windows)
    network = find_network(new_checkpoint(tmp_path, SMALL.replace(["direction=bi"])).path)
    assert network.is_bidirectional
    assert not find_network("lite").is_bidirectional


def test_a_pipe_gives_frames_while_its_source_is_still_open(small_bi_onnx: Path) -> None:
    command = [sys.executable, "-m", "ksnet_deploy", "upscale", "-", "-o", "-", "--model", str(small_bi_onnx)]
    count, frame = 60, len(b"FRAME\n") + 80 * 96 * 3  # FFmpeg reads some 32 kB before it gives the first
    lrs = [b"FRAME\n" + lr.tobytes() for lr in pictures(count, FrameSize(20, 24))]
    with subprocess.Popen(
        [*command, "--window", "2", "--look-ahead", "1", "--progress", "none", "--no-scene-reset"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"YUV4MPEG2 W24 H20 F25:1 Ip A1:1 C444\n" + b"".join(lrs))
        process.stdin.flush()
        assert b"W96 H80" in process.stdout.readline()
        assert process.stdout.read(frame).startswith(b"FRAME\n")
        process.stdin.close()
        assert len(process.stdout.read()) == (count - 1) * frame
    assert process.returncode == 0


def test_evaluation_preview_and_benchmark_see_the_windows(tmp_path: Path) -> None:
    """Each gives what upscaling gives."""
    lrs = [*pictures(9)]
    runner = both_ways(SIZE)
    expected = [*runner.window(lrs[:4], lrs[4:6]), *runner.window(lrs[4:8], lrs[8:]), *runner.window(lrs[8:])]
    with closing(NetworkMethod("both", lambda: costless(4, 2))) as method:
        method.begin(SIZE)
        np.testing.assert_array_equal([*method.enlarge(iter(lrs))], expected)
    stretch = Stretch(lrs[:4], 0.0, ahead=lrs[4:])
    with costless(32, 2) as upscaler:
        shown, pace = upscale_stretches(upscaler, [stretch], lambda: None)
    np.testing.assert_array_equal(shown[0], expected[3])
    assert pace.steps == 4
    worker = Worker(lambda: both_ways(SIZE), Footage(SIZE))
    runner.reset()
    np.testing.assert_array_equal(worker.pictures(3), [*runner.window(Footage(SIZE).frames(3))])
    assert worker.warm_up(0) > 0
    assert min(worker.engine(0) + worker.pipeline(0)) > 0
    assert worker.end_to_end(4) > 0
    assert list(tmp_path.iterdir()) == []


def test_frames_that_follow_are_read_of_the_same_scene_alone(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "film", np.repeat(pictures(3, FrameSize(32, 48)), 10, axis=0))
    film = Source(tmp_path / "film")
    found = [read_stretch(film, Fraction(start, 25), 2, 4) for start in (2, 5)]
    assert [(len(each.frames), len(each.ahead)) for each in found] == [(3, 4), (3, 2)]


def peak_of(video: Path, frames: int) -> int:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    command = [sys.executable, __file__, str(video), str(frames)]
    return int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_peak_of_600_frames_is_that_of_120_within_5_percent(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", FrameSize(144, 256), frames=600)
    assert peak_of(video, 600) <= 1.05 * peak_of(video, 120)


if __name__ == "__main__":
    source, count = sys.argv[1:]
    upscale_video(
        Path(source),
        Path(source).with_name(f"o{count}.mp4"),
        costless(None, None),
        height=144,
        end_s=Fraction(int(count), 25),
        detector=NoCuts(),
    )
    print(peak_memory())
