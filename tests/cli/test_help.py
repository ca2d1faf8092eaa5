"""What the commands say of themselves."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import run
from typer.main import get_command

from ksnet_deploy.cli.app import COMMANDS, app
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.upscale.networks import default_model, video_model

NAMES = [command.__name__.replace("_", "-") for command in COMMANDS]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")


@pytest.mark.parametrize(("command", "examples"), COMMANDS.items(), ids=NAMES)
def test_every_command_shows_two_examples_whose_options_there_are(
    command: Callable[..., None], examples: tuple[str, str]
) -> None:
    name = command.__name__.replace("_", "-")
    shown = [re.sub(r"\s+", " ", run(name, option).stdout) for option in ("-h", "--help")]
    assert shown[0] == shown[1]
    options = {text for parameter in get_command(app).commands[name].params for text in parameter.opts}
    for example in examples:
        assert f"ksnet-deploy {name} {example}".strip() in shown[0]
        assert {word for word in shlex.split(example) if word.startswith("-")} <= options


def test_help_on_upscale_fits_on_a_page() -> None:
    lines = run("upscale", "--help").stdout.splitlines()
    assert len(lines) <= 40
    assert any("Advanced" in line for line in lines)


def test_no_help_is_in_a_dialect_of_our_own_or_of_the_time_of_two_networks() -> None:
    for name in NAMES:
        said = re.sub(r"[\s│]+", " ", run(name, "-h").stdout)
        assert "unless told" not in said, name
        assert "'uni' or 'lite'" not in said, f"{name}: as other networks are bundled too"


def test_defaults_that_depend_on_the_device_and_what_is_taken_are_told_as_they_are(tmp_path: Path) -> None:
    said = {name: re.sub(r"[\s│]+", " ", run(name, "-h").stdout) for name in ("preview", "export", "convert")}
    usual = " or ".join(default_model(device) for device in ("cpu", "cuda"))
    assert video_model("cpu") == video_model("cuda")
    assert f"(default: {usual}, and {video_model('cpu')})" in said["preview"]
    assert ".onnx, 'uni'" not in said["export"], "as only checkpoints are exported"
    assert "Terms of the weights (default: the file's)" in said["convert"]
    assert run("convert", bundled_checkpoint("lite"), tmp_path / "x.safetensors").returncode == 0
    licences = [load_checkpoint(path).metadata["licence"] for path in (bundled_checkpoint("lite"), *tmp_path.iterdir())]
    assert licences[0] == licences[1] != "not stated"


def test_help_is_quick_because_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; from ksnet_deploy.cli.app import main\n"
        "sys.argv = ['ksnet-deploy', 'upscale', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'av', 'onnx', 'onnxruntime', 'matplotlib', 'safetensors'}\n"
        "heavy = (heavy | {'gradio', 'fastapi', 'uvicorn', 'PIL'}) & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("module", ["ksnet_deploy", "ksnet_deploy.cli"])
def test_the_package_runs_as_a_module(module: str) -> None:
    command = [sys.executable, "-m", module, "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("ksnet-deploy ")
