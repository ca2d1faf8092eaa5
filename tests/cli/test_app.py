"""The command line as a user meets it, by its exit code and its words; in a process of its own where that matters."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import failure_of, run
from media import make_video, presentation_times
from networks import SMALL
from safetensors.torch import save_file

from ksnet_deploy.base.errors import VerificationError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cli import app as cli
from ksnet_deploy.cli.answers import Answer
from ksnet_deploy.export.proof import float32 as verify
from ksnet_deploy.export.verified import export_verified
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.upscale.job import job_folder
from ksnet_deploy.video.reading.sources import Source

SmallOnnx = Callable[..., Path]
COMMAND = [sys.executable, "-m", "ksnet_deploy"]


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['ksnet-deploy', '--help']\nfrom ksnet_deploy.cli.app import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print({'torch', 'onnx', 'onnxruntime', 'av', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "upscale" in result.stdout
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.mark.slow
def test_upscaling_with_an_exported_network_never_loads_torch(
    clip: Path, plain_onnx: SmallOnnx, tmp_path: Path
) -> None:
    arguments = ["ksnet-deploy", "upscale", str(clip), "-o", str(tmp_path / "o.mp4"), "-m", str(plain_onnx("32x48"))]
    code = f"import sys; sys.argv = {arguments!r}\nfrom ksnet_deploy.cli.app import main\n"
    code += "try: main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"
    assert (tmp_path / "o.mp4").exists()


def test_upscale_needs_no_argument_but_the_video(tmp_path: Path) -> None:
    """The bundled checkpoint, exported on the way; the second run takes it from the cache."""
    video = make_video(tmp_path / "my video.mp4", FrameSize(16, 16), frames=3, sound=True)
    first = run("upscale", video)
    assert first.returncode == 0, first.stderr
    target = tmp_path / "my video_x4.mp4"
    assert presentation_times(target) == presentation_times(video)
    assert "3 frames of 64x64 (height x width)" in first.stdout
    assert "fps" in first.stdout
    second = run("upscale", video, "--overwrite")
    assert second.returncode == 0
    assert "Exporting lite-video for frames of 16x16, once." in first.stderr
    assert "Exporting" not in second.stderr
    assert "Using the network 'lite" in first.stderr


def test_upscale_json_is_one_object(clip: Path, plain_onnx: SmallOnnx, tmp_path: Path) -> None:
    result = run("upscale", clip, "-o", tmp_path / "o.mkv", "-m", plain_onnx("32x48"), "--json")
    answer = json.loads(result.stdout)
    assert result.stderr == ""
    assert (answer["height"], answer["width"], answer["frames"], answer["frames_lost"]) == (128, 192, 8, 0)


def test_a_failed_upscale_is_one_sentence(clip: Path, plain_onnx: SmallOnnx, tmp_path: Path) -> None:
    network = plain_onnx("32x48")
    existing = tmp_path / "existing.mp4"
    existing.write_text("precious")
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ((tmp_path / "none.mp4",), "does not exist"),
        ((tmp_path / "empty",), "holds no video or picture"),
        ((clip, "-o", existing), "--overwrite"),
        ((clip, "-o", tmp_path / "none" / "o.mp4"), "does not exist"),
        ((clip, "-o", "/sys/kernel/o.mp4"), "cannot be written to"),
        ((clip, "-o", tmp_path / "o.mp4", "-m", "giant"), "there is bi, lite, lite-video, uni"),
        ((clip, "-o", tmp_path / "o.mp4", "-m", tmp_path / "none.safetensors"), "does not exist"),
        ((clip, "-o", tmp_path / "o.mp4", "--codec", "nocodec"), "there is no encoder"),
        ((clip, "-o", tmp_path / "o.mp4", "--backend", "torch"), "run by ONNX Runtime"),
        ((tmp_path / ("x" * 300 + ".mp4"),), "File name too long"),
        ((clip, "-o", tmp_path / ("x" * 300 + ".mp4")), "File name too long"),
    ):
        model = () if "-m" in arguments else ("-m", network)
        assert words in failure_of(run("upscale", *arguments, *model))
    other = make_video(tmp_path / "v.mp4", FrameSize(32, 64))
    assert "--size 32x64" in failure_of(run("upscale", other, "-m", network))
    assert {p.name for p in tmp_path.iterdir()} == {"existing.mp4", "empty", "v.mp4"}


def test_bad_checkpoints_are_one_sentence(clip: Path, small: Checkpoint, tmp_path: Path) -> None:
    weights = dict(small.model.state_dict())
    for name, change in (
        ("nan", {"refine.align.bias": torch.full((16,), float("nan"))}),
        ("misshaped", {"refine.align.bias": torch.zeros(3)}),
        ("unknown", {"surplus": torch.zeros(3)}),
    ):
        path = tmp_path / f"{name}.safetensors"
        save_file({**weights, **change}, path, {"format": "ksnet", "config": SMALL.to_json()})
        words = "NaN" if name == "nan" else name
        assert words in failure_of(run("upscale", clip, "-o", tmp_path / "o.mp4", "-m", path))
    assert not (tmp_path / "o.mp4").exists()


def test_a_truncated_video_ends_with_its_own_exit_code(plain_onnx: SmallOnnx, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "w.mp4", FrameSize(32, 48), frames=60, options={"movflags": "+faststart"})
    content = whole.read_bytes()
    (tmp_path / "v.mp4").write_bytes(content[: int(len(content) * 0.7)])
    result = run("upscale", tmp_path / "v.mp4", "-m", plain_onnx("32x48"))
    sentence = failure_of(result, code=3)
    lost, kept = re.search(r"(\d+) frames could not be decoded, (\d+) were upscaled", sentence).groups()
    assert int(lost) + int(kept) == 60
    assert len(presentation_times(tmp_path / "v_x4.mp4")) == int(kept)


def test_a_closed_terminal_ends_a_command_like_ctrl_c_unless_that_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[int] = []
    monkeypatch.setattr(cli.signal, "signal", lambda kind, _handler: caught.append(kind))
    monkeypatch.setattr(cli, "app", lambda: None)
    for ignored in (False, True):
        handler = signal.SIG_IGN if ignored else signal.SIG_DFL
        monkeypatch.setattr("ksnet_deploy.base.machine.signal.getsignal", lambda _kind, handler=handler: handler)
        caught.clear()
        cli.main()
        assert (signal.SIGHUP in caught) == (not ignored)
        assert {signal.SIGINT, signal.SIGTERM} <= set(caught)


def test_what_a_library_makes_of_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's exporter, for one: a module whose loading was ended lacks a name afterwards."""

    def export() -> None:
        try:
            cli._stop(signal.SIGINT, None)
        except SystemExit as error:
            raise AttributeError("module 'torch._dynamo' has no attribute 'exc'") from error

    monkeypatch.setattr(cli, "app", export)
    stopped = run("upscale", "v.mp4")
    assert stopped.returncode == 130
    assert failure_of(stopped, 130) == "Error: interrupted; no partial file was left under the output's name."
    monkeypatch.setattr(cli, "app", lambda: {}["of our own"])
    with pytest.raises(KeyError):
        run("upscale", "v.mp4")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_run_has_no_output_and_the_same_command_goes_on(
    plain_onnx: SmallOnnx, tmp_path: Path, number: signal.Signals
) -> None:
    video = make_video(tmp_path / "v.mp4", FrameSize(32, 48), frames=300)
    arguments = ["upscale", str(video), "-m", str(plain_onnx("32x48"))]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    journal = job_folder(tmp_path / "v_x4.mp4") / "journal.jsonl"
    while not (journal.exists() and journal.stat().st_size):  # a segment is finished
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert {p.name for p in tmp_path.iterdir()} == {"v.mp4", journal.parent.name}
    answer = json.loads(run(*arguments, "--json").stdout)
    assert (answer["frames"], answer["resumed_frames"] >= 120) == (300, True)
    assert {p.name for p in tmp_path.iterdir()} == {"v.mp4", "v_x4.mp4"}


def test_export_verifies_and_says_so(small: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    arguments = ("export", path, "-m", small.path, "--size", "32x48", "--verify-frames", "4")
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    assert "Verified: 4 recurrent frames at 32x48, reset at 2: max error" in result.stdout
    assert "--overwrite" in failure_of(run(*arguments))
    answer = json.loads(run(*arguments, "--overwrite", "--json").stdout)
    assert answer["verified"]
    assert answer["max_error"] < 1e-4


def test_export_of_bad_arguments_is_one_sentence(small: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    for arguments, words in (
        ((tmp_path / "a.onnx", "--size", "big"), "HEIGHTxWIDTH"),
        ((tmp_path / "a.onnx", "--size", "8x8"), "16x16"),
        ((tmp_path / "a.engine",), ".onnx"),
        ((tmp_path / "folder.onnx", "--overwrite"), "is a folder"),
        ((tmp_path / "none" / "a.onnx",), "does not exist"),
    ):
        assert words in failure_of(run("export", *arguments, "-m", small.path))
    assert [p.name for p in tmp_path.iterdir()] == ["folder.onnx"]


def test_a_failed_verification_keeps_the_older_file(
    small: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step.onnx"
    path.write_text("an older, good file")
    monkeypatch.setattr(verify, "TOLERANCE", 0.0)
    with pytest.raises(VerificationError, match="differs from PyTorch on frame"):
        export_verified(small, path, FrameSize(32, 48), dynamic=False, io="float32", precision="fp32", frames=3)
    assert path.read_text() == "an older, good file"
    assert [p.name for p in tmp_path.iterdir()] == ["step.onnx"]


def test_a_folder_named_like_a_bundled_checkpoint_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "uni").mkdir()
    assert run("info", cwd=tmp_path).returncode == 0


def test_info_prints_the_columns_of_table_2() -> None:
    result = run("info")
    assert re.search(r"parameters\s+3\.221 M\s+3\.039 M", result.stdout), result.stdout
    assert re.search(r"multiply-adds\s+181\.2 G\s+169\.5 G", result.stdout)
    changed = json.loads(run("info", "--set", "keep_ratio=0.5", "--json").stdout)
    assert changed["config"]["keep_ratio"] == 0.5
    assert changed["params_deploy"] < 3.039e6


def test_a_misspelt_command_or_option_is_a_usage_error() -> None:
    for arguments in (("upscal",), ("upscale",), ("upscale", "a.mp4", "--quality", "3")):
        result = run(*arguments)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr


def test_version() -> None:
    assert re.fullmatch(r"ksnet-deploy \d+\.\d+\.\d+\n", run("--version").stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given: str | None, expected: str) -> None:
    """Spinning ones made a seventh of the iterations beside a busy process; libgomp says what it was told."""
    code = "from ksnet_deploy.cli import app; app.app = lambda: __import__('torch'); app.main()"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": given} if given else {})
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert f"OMP_WAIT_POLICY = '{expected}'" in result.stderr


NO_MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 8 TB")


def test_used_up_memory_is_one_sentence_whichever_library_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> None:
        raise NO_MEMORY

    monkeypatch.setattr("ksnet_deploy.training.run.train_ksnet", train)
    assert "the memory is used up" in failure_of(run("train", tmp_path, "-o", tmp_path / "run"))


def test_a_video_that_the_memory_does_not_hold_stops_no_other(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def upscale(_batch: object, source: Source, *_: object) -> Answer:
        asked.append(source.path.name)
        raise NO_MEMORY

    monkeypatch.setattr("ksnet_deploy.cli.batch.Batch.upscale", upscale)
    videos = [shutil.copy(clip, tmp_path / name) for name in ("a.mp4", "b.mp4")]
    result = run("upscale", *videos, "-o", tmp_path)
    assert (result.returncode, asked) == (1, ["a.mp4", "b.mp4"])
    assert result.stderr.count("the memory is used up") == 2
    assert "Traceback" not in result.stderr
