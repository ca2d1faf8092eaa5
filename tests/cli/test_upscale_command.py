"""The command `upscale`: inputs, options, several videos, reports. In this process, with a network of no cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import make_video, presentation_times
from runners import RepeatRunner
from typer.main import get_command

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cli.answers import begin_report
from ksnet_deploy.cli.app import app
from ksnet_deploy.cli.inputs import find_videos
from ksnet_deploy.upscale.values import parse_time

SIZE = FrameSize(32, 48)
Run = Callable[..., tuple[int, str, str]]


def test_several_videos_are_done_and_one_that_fails_stops_no_other(run: Run, tmp_path: Path) -> None:
    good = [make_video(tmp_path / f"{name}.mp4", SIZE, frames=3) for name in "ac"]
    bad = tmp_path / "b.mp4"
    bad.write_bytes(b"no video")
    code, out, err = run(good[0], bad, good[1], tmp_path / "none.mp4")
    assert code == 1
    assert "b.mp4 cannot be read as a video" in err
    assert "none.mp4 does not exist" in err
    assert "2 of 4 inputs failed" in err
    assert out.count("3 frames of 128x192") == 2
    assert {p.name for p in tmp_path.iterdir()} == {"a.mp4", "a_x4.mp4", "b.mp4", "c.mp4", "c_x4.mp4"}


def test_a_folder_is_done_and_its_results_are_left_alone(run: Run, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mkv"):
        make_video(tmp_path / name, SIZE, frames=3)
    (tmp_path / "notes.txt").write_text("no video")
    code, _, _ = run(tmp_path)
    assert code == 0
    names = {"a.mp4", "b.mkv", "a_x4.mp4", "b_x4.mkv", "notes.txt"}
    assert {p.name for p in tmp_path.iterdir()} == names
    code, out, _ = run(tmp_path, "--skip-existing")
    assert code == 0
    assert out.count("left out") == 2
    code, _, err = run(tmp_path)
    assert code == 1
    assert err.count("already exists") == 2


def test_several_videos_go_to_a_folder(run: Run, tmp_path: Path) -> None:
    videos = [make_video(tmp_path / f"{name}.mp4", SIZE, frames=3) for name in "ab"]
    code, _, err = run(*videos, "-o", tmp_path / "both.mp4")
    assert code == 1
    assert "2 inputs cannot all be written to" in err
    (tmp_path / "out").mkdir()
    code, _, _ = run(*videos, "-o", tmp_path / "out")
    assert code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a_x4.mp4", "b_x4.mp4"}


def test_inputs_are_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mkv", "a_x4.mkv", ".c.mp4", "d.txt", "[e].mp4"):
        (tmp_path / name).touch()
    folder, pattern = str(tmp_path), str(tmp_path / "?.m*")
    assert [p.name for p in find_videos([folder])] == ["[e].mp4", "a.mkv", "b.mp4"]
    assert [p.name for p in find_videos([pattern])] == ["a.mkv", "b.mp4"]
    assert [p.name for p in find_videos([str(tmp_path / "b.mp4"), folder])] == ["b.mp4", "[e].mp4", "a.mkv"]
    assert [p.name for p in find_videos([str(tmp_path / "[e].mp4")])] == ["[e].mp4"]
    assert [p.name for p in find_videos([str(tmp_path / "none.mp4")])] == ["none.mp4"]
    (tmp_path / "poster.jpg").touch()
    (tmp_path / ".hidden.jpg").touch()
    said: list[str] = []
    assert [p.name for p in find_videos([folder], said.append)] == ["[e].mp4", "a.mkv", "b.mp4"]
    assert said == [f"Leaving out 1 picture beside the videos in {folder}; name what to upscale of them."]
    (tmp_path / "empty").mkdir()
    for text, words in ((str(tmp_path / "empty"), "holds no video"), (str(tmp_path / "*.avi"), "no file matches")):
        with pytest.raises(InputError, match=words):
            find_videos([text])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("12.5", Fraction(25, 2)), ("1:30", 90), ("0:01:30.25", Fraction(361, 4)), ("0", 0), ("61", 61)],
)
def test_times_are_read(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1:", "1:2:3:4", "-1", "1:60", "1.5:00", "1/2", "nan", " 1"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a time"):
        parse_time(text)


def test_a_part_is_upscaled(run: Run, tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=50, sound=True)
    code, _, _ = run(video, "--start", "0.4", "--end", "0:01.2", "-o", tmp_path / "o.mp4")
    assert code == 0
    assert presentation_times(tmp_path / "o.mp4") == [Fraction(i, 25) for i in range(20)]


@pytest.mark.parametrize(("target", "size"), [("96p", "96x144"), ("64", "64x96"), ("200p", "200x300")])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le"])
def test_the_output_is_resized_to_a_target_height(
    run: Run, tmp_path: Path, target: str, size: str, pixel_format: str
) -> None:
    video = tmp_path / "v.mkv"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, pixel_format
        grey = np.full((SIZE.height, SIZE.width, 3), 128, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey).reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    code, out, _ = run(video, "--target", target, "--json", "--codec", "ffv1")
    answer = json.loads(out)
    assert (code, f"{answer['height']}x{answer['width']}", answer["pixel_format"]) == (0, size, pixel_format)
    with av.open(answer["output"]) as container:
        frame = next(container.decode(video=0))
    assert f"{frame.height}x{frame.width}" == size
    rgb = frame.to_ndarray(format="rgb24")
    assert (rgb.min(), rgb.max()) in ((128, 128), (127, 128), (128, 129))


def test_the_report_says_what_was_done(run: Run, tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=6)
    cuts = tmp_path / "cuts.txt"
    cuts.write_text("3\n")
    code, out, _ = run(video, "--cuts", cuts, "--report", tmp_path / "job.json", "--json")
    assert code == 0
    (answer,) = json.loads((tmp_path / "job.json").read_text())["videos"]
    assert answer == json.loads(out)
    assert (answer["input"], answer["frames"], answer["cuts_s"]) == (str(video), 6, [0.12])
    assert set(answer["stages_s"]) == {"decode", "network", "encode"}
    assert answer["bottleneck"] in answer["stages_s"]


def test_progress_for_programs_is_json_lines(run: Run, tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=6)
    code, _, err = run(video, "--progress", "json")
    assert code == 0
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line for line in lines if line["event"] == "begin"] == [
        {"event": "begin", "what": "v.mp4, 32x48 -> 128x192", "total": 6, "done": 0}
    ]
    assert (lines[-1]["event"], lines[-1]["done"], lines[-1]["total"]) == ("progress", 6, 6)


def test_a_damaged_source_has_an_exit_code_of_its_own(run: Run, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "w.mp4", SIZE, frames=60, options={"movflags": "+faststart"}).read_bytes()
    (tmp_path / "v.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    code, _, err = run(tmp_path / "v.mp4")
    assert code == 3
    assert "frames could not be decoded" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cuts", "c.txt", "--no-scene-reset"), "contradict each other"),
        (("--overwrite", "--skip-existing"), "contradict each other"),
        (("--codec", "h265000"), "there is no encoder 'h265000'"),
        (("--crf", "99"), "has qualities from"),
        (("--preset", "warp"), "has no speed 'warp'"),
        (("--target", "big"), "is not a target height"),
        (("--target", "101p"), "give an even number from 16 to 256"),
        (("--start", "soon"), "is not a time"),
        (("--start", "5", "--end", "2"), "ends before it starts"),
        (("--report", "job.txt"), "does not end in .json"),
        (("--cuts", "none.txt"), "none.txt"),
    ],
)
def test_wrong_options_are_one_sentence(run: Run, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=3)
    code, out, err = run(video, *arguments)
    assert (code, out) == (1, "")
    assert words in err
    assert err.count("Error: ") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"v.mp4"}


def test_an_interrupted_run_keeps_what_is_finished_when_asked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=40, sound=True)
    steps = iter(range(25))

    class Interrupted(RepeatRunner):
        def _step(self, lr: Any) -> Any:
            if next(steps, None) is None:
                raise SystemExit(130)
            return super()._step(lr)

    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: Interrupted(size, io)
    )
    code, _, err = run(video, "--keep-partial", "--no-scene-reset")
    assert code == 130
    assert "frames are finished; they are in" in err
    kept = presentation_times(tmp_path / "v_x4.partial.mp4")
    assert 15 <= len(kept) <= 25
    assert kept == presentation_times(video)[: len(kept)]
    assert {p.name for p in tmp_path.iterdir()} == {"v.mp4", "v_x4.partial.mp4"}


def test_videos_that_would_share_an_output_are_refused_before_any_work(run: Run, tmp_path: Path) -> None:
    for name in ("c1", "c2", "out"):
        (tmp_path / name).mkdir()
    films = [make_video(tmp_path / name / "film.mp4", SIZE, frames=3) for name in ("c1", "c2")]
    for extra in ("--overwrite", "--skip-existing"):
        code, _, err = run(*films, "-o", tmp_path / "out", extra)
        assert code == 1
        assert f"{films[0]} and {films[1]} would both be written to {tmp_path / 'out' / 'film_x4.mp4'}" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_part_has_a_name_of_its_own(run: Run, tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=50)
    assert run(video, "--start", "0.4", "--end", "1")[0] == 0
    assert run(video, "--end", "0.2")[0] == 0
    assert run(video, "--skip-existing")[0] == 0
    names = {"v.mp4", "v_0.4s-1s_x4.mp4", "v_0s-0.2s_x4.mp4", "v_x4.mp4"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert len(presentation_times(tmp_path / "v_x4.mp4")) == 50


def test_cuts_beyond_the_end_are_told(run: Run, tmp_path: Path) -> None:
    video, cuts = make_video(tmp_path / "v.mp4", SIZE, frames=6), tmp_path / "cuts.txt"
    cuts.write_text("3\n6\n100\n")
    code, out, _ = run(video, "--cuts", cuts)
    assert code == 0
    assert "2 of the given cuts lie beyond the last frame." in out
    cuts.write_text("3\n100\n")
    assert "1 of the given cuts lies beyond the last frame." in run(video, "--cuts", cuts, "--overwrite")[1]
    code, _, err = run(video, "--cuts", cuts, "--start", "0.1")
    assert code == 1
    assert "--cuts counts frames from the start of the file" in err


def test_two_runs_do_not_write_one_report(run: Run, tmp_path: Path) -> None:
    film, report = make_video(tmp_path / "a.mp4", SIZE, frames=3), tmp_path / "job.json"
    with begin_report(report, overwrite=False):
        code, _, err = run(film, "--report", report)
        assert code == 1
        assert f"another process is already writing {report}" in err
        assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "job.json", ".job.json.lock"}
    assert run(film, "--report", report)[0] == 0
    assert len(json.loads(report.read_text())["videos"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a_x4.mp4", "job.json"}


def test_a_report_is_written_whatever_happens(run: Run, tmp_path: Path) -> None:
    good, bad, report = make_video(tmp_path / "a.mp4", SIZE, frames=3), tmp_path / "b.mp4", tmp_path / "job.json"
    bad.write_bytes(b"no video")
    assert run(bad, "--report", report)[0] == 1
    (answer,) = json.loads(report.read_text())["videos"]
    assert "cannot be read as a video" in answer["error"]
    for skipped in (False, True):  # a second run replaces the report of the first
        assert run(good, bad, "--skip-existing", "--report", report)[0] == 1
        answers = json.loads(report.read_text())["videos"]
        assert [answer.get("skipped", False) for answer in answers] == [skipped, False]
    precious = tmp_path / "precious.json"
    precious.write_text("{}")
    assert "is no report" in run(good, "--report", precious)[2]
    assert precious.read_text() == "{}"
    assert not (tmp_path / "none").exists()
    assert run(good, "--report", tmp_path / "none" / "job.json")[0] == 1


def test_one_failure_of_any_kind_stops_no_other(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [make_video(tmp_path / f"{name}.mp4", SIZE, frames=3) for name in "abc"]

    class Failing(RepeatRunner):
        def reset(self) -> None:
            if next(kinds) is not None:
                raise OSError("the disk went away")

    kinds = iter([None, OSError, None])
    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: Failing(size, io)
    )
    code, _, err = run(*videos)
    assert code == 1
    assert "the disk went away" in err
    assert {p.name for p in tmp_path.glob("*_x4.mp4")} == {"a_x4.mp4", "c_x4.mp4"}


@pytest.mark.parametrize(
    "options",
    [
        ("--codec", "hevc"),
        ("--crf", 20),
        ("--preset", "slow"),
        ("--no-resume",),
        ("--keep-partial",),
        ("--skip-existing",),
        ("--dry-run",),
    ],
)
def test_an_option_without_effect_is_refused(run: Run, tmp_path: Path, options: tuple[object, ...]) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=3)
    code, _, err = run(video, "-o", tmp_path / "frames", *options)
    assert code == 1
    assert f"{options[0]} has no effect on a folder of pictures as output; leave it out, or give a video file" in err
    assert {p.name for p in tmp_path.iterdir()} == {"v.mp4"}


def test_several_options_without_effect_are_refused_in_the_plural_and_a_pipe_is_offered_no_video(
    run: Run, tmp_path: Path
) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=3)
    err = run(video, "-o", tmp_path / "frames", "--codec", "hevc", "--crf", 20)[2]
    assert "--codec and --crf have no effect on a folder of pictures as output; leave them out, or give a" in err
    err = run("-", "--codec", "hevc")[2]
    assert "--codec has no effect on a pipe as output; leave it out." in err, "of a pipe no video file is made"


@pytest.mark.parametrize("name", ["resume", "scene-reset"])
def test_what_is_the_default_can_be_asked_for_and_the_last_word_counts(run: Run, tmp_path: Path, name: str) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=3)
    code, _, err = run(video, "-o", tmp_path / "a", f"--{name}")
    assert code == 0, err
    parser = get_command(app).commands["upscale"]
    for last, expected in ((f"--{name}", True), (f"--no-{name}", False)):
        context = parser.make_context("upscale", ["v.mp4", f"--no-{name}", f"--{name}", last])
        assert context.params[name.replace("-", "_")] is expected


def test_a_rate_for_a_video_and_a_video_from_a_pipe_are_refused(run: Run, tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, frames=3)
    assert "--fps is for folders of frames" in run(video, "--fps", "30")[2]
    assert "frames from a pipe go to a pipe or to a folder" in run("-", "-o", tmp_path / "o.mp4")[2]


def test_a_file_that_appears_meanwhile_is_not_replaced(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, target = make_video(tmp_path / "v.mp4", SIZE, frames=3), tmp_path / "v_x4.mp4"

    class Meanwhile(RepeatRunner):
        def reset(self) -> None:
            target.write_text("precious")

    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: Meanwhile(size, io)
    )
    code, _, err = run(video)
    assert code == 1
    assert "has appeared in the meantime; pass --overwrite" in err
    assert target.read_text() == "precious"
    assert run(video, "--overwrite")[0] == 0  # from the finished frames, which were kept
    assert len(presentation_times(target)) == 3


def test_what_fails_is_told_to_programs_too(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "b.mp4"
    bad.write_bytes(b"no video")
    code, _, err = run(bad, "--progress", "json")
    assert code == 1
    events = [json.loads(line) for line in err.splitlines()]
    assert any(e["event"] == "error" and "cannot be read as a video" in e["text"] for e in events)
