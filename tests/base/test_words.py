"""Numbers of things in sentences."""

from __future__ import annotations

from ksnet_deploy.base.words import counted


def test_one_thing_is_not_several() -> None:
    assert [counted(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert counted(1, "frame is", "frames are") == "1 frame is"
