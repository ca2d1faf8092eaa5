"""The option --cluster, as far as it needs no Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import failure_of, run
from media import make_video
from typer.main import get_command

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cli.app import app


@pytest.mark.parametrize(
    ("words", "inputs", "address"),
    [
        (("film.mkv", "--cluster"), ["film.mkv"], "local"),
        (("--cluster", "film.mkv"), ["film.mkv"], "local"),
        (("--cluster", "10.0.0.1:6379", "film.mkv"), ["film.mkv"], "10.0.0.1:6379"),
        (("film.mkv", "--cluster", "auto"), ["film.mkv"], "auto"),
        (("film.mkv", "--cluster", "--workers", "2"), ["film.mkv"], "local"),
        (("film.mkv", "--cluster=head:1"), ["film.mkv"], "head:1"),
        (("film.mkv", "--", "--cluster"), ["film.mkv", "--cluster"], None),
    ],
)
def test_an_address_is_what_looks_like_one(words: tuple[str, ...], inputs: list[str], address: str | None) -> None:
    context = get_command(app).commands["upscale"].make_context("upscale", list(words))
    assert (context.params["inputs"], context.params["cluster"]) == (inputs, address)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--workers", "2"), "--workers is of --cluster"),
        (("--cluster", "--workers", "0"), "0 workers upscale nothing"),
        (("--cluster", "--dry-run"), "--dry-run measures this machine alone"),
        (("--cluster=nowhere",), "'nowhere' is no address of a cluster; give HOST:PORT"),
        (("--cluster", "127.0.0.1:9"), "no cluster answers at 127.0.0.1:9"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    video = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=2)
    assert words in failure_of(run("upscale", video, *options))
    assert {path.name for path in tmp_path.iterdir()} == {"v.mp4"}


def test_without_ray_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    video = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=2)
    sentence = failure_of(run("upscale", video, "--cluster"))
    assert "need Ray, which is not installed" in sentence
    assert "pip install 'ksnet-deploy[cluster]'" in sentence


def test_without_the_option_no_ray_is_loaded(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=2)
    code = (
        "import sys\nimport ksnet_deploy\nfrom ksnet_deploy.upscale.networks import NetworkFile\n"
        "from runners import RepeatRunner\nfrom ksnet_deploy.cli.app import main\n"
        "import ksnet_deploy.cluster.crew, ksnet_deploy.cluster.film, ksnet_deploy.cluster.front\n"
        "NetworkFile.open = lambda _n, size, io, *_, **__: RepeatRunner(size, io)\n"
        f"sys.argv = ['ksnet-deploy', 'upscale', {str(video)!r}]\nmain()\nassert 'ray' not in sys.modules\n"
    )
    support = str(Path(__file__).parents[1] / "support")
    subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": support, "PATH": ""}, check=True, capture_output=True
    )
