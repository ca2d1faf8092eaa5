"""The cache: what is damaged in it is never used and never in the way; it is made anew, and said."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

import onnx
import pytest
from caches import SIZE, make_one

import ksnet_deploy
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.sealed import read_sealed, write_sealed
from ksnet_deploy.export import cache
from ksnet_deploy.export.cache import (
    cached_files,
    cached_onnx,
    cached_path,
    clear_cache,
    code_sha256,
    fault_of,
    hash_path,
    name_in_cache,
    write_hash,
)
from ksnet_deploy.export.engine import compile as compiling
from ksnet_deploy.export.engine.compile import EngineKey
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar, sidecar_path
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec, PluginIdentity
from ksnet_deploy.runtime.tensorrt.target import GpuTarget, SizeRange

KINDS = ("flip", "cut", "empty", "swap", "gone")


def damage(path: Path, kind: str, other: Path, rng: random.Random) -> None:
    """Damage a file in one of the ways of :data:`KINDS`; ``other`` is of the same sort."""
    data = path.read_bytes()
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 8, 256))):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(changed) if bytes(changed) != data else data[::-1])
    elif kind == "cut":
        path.write_bytes(data[: rng.randrange(1, len(data))])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "swap":
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    else:
        path.unlink()


ASKED = (("uint8", "fp32", SIZE), ("float32", "fp16", SIZE), ("uint8", "fp32", None))
"""A file of each precision, and a dynamic one; a tile's file is one of these."""


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
@pytest.mark.usefixtures("folder")
def test_a_damaged_export_or_hash_is_never_used_and_made_anew_with_a_note(
    small: Checkpoint, quick_export: list[str], seed: int
) -> None:
    """20 damages a seed."""
    rng = random.Random(seed)
    for round_ in range(4):
        for kind in KINDS:
            paths = [cached_onnx(small.path, size, io, precision) for io, precision, size in ASKED]  # type: ignore[arg-type]
            which = rng.randrange(len(paths))
            other = paths[(which + 1) % len(paths)]
            parts = (hash_path(paths[which]), hash_path(other)) if round_ % 2 else (paths[which], other)
            damage(parts[0], kind, parts[1], rng)
            if kind == "swap" and round_ == 2:  # the hash goes with the file
                damage(hash_path(paths[which]), kind, hash_path(other), rng)
            notes: list[str] = []
            before = len(quick_export)
            io, precision, size = ASKED[which]
            again = cached_onnx(small.path, size, io, precision, on_note=notes.append)  # type: ignore[arg-type]
            said = f"{kind} of {parts[0].name}"
            assert again == paths[which]
            assert fault_of(again) is None, said
            props = {entry.key: entry.value for entry in onnx.load(again).metadata_props}
            assert props["asked"] == str({"size": size, "io": io, "precision": precision}), said
            assert len(quick_export) == before + 1, said
            if kind != "gone" or round_ % 2:  # without the file there is nothing to say
                assert len(notes) == 1, said
                assert "made anew" in notes[0]


def test_a_whole_export_is_taken_as_it_is_and_its_hash_is_that_of_sha256sum(
    folder: Path, small: Checkpoint, quick_export: list[str]
) -> None:
    first, second = (cached_onnx(small.path, SIZE, on_note=pytest.fail) for _ in range(2))
    assert (first, len(quick_export)) == (second, 1)
    done = subprocess.run(["sha256sum", "--check", hash_path(first).name], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0
    assert {path.name for path in cached_files()} == {first.name, hash_path(first).name}
    assert clear_cache()[0] == 2
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("letter", ["n", "猫"])
def test_a_checkpoint_with_the_longest_name_has_a_place(tmp_path: Path, letter: str) -> None:
    checkpoint = tmp_path / ((letter * 200).encode()[:239].decode(errors="ignore") + ".safetensors")
    checkpoint.write_bytes(b"weights")
    path = cached_path(checkpoint, FrameSize(1080, 1920), "float32", "fp16")
    assert path.name.startswith(letter)
    assert len(os.fsencode(hash_path(path).name)) <= 255
    assert (
        len(os.fsencode(f"{name_in_cache(checkpoint.stem)}-fp16-tensorrt-rtx3080-{'0' * 16}.engine.json.sha256")) <= 255
    )


def test_a_note_that_nobody_asked_for_goes_to_the_error_output(
    small: Checkpoint, quick_export: list[str], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached_onnx(small.path, SIZE).write_bytes(b"")
    cached_onnx(small.path, SIZE)
    assert "made anew" in caplog.text
    assert str(folder) in caplog.text
    assert len(quick_export) == 2


@pytest.mark.parametrize("part", ["engine", "sidecar", "proof", "onnx", "hash"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_a_damaged_engine_sidecar_or_proof_is_never_used_and_made_anew_with_a_note(
    folder: Path, small: Checkpoint, builds: dict[str, int], part: str, seed: int
) -> None:
    """25 times 5 damages."""
    rng = random.Random(seed)
    for kind in KINDS:
        made = [make_one(small, precision, []) for precision in ("fp16", "fp32")]
        expected = [(one.path.read_bytes(), one.sidecar) for one in made]
        onnxes = [next(folder.glob(f"*-{precision}-*.onnx")) for precision in ("fp16", "fp32")]
        files = {
            "engine": [one.path for one in made],
            "sidecar": [sidecar_path(one.path) for one in made],
            "proof": [path.with_suffix(".proof.json") for path in onnxes],
            "onnx": onnxes,
            "hash": [hash_path(path) for path in onnxes],
        }[part]
        if part in ("onnx", "hash", "proof"):
            for one in made:  # or the engine, which is whole and carries its own proof, is enough
                one.path.unlink()
                sidecar_path(one.path).unlink()
        damage(files[0], kind, files[1], rng)
        notes: list[str] = []
        before = dict(builds)
        again = make_one(small, "fp16", notes)
        said = f"{kind} of {files[0].name}: {notes}"
        assert not again.reused, said
        assert again.path.read_bytes() == expected[0][0], said
        assert Sidecar.read(again.path).verified == expected[0][1].verified, said
        assert builds["built"] == before["built"] + 1, said
        assert builds["compared"] == before["compared"] + (part == "proof"), said
        if kind != "gone":
            assert any("anew" in note for note in notes), said
        assert make_one(small, "fp16", []).reused, said


def test_an_engine_that_stands_with_its_sidecar_under_the_name_of_another_is_not_taken(
    small: Checkpoint, folder: Path, builds: dict[str, int]
) -> None:
    first, second = (make_one(small, precision, []) for precision in ("fp16", "fp32"))
    for one, other in ((first.path, second.path), (sidecar_path(first.path), sidecar_path(second.path))):
        damage(one, "swap", other, random.Random(0))
    notes: list[str] = []
    assert not make_one(small, "fp16", notes).reused
    assert "has the sidecar of another engine" in " ".join(notes)
    assert builds["built"] == 3
    assert folder.is_dir()


def test_a_proof_is_believed_only_for_the_file_it_was_made_of(
    small: Checkpoint, folder: Path, builds: dict[str, int]
) -> None:
    make_one(small, "fp16", [])
    proof = next(folder.glob("*.proof.json"))
    values = read_sealed(proof)
    assert values["onnx_sha256"] == sha256_of(next(folder.glob("*.onnx")))
    write_sealed(proof, values | {"onnx_sha256": "0" * 64})
    for path in folder.glob("*.engine*"):
        path.unlink()
    notes: list[str] = []
    make_one(small, "fp16", notes)
    assert "it is of another file" in " ".join(notes)
    assert builds["compared"] == 2


def test_damaged_timings_are_put_aside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "installed_version", lambda _flavour: "10.0")
    spec = EngineSpec("tensorrt", GpuTarget(86), "fp16", SizeRange.fixed(SIZE))
    notes: list[str] = []
    path = compiling._timing_cache(spec, notes.append)
    assert path is not None
    assert path.parent == folder
    path.write_bytes(b"timings")
    write_hash(path, sha256_of(path))
    assert compiling._timing_cache(spec, notes.append) == path
    assert (path.exists(), notes) == (True, [])
    path.write_bytes(b"tinings")
    assert compiling._timing_cache(spec, notes.append) == path
    assert not path.exists()
    assert "measures its kernels anew" in notes[0]


def test_the_key_of_an_engine_depends_on_everything_in_it(small: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter(("1.7", "1.7", "1.7", "1.7", "1.7", "1.7", "1.8"))
    monkeypatch.setattr(compiling, "installed_version", lambda _flavour: next(versions))
    base = EngineSpec("rtx", GpuTarget(86), "fp16", SizeRange.fixed(SIZE))
    specs = [
        base,
        EngineSpec("tensorrt", GpuTarget(86), "fp16", SizeRange.fixed(SIZE)),
        EngineSpec("rtx", GpuTarget(89), "fp16", SizeRange.fixed(SIZE)),
        EngineSpec("rtx", GpuTarget(86), "fp32", SizeRange.fixed(SIZE)),
        EngineSpec("rtx", GpuTarget(86), "fp16", SizeRange(SIZE, SIZE, FrameSize(64, 64))),
        EngineSpec("rtx", GpuTarget(86), "fp16", SizeRange.fixed(SIZE), PluginIdentity("lib.so", "0" * 64)),
        base,  # of another TensorRT
    ]
    keys = [EngineKey.of(spec, small.path) for spec in specs]
    assert len({key.file_name("small") for key in keys}) == len(keys)
    for spec in specs:
        assert EngineSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


def test_the_code_in_a_key_is_that_of_the_package_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(ksnet_deploy.__file__).parent
    sources = sorted({*here.glob("**/*.py"), *(here / "export").glob("**/*.py")})
    assert code_sha256() == hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()

    package = tmp_path / "ksnet_deploy"
    package.mkdir()
    (tmp_path / "export" / "engine").mkdir(parents=True)
    (package / "export").symlink_to("../export")  # as in a checkout
    monkeypatch.setattr(cache, "BUNDLED", package / "bundled")
    seen = [code_sha256()]
    for name in ("ksnet_deploy/__init__.py", "export/cache.py", "export/engine/make.py"):
        (tmp_path / name).write_text(name)
        seen.append(code_sha256())
    assert len(set(seen)) == 4
    (tmp_path / "other.py").write_text("a test, or a package beside it")
    assert code_sha256() == seen[-1]
