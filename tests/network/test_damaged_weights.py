"""Damaged weights are refused in a sentence, or load truly."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from networks import Tensors, randomise, same
from safetensors.torch import save_file
from trainings import TINY

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.network.bundled import bundled_checkpoint, bundled_names
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ksnet_deploy.network.model import KSNet


@pytest.fixture(scope="module")
def weights() -> Tensors:
    return dict(randomise(KSNet(TINY)).state_dict())


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, the end cut, a part overwritten with zeros, or two parts swapped."""
    data = bytearray(content)
    kind = rng.randrange(4)
    start, length = rng.randrange(len(data)), rng.choice((1, 16, 4096))
    if kind == 0:
        for _ in range(rng.choice((1, 8))):
            data[rng.choice((rng.randrange(len(data)), rng.randrange(min(len(data), 2000))))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[start:]
    elif kind == 2:
        data[start : start + length] = bytes(len(data[start : start + length]))
    else:
        other = rng.randrange(len(data) - length)
        start = min(start, len(data) - length)
        part = data[start : start + length]
        data[start : start + length] = data[other : other + length]
        data[other : other + length] = part
    return bytes(data)


def outcome(path: Path) -> tuple[Checkpoint | None, str]:
    try:
        return load_checkpoint(path), ""
    except CheckpointError as error:
        return None, str(error)


@pytest.mark.parametrize(("kind", "count"), [("ours", 70), ("zip", 70), ("plain safetensors", 30), ("legacy", 30)])
def test_a_damaged_checkpoint_is_refused_or_loads_truly(
    tmp_path: Path, weights: Tensors, kind: str, count: int
) -> None:
    path = tmp_path / "a.safetensors"
    model = KSNet(TINY)
    model.load_state_dict(weights)
    content = {"model": weights, "config": TINY.to_json()}
    if kind == "ours":
        save_checkpoint(model, path, training="a run", licence="a licence")
    elif kind == "plain safetensors":
        save_file(weights, path, {"format": "ksnet", "config": TINY.to_json()})
    else:
        path = tmp_path / "a.pth"
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    whole, rng, refused = path.read_bytes(), random.Random(kind), 0
    for _ in range(count):
        path.write_bytes(damaged(whole, rng))
        loaded, sentence = outcome(path)
        if loaded is None:
            assert str(path) in sentence
            assert "\n" not in sentence
            refused += 1
        else:
            # Without a checksum, other numbers look like weights; they are finite, and of the network's shapes.
            exact = kind in ("ours", "zip")
            assert not exact or same(dict(loaded.model.state_dict()), weights)
            assert all(tensor.isfinite().all() for tensor in loaded.model.state_dict().values())
    assert refused > (0.9 * count if kind == "ours" else 0.3 * count)


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_checkpoint_with_another_weight_or_configuration_is_refused(tmp_path: Path, name: str) -> None:
    path, whole = tmp_path / "a.safetensors", bundled_checkpoint(name).read_bytes()
    changes = [(b'"format":"ksnet"', b'"format":"ksnex"'), (b'"format":"ksnet"', b'"formax":"ksnet"')]
    changes += [(b'"keep_ratio\\": 0.75', b'"keep_ratio\\": 0.50'), (whole[-64:], bytes(64))]
    for before, after in changes:
        assert whole.count(before) == 1
        path.write_bytes(whole.replace(before, after))
        with pytest.raises(CheckpointError, match="damaged: its contents do not match the checksum"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[" * 100_000, "carries no KSNet configuration"),
        (TINY.to_json().replace('"channels": 8', '"channels": 800000000'), "channels is 800000000; it must be"),
        (
            TINY.to_json().replace('"channels": 8', '"channels": 800'),
            r"of 800 channels take more than \d\.\d GB of memory, and \d\.\d GB are free here; choose fewer",
        ),
    ],
    ids=["deep", "huge", "large"],
)
def test_a_configuration_that_no_network_has_is_refused(
    tmp_path: Path, weights: Tensors, config: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksnet_deploy.network.model.available_memory", lambda: 10**7)
    torch.save({"params": weights, "config": config}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "a.pth")
