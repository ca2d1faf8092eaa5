"""Engines of a network for this machine's card, from the cache, or built now: for whole frames, or for tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.upscale.networks import NetworkFile

if TYPE_CHECKING:
    from ksnet_deploy.export.engine.make import EngineRequest
    from ksnet_deploy.runtime.base import Runner
    from ksnet_deploy.runtime.tiles import TilePlan

__all__ = ["CardEngines", "OnBuild"]

Tell = Callable[[str], None]
OnBuild = Callable[[str, int, int], None]
"""Function that is told the phase of a build, the steps done in it and their number."""
COMPARED_FRAMES = 6
COMPARED_PIXELS = 2 * 180 * 320
"""Frames that an engine which is built by itself is compared with float32 over, and the LR pixels up to which it is:
the float32 network runs on the CPU, for some seconds a frame. ``build-engine`` compares 30 frames of any size."""


@dataclass(frozen=True)
class CardEngines:
    """Engines of a checkpoint. Raises KSNetError where one cannot be built."""

    file: NetworkFile
    gpu: str
    """Name of the card, for sentences."""
    on_build: OnBuild

    def whole(self, runtime: str, size: FrameSize, io: FrameType, lanes: int, tell: Tell) -> NetworkFile:
        """The engine for whole frames of a size."""
        from ksnet_deploy.export.engine.make import make_engine

        building = f"Building the engine for {size} on your {self.gpu}, once."
        request = self._request(runtime, size, io, lanes)
        made = make_engine(request, say=tell, on_build=lambda _what: tell(building), on_progress=self.on_build)
        if fault := made.sidecar.fault:
            raise BackendError(f"{made.path} {fault}")
        return NetworkFile(self.file.label, made.path, "engine", runtime, "cuda")

    def tiled(self, runtime: str, tiling: TilePlan, io: FrameType, tell: Tell) -> tuple[Runner, dict[str, str]]:
        """A runner in tiles, by engines of their size in lockstep; and the engines' identity."""
        from ksnet_deploy.export.engine.tiles import make_tile_engines
        from ksnet_deploy.runtime.tensorrt.pieces import LockstepEngineRunner
        from ksnet_deploy.runtime.tiles import TiledRunner
        from ksnet_deploy.runtime.windows import WindowRunner

        building = f"Building the engines for tiles of {tiling.tile} on your {self.gpu}, once."
        request = self._request(runtime, tiling.tile, io)
        made = make_tile_engines(request, say=tell, on_build=lambda: tell(building), on_progress=self.on_build)
        steps = [TiledRunner(LockstepEngineRunner(paths, tiling.tile), tiling) for paths in made]
        runner = WindowRunner(*steps) if len(steps) > 1 else steps[0]
        return runner, {"engines": " ".join(path.stem.split("-")[-1] for paths in made for path in paths)}

    def _request(self, runtime: str, size: FrameSize, io: FrameType, lanes: int = 1) -> EngineRequest:
        from ksnet_deploy.export.engine.make import EngineRequest
        from ksnet_deploy.runtime.tensorrt.target import SizeRange

        return EngineRequest(
            source=self.file.path,
            sizes=SizeRange.fixed(size),
            precision="fp16",
            flavour=runtime,  # type: ignore[arg-type]
            verify_frames=COMPARED_FRAMES if size.height * size.width <= COMPARED_PIXELS else 0,
            model=self.file.label,
            io=io,
            batch=lanes,
        )
