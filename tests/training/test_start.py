"""What a run starts from: --init and --init-partial."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import folder_of_frames, noise
from networks import new_checkpoint
from trainings import TINY, request

from ksnet_deploy.base.errors import CheckpointError, ConfigError
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.training import run
from ksnet_deploy.training.run import train_ksnet
from ksnet_deploy.training.start import initialise

DIRECT = replace(TINY, upsampler="direct")
NEW = ["reconstruct.head", "reconstruct.upsample"]
"""Of DIRECT, beside a progressive network."""


def test_what_fits_is_taken_and_what_is_new_is_named(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(tmp_path, TINY)
    torch.manual_seed(5)
    model = KSNet(DIRECT)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert initialise(model, checkpoint.path, partial=True) == NEW
    given = checkpoint.model.state_dict()
    for name, tensor in model.state_dict().items():
        expected = before[name] if name.startswith(tuple(NEW)) else given[name]
        assert torch.equal(tensor, expected), name


def test_layers_are_taken_whole_and_modules_named_by_what_is_new_of_them(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(tmp_path, TINY)
    # A wider flow network ends in the same biases, which belong to other weights.
    assert initialise(KSNet(replace(TINY, flow_channels=8)), checkpoint.path, partial=True) == ["flow"]
    deeper = initialise(KSNet(replace(TINY, extract_blocks=2)), checkpoint.path, partial=True)
    assert deeper == ["extract.3"]


def test_the_same_network_is_loaded_whole(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(tmp_path, TINY)
    for partial in (False, True):
        model = KSNet(TINY)
        assert initialise(model, checkpoint.path, partial=partial) == []
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), checkpoint.model.parameters(), strict=True))


def test_the_weights_of_one_direction_are_taken_for_both_with_a_note(tmp_path: Path) -> None:
    checkpoint, notes = new_checkpoint(tmp_path, TINY), list[str]()
    model = KSNet(replace(TINY, direction="bi"))
    assert initialise(model, checkpoint.path, on_note=notes.append) == []
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), checkpoint.model.parameters(), strict=True))
    (note,) = notes
    assert note.endswith("was trained with other settings; its weights are taken for direction bi instead of uni.")


def test_another_network_is_refused_and_the_option_named(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(tmp_path, TINY)
    with pytest.raises(CheckpointError, match=r"holds another network .* tensors that fit with --init-partial"):
        initialise(KSNet(DIRECT), checkpoint.path)


def test_the_settings_that_a_refusal_names_are_those_of_the_other_network(tmp_path: Path) -> None:
    lite = KSNetConfig.named("lite")
    dear = new_checkpoint(tmp_path, lite.replace(("flow_levels=6", "offset_stride=1", "refine_alignment=deformable")))
    with pytest.raises(CheckpointError) as told:
        initialise(KSNet(lite), dear.path)
    settings = re.findall(r"--set (\S+=[^\s,]+)", str(told.value))
    assert settings, "of which the network differs"
    assert initialise(KSNet(lite.replace(settings)), dear.path) == []
    with pytest.raises(CheckpointError, match="train that one with --size uni and no --set, choose another --init"):
        initialise(KSNet(lite), bundled_checkpoint("uni"))
    assert initialise(KSNet(KSNetConfig.named("uni")), bundled_checkpoint("uni")) == []


@pytest.mark.parametrize("recipe", ["short", "paper-reds"])
def test_given_weights_are_trained_on_with_a_warm_up(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of_frames(tmp_path / "data/clip", noise(2, 64, 64, 3))
    given = new_checkpoint(tmp_path, TINY).path
    settings = tuple(f"{name}={value}" for name, value in asdict(TINY).items() if name != "reparameterize")
    rates: list[float] = []
    monkeypatch.setattr(run, "_run", lambda task, *_: rates.append(task.rate("main", 0) / task.recipe.learning_rate))
    for init in (None, str(given)):
        asked = request(
            tmp_path, tmp_path / "data", settings=settings, init=init, recipe=recipe, stages=("400:1x2x16",)
        )
        run.train_ksnet(asked, lambda *_: None, lambda _: None)
    from_nothing, from_weights = rates
    assert from_nothing == pytest.approx(1.0 if recipe == "paper-reds" else 0.02)
    assert from_weights == pytest.approx(0.02), "the optimizer knows nothing of them yet"


def test_a_time_that_cannot_be_is_refused_before_the_data_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a run of nan hours cannot be planned"):
        run.train_ksnet(request(tmp_path, tmp_path / "none", hours=math.nan), lambda *_: None, lambda _: None)


@pytest.mark.slow
def test_a_run_says_what_starts_anew(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/a", noise(2, 64, 64, 3))
    said: list[str] = []
    options: dict[str, Any] = {"init": "lite", "settings": ("upsampler=progressive",)}
    with pytest.raises(CheckpointError, match="--init-partial"):
        train_ksnet(request(tmp_path, tmp_path / "data", **options), lambda *_: None, lambda _: None)
    options["init_partial"] = True
    train_ksnet(request(tmp_path, tmp_path / "data", **options), lambda _, what: said.append(what), lambda _: None)
    assert said == [
        "1 clip and 0 stills, 2 iterations; from nothing: reconstruct.head, reconstruct.upsample; all else from lite"
    ]
    with pytest.raises(ConfigError, match="name them with --init"):
        train_ksnet(request(tmp_path, tmp_path / "data", init_partial=True), lambda *_: None, lambda _: None)


def test_a_run_that_goes_on_says_that_it_does_not_start_again(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/clip", noise(2, 64, 64, 3))
    given = new_checkpoint(tmp_path, TINY).path
    settings = tuple(f"{name}={value}" for name, value in asdict(TINY).items() if name != "reparameterize")
    asked = request(tmp_path, tmp_path / "data", settings=settings, init=str(given), stages=("1:1x2x16",))
    notes: list[str] = []
    train_ksnet(asked, lambda *_: None, lambda _: None, notes.append)
    assert notes == []
    train_ksnet(asked, lambda *_: None, lambda _: None, notes.append)
    (note,) = notes
    assert f"goes on from what it has learned, not from --init {given} again" in note


def test_a_run_that_goes_on_names_nothing_as_new(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data/clip", noise(2, 64, 64, 3))
    given = str(new_checkpoint(tmp_path, replace(TINY, extract_blocks=2)).path)
    settings = tuple(f"{name}={value}" for name, value in asdict(TINY).items() if name != "reparameterize")
    options: dict[str, Any] = {"init": given, "init_partial": True, "stages": ("1:1x2x16",)}
    asked = request(tmp_path, tmp_path / "data", settings=(*settings, "channels=16"), **options)
    said: list[str] = []
    for _ in range(2):
        train_ksnet(asked, lambda _, what: said.append(what), lambda _: None)
    assert ["from nothing: " in line for line in said] == [True, False]


def test_a_recording_is_refused_where_nothing_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--recorded is for CUDA"):
        train_ksnet(request(tmp_path, tmp_path / "none", recorded=True), lambda *_: None, lambda _: None)


@pytest.mark.parametrize(
    ("precision", "flags", "told"),
    [
        ("bf16", {"avx2"}, "does not compute in bfloat16"),
        ("fp16", {"avx2", "avx512_bf16"}, "does not compute in half"),
        ("bf16", {"avx2", "avx512_bf16"}, None),
        ("fp32", {"avx2"}, None),
        ("bf16", None, None),  # not Linux
        ("bf16", {"asimd", "bf16"}, None),  # Arm's names
    ],
)
def test_a_precision_that_the_processor_imitates_is_told(
    precision: str, flags: set[str] | None, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of_frames(tmp_path / "data/clip", noise(2, 64, 64, 3))
    settings = tuple(f"{name}={value}" for name, value in asdict(TINY).items() if name != "reparameterize")
    asked = request(tmp_path, tmp_path / "data", settings=settings, precision=precision, stages=("1:1x2x16",))
    monkeypatch.setattr(run, "cpu_flags", lambda: flags)
    notes: list[str] = []
    run.train_ksnet(asked, lambda *_: None, lambda _: None, notes.append)
    assert len(notes) == (told is not None)
    assert all(told in note and "--precision fp32" in note for note in notes if told)
