from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs a checkout")


@pytest.mark.parametrize(
    ("switch", "code", "words"),
    [
        ("AUTO", 0, "pure Python"),
        ("OFF", 0, ""),
        ("ON", 1, "TensorRT's C++ headers were not found"),
        ("MAYBE", 1, "must be AUTO"),
    ],
)
def test_the_plugin_switch_says_what_it_does(tmp_path: Path, switch: str, code: int, words: str) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    result = subprocess.run(
        ["cmake", "-S", str(ROOT), "-B", str(tmp_path), f"-DKSNET_PLUGINS={switch}"],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("TENSORRT_")},
    )
    assert result.returncode == code, result.stderr
    assert words in " ".join((result.stdout + result.stderr).split())


@pytest.mark.slow
def test_the_wheel_holds_everything_once(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    for needed in (
        "ksnet_deploy/cli/app.py",
        "ksnet_deploy/export/onnx.py",
        "ksnet_deploy/bundled/bi.safetensors",
        "ksnet_deploy/bundled/lite.safetensors",
        "ksnet_deploy/bundled/lite-video.safetensors",
        "ksnet_deploy/bundled/uni.safetensors",
        "ksnet_deploy/bundled/models.json",
        "ksnet_deploy/training/loop.py",
        "ksnet_deploy/web/look.css",
        "ksnet_deploy/web/page.js",
        "ksnet_deploy/bundled/MODEL_CARD.md",
        "ksnet_deploy/bundled/city_lr.mp4",
        "ksnet_deploy/native/plugins/CMakeLists.txt",
        "ksnet_deploy/native/plugins/align/align.cu",
        "ksnet_deploy/native/plugins/deform_conv/deform_conv.cu",
    ):
        assert needed in names
    pages = ROOT / "ksnet_deploy" / "measure" / "pages"
    for template in sorted((pages / "templates").iterdir()):  # a page cannot be made without one of them
        assert template.relative_to(ROOT).as_posix() in names
    assert not [name for name in names if name.startswith(("docs/", "examples/", "export/", "scripts/", "tests/"))]
