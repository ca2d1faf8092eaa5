"""The ladder of runtimes: every rung, and every failure between them, on stand-ins for the card and its libraries."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_card import RTX3080, FakeCard
from fake_gpu import fake_engine
from rungs import SIZE, TAKEN, frames
from runners import RepeatRunner

from ksnet_deploy import Upscaler
from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.upscale import ladder
from ksnet_deploy.upscale.card_engines import CardEngines
from ksnet_deploy.upscale.ladder import RUNGS, Choices, Ladder, Machine, find_fastest
from ksnet_deploy.upscale.networks import NetworkFile

NAMES = [f"{rung.runtime} {rung.device}" for rung in Choices().rungs()]
NO_GPU = Machine(None, "there is no NVIDIA driver here")


class Opened:
    """In the place of the networks' files and engines: notes what is opened, and fails where it was told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.failing_steps: dict[str, Exception] = {}
        opened = self

        class Failing(RepeatRunner):
            def __init__(self, name: str, size: FrameSize) -> None:
                super().__init__(size)
                self.backend = name

            def _step(self, lr: Any) -> Any:
                if error := opened.failing_steps.get(self.backend):
                    raise error
                return super()._step(lr)

        def open_file(file: NetworkFile, size: FrameSize, *_: object, **__: object) -> Runner:
            name = f"{file.backend} {file.device}"
            opened.opened.append(name)
            if error := opened.failing.get(name):
                raise error
            return Failing(name, size)

        def engine(_engines: CardEngines, runtime: str, *_: object) -> NetworkFile:
            return NetworkFile("small", Path("small.engine"), "engine", runtime, "cuda")

        monkeypatch.setattr(NetworkFile, "open", open_file)
        monkeypatch.setattr(NetworkFile, "identity", lambda file: {"runtime": f"{file.backend} on {file.device}"})
        monkeypatch.setattr(CardEngines, "whole", engine)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, card: FakeCard) -> Opened:
    assert card
    return Opened(monkeypatch)


FAILURES = (
    BackendError("it is out of order"),
    RuntimeError("CUDA error: out of memory"),
    MemoryError(),
    ConfigError("the frames are too large"),
    OSError("libnvinfer.so.10: cannot open"),
)


@pytest.mark.parametrize("failing", range(len(NAMES)))
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("when", ["open", "step"])
def test_a_rung_that_fails_gives_way_to_the_next_with_a_note(
    opened: Opened, network: Checkpoint, failing: int, error: Exception, when: str
) -> None:
    """The first rungs fail, one after the other, when they are opened or at the first frame."""
    said: list[str] = []
    where = opened.failing if when == "open" else opened.failing_steps
    where.update(dict.fromkeys(NAMES[:failing], error))
    with Upscaler(str(network.path), on_note=said.append) as upscaler:
        upscaler.push(frames(1)[0])
        assert upscaler.network.identity()["runtime"] == NAMES[failing].replace(" ", " on ")
    assert opened.opened == NAMES[: failing + 1]
    falls = [line for line in said if "; going on with " in line]
    assert len(falls) == failing
    for fall, rung, following in zip(falls, RUNGS, RUNGS[1:], strict=False):
        assert fall.startswith(f"{rung.title} cannot run ")
        assert (str(error) if str(error) and "memory" not in str(error) else "memory" if when == "open" else "") in fall
        assert fall.endswith(f"; going on with {following.on(Machine(RTX3080))}.")
    running = [line for line in said if line.startswith("Running ")]
    assert len(running) == (1 if when == "open" else failing + 1)


def test_what_is_not_there_is_passed_over_without_a_note(opened: Opened, card: FakeCard, network: Checkpoint) -> None:
    runtimes = [rung.runtime for rung in RUNGS if rung.device == "cuda"]
    for count in range(len(runtimes) + 1):
        for lacking in combinations(runtimes, count):
            card.lacking(*lacking)
            opened.opened.clear()
            said: list[str] = []
            with Upscaler(str(network.path), on_note=said.append) as upscaler:
                upscaler.push(frames(1)[0])
            there = [name for name in NAMES if name.split()[0] not in lacking or name.endswith("cpu")]
            assert opened.opened == there[:1]
            assert len(said) == (there[0] != "onnxruntime cpu")  # as on any machine without a GPU


@pytest.mark.parametrize(
    ("lacking", "line"),
    [
        ((), TAKEN["tensorrt cuda"]),
        (("tensorrt",), TAKEN["rtx cuda"]),
        (
            ("tensorrt", "rtx"),
            f"{TAKEN['torch cuda']}; TensorRT-RTX would be faster: pip install 'ksnet-deploy[rtx]'.",
        ),
        (
            ("torch", "tensorrt", "rtx"),
            f"{TAKEN['onnxruntime cuda']}; TensorRT-RTX would be faster: pip install 'ksnet-deploy[rtx]'.",
        ),
    ],
)
def test_one_line_says_what_was_taken_and_what_would_be_faster(
    opened: Opened, card: FakeCard, network: Checkpoint, lacking: tuple[str, ...], line: str
) -> None:
    assert opened
    card.lacking(*lacking)
    said: list[str] = []
    with Upscaler(str(network.path), on_note=said.append) as upscaler:
        upscaler.push(frames(1)[0])
        upscaler.reset()
        upscaler.push(frames(1)[0])
    assert said == [line.replace("small", str(network.path))]


@pytest.mark.parametrize("rung", RUNGS, ids=str)
def test_what_was_asked_for_never_falls(opened: Opened, network: Checkpoint, rung: ladder.Rung) -> None:
    error = BackendError("it is out of order")
    opened.failing = {f"{any_.runtime} {any_.device}": error for any_ in RUNGS}
    said: list[str] = []
    with (
        Upscaler(str(network.path), runtime=rung.runtime, device=rung.device, on_note=said.append) as upscaler,
        pytest.raises(BackendError, match="it is out of order"),
    ):
        upscaler.push(frames(1)[0])
    assert opened.opened == [f"{rung.runtime} {rung.device}"]
    assert said == []


def test_a_device_that_was_asked_for_is_not_left(opened: Opened, network: Checkpoint) -> None:
    opened.failing = dict.fromkeys(NAMES, BackendError("it is out of order"))
    with Upscaler(str(network.path), device="cuda") as upscaler, pytest.raises(BackendError, match="out of order"):
        upscaler.push(frames(1)[0])
    assert opened.opened == NAMES[:4]


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_runtime_that_was_asked_for_is_not_left(
    opened: Opened, network: Checkpoint, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksnet_deploy.runtime.openvino.is_fastest_here", lambda: True)
    opened.failing[f"{runtime} cuda"] = BackendError("it is out of order")
    with Upscaler(str(network.path), runtime=runtime) as upscaler:
        upscaler.push(frames(1)[0])
    assert opened.opened == [f"{runtime} cuda", f"{runtime} cpu"]


def test_what_the_cpu_runs_after_a_fall_is_what_is_said(
    opened: Opened, network: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksnet_deploy.runtime.openvino.is_fastest_here", lambda: True)
    opened.failing = dict.fromkeys(NAMES[:4], BackendError("it is out of order"))
    said: list[str] = []
    with Upscaler(str(network.path), on_note=said.append) as upscaler:
        upscaler.push(frames(1)[0])
        assert upscaler.network.can_be_tiled
    assert opened.opened[-1] == "openvino cpu"
    assert said[-2].endswith("going on with OpenVINO on the CPU.")
    assert said[-1].startswith(f"Running {network.path} with OpenVINO on the CPU")


def test_a_scene_that_has_begun_goes_on_as_it_began(opened: Opened, network: Checkpoint) -> None:
    error = BackendError("the GPU fell off the bus")
    with Upscaler(str(network.path)) as upscaler:
        upscaler.push(frames(1)[0])
        opened.failing_steps["tensorrt cuda"] = error
        with pytest.raises(BackendError, match="fell off the bus"):
            upscaler.push(frames(1)[0])
    opened.failing_steps.clear()
    with Upscaler(str(network.path)) as resumed:
        resumed.open(SIZE)
        resumed.state = {"last": np.zeros((1, 3, 16, 24), np.float32)}
        opened.failing_steps["tensorrt cuda"] = error
        with pytest.raises(BackendError, match="fell off the bus"):
            resumed.push(frames(1)[0])


def test_the_network_that_suits_the_device_is_taken(card: FakeCard) -> None:
    assert find_fastest(None, Choices(), card.machine).label == "uni"
    assert find_fastest(None, Choices(device="cpu"), card.machine).label == "lite"
    assert find_fastest(None, Choices(), NO_GPU).label == "lite"
    nothing = Machine(RTX3080, "", dict.fromkeys(("tensorrt", "rtx", "torch", "onnxruntime"), "it is not installed"))
    assert find_fastest(None, Choices(), nothing).label == "lite"


def test_without_a_gpu_nothing_changes(network: Checkpoint) -> None:
    plain = find_fastest(str(network.path), Choices(), NO_GPU)
    assert (type(plain), plain.backend, plain.device) == (NetworkFile, "onnxruntime", "cpu")  # type: ignore[attr-defined]
    asked = find_fastest(str(network.path), Choices(runtime="torch"), NO_GPU)
    assert (type(asked), asked.backend, asked.device) == (NetworkFile, "torch", "cpu")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices(device="cuda"), "no GPU can be used: there is no NVIDIA driver here; use --device cpu"),
        (Choices(runtime="tensorrt"), "no GPU can be used: there is no NVIDIA driver here; leave --runtime out"),
        (
            Choices(runtime="rtx", device="cuda"),
            "no GPU can be used: there is no NVIDIA driver here; leave --runtime and --device out",
        ),
    ],
)
def test_what_was_asked_for_and_is_not_there_is_said(choices: Choices, words: str, network: Checkpoint) -> None:
    with pytest.raises(BackendError) as caught:
        find_fastest(str(network.path), choices, NO_GPU)
    assert str(caught.value) == words


def test_a_runtime_that_is_one_install_away_is_named_with_the_install(network: Checkpoint) -> None:
    machine = Machine(RTX3080, "", {"rtx": "it is not installed"})
    with pytest.raises(BackendError, match=r"RTX 3080 \(TensorRT-RTX: it is not installed, pip install .*\[rtx\]'\)"):
        find_fastest(str(network.path), Choices(runtime="rtx"), machine)


def test_choices_that_cannot_be_are_refused() -> None:
    for runtime, device, backend, words in (
        (
            "directml",
            None,
            None,
            "no runtime 'directml'; give auto, tensorrt, rtx, torch, onnxruntime or openvino",
        ),
        (None, "tpu", None, "there is no device 'tpu'; give auto, cpu or cuda"),
        ("tensorrt", "cpu", None, "tensorrt runs on a GPU only; leave --device cpu out"),
        ("openvino", "cuda", None, "openvino runs on the CPU only; leave --device cuda out"),
        ("rtx", None, "torch", "a runtime of rtx and a backend of torch were asked for; give one of them"),
    ):
        with pytest.raises(ConfigError, match=words):
            Choices.of(runtime, device, backend)
    assert Choices.of(None, "auto", "torch") == Choices("torch", "auto")
    assert Choices.of("torch", None, "torch") == Choices("torch", "auto")


def test_an_exported_file_climbs_no_further_than_onnx_runtime(card: FakeCard, tmp_path: Path) -> None:
    (tmp_path / "step.onnx").touch()
    found = find_fastest(tmp_path / "step.onnx", Choices(), card.machine)
    assert isinstance(found, Ladder)
    assert [f"{rung.runtime} {rung.device}" for rung in found._rungs] == NAMES[-2:]
    (tmp_path / "net.engine").touch()
    assert type(find_fastest(tmp_path / "net.engine", Choices(), card.machine)) is NetworkFile


def test_an_engine_of_another_runtime_than_was_asked_for_is_refused(
    card: FakeCard, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    engine = fake_engine(small_onnx("32x48"), tmp_path / "small.engine", ("32x48", "32x48", "32x48"))
    assert find_fastest(engine, Choices("rtx"), card.machine).device == "cuda"
    with pytest.raises(ConfigError, match=r"small\.engine was built by rtx, which alone runs it, not tensorrt; leave"):
        find_fastest(engine, Choices("tensorrt"), card.machine)
