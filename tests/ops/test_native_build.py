"""Building the native library and loading it into TensorRT-RTX."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.ops import library as plugins
from ksnet_deploy.ops.library import build_plugins, find_kernel_library, find_plugin_library, rtx_preflight_environment
from ksnet_deploy.ops.native import KernelLibrary

ROOT = Path(__file__).parents[2]
HEADERS = [Path(folder) for folder in os.environ.get("TENSORRT_INCLUDE_DIR", "").split(os.pathsep) if folder]
"""Folders of TensorRT's headers, of one version or of several."""
pytestmark = [
    pytest.mark.skipif(not (ROOT / "plugins").is_dir(), reason="needs a checkout"),
    pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake"),
]
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
needs_headers = pytest.mark.skipif(
    not HEADERS, reason="needs TensorRT's headers in TENSORRT_INCLUDE_DIR, which no package carries"
)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No library and no headers but those that a test asks for, and warnings as errors."""
    for variable in ("KSNET_PLUGIN_LIBRARY", "KSNET_KERNEL_LIBRARY", "TENSORRT_INCLUDE_DIR", "TENSORRT_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(plugins, "plugin_folder", lambda: tmp_path / "plugins")
    monkeypatch.setattr(plugins, "_package_folders", lambda: [tmp_path / "ksnet_deploy"])
    monkeypatch.setattr(plugins, "_sources", lambda: ROOT / "plugins")
    monkeypatch.setenv("CXXFLAGS", "-Werror")
    monkeypatch.setenv("CUDAFLAGS", "--Werror=all-warnings -Xcompiler=-Werror")


def configure(folder: Path, *options: str) -> tuple[int, str]:
    """Exit code and output, on one line, of CMake on the top-level project."""
    command = ["cmake", "-S", str(ROOT), "-B", str(folder), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, " ".join((result.stdout + result.stderr).split())


@pytest.mark.slow
@needs_nvcc
def test_the_kernel_library_compiles_without_a_warning_and_loads() -> None:
    assert find_kernel_library() is None
    lines: list[str] = []
    library = build_plugins(kernels_only=True, architectures=["86-real"], on_line=lines.append)
    assert any("architectures 86-real" in line for line in lines)
    assert find_kernel_library() == library
    assert not list(library.parent.glob("*.part"))
    KernelLibrary(library)
    assert exported_symbols(library) == {
        "ksnet_align",
        "ksnet_align_workspace",
        "ksnet_concatenate",
        "ksnet_deform_conv",
        "ksnet_deform_conv_workspace",
        "ksnet_epilogue",
        "ksnet_error_string",
        "ksnet_flow_input",
        "ksnet_interface",
        "ksnet_narrow_conv",
        "ksnet_narrow_conv_runs",
        "ksnet_picture",
        "ksnet_topk_split",
        "ksnet_topk_split_workspace",
        "ksnet_warp",
    }


def exported_symbols(library: Path) -> set[str]:
    listed = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in listed.stdout.splitlines()}


@pytest.mark.slow
@needs_nvcc
def test_the_kernel_library_compiles_for_every_architecture() -> None:
    lines: list[str] = []
    build_plugins(kernels_only=True, on_line=lines.append)
    assert any("75-real" in line and "-virtual" in line for line in lines)


@pytest.mark.parametrize("switch", ["AUTO", "ON"])
def test_without_headers_the_switch_says_what_was_looked_for(tmp_path: Path, switch: str) -> None:
    if find_system_headers():
        pytest.skip("this machine has TensorRT's headers")
    code, output = configure(tmp_path / "build", f"-DKSNET_PLUGINS={switch}")
    assert code == (0 if switch == "AUTO" else 1)
    assert ("installing pure Python" in output) == (switch == "AUTO")
    assert "looked for NvInferRuntime.h in TENSORRT_INCLUDE_DIR, TENSORRT_ROOT" in output
    assert "set TENSORRT_ROOT" in output


def find_system_headers() -> bool:
    folders = ("/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/local/include")
    return any(Path(folder, "NvInferRuntime.h").is_file() for folder in folders)


@pytest.mark.parametrize("variable", ["TENSORRT_INCLUDE_DIR", "TENSORRT_ROOT"])
@pytest.mark.parametrize(("switch", "expected"), [("AUTO", 0), ("ON", 1)])
def test_a_folder_without_headers_is_named(tmp_path: Path, variable: str, switch: str, expected: int) -> None:
    code, output = configure(tmp_path / "build", f"-DKSNET_PLUGINS={switch}", f"-D{variable}={tmp_path}")
    assert code == expected
    assert f"{variable} is {tmp_path}, which has no NvInferRuntime.h" in output


def test_headers_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "NvInferRuntime.h").touch()
    (tmp_path / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 8 //!< TensorRT major version.\n")
    code, output = configure(tmp_path / "build", "-DKSNET_PLUGINS=ON", f"-DTENSORRT_INCLUDE_DIR={tmp_path}")
    assert code == 1
    assert f"{tmp_path} is of TensorRT 8; the plugins need version 10 or later" in output


def test_without_a_cuda_compiler_the_build_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("-DKSNET_PLUGINS=ON", "-DKSNET_KERNELS_ONLY=ON")
    for variable in ("CUDACXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    folders = [folder for folder in os.environ["PATH"].split(":") if (Path(folder) / "nvcc").exists()]
    ignored = ";".join([*folders, "/usr/local/cuda/bin", "/opt/cuda/bin"])
    code, output = configure(tmp_path / "none", *options, f"-DCMAKE_IGNORE_PATH={ignored}")
    assert code == 1
    assert "no CUDA compiler was found: looked for nvcc in" in output
    monkeypatch.setenv("CUDACXX", "/absent/nvcc")
    code, output = configure(tmp_path / "absent", *options)
    assert code == 1
    assert "the CUDA compiler /absent/nvcc does not run" in output


def test_missing_tools_and_headers_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="holds no TensorRT headers: neither it nor its include has"):
        build_plugins(tensorrt=tmp_path)
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path))
    with pytest.raises(BackendError, match=r"cannot be built: TENSORRT_ROOT is .*, which has no NvInferRuntime.h"):
        build_plugins()
    monkeypatch.delenv("TENSORRT_ROOT")
    monkeypatch.delenv("TENSORRT_INCLUDE_DIR", raising=False)
    if not find_system_headers() and shutil.which("nvcc"):
        with pytest.raises(BackendError, match=r"pass --fetch-headers to download them$"):
            build_plugins()
    monkeypatch.setattr(plugins.shutil, "which", lambda _: None)
    with pytest.raises(BackendError, match="needs cmake, which was not found"):
        build_plugins()


@pytest.mark.slow
@needs_nvcc
def test_a_failed_compilation_ends_in_the_compilers_own_words() -> None:
    with pytest.raises(BackendError, match=r"did not compile: nvcc fatal.*Unsupported gpu architecture"):
        build_plugins(kernels_only=True, architectures=["35-real"])
    assert find_kernel_library() is None


def test_libraries_are_found_by_name_in_the_users_and_the_packages_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged, built = tmp_path / "ksnet_deploy/lib/libksnet_plugins.so", tmp_path / "plugins/libksnet_plugins.so"
    for expected in (packaged, built):  # what the user built goes before what was installed
        expected.parent.mkdir(parents=True)
        expected.touch()
        assert find_plugin_library() == find_kernel_library() == expected
    monkeypatch.setenv("KSNET_PLUGIN_LIBRARY", str(packaged))
    assert find_plugin_library() == packaged
    monkeypatch.setenv("KSNET_PLUGIN_LIBRARY", str(tmp_path / "absent.so"))
    with pytest.raises(BackendError, match=r"KSNET_PLUGIN_LIBRARY names .*absent\.so, which is not a file"):
        find_plugin_library()


def test_the_preflight_link_resolves_to_the_packages_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("tensorrt_rtx_libs") is None:
        with pytest.raises(BackendError, match=r"install TensorRT-RTX with pip install 'ksnet-deploy\[rtx\]'"):
            rtx_preflight_environment(tmp_path)
        return
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    for _ in range(2):
        environment = rtx_preflight_environment(tmp_path)
    assert environment["LD_LIBRARY_PATH"] == f"{tmp_path}:/elsewhere"
    assert (tmp_path / "libtensorrt_rtx.so").resolve().name.startswith("libtensorrt_rtx.so.")


# Runs in a child process: parse one network with all operators, then build it for an RTX 3080. One alignment follows a
# flow, at half resolution, the other is at rest.
BUILD_ENGINE = """
import sys
import onnx, onnx.helper as h
import tensorrt_rtx as trt
from pathlib import Path
from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.ops.library import load_plugins

library, kind, size, k = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
stride = int(sys.argv[5])
height, width, raw_height, raw_width = (size, "w", "rh", "rw") if size == "h" else (20, 36, 10, 18)
with_plugin = dict(domain="ksnet", plugin_namespace="ksnet", plugin_version="1")
of_two, kernel = dict(offset_group=2, **with_plugin), ("kernel", "zeros")
float32 = onnx.TensorProto.FLOAT
info = h.make_tensor_value_info
graph = h.make_graph(
    [
        h.make_node("KsAlign", ["x", *kernel, "raw", "flow"], ["u"], offset_stride=stride, **of_two),
        h.make_node("KsAlign", ["u", *kernel, "raw_1"], ["v"], offset_stride=1, **of_two),
        h.make_node("KsDeformConv2d", ["v", "weight", "offset", "bias", "mask"], ["y"], **of_two),
        h.make_node("KsTopKSplit", ["y", "o", "lam"], ["con", "dis"], k=k, **with_plugin),
    ],
    "all",
    [
        info("x", kind, [1, 8, height, width]),
        info("raw", kind, [1, 54, raw_height, raw_width]),
        info("raw_1", kind, [1, 54, height, width]),
        info("flow", float32, [1, 4, height, width]),
        info("offset", float32, [1, 36, height, width]),
        info("mask", kind, [1, 18, height, width]),
        info("o", float32, [1, 1, height, width]),
        info("lam", float32, [1]),
    ],
    [info("con", kind, None), info("dis", kind, None)],
    [
        h.make_tensor("kernel", kind, [8, 8, 3, 3], [0.5] * 576),
        h.make_tensor("zeros", kind, [8], [0.0] * 8),
        h.make_tensor("weight", kind, [12, 8, 3, 3], [0.5] * 864),
        h.make_tensor("bias", kind, [12], [0.5] * 12),
    ],
)
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 20), h.make_opsetid("ksnet", 1)], ir_version=10)
logger = trt.Logger(trt.Logger.ERROR)
load_plugins(trt, library)
load_plugins(trt, library)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
if not parser.parse(model.SerializeToString()):
    sys.exit("not parsed")
config = builder.create_builder_config()
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM86, 0)
if size == "h":
    profile = builder.create_optimization_profile()
    for name, channels in (("x", 8), ("raw_1", 54), ("flow", 4), ("offset", 36), ("mask", 18), ("o", 1)):
        profile.set_shape(name, (1, channels, 8, 8), (1, channels, 20, 36), (1, channels, 64, 64))
    profile.set_shape("raw", (1, 54, 4, 4), (1, 54, 10, 18), (1, 54, 32, 32))
    config.add_optimization_profile(profile)
engine = builder.build_serialized_network(network, config)
layers = [network.get_layer(i) for i in range(network.num_layers)]
print(sum(layer.type == trt.LayerType.PLUGIN_V3 for layer in layers), "plugin layers,", end=" ")
print([tuple(network.get_output(i).shape) for i in range(2)], network.get_output(0).dtype.name, end=" ")
print("built" if engine is not None and engine.nbytes > 1000 else "not built")
"""


@pytest.fixture(scope="module", params=HEADERS or [None], ids=str)
def plugin_library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled with headers that the environment names, for an RTX 3080 and an H100, warnings as errors."""
    folder = tmp_path_factory.mktemp("plugins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "plugin_folder", lambda: folder)
        patch.setenv("CXXFLAGS", "-Werror")
        patch.setenv("CUDAFLAGS", "--Werror=all-warnings -Xcompiler=-Werror")
        return build_plugins(tensorrt=request.param, architectures=["86-real", "90-real"])


@needs_nvcc
@needs_headers
def test_the_plugin_library_exports_what_tensorrt_looks_for_and_links_nothing_of_it(plugin_library: Path) -> None:
    assert {
        "getCreators",
        "setLoggerFinder",
        "ksnet_align",
        "ksnet_deform_conv",
        "ksnet_topk_split",
    } <= exported_symbols(plugin_library)
    KernelLibrary(plugin_library)
    needed = subprocess.run(["readelf", "-d", str(plugin_library)], capture_output=True, text=True, check=True).stdout
    assert "nvinfer" not in needed
    assert "libcudart" not in needed


def run_build(tmp_path: Path, library: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("needs TensorRT-RTX")
    return subprocess.run(
        [sys.executable, "-c", BUILD_ENGINE, str(library), *map(str, arguments)],
        env=rtx_preflight_environment(tmp_path / "link"),
        capture_output=True,
        text=True,
        check=False,
    )


@needs_nvcc
@needs_headers
@pytest.mark.parametrize(("kind", "dtype"), [(1, "FLOAT"), (10, "HALF")])
@pytest.mark.parametrize(("size", "shape"), [("fixed", (20, 36)), ("h", (-1, -1))], ids=["fixed size", "free size"])
def test_an_engine_with_all_plugins_is_built_without_a_gpu(
    tmp_path: Path, plugin_library: Path, kind: int, dtype: str, size: str, shape: tuple[int, int]
) -> None:
    result = run_build(tmp_path, plugin_library, kind, size, 9, 2)
    assert result.returncode == 0, result.stderr
    shapes = [(1, 9, *shape), (1, 3, *shape)]
    assert result.stdout.strip() == f"4 plugin layers, {shapes} {dtype} built"


@needs_nvcc
@needs_headers
@pytest.mark.parametrize(
    ("k", "stride", "said"),
    [
        (12, 2, "KsTopKSplit: k must be at least 1 and below the channels of f"),
        (9, 1, "KsAlign: raw must have the height and width of x, divided by offset_stride and rounded up"),
        (9, 3, "KsAlign: offset_stride must be 1 or 2"),
    ],
)
def test_the_plugin_says_why_it_refuses_a_network(
    tmp_path: Path, plugin_library: Path, k: int, stride: int, said: str
) -> None:
    result = run_build(tmp_path, plugin_library, 1, "fixed", k, stride)
    assert result.returncode == 1
    assert f"[ksnet] {said}" in result.stderr


def test_a_file_that_is_no_plugin_library_is_refused(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    (tmp_path / "broken.so").write_bytes(b"not a library")
    with pytest.raises(BackendError, match=r"broken\.so does not load as a plugin library of tensorrt_rtx"):
        plugins.load_plugins(trt, tmp_path / "broken.so")
