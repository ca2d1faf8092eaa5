"""Damaged files by the hundred: each is upscaled or refused in one sentence; nothing hangs, crashes or is left over.

Every mutant is made of a number alone. It runs in a process of its own, so that a crash of a native library is seen.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from media import presentation_times
from runners import RepeatRunner
from torture import Case, NoCuts, Sound, make
from torture_cases import AVI, MKV, MOV, MP4, TS, WHOLE

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

PATIENCE_S = 20
# Children of a process without threads: those of the tests may hold locks at the moment of a fork.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["ksnet_deploy.upscale.run", "runners"])
MEMORY = 8 << 30
"""Bytes of address space that a child may take on top of its parent's."""
LONGEST_MESSAGE = 400
BATCH = 20


def _case(name: str, suffix: str) -> Case:
    (found,) = (case for case in WHOLE if (case.name, case.suffix) == (name, suffix))
    return found


SOURCES = [
    _case("b frames", MP4),
    _case("two sounds", MOV),
    _case("subtitles", MKV),
    _case("vp9", ".webm"),
    _case("av1", ".webm"),
    _case("b frames", TS),
    _case("mpeg2", TS),
    _case("b frames", AVI),
    replace(_case("mpeg4", AVI), sounds=(Sound("libmp3lame", "und"),)),
    _case("422 ten bits", MOV),
    _case("444 ten bits", MKV),
    _case("mjpeg", MOV),
    _case("chapters", MP4),
]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    return [make(replace(case, name=f"{index}"), folder) for index, case in enumerate(SOURCES)]


def place(rng: random.Random, size: int) -> int:
    """Of a byte; in what is probably a header more often than elsewhere."""
    return rng.randrange(min(size, 1000) if rng.random() < 0.3 else size)


def flip(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    for _ in range(rng.choice([1, 3, 20])):
        content[place(rng, len(content))] ^= 1 << rng.randrange(8)
    return content


def cut(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    return content[: place(rng, len(content)) + 1]


def splice(rng: random.Random, content: bytearray, other: bytes) -> bytearray:
    return content[: place(rng, len(content)) + 1] + other[place(rng, len(other)) :]


def blank(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    at, length = place(rng, len(content)), rng.choice([1, 4, 64, 1000])
    content[at : at + length] = bytes(len(content[at : at + length]))
    return content


def swap(rng: random.Random, content: bytearray, _other: bytes) -> bytearray:
    length = min(rng.choice([4, 64, 1000]), len(content) // 2)
    a, b = sorted((place(rng, len(content)), place(rng, len(content))))
    b = max(b, a + length)
    content[a : a + length], content[b : b + length] = content[b : b + length], content[a : a + length]
    return content


OPERATIONS: list[Callable[[random.Random, bytearray, bytes], bytearray]] = [flip, cut, splice, blank, swap]


@dataclass(frozen=True)
class Mutant:
    """A damaged file and what is asked of it."""

    suffix: str
    content: bytes
    target: str
    """Suffix."""
    start_s: Fraction | None
    end_s: Fraction | None


def mutant(seed: int, sources: list[Path]) -> Mutant:
    rng = random.Random(seed)
    path = rng.choice(sources)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 4])):
        content = rng.choice(OPERATIONS)(rng, content, rng.choice(sources).read_bytes())
    return Mutant(
        path.suffix,
        bytes(content),
        rng.choice([MKV, MKV, MP4, MOV]),
        rng.choice([None, None, None, Fraction(1, 3)]),
        rng.choice([None, None, None, Fraction(2, 3)]),
    )


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    kind: str
    """``upscaled``, ``refused`` or what is wrong."""
    text: str = ""


def _upscale(source: Path, target: Path, settings: dict[str, Any], answer: Connection) -> None:
    """What the child does."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY,) * 2)
    try:
        result = upscale_video(
            source, target, Upscaler(open_runner=RepeatRunner), detector=NoCuts(), resume=False, **settings
        )
        answer.send(Outcome("upscaled", str(result.frames)))
    except KSNetError as error:
        answer.send(Outcome("refused", str(error)))
    except BaseException:
        answer.send(Outcome("raised", traceback.format_exc()))


def outcome_of(seed: int, sources: list[Path], folder: Path) -> Outcome:
    """Upscale a mutant in an empty folder."""
    made = mutant(seed, sources)
    source, target = folder / f"v{made.suffix}", folder / f"o{made.target}"
    source.write_bytes(made.content)
    part = {"start_s": made.start_s, "end_s": made.end_s}
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = SERVER.Process(target=_upscale, args=(source, target, part, sender))
    child.start()
    sender.close()
    try:
        outcome = receiver.recv() if receiver.poll(PATIENCE_S) else Outcome("hung")
    except EOFError:
        outcome = Outcome("crashed")
    child.join(PATIENCE_S if outcome.kind != "hung" else 0)
    if child.exitcode is None:
        child.kill()
        child.join()
        return Outcome("hung", outcome.text)
    if child.exitcode:
        return Outcome("crashed", f"exit code {child.exitcode}")
    return _judged(outcome, source, target)


def _judged(outcome: Outcome, source: Path, target: Path) -> Outcome:
    left = {path.name for path in source.parent.iterdir()} - {source.name}
    if outcome.kind == "upscaled":
        if left != {target.name}:
            return Outcome("left over", str(left))
        if len(presentation_times(target)) != int(outcome.text) or not int(outcome.text):
            return Outcome("frames missing", outcome.text)
    if outcome.kind == "refused":
        if left:
            return Outcome("left over", f"{left} after: {outcome.text}")
        message = outcome.text
        if "\n" in message or message.endswith(".") or not 0 < len(message) < LONGEST_MESSAGE:
            return Outcome("not a sentence", message)
    return outcome


@pytest.mark.parametrize(
    "first",
    [pytest.param(n, marks=[pytest.mark.slow] if n else [], id=f"from {n}") for n in range(0, 1060, BATCH)],
)
def test_every_mutant_is_upscaled_or_refused_in_a_sentence(sources: list[Path], first: int) -> None:
    wrong = {}
    for seed in range(first, first + BATCH):
        with tempfile.TemporaryDirectory() as folder:
            outcome = outcome_of(seed, sources, Path(folder))
        if outcome.kind not in ("upscaled", "refused"):
            wrong[seed] = outcome
    assert not wrong, wrong
