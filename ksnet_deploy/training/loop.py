"""The training loop: one process per device, exact resume, averaged weights, a log that says where time goes.

What is trained is a :class:`Task`; the loop knows nothing of networks. All randomness is drawn from (seed, iteration),
so that a resumed run repeats what an uninterrupted one does.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ksnet_deploy.base.errors import BackendError, CheckpointError, ConfigError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.training.log import Meter, Progress, append_line, drop_lines_after
from ksnet_deploy.training.optimizer import make_optimizer
from ksnet_deploy.training.pace import OPEN_ENDED, Fit, Pace
from ksnet_deploy.training.recipe import Recipe

__all__ = ["LoopSettings", "Precision", "Task", "World", "train"]

Precision = Literal["fp32", "bf16", "fp16"]
RESUME_FILE = "resume.pt"
LOG_FILE = "log.csv"


class Task(ABC):
    """What is trained."""

    model: nn.Module
    recipe: Recipe
    iterations: int
    ema_decay: float
    gradient_norm: float | None
    identity: Mapping[str, str]
    """By name, everything that must be equal between a run and its continuation."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups as :func:`make_optimizer` takes them; each with a ``role`` for :meth:`rate`."""

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
        """Write the averaged model where users look for it."""


@dataclass(frozen=True)
class World:
    """The processes of a run, one per device; torchrun's environment variables say which this is."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> World:
        """This process's place. Under torchrun, connects the processes."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
        place = torch.device("cuda", local) if device == "cuda" else torch.device(device)
        if place.type == "cuda":
            if local >= torch.cuda.device_count():
                raise BackendError(
                    f"process {local} of this machine has no GPU of its own; there are {torch.cuda.device_count()}, "
                    "so start that many with torchrun --nproc-per-node"
                )
            torch.cuda.set_device(place)
        if size > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
        return cls(rank, size, place)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all must leave the loop at the same iteration."""
        if self.size == 1:
            return flag
        sum_of_flags = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(sum_of_flags)
        return bool(sum_of_flags > 0)

    def agreed(self, number: int) -> int:
        """The number that the leading process has."""
        if self.size == 1:
            return number
        value = torch.tensor(number if self.leads else 0, device=self.device)
        torch.distributed.all_reduce(value)
        return int(value)

    def leave(self) -> None:
        """Disconnect the processes, all at once: one that leaves early aborts the others."""
        if self.size > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over all processes."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


@dataclass(frozen=True)
class LoopSettings:
    """How a run is carried out; none of it changes the result but ``precision``."""

    folder: Path
    precision: Precision = "fp32"
    save_every_s: float = 120.0
    validate_every: int = 500
    log_every: int = 20
    max_seconds: float | None = None
    """Stop (resumably) after so long; for leased machines."""
    hours: float | None = None
    """Make the run so long that its learning rate ends then; the task's own iterations are proportions only."""
    clock: Callable[[], float] = time.monotonic
    """In seconds."""

    def __post_init__(self) -> None:
        if self.hours is not None and not self.hours > 0:
            raise ConfigError(f"a run of {self.hours:g} hours cannot be planned; give --hours a number above 0")


def train(task: Task, settings: LoopSettings, world: World, on_progress: Callable[[Progress], None]) -> nn.Module:
    """Train to the end of the task, continuing from the folder's last checkpoint if there is one.

    Returns:
        The model with averaged weights.

    Raises:
        CheckpointError: the folder holds the checkpoint of another run.
        TrainingError: the loss is not finite.
    """
    return _Run(task, settings, world).run(on_progress)


class _Run:
    def __init__(self, task: Task, settings: LoopSettings, world: World) -> None:
        self.task, self.settings, self.world = task, settings, world
        task.model.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        task.model.train()
        self.optimizer = make_optimizer(task.parameter_groups())
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=settings.precision == "fp16")
        self.averaged = copy.deepcopy(task.model).requires_grad_(False)
        self.iteration = 0
        self.fit: Fit | None = None
        self._resume()
        if settings.hours is not None:
            self.proportions = task.recipe
            task.follow(self.proportions.spread(OPEN_ENDED if self.fit is None else self.fit.iterations))

    def run(self, on_progress: Callable[[Progress], None]) -> nn.Module:
        settings, task = self.settings, self.task
        settings.folder.mkdir(parents=True, exist_ok=True)
        started = saved = time.monotonic()
        meter = Meter(self.world.size)
        pace = None if settings.hours is None or self.fit is not None else Pace(settings.hours, settings.clock)
        new = self.fit  # known from before, but not told in this process
        for batch in self._batches(meter):
            meter.add(self._step(batch), len(batch[0]))
            self.iteration += 1
            fixes = pace is not None and self.world.any(self.world.leads and pace.is_known())
            ends = self.iteration == task.iterations
            validates = ends or self.iteration % settings.validate_every == 0
            if not (validates or fixes) and self.iteration % settings.log_every:
                continue
            # Only here, at iterations that all processes agree on, is anything logged, saved or stopped: a run resumes
            # where a line of its log ends, and weights are saved only after their loss was seen to be finite.
            spent = time.monotonic() - started
            stops = settings.max_seconds is not None and self.world.any(spent > settings.max_seconds)
            if self.world.leads:
                progress = meter.take(self.iteration, task.rate("main", self.iteration - 1))
                figures, validation_s = self._validate() if validates or fixes else ({}, 0.0)
                if fixes and pace is not None:
                    new = self.fit = pace.fit(
                        self.iteration, task.recipe.cost_ratio, validation_s, settings.validate_every
                    )
            if fixes:
                length = self.world.agreed(0 if self.fit is None else self.fit.iterations)
                task.follow(self.proportions.spread(length))
                pace = None
            if self.world.leads:
                progress, new = replace(progress, figures=figures, fit=new), None
                append_line(settings.folder / LOG_FILE, progress)
                on_progress(progress)
                if validates or fixes or stops or time.monotonic() - saved > settings.save_every_s:
                    self._save(figures)
                    saved = time.monotonic()
            meter.restart()
            if stops:
                break
        return self.averaged

    def _batches(self, meter: Meter) -> Iterator[tuple[Tensor, ...]]:
        """The batches of the run, which may get another length while they are taken."""
        length = None
        while length != self.task.iterations:
            length = self.task.iterations
            for batch in meter.timed(self.task.batches(self.iteration, self.world)):
                yield batch
                if length != self.task.iterations:
                    break

    def _step(self, batch: tuple[Tensor, ...]) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.task.rate(group["role"], self.iteration)
            for parameter in group["params"]:
                parameter.requires_grad_(group["lr"] > 0)
        with self._autocast():
            loss = self.task.loss(tuple(tensor.to(self.world.device, non_blocking=True) for tensor in batch))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        with torch.no_grad():
            self.world.mean(parameter.grad for parameter in trained if parameter.grad is not None)
        self.scaler.unscale_(self.optimizer)  # after the mean, so that all processes see an overflow and skip the step
        if self.task.gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, self.task.gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # The average follows quickly at first, so that it does not remember the initial weights.
        decay = min(self.task.ema_decay, (1 + self.iteration) / (10 + self.iteration))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.task.model.parameters()), 1 - decay)
        return loss.detach()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.settings.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, dtypes[self.settings.precision])

    def _validate(self) -> tuple[Mapping[str, float], float]:
        """Figures of the averaged model, and the seconds it took."""
        started = self.settings.clock()
        model = copy.deepcopy(self.averaged).eval()
        with torch.inference_mode():
            return self.task.validate(model), self.settings.clock() - started

    def _save(self, figures: Mapping[str, float]) -> None:
        self.task.save(self.averaged, self.iteration, figures)
        with replacing(self.settings.folder / RESUME_FILE) as temporary:
            torch.save(
                {
                    "identity": self._identity(),
                    "iteration": self.iteration,
                    "model": self.task.model.state_dict(),
                    "averaged": self.averaged.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "fit": None if self.fit is None else asdict(self.fit),
                },
                temporary,
            )

    def _identity(self) -> dict[str, str]:
        identity = {**self.task.identity, "precision": self.settings.precision}
        return identity if self.settings.hours is None else {**identity, "number of hours": f"{self.settings.hours:g}"}

    def _resume(self) -> None:
        path = self.settings.folder / RESUME_FILE
        if not path.exists():
            if self.world.leads:
                drop_lines_after(self.settings.folder / LOG_FILE, 0)
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            identity = state["identity"]
        except Exception as error:  # bytes that are no pickle make the unpickler raise almost anything
            raise CheckpointError(
                f"{path} cannot be read ({type(error).__name__}); remove it to start the run anew"
            ) from error
        expected = self._identity()
        if differing := [n for n in {**identity, **expected} if identity.get(n) != expected.get(n)]:
            raise CheckpointError(
                f"{path} belongs to a run with another {', another '.join(differing)}; continue with that run's "
                "settings, or choose another folder"
            )
        self.task.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.iteration = state["iteration"]
        self.fit = Fit(**state["fit"]) if state.get("fit") else None
        if self.world.leads:
            drop_lines_after(self.settings.folder / LOG_FILE, self.iteration)
