"""KSNet-Deploy: from trained KSNet weights to video that plays four times larger.

    from ksnet_deploy import Upscaler, upscale_video

:class:`Upscaler` takes frames, :func:`upscale_video` files; what the other commands do is here too. Whatever a user can
mend is a :class:`KSNetError`. What is heavy is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.version import __version__

if TYPE_CHECKING:
    from ksnet_deploy.export.front import build_engine, export_onnx
    from ksnet_deploy.measure.compare import compare
    from ksnet_deploy.measure.front import evaluate
    from ksnet_deploy.measure.inspection.run import visualize
    from ksnet_deploy.measure.preview.run import preview
    from ksnet_deploy.training.front import train
    from ksnet_deploy.upscale.result import Events, UpscaleResult
    from ksnet_deploy.upscale.run import estimate_video, upscale_video
    from ksnet_deploy.upscale.upscaler import Upscaler

__all__ = [
    "Events",
    "KSNetError",
    "UpscaleResult",
    "Upscaler",
    "__version__",
    "build_engine",
    "compare",
    "estimate_video",
    "evaluate",
    "export_onnx",
    "preview",
    "train",
    "upscale_video",
    "visualize",
]

_HOMES = {
    "Events": "upscale.result",
    "UpscaleResult": "upscale.result",
    "Upscaler": "upscale.upscaler",
    "build_engine": "export.front",
    "compare": "measure.compare",
    "estimate_video": "upscale.run",
    "evaluate": "measure.front",
    "export_onnx": "export.front",
    "preview": "measure.preview.run",
    "train": "training.front",
    "upscale_video": "upscale.run",
    "visualize": "measure.inspection.run",
}


def __getattr__(name: str) -> Any:
    # The command line imports this package to answer --help, which must not wait for NumPy and PyAV.
    if name in _HOMES:
        return getattr(import_module(f"ksnet_deploy.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ksnet_deploy' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
