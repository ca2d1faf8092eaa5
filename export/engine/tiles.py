"""Engines for tiles: of each step of a network the pieces that pause where channels are ranked, in the cache."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.inliner

from ksnet_deploy.export.cache import cache_folder, check_cache_place, made_cache_folder
from ksnet_deploy.export.engine.compile import EngineKey, OnProgress, build_engine, check_buildable, installed_version
from ksnet_deploy.export.engine.make import EngineRequest, exported_of, plugins_of, target_of, whole_engine
from ksnet_deploy.ops.functions import DOMAIN
from ksnet_deploy.runtime.lockstep import CHANNEL_SCORES, cut_step
from ksnet_deploy.runtime.pair import files_of
from ksnet_deploy.runtime.step_file import exported_metadata, load_exported
from ksnet_deploy.runtime.tensorrt.pieces import piece_path
from ksnet_deploy.runtime.tensorrt.sidecar import sidecar_path
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec, PluginIdentity
from ksnet_deploy.runtime.tensorrt.target import choose_flavour

__all__ = ["make_tile_engines"]


def make_tile_engines(
    request: EngineRequest,
    *,
    say: Callable[[str], None],
    on_build: Callable[[], None],
    on_progress: OnProgress,
) -> list[list[Path]]:
    """The engines of each step's pieces, built where the cache has none. They are not compared with float32: none of
    them gives a picture alone.

    Args:
        request: for the tiles' one size.
        say: told what is exported, and what in the cache is damaged and made anew.
        on_build: called once, before the first build.
        on_progress: told the progress of the build.

    Raises:
        KSNetError: with the reason.
    """
    flavour = choose_flavour(request.flavour)
    target, _ = target_of(request.gpu, flavour)
    library = plugins_of(request)
    plugins = PluginIdentity.of(library) if library else None
    spec = EngineSpec(flavour, target, request.precision, request.sizes, plugins, request.effort)
    version = installed_version(flavour)
    found: list[list[Path]] = []
    building = False
    for file in files_of(exported_of(request, say)):
        model = load_exported(file)
        metadata = exported_metadata(model)
        paths = []
        for index, piece in enumerate(cut_step(model)):
            content = _without_scores(piece).SerializeToString(deterministic=True)
            digest = hashlib.sha256(content).hexdigest()
            key = EngineKey(spec, digest, version, "")  # all that this package does to it is in its bytes
            path = piece_path(cache_folder() / key.file_name(request.source.stem), index)
            check_cache_place(path, sidecar_path(path))
            paths.append(path)
            if whole_engine(path, key, say) is not None:
                continue
            if not building:
                building = True
                check_buildable(spec, library)
                made_cache_folder()
                on_build()
            with tempfile.TemporaryDirectory(prefix="ksnet-") as folder:
                exported = Path(folder) / "piece.onnx"
                exported.write_bytes(content)
                name = request.model or str(request.source)
                build_engine(
                    *(exported, path, spec),
                    library=library,
                    model=name,
                    metadata=metadata,
                    on_progress=on_progress,
                    on_note=say,
                )
        found.append(paths)
    return found


def _without_scores(piece: onnx.ModelProto) -> onnx.ModelProto:
    """The piece with its scoring written out in standard operators, for which there is no plugin."""
    return onnx.inliner.inline_selected_functions(piece, [(DOMAIN, CHANNEL_SCORES)])
