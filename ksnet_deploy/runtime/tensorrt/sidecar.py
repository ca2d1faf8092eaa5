"""The file beside an engine, which says what it is, and by which an engine that does not fit is refused.

An engine is opaque: without the GPU it was built for, nothing can be read from it. So what a user or a runtime must
know is written down when it is built, from the network definition itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import ArtifactError
from ksnet_deploy.base.files import replacing, sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, Flavour, GpuTarget, SizeRange

__all__ = ["LayerCounts", "PluginIdentity", "Sidecar", "Tensor", "sidecar_path"]

FORMAT = 1

LayerCounts = dict[str, dict[str, int]]
"""Number of layers by type and by the type of their first output: ``{"CONVOLUTION": {"HALF": 85}}``."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the engine."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """With -1 where it is free."""

    def at(self, size: FrameSize) -> tuple[int, ...]:
        """Shape of an input at a frame size: frames are (1, H, W, 3), states (1, C, H, W)."""
        if self.name == "lr":
            return (1, size.height, size.width, self.shape[3])
        return (1, self.shape[1], size.height, size.width)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Tensor:
        return cls(values["name"], values["dtype"], tuple(values["shape"]))


@dataclass(frozen=True)
class PluginIdentity:
    """The plugin library that an engine was built with, and needs."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Sidecar:
    """Everything that is known of an engine."""

    engine_sha256: str
    onnx_sha256: str
    flavour: Flavour
    version: str
    """Version of TensorRT, which only runs engines of its own version."""
    model: str
    """The checkpoint or ONNX file, as it was named to the command."""
    sm: int
    precision: str
    least: str
    best: str
    most: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: LayerCounts
    plugins: PluginIdentity | None
    metadata: dict[str, str]
    """The ONNX file's own: configuration, weights, version of this package."""
    build_s: float
    verified: dict[str, Any] | None = None
    """Result of the comparison with float32, and with what it was made; None when there was none."""
    format: int = FORMAT

    @property
    def sizes(self) -> SizeRange:
        return SizeRange(*(FrameSize.parse(text) for text in (self.least, self.best, self.most)))

    def write(self, engine: Path) -> None:
        with replacing(sidecar_path(engine)) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, engine: Path) -> Sidecar:
        """The sidecar of an engine.

        Raises:
            ArtifactError: the engine or its sidecar is missing, or the sidecar is not one of this version.
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
            values = json.loads(path.read_text())
            if values["format"] != FORMAT:
                raise ArtifactError(
                    f"{path} is of format {values['format']}, where {FORMAT} was expected; build the engine again"
                )
            values["inputs"], values["outputs"] = (
                tuple(map(Tensor.from_json, values[key])) for key in ("inputs", "outputs")
            )
            values["plugins"] = values["plugins"] and PluginIdentity(**values["plugins"])
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
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
        rebuild = self.rebuild_command(engine, device or GpuTarget(self.sm), size)
        if sha256_of(engine) != self.engine_sha256:
            raise ArtifactError(
                f"{engine} is not the file that its sidecar describes: it is cut off, or was changed; {rebuild}"
            )
        if flavour_version != self.version:
            raise ArtifactError(
                f"{engine} was built by {FLAVOURS[self.flavour]} {self.version}, and {flavour_version} is installed, "
                f"which cannot run it; {rebuild}"
            )
        if device is not None and device.sm != self.sm:
            raise ArtifactError(f"{engine} was built for {GpuTarget(self.sm)}, and this GPU is {device}; {rebuild}")
        if size not in self.sizes:
            raise ArtifactError(f"{engine} takes frames of {self.sizes} (height x width), not {size}; {rebuild}")
        if self.plugins is None:
            return
        if plugin_library is None:
            raise ArtifactError(
                f"{engine} needs the native plugin library {self.plugins.name}, which is not found here; build it with "
                "'ksnet-deploy build-plugins', or build the engine again with --plugins off"
            )
        if sha256_of(plugin_library) != self.plugins.sha256:
            raise ArtifactError(
                f"{engine} was built with another version of the plugin library than {plugin_library}; {rebuild}"
            )

    def rebuild_command(self, engine: Path, target: GpuTarget, size: FrameSize) -> str:
        """The remedy, as the end of a sentence."""
        sizes = f"--size {size.padded}"
        if not self.sizes.is_fixed and size in self.sizes:
            sizes = f"--min {self.least} --opt {self.best} --max {self.most}"
        fp16 = " --fp16" if self.precision == "fp16" else ""
        plugins = "on" if self.plugins else "off"
        return (
            f"build it again with 'ksnet-deploy build-engine {engine} --overwrite --model {self.model}{fp16} "
            f"--runtime {self.flavour} --gpu {target} {sizes} --plugins {plugins}'"
        )


def sidecar_path(engine: Path) -> Path:
    """``x.engine`` -> ``x.engine.json``."""
    return engine.with_name(f"{engine.name}.json")
