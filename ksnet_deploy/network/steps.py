"""The recurrent steps of a network as one interface: the one of uni, the two of bi.

A step takes a frame and, where it is named in ``takes``, features of that frame; it gives an HR frame or features. All
that exports or runs a network goes through here, so that it need not know which step it has.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.network.config import StepName
from ksnet_deploy.network.model import KSNet, PropagateState, RefineState, State
from ksnet_deploy.network.state_names import STATES, state_names

__all__ = ["AnyState", "Step"]

AnyState = State | PropagateState | RefineState


class Step:
    """One step of a network: ``step``, ``propagate`` or ``refine``."""

    def __init__(self, network: KSNet, name: StepName = "step") -> None:
        """Raises ConfigError where the network has no such step."""
        if name not in network.config.steps:
            raise ConfigError(
                f"a network with direction '{network.config.direction}' has no step '{name}', only "
                f"{' and '.join(network.config.steps)}"
            )
        self.network, self.name = network, name
        self.names = state_names(network.config, name)
        """Names of the state tensors that it reads, in order."""
        self.takes = ("prop",) if name == "refine" else ()
        """Names of the features that it takes beside the frame, (N, C, H, W) of the network's dtype."""
        self.gives = "prop" if name == "propagate" else "hr"
        """Name of its result: features as those it may take, or an HR frame (N, 3, 4 H, 4 W)."""

    def __call__(self, lr: Tensor, *features: Tensor, state: AnyState) -> tuple[Tensor, AnyState]:
        """The result, and the state for the next step; as :class:`~ksnet_deploy.network.model.KSNet` says of each."""
        if isinstance(state, PropagateState):
            return self.network.propagate_step(lr, state)
        if isinstance(state, RefineState):
            (prop,) = features
            return self.network.refine_step(lr, prop, state)
        hr, following = self.network(lr, state)
        return hr, following

    def initial_state(self, lr: Tensor) -> AnyState:
        """State before the first frame lr of a scene, or the last one for ``propagate``."""
        return self.network.fresh_state(STATES[self.name], lr)

    def example_features(self, lr: Tensor) -> tuple[Tensor, ...]:
        """Zeros in the place of the features that it takes with a frame lr."""
        n, _, h, w = lr.shape
        return tuple(
            torch.zeros(n, self.network.config.channels, h, w, dtype=self.network.dtype, device=lr.device)
            for _ in self.takes
        )

    def read_part(self, state: AnyState) -> dict[str, Tensor]:
        """The tensors of a state that the network reads, by name."""
        return {name: getattr(state, name) for name in self.names}

    def completed(self, tensors: Mapping[str, Tensor]) -> AnyState:
        """A whole state from :meth:`read_part` of one; what nothing reads becomes another of its shape."""
        prev_lr = tensors["prev_lr"]
        feature = tensors["prop_1"]
        n, _, height, width = prev_lr.shape
        unread = {"feat_2": feature, "prop_2": feature, "flow_1": prev_lr.new_zeros(n, 2, height, width)}
        kind = STATES[self.name]
        return kind(**{name: tensors[name] if name in tensors else unread[name] for name in kind._fields})
