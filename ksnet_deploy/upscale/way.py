"""The way that a network is run here: the first that works, in whole frames or in tiles that the memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.lanes import Lanes
from ksnet_deploy.runtime.tiles import TilePlan
from ksnet_deploy.upscale.memory import choose_tiles, smaller_tiles
from ksnet_deploy.upscale.networks import Network
from ksnet_deploy.upscale.side_by_side import check_memory
from ksnet_deploy.upscale.values import TileChoice
from ksnet_deploy.upscale.windows import Windows

__all__ = ["Way"]

T = TypeVar("T")


class Way(Closing):
    """A network that is opened for frames of one size, and another way where the first one fails."""

    def __init__(
        self, network: Network, tiles: TileChoice, windows: Windows, scenes: int, on_note: Callable[[str], None]
    ) -> None:
        """``scenes`` go side by side; ``on_note`` is told every choice."""
        self.tiles = tiles
        self.tiling: TilePlan | None = None
        """The tiles in use; None for whole frames."""
        self.runner: Runner | None = None
        """Runner of the network, once it is open."""
        self.lanes: Lanes
        """The scenes side by side, once it is open for several."""
        self.has_begun = False
        """Whether a scene has begun, which goes on as it began."""
        self._network, self._windows, self._scenes, self._on_note = network, windows, scenes, on_note

    def open(self, size: FrameSize, io: FrameType) -> Runner:
        """The runner for frames of a size and type, opened once. Raises KSNetError: no way works."""
        if self.runner is None:
            self._size, self._io = size, io
            self.runner = self._opened_by_first_way()
        return self.runner

    def run(self, work: Callable[[Runner], T]) -> T:
        """Result of some work, in smaller tiles if the memory does not hold the first, or in the network's next way."""
        while True:
            assert self.runner is not None
            try:
                return work(self.runner)
            except Exception as error:
                lower = not self.has_begun and self._network.step_down(error, self._on_note)
                if not lower:
                    self._take_smaller_tiles(error)
            self.runner.close()
            self.runner = None
            self.runner = self._opened_by_first_way() if lower else self._opened()

    def _opened_by_first_way(self) -> Runner:
        """The network, in the first of its ways to be run that can be opened."""
        while True:
            try:
                scenes, size = self._scenes, self._size.padded
                self.tiling = choose_tiles(size, self._network, self.tiles, self._windows) if scenes == 1 else None
                check_memory(size, self._network, scenes)
                return self._opened()
            except Exception as error:  # the libraries' own exceptions share no base class
                if not self._network.step_down(error, self._on_note):
                    raise

    def _opened(self) -> Runner:
        """The network, in smaller tiles if the memory does not hold it otherwise."""
        while True:
            if self.tiling is not None:
                self._on_note(f"Upscaling {self.tiling}.")
            try:
                size, scenes = self._size.padded, self._scenes
                runner = self._network.open(size, self._io, self.tiling, lanes=scenes, on_note=self._on_note)
                if scenes > 1:
                    self.lanes = Lanes(runner)
                for note in runner.notes:
                    self._on_note(note)
                return runner
            except Exception as error:  # the libraries' own exceptions share no base class
                self._take_smaller_tiles(error)

    def _take_smaller_tiles(self, error: Exception) -> None:
        """Raise the error, unless the memory is too small and tiles can be smaller."""
        # Tiles keep states of their own, so a scene that has begun cannot go on in others.
        free = self.tiles == "auto" and not self.has_begun
        smaller = smaller_tiles(error, self._size, self.tiling, self._network, may_change=free, scenes=self._scenes)
        self._on_note(f"The memory does not hold {self.tiling or 'a whole frame'}.")
        self.tiling = smaller

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()
            self.runner = None
