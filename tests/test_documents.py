"""The documents: commands that parse, code that compiles, links that lead somewhere, and their lengths."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import documents
import numpy as np
import pytest
from documents import ROOT, DocumentError
from media import make_video
from runners import RepeatRunner

from ksnet_deploy import Upscaler
from ksnet_deploy.base.frames import FrameSize

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs a checkout")

GUIDES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
ALL = [*GUIDES, *sorted((ROOT / "plugins").glob("**/*.md")), *sorted((ROOT / "ksnet_deploy/bundled").glob("*.md"))]
LONGEST = {"README.md": 130, "CONTRIBUTING.md": 40}


def name_of(path: object) -> str:
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else ""


@pytest.mark.parametrize("document", GUIDES, ids=name_of)
def test_commands_are_as_the_command_line_takes_them(document: Path) -> None:
    for block in documents.code_blocks(document.read_text(), "sh"):
        for command in documents.commands(block):
            documents.check_command(command)


def test_the_commands_of_readme_and_guide_are_found() -> None:
    said = [
        command[1]
        for name in ("README.md", "docs/guide.md", "docs/engines.md", "docs/training.md")
        for block in documents.code_blocks((ROOT / name).read_text(), "sh")
        for command in documents.commands(block)
        if command[0] == "ksnet-deploy"
    ]
    assert len(said) > 30
    assert set(said) == set(documents.known_commands())


def test_the_examples_of_the_help_are_as_the_command_line_takes_them() -> None:
    for name, known in documents.known_commands().items():
        lines = [line.strip().removeprefix("Example: ") for line in (known.epilog or "").splitlines()]
        examples = [line for line in lines if line.startswith("ksnet-deploy")]
        assert examples, f"{name} has no example in its help"
        for example in examples:
            for command in documents.commands(example):
                documents.check_command(command)


@pytest.mark.parametrize("document", GUIDES, ids=name_of)
def test_python_in_documents_fits_the_package(document: Path) -> None:
    for block in documents.code_blocks(document.read_text(), "python"):
        documents.check_python(block)


@pytest.mark.parametrize("document", ALL, ids=name_of)
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text()
    for target in documents.links(text):
        documents.check_link(target, document)
    for name in documents.named_paths(text):
        documents.check_path(name, ROOT, ROOT / "ksnet_deploy")


@pytest.mark.parametrize("document", GUIDES, ids=name_of)
def test_documents_have_their_length(document: Path) -> None:
    lines = document.read_text().splitlines()
    assert [line for line in lines if len(line) > 120] == []
    assert len(lines) <= LONGEST.get(document.name, 300)


@pytest.mark.parametrize("document", ALL, ids=name_of)
def test_documents_name_no_place_on_a_machine(document: Path) -> None:
    for place in ("/home/", "/root/", "/tmp/", "/work/"):
        assert place not in document.read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ksnet-deploy upscale a.mp4 --codex hevc", "No such option: --codex"),
        ("ksnet-deploy upscael a.mp4", "no command 'upscael'"),
        ("ksnet-deploy upscale", "inputs"),
        ("ksnet-deploy upscale a.mp4 --crf good", "valid integer"),
        ("ksnet-deploy upscale a.mp4 --codec h256", "no encoder 'h256'"),
        ("ksnet-deploy upscale a.mp4 --crf 99", "qualities from 0 to 51"),
        ("ksnet-deploy upscale a.mp4 --preset swift", "no speed 'swift'"),
        ("ksnet-deploy upscale a.mp4 --target tall", "not a target height"),
        ("ksnet-deploy upscale a.mp4 --start soon", "not a time"),
        ("ksnet-deploy upscale a.mp4 --tiles small", "no size of tiles"),
        ("ksnet-deploy upscale a.mp4 --model unl", "unl"),
        ("ksnet-deploy export a.onnx --io uint9", "'uint9' is not one of"),
        ("ksnet-deploy export a.onnx --size 180by320", "180by320"),
        ("ksnet-deploy build-engine a.engine --gpu rtx", "rtx"),
        ("ksnet-deploy train a -o b --stage 4000", "no training stage"),
        ("ksnet-deploy info --set keep_rate=0.5", "no setting"),
        ("true | ksnet-deploy upscale - && ksnet-deploy doctor --jsn", "No such option: --jsn"),
        ("bash scripts/demos.sh", "no scripts/demos.sh"),
        ("pip install -c constraint.txt '.[cpu]'", "no constraint.txt"),
        ("pip install -c constraints.txt '.[cuda]'", "no extra 'cuda'"),
    ],
)
def test_a_command_that_is_wrong_is_found(line: str, words: str) -> None:
    *before, last = documents.commands(line + "   # a comment with --options")
    for command in before:
        documents.check_command(command)
    with pytest.raises(DocumentError) as error:
        documents.check_command(last)
    assert words in str(error.value)


def test_a_command_over_two_lines_is_one() -> None:
    assert list(documents.commands("a --b \\\n    'c d' # e\nf | g && h\n")) == [
        ["a", "--b", "c d"],
        ["f"],
        ["g"],
        ["h"],
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("from ksnet_deploy import Upscalar", "no Upscalar"),
        ("from ksnet_deploy import upscale_video\nupscale_video('a', codecs='hevc')", "codecs"),
        ("upscale_video('a'", "was never closed"),
    ],
)
def test_python_that_is_wrong_is_found(code: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        documents.check_python(code)


@pytest.mark.parametrize("target", ["docs/guides.md", "docs/guide.md#upscaling", "#try-them"])
def test_a_link_that_leads_nowhere_is_found(target: str) -> None:
    (found,) = documents.links(f"[a word]({target}) and `[code]({target}x)`")
    with pytest.raises(DocumentError):
        documents.check_link(found, ROOT / "README.md")


def test_a_file_that_is_not_there_is_found() -> None:
    (found,) = documents.named_paths("See `upscale/scene.py`, not NAME.engine.json or season1/film.mp4.")
    with pytest.raises(DocumentError, match=r"no upscale/scene\.py"):
        documents.check_path(found, ROOT, ROOT / "ksnet_deploy")


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_frames_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, video = example("frames"), make_video(tmp_path / "a.mp4", FrameSize(32, 48))
    for frames, size in ((module.generated(), "(288, 512, 3)"), (module.decoded(video), "(128, 192, 3)")):
        module.main(frames, Upscaler(open_runner=RepeatRunner), tmp_path / "last.png")
        assert capsys.readouterr().out.count(size) == module.FRAMES
        assert (tmp_path / "last.png").read_bytes().startswith(b"\x89PNG")


def test_the_example_of_a_file_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = make_video(tmp_path / "a.mp4", FrameSize(32, 48), frames=3, sound=True)
    result = example("upscale_file").main(str(video), None, Upscaler(open_runner=RepeatRunner))
    assert result.target == tmp_path / "a_x4.mp4"
    out = capsys.readouterr().out
    assert "3 of 3" in out
    assert "3 frames of 128x192" in out


@pytest.mark.slow
def test_the_examples_run_with_the_bundled_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = example("frames")
    frames.main(frames.generated(), Upscaler("lite"), Path("frames_x4.png"))
    assert capsys.readouterr().out.count("(288, 512, 3), uint8") == frames.FRAMES
    video = make_video(tmp_path / "a.mp4", FrameSize(32, 48), frames=3)
    assert example("upscale_file").main(str(video), "b.mp4").frames == 3


def test_the_generated_clip_moves() -> None:
    first, second, *_ = example("frames").generated()
    assert first.shape == (72, 128, 3)
    assert first.dtype == np.uint8
    assert (first != second).any()
