"""Encoders that need no hardware."""

from __future__ import annotations

from ksnet_deploy.video.writing.presets import PRESETS

SOFTWARE = [name for name in PRESETS if "-" not in name]
