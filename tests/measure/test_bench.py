"""The benchmark on stand-ins: what it measures, in which order, how long it takes, and what it says."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benches import ONNX, SIZE, TORCH, Bed
from media import make_video
from standins import ClockedRunner, Time

from ksnet_deploy.base.errors import BackendError, ConfigError, InputError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.plotting import check_plotting
from ksnet_deploy.measure.speed import bench as bench_module
from ksnet_deploy.measure.speed import card as card_module
from ksnet_deploy.measure.speed import worker as worker_module
from ksnet_deploy.measure.speed.bench import MOST_MINUTES, Bench
from ksnet_deploy.measure.speed.card import Card, find_card
from ksnet_deploy.measure.speed.plot import plot_bench
from ksnet_deploy.measure.speed.subjects import Subject, find_subjects
from ksnet_deploy.measure.speed.ways import all_ways, check_way, ways_here, ways_of_file
from ksnet_deploy.measure.speed.worker import Footage, Worker
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.runtime.gpu import Gpu
from ksnet_deploy.video.kinds import DEFAULT_RATE
from ksnet_deploy.video.picture import write_png


def test_every_way_is_measured_in_rounds_by_turns(bed: Bed) -> None:
    report = bed.run({"torch-cpu": 0.1, "onnxruntime-cpu": 0.05})
    torch, onnx = report.groups[0].rows
    assert (torch.engine.p50_ms, onnx.engine.p50_ms) == (pytest.approx(100), pytest.approx(50))
    assert (
        len(torch.engine.rounds_ms)
        == len(onnx.engine.rounds_ms)
        == len(torch.yardstick_ms)
        == len(onnx.yardstick_ms)
        == 5
    )
    turns = "".join(name for name, method in bed.calls if method == "engine")
    assert turns == "to" + "ot" + "to" + "ot" + "to", "each goes first in turn"


def test_the_report_says_everything_and_the_papers_row_is_there(bed: Bed, tmp_path: Path) -> None:
    bed.kernel = "native kernel, avx2"
    report = bed.run({"torch-cpu": 0.1, "onnxruntime-cpu": 0.05}, missing={"TensorRT, half": "no GPU"})
    text = report.as_text()
    for words in ("lite at 32x48 -> 128x192", "reference", "equal", "paper, RTX 3080", "as published", "end to end"):
        assert words in text
    assert "A film of 90 minutes at 24 frames a second" in text
    assert "convolutions 50%" in text
    assert "Alignment: native kernel, avx2 (ONNX Runtime, CPU, float32)." in text
    assert [row["kernel"] for row in report.as_dict()["groups"][0]["rows"]] == [None, "native kernel, avx2"]
    assert "1 way on a GPU (none is found here)" in text
    answer = json.loads(json.dumps(report.as_dict()))
    rows = answer["groups"][0]["rows"]
    assert [row["way"] for row in rows] == ["torch-cpu", "onnxruntime-cpu"]
    assert rows[1]["pipeline"]["noise"] is None
    assert rows[1]["engine"]["noise"] == pytest.approx(0)
    assert rows[1]["engine"]["fps"] == pytest.approx(20)
    assert rows[1]["equal_to_reference"]
    assert rows[1]["floor"]["reached"] == pytest.approx(0.2)
    assert rows[1]["end_to_end_fps"] == 5
    assert answer["published"]["ms"] == 31
    table = list(csv.reader(io.StringIO(report.as_csv())))
    assert [line[2] for line in table[1:]] == ["torch-cpu", "onnxruntime-cpu", "uni as published, RTX 3080"]
    assert answer["threads"] >= 1
    assert answer["instruction_sets"] is None or isinstance(answer["instruction_sets"], list)
    assert set(answer["versions"]) == {"torch", "onnxruntime", "openvino"}
    plot_bench(report, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(Exception, match="is no picture's name"):
        check_plotting(tmp_path / "bench.txt")


def test_a_way_that_fails_leaves_the_others(bed: Bed) -> None:
    report = bed.run({"torch-cpu": None, "onnxruntime-cpu": 0.05})
    assert [row.way.name for row in report.groups[0].rows] == ["onnxruntime-cpu"]
    assert report.groups[0].missing == {TORCH.label: "this way is broken"}
    with pytest.raises(ConfigError, match=r"nothing could be measured of lite: .*this way is broken"):
        bed.run({"torch-cpu": None})


def test_a_network_of_which_nothing_can_be_measured_costs_the_others_nothing(bed: Bed) -> None:
    broken, whole = (
        Subject(name, Path(name), "checkpoint", SIZE, [way], macs=10**8)
        for name, way in (("broken", TORCH), ("whole", ONNX))
    )
    work = bed.bench({"torch-cpu": None, "onnxruntime-cpu": 0.05}, subjects=[broken, whole])
    with pytest.raises(ConfigError, match="nothing could be measured of broken: PyTorch"):
        work.run()
    assert [len(group.rows) for group in work.report().groups] == [0, 1]
    assert "broken at 32x48 -> 128x192 (height x width)\nNot measured: PyTorch" in work.report().as_text()


def test_how_many_ways_are_open_at_once_is_settled_when_the_time_is_promised(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, *[False] * 9])
    monkeypatch.setattr(bench_module, "fits", lambda _bytes: next(answers))
    report = bed.run({"torch-cpu": 0.1, "onnxruntime-cpu": 0.05})
    assert len(report.groups[0].rows) == 2
    turns = "".join(name for name, method in bed.calls if method == "engine")
    assert turns == "toottootto", "both were open at once, as planned"


def test_each_way_keeps_the_yardsticks_of_its_own_rounds(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "fits", lambda _bytes: False)  # one after the other
    told = iter(range(1, 99))
    work = bed.bench({"torch-cpu": 30.0, "onnxruntime-cpu": 0.05})
    monkeypatch.setattr(work, "_yardstick", lambda: float(next(told)))
    torch, onnx = work.run().groups[0].rows
    assert len(torch.engine.rounds_ms) == 3, "time ran out"
    assert torch.yardstick_ms == (1, 2, 3)
    assert onnx.yardstick_ms == tuple(range(4, 4 + len(onnx.engine.rounds_ms)))


def test_all_networks_are_held_against_the_same_peaks(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = [Subject(name, Path(name), "checkpoint", SIZE, [TORCH], macs=10**8) for name in ("a", "b")]
    given, before = [], bench_module.Limits.__init__

    def init(self: Any, exported: Any, peaks: Any) -> None:
        given.append(peaks)
        before(self, exported, peaks)

    monkeypatch.setattr(bench_module.Limits, "__init__", init)
    bed.bench({"torch-cpu": 0.1}, subjects=subjects).run()
    assert len(given) == 2
    assert given[0] is given[1]


@pytest.mark.parametrize(("name", "value"), [("seconds", 1e13), ("film_minutes", 1e13), ("seconds", 0.0)])
def test_times_without_bounds_are_refused(name: str, value: float) -> None:
    subject = Subject("lite", Path("lite.safetensors"), "checkpoint", SIZE, [TORCH])
    with pytest.raises(ConfigError, match=r"--(film|seconds) is .*; give more than 0 and at most (1e\+06|86400)"):
        Bench([subject], speed=(100.0, 1.0), **{name: value})  # type: ignore[arg-type]


def test_the_longest_film_is_told(bed: Bed) -> None:
    report = replace(bed.run({"torch-cpu": 0.1}), film_minutes=MOST_MINUTES)
    row = replace(report.groups[0].rows[0], end_to_end_fps=1e-3)
    assert "A film of 1e+06 minutes" in replace(report, groups=[replace(report.groups[0], rows=[row])]).as_text()


@pytest.mark.parametrize("slower", [1.0, 3.0])
def test_it_takes_no_longer_than_it_said(bed: Bed, slower: float) -> None:
    predicted = 2 * 10**8 / 100e9 / 0.22
    work = bed.bench({"torch-cpu": predicted * slower, "onnxruntime-cpu": 0.6 * predicted * slower}, seconds=20.0)
    seconds = work._pace.promised_s
    assert f"this takes about {seconds:.0f} s" in work.announcement
    report = work.run()
    assert report.promised_s == seconds
    assert 0.5 * seconds < report.took_s <= seconds


def test_where_time_runs_out_rounds_are_left_out_but_never_below_three(bed: Bed) -> None:
    report = bed.run({"torch-cpu": 30.0})
    assert len(report.groups[0].rows[0].engine.rounds_ms) == 3
    assert len(report.groups[0].rows[0].yardstick_ms) == 3


def test_what_a_machine_has_not_is_said_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found, missing = ways_here("checkpoint")
    assert {"torch-cpu", "onnxruntime-cpu"} <= {way.name for way in found}
    assert len(found) + len(missing) == len(all_ways())
    monkeypatch.setattr("ksnet_deploy.measure.speed.ways.check_cuda", lambda _backend: None)
    monkeypatch.setattr("ksnet_deploy.measure.speed.ways.check_runtime", lambda _backend, _device: None)
    monkeypatch.setattr("ksnet_deploy.measure.speed.ways.importlib.util.find_spec", lambda _name: object())
    on_gpu, missing = ways_here("checkpoint")  # a machine that has everything needs no other flag
    assert (len(on_gpu), missing) == (len(all_ways()), {})
    assert [way.name for way in ways_here("engine", "rtx")[0]] == ["rtx"]
    assert {way.takes for way in ways_here("onnx")[0]} == {"onnx"}


def test_without_tensorrt_a_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ksnet_deploy.measure.speed.ways.importlib.util.find_spec", lambda _name: None)
    with pytest.raises(BackendError, match="'tensorrt' extra"):
        check_way(next(way for way in all_ways() if way.name == "tensorrt"))


def test_subjects_are_every_network_at_every_size(
    small: Checkpoint, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    sizes = [FrameSize(32, 48), FrameSize(48, 64)]
    found = find_subjects([str(small.path), "lite"], sizes)
    assert [(s.label, s.size) for s in found] == [(m, s) for m in (str(small.path), "lite") for s in sizes]
    assert find_subjects(["lite"], None)[0].size == FrameSize(180, 320)
    (exported,) = find_subjects([str(small_onnx("32x48"))], None)
    assert (exported.size, exported.kind, exported.precision) == (SIZE, "onnx", "fp32")
    assert exported.is_reference(ONNX)
    assert (exported.macs or 0) > 10**6
    assert found[0].weights_sha256 == sha256_of(small.path)
    assert exported.weights_sha256 == sha256_of(exported.path)
    clip = make_video(tmp_path / "clip.mp4", FrameSize(32, 64))
    assert find_subjects(["lite"], None, clip)[0].size == FrameSize(32, 64)
    with pytest.raises(ConfigError, match="leave --size out"):
        find_subjects(["lite"], [SIZE], clip)
    with pytest.raises(InputError, match="does not exist"):
        find_subjects(["lite"], None, tmp_path / "none.mp4")


def test_what_was_named_twice_is_measured_once(small: Checkpoint, tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(small.path)
    again = [SIZE, SIZE, FrameSize(8, 8), FrameSize(16, 16)]
    assert [s.size for s in find_subjects([str(small.path), str(link)], again)] == [SIZE, FrameSize(16, 16)]


@pytest.mark.slow
def test_a_given_file_runs_in_its_own_precision(
    small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide, half = small_onnx("32x48"), small_onnx("32x48", "float32", precision="fp16")

    def ways_of(path: Path, *, bfloat16: bool) -> list[tuple[str, str, str]]:
        monkeypatch.setattr("ksnet_deploy.measure.speed.ways.has_bfloat16", lambda: bfloat16)
        monkeypatch.setattr("ksnet_deploy.runtime.openvino.has_bfloat16", lambda: bfloat16)
        monkeypatch.setattr("ksnet_deploy.measure.speed.ways.check_way", lambda _way: None)
        (subject,) = find_subjects([str(path)], None)
        return [(way.name, way.label, way.export) for way in subject.ways]

    for bfloat16 in (False, True):
        assert ways_of(wide, bfloat16=bfloat16) == [
            ("onnxruntime-cpu", "ONNX Runtime, CPU, float32", "fp32"),
            ("openvino-cpu-float32", "OpenVINO, CPU, float32", "fp32"),
            ("onnxruntime-cuda-float32", "ONNX Runtime, GPU, float32", "fp32"),
        ]
        kind = "bfloat16" if bfloat16 else "half"
        assert ways_of(half, bfloat16=bfloat16) == [
            ("onnxruntime-cpu-half", "ONNX Runtime, CPU, half", "fp16"),
            (f"openvino-cpu-{kind}", f"OpenVINO, CPU, {kind}", "fp16"),
            ("onnxruntime-cuda", "ONNX Runtime, GPU, half", "fp16"),
        ]
    assert [way.name for way in ways_of_file("onnx", "int8")] == ["onnxruntime-cpu-int8", "openvino-cpu-int8"]
    assert [way.label for way in ways_of_file("engine", "fp32")] == ["TensorRT, float32", "TensorRT-RTX, float32"]


def test_frames_of_a_clip_below_the_networks_smallest_size_are_padded(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", FrameSize(8, 32))
    (subject,) = find_subjects(["lite"], None, clip)
    frames = Footage(subject.size, clip).frames(2)
    assert [FrameSize(*frame.shape[:2]) for frame in frames] == [subject.size] * 2
    assert (frames[0][8:] == frames[0][7]).all()


def test_the_card_is_read_as_nvidia_smi_tells_it() -> None:
    card = Card.parse("NVIDIA GeForce RTX 3080, 575.51, 1100, 2100, 9501, 64, 310.2")
    assert (card.name, card.driver, card.clock_mhz, card.temperature_c) == (
        "NVIDIA GeForce RTX 3080",
        "575.51",
        1100,
        64,
    )
    assert card.thermal_note == "the GPU runs at 1100 of 2100 MHz"
    hot = Card.parse("NVIDIA A100, 575.51, 1400, 1410, 1215, 88, [N/A]")
    assert (hot.power_w, hot.thermal_note) == (None, "the GPU is at 88 degrees, where cards lower their clocks")


def test_a_card_without_nvidia_smi_is_named_by_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_module.shutil, "which", lambda _name: None)
    monkeypatch.setattr(card_module, "find_gpu", lambda: Gpu("NVIDIA H100", 90, 1))
    card = find_card()
    assert card is not None
    assert card.as_text() == "NVIDIA H100"
    assert card.thermal_note is None

    def fail() -> None:
        raise BackendError("there is no NVIDIA driver here")

    monkeypatch.setattr(card_module, "find_gpu", fail)
    assert find_card() is None


def test_the_clocks_are_those_of_the_work_and_not_of_the_rest_after_it(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "NVIDIA A100, 575.51, {}, 1410, 1215, 60, 300"

    def find() -> Card:
        working = bed.calls and bed.calls[-1][1] == "engine"
        return Card.parse(line.format(1400 if working else 210))

    monkeypatch.setattr(bench_module, "find_card", find)
    on_gpu = replace(TORCH, device="cuda")
    report = bed.run({"torch-cpu": 0.1}, ways=[on_gpu])
    assert report.card is not None
    assert (report.card.clock_mhz, report.card.thermal_note) == (1400, None)
    idle = bed.run({"torch-cpu": 0.1}).card
    assert idle is not None
    assert (idle.name, idle.clock_mhz, idle.thermal_note) == ("NVIDIA A100", None, None)


def test_the_peak_of_the_memory_is_that_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(worker_module, "reset_peak_memory", lambda: done.append("reset"))
    runner = ClockedRunner(SIZE, Time(), itertools.repeat(1.0))
    step = runner.timed_step
    monkeypatch.setattr(runner, "timed_step", lambda lr: done.append("step") or step(lr))  # type: ignore[func-returns-value]
    worker = Worker(lambda: runner, Footage(SIZE))
    worker.warm_up(0.0)
    assert done == ["step", "reset"]
    assert worker.device_peak_mb() is None
    runner.backend = "torch"
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        reset_peak_memory_stats=lambda: done.append("device"),
        max_memory_allocated=lambda: 5_000_000,
    )
    monkeypatch.setattr("torch.cuda", cuda)
    worker.warm_up(0.0)
    assert done[2:] == ["step", "reset", "device"]
    assert worker.device_peak_mb() == 5.0


def test_the_bytes_of_a_folder_are_those_of_its_frames(bed: Bed, tmp_path: Path) -> None:
    for index in range(3):
        write_png(tmp_path / f"{index}.png", np.zeros((32, 48, 3), np.uint8))
    (lite,) = bed.bench({"torch-cpu": 0.1})._subjects
    facts = Bench([lite], clip=tmp_path, speed=(100.0, 1.0))._clip_facts
    size = (tmp_path / "0.png").stat().st_size
    assert facts == {"name": tmp_path.name, "bytes": 3 * size, "fps": float(DEFAULT_RATE)}


def test_the_film_has_the_clips_frames_a_second(bed: Bed, tmp_path: Path) -> None:
    clip = make_video(tmp_path / "fast.mp4", SIZE, pts=[256 * index for index in range(4)])
    work = bed.bench({"torch-cpu": 0.1})
    work.run()
    usual = work.report()
    (film,) = (group["film"] for group in usual.as_dict()["groups"])
    work._clip_facts = Bench(work._subjects, clip=clip, speed=(100.0, 1.0))._clip_facts
    (fast,) = (group["film"] for group in work.report().as_dict()["groups"])
    assert (film["fps"], fast["fps"]) == (24, 50)
    assert fast["takes_s"] == pytest.approx(film["takes_s"] * 50 / 24)
    assert "at 50 frames a second" in work.report().as_text()


def test_layers_are_shares_of_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = ClockedRunner(SIZE, Time(), itertools.repeat(1.0))
    worker = Worker(lambda: runner, Footage(SIZE))
    assert worker.layers() == {}
    told = iter([{"a": 99.0}, {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}, {"b": 2.0}])
    monkeypatch.setattr(runner, "layer_times", lambda _lr: next(told))
    assert worker.layers() == {"b": 0.75, "a": 0.25}


@pytest.mark.slow
def test_a_real_run_measures_in_processes_of_their_own(small: Checkpoint) -> None:
    (subject,) = find_subjects([str(small.path)], [SIZE])
    subject = replace(subject, ways=[TORCH, ONNX])
    torch, onnx = Bench([subject], seconds=0.5).run().groups[0].rows
    assert onnx.psnr_db is not None
    assert onnx.psnr_db > 50
    # PyTorch alone is larger than this, and it is not loaded where ONNX Runtime is measured.
    assert torch.peak_memory_mb > 150
    assert 20 < onnx.peak_memory_mb < torch.peak_memory_mb
    for row in (torch, onnx):
        assert row.engine.samples >= 3
        assert row.end_to_end_fps > 0
        assert row.floor is not None
