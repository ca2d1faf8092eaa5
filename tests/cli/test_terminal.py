"""What is shown is what was said, on a terminal and for programs."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from ksnet_deploy.cli.terminal import JsonLines, make_streams_last, progress

NAMES = ["a[/b]x", "film [bluray].mp4", "[red]r[/red].mkv", "10:smile:30.mp4", "{0} 100%.mp4", "two\nlines.mp4"]


def shown_lines(text: str) -> list[str]:
    """What a terminal is told to show, without its codes for colours and places."""
    lines = (line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_name_is_shown_as_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with progress("Upscaling") as bar:
        bar.begin(name, 3)
        bar.say(f"say {name}")
    lines = shown_lines(capsys.readouterr().err)
    assert f"say {name}" in lines
    assert lines[-1].startswith(f"Upscaling {name} ")
    with progress("Upscaling") as bar:
        bar.begin("", 3)
        bar.describe(f"describe {name}", rate=f"at {name}")
    shown = shown_lines(capsys.readouterr().err)[-1]
    assert shown.startswith(f"Upscaling describe {name} ")
    assert shown.endswith(f"0/3 at {name} -:--:--")


def test_a_long_line_is_not_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    line = f"Using {'a long folder/' * 10}film.mp4"
    with progress("Upscaling") as bar:
        bar.say(line)
    assert line in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_for_programs_every_line_is_one_json_object(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Upscaling", style="json") as lines:
        assert isinstance(lines, JsonLines)
        lines.begin(name, 1)
        lines.advance()
        lines.say(name)
        lines.complain(name)
        lines.say_result(f"{name}\nA second line.")
    out, err = capsys.readouterr()
    told = [json.loads(line) for line in err.splitlines()]
    assert [line["event"] for line in told] == ["begin", "progress", "note", "error"]
    assert (told[0]["what"], told[2]["text"], told[3]["text"]) == (name, name, name)
    assert [json.loads(line) for line in out.splitlines()] == [{"event": "result", "text": f"{name}\nA second line."}]


def test_a_complaint_in_text_is_one_sentence_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Upscaling", style="none") as bar:
        bar.complain("a.mp4 does not exist")
    assert capsys.readouterr() == ("", "Error: a.mp4 does not exist.\n")


def test_in_a_pipe_no_bar_comes_after_the_result(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("Upscaling") as bar:
        bar.begin("film.mp4", 3)
        bar.advance()
        bar.say("a note")
        bar.say_result("the result")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("the result\n", "a note\n")


@pytest.mark.parametrize(("encoding", "name"), [("utf-8", "\udcff.mp4"), ("ascii", "é.mp4")])
def test_a_name_that_the_terminal_cannot_be_told_ends_nothing(
    encoding: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, errors="strict"))
    make_streams_last()
    print(f"{name}: done", flush=True)
    assert written.getvalue().endswith(b".mp4: done\n")
    assert written.getvalue().startswith(b"\\")
