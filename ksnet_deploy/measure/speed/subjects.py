"""Subjects of a benchmark: networks at sizes, as a user names them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from ksnet_deploy.base.errors import ArtifactError, ConfigError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.memory import config_of_file
from ksnet_deploy.measure.speed.ways import Way, all_ways, int8_ways, ways_here, ways_of_file
from ksnet_deploy.network.config import KSNetConfig, Precision
from ksnet_deploy.runtime.exported import describe
from ksnet_deploy.runtime.pair import files_of, is_pair
from ksnet_deploy.upscale.networks import NetworkFile, NetworkKind, find_network

__all__ = ["DEFAULT_SIZE", "Subject", "find_subjects", "networks_at_sizes", "precision_of_file"]

DEFAULT_SIZE = FrameSize(180, 320)


@dataclass(frozen=True)
class Subject:
    """A network at a size, and the ways to run it."""

    label: str
    path: Path
    kind: NetworkKind
    size: FrameSize
    ways: list[Way]
    missing: dict[str, str] = field(default_factory=dict)
    config: KSNetConfig | None = None
    macs: int | None = None
    """Multiply-adds of a step; None where they are not known."""
    precision: Precision = "fp32"
    """Precision of a given exported file."""
    notes: tuple[str, ...] = ()
    """Sentences on the network that a user should know."""
    weights_sha256: str | None = None
    """Hash of the network's file; of a pair, of both."""

    def is_ready(self, way: Way) -> bool:
        """Whether what a way runs need not be exported first."""
        if self.kind != "checkpoint":
            return True
        from ksnet_deploy.export.cache import cached_path

        path = cached_path(self.path, self.size, "uint8", way.export)
        return path.is_file() or is_pair(path)

    def is_reference(self, way: Way) -> bool:
        """Whether the others are compared with it: PyTorch in float32, or ONNX Runtime on a given float32 file."""
        if self.kind == "checkpoint":
            return way.is_reference
        return way.name == "onnxruntime-cpu" and self.precision == "fp32"


def find_subjects(
    models: list[str], sizes: list[FrameSize] | None, clip: Path | None = None, *, int8: bool = False
) -> list[Subject]:
    """Every network at every size.

    Args:
        models: bundled checkpoints' names, or paths of checkpoints, ``.onnx`` or ``.engine`` files.
        sizes: of the LR frames (default: that of the clip, or of the file, else 180x320).
        clip: whose frames will be upscaled.
        int8: whether checkpoints are run with convolutions in 8 bits too.

    Raises:
        KSNetError: there is no such network or clip, it is not for the size, or nothing here runs it.
    """
    if clip is not None:
        clip_size = _size_of(clip)
        if sizes and {*sizes} != {clip_size}:
            raise ConfigError(
                f"{clip} has frames of {clip_size} (height x width), not {', '.join(map(str, sizes))}; leave --size out"
            )
        sizes = [clip_size]
    return [_subject(network, size, int8=int8) for network, size in networks_at_sizes(models, sizes)]


def networks_at_sizes(models: list[str], sizes: list[FrameSize] | None) -> list[tuple[NetworkFile, FrameSize]]:
    """Every network at every size that it runs at, each once, however often it was named.

    Args:
        models: as of :func:`find_subjects`.
        sizes: of the LR frames (default: the file's, else 180x320).

    Raises:
        KSNetError: there is no such network, or its file is of another size.
    """
    from ksnet_deploy.runtime.step_file import check_size

    found: dict[tuple[Path, FrameSize], tuple[NetworkFile, FrameSize]] = {}
    for network in map(find_network, models):
        own = _own_size(network)
        for size in sizes or [own or DEFAULT_SIZE]:
            if network.kind == "onnx":
                check_size(files_of(network.path)[0], own, size.padded)
            found.setdefault((network.path.resolve(), size.padded), (network, size.padded))
    return list(found.values())


def precision_of_file(path: Path) -> Precision:
    """Precision that an ``.onnx``, or both of a pair, say that they have."""
    from ksnet_deploy.runtime.step_file import exported_metadata, load_exported

    said = exported_metadata(load_exported(files_of(path)[0])).get("ksnet.precision", "fp32")
    if said not in get_args(Precision):
        raise ArtifactError(f"{path} says that its precision is '{said}', which is none; export it again")
    return said  # type: ignore[return-value]


def _size_of(clip: Path) -> FrameSize:
    from ksnet_deploy.video.kinds import PIPE
    from ksnet_deploy.video.reading.reader import VideoReader

    if str(clip) == PIPE:
        raise ConfigError("--clip is read anew for each way to run a network, standard input only once; give a file")
    with VideoReader(clip) as reader:
        return reader.size


def _own_size(network: NetworkFile) -> FrameSize | None:
    """The size that a file was made for."""
    if network.kind == "onnx":
        from ksnet_deploy.runtime.step_file import exported_size, load_exported

        return exported_size(load_exported(files_of(network.path)[0]))
    if network.kind == "engine":
        from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar

        return Sidecar.read(files_of(network.path)[0]).spec.sizes.best
    return None


def _subject(network: NetworkFile, size: FrameSize, *, int8: bool) -> Subject:
    """A network at a size that it runs at."""
    if int8 and network.kind != "checkpoint":
        raise ConfigError(f"{network.label} is an exported file, whose precision is its own; leave --precision out")
    precision: Precision
    flavour, precision, macs = None, "fp32", network.macs_per_frame(size)
    if network.kind == "engine":
        from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar

        spec = Sidecar.read(files_of(network.path)[0]).spec
        flavour, precision = spec.flavour, spec.precision
    if network.kind == "onnx":
        precision, macs = precision_of_file(network.path), _macs(network.path)
    if network.kind != "checkpoint":
        tried = ways_of_file(network.kind, precision)
    else:
        tried = (*all_ways(), *int8_ways()) if int8 else all_ways()
    ways, missing = ways_here(network.kind, flavour, ways=tried)
    return Subject(
        network.label,
        network.path,
        network.kind,
        size,
        ways,
        missing,
        _config(network),
        macs,
        precision,
        _notes(network),
        "+".join(map(sha256_of, [network.path] if network.kind == "checkpoint" else files_of(network.path))),
    )


def _config(network: NetworkFile) -> KSNetConfig | None:
    """Configuration of a checkpoint or of an ``.onnx``, which must say it; None for an engine."""
    if network.kind == "engine":
        return None
    return describe(network.path).config if network.kind == "onnx" else config_of_file(network.path)


def _notes(network: NetworkFile) -> tuple[str, ...]:
    if network.kind != "checkpoint":
        return ()
    from ksnet_deploy.network.checkpoint_config import notes_of

    return tuple(notes_of(network.path))


def _macs(path: Path) -> int | None:
    from ksnet_deploy.measure.limits.floor import layers_of_file

    try:
        return sum(layer.operations for layer in layers_of_file(path)) // 2
    except ArtifactError:  # for any size
        return None
