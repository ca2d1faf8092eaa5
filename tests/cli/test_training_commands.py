"""pack, train, train-flow and evaluate as a user meets them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from clips import folder_of_frames, noise
from command import failure_of, run

from ksnet_deploy.measure.degradation import degrade
from ksnet_deploy.network.bundled import bundled_checkpoint

TINY = [word for name in ("channels=8", "extract_blocks=1", "deform_groups=2") for word in ("--set", name)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("a", "b"):
        folder_of_frames(folder / name, noise(3, 160, 160, 3))
    return folder


@pytest.mark.slow
def test_a_training_is_plotted_beside_its_log(data: Path, tmp_path: Path) -> None:
    command = ("train", data, "-o", tmp_path, "--size", "lite", *TINY, "--stage", "3:1x2x16", "--validation", data)
    assert run(*command, "--max-minutes", "0").returncode == 0
    assert not (tmp_path / "log.png").exists()
    result = run(*command, "--plot")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")
    from PIL import Image

    with (tmp_path / "log.csv").open(newline="") as file:
        figures = list(csv.DictReader(file))[-1]["figures"].split()
    with Image.open(tmp_path / "log.png") as picture:
        assert picture.size == (960, 360 * (1 + len(figures)))  # a chart for each


def test_from_frames_to_a_trained_network_and_its_figures(data: Path, tmp_path: Path) -> None:
    packed = run("pack", data, "-o", tmp_path / "shards", "--hold-out", "1")
    assert packed.returncode == 0, packed.stderr
    assert [line.partition(": ")[2] for line in packed.stdout.splitlines()] == ["1 clip"] * 2
    shards, held_out = tmp_path / "shards/train", tmp_path / "shards/validation"

    options = ("-o", tmp_path / "flow", "--channels", "16", "--stage", "2:2x1x32", "--validation", held_out)
    flow = run("train-flow", shards, *options)
    assert flow.returncode == 0, flow.stderr
    assert "epe_px" in flow.stderr

    command = ("train", shards, "-o", tmp_path / "net", "--size", "lite", *TINY, "--stage", "3:2x2x16")
    command = (*command, "--flow", tmp_path / "flow/spynet.safetensors", "--validation", held_out)
    command = (*command, "--precision", "bf16")
    trained = run(*command, "--licence", "mine")
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.strip() == str(tmp_path / "net/ksnet.safetensors")
    assert "it/s" in trained.stderr
    assert "samples/s" in trained.stderr
    assert "gain" in trained.stderr
    with (tmp_path / "net/log.csv").open(newline="") as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == ["3"]
    again = run(*command, "--licence", "mine")
    assert again.returncode == 0
    assert "loss" not in again.stderr, "a finished run does nothing"
    assert "choose another folder" in failure_of(run(*command, "--seed", "5"))

    answer = run("evaluate", held_out, "-m", tmp_path / "net/ksnet.safetensors", "--backend", "torch", "--json")
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["mean"]["psnr_db"] > 0
    assert report["clips"][0]["frames"] == 3
    options = ("-m", tmp_path / "net/ksnet.safetensors", "--backend", "torch", "--codec", "hevc")
    encoded = run("evaluate", held_out, *options)
    assert encoded.returncode == 0, encoded.stderr
    assert "degradation BI, hevc CRF 28, Y" in encoded.stdout
    assert encoded.stdout.count("mean of bicubic") == 1
    bicubic = run("evaluate", held_out, "--method", "bicubic", "--plot", tmp_path / "p.png", "--warping")
    assert bicubic.returncode == 0, bicubic.stderr
    assert "bicubic on folder, degradation BI, Y" in bicubic.stdout
    assert (tmp_path / "p.png").stat().st_size > 1000


@pytest.mark.slow
def test_from_frames_to_a_network_for_encoded_video(data: Path, tmp_path: Path) -> None:
    packed = run("pack", data, "-o", tmp_path / "shards", "--degradation", "video", "--variants", "2", "--seed", "3")
    assert packed.returncode == 0, packed.stderr
    command = ("train", tmp_path / "shards", "-o", tmp_path / "net", "--size", "lite", "--stage", "3:2x2x16")
    command = (*command, "--degradation", "video", "--validation", tmp_path / "shards", "--hours", "0.001")
    trained = run(*command, "--validate-every", "1000")
    assert trained.returncode == 0, trained.stderr
    assert "2 clips and 0 stills, 0.001 hours" in trained.stderr
    assert "iterations take 0.001 hours" in trained.stderr
    assert "gain" in trained.stderr


@pytest.mark.slow
def test_training_on_shards_needs_neither_a_decoder_nor_onnx(data: Path, tmp_path: Path) -> None:
    assert run("pack", data, "-o", tmp_path / "shards").returncode == 0
    arguments = ("train", tmp_path / "shards", "-o", tmp_path / "run", "--size", "lite", "--stage", "1:1x2x16")
    arguments = (*arguments, "--validation", tmp_path / "shards")
    code = f"""
import sys

for name in ("av", "onnx", "onnxscript", "onnxruntime", "tensorrt", "matplotlib"):
    sys.modules[name] = None
sys.argv = ["ksnet-deploy", *{[*map(str, arguments)]!r}]
from ksnet_deploy.cli.app import main
main()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run/ksnet.safetensors").exists()


def test_bad_data_is_one_sentence_that_names_it(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    odd = folder_of_frames(tmp_path / "odd", noise(2, 66, 96, 3))
    low = folder_of_frames(tmp_path / "low", degrade(noise(3, 96, 100, 3), "BI"))
    broken = folder_of_frames(tmp_path / "broken", noise(3, 96, 96, 3))
    for path in broken.iterdir():
        path.write_bytes(path.read_bytes()[:200])
    corrupt = folder_of_frames(tmp_path / "corrupt", noise(2, 96, 96, 3))
    (corrupt / "00000001.png").write_bytes((corrupt / "00000001.png").read_bytes()[:900])
    train = ("train", "-o", tmp_path / "run", "--size", "lite", "--stage", "1:1x2x16")
    for arguments, words in (
        ((*train, tmp_path / "empty"), "empty holds no frames"),
        ((*train, tmp_path / "none"), "none does not exist"),
        ((*train, odd), "'odd' of"),
        ((*train, broken), ".png"),
        ((*train, corrupt, "--workers", "1"), "corrupt/00000001.png"),
        ((*train, data, "--init", "giant"), "no checkpoint named 'giant'"),
        ((*train, data, "--init", bundled_checkpoint("uni")), "holds another network"),
        ((*train, data, "--learning-rate", "0"), "the learning rate is 0"),
        ((*train, data, "--stage", "soon"), "'soon' is no training stage"),
        ((*train, data, "--set", "keep_ratio=2"), "keep_ratio is 2"),
        ((*train, data, "--device", "cuda"), "no CUDA device"),
        (("evaluate", odd, "--method", "bicubic"), "--crop"),
        (("evaluate", data / "a", "--lr", low, "--method", "bicubic"), "must be a quarter, 40x40"),
        (("evaluate", broken, "--method", "bicubic"), ".png"),
        (("evaluate", data, "--protocol", "vid4"), "lacks 4 of the 4 clips of this benchmark, calendar, city"),
        (("evaluate", data, "--codec", "vp9", "--crf", "64"), "vp9 has qualities from 0 (best) to 63, not 64"),
        (("evaluate", data, "--crf", "23"), "add --codec h264"),
        (("pack", data, "-o", tmp_path / "s", "--variants", "2"), "add --degradation video"),
        ((*train, data, "--degradation", "video"), "'ksnet-deploy pack DATA -o FOLDER --degradation video'"),
        ((*train, data, "--init-partial"), "name them with --init"),
        ((*train, data, "--learning-rate", "inf"), "must be a finite number above 0"),
        ((*train, data, "--hours", "0"), "give --hours a finite number above 0"),
        (("pack", tmp_path / "empty", "-o", tmp_path / "s"), "empty holds no frames"),
        (("pack", data, "-o", tmp_path / "s", "--hold-out", "2"), "2 source videos cannot be held out of 2"),
    ):
        assert words in failure_of(run(*arguments)), arguments
    assert not (tmp_path / "run/ksnet.safetensors").exists()
