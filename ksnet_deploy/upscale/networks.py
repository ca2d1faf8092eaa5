"""Networks as a user names them: a bundled checkpoint, a checkpoint's path, or an exported file's.

Imported with the command line; what is heavy stands inside the functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ksnet_deploy.base.errors import ArtifactError, ConfigError
from ksnet_deploy.base.version import package_version
from ksnet_deploy.network.bundled import bundled_names, check_is_file, checkpoint_path
from ksnet_deploy.upscale.precision import (
    IN_TILES,
    CpuPrecision,
    check_choice,
    check_precision,
    exported_precision,
    precision_in_words,
    precision_of_file,
    prove_int8,
)

if TYPE_CHECKING:
    from ksnet_deploy.base.frames import FrameSize, FrameType
    from ksnet_deploy.network.config import KSNetConfig
    from ksnet_deploy.runtime.base import Runner
    from ksnet_deploy.runtime.tiles import TilePlan

__all__ = [
    "Backend",
    "Device",
    "GivenNetwork",
    "Network",
    "NetworkFile",
    "OpenRunner",
    "default_model",
    "fastest_on_cpu",
    "find_network",
]

Backend = Literal["onnxruntime", "openvino", "torch"]
"""Runtimes of a checkpoint."""
Device = Literal["cpu", "cuda"]
NetworkKind = Literal["checkpoint", "onnx", "engine"]
EXPORTED: dict[str, NetworkKind] = {".onnx": "onnx", ".engine": "engine"}

OpenRunner = "Callable[[FrameSize, FrameType], Runner]"
"""Gives a runner for LR frames of a size, of that frame type if it can choose."""


def default_model(device: str | None) -> str:
    """Name of the bundled network that suits a device: ``lite`` on a CPU, which is the default, ``uni`` on a GPU."""
    return "uni" if device == "cuda" else "lite"


def video_model(device: str | None) -> str | None:
    """Name of the bundled network for compressed video: that of the device's size, else ``lite``'s; None for neither.

    The smaller network is worth more there than a larger one for clean frames (docs/results.md).
    """
    names = (f"{model}-video" for model in (default_model(device), default_model(None)))
    return next((name for name in names if name in bundled_names()), None)


class Network(ABC):
    """A network that can be opened for frames of a size."""

    label: str
    """Name for messages."""
    can_be_tiled = False
    """Whether it runs in tiles; else :meth:`open` takes whole frames only."""
    device: str = "cpu"
    is_bidirectional = False
    """Whether it looks at later frames too, and so is run in windows."""
    lanes_are_exact = False
    """Whether scenes side by side come out as each does alone, to the bit."""
    settles_when_opened = False
    """Whether only opening it tells what runs it, so that its identity is known then."""

    @abstractmethod
    def identity(self) -> dict[str, str]:
        """Everything about the network that changes its pictures, by names a user understands."""

    @abstractmethod
    def open(
        self,
        size: FrameSize,
        io: FrameType,
        tiling: TilePlan | None = None,
        *,
        lanes: int = 1,
        on_note: Callable[[str], None] = lambda _line: None,
    ) -> Runner:
        """A runner for LR frames of a size.

        Args:
            io: type of the frames, where the network leaves a choice; an exported file has its own.
            tiling: the tiles that frames are run in, where :attr:`can_be_tiled`; None for whole frames.
            lanes: scenes that go side by side, in whole frames.
            on_note: told that a checkpoint is being exported, which happens once per size.

        Raises:
            KSNetError: the network cannot be loaded or run here.
        """

    def step_down(self, error: Exception, tell: Callable[[str], None]) -> bool:  # noqa: ARG002
        """Choose another way to run it, after this one failed; False where there is none. ``tell`` is told."""
        return False

    def config(self) -> KSNetConfig | None:
        """Configuration, where it can be had without loading PyTorch."""
        return None

    def macs_per_frame(self, size: FrameSize) -> int | None:
        """Multiply-adds for an LR frame of a size; None where the configuration is not known."""
        from ksnet_deploy.network.macs import macs_per_frame

        config = self.config()
        return None if config is None else macs_per_frame(config, size)


@dataclass(frozen=True)
class GivenNetwork(Network):
    """A network that a function opens, for whole frames."""

    opener: Callable[..., Runner]
    """Given a size and a frame type; and ``lanes``, where scenes are to go side by side."""
    label: str = "the given network"
    is_bidirectional: bool = False
    lanes_are_exact: bool = False

    def identity(self) -> dict[str, str]:
        return {}

    def open(
        self,
        size: FrameSize,
        io: FrameType,
        tiling: TilePlan | None = None,  # noqa: ARG002
        *,
        lanes: int = 1,
        on_note: Callable[[str], None] = lambda _line: None,  # noqa: ARG002
    ) -> Runner:
        return self.opener(size, io, **({"lanes": lanes} if lanes > 1 else {}))


@dataclass(frozen=True)
class NetworkFile(Network):
    """A network in a file; made by :func:`find_network`."""

    label: str
    path: Path
    kind: NetworkKind
    backend: str
    """``onnxruntime``, ``openvino``, ``torch`` or ``tensorrt``."""
    device: str
    """``cpu`` or ``cuda``."""
    wanted: CpuPrecision = "auto"
    """Precision that a CPU was asked for."""
    chosen: bool = True
    """Whether the runtime was asked for; one that was not gives way to ONNX Runtime where tiles are needed."""

    @property
    def runtime(self) -> str:
        """Backend and device in words."""
        return f"{self.backend} on {self.device}"

    @property
    def can_be_tiled(self) -> bool:  # type: ignore[override]
        """Whether it runs in tiles: ONNX Runtime runs checkpoints so, and a ladder engines of them."""
        gives_way = not self.chosen and self.device == "cpu"
        return self.kind == "checkpoint" and (self.backend in ("onnxruntime", "tensorrt", "rtx") or gives_way)

    @property
    def in_tiles(self) -> NetworkFile:
        """The network as it runs in tiles: in ONNX Runtime, where OpenVINO, which runs whole frames only, gives way."""
        return replace(self, backend="onnxruntime") if self.backend == "openvino" else self

    @property
    def is_bidirectional(self) -> bool:  # type: ignore[override]
        config = self.config()
        return config is not None and config.direction == "bi"

    @property
    def lanes_are_exact(self) -> bool:  # type: ignore[override]
        """ONNX Runtime's kernels for the CPU go over a batch frame by frame; other libraries choose by its size."""
        return self.backend == "onnxruntime" and self.device == "cpu"

    @property
    def precision(self) -> str | None:
        """Precision of its convolutions, where this machine or its runtime settles that and not the file."""
        if self.kind == "checkpoint":
            return precision_in_words(self.backend, self.wanted) if self.device == "cpu" else "float16"
        return precision_of_file(self.path) if self.backend == "openvino" else None

    def identity(self) -> dict[str, str]:
        from ksnet_deploy.base.files import sha256_of
        from ksnet_deploy.runtime.pair import files_of

        onnxruntime = ("onnxruntime", "onnxruntime-gpu")
        libraries = {"onnxruntime": onnxruntime, "openvino": ("openvino",), "torch": ("torch",)}.get(self.backend, ())
        if not self.chosen:
            libraries = (*libraries, *(name for name in onnxruntime if name not in libraries))
        found = [f"{name} {package_version(name)}" for name in libraries if package_version(name)]
        identity = {
            "network": " ".join([self.path.name, *(sha256_of(file)[:12] for file in files_of(self.path))]),
            "runtime": f"{' and '.join(found) or self.backend} on {self.device}",
        }
        if (precision := self.precision) is not None:
            identity["precision"] = precision
        if self.can_be_tiled and self.in_tiles is not self:
            identity[IN_TILES] = str(self.in_tiles.precision)
        if self.device == "cpu" and self.backend in ("onnxruntime", "openvino"):
            from ksnet_deploy.ops.align_library import align_kernel

            kernels = [align_kernel("openvino")] if self.backend == "openvino" else []
            kernels += [align_kernel("onnxruntime")] if self.backend == "onnxruntime" or not self.chosen else []
            identity["alignment"] = " or ".join(dict.fromkeys(map(str, kernels)))
        if self.kind == "checkpoint" and self.backend in ("onnxruntime", "openvino"):
            identity["torch"] = package_version("torch") or "none"  # which exports it
        return identity

    def config(self) -> KSNetConfig | None:
        if self.kind != "checkpoint":
            return _config_of_pair(self.path)
        from ksnet_deploy.network.checkpoint_config import config_of

        return config_of(self.path)

    def open(
        self,
        size: FrameSize,
        io: FrameType,
        tiling: TilePlan | None = None,
        *,
        lanes: int = 1,
        on_note: Callable[[str], None] = lambda _line: None,
    ) -> Runner:
        from ksnet_deploy.runtime.open import check_runtime, open_runner

        if self.kind == "engine":
            return open_runner(self.path, size, lanes=lanes)
        if self.kind == "checkpoint":
            from ksnet_deploy.network.checkpoint_config import notes_of

            for note in notes_of(self.path):
                on_note(note)
        if self.backend == "torch" or self.kind == "onnx":
            return open_runner(self.path, size, device=self.device, io=io, backend=self.backend, lanes=lanes)
        from ksnet_deploy.export.cache import cached_onnx

        backend = self.in_tiles.backend if tiling else self.backend
        if backend != self.backend:
            on_note(
                f"ONNX Runtime runs the tiles, in {precision_in_words(backend, self.wanted)}: OpenVINO, which is the "
                "default here, runs whole frames only."
            )
        check_runtime(backend, self.device)  # before an export, which takes long
        exported = tiling.tile if tiling else size
        precision = "fp16" if self.device == "cuda" else exported_precision(backend, self.wanted)
        if self.wanted == "int8":
            prove_int8(self.path, self.label, exported, precision, on_note)
        path = cached_onnx(
            self.path,
            exported,
            io,
            precision,
            batch=lanes,
            on_export=lambda: on_note(f"Exporting {self.label} for frames of {exported}, once."),
        )
        if tiling:
            from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
            from ksnet_deploy.runtime.pair import files_of
            from ksnet_deploy.runtime.tiles import TiledRunner
            from ksnet_deploy.runtime.windows import WindowRunner

            steps = [
                TiledRunner(LockstepOnnxRunner(file, tiling.tile, device=self.device), tiling)
                for file in files_of(path)
            ]
            return WindowRunner(*steps) if len(steps) > 1 else steps[0]
        return open_runner(path, size, device=self.device, io=io, backend=backend, lanes=lanes)


def find_network(
    model: str | Path, backend: str | None = None, device: str | None = None, precision: str | None = None
) -> NetworkFile:
    """The network of a name or path.

    Args:
        model: a bundled checkpoint's name, or the path of a checkpoint, an ``.onnx`` or an ``.engine``.
        backend: ``onnxruntime``, ``openvino`` or ``torch``, for a checkpoint (default: openvino on a CPU where it is
            installed and faster, else onnxruntime).
        device: ``cpu`` or ``cuda`` (default: cpu; an engine runs on the GPU).
        precision: ``fp32`` or ``int8``, for a checkpoint on a CPU (default: auto).

    Raises:
        CheckpointError, ArtifactError: there is no such network.
        ConfigError: it is not run by that backend or on that device.
    """
    label = str(model)
    check_choice("backend", backend, get_args(Backend))
    check_choice("device", device, get_args(Device))
    kind = EXPORTED.get(Path(model).suffix.lower(), "checkpoint")
    check_precision(precision, label, exported=kind != "checkpoint", device=device)
    if kind == "engine" and (backend is not None or device == "cpu"):
        raise ConfigError(
            f"{label} is run by TensorRT on the GPU; leave --runtime and --device out, or give a checkpoint"
        )
    if kind == "onnx" and backend not in (None, "onnxruntime", "openvino"):
        raise ConfigError(
            f"{label} is run by ONNX Runtime or OpenVINO; give a checkpoint with --model for --runtime {backend}"
        )
    if kind == "checkpoint":
        path = checkpoint_path(label)
        check_is_file(path)
        found = backend or ("onnxruntime" if device == "cuda" else fastest_on_cpu())
        return NetworkFile(label, path, kind, found, device or "cpu", precision or "auto", backend is not None)  # type: ignore[arg-type]
    from ksnet_deploy.runtime.pair import is_pair, named_pair

    path = named_pair(Path(model))
    if not (path.is_file() or is_pair(path)):
        maker = "export" if kind == "onnx" else "build-engine"
        raise ArtifactError(f"{path} does not exist or is not a file; make one with 'ksnet-deploy {maker}'")
    backend, device = ("tensorrt", "cuda") if kind == "engine" else (backend or "onnxruntime", device or "cpu")
    return NetworkFile(label, path, kind, backend, device)


def _config_of_pair(path: Path) -> KSNetConfig | None:
    """Configuration of the bidirectional network of two exported files, which tells its memory; None for one file."""
    from ksnet_deploy.runtime.pair import is_pair

    if not is_pair(path):
        return None
    from ksnet_deploy.runtime.exported import describe

    return describe(path).config


def fastest_on_cpu() -> Backend:
    """The runtime that a checkpoint is given on this machine's CPU, where none was asked for."""
    from ksnet_deploy.runtime.openvino import is_fastest_here

    return "openvino" if is_fastest_here() else "onnxruntime"
