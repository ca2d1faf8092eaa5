"""swscale's contexts and FFmpeg's filters, kept from frame to frame.

To set one up takes a millisecond or two, often more than the frame takes after that; so each thread keeps those of its
last kinds of frames. A frame is of the same kind where it has the same size, format, matrix and range; where its chroma
lies, which PyAV does not tell, swscale looks up for each frame by itself.

A context has threads of its own. They are not there in a forked process, as one that loads data for a training is:
both to use and to free such a context would wait for them for ever, so that process begins with none.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from fractions import Fraction
from typing import Any

from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

__all__ = ["filtered", "reformatted"]

KINDS = 8
"""Most kinds of frames that a thread keeps contexts, and filters, for: a film that changes its tags has few."""


class _ByKind(OrderedDict[Hashable, Any]):
    """Contexts that are freed by the process that made them alone."""

    def __init__(self) -> None:
        super().__init__()
        self.process = os.getpid()

    def __del__(self) -> None:
        if self.process != os.getpid():
            _never_freed.append(dict(self))


_never_freed: list[dict[Hashable, Any]] = []


class _Kept(threading.local):
    """Contexts, or filters, of the last kinds of frames of a thread."""

    def __init__(self) -> None:
        self._by_kind = _ByKind()

    def get(self, kind: Hashable, make: Callable[[], Any]) -> Any:
        if self._by_kind.process != os.getpid():
            self._by_kind = _ByKind()
        found = self._by_kind.pop(kind) if kind in self._by_kind else make()
        self._by_kind[kind] = found
        if len(self._by_kind) > KINDS:
            self._by_kind.popitem(last=False)
        return found


_reformatters, _filters = _Kept(), _Kept()


def reformatted(frame: VideoFrame, **how: Any) -> VideoFrame:
    """The frame as ``VideoFrame.reformat`` gives it; ``how``: its keywords."""
    kind = (*_kind(frame), *sorted((name, str(value)) for name, value in how.items()))
    scaled = _reformatters.get(kind, VideoReformatter).reformat(frame, **how)
    assert isinstance(scaled, VideoFrame)
    return scaled


def filtered(frame: VideoFrame, name: str, options: str) -> VideoFrame:
    """The frame after one of FFmpeg's filters, in another format where the filter does not take its own."""
    source, sink, _ = _filters.get((*_kind(frame), name, options), lambda: _filter(frame, name, options))
    source.push(frame)
    result = sink.pull()
    assert isinstance(result, VideoFrame)
    return result


def _kind(frame: VideoFrame) -> tuple[Hashable, ...]:
    return frame.format.name, frame.width, frame.height, int(frame.colorspace), int(frame.color_range)


def _filter(frame: VideoFrame, name: str, options: str) -> tuple[Any, Any, Graph]:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    filtering, sink = graph.add(name, options), graph.add("buffersink")
    source.link_to(filtering)
    filtering.link_to(sink)
    graph.configure()
    return source, sink, graph
