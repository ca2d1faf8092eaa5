"""Parts of the recurrent state that a configuration reads.

A network whose alignment looks one frame back never reads what lies two frames back. Runtimes keep, save and exchange
only what is read: of uni at 180x320 in half precision that saves 30 MB of copies a frame.
"""

from __future__ import annotations

from ksnet_deploy.network.config import KSNetConfig, StepName
from ksnet_deploy.network.model import PropagateState, RefineState, State

__all__ = ["STATES", "state_names"]

STATES: dict[StepName, type[State] | type[PropagateState] | type[RefineState]] = {
    "step": State,
    "propagate": PropagateState,
    "refine": RefineState,
}
"""State of each step."""
TWO_FRAMES_BACK = ("feat_2", "flow_1", "prop_2")
"""Parts that are read only where the flow to the frame before the last one guides the alignment."""


def state_names(config: KSNetConfig, step: StepName = "step") -> tuple[str, ...]:
    """Names of the state tensors that a step of such a network depends on, in the order of its state."""
    unread = TWO_FRAMES_BACK if config.flow_guidance in ("none", "prev1") else ()
    return tuple(name for name in STATES[step]._fields if name not in unread)
