from __future__ import annotations

import copy
import csv
import math
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from clips import ArrayClip, folder_of_frames, noise
from safetensors.torch import save_file
from torch import Tensor, nn
from trainings import CPU, TINY, moving_clip, request, settings, tiny_task

from ksnet_deploy.base.errors import CheckpointError, InputError, TrainingError
from ksnet_deploy.base.metrics import luma, psnr
from ksnet_deploy.measure.degradation import degrade, enlarge_bicubic
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.flow import SpyNet
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.training.flow_task import FlowTask
from ksnet_deploy.training.ksnet_task import KSNetTask
from ksnet_deploy.training.log import Progress
from ksnet_deploy.training.loop import _Run, run_loop
from ksnet_deploy.training.recipe import OptimizerName, Recipe, Stage
from ksnet_deploy.training.run import train_ksnet
from ksnet_deploy.training.task import Task
from ksnet_deploy.training.world import World


def losses(folder: Path) -> dict[str, str]:
    with (folder / "log.csv").open(newline="") as file:
        return {row["iteration"]: row["loss"] for row in csv.DictReader(file)}


def run(task: Task, folder: Path, **options: Any) -> list[Progress]:
    seen: list[Progress] = []
    run_loop(task, settings(folder, **options), CPU, seen.append)
    return seen


SUPPORT = str(Path(__file__).parents[1] / "support")

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import torch
torch.set_num_threads(1)
from trainings import CPU, settings, tiny_task
from ksnet_deploy.training.loop import run_loop

def kill(progress):
    if progress.iteration == 6:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
run_loop(tiny_task(folder, optimizer=sys.argv[3]), settings(folder, save_every_s=0.0), CPU, kill)
"""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_killed_run_continues_as_if_uninterrupted(tmp_path: Path, optimizer: OptimizerName) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of several threads may differ in their last bits
    try:
        whole = tiny_task(tmp_path / "whole", optimizer=optimizer)
        run(whole, tmp_path / "whole")
        command = [sys.executable, "-c", KILLED, str(tmp_path / "cut"), SUPPORT, optimizer]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert set(losses(tmp_path / "cut")) == {str(i) for i in range(1, 7)}
        cut = tiny_task(tmp_path / "cut", optimizer=optimizer)
        resumed = run(cut, tmp_path / "cut")
    finally:
        torch.set_num_threads(threads)
    assert resumed[0].iteration == 6  # logged, but killed before it was saved
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        assert torch.equal(a, b)
    saved = [load_checkpoint(tmp_path / name / "net.safetensors").model.state_dict() for name in ("whole", "cut")]
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])


def test_a_run_out_of_time_stops_before_its_next_iteration_and_goes_on(tmp_path: Path) -> None:
    cut = run(tiny_task(tmp_path / "cut"), tmp_path / "cut", log_every=10**9, max_seconds=0.0)
    assert [line.iteration for line in cut] == [1]
    rest = run(tiny_task(tmp_path / "cut"), tmp_path / "cut", log_every=10**9)
    whole = run(tiny_task(tmp_path / "whole"), tmp_path / "whole", log_every=10**9)
    assert rest[-1].iteration == whole[-1].iteration > 2
    saved = [load_checkpoint(tmp_path / name / "net.safetensors").model.state_dict() for name in ("whole", "cut")]
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    run(tiny_task(tmp_path), tmp_path)
    before = (tmp_path / "net.safetensors").read_bytes()
    assert run(tiny_task(tmp_path), tmp_path) == []
    assert (tmp_path / "net.safetensors").read_bytes() == before


@pytest.mark.slow
def test_another_run_is_not_continued(tmp_path: Path) -> None:
    run(tiny_task(tmp_path), tmp_path)
    with pytest.raises(CheckpointError, match=r"belongs to a run with another seed;.*choose another folder"):
        run(tiny_task(tmp_path, seed=8), tmp_path)
    (tmp_path / "resume.pt").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"resume\.pt cannot be read"):
        run(tiny_task(tmp_path), tmp_path)


WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import torch
torch.set_num_threads(1)
from trainings import settings, tiny_task
from ksnet_deploy.training.loop import run_loop
from ksnet_deploy.training.world import World

folder = Path(sys.argv[1])
task = tiny_task(folder)
world = World.join("cpu")
run_loop(task, settings(folder), world, lambda progress: None)
assert world.any(world.rank == 1)
assert not world.any(False)
world.leave()
"""


def test_the_run_of_another_network_or_precision_is_not_continued(tmp_path: Path) -> None:
    clips, recipe = [moving_clip()], Recipe((Stage(1, 1, 1, 32),))
    run(FlowTask(SpyNet(8), clips, [], recipe, tmp_path / "s.safetensors", seed=0), tmp_path)
    wider = FlowTask(SpyNet(16), clips, [], recipe, tmp_path / "s.safetensors", seed=0)
    with pytest.raises(CheckpointError, match="a run with another network"):
        run(wider, tmp_path)
    same = FlowTask(SpyNet(8), clips, [], recipe, tmp_path / "s.safetensors", seed=0)
    with pytest.raises(CheckpointError, match="a run with another precision"):
        run(same, tmp_path, precision="bf16")
    other = FlowTask(SpyNet(8), [moving_clip(name="b")], [], recipe, tmp_path / "s.safetensors", seed=0)
    with pytest.raises(CheckpointError, match="a run with another data"):
        run(other, tmp_path)


def test_a_black_clip_does_not_spoil_the_validation(tmp_path: Path) -> None:
    black = ArrayClip(np.zeros((2, 64, 64, 3), np.uint8), "black")
    recipe = Recipe((Stage(1, 1, 2, 16),), learning_rate=1e-9)
    task = KSNetTask(KSNet(TINY), [moving_clip()], [black], recipe, tmp_path / "n.safetensors", seed=0, licence="")
    assert all(math.isfinite(value) for value in run(task, tmp_path)[-1].figures.values())


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    one = tiny_task(tmp_path / "one")
    run(one, tmp_path / "one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", WORKER, str(tmp_path / "two"), SUPPORT]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    weights = [load_checkpoint(tmp_path / name / "net.safetensors").model.state_dict() for name in ("one", "two")]
    start = tiny_task(tmp_path / "start").model.state_dict()
    for name, value in weights[0].items():
        # Adam moves a weight by the sign of a tiny gradient, which rounding may turn: compare against how far it went.
        moved = (value - start[name]).abs().max()
        assert (weights[1][name] - value).abs().mean() <= 0.02 * moved + 1e-7, name


def test_the_flow_network_is_frozen_first_and_then_learns(tmp_path: Path) -> None:
    def flow_after(iterations: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        recipe = Recipe((Stage(iterations, 1, 2, 16),), learning_rate=1e-3, flow_frozen=3)
        task = tiny_task(tmp_path / str(iterations), recipe)
        before = {name: value.clone() for name, value in task.model.state_dict().items()}
        run(task, tmp_path / str(iterations))
        return before, task.model.state_dict()

    before, after = flow_after(3)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("flow."))
    assert any(not torch.equal(before[name], after[name]) for name in before if not name.startswith("flow."))
    before, after = flow_after(6)
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("flow."))


@pytest.mark.slow
def test_training_lowers_the_loss_and_says_where_time_goes(tmp_path: Path) -> None:
    recipe = Recipe((Stage(40, 2, 3, 16),), learning_rate=2e-3, flow_frozen=0, gradient_norm=1.0)
    torch.manual_seed(0)
    clip, target = moving_clip(), tmp_path / "n.safetensors"
    task = KSNetTask(KSNet(TINY), [clip], [clip], recipe, target, seed=1, licence="")
    seen = run(task, tmp_path, validate_every=40)
    assert np.mean([p.loss for p in seen[-8:]]) < 0.9 * np.mean([p.loss for p in seen[:8]])
    enlarged = enlarge_bicubic(degrade(clip.array, "BI"))
    bicubic = np.mean([psnr(luma(a), luma(b)) for a, b in zip(enlarged, clip.array, strict=True)])
    assert seen[-1].figures["psnr_y"] - seen[-1].figures["gain"] == pytest.approx(bicubic)
    assert seen[-1].figures["least_gain"] == pytest.approx(seen[-1].figures["gain"])
    for progress in seen:
        assert progress.samples_per_s == pytest.approx(2 * progress.iterations_per_s)
        assert 0 <= progress.data_share < 1
    metadata = load_checkpoint(tmp_path / "n.safetensors").metadata
    assert "iteration 40 of 40" in metadata["training"]


@pytest.mark.slow
def test_half_precision_trains_too(tmp_path: Path) -> None:
    assert all(math.isfinite(p.loss) for p in run(tiny_task(tmp_path), tmp_path, precision="bf16"))


class Exploding(Task):
    """A loss that is not a number at the third iteration."""

    iterations, ema_decay, gradient_norm = 5, 0.9, None
    target = Path("none.safetensors")
    identity: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1)
        self.saved: list[int] = []

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "role": "main"}]

    def rate(self, role: str, iteration: int) -> float:
        del role, iteration
        return 0.1

    def batches(self, start: int, world: World) -> Iterable[tuple[Tensor, ...]]:
        del world
        return ((torch.full((1, 1), math.nan if i == 2 else 1.0),) for i in range(start, self.iterations))

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        result: Tensor = self.model(batch[0]).square().mean()
        return result

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        del model
        return {}

    def save(self, model: nn.Module, iteration: int, figures: Mapping[str, float]) -> None:
        del model, figures
        self.saved.append(iteration)


def test_a_loss_that_is_no_number_ends_the_run_with_the_last_weights_kept(tmp_path: Path) -> None:
    task = Exploding()
    with pytest.raises(TrainingError, match="the loss is nan near iteration 3"):
        run(task, tmp_path, save_every_s=0.0)
    assert task.saved == [1, 2]
    with pytest.raises(TrainingError, match=r"start again with a lower --learning-rate$"):
        run(Exploding(), tmp_path / "new")
    flow = Exploding()
    flow.origins, flow.steadier = FlowTask.origins, FlowTask.steadier
    with pytest.raises(TrainingError, match="nothing was saved before; start again with larger batches by --stage, or"):
        run(flow, tmp_path / "flow")  # train-flow has no --learning-rate, and no --flow
    assert not {"--learning-rate", "--flow"} & set(re.findall(r"--[\w-]+", f"{flow.origins} {flow.steadier}"))
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["model"]["weight"].isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_loss_that_is_looked_at_late_never_changes_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    """As on CUDA, where the loss is looked at with a line of the log only; the device is stood in for."""
    init = _Run.__init__

    def late(self: _Run, *arguments: Any) -> None:
        init(self, *arguments)
        self.checks_at_once = False

    monkeypatch.setattr(_Run, "__init__", late)
    good, spoilt = Exploding(), Exploding()
    good.iterations = 2
    run(good, tmp_path / "good", log_every=100)
    started = copy.deepcopy(good.model)
    spoilt.model.load_state_dict(started.state_dict())
    spoilt.batches = lambda start, _world: (  # type: ignore[method-assign]
        (torch.full((1, 1), bad if i == 1 else 1.0),) for i in range(start, 5)
    )
    one = Exploding()
    one.iterations = 1
    one.model.load_state_dict(started.state_dict())
    run(one, tmp_path / "one", log_every=100)
    with pytest.raises(TrainingError, match=r"the loss is nan near iteration 5, and nothing was saved before"):
        run(spoilt, tmp_path / "spoilt", log_every=100, validate_every=100)
    assert all(torch.equal(a, b) for a, b in zip(spoilt.model.parameters(), one.model.parameters(), strict=True))
    assert spoilt.saved == []


@pytest.mark.slow
def test_the_papers_splits_are_kept(tmp_path: Path) -> None:
    for name in ("000", "001", "011"):
        folder_of_frames(tmp_path / "reds/train_sharp" / name, noise(2, 64, 64, 3))
    said: list[str] = []

    def note(_: int, what: str) -> None:
        said.append(what)

    train_ksnet(request(tmp_path, tmp_path / "reds", recipe="paper-reds"), note, lambda _: None)
    assert said.pop().startswith("1 clip and 0 stills,")

    vimeo = tmp_path / "vimeo_septuplet"
    for name in ("00001/0001", "00001/0002"):
        folder_of_frames(vimeo / "sequences" / name, noise(7, 64, 64, 3), first=1)
    with pytest.raises(InputError, match=r"sep_trainlist\.txt"):
        train_ksnet(request(tmp_path / "v", vimeo, recipe="paper-vimeo"), note, lambda _: None)
    (vimeo / "sep_trainlist.txt").write_text("00001/0002\n")
    train_ksnet(request(tmp_path / "v", vimeo, recipe="paper-vimeo"), note, lambda _: None)
    assert said.pop().startswith("1 clip and 0 stills,")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 64, 64, 3))
    with pytest.raises(CheckpointError, match=r"uni\.safetensors holds another network"):
        train_ksnet(request(tmp_path, tmp_path / "data", init="uni"), lambda *_: None, lambda _: None)
    save_file({"a": torch.zeros(1)}, tmp_path / "flow.safetensors")
    with pytest.raises(CheckpointError, match=r"flow\.safetensors is no SpyNet of 16 channels"):
        train_ksnet(request(tmp_path, tmp_path / "data", flow=tmp_path / "flow.safetensors"), print, lambda _: None)
    with pytest.raises(CheckpointError, match="no flow network"):
        train_ksnet(
            request(
                tmp_path,
                tmp_path / "data",
                flow=tmp_path / "flow.safetensors",
                settings=("flow_guidance=none",),
            ),
            print,
            lambda _: None,
        )
