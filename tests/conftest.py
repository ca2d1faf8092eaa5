"""Networks with random weights everywhere, so that no zero-initialised layer hides an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from media import make_video

from ksnet_deploy.blocks import RCB
from ksnet_deploy.config import FrameSize, KSNetConfig
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.model import KSNet
from ksnet_deploy.weights import Checkpoint, load_checkpoint, save_checkpoint

SMALL = KSNetConfig(channels=16, extract_blocks=1, deform_groups=4)
"""Every part of the network at little cost."""


def randomise(model: KSNet, seed: int = 0) -> KSNet:
    """Give every weight, bias, edge scale and offset layer a value that matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, fan_in**-0.5, generator=generator)
            elif not name.endswith("lam"):
                parameter.normal_(0, 0.05, generator=generator)
        for module in model.modules():
            if isinstance(module, RCB):  # four branches add up
                for parameter in module.parameters():
                    parameter.mul_(0.5)
        model.reconstruct.head[-1].weight.mul_(0.1)
    return model


def new_checkpoint(folder: Path, config: KSNetConfig, seed: int = 0) -> Checkpoint:
    path = folder / f"c{config.channels}-{seed}.safetensors"
    torch.manual_seed(seed)
    save_checkpoint(randomise(KSNet(config), seed), path, training="random", licence="Apache-2.0")
    return load_checkpoint(path)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Checkpoint of the small network."""
    return new_checkpoint(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="session")
def small_onnx(small: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports of the small network, each made once: ``small_onnx(size_text_or_None, io)``."""
    folder = tmp_path_factory.mktemp("onnx")

    def export(size: str | None, io: str = "uint8") -> Path:
        path = folder / f"{size}-{io}.onnx"
        if not path.exists():
            export_onnx(small, path, size=FrameSize.parse(size) if size else None, io=io)
        return path

    return export


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache, but share one among them."""
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short 32x48 video with sound."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", FrameSize(32, 48), frames=8, sound=True)
