"""What can come between a training and its end: bad rates, signals, full disks, lost processes, other trainings."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import ArrayClip, folder_of_frames, noise
from trainings import CPU, TINY, moving_clip, settings, tiny_task

from ksnet_deploy.base.errors import CheckpointError, ConfigError, InputError, OutputError, TrainingError
from ksnet_deploy.network.flow import SpyNet, warp
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.training.dataset import clips_identity
from ksnet_deploy.training.flow_task import FlowTask
from ksnet_deploy.training.interruption import lost_worker
from ksnet_deploy.training.ksnet_task import KSNetTask
from ksnet_deploy.training.log import Progress
from ksnet_deploy.training.loop import run_loop
from ksnet_deploy.training.recipe import Recipe, Stage
from ksnet_deploy.training.task import Task
from ksnet_deploy.video.clips.find import find_clips
from ksnet_deploy.video.picture import write_png

SUPPORT = str(Path(__file__).parents[1] / "support")


def in_a_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    head = f"import sys; sys.path.insert(0, {SUPPORT!r})\nimport torch; torch.set_num_threads(1)\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


RATES = """
from pathlib import Path
from trainings import CPU, settings, tiny_task
from ksnet_deploy.base.errors import TrainingError
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.training.loop import run_loop
from ksnet_deploy.training.recipe import Recipe, Stage

for optimizer in ("adam", "muon"):
    for rate in (1.0, 10.0, 1000.0, 1e30):
        folder = Path(sys.argv[1]) / f"{optimizer}-{rate}"
        recipe = Recipe((Stage(8, 1, 3, 16),), learning_rate=rate, flow_frozen=0, optimizer=optimizer)
        try:
            run_loop(tiny_task(folder, recipe), settings(folder, log_every=100, validate_every=4), CPU, lambda _: None)
            print(rate, "finished")
        except TrainingError as error:
            print(rate, error)
        for path in folder.glob("*.safetensors"):
            load_checkpoint(path)
"""


@pytest.mark.slow
def test_a_bad_rate_ends_in_a_sentence_and_leaves_nothing_that_cannot_be_loaded(tmp_path: Path) -> None:
    result = in_a_process(RATES, tmp_path)
    assert result.returncode == 0, (result.returncode, result.stderr)
    lines = result.stdout.splitlines()
    assert len(lines) == 8
    assert all("lower --learning-rate" in line for line in lines if line.startswith("1e+30"))


@pytest.mark.slow
def test_coordinates_that_are_no_numbers_do_not_end_the_process() -> None:
    code = """
from ksnet_deploy.network.flow import warp
flow = torch.full((1, 2, 32, 32), float("nan"), requires_grad=True)
warp(torch.rand(1, 8, 32, 32, requires_grad=True), flow, "border").sum().backward()
"""
    assert in_a_process(code).returncode == 0
    torch.manual_seed(0)
    x, flow = torch.rand(1, 3, 16, 16), 9 * torch.randn(1, 2, 16, 16)
    assert torch.equal(warp(x, flow, "border"), warp(x, flow.requires_grad_(), "border"))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_no_finite_number_above_zero_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=f"learning rate is {rate}; it must be a finite number above 0"):
        Recipe((Stage(1, 1, 1, 16),), learning_rate=rate)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    task = tiny_task(tmp_path)

    def spoil(progress: Progress) -> None:
        if progress.iteration == 3:
            with torch.no_grad():
                next(task.model.parameters()).fill_(float("inf"))

    with pytest.raises(TrainingError, match=r"the loss is nan near iteration 4; the checkpoint of iteration 3 is kept"):
        run_loop(task, settings(tmp_path, save_every_s=0.0), CPU, spoil)

    def fail(progress: Progress) -> None:
        raise AssertionError(progress)

    fresh = tiny_task(tmp_path / "b", Recipe((Stage(1, 1, 2, 16),)))
    with torch.no_grad():
        fresh.model.extract[0].bias.fill_(1e38)
    with pytest.raises(TrainingError, match=r"the first batch is \w+, before any step"):
        run_loop(fresh, settings(tmp_path / "b"), CPU, fail)
    assert not (tmp_path / "b/net.safetensors").exists()


def test_weights_of_no_use_are_told_from_a_rate_that_is_too_high(tmp_path: Path) -> None:
    task = tiny_task(tmp_path)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.fill_(1e30)
    with pytest.raises(TrainingError, match=r"the first batch is \w+, before any step: .* choose another --init"):
        run_loop(task, settings(tmp_path), CPU, lambda _: None)


INTERRUPTED = """
import os, signal
from pathlib import Path
from trainings import CPU, settings, tiny_task
from ksnet_deploy.training.loop import run_loop

def leave(signum, frame):
    print("left", signum, flush=True)
    raise SystemExit(128 + signum)

for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(kind, leave)
folder, kind = Path(sys.argv[1]), int(sys.argv[2])
task = tiny_task(folder)
loss, seen = task.loss, []

def loss_then_signal(batch):
    seen.append(1)
    if len(seen) == 5:
        os.kill(os.getpid(), kind)
    return loss(batch)

task.loss = loss_then_signal
shown = lambda progress: print("at", progress.iteration, flush=True)
run_loop(task, settings(folder, log_every=100), CPU, shown, lambda note: print(note, flush=True))
"""


@pytest.mark.parametrize(
    "kind", [signal.SIGTERM, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (signal.SIGINT, signal.SIGHUP))]
)
def test_a_signal_saves_before_it_leaves(tmp_path: Path, kind: signal.Signals) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of several threads may differ in their last bits
    try:
        whole = tiny_task(tmp_path / "whole")
        run_loop(whole, settings(tmp_path / "whole"), CPU, lambda _: None)
        result = in_a_process(INTERRUPTED, tmp_path / "cut", int(kind))
        assert result.returncode == 128 + kind, result.stderr
        saved = "All up to iteration 5 is saved, so run the same command again to go on from there."
        assert result.stdout.splitlines() == ["at 5", saved, f"left {int(kind)}"]
        cut, seen = tiny_task(tmp_path / "cut"), []
        run_loop(cut, settings(tmp_path / "cut"), CPU, lambda p: seen.append(p.iteration))
    finally:
        torch.set_num_threads(threads)
    assert seen[0] == 6
    for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_handlers_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    run_loop(tiny_task(tmp_path, Recipe((Stage(1, 1, 2, 16),))), settings(tmp_path), CPU, lambda _: None)
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before


FULL = """
import resource
from pathlib import Path
from trainings import CPU, settings, tiny_task
from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.training.loop import run_loop

folder = Path(sys.argv[1])

def fill(progress):
    if progress.iteration == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

try:
    run_loop(tiny_task(folder), settings(folder, save_every_s=0.0), CPU, fill)
except OutputError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_costs_nothing_that_was_saved(tmp_path: Path) -> None:
    result = in_a_process(FULL, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "cannot be written to (File too large)" in result.stdout
    assert "all up to iteration 2 is saved" in result.stdout
    assert not list(tmp_path.glob(".*.part"))
    seen: list[int] = []
    run_loop(tiny_task(tmp_path), settings(tmp_path), CPU, lambda p: seen.append(p.iteration))
    assert seen[0] == 3


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written to"):
        run_loop(tiny_task(tmp_path), settings(tmp_path / "file/run"), CPU, lambda _: None)


def test_a_killed_loading_process_is_one_sentence(tmp_path: Path) -> None:
    def kill(progress: Progress) -> None:
        if progress.iteration == 2:
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"loads data was killed.*fewer --workers.*run the same"):
        run_loop(tiny_task(tmp_path, workers=1), settings(tmp_path), CPU, kill)


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), EOFError(), FileNotFoundError(), RuntimeError("received 0 items of ancdata")]
)
def test_a_connection_that_breaks_before_the_signal_comes_is_told_by_the_signal(
    error: RuntimeError | OSError | EOFError,
) -> None:
    def handler(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        sentence = lost_worker(error)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert sentence is not None
    assert "killed (process 7)" in sentence


def test_a_signal_on_the_way_to_that_sentence_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's handler raises wherever the process is."""
    calls: list[Exception] = []

    def interrupted(error: RuntimeError | OSError | EOFError) -> str | None:
        calls.append(error)
        if len(calls) == 1:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        return lost_worker(error)

    def broken(_: Progress) -> None:
        raise EOFError

    monkeypatch.setattr("ksnet_deploy.training.loop.lost_worker", interrupted)
    with pytest.raises(TrainingError, match=r"loads data was killed \(process 7\).*run the same"):
        run_loop(tiny_task(tmp_path), settings(tmp_path), CPU, broken)
    assert [type(error) for error in calls] == [EOFError, RuntimeError]


def test_a_connection_that_breaks_without_a_signal_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ksnet_deploy.training.interruption.SIGNAL_S", 0.0)
    assert "was killed, which happens" in str(lost_worker(ConnectionResetError()))
    assert lost_worker(RuntimeError("of something else")) is None
    assert lost_worker(FileNotFoundError("of the data")) is None


def test_a_second_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    refused: list[str] = []

    def again(_: Progress) -> None:
        with pytest.raises(OutputError, match=r"another training is at work in") as caught:
            run_loop(tiny_task(tmp_path), settings(tmp_path), CPU, lambda _: None)
        refused.append(str(caught.value))

    run_loop(tiny_task(tmp_path, Recipe((Stage(2, 1, 2, 16),))), settings(tmp_path), CPU, again)
    assert len(refused) == 2


def test_a_still_to_validate_on_is_refused(tmp_path: Path) -> None:
    still = ArrayClip(noise(1, 64, 64, 3), "still")
    with pytest.raises(InputError, match=r"'still'.*one frame only"):
        KSNetTask(
            KSNet(TINY), [moving_clip()], [still], Recipe((Stage(1, 1, 1, 16),)), tmp_path / "n", seed=0, licence=""
        )


def test_pixels_replaced_under_the_same_names_are_noticed(tmp_path: Path) -> None:
    folder = folder_of_frames(tmp_path / "data/a", noise(3, 96, 96, 3))

    def task() -> Task:
        recipe = Recipe((Stage(1, 1, 1, 32),))
        return FlowTask(SpyNet(4), list(find_clips(tmp_path / "data")), [], recipe, tmp_path / "s", seed=0)

    run_loop(task(), settings(tmp_path / "run"), CPU, lambda _: None)
    before = clips_identity(list(find_clips(tmp_path / "data")))
    write_png(folder / "00000001.png", np.zeros((96, 96, 3), np.uint8))
    after = clips_identity(list(find_clips(tmp_path / "data")))
    assert before["data"] == after["data"]
    with pytest.raises(CheckpointError, match="a run with another version of the data"):
        run_loop(task(), settings(tmp_path / "run"), CPU, lambda _: None)


@pytest.mark.slow
def test_a_damaged_file_to_resume_from_is_one_sentence(tmp_path: Path) -> None:
    run_loop(tiny_task(tmp_path), settings(tmp_path), CPU, lambda _: None)
    path = tmp_path / "resume.pt"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(10):
        data = bytearray(whole)
        data[rng.integers(len(data) // 2)] ^= 1 << rng.integers(8)
        path.write_bytes(data[: rng.choice([len(data), len(data) // 3])])
        try:
            run_loop(tiny_task(tmp_path), settings(tmp_path), CPU, lambda _: None)
        except CheckpointError as error:
            assert "start a new run from its weights" in str(error)  # noqa: PT017
    path.write_bytes(whole)
    state = torch.load(path, weights_only=True)
    del state["optimizer"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"cannot be read.*KeyError.*start a new run from its weights"):
        run_loop(tiny_task(tmp_path), settings(tmp_path), CPU, lambda _: None)
