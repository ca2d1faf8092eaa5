"""A machine with a GPU, PyTorch and nothing of ours: what it is lent for imports, and its tests are collected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = (
    "cli.app",
    "training.run",
    "measure.speed",
    "export.cache",
    "export.onnx",
    "ops.native",
    "ops.library",
    "runtime.torch",
    "runtime.onnx",
    "runtime.tensorrt.runner",
    "upscale.upscaler",
)
BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('av', 'platformdirs', 'psutil', 'matplotlib', 'scenedetect', 'cuda'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.slow
def test_no_module_that_a_gpu_needs_wants_what_pytorch_does_not_bring() -> None:
    code = BLOCK + "".join(f"import ksnet_deploy.{module}\n" for module in MODULES)
    code += "sys.path.insert(0, 'benchmarks')\nimport gpu\n"
    code += "ksnet_deploy.ops.library.find_kernel_library()\n"  # or None, as where nothing was built
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "command", [("export", "x.onnx"), ("export", "x.onnx", "--verify-frames", "0"), ("build-engine", "--gpu", "sm86")]
)
def test_a_command_without_its_library_says_what_to_install(command: tuple[str, ...], tmp_path: Path) -> None:
    code = BLOCK.replace("'av'", "'onnxruntime'") + "from ksnet_deploy.cli.app import main\nmain()\n"
    run = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode == 1
    assert "onnxruntime is not installed" in run.stderr or "ONNX Runtime is not installed" in run.stderr
    assert "extra" in run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tests_are_collected_without_pyav() -> None:
    code = BLOCK + "import pytest\nsys.exit(pytest.main(['-q', '--collect-only', *sys.argv[1:]]))\n"
    files = ["tests/ops/test_native_kernels.py", "tests/runtime", "tests/network"]
    run = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == pytest.ExitCode.OK, run.stdout[-2000:]
