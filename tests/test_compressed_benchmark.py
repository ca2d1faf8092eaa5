"""The benchmark of compressed video, with a network that costs nothing."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from clips import folder_of_frames, moving_grain
from networks import new_checkpoint
from runners import RepeatRunner
from trainings import TINY

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
compressed = pytest.importorskip("compressed", reason="needs a checkout")
pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _costless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: RepeatRunner(size, io)
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder_of_frames(tmp_path / "data/a", moving_grain(4, 64, 96))
    folder_of_frames(tmp_path / "data/b", moving_grain(3, 66, 90))
    folder_of_frames(tmp_path / "data/still", moving_grain(1, 64, 96))
    return tmp_path / "data"


def measured(monkeypatch: pytest.MonkeyPatch, output: Path, *options: object) -> list[dict[str, Any]]:
    command = ["compressed.py", "--output", output, "--no-warping", *options]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    compressed.main()
    rows: list[dict[str, Any]] = json.loads(output.read_text())
    return rows


def test_every_method_gets_a_row_of_every_quality(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "c.json"
    rows = measured(monkeypatch, output, "--data", f"v={data}", "--models", "lite", "--qualities", 18, 40)
    assert [(row["quality"], row["method"]) for row in rows] == [
        (quality, method) for quality in (None, 18, 40) for method in ("bicubic", "lite")
    ]
    assert {(row["clips"], row["frames"]) for row in rows} == {(2, 15)}, "the still is left out"
    psnr = {(row["method"], row["quality"]): row["psnr_db"] for row in rows}
    assert psnr["bicubic", None] > psnr["bicubic", 18] > psnr["bicubic", 40]
    for row in rows:
        assert row["gain_db"] == pytest.approx(row["psnr_db"] - psnr["bicubic", row["quality"]])
        assert row["least_gain_db"] <= row["gain_db"]
    assert output.with_suffix(".png").stat().st_size > 1000


def test_no_line_is_of_two_networks(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, before = tmp_path / "c.json", new_checkpoint(tmp_path, TINY).path
    asked = ("--data", f"v={data}", "--clips", 1, "--frames", 2)
    first = measured(monkeypatch, output, *asked, "--models", before, "lite", "--qualities", 18, 30)
    assert len(first) == 9
    again = measured(monkeypatch, output, *asked, "--models", before, "--qualities", 30)
    assert sorted(map(str, again)) == sorted(map(str, first)), "the same again takes its own place"
    before.write_bytes(Path(compressed.bundled_checkpoint("lite-video")).read_bytes())
    rows = measured(monkeypatch, output, *asked, "--models", before, "--qualities", 30)
    those = [row for row in rows if row["method"] == before.stem]
    assert [row["quality"] for row in those] == [None, 30], "of the former weights nothing is left"
    assert len({row["weights_sha256"] for row in those}) == 1
    assert len([row for row in rows if row["method"] == "lite"]) == 3, "of others all"


def test_no_row_stands_beside_those_of_another_encoder() -> None:
    row = dict(zip(compressed.KEYS, ("v", 1, 2, "h264", 23, "lite"), strict=True))
    row |= {"encoder": "new", "weights_sha256": "1"}
    clean, other_codec = row | {"quality": None, "encoder": None}, row | {"codec": "hevc", "encoder": "hevc"}
    other_quality = row | {"quality": 18}
    stale = row | {"quality": 18, "encoder": "old", "method": "bicubic", "weights_sha256": None}
    found = compressed.without_stale([clean, other_codec, other_quality, stale, row], row)
    assert found == [clean, other_codec, other_quality]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--data", "{data}"), "names no folder of clips; write NAME=FOLDER"),
        (("--data", "v="), "names no folder of clips; write NAME=FOLDER"),
        (("--data", "v={data}", "--data", "v={data}/a"), "--data has two that are called 'v'"),
        (("--data", "v={data}/none"), "/none does not exist"),
        (("--data", "v={data}/still"), "no clip of two frames or more"),
        (("--data", "v={data}", "--clips", 0), "--clips: '0' is no number from 1 on"),
        (("--data", "v={data}", "--frames", -3), "--frames: '-3' is no number from 1 on"),
        (("--data", "v={data}", "--qualities", 52), "h264 has qualities from 0 (best) to 51, not 52"),
        (("--data", "v={data}", "--models", "x/net.pth", "y/net.pth"), "--models has two that are called 'net'"),
        (("--data", "v={data}", "--models", "x/bicubic.pth"), "--models has two that are called 'bicubic'"),
        (("--data", "v={data}", "--models", "lite", "giant"), "no checkpoint named 'giant'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    options: tuple[object, ...],
    fault: str,
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(compressed, "evaluate", lambda *_, **__: math.nan)
    with pytest.raises(SystemExit) as ended:
        measured(monkeypatch, tmp_path / "c.json", *(str(word).format(data=data) for word in options))
    assert fault in f"{ended.value} {capsys.readouterr().err}"
    assert not (tmp_path / "c.json").exists()
