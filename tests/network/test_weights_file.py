"""Weights as other tools leave them: nested, prefixed, misnamed, ambiguous."""

from __future__ import annotations

import argparse
import io
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_weights import prefixed, zeros
from networks import Tensors, same
from safetensors.torch import save_file
from thinning import table
from torch.optim.swa_utils import AveragedModel
from trainings import TINY

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.bundled import checkpoint_path
from ksnet_deploy.network.checkpoint_config import config_of, notes_of
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint
from ksnet_deploy.network.flow import SpyNet
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.weights_file import read_state_dict
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.training.flow_weights import load_flow_weights
from ksnet_deploy.upscale.networks import find_network


@pytest.mark.parametrize(
    "key",
    [
        *("params_ema", "ema", "net", "generator", "model_state_dict", "state_dict", "params", "model"),
        *("network", "net_g", "netG", "generator_state_dict", "g_ema", "checkpoint"),
    ],
)
@pytest.mark.parametrize("twice", [False, True])
def test_nested_weights_are_found(tmp_path: Path, weights: Tensors, key: str, twice: bool) -> None:
    content: Any = {"epoch": 3, key: {"state_dict": weights} if twice else weights}
    torch.save(content, tmp_path / "a.pth")
    assert same(read_state_dict(tmp_path / "a.pth").tensors, weights)


@pytest.mark.parametrize(("averaged", "plain"), [("params_ema", "params"), ("ema", "model"), ("averaged", "model")])
def test_averaged_weights_are_taken_and_said(tmp_path: Path, weights: Tensors, averaged: str, plain: str) -> None:
    for content in ({plain: zeros(weights), averaged: weights}, {averaged: weights, plain: zeros(weights)}):
        torch.save(content, tmp_path / "a.pth")
        state = read_state_dict(tmp_path / "a.pth")
        assert same(state.tensors, weights)
        assert state.notes == (
            f"Of a.pth, the averaged weights '{averaged}' were taken, not the plain ones, '{plain}'.",
        )
    torch.save({averaged: None, plain: weights}, tmp_path / "a.pth")
    assert read_state_dict(tmp_path / "a.pth").notes == ()


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "net.", "generator.", "model.", "module._orig_mod.", "model.net.", "ema_model."),
        *("network.", "net_g.", "model.netG.", "_forward_module.", "_fsdp_wrapped_module."),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefixes_are_left_out_and_said(tmp_path: Path, weights: Tensors, prefix: str, suffix: str) -> None:
    path, named = tmp_path / f"a{suffix}", prefixed(prefix, weights)
    if suffix == ".pth":
        torch.save({"state_dict": OrderedDict(named)}, path)
    else:
        save_file(named, path)
    state = read_state_dict(path)
    assert same(state.tensors, weights)
    assert all(part in state.notes[-1] for part in prefix.strip(".").split("."))


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_of_parts_are_left_out_and_said(tmp_path: Path, weights: Tensors, wrapper: str) -> None:
    torch.save({name.replace(".", f".{wrapper}.", 1): tensor for name, tensor in weights.items()}, tmp_path / "a.pth")
    state = read_state_dict(tmp_path / "a.pth")
    assert same(state.tensors, weights)
    assert wrapper in state.notes[-1]


def test_the_averages_of_pytorch_are_read(tmp_path: Path, weights: Tensors) -> None:
    model = KSNet(TINY)
    model.load_state_dict(weights)
    averaged = AveragedModel(model)
    torch.save({"ema": averaged.state_dict(), "model": zeros(weights)}, tmp_path / "a.pth")
    assert same(read_state_dict(tmp_path / "a.pth").tensors, weights)


def test_two_weights_of_one_name_are_refused(tmp_path: Path, weights: Tensors) -> None:
    torch.save(weights | prefixed("module.", weights), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="two tensors for"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "legacy"),
    table(["a.PTH", "a.Pt", "a.ckpt", "a.bin", "a.pth.tar", "a.weights", "runs/last"], [False, True], every=2),
)
def test_the_first_bytes_tell_the_format_and_not_the_name(
    tmp_path: Path, weights: Tensors, name: str, legacy: bool
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    torch.save({"model": weights, "config": TINY.to_json()}, path, _use_new_zipfile_serialization=not legacy)
    assert same(dict(load_checkpoint(path).model.state_dict()), weights)
    assert config_of(path) == TINY
    assert find_network(path).kind == "checkpoint"
    with open_runner(checkpoint_path(str(path)), FrameSize(16, 16)) as runner:
        assert runner.backend == "torch"


def test_a_misnamed_format_is_read_and_said(tmp_path: Path, small: Checkpoint, weights: Tensors) -> None:
    (tmp_path / "a.pth").write_bytes(small.path.read_bytes())
    assert load_checkpoint(tmp_path / "a.pth").notes == (
        "a.pth is a safetensors file in spite of its name, and was read as one.",
    )
    torch.save({"model": weights, "config": TINY.to_json()}, tmp_path / "b.safetensors")
    assert "b.safetensors is a PyTorch file in spite of its name" in notes_of(tmp_path / "b.safetensors")[0]
    assert config_of(tmp_path / "b.safetensors") == TINY
    assert notes_of(small.path) == ()


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"\n <html lang='en'>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS pointer"),
        (b"\x1f\x8b" + b"0" * 600, "compressed archive"),
        (b"", "empty"),
        (b"\x08\t\x12\x07pytorch\x1a\n2.13.0+cpu", r"an exported network \(ONNX\)"),
        (archive("code/x.py", "a/constants.pkl"), "TorchScript"),
        (archive("readme.txt"), "without PyTorch's data"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_weights_file_is_said(tmp_path: Path, content: bytes, words: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=f"flow weights .*{words}"):
        load_flow_weights(path, SpyNet(4))


@pytest.mark.parametrize(
    "value",
    [np.float64(27.1), np.int64(3), np.bool_(True), np.arange(3.0), np.dtype("float32"), np.random.get_state()],  # noqa: NPY002
    ids=["float", "integer", "truth", "array", "type", "random state"],
)
def test_numbers_of_numpy_beside_the_weights_are_no_danger(tmp_path: Path, weights: Tensors, value: object) -> None:
    torch.save({"model": weights, "config": TINY.to_json(), "best": value}, tmp_path / "a.pth")
    assert same(dict(load_checkpoint(tmp_path / "a.pth").model.state_dict()), weights)


@pytest.mark.parametrize("value", [Path("x"), argparse.Namespace(lr=1)])
def test_a_refused_object_is_named_without_advice_to_run_it(tmp_path: Path, weights: Tensors, value: object) -> None:
    torch.save({"state_dict": weights, "opt": value}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"{type(value).__name__}.*refused.*run code") as caught:
        load_checkpoint(tmp_path / "a.pth")
    assert "weights_only" not in str(caught.value)
    assert "safe_globals" not in str(caught.value)
    assert caught.value.__cause__ is None
