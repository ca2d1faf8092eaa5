"""Names of weights as trainers leave them, and the names that the network itself gave."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ksnet_deploy.base.errors import CheckpointError
from ksnet_deploy.base.words import counted

__all__ = ["EMA_KEYS", "without_prefixes"]

EMA_KEYS = (
    *("params_ema", "ema", "model_ema", "ema_model", "net_ema", "generator_ema"),
    *("state_dict_ema", "ema_state_dict", "averaged", "ema_weights", "ema_params", "g_ema", "net_g_ema", "netG_ema"),
)
"""Keys under which tools keep averaged weights (an exponential moving average)."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
"""Names of PyTorch's own wrappers of a whole network or of parts of it: torch.compile, FSDP, checkpointing, Fabric."""
PREFIXES = (
    *("module.", "net.", "generator.", "model.", "network.", "net_g.", "netG.", "student."),
    *WRAPPERS,
)
"""Prefixes that trainers (DataParallel, Lightning, those of GANs) put before the names of a network."""
EMA_PREFIXES = tuple(f"{key}." for key in EMA_KEYS)
ANCHOR = "extract.0.weight"
"""Name of a weight that every KSNet has, and few others."""


def without_prefixes(tensors: Mapping[str, Tensor], place: str, name: str) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under the names of the network that was trained, and notes on what was chosen and left out.

    Args:
        place, name: of the file, for errors and notes.

    Raises:
        CheckpointError: two tensors have one name then.
    """
    notes = []
    if averaged := {key: value for key, value in tensors.items() if key.startswith(EMA_PREFIXES)}:
        notes.append(f"Of {name}, the averaged weights '{next(iter(averaged)).partition('.')[0]}' were taken.")
        tensors = {key.partition(".")[2]: value for key, value in averaged.items()}
    tensors, left_out = _network_part(tensors, name)
    notes += left_out
    found: dict[str, Tensor] = {}
    removed: set[str] = set()
    for key, value in tensors.items():
        bare = key
        while bare.startswith(PREFIXES):
            prefix, _, bare = bare.partition(".")
            removed.add(f"{prefix}.")
        for wrapper in WRAPPERS:  # of parts: in the middle of a name
            if f".{wrapper}" in bare:
                bare = bare.replace(f".{wrapper}", ".")
                removed.add(wrapper)
        if bare in found:
            raise CheckpointError(
                f"{place} holds two tensors for '{bare}' once the prefixes {' and '.join(sorted(removed))} are left "
                "out; save one network alone"
            )
        found[bare] = value
    if "module." in removed and "n_averaged" in found:
        del found["n_averaged"]  # the counter of torch.optim.swa_utils.AveragedModel
    if removed:
        kinds = " and ".join(f"'{prefix}'" for prefix in sorted(removed))
        what = "prefix" if " and " not in kinds else "prefixes"
        notes.append(f"The {what} {kinds} {'was' if what == 'prefix' else 'were'} left out of the names in {name}.")
    return found, notes


def _network_part(tensors: Mapping[str, Tensor], name: str) -> tuple[Mapping[str, Tensor], list[str]]:
    """The part of a larger file that is a KSNet, where it has one: trainers keep the weights of a loss beside it, and
    give the network a name of their own."""
    prefixes = {key.removesuffix(ANCHOR) for key in tensors if key == ANCHOR or key.endswith(f".{ANCHOR}")}
    if len(prefixes) != 1:
        return tensors, []
    (prefix,) = prefixes
    part = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    others = [key for key in tensors if not key.startswith(prefix)]
    unknown = prefix
    while unknown.startswith(PREFIXES):
        unknown = unknown.partition(".")[2]
    modules = {key.partition(".")[0] for key in part}
    if not (unknown or others) or any(key.partition(".")[0] in modules for key in others):
        return tensors, []
    rest = f"; {counted(len(others), 'other tensor was', 'other tensors were')} left out" if others else ""
    return part, [f"Of {name}, '{prefix}' was taken{rest}."]
