"""The files that measuring commands write, and options of theirs without effect."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import failure_of, run


@pytest.mark.parametrize(("command", "option"), [("bench", "--csv"), ("bench", "--plot"), ("evaluate", "--plot")])
def test_a_file_that_exists_is_replaced_only_where_that_is_asked_for(tmp_path: Path, command: str, option: str) -> None:
    there = tmp_path / "there.png"
    there.write_text("mine")
    nowhere = [tmp_path / "no_clips"] if command == "evaluate" else ["-m", tmp_path / "none.onnx"]
    assert "there.png already exists; pass --overwrite" in failure_of(run(command, *nowhere, option, there))
    assert "there.png" not in failure_of(run(command, *nowhere, option, there, "--overwrite"))
    assert there.read_text() == "mine"
    assert "is a folder" in failure_of(run(command, *nowhere, option, _folder(tmp_path / "a.png"), "--overwrite"))


@pytest.mark.parametrize("command", ["preview", "visualize"])
@pytest.mark.parametrize("stem", ["holiday.2024", "n" * 251])
def test_a_page_is_named_after_any_film(tmp_path: Path, command: str, stem: str) -> None:
    assert "does not exist" in failure_of(run(command, tmp_path / f"{stem}.mp4"))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "given",
    [
        *(("--csv", "a.csv"), ("--plot", "a.png"), ("--compare", "a.json"), ("--json",), ("--overwrite",)),
        *(("--seconds", "8"), ("--film", "90"), ("--precision", "int8"), ("--precision", "auto")),
    ],
)
def test_an_estimate_refuses_what_has_no_effect_on_it(given: tuple[str, ...]) -> None:
    assert f"leave {given[0]} out" in failure_of(run("bench", "--estimate", "rtx3080", *given))


def test_bench_takes_no_clip_that_can_be_read_only_once() -> None:
    assert "standard input only once; give a file" in failure_of(run("bench", "--clip", "-"))


def test_two_outputs_of_bench_are_two_files_and_none_is_an_input(tmp_path: Path) -> None:
    same, link = tmp_path / "same.png", tmp_path / "link"
    link.symlink_to(tmp_path)
    sentence = failure_of(run("bench", "-m", "none.onnx", "--csv", same, "--plot", link / "same.png", "--overwrite"))
    assert "is both --csv and --plot; give --plot another name" in sentence
    for option in ("--clip", "-m"):
        sentence = failure_of(run("bench", "--csv", same, option, same, "--overwrite"))
        assert f"is both {'--model ' + str(same) if option == '-m' else option} and --csv" in sentence


@pytest.mark.parametrize(("command", "option"), [("bench", "--csv"), ("bench", "--plot"), ("evaluate", "--plot")])
def test_a_place_that_takes_no_file_is_told_before_any_work(command: str, option: str, tmp_path: Path) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("this system has no /proc")
    nowhere = [tmp_path / "no_clips"] if command == "evaluate" else ["-m", tmp_path / "none.onnx"]
    sentence = failure_of(run(command, *nowhere, option, "/proc/a.png"))
    assert "/proc/a.png cannot be written" in sentence
    assert "choose another place" in sentence
    device = failure_of(run(command, *nowhere, option, _device(tmp_path), "--overwrite"))
    assert "is not a regular file" in device


def _device(folder: Path) -> Path:
    path = folder / "device.png"
    path.symlink_to("/dev/null")
    return path
