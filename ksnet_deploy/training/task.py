"""Task of a training, as the loop sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ksnet_deploy.training.recipe import Recipe
from ksnet_deploy.training.world import World

__all__ = ["Task"]


class Task(ABC):
    """Network that is trained, its data, its loss and its validation."""

    model: nn.Module
    recipe: Recipe
    target: Path
    """File of the averaged model."""
    iterations: int
    ema_decay: float
    gradient_norm: float | None
    identity: Mapping[str, str]
    """Values that must be equal between a run and its continuation, by name."""
    origins: str = "--init, --flow or --precision"
    """Options that decide what the first iteration computes, for the end of a sentence."""
    steadier: str = "a lower --learning-rate"
    """Remedy that keeps weights and loss finite, for the end of a sentence."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups as ``optimizer.make_optimizer`` takes them; each with a ``role`` for :meth:`rate`."""

    @abstractmethod
    def rate(self, role: str, iteration: int) -> float:
        """Learning rate of a parameter group. At 0 the group is frozen: no gradient is computed for it."""

    def follow(self, recipe: Recipe) -> None:
        """Go on by another recipe; :meth:`batches` is asked anew then."""
        self.recipe, self.iterations = recipe, recipe.iterations

    @abstractmethod
    def batches(self, start: int, world: World) -> Iterable[tuple[Tensor, ...]]:
        """This process's batches from an iteration on."""

    @abstractmethod
    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean loss of a batch on the model's device."""

    @abstractmethod
    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Figures of the averaged model; may be empty."""

    @abstractmethod
    def save(self, model: nn.Module, iteration: int, figures: Mapping[str, float]) -> None:
        """Write the averaged model to ``target``."""
