"""Training of KSNet on windows of video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.base.metrics import capped_psnr, luma
from ksnet_deploy.measure.degradation import ClipDegradation, degrade, enlarge_bicubic
from ksnet_deploy.network.blocks import shared_kernels
from ksnet_deploy.network.checkpoints import save_checkpoint
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.training.dataset import DrawSampler, WindowDataset, check_clips, check_variants, clips_identity
from ksnet_deploy.training.loading import loaded
from ksnet_deploy.training.losses import charbonnier, temporal_loss
from ksnet_deploy.training.optimizer import split_kernels
from ksnet_deploy.training.recipe import Recipe, check_batches
from ksnet_deploy.training.task import Task
from ksnet_deploy.training.world import World
from ksnet_deploy.video.clips.clip import Clip

__all__ = ["KSNetTask", "frames_as_input"]


def frames_as_input(frames: Tensor) -> Tensor:
    """uint8 frames (..., 3, H, W) as the network takes them: float32 in [0, 1]."""
    return frames.float() / 255


class KSNetTask(Task):
    """KSNet under a recipe."""

    def __init__(
        self,
        model: KSNet,
        clips: Sequence[Clip],
        validation: Sequence[Clip],
        recipe: Recipe,
        target: Path,
        *,
        seed: int,
        licence: str,
        workers: int = 0,
        note: str = "",
    ) -> None:
        """``target`` is the checkpoint to write, ``note`` what its description begins with."""
        for stage in recipe.stages:
            check_clips(clips, stage.patch_px)
        if recipe.degradation == "video":
            check_variants(clips)
        if recipe.temporal_weight and model.flow is None:
            raise ConfigError(
                "the temporal loss takes a flow network, and this network has none; leave --temporal-weight out"
            )
        self.model: KSNet = model
        self.iterations, self.ema_decay, self.gradient_norm = recipe.iterations, recipe.ema_decay, recipe.gradient_norm
        self.recipe, self.target, self.workers = recipe, target, workers
        self.licence, self.note = licence, note
        self.windows = WindowDataset(clips, degradation=recipe.degradation, still_share=recipe.still_share, seed=seed)
        self.validation = [_ValidationClip(clip, recipe.degradation) for clip in validation]
        self.identity = {
            "network": model.config.to_json(),
            **clips_identity(clips, recipe.degradation),
            "seed": str(seed),
            "recipe": recipe.to_json(),
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        flow = set() if self.model.flow is None else set(self.model.flow.parameters())
        main = {"params": [p for p in self.model.parameters() if p not in flow], "role": "main"}
        groups = split_kernels(main) if self.recipe.optimizer == "muon" else [main]
        if flow and self.model.flow is not None:
            groups.append({"params": list(self.model.flow.parameters()), "role": "flow"})
        return groups

    def rate(self, role: str, iteration: int) -> float:
        rate = self.recipe.rate(iteration)
        if role == "main":
            return rate
        return rate * self.recipe.flow_rate_factor if iteration >= self.recipe.flow_frozen else 0.0

    def batches(self, start: int, world: World) -> Iterable[tuple[Tensor, ...]]:
        check_batches(self.recipe, world.size)
        sampler = DrawSampler(self.recipe.stages, start, world.rank, world.size)
        return loaded(self.windows, sampler, workers=self.workers, pinned=world.device.type == "cuda")

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        *frames, encoded = batch
        lr, hr = map(frames_as_input, frames)
        with shared_kernels(self.model):
            found = self.model.forward_window(lr)
        loss = charbonnier(found, hr)
        if self.recipe.temporal_weight:
            assert self.model.flow is not None  # or the task had been refused
            # On clean windows flicker is little, and what the loss costs in sharpness is most.
            counts = encoded if self.recipe.degradation == "video" else torch.ones_like(encoded)
            loss = loss + self.recipe.temporal_weight * temporal_loss(found, hr, self.model.flow, counts)
        return loss

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, KSNet)
        if not self.validation:
            return {}
        gains = [clip.psnr(model) - clip.bicubic_psnr for clip in self.validation]
        bicubic = float(np.mean([clip.bicubic_psnr for clip in self.validation]))
        return {"psnr_y": bicubic + float(np.mean(gains)), "gain": float(np.mean(gains)), "least_gain": min(gains)}

    def save(self, model: nn.Module, iteration: int, figures: Mapping[str, float]) -> None:
        assert isinstance(model, KSNet)
        result = " ".join(f"{name}={value:.3f}" for name, value in figures.items())
        training = " ".join(filter(None, (self.note, f"iteration {iteration} of {self.iterations}", result)))
        save_checkpoint(model, self.target, training=training, licence=self.licence)


class _ValidationClip:
    """A clip with its LR and the yardstick. The first ``FRAMES`` frames are used."""

    FRAMES = 15

    def __init__(self, clip: Clip, degradation: ClipDegradation) -> None:
        if clip.frames == 1:
            raise InputError(
                f"{clip} has one frame only; the network is recurrent, so validate on clips of two frames or more, and "
                "leave stills out"
            )
        height, width = clip.height // SCALE * SCALE, clip.width // SCALE * SCALE
        if min(height, width) < SCALE * FrameSize.MINIMUM:
            raise InputError(
                f"{clip} is {clip.height}x{clip.width} (height x width), too small to validate on; "
                f"{SCALE * FrameSize.MINIMUM} pixels are needed in both"
            )
        self.hr = clip.read(0, min(self.FRAMES, clip.frames), (0, 0, height, width))
        self.lr = _validation_lr(self.hr, degradation)
        self.bicubic_psnr = _mean_psnr(enlarge_bicubic(self.lr), self.hr)

    def psnr(self, model: KSNet) -> float:
        return _mean_psnr(_super_resolved(model, self.lr), self.hr)


def _validation_lr(
    hr: np.ndarray[Any, np.dtype[np.uint8]], degradation: ClipDegradation
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if degradation != "video":
        return degrade(hr, degradation)
    from ksnet_deploy.measure.variants import reference_lr

    return reference_lr(hr)


def _super_resolved(model: KSNet, lr: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    device = next(model.parameters()).device
    frames = frames_as_input(torch.from_numpy(lr).permute(0, 3, 1, 2)[None].to(device))
    hr = model.forward_window(frames)[0].float().clamp(0, 1)
    return (hr * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _mean_psnr(found: np.ndarray[Any, np.dtype[np.uint8]], expected: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    return float(np.mean([capped_psnr(luma(a), luma(b)) for a, b in zip(found, expected, strict=True)]))
