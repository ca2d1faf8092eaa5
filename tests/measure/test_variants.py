"""LR as videos have it: kernels, what is drawn, evaluation of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import ArrayClip, folder_of_frames, moving_grain, noise
from command import run
from runners import RepeatRunner

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.measure import front
from ksnet_deploy.measure.degradation import degrade
from ksnet_deploy.measure.evaluation import BicubicMethod, evaluate
from ksnet_deploy.measure.kernels import KERNELS, KernelName, reduce_frames, reduction_matrix
from ksnet_deploy.measure.variants import CODEC_SHARES, QUALITIES, Variant, make_variant, variant_in_words


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_has_the_phase_of_bicubic(kernel: KernelName) -> None:
    rows, columns = np.mgrid[:96, :128]
    blob = 200 * np.exp(-((rows - 41.3) ** 2 + (columns - 62.6) ** 2) / (2 * 7.0**2))
    hr = np.repeat(np.rint(blob)[..., None], 3, axis=2).astype(np.uint8)
    lr = reduce_frames(hr, kernel, 1.6)[..., 0].astype(float)
    y, x = np.mgrid[:24, :32]
    centroid = np.array([(lr * y).sum(), (lr * x).sum()]) / lr.sum()
    # An HR pixel p lies at (p + 0.5) / 4 - 0.5 of the LR frame.
    assert centroid == pytest.approx([(41.3 + 0.5) / 4 - 0.5, (62.6 + 0.5) / 4 - 0.5], abs=0.05)
    assert reduction_matrix(96, kernel, 1.6).sum(axis=1) == pytest.approx(np.ones(24), abs=1e-5)


def test_the_bicubic_kernel_is_the_benchmarks() -> None:
    hr = noise(2, 32, 48, 3)
    np.testing.assert_array_equal(reduce_frames(hr, "bicubic"), degrade(hr, "BI"))


def test_a_version_depends_on_seed_name_and_number_alone() -> None:
    hr = moving_grain(4, 64, 96)
    first = make_variant(hr, "a", 1, 0)
    again = make_variant(hr, "a", 1, 0)
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    others = [make_variant(hr, *key)[1] for key in (("b", 1, 0), ("a", 2, 0), ("a", 1, 1))]
    assert len({json.dumps({**facts, "seed": None}) for facts in (first[1], *others)}) == 4


def test_versions_are_as_various_as_videos() -> None:
    rng = np.random.default_rng(0)
    drawn = [Variant.draw(rng) for _ in range(2000)]
    clean = [variant for variant in drawn if variant.compression is None]
    encoded = [variant.compression for variant in drawn if variant.compression is not None]
    assert len(clean) / len(drawn) == pytest.approx(0.2, abs=0.03)
    assert not any(variant.noise for variant in clean)
    assert {variant.kernel for variant in clean} == set(KERNELS)
    for codec, share in CODEC_SHARES.items():
        those = [compression for compression in encoded if compression.codec == codec]
        assert len(those) / len(encoded) == pytest.approx(share, abs=0.03)
        assert (min(c.quality for c in those), max(c.quality for c in those)) == QUALITIES[codec]
    assert max(CODEC_SHARES, key=lambda codec: CODEC_SHARES[codec]) == "h264"
    assert len({(c.preset, c.gop) for c in encoded if c.codec == "h264"}) == 20


def test_noise_is_drawn_and_of_the_size_that_is_told() -> None:
    hr = np.full((8, 64, 64, 3), 128, np.uint8)
    lr = Variant("area", 0.0, 2.0, None).apply(hr, np.random.default_rng(0))
    assert float(lr.astype(float).std()) == pytest.approx(2.0, rel=0.1)
    assert float(np.diff(lr.astype(int), axis=0).std()) > 2.0, "another in every frame"


def test_each_clip_is_evaluated_on_the_first_version_that_pack_would_make() -> None:
    hr, seen = moving_grain(20, 64, 96), []

    class Recorder(BicubicMethod):
        def enlarge(self, lrs: Any) -> Any:
            seen[:] = lrs
            return super().enlarge(iter(seen))

    report = evaluate([(ArrayClip(hr), None)], Recorder(), "folder", degradation="video")
    lr, facts = make_variant(hr, report.clips[0].name, 0, 0)
    np.testing.assert_array_equal(np.stack(seen), lr)
    assert report.clips[0].variant == facts
    assert report.as_dict()["clips"][0]["variant"] == facts
    assert report.degradation == "video"
    assert report.as_text().splitlines()[2].endswith(f"  {variant_in_words(facts)}")
    assert not report.published()


def test_frames_above_a_multiple_of_four_are_left_out_of_versions_as_of_all_else() -> None:
    hr = moving_grain(3, 66, 99)
    whole = evaluate([(ArrayClip(hr[:, :64, :96]), None)], BicubicMethod(), "folder", degradation="video")
    assert evaluate([(ArrayClip(hr), None)], BicubicMethod(), "folder", degradation="video") == whole


def test_versions_are_told_in_words() -> None:
    base = {"kernel": "gaussian", "noise": 1.46}
    vp9 = {"codec": "vp9", "quality": 41, "preset": "2", "gop": 30}
    assert variant_in_words({**base, "compression": vp9}) == "gaussian, noise 1.5, vp9 CRF 41"
    assert variant_in_words({"kernel": "area", "noise": 0.0, "compression": None}) == "area, clean"


def test_bicubic_stands_beside_a_network_on_such_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: RepeatRunner(size, io)
    )
    hr = folder_of_frames(tmp_path / "a", moving_grain(3, 64, 96))
    report = front.evaluate(hr, "lite", degradation="video")
    assert report.bicubic is not None
    assert report.bicubic.clips == front.evaluate(hr, method="bicubic", degradation="video").clips
    answer = json.loads(run("evaluate", hr, "--degradation", "video", "--method", "bicubic", "--json").stdout)
    assert answer["mean"]["psnr_db"] == report.bicubic.mean("psnr_db")
    assert answer["clips"][0]["variant"]["seed"] == 0


def test_an_encoder_is_not_given_beside_those_that_are_drawn() -> None:
    with pytest.raises(ConfigError, match="--degradation video draws an encoder for each clip, so --codec vp9"):
        front.evaluate("none", degradation="video", codec="vp9")
    with pytest.raises(ConfigError, match="LR is given by --lr, so --degradation video has no effect"):
        front.evaluate("none", degradation="video", lr="low")
