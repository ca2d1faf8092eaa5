from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import ArrayClip
from networks import SMALL, randomise
from safetensors.torch import save_file

import ksnet_deploy
from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.measure.evaluation import BicubicMethod, NetworkMethod, evaluate
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.upscale.upscaler import Upscaler

ASSETS = Path(ksnet_deploy.__file__).parent / "bundled"


def write(path: Path, tensors: dict[str, torch.Tensor], config: str | None = None) -> Path:
    save_file(tensors, path, {"format": "ksnet", "config": config or SMALL.to_json()})
    return path


def tensors_of(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(checkpoint.model.state_dict())


def test_round_trip_keeps_weights_config_and_metadata(tmp_path: Path) -> None:
    model = randomise(KSNet(SMALL))
    save_checkpoint(model, tmp_path / "a.safetensors", training="a run", licence="a licence")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.config == SMALL
    assert (loaded.metadata["training"], loaded.metadata["licence"]) == ("a run", "a licence")
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_half_precision_on_disk_is_widened(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(randomise(KSNet(SMALL)), path, training="", licence="", dtype=torch.float16)
    assert all(tensor.dtype == torch.float32 for tensor in tensors_of(load_checkpoint(path)).values())


@pytest.mark.parametrize("key", [None, "state_dict", "params", "model"])
def test_pth_is_read(tmp_path: Path, small: Checkpoint, key: str | None) -> None:
    content = tensors_of(small) if key is None else {key: tensors_of(small), "config": SMALL.to_json()}
    torch.save(content, tmp_path / "a.pth")
    if key is None:
        with pytest.raises(CheckpointError, match="fit none of uni, lite, paper"):
            load_checkpoint(tmp_path / "a.pth")
    else:
        assert load_checkpoint(tmp_path / "a.pth").config == SMALL


def test_pth_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("x")}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(tmp_path / "a.pth")


def test_missing_unknown_and_misshaped_weights_are_all_named(tmp_path: Path, small: Checkpoint) -> None:
    tensors = tensors_of(small)
    del tensors["refine.align.bias"]
    tensors["surplus.weight"] = torch.zeros(1)
    tensors["extract.0.weight"] = torch.zeros(16, 1, 3, 3)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(write(tmp_path / "a.safetensors", tensors))
    message = str(caught.value)
    assert "1 missing (refine.align.bias)" in message
    assert "1 unknown (surplus.weight)" in message
    assert "extract.0.weight (16, 1, 3, 3) instead of (16, 3, 3, 3)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, small: Checkpoint, value: float) -> None:
    tensors = tensors_of(small)
    tensors["refine.align.bias"] = torch.full_like(tensors["refine.align.bias"], value)
    with pytest.raises(CheckpointError, match=r"refine\.align\.bias"):
        load_checkpoint(write(tmp_path / "a.safetensors", tensors))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json at all}", id="not json"),
        pytest.param(b"hello " * 100, id="text"),
        pytest.param(b"access denied", id="short text"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path, small: Checkpoint) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(small.path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


def test_missing_file_folder_and_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="not a file"):
        load_checkpoint(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="no KSNet configuration"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_an_unknown_setting_in_the_config_is_refused(tmp_path: Path, small: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="unknown setting depth"):
        load_checkpoint(write(tmp_path / "a.safetensors", tensors_of(small), '{"depth": 3}'))


def test_an_unknown_bundled_name_lists_what_there_is() -> None:
    with pytest.raises(CheckpointError, match="uni"):
        bundled_checkpoint("giant")


def test_the_bundled_checkpoint_loads() -> None:
    assert load_checkpoint(bundled_checkpoint("uni")).config.channels == 64


def test_the_bundled_checkpoints_are_small_and_carry_their_licence() -> None:
    paths = [bundled_checkpoint(name) for name in ("lite", "uni")]
    assert sum(path.stat().st_size for path in paths) < 10e6
    for path in paths:
        checkpoint = load_checkpoint(path)
        assert checkpoint.metadata["licence"] == "research / non-commercial"
        assert path.name in (path.parent / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("name", ["lite", pytest.param("uni", marks=pytest.mark.slow)])
def test_the_bundled_checkpoints_beat_bicubic_on_the_bundled_clip(name: str) -> None:
    from ksnet_deploy.video.reading.reader import VideoReader

    with VideoReader(ASSETS / "city_hr.mp4") as reader:
        frames = itertools.islice((frame.rgb for frame in reader.frames()), 6)
        clip = ArrayClip(np.stack(list(frames)))
    bicubic = evaluate([(clip, None)], BicubicMethod(), "folder").mean("psnr_db")
    with closing(NetworkMethod(name, lambda: Upscaler(name, backend="torch"))) as method:
        found = evaluate([(clip, None)], method, "folder").mean("psnr_db")
    assert found is not None
    assert bicubic is not None
    assert found > bicubic + 0.5
