"""Networks with random weights everywhere, so that no zero-initialised layer hides an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from networks import SMALL, exports_of, new_checkpoint
from traces import SharedTraces

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import same_priority
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.network.checkpoints import Checkpoint


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Checkpoint of the small network."""
    return new_checkpoint(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="session")
def small_bi(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Checkpoint of the small network that runs in both directions."""
    return new_checkpoint(tmp_path_factory.mktemp("small_bi"), SMALL.replace(["direction=bi"]))


@pytest.fixture(scope="session")
def small_bi_onnx(small_bi: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The name of its two exported files, for float32 frames of 20x24."""
    path = tmp_path_factory.mktemp("bi_onnx") / "bi.onnx"
    export_onnx(small_bi, path, size=FrameSize(20, 24), io="float32")
    return path


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Checkpoint of a small network without flow, which is less work, for tests of what is around the network."""
    return new_checkpoint(tmp_path_factory.mktemp("plain"), SMALL.replace(["flow_guidance=none"]))


@pytest.fixture(scope="session")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Checkpoint of a network with one of every part but flow."""
    config = SMALL.replace(["flow_guidance=none", "upsampler=direct", "split_levels=1"])
    return new_checkpoint(tmp_path_factory.mktemp("smallest"), config)


@pytest.fixture(scope="session")
def small_onnx(small: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports of the small network, each made once: ``small_onnx(size_text_or_None, io, precision)``.

    Tracing it takes three seconds for each other size, type and precision: take 32x48 unless the size is the subject.
    """
    return exports_of(small, tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def plain_onnx(plain: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports of the plain network, as of ``small_onnx``, in less time."""
    return exports_of(plain, tmp_path_factory.mktemp("plain_onnx"))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of the tests share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(autouse=True)
def _no_native_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody has built on this machine changes no test."""
    monkeypatch.setenv("KSNET_ALIGN_LIBRARY", "off")


@pytest.fixture(autouse=True)
def _own_cache(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache, but share one among them."""
    monkeypatch.setenv("KSNET_CACHE_DIR", str(shared_folder / "cache"))


@pytest.fixture(autouse=True)
def _same_priority() -> Iterator[None]:
    """Films that tests make with SVT-AV1 leave the priority of the tests as it was; see there."""
    with same_priority():
        yield


@pytest.fixture(scope="session", autouse=True)
def _traced_once(shared_folder: Path) -> Iterator[None]:
    """Trace each network once for all tests, whichever begins."""
    with mock.patch("torch.onnx.export", SharedTraces(shared_folder / "traces")):
        yield


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short 32x48 video with sound."""
    from media import make_video  # needs PyAV, which not every machine with a GPU has

    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", FrameSize(32, 48), frames=8, sound=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium; skips, with the reason, where there is none."""
    from browser import started

    with started() as found:
        yield found
