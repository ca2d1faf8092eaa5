"""Weights that other tools trained: what is assumed, asked and said."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import failure_of, run
from foreign_weights import prefixed, zeros
from networks import SMALL, Tensors, randomise, same
from safetensors.torch import save_file
from torch import Tensor, nn
from trainings import TINY

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.flow import SpyNet
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.network.weights_file import read_state_dict
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.training.flow_weights import load_flow_weights
from ksnet_deploy.upscale.networks import find_network


@pytest.fixture(scope="module")
def lite() -> Tensors:
    torch.manual_seed(0)
    return dict(KSNet(KSNetConfig.named("lite")).state_dict())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.double().fill_(1e300), "values beyond float32"),
        (lambda t: t.bfloat16().fill_(float("nan")), "NaN or infinity"),
        (lambda t: t.to(torch.int8), "int8"),
        (lambda t: t.to("meta"), "no values"),
        (lambda t: t.to_sparse(), "sparse"),
    ],
)
def test_weights_without_finite_numbers_in_float32_are_refused(
    tmp_path: Path, weights: Tensors, change: Callable[[Tensor], Tensor], words: str
) -> None:
    changed = {**weights, "refine.align.bias": change(weights["refine.align.bias"])}
    torch.save({"model": changed, "config": TINY.to_json()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"{words}.*'refine\.align\.bias'"):
        load_checkpoint(tmp_path / "a.pth")


def test_nothing_is_saved_that_could_not_be_loaded(tmp_path: Path) -> None:
    model = randomise(KSNet(TINY))
    path = tmp_path / "a.safetensors"
    with torch.no_grad():
        model.refine.align.bias.fill_(1e5)
    save_checkpoint(model, path, training="", licence="")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"not written: .*'refine\.align\.bias' is not finite in float16"):
        save_checkpoint(model, path, training="", licence="", dtype=torch.float16)
    assert path.read_bytes() == before


def test_a_plain_state_dict_that_fits_one_size_is_taken_for_it_and_said(tmp_path: Path, lite: Tensors) -> None:
    torch.save(lite, tmp_path / "a.pth")
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert loaded.config == KSNetConfig.named("lite")
    assert loaded.notes == (
        "a.pth carries no configuration; by its weights it was taken for lite with its usual settings.",
    )
    converted = run("convert", tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert converted.returncode == 0
    assert "taken for lite" in converted.stderr


def test_a_plain_state_dict_that_fits_several_asks_which(tmp_path: Path) -> None:
    path, new = tmp_path / "a.pth", tmp_path / "a.safetensors"
    torch.save(dict(randomise(KSNet(KSNetConfig.named("uni"))).state_dict()), path)
    sentence = failure_of(run("export", "-m", path, tmp_path / "a.onnx"))
    assert "fit uni and paper" in sentence
    assert "convert" in sentence
    assert "--size uni or --size paper" in sentence
    assert run("convert", path, new, "--size", "uni").returncode == 0
    assert load_checkpoint(new).config == KSNetConfig.named("uni")
    assert "already exists" in failure_of(run("convert", path, new, "--size", "paper"))
    assert run("convert", path, new, "--size", "paper", "--set", "slots=rank", "--overwrite").returncode == 0
    assert load_checkpoint(new).config == KSNetConfig(slots="rank")
    assert "leave --size and --set out" in failure_of(run("convert", new, tmp_path / "b.safetensors", "--size", "uni"))
    assert "does not fit its network" in failure_of(run("convert", path, tmp_path / "b.safetensors", "--size", "lite"))


def test_the_weights_kept_to_resume_say_which_network_they_are_of(tmp_path: Path, weights: Tensors) -> None:
    torch.save(
        {"identity": {"network": TINY.to_json()}, "model": zeros(weights), "averaged": weights}, tmp_path / "resume.pt"
    )
    assert same(dict(load_checkpoint(tmp_path / "resume.pt").model.state_dict()), weights)


def test_foreign_weights_run(tmp_path: Path, lite: Tensors) -> None:
    torch.save({"params_ema": prefixed("module.", lite)}, tmp_path / "a.ckpt")
    said: list[str] = []
    network = find_network(tmp_path / "a.ckpt", "torch")
    with network.open(FrameSize(16, 16), "uint8", on_note=said.append) as runner:
        assert isinstance(runner, TorchRunner)
    assert len(said) == 3, "the averages, the prefix, and the size"


def test_the_flow_network_of_a_larger_one_is_taken_and_no_other(tmp_path: Path) -> None:
    model, fresh = SpyNet(8), SpyNet(8)
    public = {
        f"basic_module.{n.split('.')[1]}.basic_module.{n.split('.')[2]}.{n.split('.')[3]}": t
        for n, t in model.state_dict().items()
    }
    larger = prefixed("spynet.", public | {"mean": torch.zeros(3), "std": torch.ones(3)})
    larger |= {"trunk.main.2.0.weight": torch.full((8, 8, 7, 7), 9.0), "conv.0.2.bias": torch.ones(8)}
    torch.save({"params": prefixed("generator.", larger)}, tmp_path / "a.pth")
    found, notes = load_flow_weights(tmp_path / "a.pth", fresh)
    assert same(found, dict(model.state_dict()))
    assert "'spynet.' was taken; 2 other tensors" in notes[-1]
    whole = KSNet(TINY)
    save_checkpoint(whole, tmp_path / "k.safetensors", training="", licence="")
    assert whole.flow is not None
    assert same(load_flow_weights(tmp_path / "k.safetensors", SpyNet(4, levels=2))[0], dict(whole.flow.state_dict()))
    coarser, notes = load_flow_weights(tmp_path / "a.pth", SpyNet(8, levels=5))
    assert same(coarser, {k: v for k, v in model.state_dict().items() if not k.startswith("levels.5.")})
    assert "the 5 coarsest levels were taken" in notes[-1]
    torch.save(public | {"upsample.1.0.weight": torch.zeros(3)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"1 of its \d+ tensors are unknown \(upsample"):
        load_flow_weights(tmp_path / "b.pth", fresh)
    name = next(iter(public))
    torch.save({**public, name: torch.full_like(public[name], float("nan"))}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        load_flow_weights(tmp_path / "c.pth", fresh)
    save_file(dict(model.state_dict()), tmp_path / "d.safetensors", {"format": "spynet"})
    with pytest.raises(CheckpointError, match="give it to train with --flow"):
        load_checkpoint(tmp_path / "d.safetensors")


def test_averaged_weights_inside_another_key_are_said(tmp_path: Path, weights: Tensors) -> None:
    averaged = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"model": {"params": weights, "ema": averaged}, "config": TINY.to_json()}, tmp_path / "a.pth")
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert same(dict(loaded.model.state_dict()), averaged)
    assert loaded.notes == ("Of a.pth, the averaged weights 'ema' in 'model' were taken.",)


def test_a_name_that_is_too_long_and_a_web_page_with_a_mark_are_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load_checkpoint(tmp_path / ("x" * 300 + ".pth"))
    (tmp_path / "a.pth").write_bytes(b"\xef\xbb\xbf\r\n<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match="a web page"):
        load_checkpoint(tmp_path / "a.pth")


def test_a_foreign_safetensors_file_may_have_a_checksum_of_another_kind(tmp_path: Path, weights: Tensors) -> None:
    save_file(weights, tmp_path / "a.safetensors", {"format": "pt", "sha256": "ab", "config": TINY.to_json()})
    assert same(dict(load_checkpoint(tmp_path / "a.safetensors", TINY).model.state_dict()), weights)


def test_a_pickle_of_another_protocol_is_refused_without_a_warning(tmp_path: Path, weights: Tensors) -> None:
    torch.save({"params": weights, "config": TINY.to_json()}, tmp_path / "a.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match=r"\(UnpicklingError\)"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("config", [{"lr": 1e-4, "channels": 3}, "configs/ksnet.yaml", "lr: 0.1", '{"lr": 1}', "[1]"])
def test_a_trainers_own_settings_are_no_configuration_of_the_network(tmp_path: Path, config: object) -> None:
    lite = load_checkpoint(bundled_checkpoint("lite")).model.state_dict()
    torch.save({"state_dict": lite, "config": config}, tmp_path / "a.pth")
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert loaded.config == KSNetConfig.named("lite")
    assert "carries no configuration; by its weights it was taken for lite" in loaded.notes[0]


@pytest.mark.parametrize(("prefix", "others"), [("sr_net.", 0), ("sr_net.", 2), ("net.", 1), ("model.module.", 1)])
def test_the_network_in_a_larger_module_is_found(small: Checkpoint, tmp_path: Path, prefix: str, others: int) -> None:
    weights = small.model.state_dict()
    beside = {f"loss.vgg.{index}.weight": torch.zeros(3) for index in range(others)}
    content = {f"{prefix}{name}": tensor for name, tensor in weights.items()} | beside
    torch.save({"state_dict": content}, tmp_path / "a.ckpt")
    state = read_state_dict(tmp_path / "a.ckpt")
    assert same(state.tensors, weights)
    left_out = {0: "", 1: "; 1 other tensor was left out", 2: "; 2 other tensors were left out"}[others]
    assert state.notes == (f"Of a.ckpt, '{prefix}' was taken{left_out}.",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.update({"extra.weight": torch.zeros(3)}), r"1 unknown \(extra\.weight\)"),
        (lambda weights: weights.pop("extract.0.bias"), r"1 missing \(extract\.0\.bias\)"),
        (lambda weights: weights.update({"extract.0.bias": torch.zeros(7)}), r"1 misshaped \(extract\.0\.bias \(7,\)"),
    ],
)
def test_weights_that_nearly_fit_a_size_are_told_what_differs(
    tmp_path: Path, change: Callable[[Tensors], object], words: str
) -> None:
    weights = dict(load_checkpoint(bundled_checkpoint("lite")).model.state_dict())
    change(weights)
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"nearest is lite: of \d+ weights, {words}"):
        load_checkpoint(tmp_path / "a.pth")


def test_weights_beyond_half_precision_are_not_made_infinite(small: Checkpoint) -> None:
    model = copy.deepcopy(small.model)
    with torch.no_grad():
        model.extract[0].bias.fill_(1e5)
    assert with_precision(model, "fp32").extract[0].bias.isfinite().all()
    with pytest.raises(CheckpointError, match=r"'extract\.0\.bias' of the folded network is too large for half"):
        with_precision(model, "fp16")


def test_a_file_without_checksums_is_said_to_be_one(small: Checkpoint, tmp_path: Path) -> None:
    weights = {"params": small.model.state_dict()}
    torch.save(weights, tmp_path / "new.pth")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_state_dict(tmp_path / "new.pth").notes == ()
    (note,) = read_state_dict(tmp_path / "old.pth").notes
    assert "old.pth is in PyTorch's format before 1.6, which has no checksums" in note


def test_the_configuration_and_the_notes_need_no_pytorch(small: Checkpoint) -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path; "
        "from ksnet_deploy.network.checkpoint_config import config_of, notes_of; "
        f"p = Path({str(small.path)!r}); print(config_of(p).channels, notes_of(p))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{SMALL.channels} ()"


def test_a_module_that_is_no_dictionary_of_tensors_is_said(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no dictionary of tensors but one tensor"):
        load_checkpoint(tmp_path / "a.pth")
    torch.save({"epoch": 3, "loss": [1.0]}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="found epoch, loss"):
        load_checkpoint(tmp_path / "a.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*refused"):
        load_checkpoint(tmp_path / "a.pth")
