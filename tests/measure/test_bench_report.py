"""What a benchmark says: floors, the film, the paper's row."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from benches import Bed

from ksnet_deploy.measure.limits.floor import Floor
from ksnet_deploy.measure.limits.peaks import Peaks
from ksnet_deploy.measure.speed.report import BenchReport


def _with_floor(report: BenchReport, ms: float) -> BenchReport:
    """The report with another floor of its first row."""
    group = report.groups[0]
    floor = Floor(ms, ms, ms, 1.0, 1.0, Peaks(1e11, 1e10, "stand-ins"))
    return replace(report, groups=[replace(group, rows=[replace(group.rows[0], floor=floor), *group.rows[1:]])])


def test_values_tell_the_time_of_the_film_too(bed: Bed) -> None:
    report = replace(bed.run({"torch-cpu": 0.1, "onnxruntime-cpu": 0.05}), film_minutes=2.0)
    film = report.as_dict()["groups"][0]["film"]
    fastest = report.groups[0].fastest
    assert film == {"minutes": 2.0, "fps": 24, "way": fastest.way.name, "takes_s": 2880 / fastest.end_to_end_fps}
    nothing = replace(report, groups=[replace(report.groups[0], rows=[])])
    assert nothing.as_dict()["groups"][0]["film"] is None


@pytest.mark.parametrize(("ms", "said"), [(0.652, "0.652 ms"), (6.021, "6.02 ms"), (1107.2, "1107 ms")])
def test_a_limit_is_told_as_finely_as_it_is_short(bed: Bed, ms: float, said: str) -> None:
    report = _with_floor(bed.run({"torch-cpu": 0.1}), ms)
    assert f"Limit of PyTorch eager, CPU, float32: {said} (" in report.as_text()


def test_a_limit_that_a_step_goes_beyond_is_no_limit(bed: Bed) -> None:
    report = bed.run({"torch-cpu": 0.1})
    assert "this one was measured while the machine was slower" in _with_floor(report, 101.0).as_text()
    assert "this one was measured while the machine was slower" not in _with_floor(report, 99.0).as_text()


def test_every_line_of_the_table_has_all_columns(bed: Bed) -> None:
    table = list(csv.reader(io.StringIO(bed.run({"torch-cpu": 0.1}).as_csv())))
    assert {len(line) for line in table} == {13}
    assert dict(zip(table[0], table[-1], strict=True))["engine_fps"] == "32.3"


def test_layers_of_an_engine_have_their_line_and_stand_with_its_row(bed: Bed) -> None:
    report = bed.run({"torch-cpu": 0.1, "onnxruntime-cpu": 0.05})
    assert "profiler, without a graph" not in report.as_text()
    group = report.groups[0]
    told = replace(group.rows[1], layers={"CaskConvolution": 0.75, "kgen": 0.25})
    with_layers = replace(report, groups=[replace(group, rows=[group.rows[0], told])])
    line = "by TensorRT's profiler, without a graph: CaskConvolution 75%, kgen 25%."
    assert f"Layers of ONNX Runtime, CPU, float32, {line}" in with_layers.as_text()
    assert [row["layers"] for row in with_layers.as_dict()["groups"][0]["rows"]] == [{}, told.layers]
