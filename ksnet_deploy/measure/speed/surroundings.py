"""Surroundings of a benchmark that change its times: instruction sets, threads, versions; and those of two results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ksnet_deploy.base.machine import cores, cpu_flags, threads_told
from ksnet_deploy.base.version import package_version

__all__ = ["Surroundings", "differences", "find_surroundings", "instruction_sets_of"]

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
"""Extensions by Linux's names that kernels are chosen by."""
PACKAGES = {"torch": ("torch",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",)}


@dataclass(frozen=True)
class Surroundings:
    """Facts of the machine and what is installed on it."""

    instruction_sets: list[str] | None
    """The processor's among :data:`INSTRUCTION_SETS`; None where the system does not list them."""
    threads: int
    """Threads that a runtime takes on the CPU."""
    versions: dict[str, str | None]
    """Versions of the runtimes; None for one that is not installed."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_surroundings() -> Surroundings:
    """Surroundings of this process."""
    flags = cpu_flags()
    return Surroundings(
        None if flags is None else [each for each in INSTRUCTION_SETS if each in flags],
        threads_told() or cores(),
        {name: next(filter(None, map(package_version, packages)), None) for name, packages in PACKAGES.items()},
    )


def instruction_sets_of(result: Mapping[str, Any]) -> list[str] | None:
    """The instruction sets that a result names; None where it names none, as those of older versions do."""
    found = result.get("instruction_sets")
    return None if found is None else sorted(map(str, found))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Sentences on what else is another in two results, and on what the older one does not tell."""
    then, now = _facts(old), _facts(new)
    found = [
        f"{name}: {then[name]} in the older result, {now[name]} now"
        for name in now
        if name in then and then[name] != now[name]
    ]
    unknown = list(dict.fromkeys(name.partition(" of ")[0] for name in now if name not in then))
    return [*found, *([f"the older result does not tell: {', '.join(unknown)}"] if unknown else [])]


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    """Facts by names for people; of what is named ``... of ...`` there are several.

    Raises:
        TypeError, KeyError, AttributeError: a fact has not the form of one.
    """
    facts = {"ksnet-deploy's version": str(result["version"])} if "version" in result else {}
    for name, version in result.get("versions", {}).items():
        facts[f"{name}'s version"] = str(version or "not installed")
    if (sets := instruction_sets_of(result)) is not None:
        facts["instruction sets"] = ", ".join(sets)
    facts |= {"threads": str(result["threads"])} if "threads" in result else {}
    if "clip" in result:
        clip = result["clip"]
        facts["clip"] = "none" if clip is None else f"{clip['name']}, {clip['bytes']} bytes"
    for group in result["groups"]:
        of = f"{group['model']} at {group['size']}"
        if group.get("weights_sha256"):
            facts[f"weights of {of}"] = str(group["weights_sha256"])[:12]
        for row in group["rows"]:
            if row.get("kernel"):
                facts[f"alignment of {of}, {row['way']}"] = str(row["kernel"])
    return facts
