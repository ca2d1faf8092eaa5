"""Networks that cost nothing, for tests of what is around them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ksnet_deploy.runtime.base import StatelessRunner

__all__ = ["RepeatRunner"]


class RepeatRunner(StatelessRunner):
    """Every pixel becomes a 4x4 block."""

    backend = "repeat"

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        return lr.repeat(4, axis=0).repeat(4, axis=1)
