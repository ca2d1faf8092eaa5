"""Runtimes on devices, from the fastest, and which of them a user asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.upscale.networks import Device
from ksnet_deploy.upscale.precision import CpuPrecision, check_choice

if TYPE_CHECKING:
    from ksnet_deploy.runtime.gpu import Gpu

__all__ = ["RUNGS", "WITHOUT_RTX", "Choices", "Machine", "Rung", "available_rungs"]


@dataclass(frozen=True)
class Rung:
    """A runtime on a device."""

    runtime: str
    device: Device
    title: str
    """Name for sentences."""
    install: str
    """Command or advice that gets it, for the end of a sentence."""
    by_itself: bool = True
    """Whether it is taken without being asked for."""

    @property
    def is_engine(self) -> bool:
        return self.runtime in ("tensorrt", "rtx")

    def on(self, machine: Machine) -> str:
        """``TensorRT on the RTX 3080 in half precision``."""
        return f"{self.title} on the " + (f"{machine.gpu} in half precision" if self.device == "cuda" else "CPU")


RUNGS = (
    Rung("tensorrt", "cuda", "TensorRT", "pip install 'ksnet-deploy[tensorrt]'"),
    Rung("rtx", "cuda", "TensorRT-RTX", "pip install 'ksnet-deploy[rtx]'"),
    Rung("torch", "cuda", "PyTorch", "install a CUDA build of torch from pytorch.org"),
    Rung("onnxruntime", "cuda", "ONNX Runtime", "pip install 'ksnet-deploy[gpu]'"),
    Rung("onnxruntime", "cpu", "ONNX Runtime", "pip install 'ksnet-deploy[cpu]'"),
    Rung("openvino", "cpu", "OpenVINO", "pip install 'ksnet-deploy[openvino]'", by_itself=False),
    Rung("torch", "cpu", "PyTorch", "pip install torch", by_itself=False),
)
"""All, the fastest first. Where a CPU was not given a runtime, :func:`fastest_on_cpu` chooses between its first two."""


WITHOUT_RTX = frozenset({90})
"""Compute capabilities, times ten, that TensorRT-RTX does not build for: the H100 and the H200 have it."""


@dataclass(frozen=True)
class Machine:
    """Machine that a network is to run on."""

    gpu: Gpu | None
    without_gpu: str = ""
    """Reason why there is none."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Reasons why runtimes cannot use the GPU, by runtime; those that can are not in it."""

    def obstacle(self, rung: Rung) -> str | None:
        """Reason why a rung cannot be stood on; None where it can, as far as can be known without trying."""
        if rung.device == "cpu":
            return None  # what is missing there is said when it is opened
        return self.without_gpu if self.gpu is None else self.missing.get(rung.runtime)

    def can_have(self, rung: Rung) -> bool:
        """Whether installing what a rung lacks would help: TensorRT-RTX does not build for some cards."""
        return rung.runtime != "rtx" or self.gpu is None or self.gpu.sm not in WITHOUT_RTX


@dataclass(frozen=True)
class Choices:
    """Wishes of a user: each a value, or ``auto``."""

    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    """``auto``, or ``fp32`` or ``int8``, which are of CPUs."""

    @classmethod
    def of(
        cls, runtime: str | None, device: str | None, backend: str | None = None, precision: str | None = None
    ) -> Choices:
        """Wishes from options; ``backend`` is the older name of ``runtime``. Raises ConfigError for any other."""
        if backend is not None and runtime not in (None, "auto", backend):
            raise ConfigError(f"a runtime of {runtime} and a backend of {backend} were asked for; give one of them")
        choices = cls(backend or runtime or "auto", device or "auto", precision or "auto")
        runtimes = tuple(dict.fromkeys(rung.runtime for rung in RUNGS))
        for name, value, known in (
            ("runtime", choices.runtime, runtimes),
            ("device", choices.device, get_args(Device)),
            ("precision", choices.precision, get_args(CpuPrecision)[1:]),
        ):
            check_choice(name, value, ("auto", *known))
        if not choices.rungs() and replace(choices, precision="auto").rungs():
            found = choices.runtime if choices.device == "auto" else f"{choices.runtime} on {choices.device}"
            by = ", by ONNX Runtime or OpenVINO," if choices.precision == "int8" else ""
            raise ConfigError(
                f"a precision of {choices.precision} is for CPUs{by} and not for {found}; leave --precision out, or "
                "the other choice"
            )
        if not choices.rungs():
            only = "the CPU" if choices.device == "cuda" else "a GPU"
            raise ConfigError(f"{choices.runtime} runs on {only} only; leave --device {choices.device} out")
        return choices

    def rungs(self) -> list[Rung]:
        """Rungs that were asked for, the fastest first."""
        return [
            rung
            for rung in RUNGS
            if (rung.by_itself if self.runtime == "auto" else rung.runtime == self.runtime)
            and self.device in ("auto", rung.device)
            and (self.precision == "auto" or rung.device == "cpu")
            and not (self.precision == "int8" and rung.runtime == "torch")
        ]

    @property
    def backend(self) -> str | None:
        """The runtime, where it was asked for and runs checkpoints themselves or their exports."""
        return None if self.runtime in ("auto", "tensorrt", "rtx") else self.runtime

    def settled_device(self, machine: Machine) -> Device:
        """The device of the first rung that can be stood on, or that was asked for."""
        rungs = self.rungs()
        return next((rung.device for rung in rungs if machine.obstacle(rung) is None), rungs[0].device)


def available_rungs(choices: Choices, machine: Machine) -> list[Rung]:
    """Rungs of a choice that can be stood on. Raises BackendError, with the reason of each, where there is none."""
    rungs = choices.rungs()
    found = [rung for rung in rungs if machine.obstacle(rung) is None]
    if not found:
        remedy = "use --device cpu"
        if choices.runtime in ("tensorrt", "rtx"):
            remedy = "leave --runtime out"
            if machine.gpu is None and choices.device == "cuda":
                remedy = "leave --runtime and --device out"
        if machine.gpu is None:
            raise BackendError(f"no GPU can be used: {machine.without_gpu}; {remedy}")
        installs = {rung: f", {rung.install}" if machine.can_have(rung) else "" for rung in rungs}
        reasons = "; ".join(f"{rung.title}: {machine.obstacle(rung)}{installs[rung]}" for rung in rungs)
        raise BackendError(f"nothing that was asked for runs on the {machine.gpu} ({reasons}); or {remedy}")
    return found
