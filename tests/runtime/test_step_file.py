"""Exported files in the hands of users: what is damaged is refused, what another program wrote anew is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import failure_of, run
from networks import save_as_exported

from ksnet_deploy.base.errors import ArtifactError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.pair import files_of
from ksnet_deploy.runtime.step_file import SEAL, load_exported

SmallOnnx = Callable[..., Path]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to 256 bits flipped, the end cut off, a stretch blank or exchanged with another, or something appended."""
    kind, length = rng.choice(("flip", "cut", "blank", "exchange", "append")), rng.choice((4, 64, 4096))
    changed = bytearray(data)
    first, second = sorted(rng.randrange(len(data) - length) for _ in range(2))
    if kind == "flip":
        for _ in range(rng.choice((1, 1, 8, 256))):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del changed[first:]
    elif kind == "blank":
        changed[first : first + length] = bytes(length)
    elif kind == "exchange" and second >= first + length:
        changed[first : first + length], changed[second : second + length] = (
            data[second : second + length],
            data[first : first + length],
        )
    else:
        changed += rng.randbytes(length)
    return bytes(changed)


@pytest.fixture
def whole(request: pytest.FixtureRequest, small_onnx: SmallOnnx) -> Path:
    """A file of the kind that is asked for."""
    if request.param in ("fixed", "free size"):
        return small_onnx("32x48" if request.param == "fixed" else None, "float32")
    pair: Path = request.getfixturevalue("small_bi_onnx")
    return dict(zip(("propagate", "refine"), files_of(pair), strict=True))[request.param]


@pytest.mark.parametrize(
    "whole",
    ["fixed", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("free size", "propagate", "refine"))],
    indirect=True,
)
def test_a_damaged_exported_file_is_refused_in_a_sentence(whole: Path, tmp_path: Path) -> None:
    """50 damages a kind."""
    data, path, rng = whole.read_bytes(), tmp_path / "a.onnx", random.Random(0)
    for _ in range(50):
        path.write_bytes(changed := damaged(data, rng))
        if changed == data:
            continue
        with pytest.raises(ArtifactError) as refused:
            load_exported(path)
        sentence = str(refused.value)
        assert str(path) in sentence
        assert "export it again" in sentence
        assert "\n" not in sentence
        assert len(sentence) < len(str(path)) + 250


def test_flipped_weights_of_a_pair_are_refused_before_it_runs(small_bi_onnx: Path, tmp_path: Path) -> None:
    for number, file in enumerate(files_of(small_bi_onnx)):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0x10 * number
        (tmp_path / file.name).write_bytes(data)
    with pytest.raises(ArtifactError, match=r"bi\.refine\.onnx is not the file that was exported"):
        open_runner(tmp_path / small_bi_onnx.name, FrameSize(20, 24))


def test_a_damaged_file_is_refused_by_the_command_line(small_onnx: SmallOnnx, tmp_path: Path) -> None:
    model, path = onnx.load(small_onnx("32x48")), tmp_path / "a.onnx"
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 64)
    weight.raw_data = bytes([weight.raw_data[0] ^ 1]) + weight.raw_data[1:]
    onnx.save(model, path)
    for arguments in (
        ("info",),
        ("bench", "--size", "32x48"),
        ("build-engine", tmp_path / "a.engine", "--gpu", "sm86"),
    ):
        sentence = failure_of(run(*arguments, "--model", path))
        assert "is not the file that was exported: it is damaged" in sentence


def test_what_another_program_read_and_wrote_or_knows_no_hash_is_taken(small_onnx: SmallOnnx, tmp_path: Path) -> None:
    whole = small_onnx("32x48", "float32")
    model = onnx.load(whole)
    onnx.save(model, tmp_path / "again.onnx")
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in reversed(model.metadata_props)})
    save_as_exported(model, tmp_path / "reordered.onnx")
    kept = [entry for entry in model.metadata_props if entry.key != SEAL]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, tmp_path / "without.onnx")
    outside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 64}
    onnx.save(onnx.load(whole), tmp_path / "outside.onnx", **outside)
    frame = np.full((32, 48, 3), 0.25, np.float32)
    results = []
    for path in (whole, *sorted(tmp_path.glob("*.onnx"))):
        with open_runner(path, FrameSize(32, 48)) as runner:
            results.append(runner.step(frame))
    assert len(results) == 5
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("damage", ["flip", "empty", "other", "gone"])
def test_damaged_weights_in_a_file_of_their_own_are_refused(small_onnx: SmallOnnx, tmp_path: Path, damage: str) -> None:
    path, weights = tmp_path / "a.onnx", tmp_path / "weights.bin"
    onnx.save(onnx.load(small_onnx("32x48", "float32")), path, save_as_external_data=True, location=weights.name)
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes({"flip": data, "other": bytes(len(data))}.get(damage, b""))
    if damage == "gone":
        weights.unlink()
    with pytest.raises(ArtifactError, match=r"a\.onnx (is not the file that was exported|cannot be read as ONNX)"):
        load_exported(path)
