"""Weights files as training tools leave them, read as one dictionary of tensors: :func:`read_state_dict`.

What a file is, its first bytes say and not its name. Pickled files are read by PyTorch's restricted unpickler, which
builds tensors, plain containers and NumPy's numbers only.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.network.bundled import check_is_file, is_safetensors
from ksnet_deploy.network.checkpoint_values import numpy_globals
from ksnet_deploy.network.weight_names import EMA_KEYS, without_prefixes

__all__ = ["StateDict", "check_finite", "finite_float32", "read_content", "read_state_dict", "save_state_dict"]

PLAIN_KEYS = (
    *("params", "state_dict", "model_state_dict", "model", "net", "generator", "module", "weights", "network"),
    *("net_g", "netG", "G", "model_state", "model_weights", "net_state_dict", "generator_state_dict"),
    *("netG_state_dict", "best_state_dict", "student", "checkpoint"),
)
"""Keys under which tools keep the weights themselves, the likeliest first."""
OURS = {"channels", "keep_ratio", "split_levels"}
"""Settings by which a configuration of ours is told from a trainer's own, which many keep under the same key."""
CHECKSUM = "sha256"
"""Metadata key of the checksum over all names, tensors and other metadata."""


@dataclass(frozen=True)
class StateDict:
    """The tensors of a weights file under the names of the network that was trained."""

    tensors: dict[str, Tensor]
    """Tensors on the CPU, of the stored types."""
    metadata: dict[str, str]
    """Metadata of a safetensors file; empty for others."""
    config: str | None
    """JSON of the network's configuration, where the file carries one."""
    notes: tuple[str, ...]
    """Sentences on what was chosen or left out."""


def read_state_dict(path: Path, what: str = "checkpoint") -> StateDict:
    """Read the weights of a safetensors file, a ``torch.save`` file, or a training's checkpoint that holds them.

    Averaged weights are preferred to plain ones, and known prefixes are removed; ``notes`` say so.

    Args:
        path: any suffix.
        what: the file's role, for messages: "checkpoint", "flow weights".

    Raises:
        CheckpointError: the file is missing, damaged or unsafe, or holds no dictionary of tensors.
    """
    content, metadata = read_content(path, what)
    notes = _notes_on_file(path)
    weights, left_out = _weights_in(content, f"the {what} {path}", path.name)
    tensors, stripped = without_prefixes(weights, f"the {what} {path}", path.name)
    return StateDict(tensors, metadata, _config_in(content, metadata), (*notes, *left_out, *stripped))


def read_content(path: Path, what: str = "checkpoint") -> tuple[Any, dict[str, str]]:
    """Content of a file, tensors on the CPU, and a safetensors file's metadata. Raises CheckpointError."""
    check_is_file(path, what)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(
            f"the {what} {path} cannot be read ({error.strerror}); check its permissions, or copy it anew"
        ) from error
    if is_safetensors(path):
        return _read_safetensors(path, what)
    if head[:2] == b"PK":
        _check_zip(path, what)
    elif head[:1] != b"\x80":
        raise CheckpointError(f"the {what} {path} cannot be read: it is {_foreign(head)}")
    return _unpickled(path, what), {}


def _foreign(head: bytes) -> str:
    """The nature of a file that is neither safetensors nor PyTorch's, in words, and the remedy."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kinds = (
        (not head, "empty; copy or download it again"),
        (
            text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")),
            "a web page (HTML), saved in place of the file; download the file that the page links to",
        ),
        (
            text.startswith(b"version https://git-lfs"),
            "a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'",
        ),
        (
            head[:2] == b"\x1f\x8b" or head[:6] in (b"7z\xbc\xaf\x27\x1c", b"\xfd7zXZ\x00"),
            "a compressed archive; unpack it first",
        ),
        (head[257:262] == b"ustar", "a tar archive; unpack it, and give the weights file inside"),
        (
            head[:1] == b"\x08" and head[2:3] == b"\x12",  # version and producer, its first fields
            "an exported network (ONNX), whose weights are folded; give the checkpoint that it was exported from",
        ),
    )
    other = "damaged, or of another format than safetensors and PyTorch's; copy or download it again"
    return next((words for is_so, words in kinds if is_so), other)


def _read_safetensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except Exception as error:  # a damaged header can name types and shapes that PyTorch refuses in many ways
        reason = str(error).splitlines()[0] if isinstance(error, (SafetensorError, OSError)) else type(error).__name__
        raise CheckpointError(
            f"the {what} {path} cannot be read as safetensors ({reason}); it is damaged, so copy or download it again"
        ) from error
    saved = metadata.pop(CHECKSUM, None)
    kind = metadata.get("format")
    ours = kind in ("ksnet", "spynet") or (kind != "pt" and "config" in metadata)  # where "format" itself was damaged
    if saved is not None and ours and saved != _checksum(tensors, metadata):
        raise CheckpointError(
            f"the {what} {path} is damaged: its contents do not match the checksum saved in it; copy or download it "
            "again"
        )
    return tensors, metadata


def _check_zip(path: Path, what: str) -> None:
    """Raise CheckpointError unless a zip file is whole and PyTorch's; PyTorch itself does not compare checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                if entry.CRC:  # 0 where torch.save was told to compute none
                    with archive.open(entry) as part:
                        while part.read(1 << 20):
                            pass
    except Exception as error:  # damaged directories make zipfile raise almost anything
        raise CheckpointError(
            f"the {what} {path} cannot be read: it is damaged ({error or type(error).__name__}); copy or download it "
            "again"
        ) from error
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise CheckpointError(
            f"the {what} {path} cannot be read: it is a TorchScript archive, a program; save the network's "
            "state_dict() with torch.save instead"
        )
    if "data.pkl" not in names:
        raise CheckpointError(
            f"the {what} {path} cannot be read: it is a zip archive without PyTorch's data; unpack it, and give the "
            "weights file inside"
        )


def _unpickled(path: Path, what: str) -> Any:
    try:
        # Of a path, PyTorch would go by the name.
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(numpy_globals()):
            warnings.simplefilter("ignore")  # on pickle protocols and storages, which users can do nothing about
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle make the unpickler raise almost anything
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise CheckpointError(
                f"the {what} {path} holds a pickled object, {found[1]}, besides tensors, which is refused because it "
                "can run code; save the network's state_dict() alone, with the program that made the file"
            ) from None  # PyTorch's own message advises to switch the safety off
        raise CheckpointError(
            f"the {what} {path} cannot be read as a dictionary of tensors ({type(error).__name__}); it is damaged, or "
            "of another format, so copy or download it again"
        ) from None


def _notes_on_file(path: Path) -> list[str]:
    named, found = path.suffix.lower() == ".safetensors", is_safetensors(path)
    kind = "safetensors" if found else "PyTorch"
    notes = [] if named == found else [f"{path.name} is a {kind} file in spite of its name, and was read as one."]
    if not found and not zipfile.is_zipfile(path):
        old = "is in PyTorch's format before 1.6, which has no checksums: damage that leaves numbers goes unnoticed"
        notes.append(f"{path.name} {old}; 'ksnet-deploy convert' writes a file that has one.")
    return notes


def _weights_in(content: Any, place: str, name: str) -> tuple[dict[str, Tensor], list[str]]:
    """The dictionary of tensors in what a file holds, and notes on the choice."""
    if weights := _as_weights(content):
        return weights, []
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{place} holds no dictionary of tensors but {_kind(content)}; save the network's state_dict()"
        )
    found = {key: held for key in (*EMA_KEYS, *PLAIN_KEYS) if (held := _nested(content.get(key)))}
    if not found:
        tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
        others = [str(key) for key in content if key not in tensors]
        if not tensors:
            raise CheckpointError(
                f"{place} holds no dictionary of tensors; expected a PyTorch state_dict, or one under "
                f"{', '.join((*EMA_KEYS[:2], *PLAIN_KEYS[:6]))}, found {_listed(others) or 'nothing'}"
            )
        return tensors, [f"Of {name}, {_listed(others)} was left out, being no tensor."]
    chosen, (inner, weights) = next(iter(found.items()))
    if chosen not in EMA_KEYS and inner in EMA_KEYS:
        return weights, [f"Of {name}, the averaged weights '{inner}' in '{chosen}' were taken."]
    if chosen in EMA_KEYS:
        plain = [f"'{other}'" for other in found if other in PLAIN_KEYS]
        beside = f", not the plain ones, {' and '.join(plain)}" if plain else ""
        return weights, [f"Of {name}, the averaged weights '{chosen}' were taken{beside}."]
    if len(found) > 1:
        rest = " and ".join(f"'{other}'" for other in list(found)[1:])
        return weights, [f"Of {name}, '{chosen}' was taken, not {rest}."]
    return weights, []


def _nested(value: Any) -> tuple[str | None, dict[str, Tensor]] | None:
    """A dictionary of tensors and None, or the one that it holds under a known key, and that key."""
    if weights := _as_weights(value):
        return None, weights
    if not isinstance(value, Mapping):
        return None
    known = ((key, _as_weights(value.get(key))) for key in (*EMA_KEYS, *PLAIN_KEYS, "shadow"))
    return next(((key, weights) for key, weights in known if weights), None)


def _as_weights(value: Any) -> dict[str, Tensor] | None:
    if not isinstance(value, Mapping) or not value:
        return None
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()):
        return None
    return {name: tensor.detach() for name, tensor in value.items()}


def _config_in(content: Any, metadata: Mapping[str, str]) -> str | None:
    """JSON of the network's configuration, from a safetensors file's metadata, a training's checkpoint, or what it
    keeps to resume; None where there is none of ours."""
    if "config" in metadata:
        return metadata["config"] if metadata.get("format") == "ksnet" else None
    if not isinstance(content, Mapping):
        return None
    identity = content.get("identity")
    config = content.get("config") or (identity.get("network") if isinstance(identity, Mapping) else None)
    try:
        values = json.loads(config) if isinstance(config, str) else config
    except (ValueError, RecursionError):
        return None
    return json.dumps(values, default=str) if isinstance(values, Mapping) and values.keys() >= OURS else None


def finite_float32(tensors: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """The tensors in float32. Raises CheckpointError for one that holds no numbers, or none that are finite there."""
    converted = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            kind = "no values" if tensor.is_meta else f"{tensor.layout} {tensor.dtype}".replace("torch.", "")
            raise CheckpointError(
                f"{place} holds {kind} in '{name}'; weights in float32, float16 or bfloat16 were expected, so save the "
                "network before it is quantised"
            )
        converted[name] = tensor.float()
        if not torch.isfinite(converted[name]).all():
            fault = "values beyond float32" if torch.isfinite(tensor.double()).all() else "NaN or infinity"
            raise CheckpointError(f"{place} holds {fault} in '{name}'; use an earlier checkpoint of that training")
    return converted


def check_finite(tensors: Iterable[tuple[str, Tensor]], place: str) -> None:
    """Raise CheckpointError for weights that could not be loaded again."""
    for name, tensor in tensors:
        if not torch.isfinite(tensor).all():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{place} was not written: the weight '{name}' is not finite in {kind}; use an earlier checkpoint, or "
                "a wider type"
            )


def save_state_dict(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with a checksum, atomically.

    Raises:
        CheckpointError: a weight is not finite; nothing is written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_finite(contiguous.items(), str(path))
    data = save(contiguous, {**metadata, CHECKSUM: _checksum(contiguous, metadata)})
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _kind(value: Any) -> str:
    return "one tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"
