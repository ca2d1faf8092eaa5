"""Near-tied channel scores, with which two runs of one network may keep different channels and both be right.

A split keeps the k channels with the smallest scores. Where the k-th and the next score are nearer to each other than
the rounding of a run, that run may keep either. One such choice moves channels between the slots of the kernels, and
the picture with it: of the trained uni network by 43 to 53 dB (36x64, real video). A comparison that is to tell such
a choice from a mistake makes the same choice in the reference, and holds the run to the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.network.channel_selection import SplitLevel
from ksnet_deploy.network.config import StepName
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.steps import AnyState
from ksnet_deploy.ops.reference import Split, channel_scores
from ksnet_deploy.runtime.torch import TorchRunner

__all__ = ["GapRecorder", "RetakingRunner", "swapped_channels"]


class GapRecorder:
    """Notes for every split level the gap of the scores on both sides of its threshold, while it is entered.

    The gap is a share of the standard deviation of all scores of the level.
    """

    def __init__(self, model: KSNet) -> None:
        self._levels = [module for module in model.modules() if isinstance(module, SplitLevel) and module.selects]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._gaps: dict[SplitLevel, float] = {}

    def __enter__(self) -> GapRecorder:
        self._handles = [level.register_forward_pre_hook(self._record) for level in self._levels]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def tied_levels(self, gap: float) -> list[SplitLevel]:
        """Levels whose last kept and first dropped channel are nearer than that, the nearest first."""
        return sorted((level for level, found in self._gaps.items() if found < gap), key=self._gaps.__getitem__)

    def _record(self, level: nn.Module, args: tuple[Tensor, Tensor]) -> None:
        assert isinstance(level, SplitLevel)
        scores = channel_scores(*args, level.lam).sort(dim=1).values
        gap = scores[:, level.c_keep] - scores[:, level.c_keep - 1]
        self._gaps[level] = (gap / scores.std(dim=1).clamp_min(1e-30)).min().item()


@contextmanager
def swapped_channels(level: SplitLevel) -> Iterator[None]:
    """Let a level drop the last channel it would keep, and keep the first it would drop (batch of one)."""

    def swapped(_: nn.Module, args: tuple[Tensor, Tensor], __: Split) -> Split:
        f, o = args
        order = channel_scores(f, o, level.lam)[0].argsort(stable=True)
        k = level.c_keep
        order[[k - 1, k]] = order[[k, k - 1]]
        con, dis = f[:, order[:k].sort().values], f[:, order[k:].sort().values]
        return Split(level.explore(con), level.buffer(dis))

    handle = level.register_forward_hook(swapped)
    try:
        yield
    finally:
        handle.remove()


class RetakingRunner(TorchRunner):
    """The float32 network on the CPU, which can take its last step again with the other of two near-tied channels."""

    def __init__(
        self,
        model: KSNet,
        size: FrameSize,
        *,
        io: FrameType = "uint8",
        gap: float,
        fold: bool = False,
        step: StepName = "step",
    ) -> None:
        """Run the network as it was trained, so that a comparison with it covers the fold too.

        Args:
            gap: scores nearer than this are near-tied; see :class:`GapRecorder`.
            fold: run the deploy form instead.
            step: which of the network's.
        """
        super().__init__(model, size, io=io, precision="fp32", fold=fold, step=step)
        self._gap = gap
        self._tied: list[SplitLevel] = []
        self._before: AnyState | None = None

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        self._before = self._state
        with GapRecorder(self._model) as gaps:
            result = super()._step(lr, *features)
        self._tied = gaps.tied_levels(self._gap)
        return result

    def retakes(self, lr: NDArray[Any], *features: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """The last step's result with each other choice; the sequence goes on from the one at which a caller stops."""
        taken = self._state
        for level in self._tied:
            self._state = self._before
            with swapped_channels(level):
                result = super()._step(lr, *features)
            yield result
        self._state = taken
