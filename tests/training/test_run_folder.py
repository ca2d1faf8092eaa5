"""The folder of a run and what a run is asked for: nothing of the user's is lost, and what cannot be is refused."""

from __future__ import annotations

import io
import multiprocessing
import sys
from pathlib import Path

import pytest
import torch
from clips import folder_of_frames, moving_grain
from trainings import CPU, TINY, moving_clip, request, settings, tiny_task

from ksnet_deploy.base.errors import CheckpointError, ConfigError, OutputError
from ksnet_deploy.export import memory as export_memory
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.training import run_folder
from ksnet_deploy.training.loop import run_loop
from ksnet_deploy.training.memory import check_batch_memory, pair_bytes, window_bytes
from ksnet_deploy.training.recipe import Recipe, Stage
from ksnet_deploy.training.run import FlowRequest, TrainingRequest, train_flow_network, train_ksnet

SHORT = Recipe((Stage(2, 1, 2, 16),))


def train(folder: Path) -> list[int]:
    """The iterations of a run of two."""
    seen: list[int] = []
    run_loop(tiny_task(folder, SHORT), settings(folder), CPU, lambda p: seen.append(p.iteration))
    return seen


@pytest.mark.parametrize("content", [b"my own,log\nvery,precious\n", b"\xff\xfe\x00binary"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_file_of_the_users_under_the_name_of_the_log_stays(tmp_path: Path, content: bytes, resumed: bool) -> None:
    if resumed:
        train(tmp_path)
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(OutputError, match=r"log.csv is not the log of a training; move it"):
        train(tmp_path)
    assert (tmp_path / "log.csv").read_bytes() == content


def test_an_empty_or_damaged_log_goes_on_with_its_columns(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"")
    assert train(tmp_path) == [1, 2]
    lines = (tmp_path / "log.csv").read_bytes().splitlines(keepends=True)
    assert lines[0].startswith(b"iteration,loss,")
    (tmp_path / "log.csv").write_bytes(lines[0] + lines[1] + b"\xff\x00damaged\n" + lines[2][:9])
    assert train(tmp_path) == []
    rest = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in rest] == ["iteration", "1", "2"]
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(OutputError, match="cannot be written to"):
        train(tmp_path)


@pytest.mark.parametrize("damaged", [False, True])
def test_the_result_of_a_finished_run_that_was_removed_or_damaged_is_written_again(
    tmp_path: Path, damaged: bool
) -> None:
    train(tmp_path)
    path = tmp_path / "net.safetensors"
    whole = load_checkpoint(path).model.state_dict()
    if damaged:
        path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    else:
        path.unlink()
    assert train(tmp_path) == []
    again = load_checkpoint(path).model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


@pytest.mark.slow
def test_an_iteration_that_cannot_be_is_a_damaged_file(tmp_path: Path) -> None:
    train(tmp_path)
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    serialised = io.BytesIO()
    torch.save(state | {"iteration": -5}, serialised)
    (tmp_path / "resume.pt").write_bytes(serialised.getvalue())
    with pytest.raises(CheckpointError, match=r"cannot be read: it is damaged.*new run from its weights, with --init"):
        train(tmp_path)
    (tmp_path / "net.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read: it is damaged.*remove it, to start the run anew"):
        train(tmp_path)


def test_a_result_without_what_its_run_goes_on_from_is_not_replaced(tmp_path: Path) -> None:
    train(tmp_path)
    kept = [tmp_path / name for name in ("net.safetensors", "log.csv")]
    before = [path.read_bytes() for path in kept]
    (tmp_path / "resume.pt").unlink()
    with pytest.raises(OutputError, match=r"net\.safetensors is there without resume\.pt.*--init .*net\.safetensors"):
        train(tmp_path)
    assert [path.read_bytes() for path in kept] == before


def test_a_first_save_without_room_leaves_nothing_that_the_next_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(run_folder.os, "fsync", full)
        with pytest.raises(OutputError, match=r"No space left on device.*nothing was saved yet, so run"):
            train(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv"]
    assert train(tmp_path) == [1, 2]


def refusal(tmp_path: Path, **options: object) -> str:
    """The sentence with which both kinds of training are refused."""
    data = folder_of_frames(tmp_path / "data" / "clip", moving_grain(2, 96, 96)).parent
    options = {"data": (data,), "folder": tmp_path / "run"} | options
    sentences = set()
    for run, kind in ((train_ksnet, TrainingRequest), (train_flow_network, FlowRequest)):
        with pytest.raises(ConfigError) as caught:
            run(kind(**options), lambda *_: None, lambda _: None)  # type: ignore[arg-type, operator]
        sentences.add(str(caught.value))
    assert not (tmp_path / "run").exists()
    (sentence,) = sentences
    return sentence


@pytest.mark.parametrize("seed", [-1, 1 << 63, 1 << 100])
def test_a_seed_that_is_none_is_refused(tmp_path: Path, seed: int) -> None:
    assert "cannot be a seed; give --seed a number from 0 to" in refusal(tmp_path, seed=seed)


@pytest.mark.parametrize("option", ["threads", "workers"])
def test_more_at_once_than_a_machine_bears_are_refused(tmp_path: Path, option: str) -> None:
    before = torch.get_num_threads()
    assert f"100000 {option} cannot be run on" in refusal(tmp_path, **{option: 100_000})
    assert torch.get_num_threads() == before


def test_a_run_in_its_own_data_is_refused(tmp_path: Path) -> None:
    """What it writes would be read as a shard when it goes on."""
    assert "give another --output" in refusal(tmp_path, folder=tmp_path / "data")
    beside = request(tmp_path, tmp_path / "run", validation=tmp_path)
    with pytest.raises(ConfigError, match=r"the output folder .*run lies in the data"):
        train_ksnet(beside, lambda *_: None, lambda _: None)


@pytest.mark.parametrize("stage", ["2:1x999999999999x32", "2:999999999999x1x32"])
def test_a_batch_that_cannot_fit_is_refused_and_the_option_named(tmp_path: Path, stage: str) -> None:
    asked = request(tmp_path, tmp_path / "data", stages=(stage,))
    with pytest.raises(ConfigError, match=r"to hold a batch of \d+ windows?.*takes about .* free here.*--stage"):
        train_ksnet(asked, lambda *_: None, lambda _: None)


def test_the_least_memory_is_counted_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(1, 8, 5, 32)
    needed = 8 * window_bytes(stage, 16, trained=True)
    assert needed > 8 * window_bytes(stage, 16, trained=False) == 8 * 5 * 32 * 32 * 51
    assert pair_bytes(stage) == 32 * 32 * 14
    monkeypatch.setattr(export_memory, "available_memory", lambda: needed / export_memory.RESERVE + 1)
    check_batch_memory([stage], CPU, lambda s: window_bytes(s, 16, trained=True))
    with pytest.raises(ConfigError, match="to hold a batch of 9 windows of 5 frames"):
        check_batch_memory([Stage(1, 9, 5, 32)], CPU, lambda s: window_bytes(s, 16, trained=True))


def _peak_growth(frames: int, folder: Path) -> int:
    from ksnet_deploy.base.machine import peak_memory

    torch.set_num_threads(1)
    recipe = Recipe((Stage(1, 1, 2, 16),))
    run_loop(tiny_task(folder / "a", recipe), settings(folder / "a"), CPU, lambda _: None)
    before = peak_memory()
    recipe = Recipe((Stage(1, 1, frames, 24),))
    run_loop(tiny_task(folder / "b", recipe), settings(folder / "b"), CPU, lambda _: None)
    return peak_memory() - before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process alone is read from /proc")
def test_a_batch_takes_more_than_its_least(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        grown = pool.apply(_peak_growth, (100, tmp_path))
    assert moving_clip().height == 4 * 24
    assert grown > window_bytes(Stage(1, 1, 100, 24), TINY.channels, trained=True)
