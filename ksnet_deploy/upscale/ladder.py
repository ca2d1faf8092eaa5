"""The fastest way to run a network on this machine, found by itself: a ladder of runtimes, tried from the top down.

A :class:`Rung` is a runtime on a device; :data:`RUNGS` are all, the fastest first. A :class:`Machine` says what each of
them lacks here. A :class:`Ladder` is a network on the rungs that are left: it opens on the first, and
:meth:`Ladder.step_down` goes to the next where that fails. A runtime or a device that was asked for is never left, for
only its own rungs are tried. Not yet run on a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ksnet_deploy.base.errors import BackendError, ConfigError, KSNetError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.upscale.card_engines import CardEngines, OnBuild
from ksnet_deploy.upscale.networks import Network, NetworkFile, default_model, fastest_on_cpu, find_network
from ksnet_deploy.upscale.rungs import RUNGS, WITHOUT_RTX, Choices, Machine, Rung, available_rungs

if TYPE_CHECKING:
    from ksnet_deploy.network.config import KSNetConfig
    from ksnet_deploy.runtime.base import Runner
    from ksnet_deploy.runtime.tiles import TilePlan

__all__ = ["RUNGS", "Choices", "Ladder", "Machine", "Rung", "available_rungs", "find_fastest", "this_machine"]

Tell = Callable[[str], None]


def find_fastest(
    model: str | Path | None,
    choices: Choices,
    machine: Machine | None = None,
    *,
    on_build: OnBuild = lambda _phase, _done, _total: None,
) -> Network:
    """The network of a name or path, to be run in the fastest way that was asked for.

    Args:
        model: a bundled checkpoint's name, or the path of a checkpoint, an ``.onnx`` or an ``.engine`` (default: uni
            on a GPU, lite on a CPU).
        machine: where it is to run (default: here).
        on_build: told the progress of an engine's build.

    Raises:
        CheckpointError, ArtifactError: there is no such network.
        ConfigError: it is not run by that runtime or on that device.
        BackendError: nothing that was asked for is here.
    """
    machine = machine or this_machine()
    name = default_model(choices.settled_device(machine)) if model is None else model
    device = None if choices.device == "auto" else choices.device
    file = find_network(name, choices.backend, device, choices.precision)
    if file.kind == "engine":
        if choices.runtime != "auto":
            _check_flavour(file, choices.runtime)
        return file
    if file.kind == "onnx" and choices.runtime == "auto":
        choices = replace(choices, runtime="onnxruntime")
    rungs = available_rungs(choices, machine)
    if rungs[0].device == "cpu":  # nothing to fall to
        return file
    if file.kind == "checkpoint" and choices.runtime == "auto":
        on_cpu = next(rung for rung in RUNGS if rung.runtime == fastest_on_cpu() and rung.device == "cpu")
        rungs = [rung if rung.device == "cuda" else on_cpu for rung in rungs]
    return Ladder(file, rungs, machine, on_build=on_build)


def _check_flavour(engine: NetworkFile, runtime: str) -> None:
    """Raise ConfigError for an engine that was built by another runtime than the one that was asked for."""
    from ksnet_deploy.runtime.pair import files_of
    from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar

    if (flavour := Sidecar.read(files_of(engine.path)[0]).spec.flavour) != runtime:
        raise ConfigError(
            f"{engine.label} was built by {flavour}, which alone runs it, not {runtime}; leave --runtime out, or give "
            "a checkpoint with --model"
        )


class Ladder(Network):
    """A network on several rungs, of which it stands on one."""

    def __init__(
        self,
        file: NetworkFile,
        rungs: Sequence[Rung],
        machine: Machine,
        *,
        on_build: OnBuild = lambda _phase, _done, _total: None,
    ) -> None:
        """``rungs`` are those that can be stood on, at least one."""
        self.label, self.is_bidirectional = file.label, file.is_bidirectional
        self._file, self._rungs, self._machine = file, list(rungs), machine
        self._engines = CardEngines(file, str(machine.gpu), on_build)
        self._tile_engines: dict[str, str] = {}
        """Identity of the engines that tiles are run by."""
        self._taken: NetworkFile | None = None
        self._made_for: tuple[Rung, FrameSize, FrameType, int] | None = None
        self._told: Rung | None = None

    @property
    def rung(self) -> Rung:
        """The rung that it stands on."""
        return self._rungs[0]

    @property
    def _network(self) -> NetworkFile:
        if self._taken is not None:
            return self._taken
        if self.rung.device == "cpu":
            chosen = self.rung.runtime if self._file.chosen else None  # what was not gives way where tiles are needed
            return find_network(self.label, chosen, "cpu")
        return replace(self._file, backend=self.rung.runtime, device="cuda")

    @property
    def can_be_tiled(self) -> bool:  # type: ignore[override]
        return self.rung.is_engine or self._network.can_be_tiled

    @property
    def lanes_are_exact(self) -> bool:  # type: ignore[override]
        return self._network.lanes_are_exact

    @property
    def device(self) -> str:  # type: ignore[override]
        return self.rung.device

    @property
    def settles_when_opened(self) -> bool:  # type: ignore[override]
        return True

    def identity(self) -> dict[str, str]:
        """Identity of the network on the rung that it stands on, once it was opened."""
        if self.rung.device == "cpu":
            return self._network.identity()
        return self._network.identity() | self._tile_engines | {"gpu": str(self._machine.gpu)}

    def config(self) -> KSNetConfig | None:
        return self._file.config()

    def open(
        self,
        size: FrameSize,
        io: FrameType,
        tiling: TilePlan | None = None,
        *,
        lanes: int = 1,
        on_note: Tell = lambda _line: None,
    ) -> Runner:
        if self.rung.is_engine and tiling is not None:
            self._taken = self._made_for = None
            runner, self._tile_engines = self._engines.tiled(self.rung.runtime, tiling, io, on_note)
        else:
            if self.rung.is_engine and self._made_for != (wanted := (self.rung, size, io, lanes)):
                self._taken = self._engines.whole(self.rung.runtime, size, io, lanes, on_note)
                self._made_for, self._tile_engines = wanted, {}
            runner = self._network.open(size, io, tiling, lanes=lanes, on_note=on_note)
        if self._told != self.rung:
            self._told = self.rung
            on_note(f"Running {self.label} with {self.rung.on(self._machine)}{self._hint()}.")
        return runner

    def step_down(self, error: Exception, tell: Tell) -> bool:
        """Leave a rung that failed for the next; False, and nothing is told, where there is none."""
        if len(self._rungs) == 1:
            return False
        failed = self._rungs.pop(0)
        self._taken, self._tile_engines = None, {}
        reason = str(error) if isinstance(error, KSNetError) else f"{type(error).__name__}: {error}"
        going_on = f"going on with {self.rung.on(self._machine)}"
        tell(f"{failed.title} cannot run {self.label} here ({' '.join(reason.split())}); {going_on}.")
        return True

    def _hint(self) -> str:
        """The faster way that is one install away, as the end of a sentence."""
        machine, faster = self._machine, RUNGS[: RUNGS.index(self.rung)]
        above = [rung for rung in faster if machine.obstacle(rung) is not None and machine.can_have(rung)]
        if self.rung.is_engine or not above or self._file.kind == "onnx":  # the two kinds of engines are equally fast
            return ""
        # TensorRT-RTX is a driver and a wheel; TensorRT comes from an index of NVIDIA's own.
        best = next((rung for rung in above if rung.runtime == "rtx"), above[0])
        return f"; {best.title} would be faster: {best.install}"


@functools.cache
def this_machine() -> Machine:
    """The GPU of this machine and what can use it; where there is none, nothing else is looked at."""
    from ksnet_deploy.runtime.gpu import find_gpu

    try:
        gpu = find_gpu()
    except BackendError as error:
        return Machine(None, str(error))
    found = {rung.runtime: lacks(rung.runtime) for rung in RUNGS if rung.device == "cuda"}
    if gpu.sm in WITHOUT_RTX:
        found["rtx"] = f"it does not build for sm{gpu.sm}"
    return Machine(gpu, "", {runtime: reason for runtime, reason in found.items() if reason is not None})


def lacks(runtime: str) -> str | None:
    """Thing that a runtime lacks to use a GPU; None where it lacks nothing that can be known without trying."""
    from ksnet_deploy.base.version import package_version

    try:
        if runtime == "torch":
            if (package_version("torch") or "").endswith("+cpu"):
                return "it is built without CUDA"
            from ksnet_deploy.runtime.torch import cuda_device

            cuda_device()
        elif runtime == "onnxruntime":
            from ksnet_deploy.runtime.onnx import check_device

            check_device("cuda")
        else:
            from ksnet_deploy.runtime.tensorrt.target import choose_flavour

            choose_flavour(runtime)  # type: ignore[arg-type]
    except ImportError:
        return "it is not installed"
    except BackendError:
        return "it is built without CUDA" if runtime in ("torch", "onnxruntime") else "it is not installed"
    return None
