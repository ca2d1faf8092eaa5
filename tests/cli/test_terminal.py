"""What is shown is what was said, on a terminal and for programs."""

from __future__ import annotations

import json

import pytest

from ksnet_deploy.cli.terminal import JsonLines, progress

NAMES = ["a[/b]x", "film [bluray].mp4", "[red]r[/red].mkv", "10:smile:30.mp4", "{0} 100%.mp4", "two\nlines.mp4"]


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_name_is_shown_as_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with progress("Upscaling") as bar:
        bar.begin(name, 3)
        bar.say(f"say {name}")
    said, shown = capsys.readouterr().err.splitlines()
    assert said == f"say {name}"
    assert shown.startswith(f"Upscaling {name} ")
    with progress("Upscaling") as bar:
        bar.begin("", 3)
        bar.describe(f"describe {name}", rate=f"at {name}")
    shown = capsys.readouterr().err.rstrip()
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
