"""KSNet-Deploy: from trained KSNet weights to video that plays four times larger.

    from ksnet_deploy import Upscaler, upscale_video

:class:`Upscaler` takes frames, :func:`upscale_video` files. What is heavy is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.version import __version__

if TYPE_CHECKING:
    from ksnet_deploy.upscale.result import Events, UpscaleResult
    from ksnet_deploy.upscale.run import upscale_video
    from ksnet_deploy.upscale.upscaler import Upscaler

__all__ = ["Events", "KSNetError", "UpscaleResult", "Upscaler", "__version__", "upscale_video"]

_LAZY = {
    "Events": "ksnet_deploy.upscale.result",
    "UpscaleResult": "ksnet_deploy.upscale.result",
    "Upscaler": "ksnet_deploy.upscale.upscaler",
    "upscale_video": "ksnet_deploy.upscale.run",
}


def __getattr__(name: str) -> Any:
    # The command line imports this package to answer --help, which must not wait for NumPy and PyAV.
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ksnet_deploy' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
