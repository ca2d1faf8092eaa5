"""Two results of a benchmark against each other: what counts as slower, and what cannot be compared."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from benches import ONNX, Bed

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.measure.speed import bench as bench_module
from ksnet_deploy.measure.speed.regression import (
    changes,
    check_common,
    check_comparable,
    gone,
    read_result,
    sealed,
)
from ksnet_deploy.measure.speed.surroundings import differences
from ksnet_deploy.network.bundled import bundled_checkpoint

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("bench-*.json")), ids=lambda path: path.stem)
def test_kept_results_are_as_they_were_printed(path: Path) -> None:
    groups = read_result(path)["groups"]
    assert all(group["weights_sha256"] == sha256_of(bundled_checkpoint(group["model"])) for group in groups)


@pytest.mark.slow
def test_ten_identical_runs_are_no_cry_of_wolf_even_as_the_machines_speed_changes(bed: Bed) -> None:
    runs = [bed.result(seed, drift=1 + 0.1 * seed) for seed in range(10)]
    verdicts = [c.verdict for old, new in itertools.pairwise(runs) for c in changes(old, new)]
    assert verdicts == ["the same"] * 18
    assert {c.verdict for c in changes(runs[0], runs[-1])} == {"the same"}


def test_a_step_that_was_made_slower_is_caught(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(bed.result(1)))
    torch, onnx = changes(read_result(tmp_path / "old.json"), bed.result(2, slow=1.5, drift=0.7))
    assert (torch.verdict, onnx.verdict) == ("the same", "slower")
    assert "onnxruntime-cpu: slower" in onnx.as_text()
    assert changes(bed.result(2, slow=1.5), bed.result(1))[1].verdict == "faster"


def test_results_that_cannot_be_compared_are_refused(bed: Bed, tmp_path: Path) -> None:
    old = bed.result(1)
    check_comparable(old, old["machine"], old["cores"], None, old["instruction_sets"])
    with pytest.raises(ConfigError, match="compare results of one machine"):
        check_comparable(old, "another", old["cores"], None, None)
    with pytest.raises(ConfigError, match="compare results of one machine"):
        check_comparable(old, old["machine"], old["cores"], "RTX 3080", None)
    of_card: dict[str, Any] = {"groups": [], "machine": "x", "cores": 2}
    odd: list[dict[str, Any]] = [{"instruction_sets": 3}, {"versions": 3}, {"clip": 3}, {"groups": [3]}]
    for text in (
        *("{}", "[1]", "none", '{"groups": [{"rows": [{}]}]}', '{"groups": []}', "[" * 100_000),
        *(json.dumps(of_card | {"card": card}) for card in (3, "RTX 3080", {})),
        *(json.dumps(of_card | {"card": None} | each) for each in odd),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match="is no result of 'ksnet-deploy bench --json'"):
            read_result(tmp_path / "bad.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_result(tmp_path / "none.json")


def test_a_result_in_which_a_digit_was_changed_is_refused(bed: Bed, tmp_path: Path) -> None:
    old, path = bed.result(1), tmp_path / "old.json"
    text = json.dumps(sealed(old))
    laid_out_anew = text.replace(".0,", ",")  # as jq does
    for whole in (text, laid_out_anew):
        path.write_text(whole)
        assert read_result(path) == json.loads(json.dumps(old))
    number = str(old["groups"][0]["rows"][0]["engine"]["rounds_ms"][0])
    path.write_text(text.replace(number, f"1{number}", 1))
    with pytest.raises(InputError, match=r"old\.json is not what .bench --json. printed: it is damaged"):
        read_result(path)


def test_a_result_of_something_else_is_refused_before_measuring(bed: Bed) -> None:
    old, work = bed.result(1), bed.bench({"torch-cpu": 0.1})
    check_common(old, work.planned)
    for text in (("32x48", "64x64"), ('"lite"', '"uni"'), ("torch-cpu", "torch-cuda")):
        other = json.loads(json.dumps(old).replace(*text))
        other["groups"][0]["rows"] = other["groups"][0]["rows"][:1]
        with pytest.raises(ConfigError, match=r"none of what would be measured now, but (lite|uni) at .*give the same"):
            check_common(other, work.planned)
    with pytest.raises(ConfigError, match="but nothing"):
        check_common(old | {"groups": []}, work.planned)


@pytest.mark.parametrize("time", ["0", "-5.0", "NaN", "Infinity", "-0.0", "1e-320"])
@pytest.mark.parametrize("where", ["rounds_ms", "yardstick_ms"])
def test_times_that_nothing_takes_are_refused_before_measuring(bed: Bed, tmp_path: Path, time: str, where: str) -> None:
    old = bed.result(1)
    row = old["groups"][0]["rows"][0]
    (row["engine"] if where == "rounds_ms" else row)[where][1] = json.loads(time)
    (tmp_path / "old.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match=r"old\.json has a time of .* for lite 32x48 torch-cpu, which no step takes"):
        read_result(tmp_path / "old.json")


def test_ways_that_ran_one_after_the_other_are_compared_by_their_own_yardsticks(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "fits", lambda _bytes: False)
    calm = bed.result(1)
    torch, _ = calm["groups"][0]["rows"]
    torch["engine"]["rounds_ms"] = [2 * time for time in torch["engine"]["rounds_ms"]]
    torch["yardstick_ms"] = [2 * time for time in torch["yardstick_ms"]]  # the machine was slow while it alone ran
    assert [change.verdict for change in changes(bed.result(2), calm)] == ["the same", "the same"]


def test_a_result_of_an_older_version_is_still_compared(bed: Bed, tmp_path: Path) -> None:
    new = bed.result(1)
    (tmp_path / "old.json").write_text(json.dumps(_as_older_versions_have_it(bed.result(2))))
    old = read_result(tmp_path / "old.json")
    assert [change.verdict for change in changes(old, new)] == ["the same", "the same"]
    old["groups"][0]["yardstick_ms"].pop()
    (tmp_path / "old.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match="has 4 yardsticks beside the 5 rounds of lite 32x48 torch-cpu"):
        read_result(tmp_path / "old.json")


def test_a_way_that_fails_now_is_told(bed: Bed) -> None:
    old = bed.result(1)
    new = json.loads(json.dumps(bed.run({"torch-cpu": 0.1, "onnxruntime-cpu": None}).as_dict()))
    (lost,) = gone(old, new)
    assert lost.as_text() == "lite 32x48 onnxruntime-cpu: gone, the older result has it; this way is broken"
    assert lost.as_dict()["verdict"] == "gone"
    new["groups"][0]["missing"].pop(ONNX.label)
    assert "not asked for now" in gone(old, new)[0].as_text()
    assert gone(old | {"groups": []}, new) == gone(new, old) == []


def test_another_processor_of_the_same_name_is_refused(bed: Bed) -> None:
    old = bed.result(1) | {"instruction_sets": ["avx2", "avx512f"]}
    name, cores = old["machine"], old["cores"]
    check_comparable(old, name, cores, None, ["avx512f", "avx2"])
    with pytest.raises(ConfigError, match="with avx2, avx512f, and this one has avx2; compare results of one machine"):
        check_comparable(old, name, cores, None, ["avx2"])
    for unknown in (old | {"instruction_sets": None}, _as_older_versions_have_it(old)):
        check_comparable(unknown, name, cores, None, ["avx2"])


def test_what_else_differs_is_noted(bed: Bed) -> None:
    new = bed.result(1) | {"instruction_sets": ["avx2"]}
    assert differences(new, new) == []
    group = new["groups"][0]
    group["weights_sha256"], group["rows"][1]["kernel"] = "a" * 64, "native kernel, avx2"
    old = json.loads(json.dumps(new)) | {"version": "0.0.9", "threads": 96, "clip": {"name": "a.mkv", "bytes": 5}}
    old["versions"]["onnxruntime"] = "1.0"
    old["groups"][0]["weights_sha256"], old["groups"][0]["rows"][1]["kernel"] = "b" * 64, "standard operators"
    noted = "\n".join(differences(old, new))
    for words in (
        f"ksnet-deploy's version: 0.0.9 in the older result, {new['version']} now",
        "onnxruntime's version: 1.0 in the older",
        "threads: 96 in the older",
        "clip: a.mkv, 5 bytes in the older result, none now",
        "weights of lite at 32x48: bbbbbbbbbbbb in the older result, aaaaaaaaaaaa now",
        "alignment of lite at 32x48, onnxruntime-cpu: standard operators in the older result, native kernel, avx2 now",
    ):
        assert words in noted
    (unknown,) = differences(_as_older_versions_have_it(old) | {"version": new["version"]}, new)
    assert unknown.startswith("the older result does not tell: torch's version, ")
    assert unknown.endswith("instruction sets, threads, clip, weights, alignment")


def test_a_gpus_row_claims_no_yardstick(bed: Bed) -> None:
    old, new = bed.result(1), bed.result(2)
    for result in (old, new):
        result["groups"][0]["rows"][0]["device"] = "cuda"
    on_gpu, on_cpu = changes(old, new)
    assert "as it was, without a yardstick" in on_gpu.as_text()
    assert "at the same speed of the machine" in on_cpu.as_text()


def _as_older_versions_have_it(result: dict[str, Any]) -> dict[str, Any]:
    (group,) = result["groups"]
    rows = [{name: value for name, value in row.items() if name != "kernel"} for row in group["rows"]]
    yardsticks = [row.pop("yardstick_ms") for row in rows]
    older = {**group, "rows": rows, "yardstick_ms": yardsticks[-1]}
    del older["weights_sha256"]
    new_names = ("instruction_sets", "threads", "versions", "clip")
    return {name: value for name, value in result.items() if name not in new_names} | {"groups": [older]}
