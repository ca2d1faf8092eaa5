from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import making, replacing
from ksnet_deploy.base.hidden import LONGEST_NAME, hidden_name, shortened
from ksnet_deploy.base.leftovers import remove_leftovers
from ksnet_deploy.base.locks import Lock, being_written


@pytest.mark.parametrize("letter", ["x", "é", "猫"])
@pytest.mark.parametrize("length", [10, 237, 238, 239, 250, 255])
def test_hidden_names_fit_and_differ(letter: str, length: int) -> None:
    name = (letter * length).encode()[:length].decode(errors="ignore") + ".mp4"
    hidden = hidden_name(name, ".ksnet-job")
    assert len(os.fsencode(hidden)) <= LONGEST_NAME
    assert hidden.startswith(f".{letter}")
    assert hidden.endswith(".ksnet-job")
    assert hidden != hidden_name(name + "x", ".ksnet-job")


def test_short_names_stay_as_they_are() -> None:
    assert hidden_name("film.mkv", ".part") == ".film.mkv.part"
    assert shortened("aéz", 2) == "a"


def test_a_file_with_the_longest_name_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_what_is_no_file_keeps_its_place(tmp_path: Path) -> None:
    """As /dev/null, which root could replace."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is not a regular file"), replacing(tmp_path / "pipe"):
        pytest.fail("it would be written")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("name", ["a.onnx", ".hidden", "a.4194999.part", "n" * 251 + ".txt"])
def test_what_killed_processes_left_of_a_name_goes_and_nothing_else(tmp_path: Path, name: str) -> None:
    gone, running = 4194999, os.getppid()  # the first is beyond the largest process id
    path = tmp_path / name
    dead = hidden_name(name, f".{gone}.part")
    left = {dead, f"{dead}.small.onnx", f".{dead}.{gone}.part"} if len(name) < 200 else {dead}
    kept = {hidden_name(name, f".{running}.part"), hidden_name(f"x{name}", f".{gone}.part"), ".a.onnx.part", name}
    for entry in left | kept:
        (tmp_path / entry).write_bytes(b"half of it")
    with replacing(path) as temporary:
        temporary.write_bytes(b"whole")
    assert {entry.name for entry in tmp_path.iterdir()} == kept
    (tmp_path / dead).mkdir()
    (tmp_path / dead / "shard").touch()
    remove_leftovers(path)
    assert {entry.name for entry in tmp_path.iterdir()} == kept


HOLDING = """
import sys
from pathlib import Path
from ksnet_deploy.base.locks import Lock
lock = Lock(Path(sys.argv[1]), "taken")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_held_until_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=r"another process is already writing film\.mp4; wait for it"):
            Lock(path, being_written(Path("film.mp4")))
        other.kill()
    with Lock(path, "taken"):
        assert path.exists()
    assert not path.exists()


def test_the_lock_of_a_place_that_was_removed_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had opened its file before gets the lock of a file that is no more."""
    path = tmp_path / "lock"
    opened = path.open("a+b")
    path.unlink()
    with Lock(path, "taken"), monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: opened)
        with pytest.raises(OutputError, match="taken"):
            Lock(path, "taken")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_the_place_of_a_lock_makes_no_file_elsewhere(tmp_path: Path, there: bool) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    if there:
        (tmp_path / "elsewhere").write_text("mine")
    with pytest.raises(OutputError, match="is a link, where a lock is to be; remove it"):
        Lock(tmp_path / "lock", "taken")
    assert (tmp_path / "elsewhere").exists() == there
    assert (tmp_path / "lock").is_symlink()


def test_a_file_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, *, blocking: bool) -> bool:
        raise OSError(errno.ENOSYS if not blocking else errno.EIO, "refused")

    monkeypatch.setattr("ksnet_deploy.base.locks.lock_descriptor", refuse)
    with Lock(tmp_path / "lock", "taken"):
        pass


def test_a_lock_that_fails_is_not_taken_for_one_that_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int, *, blocking: bool) -> bool:
        raise OSError(errno.EIO, f"failed, blocking {blocking}")

    monkeypatch.setattr("ksnet_deploy.base.locks.lock_descriptor", fail)
    with pytest.raises(OSError, match="failed"):
        Lock(tmp_path / "lock", "taken")


def test_what_a_user_asked_for_takes_no_other_files_place(tmp_path: Path) -> None:
    path = tmp_path / "page.html"

    def write(*, overwrite: bool) -> None:
        with making(path, overwrite=overwrite) as temporary:
            temporary.write_text("ours")
            path.write_text("another's, in the meantime")

    with pytest.raises(OutputError, match="has appeared in the meantime"):
        write(overwrite=False)
    assert path.read_text() == "another's, in the meantime"
    write(overwrite=True)
    assert path.read_text() == "ours"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EFBIG, "FAT32 holds none of")]
)
def test_where_there_is_no_room_the_file_is_named(tmp_path: Path, number: int, words: str) -> None:
    path = tmp_path / "page.html"
    with pytest.raises(OutputError, match=rf"page\.html cannot be written: .*{words}"), making(path, overwrite=False):
        raise OSError(number, os.strerror(number))
    with pytest.raises(PermissionError), making(path, overwrite=False):
        raise PermissionError
    assert list(tmp_path.iterdir()) == []
