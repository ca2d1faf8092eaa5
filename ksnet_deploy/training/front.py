"""The front door: train a network, with settings as users give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ksnet_deploy.training.log import Progress
from ksnet_deploy.training.run import TrainingRequest, train_ksnet

__all__ = ["train"]


def train(
    data: Path | str | Sequence[Path | str],
    folder: Path | str,
    *,
    validation: Path | str | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    on_note: Callable[[str], None] = lambda _sentence: None,
    **settings: Any,
) -> Path:
    """Train KSNet, or go on with an unfinished run of the folder.

    Args:
        data: shards, folders of frames, videos or stills, or folders of these.
        folder: of the run: its checkpoint, its log, and what resuming needs.
        validation: clips to watch the quality on.
        on_progress: called with every line of the log.
        on_note: called with what a user should know, a sentence at a time.
        settings: fields of :class:`ksnet_deploy.training.run.TrainingRequest`: ``size="lite"``, ``hours=2.5`` ...

    Returns:
        Path of the checkpoint, with averaged weights.

    Raises:
        KSNetError: data, weights or settings cannot be used.
        TypeError: there is no such setting.
    """
    paths = (data,) if isinstance(data, str | Path) else data
    request = TrainingRequest(
        data=tuple(map(Path, paths)),
        folder=Path(folder),
        validation=None if validation is None else Path(validation),
        **settings,
    )
    return train_ksnet(request, lambda _iterations, _what: None, on_progress, on_note)
