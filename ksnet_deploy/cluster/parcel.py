"""A network on its way to machines that share no folder: its name where it is bundled, else the bytes of its file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ksnet_deploy.base.errors import ArtifactError
from ksnet_deploy.base.files import replacing, sha256_of
from ksnet_deploy.export.cache import cache_folder, made_cache_folder, using_cache
from ksnet_deploy.network.bundled import bundled_names
from ksnet_deploy.runtime.pair import files_of, named_pair
from ksnet_deploy.upscale.ladder import Choices

__all__ = ["RECEIVED", "NetworkParcel", "packed"]

RECEIVED = "received"
"""Folder in the cache for network files that came from another machine."""


@dataclass(frozen=True)
class NetworkParcel:
    """A network as a machine is told of it."""

    model: str
    """Name of a bundled network, or of the file."""
    choices: Choices
    """Runtime and device that were asked for."""
    hashes: tuple[tuple[str, str], ...] = ()
    """Name and SHA-256 of each file that goes with it; none for a bundled network."""

    def place(self, files: Mapping[str, bytes]) -> str:
        """Name or path of the network on this machine, whose cache is given the files that it lacks.

        Raises:
            OutputError: the cache cannot be used.
            ArtifactError: a file is not what was sent.
        """
        if not self.hashes:
            return self.model
        key = hashlib.sha256(repr(self.hashes).encode()).hexdigest()[:16]
        made_cache_folder()
        folder = cache_folder() / RECEIVED / key
        with using_cache():
            folder.mkdir(parents=True, exist_ok=True)
            for name, digest in self.hashes:
                path = folder / name
                if path.is_file() and sha256_of(path) == digest:
                    continue
                if hashlib.sha256(files[name]).hexdigest() != digest:
                    raise ArtifactError(f"the network's file {name} was damaged on its way here; start again")
                with replacing(path) as temporary:
                    temporary.write_bytes(files[name])
        return str(folder / self.model)


def packed(model: str, choices: Choices) -> tuple[NetworkParcel, dict[str, bytes]]:
    """A network of a name or path, and the contents of its files by their names.

    Raises:
        ArtifactError: there is no such file.
    """
    if model in bundled_names():
        return NetworkParcel(model, choices), {}
    path = named_pair(Path(model))
    parts = files_of(path)
    sidecars = [part.with_name(f"{part.name}.json") for part in parts]  # of engines
    try:
        files = {found.name: found.read_bytes() for found in (*parts, *filter(Path.is_file, sidecars))}
    except OSError as error:
        raise ArtifactError(
            f"the network {model} cannot be read ({error.strerror}); give a bundled name or a file with --model"
        ) from error
    hashes = tuple((name, hashlib.sha256(content).hexdigest()) for name, content in files.items())
    return NetworkParcel(path.name, choices, hashes), files
