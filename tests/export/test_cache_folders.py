"""The cache's folder: what is in the way, what killed processes left, what the system refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from caches import SIZE, make_one
from command import run
from thinning import table

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.export import cache
from ksnet_deploy.export.cache import (
    cached_onnx,
    hash_path,
)
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.tensorrt.sidecar import sidecar_path

# Folders and leftovers


def test_a_cache_that_cannot_be_used_is_said_before_the_export_and_names_the_variable(
    small: Checkpoint, quick_export: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/ksnet")):
        monkeypatch.setenv("KSNET_CACHE_DIR", str(place))
        with pytest.raises(OutputError, match="set KSNET_CACHE_DIR to another"):
            cached_onnx(small.path, SIZE)
    assert quick_export == []


def put_in_the_way(path: Path, kind: str, other: Path) -> None:
    """Replace a file of the cache by something that is none of it."""
    path.unlink()
    if kind == "folder":
        path.mkdir()
        (path / "mine").write_text("somebody's")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"dangling link": path.parent / "nowhere", "loop": path, "link": other}[kind])


IN_THE_WAY = ("folder", "pipe", "dangling link", "loop", "link")


@pytest.mark.skipif(os.name != "posix", reason="makes links and pipes")
@pytest.mark.parametrize(("part", "kind"), table(("onnx", "hash", "proof", "engine", "sidecar"), IN_THE_WAY, every=5))
def test_what_stands_in_the_place_of_a_cached_file_is_replaced_or_refused_and_never_used(
    folder: Path, small: Checkpoint, builds: dict[str, int], part: str, kind: str
) -> None:
    first, second = (make_one(small, precision, []) for precision in ("fp16", "fp32"))
    onnx_file, other_onnx = (next(folder.glob(f"*-{precision}-*.onnx")) for precision in ("fp16", "fp32"))
    path, other = {
        "onnx": (onnx_file, other_onnx),
        "hash": (hash_path(onnx_file), hash_path(other_onnx)),
        "proof": (onnx_file.with_suffix(".proof.json"), other_onnx.with_suffix(".proof.json")),
        "engine": (first.path, second.path),
        "sidecar": (sidecar_path(first.path), sidecar_path(second.path)),
    }[part]
    if part == "proof":
        for whole in (first.path, sidecar_path(first.path)):
            whole.unlink()
    expected, kept = path.read_bytes(), other.read_bytes()
    put_in_the_way(path, kind, other)
    if kind in ("folder", "pipe"):
        with pytest.raises(OutputError, match=r"where the cache keeps a file; remove it, or set KSNET_CACHE_DIR"):
            make_one(small, "fp16", [])
        assert path.exists()
        assert kind != "folder" or (path / "mine").read_text() == "somebody's"
    else:
        again = make_one(small, "fp16", [])
        assert again.path.read_bytes() == f"engine of {again.sidecar.spec} from {onnx_file}".encode() * 20
        if part != "sidecar":  # which says how long the build took
            assert path.read_bytes() == expected
        assert not path.is_symlink()
        assert other.read_bytes() == kept
    assert builds["compared"] == 2 + (part == "proof" and kind not in ("folder", "pipe"))
    assert not list(folder.glob(".*"))


@pytest.mark.skipif(os.name != "posix", reason="makes links")
@pytest.mark.usefixtures("quick_export")
def test_a_cache_with_links_and_folders_is_listed_and_cleared(folder: Path, small: Checkpoint) -> None:
    path = cached_onnx(small.path, SIZE)
    (folder / "gone.onnx").symlink_to("nowhere")
    (folder / "mine.onnx").mkdir()
    assert run("cache", "list").returncode == 0
    assert run("cache", "clear").stdout.startswith(f"{folder}: 3 files removed")
    assert [entry.name for entry in folder.iterdir()] == ["mine.onnx"]
    assert not path.exists()


@pytest.mark.parametrize("where", ["fault_of", "write_hash"])
@pytest.mark.usefixtures("folder", "quick_export")
def test_what_the_file_system_refuses_later_names_the_variable_too(
    small: Checkpoint, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    if where == "fault_of":
        cached_onnx(small.path, SIZE)
    monkeypatch.setattr(cache, where, refuse)
    with pytest.raises(OutputError, match=r"No space left on device.*KSNET_CACHE_DIR"):
        cached_onnx(small.path, SIZE)


def dead_process() -> int:
    """The id of a process that is gone."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.mark.usefixtures("quick_export")
def test_leftovers_of_killed_exports_and_builds_go_and_those_of_running_ones_stay(
    folder: Path, small: Checkpoint, builds: dict[str, int]
) -> None:
    path = cached_onnx(small.path, SIZE)
    path.unlink()
    gone, running = dead_process(), os.getppid()
    for process in (gone, running):
        (folder / f".{path.name}.{process}.part").write_bytes(b"half of it")
        (folder / f".ksnet-engine-{process}-abc").mkdir()
        (folder / f".ksnet-engine-{process}-abc" / "unfinished").write_bytes(b"half of it")
    (folder / ".ksnet-engine-old").mkdir()
    (folder / f".other.onnx.{gone}.part").write_bytes(b"somebody else's")
    make_one(small, "fp16", [])
    cached_onnx(small.path, SIZE)
    hidden = {entry.name for entry in folder.iterdir() if entry.name.startswith(".")}
    assert hidden == {f".{path.name}.{running}.part", f".ksnet-engine-{running}-abc", f".other.onnx.{gone}.part"}
    assert builds["built"] == 1
