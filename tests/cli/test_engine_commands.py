"""What `build-engine` and `build-plugins` say of their work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import failure_of, run

from ksnet_deploy.cli.engines import _proof_in_words

PROOF = {"what": "ONNX Runtime", "against": "PyTorch", "frames": 30, "reset_at": None, "least_psnr_db": 62.3}


@pytest.mark.parametrize(
    ("ties", "words"),
    [
        ({}, "ONNX Runtime with PyTorch, frames 30, least psnr db 62.3"),
        ({"3": 51.2, "9": 50.0}, "other choice of near-tied channels on frame 3 and 9"),
    ],
)
def test_near_ties_are_told_where_there_were_any(ties: dict[str, float], words: str) -> None:
    said = _proof_in_words({**PROOF, "near_ties": ties})
    assert said.endswith(words)
    assert "{" not in said
    assert "None" not in said


def test_a_compilation_shows_how_far_it_is_and_not_what_cmake_prints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(on_line: Callable[[str], None], **_: Any) -> Path:
        for line in ("-- The CXX compiler identification is GNU", "[1/7] Building CUDA object a.cu.o", "[7/7] Linking"):
            on_line(line)
        return tmp_path / "libksnet_plugins.so"

    monkeypatch.setattr("ksnet_deploy.ops.library.build_plugins", build)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    shown = run("build-plugins").stderr
    assert "7/7" in shown
    assert "CXX compiler" not in shown
    assert "CUDA object" not in shown


@pytest.mark.parametrize(("command", "option"), [("export", "--io"), ("build-engine", "--runtime")])
def test_a_wrong_choice_is_refused_without_words_of_a_library(command: str, option: str) -> None:
    result = run(command, "a", option, "foo")
    assert result.returncode == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert f"Invalid value for '{option}': 'foo' is not one of" in said
    assert "Value error" not in said


@pytest.mark.parametrize("bound", ["nan", "inf", "-1"])
def test_a_bound_that_nothing_can_be_held_to_is_refused(bound: str, tmp_path: Path) -> None:
    said = failure_of(run("build-engine", tmp_path / "e.engine", "--gpu", "sm86", "--min-psnr", bound))
    assert f"held to {bound} dB; give --min-psnr a number from 0" in said
