"""Networks with random weights everywhere, so that no zero-initialised layer hides an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.network.blocks import RCB
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.runtime.step_file import SEAL, graph_sha256

Tensors = dict[str, Tensor]
"""Weights by their names."""
SMALL = KSNetConfig(channels=16, extract_blocks=1, deform_groups=4, flow_levels=2)
"""Every part of the network at little cost: of the levels of the flow, which are alike, two."""


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
        *_, last = (layer for layer in model.reconstruct.head if isinstance(layer, nn.Conv2d))
        last.weight.mul_(0.1)
    return model


def new_checkpoint(folder: Path, config: KSNetConfig, seed: int = 0) -> Checkpoint:
    path = folder / f"c{config.channels}-{seed}.safetensors"
    torch.manual_seed(seed)
    save_checkpoint(randomise(KSNet(config), seed), path, training="random", licence="Apache-2.0")
    return load_checkpoint(path)


def exports_of(checkpoint: Checkpoint, folder: Path) -> Callable[..., Path]:
    """Exports of a network, each made once: called with a size in words or None, a type of frames and a precision."""

    def export(size: str | None, io: str = "uint8", precision: str = "fp32") -> Path:
        path = folder / f"{size}-{io}-{precision}.onnx"
        if not path.exists():
            export_onnx(checkpoint, path, size=FrameSize.parse(size) if size else None, io=io, precision=precision)
        return path

    return export


def save_as_exported(model: onnx.ModelProto, path: Path) -> None:
    """Write a step that a test has changed, with the hash of what it is now: as a mistake in the exporter would."""
    for entry in model.metadata_props:
        if entry.key == SEAL:
            entry.value = graph_sha256(model)
    onnx.save(model, path)


def same(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
