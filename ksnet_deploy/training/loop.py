"""The training loop: one process per device, exact resume, averaged weights, a log that says where time goes.

What is trained is a :class:`~ksnet_deploy.training.task.Task`; the loop knows nothing of networks. All randomness is
drawn from (seed, iteration), so that a resumed run repeats what an uninterrupted one does.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ksnet_deploy.base.errors import CheckpointError, OutputError, TrainingError
from ksnet_deploy.base.locks import Lock
from ksnet_deploy.network.weights_file import read_content
from ksnet_deploy.training.dataset import DATA_VERSION
from ksnet_deploy.training.interruption import BROKEN, Signals, lost_worker
from ksnet_deploy.training.log import Meter, Progress, append_line, drop_lines_after
from ksnet_deploy.training.loop_settings import LoopSettings
from ksnet_deploy.training.optimizer import make_optimizer
from ksnet_deploy.training.pace import OPEN_ENDED, Fit, Pace
from ksnet_deploy.training.recorded import RecordedGradients
from ksnet_deploy.training.run_folder import LOCK_FILE, LOG_FILE, RESUME_FILE, another_way, held, keep, kept, writing_in
from ksnet_deploy.training.task import Task
from ksnet_deploy.training.world import World

__all__ = ["run_loop"]

NEW_IN_IDENTITY = (DATA_VERSION,)
"""Parts of a task's identity that runs of earlier versions did not keep."""


def run_loop(
    task: Task,
    settings: LoopSettings,
    world: World,
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None] = lambda _sentence: None,
) -> nn.Module:
    """Train to the end of the task, continuing from the folder's last checkpoint if there is one.

    SIGINT, SIGTERM and SIGHUP end the run after the current iteration, once all is saved and ``on_note`` was told so;
    only then are their handlers called.

    Returns:
        The model with averaged weights.

    Raises:
        CheckpointError: the folder holds the checkpoint of another run.
        OutputError: another training is at work in the folder, or it cannot be written to.
        TrainingError: the loss or a weight is not finite, or a process that loads data was lost.
    """
    folder = settings.folder
    with writing_in(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / LOCK_FILE, held(folder)) if world.leads else contextlib.nullcontext()
    with lock, Signals() as signals:
        return _Run(task, settings, world, signals).run(on_progress, on_note)


class _Run:
    def __init__(self, task: Task, settings: LoopSettings, world: World, signals: Signals) -> None:
        self.task, self.settings, self.world, self.signals = task, settings, world, signals
        task.model.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        task.model.train()
        self.optimizer = make_optimizer(task.parameter_groups())
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=settings.precision == "fp16")
        self.averaged = copy.deepcopy(task.model).requires_grad_(False)
        self.iteration = 0
        self.saved: int | None = None
        """Iteration of the last save, of an earlier process too."""
        self.between_steps = True
        """Whether the weights are those of ``iteration``; not while a step changes them."""
        self.fit: Fit | None = None
        self.checks_at_once = world.device.type == "cpu"
        """Whether each loss is looked at before its backward pass: on a CPU NaN coordinates crash grid_sample's. CUDA
        passes over them; there a loss that is not finite stops the weights, and is told with the next line of the log,
        so that nothing waits for the device."""
        self.sound = torch.ones((), dtype=torch.bool, device=world.device)
        """Whether all losses so far were finite, in all processes; on the device."""
        self.seen = self.sound.float()
        """The last loss, NaN from the first that was not finite on; on the device."""
        on_cuda = world.device.type == "cuda"
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.recorded = RecordedGradients(self._gradients, parameters) if on_cuda and settings.recorded else None
        self._resume()
        if settings.hours is not None:
            self.proportions = task.recipe
            task.follow(self.proportions.spread(OPEN_ENDED if self.fit is None else self.fit.iterations))

    def run(self, on_progress: Callable[[Progress], None], on_note: Callable[[str], None]) -> nn.Module:
        settings = self.settings
        meter = Meter(self.world.size)
        self.pace = None if settings.hours is None or self.fit is not None else Pace(settings.hours, settings.clock)
        self.new_fit = self.fit  # known from before, but not told in this process
        started = saved_at = time.monotonic()
        try:
            for batch in self._batches(meter):
                self.between_steps = False
                meter.add(self._step(batch), len(batch[0]))
                self.iteration += 1
                self.between_steps = True
                fixes = self.pace is not None and self.world.any(self.world.leads and self._is_pace_known(self.pace))
                validates = self.iteration == self.task.iterations or self.iteration % settings.validate_every == 0
                logs = validates or fixes or self.iteration % settings.log_every == 0
                is_late = settings.max_seconds is not None and time.monotonic() - started > settings.max_seconds
                # Several processes must leave at one iteration, so they stop only where they log.
                leaves = (self.signals.came or is_late) and (logs or self.world.size == 1)
                if not logs and not leaves:
                    continue
                # Only here is anything logged, saved or stopped: a run resumes where a line of its log ends, and
                # weights are saved only after their loss was seen to be finite.
                stops = self.world.any(leaves)
                saves = validates or fixes or stops or time.monotonic() - saved_at > settings.save_every_s
                self._report(meter, on_progress, validates=validates, fixes=fixes, saves=saves)
                saved_at = time.monotonic() if saves else saved_at
                meter.restart()
                if stops:
                    break
        except (RuntimeError, *BROKEN) as error:
            self._leave_without_data(error)
        if self.world.leads and self.saved == self.task.iterations and not self._result_is_whole():
            self._save({})  # of a run that was finished before, and its result removed or damaged
        if self.signals.came and self.world.leads:
            on_note(f"{self._kept().capitalize()}.")
        self.signals.deliver()
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

    def _is_pace_known(self, pace: Pace) -> bool:
        return pace.is_known(trains_all=all(group["lr"] > 0 for group in self.optimizer.param_groups))

    def _report(
        self, meter: Meter, on_progress: Callable[[Progress], None], *, validates: bool, fixes: bool, saves: bool
    ) -> None:
        """Log, show, and where told validate, fix the run's length, and save."""
        figures: Mapping[str, float] = {}
        if self.world.leads:
            progress = meter.take(self.iteration, self.task.rate("main", self.iteration - 1))
            self._check_finite(progress.loss)
            if saves:
                self._check_weights()
            figures, validation_s = self._validate() if validates or fixes else ({}, 0.0)
            if self.pace is not None and not fixes:
                self.pace.leave_out(validation_s)
            if fixes and self.pace is not None:
                self.new_fit = self.fit = self.pace.fit(
                    self.iteration, self.task.recipe.cost_ratio, validation_s, self.settings.validate_every
                )
        if fixes:
            length = self.world.agreed(0 if self.fit is None else self.fit.iterations)
            self.task.follow(self.proportions.spread(length))
            self.pace = None
        if self.world.leads:
            progress, self.new_fit = replace(progress, figures=figures, fit=self.new_fit), None
            with writing_in(self.settings.folder):
                append_line(self.settings.folder / LOG_FILE, progress)
            on_progress(progress)
            if saves:
                self._save(figures)

    def _leave_without_data(self, error: RuntimeError | OSError | EOFError) -> None:
        """Raise the error, or say that a loading process was lost; a signal may have reached those first."""
        try:
            sentence = lost_worker(error)
        except RuntimeError as told:  # of the signal, which came on the way there
            error, sentence = told, lost_worker(told)
        if sentence is None:
            raise error
        if not self.signals.came:
            raise TrainingError(f"{sentence}; {self._kept()}") from None
        if self.between_steps and self.world.leads and self.iteration:
            self._check_weights()
            self._save({})

    def _result_is_whole(self) -> bool:
        try:
            read_content(self.task.target)
        except CheckpointError:
            return False
        return True

    def _kept(self) -> str:
        """Sentence on what is on disk, and how to go on from it."""
        if self.saved is None:
            return "nothing was saved yet, so run the same command again"
        return f"all up to iteration {self.saved} is saved, so run the same command again to go on from there"

    def _step(self, batch: tuple[Tensor, ...]) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.task.rate(group["role"], self.iteration)
            for parameter in group["params"]:
                parameter.requires_grad_(group["lr"] > 0)
        batch = tuple(tensor.to(self.world.device, non_blocking=True) for tensor in batch)
        loss = self._gradients(batch) if self.recorded is None else self.recorded(batch)
        if not self.checks_at_once:
            self._watch(loss)
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        with torch.no_grad():
            self.world.mean(parameter.grad for parameter in trained if parameter.grad is not None)
        self.scaler.unscale_(self.optimizer)  # after the mean, so that all processes see an overflow and skip the step
        if self.task.gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, self.task.gradient_norm)
        before = [] if self.checks_at_once else [parameter.detach().clone() for parameter in trained]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # The average follows quickly at first, so that it does not remember the initial weights.
        decay = min(self.task.ema_decay, (1 + self.iteration) / (10 + self.iteration))
        with torch.no_grad():
            for parameter, kept in zip(trained, before, strict=False):
                torch.where(self.sound, parameter, kept, out=parameter)
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.task.model.parameters()), 1 - decay)
        return self.seen

    def _gradients(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss of a batch, whose gradients are left with the parameters."""
        with self._autocast():
            loss = self.task.loss(batch)
        if self.checks_at_once:
            self._watch(loss.detach())
            if not self.sound:
                self._check_finite(float(self.seen))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        return loss.detach()

    def _watch(self, loss: Tensor) -> None:
        self.sound = self.sound & self.world.all(loss.isfinite())
        self.seen = torch.where(self.sound, loss, math.nan)

    def _check_finite(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        if self.iteration == 0 and not self.between_steps:  # no rate is to blame
            raise TrainingError(
                f"the loss of the first batch is {loss}, before any step: the weights that the run starts from are of "
                f"no use in {self.settings.precision}; choose another {self.task.origins}"
            )
        self._give_up(f"the loss is {loss} near iteration {self.iteration + (not self.between_steps)}")

    def _check_weights(self) -> None:
        """Raise TrainingError where the weights have become useless: nothing is saved that could not be loaded."""
        for model in (self.task.model, self.averaged):
            if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
                self._give_up(f"the weights are no longer finite at iteration {self.iteration}")

    def _give_up(self, what: str) -> NoReturn:
        if self.saved is None:
            raise TrainingError(f"{what}, and nothing was saved before; start again with {self.task.steadier}")
        raise TrainingError(
            f"{what}; the checkpoint of iteration {self.saved} is kept, so start a new run from it with --init and "
            f"{self.task.steadier}"
        )

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
        state = {
            "identity": self._identity(),
            "iteration": self.iteration,
            "model": self.task.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "fit": None if self.fit is None else asdict(self.fit),
        }
        serialised = io.BytesIO()  # so that a full disk is the system's error, not one of PyTorch's own
        torch.save(state, serialised)
        try:
            keep(
                self.settings.folder,
                serialised.getbuffer(),
                lambda: self.task.save(self.averaged, self.iteration, figures),
            )
        except OutputError as error:
            raise OutputError(f"{error}; {self._kept()}") from error
        self.saved = self.iteration

    def _identity(self) -> dict[str, str]:
        identity = {**self.task.identity, "precision": self.settings.precision}
        return identity if self.settings.hours is None else {**identity, "number of hours": f"{self.settings.hours:g}"}

    def _resume(self) -> None:
        path = self.settings.folder / RESUME_FILE
        state = kept(self.settings.folder, self.task.target)
        if state is None:
            self._shorten_log()
            return
        try:
            identity = state["identity"]
            expected = self._identity()
            names = [name for name in {**identity, **expected} if name in identity or name not in NEW_IN_IDENTITY]
            if differing := [name for name in names if identity.get(name) != expected.get(name)]:
                raise CheckpointError(
                    f"{path} belongs to a run with another {', another '.join(differing)}; continue with that run's "
                    "settings, or choose another folder"
                )
            self.task.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.iteration = self.saved = int(state["iteration"])
            if self.iteration < 1:
                raise ValueError("there is no such iteration")
            self.fit = Fit(**state["fit"]) if state.get("fit") else None
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            raise CheckpointError(
                f"{path} cannot be read: it is damaged, or of another version ({type(error).__name__}); "
                f"{another_way(self.task.target)}"
            ) from error
        self._shorten_log()

    def _shorten_log(self) -> None:
        """Let the log end where the run goes on."""
        if self.world.leads:
            with writing_in(self.settings.folder):
                drop_lines_after(self.settings.folder / LOG_FILE, self.iteration)
