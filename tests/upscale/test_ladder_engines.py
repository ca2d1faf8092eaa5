"""The ladder of runtimes where it builds engines: each once, proven, and told; and the pictures of every rung."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_card import FakeCard
from rungs import TAKEN, frames
from runners import RepeatRunner

from ksnet_deploy import Upscaler, upscale_video
from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.export.engine import make
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.upscale import card_engines
from ksnet_deploy.upscale.job import Job
from ksnet_deploy.upscale.ladder import Choices, find_fastest
from ksnet_deploy.upscale.networks import NetworkFile


class Builder:
    """A card whose engines are built of files that hold nothing, and run by a network that costs nothing."""

    def __init__(self, card: FakeCard, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.card, self.exported = card, []  # type: tuple[FakeCard, list[str]]
        monkeypatch.setenv("KSNET_CACHE_DIR", str(folder / "cache"))

        def export(_source: Path, size: FrameSize, io: FrameType, precision: str, **_: object) -> Path:
            path = folder / f"{size}-{io}-{precision}.onnx"
            path.write_text(path.name)
            self.exported.append(path.stem)
            return path

        def proof(_source: Path, _onnx: Path, _engine: Path, _size: FrameSize, frames: int, *_: object) -> Any:
            passes = card.likeness_db is None or card.likeness_db >= 45
            faults = [] if passes else [f"frame 2 has {card.likeness_db} dB, where at least 45 dB is accepted"]
            return {"against": "float32", "frames": frames, "required_db": 45.0, "passed": passes, "faults": faults}

        monkeypatch.setattr(make, "cached_onnx", export)
        monkeypatch.setattr(make, "proof_on_gpu", proof)
        monkeypatch.setattr(NetworkFile, "open", lambda _file, size, io, *_, **__: RepeatRunner(size, io))


@pytest.fixture
def builder(card: FakeCard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builder:
    return Builder(card, monkeypatch, tmp_path)


def test_an_engine_is_built_for_each_size_once_and_then_taken(builder: Builder, network: Checkpoint) -> None:
    """A size that no engine holds is a reason to build one."""
    progress: list[tuple[str, int, int]] = []
    for size, built in (("16x24", True), ("16x24", False), ("24x16", True), ("16x24", False)):
        said: list[str] = []
        lr = FrameSize.parse(size)
        with Upscaler(str(network.path), on_note=said.append, on_build=lambda *at: progress.append(at)) as upscaler:
            assert upscaler.push(frames(1, lr)[0]).shape == (4 * lr.height, 4 * lr.width, 3)
            identity = upscaler.identity()
        building = [f"Building the engine for {size} on your RTX 3080, once."] if built else []
        assert said == [*building, TAKEN["tensorrt cuda"].replace("small", str(network.path))]
        assert ".engine " in identity["network"]
        assert (identity["runtime"], identity["gpu"]) == ("tensorrt on cuda", "RTX 3080")
    assert builder.card.built == ["16x24", "24x16"]
    assert progress == [("Building", 1, 2)] * 2
    assert set(builder.exported) == {"16x24-uint8-fp16", "24x16-uint8-fp16"}


def test_an_engine_that_is_too_unlike_float32_is_not_taken_and_not_built_again(
    builder: Builder, network: Checkpoint
) -> None:
    builder.card.likeness_db = 38.5
    for _ in range(2):
        with (
            Upscaler(str(network.path), runtime="tensorrt") as upscaler,
            pytest.raises(BackendError, match="did not pass its comparison with float32: frame 2 has 38"),
        ):
            upscaler.push(frames(1)[0])
    assert builder.card.built == ["16x24"]
    said: list[str] = []
    with Upscaler(str(network.path), on_note=said.append) as upscaler:
        builder.card.likeness_db = 61.0  # of the other kind of engine, which comes next
        upscaler.push(frames(1)[0])
    assert said[0].startswith("TensorRT cannot run ")
    assert said[-1] == TAKEN["rtx cuda"].replace("small", str(network.path))


def test_one_network_takes_the_engine_of_each_size(builder: Builder, network: Checkpoint) -> None:
    """As `evaluate` does, with clips of several sizes."""
    found = find_fastest(str(network.path), Choices(), builder.card.machine)
    for size in ("16x24", "24x16", "16x24"):
        with Upscaler(found) as upscaler:
            upscaler.open(FrameSize.parse(size))
            assert f"{FrameSize.parse(size)}" in builder.exported[-1]
    assert builder.card.built == ["16x24", "24x16"]


def test_large_frames_are_not_compared_for_minutes(builder: Builder, network: Checkpoint) -> None:
    builder.card.likeness_db = 38.5  # which nobody measures then
    with Upscaler(str(network.path), runtime="tensorrt") as upscaler:
        upscaler.open(FrameSize(540, 960))
    assert builder.card.built == ["540x960"]


def test_deep_frames_reach_an_engine_deep(builder: Builder, network: Checkpoint) -> None:
    with Upscaler(str(network.path)) as upscaler:
        upscaler.push(frames(1)[0].astype(np.uint16) * 257)
    assert builder.exported == ["16x24-float32-fp16"]


def test_a_video_is_upscaled_on_the_card_by_a_network_that_names_its_engine(
    builder: Builder, network: Checkpoint, clip: Path, tmp_path: Path
) -> None:
    """The journal of a job knows what ran it, so that it goes on with nothing else."""
    said: list[str] = []
    on_engine = Upscaler(str(network.path), on_note=said.append)
    result = upscale_video(clip, tmp_path / "engine.mkv", on_engine)
    assert (result.frames, result.tiles) == (8, None)
    assert said[0] == "Building the engine for 32x48 on your RTX 3080, once."
    builder.card.lacking("tensorrt", "rtx", "onnxruntime")
    in_torch = Upscaler(str(network.path), on_note=said.append)
    upscale_video(clip, tmp_path / "torch.mkv", in_torch)
    assert "PyTorch on the RTX 3080" in said[-1]
    assert on_engine.identity()["runtime"] == "tensorrt on cuda"
    assert in_torch.identity()["runtime"].startswith("torch ")


def test_a_job_that_began_on_the_card_does_not_go_on_elsewhere(
    builder: Builder, network: Checkpoint, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities: list[dict[str, str]] = []

    class Noting(Job):
        def __init__(self, target: Path, identity: dict[str, str], **options: Any) -> None:
            identities.append(identity)
            super().__init__(target, identity, **options)

    monkeypatch.setattr("ksnet_deploy.upscale.to_video.Job", Noting)
    for lacking in ((), ("tensorrt",)):
        builder.card.lacking(*lacking)
        upscale_video(clip, tmp_path / f"{len(lacking)}.mkv", Upscaler(str(network.path)))
    assert [identity["runtime"] for identity in identities] == ["tensorrt on cuda", "rtx on cuda"]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["tensorrt", "torch", "onnxruntime"])
def test_each_runtime_of_the_card_gives_the_pictures_of_float32(
    card: FakeCard,
    small: Checkpoint,
    small_onnx: Callable[..., Path],
    runtime: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The exports are of float32 here: what half loses is measured elsewhere."""
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path / "cache"))
    for module in ("ksnet_deploy.export.engine.make", "ksnet_deploy.export.cache"):
        monkeypatch.setattr(f"{module}.cached_onnx", lambda *_, **__: small_onnx("32x48"))
    monkeypatch.setattr(card_engines, "COMPARED_FRAMES", 2)
    with (
        Upscaler(str(small.path), runtime=runtime, device="cuda") as upscaler,
        Upscaler(str(small.path), runtime="torch", device="cpu") as reference,
    ):
        for lr in frames(3, FrameSize(32, 48)):
            found, expected = upscaler.push(lr).astype(int), reference.push(lr)
            assert np.sqrt(np.mean((found - expected) ** 2)) < 1.5  # 45 dB
    assert card.built == (["32x48"] if runtime == "tensorrt" else [])
