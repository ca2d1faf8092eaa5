"""Parts of the recurrent state that a configuration reads, and completing a state of those alone.

A network whose alignment looks one frame back never reads what lies two frames back. Runtimes keep, save and exchange
only what is read: of uni at 180x320 in half precision that saves 30 MB of copies a frame.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import State

__all__ = ["completed_state", "read_part", "state_names"]

TWO_FRAMES_BACK = ("feat_2", "flow_1", "prop_2")
"""Parts that are read only where the flow to the frame before the last one guides the alignment."""


def state_names(config: KSNetConfig) -> tuple[str, ...]:
    """Names of the state tensors that a step of such a network depends on, in the order of :class:`State`."""
    unread = TWO_FRAMES_BACK if config.flow_guidance in ("none", "prev1") else ()
    return tuple(name for name in State._fields if name not in unread)


def read_part(state: State, config: KSNetConfig) -> dict[str, Tensor]:
    """The tensors of a state that the network reads, by name."""
    return {name: getattr(state, name) for name in state_names(config)}


def completed_state(tensors: Mapping[str, Tensor]) -> State:
    """A whole state from :func:`read_part` of one; what nothing reads and is missing becomes another of its shape."""
    prev_lr = tensors["prev_lr"]
    n, _, height, width = prev_lr.shape
    unread = {
        "feat_2": tensors["feat_1"],
        "flow_1": prev_lr.new_zeros(n, 2, height, width),
        "prop_2": tensors["prop_1"],
    }
    return State(**{name: tensors[name] if name in tensors else unread[name] for name in State._fields})
