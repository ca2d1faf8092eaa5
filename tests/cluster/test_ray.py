"""The command upscale on Ray: processes that are killed, a cluster of two machines, memory. Slow, and needs Ray.

``KSNET_KILLS=20`` kills that many workers, and half as many drivers, instead of a few.
"""

from __future__ import annotations

import importlib.util
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from media import make_video
from rays import environment, leftovers, run_upscale, short_folder, start_upscale, wait_for, workers_of

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.job import job_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra 'cluster')"),
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does"),
]
KILLS = int(os.environ.get("KSNET_KILLS", "4"))
CUTS = (40, 100, 130, 200, 260, 300, 350, 420, 480, 540)
FRAMES = 600


@pytest.fixture
def folder() -> Iterator[Path]:
    """Folder for a cluster's own files, which must be gone in the end."""
    path = short_folder()
    yield path
    wait_for(lambda: not leftovers(path))
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film")
    (path / "cuts.txt").write_text("\n".join(map(str, CUTS)))
    return make_video(path / "film.mp4", FrameSize(16, 24), frames=FRAMES, sound=True)


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    target = tmp_path_factory.mktemp("whole") / "o.mp4"
    run = run_upscale(film, "-o", target, "--cuts", film.with_name("cuts.txt"))
    assert run.returncode == 0, run.stderr
    return target.read_bytes()


def arguments(film: Path, target: Path, *more: object) -> tuple[object, ...]:
    return (film, "-o", target, "--cuts", film.with_name("cuts.txt"), "--cluster", *(more or ("--workers", "2")))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def finished(target: Path) -> int:
    journal = job_folder(target) / "journal.jsonl"
    return len(journal.read_text().splitlines()) if journal.exists() else 0


def test_two_workers_give_the_same_bytes_and_standard_output_is_json(
    film: Path, tmp_path: Path, whole: bytes, folder: Path
) -> None:
    run = run_upscale(*arguments(film, tmp_path / "o.mp4"), "--json", env={"TMPDIR": str(folder)})
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith('{"input"')
    assert (tmp_path / "o.mp4").read_bytes() == whole
    assert names(tmp_path) == {"o.mp4"}


def test_workers_killed_at_random_change_no_byte(film: Path, tmp_path: Path, whole: bytes, folder: Path) -> None:
    rng, killed, runs = random.Random(1), 0, 0
    while killed < KILLS:
        target = tmp_path / f"{runs}.mp4"
        with start_upscale(*arguments(film, target), step_s=0.05, env={"TMPDIR": str(folder)}) as process:
            wait_for(lambda p=process: workers_of(p) or p.poll() is not None)  # type: ignore[misc]
            before = killed
            while process.poll() is None and killed < KILLS and killed - before < 6:
                time.sleep(rng.uniform(0.2, 3))
                if workers := workers_of(process):
                    rng.choice(workers).kill()
                    killed += 1
            out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "(raylet)" not in out + err
        assert target.read_bytes() == whole
        runs += 1
    assert names(tmp_path) == {f"{run}.mp4" for run in range(runs)}


def test_drivers_killed_at_random_lose_nothing(film: Path, tmp_path: Path, whole: bytes, folder: Path) -> None:
    rng, target, killed = random.Random(2), tmp_path / "o.mp4", 0
    while killed < max(KILLS // 2, 1):
        with start_upscale(*arguments(film, target), step_s=0.1, env={"TMPDIR": str(folder)}) as process:
            before = finished(target)
            wait_for(lambda p=process: workers_of(p) or p.poll() is not None)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 8))
            process.kill()
        killed += 1
        assert finished(target) >= before
        if target.exists():
            assert target.read_bytes() == whole
            target.unlink()
    safe = finished(target)
    run = run_upscale(*arguments(film, target), env={"TMPDIR": str(folder)})
    assert run.returncode == 0, run.stderr
    assert ("finished by an earlier run" in run.stdout) == (safe > 0)
    assert target.read_bytes() == whole
    assert names(tmp_path) == {"o.mp4"}


def test_ctrl_c_ends_the_remote_work_at_once(film: Path, tmp_path: Path, folder: Path) -> None:
    target = tmp_path / "o.mp4"
    with start_upscale(*arguments(film, target), step_s=0.2, env={"TMPDIR": str(folder)}) as process:
        wait_for(lambda: finished(target))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the same command goes on after" in err
    assert not leftovers(folder)
    assert names(tmp_path) == {job_folder(target).name}


@pytest.mark.parametrize("part", ["gcs_server", "raylet"])
def test_a_cluster_that_goes_is_one_sentence(film: Path, tmp_path: Path, folder: Path, part: str) -> None:
    target = tmp_path / "o.mp4"
    with start_upscale(*arguments(film, target), step_s=0.3, env={"TMPDIR": str(folder)}) as process:
        wait_for(lambda: finished(target))
        next(c for c in psutil.Process(process.pid).children(recursive=True) if c.name() == part).kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Error: the cluster that was started here has gone" in err
    assert "Traceback" not in err
    assert finished(target)


def test_several_films_at_once(film: Path, tmp_path: Path, folder: Path, whole: bytes) -> None:
    season = tmp_path / "season"
    season.mkdir()
    for name in "ab":
        shutil.copy(film, season / f"{name}.mp4")
    (season / "bad.mp4").write_bytes(b"no video")
    run = run_upscale(
        *(season, "--cuts", film.with_name("cuts.txt"), "--cluster", "--workers", "2", "--progress", "json"),
        env={"TMPDIR": str(folder)},
        step_s=0.005,
    )
    assert run.returncode == 1
    assert "bad.mp4 cannot be read as a video" in run.stderr
    assert '"scenes_in_flight": 2' in run.stderr
    assert '"total": 1200' in run.stderr
    for name in "ab":
        assert (season / f"{name}_x4.mp4").read_bytes() == whole


def ray(*words: str, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=120)


def test_two_nodes_with_caches_of_their_own_share_nothing(film: Path, tmp_path: Path, whole: bytes) -> None:
    """Two ``ray start`` on this machine, as on two: each with its own folder of files and its own cache."""
    port, folders = 6391, [short_folder(), short_folder()]
    caches = [tmp_path / "cache0", tmp_path / "cache1"]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    envs = [
        environment(0.01, TMPDIR=str(f), KSNET_CACHE_DIR=str(c), **token) for f, c in zip(folders, caches, strict=True)
    ]
    common = ("--num-cpus=1", "--num-gpus=0", "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0")
    try:
        ray(
            "start",
            "--head",
            f"--port={port}",
            f"--temp-dir={folders[0]}",
            *common,
            "--include-dashboard=false",
            env=envs[0],
        )
        ray("start", f"--address=127.0.0.1:{port}", *common, env=envs[1])
        target = tmp_path / "o.mp4"
        run = run_upscale(
            *arguments(film, target, f"127.0.0.1:{port}"),
            step_s=0.01,
            env={"KSNET_CACHE_DIR": str(tmp_path / "own"), **token},
        )
        assert run.returncode == 0, run.stderr
        assert target.read_bytes() == whole
        assert all(cache.is_dir() for cache in caches)
    finally:
        for path in folders:
            for process in psutil.process_iter():
                with_folder = any(str(path) in part or f":{port}" in part for part in _words(process))
                if with_folder and process.pid != os.getpid():
                    process.kill()
            shutil.rmtree(path, ignore_errors=True)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_versions_that_differ_are_refused_before_the_first_frame(film: Path, tmp_path: Path) -> None:
    run = run_upscale(
        *arguments(film, tmp_path / "o.mp4"), env={"TMPDIR": str(tmp_path), "KSNET_TEST_VERSION": "0.0.9"}
    )
    assert run.returncode == 1
    assert "has other versions than this machine (av 0.0.9 instead of" in run.stderr
    assert names(tmp_path) == set()
