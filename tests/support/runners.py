"""Networks that cost nothing, for tests of what is around them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.runtime.base import Runner, SavedState

__all__ = ["RepeatRunner"]


class RepeatRunner(Runner):
    """Every pixel becomes a 4x4 block."""

    backend = "repeat"

    def __init__(self, size: FrameSize, io: FrameType = "uint8") -> None:
        super().__init__(size, io)

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        return lr.repeat(4, axis=0).repeat(4, axis=1)

    def reset(self) -> None:
        pass

    @property
    def state(self) -> SavedState:
        return {}

    @state.setter
    def state(self, saved: SavedState) -> None:
        pass
