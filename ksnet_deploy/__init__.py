"""KSNet-Deploy: from trained KSNet weights to video that plays four times larger.

    from ksnet_deploy import Upscaler, upscale_video

:class:`Upscaler` takes frames, :func:`upscale_video` files. Both are loaded when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ksnet_deploy.pipeline import upscale_video
    from ksnet_deploy.upscaler import Upscaler

__all__ = ["Upscaler", "__version__", "upscale_video"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The command line imports this package to answer --help, which must not wait for NumPy and PyAV.
    if name == "Upscaler":
        from ksnet_deploy.upscaler import Upscaler

        return Upscaler
    if name == "upscale_video":
        from ksnet_deploy.pipeline import upscale_video

        return upscale_video
    raise AttributeError(f"module 'ksnet_deploy' has no attribute '{name}'")
