"""Sidecar of an engine: what it is, and by which an engine that does not fit is refused.

An engine is opaque: without the GPU it was built for, nothing can be read from it. So what a user or a runtime must
know is written down when it is built, from the network definition itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import ArtifactError, ConfigError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.sealed import read_sealed, write_sealed
from ksnet_deploy.runtime.pair import pair_name
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, GpuTarget

__all__ = ["EngineTensor", "LayerCounts", "Sidecar", "sidecar_path"]

FORMAT = 2

LayerCounts = dict[str, dict[str, int]]
"""Number of layers by type and by the type of their first output: ``{"CONVOLUTION": {"HALF": 85}}``."""


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of the engine."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """Shape, with -1 where it is free."""

    def at(self, size: FrameSize) -> tuple[int, ...]:
        """Shape of an input at a frame size: frames are (N, H, W, 3), states (N, C, H, W)."""
        if self.name == "lr":
            return (self.shape[0], size.height, size.width, self.shape[3])
        return (self.shape[0], self.shape[1], size.height, size.width)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EngineTensor:
        return cls(values["name"], values["dtype"], tuple(values["shape"]))


@dataclass(frozen=True)
class Sidecar:
    """Everything that is known of an engine."""

    spec: EngineSpec
    engine_sha256: str
    onnx_sha256: str
    version: str
    """Version of TensorRT, which only runs engines of its own version."""
    model: str
    """The checkpoint or ONNX file, as it was named to the command."""
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    layers: LayerCounts
    metadata: dict[str, str]
    """Metadata of the ONNX file: configuration, weights, version of this package."""
    build_s: float
    verified: dict[str, Any] | None = None
    """Result of the comparison with float32, and with what it was made; None when there was none."""
    other_engine_sha256: str | None = None
    """The engine of the network's other step, where it has two."""
    format: int = FORMAT

    @property
    def fault(self) -> str | None:
        """Verdict on an engine that did not pass its comparison, as the end of a sentence; None for any other."""
        verified = self.verified or {}
        if verified.get("passed", True):
            return None
        return f"did not pass its comparison with {verified['against']}: {'; '.join(verified['faults'])}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, those of the spec among the others."""
        values = asdict(self)
        del values["spec"]
        return {**self.spec.as_dict(), **values}

    def write(self, engine: Path) -> None:
        """Write the sidecar of an engine, whole or not at all, with a hash of itself."""
        write_sealed(sidecar_path(engine), self.as_dict())

    @classmethod
    def read(cls, engine: Path) -> Sidecar:
        """The sidecar of an engine.

        Raises:
            ArtifactError: the engine or its sidecar is missing, or the sidecar is damaged or not one of this version.
        """
        path = sidecar_path(engine)
        if not engine.is_file():
            raise ArtifactError(f"{engine} does not exist or is not a file; make one with 'ksnet-deploy build-engine'")
        if not path.is_file():
            raise ArtifactError(
                f"{path} is missing, without which {engine} cannot be trusted; copy it with the engine, or build both "
                "again with 'ksnet-deploy build-engine'"
            )
        try:
            values = read_sealed(path)
            if values["format"] != FORMAT:
                raise ArtifactError(
                    f"{path} is of format {values['format']}, where {FORMAT} was expected; build the engine again"
                )
            spec = EngineSpec.from_dict(values)
            for key in ("inputs", "outputs"):
                values[key] = tuple(map(EngineTensor.from_json, values[key]))
            return cls(spec, **values)
        except (ValueError, TypeError, KeyError, ConfigError) as error:
            raise ArtifactError(
                f"{path} is damaged ({type(error).__name__}: {error}); build the engine again with "
                "'ksnet-deploy build-engine'"
            ) from error

    def check(
        self,
        engine: Path,
        size: FrameSize,
        *,
        flavour_version: str,
        device: GpuTarget | None,
        plugin_library: Path | None,
    ) -> None:
        """Refuse an engine that does not fit.

        Args:
            flavour_version: of the installed TensorRT of the engine's flavour.
            device: of the GPU that is to run it; None skips that check.
            plugin_library: the native plugins that would be loaded.

        Raises:
            ArtifactError: with the reason and the command that builds a fitting engine.
        """
        rebuild = self.rebuild_command(engine, device or self.spec.target, size)
        if sha256_of(engine) != self.engine_sha256:
            raise ArtifactError(
                f"{engine} is not the file that its sidecar describes: it is cut off, or was changed; {rebuild}"
            )
        if flavour_version != self.version:
            raise ArtifactError(
                f"{engine} was built by {FLAVOURS[self.spec.flavour]} {self.version}, and {flavour_version} is "
                f"installed, which cannot run it; {rebuild}"
            )
        if device is not None and device != self.spec.target:
            raise ArtifactError(f"{engine} was built for {self.spec.target}, and this GPU is {device}; {rebuild}")
        if size not in self.spec.sizes:
            raise ArtifactError(f"{engine} takes frames of {self.spec.sizes} (height x width), not {size}; {rebuild}")
        if self.spec.plugins is None:
            return
        if plugin_library is None:
            raise ArtifactError(
                f"{engine} needs the native plugin library {self.spec.plugins.name}, which is not found here; build it "
                "with 'ksnet-deploy build-plugins', or build the engine again with --plugins off"
            )
        if sha256_of(plugin_library) != self.spec.plugins.sha256:
            raise ArtifactError(
                f"{engine} was built with another version of the plugin library than {plugin_library}; {rebuild}"
            )

    def rebuild_command(self, engine: Path, target: GpuTarget, size: FrameSize) -> str:
        """The remedy, as the end of a sentence."""
        sizes = f"--size {size.padded}"
        if not self.spec.sizes.is_fixed and size in self.spec.sizes:
            sizes = f"--min {self.spec.sizes.least} --opt {self.spec.sizes.best} --max {self.spec.sizes.most}"
        fp16 = " --fp16" if self.spec.precision == "fp16" else ""
        plugins = "on" if self.spec.plugins else "off"
        effort = "" if self.spec.effort is None else f" --effort {self.spec.effort}"
        batch = "" if self.spec.batch == 1 else f" --batch {self.spec.batch}"
        name = pair_name(engine)
        return (
            f"build it again with 'ksnet-deploy build-engine {name} --overwrite --model {self.model}{fp16} "
            f"--runtime {self.spec.flavour} --gpu {target} {sizes} --plugins {plugins}{effort}{batch}'"
        )


def sidecar_path(engine: Path) -> Path:
    """``x.engine`` -> ``x.engine.json``."""
    return engine.with_name(f"{engine.name}.json")
