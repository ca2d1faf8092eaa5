"""Training recipes: frozen values that, with the data and the seed, determine a run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.degradation import ClipDegradation

__all__ = ["RECIPES", "OptimizerName", "Recipe", "Stage", "check_batches"]

OptimizerName = Literal["adam", "muon"]


@dataclass(frozen=True)
class Stage:
    """Consecutive iterations on windows of one shape."""

    iterations: int
    batch: int
    """Windows per iteration, over all processes."""
    frames: int
    patch_px: int
    """Side of the LR patches."""

    def __post_init__(self) -> None:
        if min(self.iterations, self.batch, self.frames) < 1 or self.patch_px < 16:
            raise ConfigError(
                f"a training stage of {counted(self.iterations, 'iteration')}, batch {self.batch}, "
                f"{counted(self.frames, 'frame')} and "
                f"{self.patch_px}-pixel patches cannot be run; iterations, batch and frames start at 1, patches at 16"
            )

    @classmethod
    def parse(cls, text: str) -> Stage:
        """Read ``ITERATIONS:BATCHxFRAMESxPATCH``, for example ``600000:8x15x64``."""
        try:
            iterations, shape = text.split(":")
            batch, frames, patch = shape.split("x")
            return cls(int(iterations), int(batch), int(frames), int(patch))
        except ValueError as error:
            raise ConfigError(
                f"'{text}' is no training stage; write ITERATIONS:BATCHxFRAMESxPATCH, for example 1000:8x5x32"
            ) from error


@dataclass(frozen=True)
class Recipe:
    """Schedule and settings of a training. The defaults are the paper's for REDS (section 4.1)."""

    stages: tuple[Stage, ...]
    learning_rate: float = 1e-4
    """Learning rate at the start; it falls to ``final_learning_rate`` along half a cosine."""
    final_learning_rate: float = 1e-7
    warm_up: int = 0
    """Iterations over which the rate rises linearly; at most a quarter of all, so that it falls in a short run too."""
    flow_rate_factor: float = 2.0
    """Learning rate of the flow network by that of the main one."""
    flow_frozen: int = 5_000
    """Iterations for which the flow network stays as it is."""
    ema_decay: float = 0.999
    """Decay of the averaged weights (EMA), which are validated and shipped."""
    gradient_norm: float | None = None
    """Largest norm of the gradients, which are scaled down to it; None for any."""
    optimizer: OptimizerName = "adam"
    """Optimizer; Muon takes the main network's convolution kernels only, all else is Adam's."""
    degradation: ClipDegradation = "BI"
    temporal_weight: float = 0.0
    """Weight of the temporal loss beside the Charbonnier loss; above 0 a video is steadier."""
    still_share: float = 0.25
    """Share of the windows that come from stills under synthetic camera motion, where the data has stills."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"the learning rate is {self.learning_rate}; it must be a finite number above 0")
        if not 0 <= self.temporal_weight < math.inf:
            raise ConfigError(
                f"the weight of the temporal loss is {self.temporal_weight}; it must be a finite number from 0 on"
            )

    @property
    def iterations(self) -> int:
        return sum(stage.iterations for stage in self.stages)

    def rate(self, iteration: int) -> float:
        """Learning rate of the main network at an iteration, from 0."""
        warm_up = min(self.warm_up, self.iterations // 4)
        if iteration < warm_up:
            return self.learning_rate * (iteration + 1) / warm_up
        progress = (iteration - warm_up) / max(self.iterations - warm_up, 1)
        final = min(self.final_learning_rate, self.learning_rate)  # a rate below the recipe's end is kept
        return final + (self.learning_rate - final) * (1 + math.cos(math.pi * progress)) / 2

    def spread(self, iterations: int) -> Recipe:
        """Stages of the same kinds over so many iterations, in proportion; each has one at least."""
        wanted = [max(round(iterations * stage.iterations / self.iterations), 1) for stage in self.stages]
        longest = wanted.index(max(wanted))
        wanted[longest] = max(wanted[longest] + iterations - sum(wanted), 1)
        return replace(self, stages=tuple(replace(s, iterations=n) for s, n in zip(self.stages, wanted, strict=True)))

    @property
    def cost_ratio(self) -> float:
        """Pixels of an iteration, in the mean over all, by those of one of the first stage."""
        pixels = [stage.batch * stage.frames * stage.patch_px**2 for stage in self.stages]
        total = sum(stage.iterations * each for stage, each in zip(self.stages, pixels, strict=True))
        return total / self.iterations / pixels[0]

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def with_stages(self, stages: tuple[Stage, ...]) -> Recipe:
        return replace(self, stages=stages) if stages else self


def check_batches(recipe: Recipe, processes: int) -> None:
    """Raise ConfigError unless every batch can be shared equally by so many processes."""
    for stage in recipe.stages:
        if stage.batch % processes:
            raise ConfigError(
                f"a batch of {stage.batch} cannot be shared equally by {processes} processes; "
                "choose a multiple with --stage"
            )


RECIPES = {
    # The paper: 64x64 patches, 600 k iterations. It gives neither batch nor window; 8 windows of 15 frames (7 on
    # Vimeo90K, whose clips have no more) are BasicVSR's, whose recipe the paper's otherwise is.
    "paper-reds": Recipe((Stage(600_000, 8, 15, 64),)),
    "paper-vimeo": Recipe((Stage(600_000, 8, 7, 64),), learning_rate=2e-4),
    # Hours of a CPU or minutes of a GPU: small patches first, longer windows later.
    "short": Recipe(
        (Stage(4_000, 8, 5, 32), Stage(2_000, 4, 10, 32)),
        learning_rate=2e-3,
        final_learning_rate=1e-5,
        warm_up=50,
        flow_rate_factor=0.1,  # at 0.5 the flow network of a first lite diverged
        flow_frozen=200,
        ema_decay=0.998,
        gradient_norm=1.0,
        optimizer="muon",
    ),
}
"""Recipes by name, as the command line takes them."""
