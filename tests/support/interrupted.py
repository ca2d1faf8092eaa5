"""Work that is interrupted, as by Ctrl-C."""

from __future__ import annotations

from ksnet_deploy.upscale.result import Events

__all__ = ["stop_after"]


def stop_after(frames: int) -> Events:
    """Events that interrupt an upscaling after so many frames."""
    seen = iter(range(frames))

    def on_frame() -> None:
        if next(seen, None) is None:
            raise KeyboardInterrupt

    return Events(on_frame=on_frame)
