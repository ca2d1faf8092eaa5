"""What is told of a work while it goes on."""

from __future__ import annotations

import pytest

from ksnet_deploy.web.progress import Progress, Stopped


def test_progress_tells_speed_and_what_is_left() -> None:
    time_s = [0.0]
    progress = Progress(clock=lambda: time_s[0])
    assert progress.standing().fps is None
    progress.begin("frames", 100, done=40)
    time_s[0] = 5.0
    for _ in range(10):
        progress.advance()
    now = progress.standing()
    assert (now.phase, now.done, now.total, now.fps, now.left_s) == ("frames", 50, 100, 2.0, 25.0)
    progress.begin("unknown", None)
    progress.advance()
    assert progress.standing().left_s is None
    progress.reach("build", 3, 7)
    progress.reach("build", 5, 7)
    assert (progress.standing().done, progress.standing().total) == (5, 7)


def test_a_stopped_progress_ends_the_work_at_its_next_word() -> None:
    for tell in (
        lambda p: p.advance(),
        lambda p: p.begin("x", 1),
        lambda p: p.say("note"),
        lambda p: p.reach("x", 1, 2),
    ):
        progress = Progress()
        tell(progress)
        progress.stop()
        with pytest.raises(Stopped):
            tell(progress)
    assert not issubclass(Stopped, Exception)
