"""What the documents say, checked without doing it: commands are parsed, code is compiled, links are followed.

Every check raises :class:`DocumentError` with what is wrong.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cli.app import app
from ksnet_deploy.network.bundled import CHECKPOINT_SUFFIXES, checkpoint_path
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.runtime.tensorrt.target import GpuTarget
from ksnet_deploy.training.recipe import Stage
from ksnet_deploy.upscale.networks import EXPORTED
from ksnet_deploy.upscale.values import parse_height, parse_rate, parse_tiles, parse_time
from ksnet_deploy.video.writing.presets import choose_encoder

__all__ = [
    "ROOT",
    "DocumentError",
    "check_command",
    "check_link",
    "check_path",
    "check_python",
    "code_blocks",
    "commands",
    "known_commands",
    "links",
    "named_paths",
]

ROOT = Path(__file__).parents[2]
ROOMS = sorted(p.name for p in (ROOT / "ksnet_deploy").iterdir() if (p / "__init__.py").is_file())
PLACES = (*ROOMS, "benchmarks", "bundled", "docs", "examples", "ksnet_deploy", "plugins", "scripts", "tests")
OPTIONS: dict[str, Callable[[str], object]] = {
    "--end": parse_time,
    "--fps": parse_rate,
    "--gpu": GpuTarget.parse,
    "--max": FrameSize.parse,
    "--min": FrameSize.parse,
    "--opt": FrameSize.parse,
    "--set": lambda setting: KSNetConfig().replace([setting]),
    "--stage": Stage.parse,
    "--start": parse_time,
    "--target": parse_height,
    "--tiles": parse_tiles,
}
"""Values that the command line hands on as text, and what reads them."""


class DocumentError(AssertionError):
    """A document says what is not so."""


def code_blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> Iterator[list[str]]:
    """Simple commands of a shell block, as lists of words; pipes and && part them, comments are left out."""
    for line in block.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        reader.whitespace_split = True
        command: list[str] = []
        for word in [*reader, ";"]:
            if word in ("|", "||", "&&", ";", "&"):
                if command:
                    yield command
                command = []
            else:
                command.append(word)


def check_command(words: list[str]) -> None:
    """Parse a command as the program that it names would; programs that are not ours are not looked at."""
    program, *arguments = words
    if program == "ksnet-deploy" and arguments:
        _check_ours(arguments)
    elif program in ("bash", "python") and arguments and arguments[0].endswith((".sh", ".py")):
        check_path(arguments[0], ROOT)
    elif program == "pip":
        _check_pip(arguments)
    for path in arguments if program in ("python", "ruff") else ():
        if path.startswith("tests/"):
            check_path(path, ROOT)


def known_commands() -> dict[str, Any]:
    """All commands of the command line, by their names."""
    found: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return found


def _check_ours(arguments: list[str]) -> None:
    line = f"ksnet-deploy {shlex.join(arguments)}"
    name, *given = arguments
    known = known_commands()
    if name not in known:
        raise DocumentError(f"{line}: there is no command '{name}'")
    try:
        context = known[name].make_context(name, list(given))
    except typer.TyperException as error:
        raise DocumentError(f"{line}: {error}") from error
    except typer.Exit:  # --help
        return
    try:
        for parameter in known[name].params:
            value = context.params.get(parameter.name)
            for option in parameter.opts:
                for each in _texts(value):
                    _check_value(name, option, each)
        if name == "upscale":
            asked = context.params
            choose_encoder(asked["codec"] or "h264", quality=asked["crf"], speed=asked["preset"])
    except KSNetError as error:
        raise DocumentError(f"{line}: {error}") from error


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [each for each in values if isinstance(each, str)]


def _check_value(command: str, option: str, value: str) -> None:
    if option in OPTIONS:
        OPTIONS[option](value)
    if option == "--size" and command not in ("train", "convert"):  # there it is the network's
        FrameSize.parse(value)
    if option in ("--model", "--init") and not value.endswith((*CHECKPOINT_SUFFIXES, *EXPORTED)):
        checkpoint_path(value)


def _check_pip(arguments: list[str]) -> None:
    if "-c" in arguments:
        check_path(arguments[arguments.index("-c") + 1], ROOT)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for wanted in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        for extra in wanted.split(","):
            if extra not in extras:
                raise DocumentError(f"pip {shlex.join(arguments)}: there is no extra '{extra}'")


def check_python(code: str) -> None:
    """Compile a block; what it imports exists, and calls of that take the arguments that they are given."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise DocumentError(f"{error}:\n{code}") from error
    imported: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    raise DocumentError(f"{node.module} has no {alias.name}")
                imported[alias.asname or alias.name] = getattr(module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Name) and call.func.id in imported:
            keywords = {str(keyword.arg): None for keyword in call.keywords}
            try:
                inspect.signature(imported[call.func.id]).bind(*call.args, **keywords)
            except TypeError as error:
                raise DocumentError(f"{ast.unparse(call)}: {error}") from error


def links(text: str) -> list[str]:
    """Targets of links and pictures, outside code."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def check_link(target: str, document: Path) -> None:
    """Follow a relative link, and its anchor, from the document that has it."""
    if re.match(r"[a-z]+:", target):
        return
    name, _, anchor = target.partition("#")
    path = document if not name else document.parent / name
    if not path.exists():
        raise DocumentError(f"{document.name} links to {target}, which does not exist")
    if anchor and anchor not in _anchors(path.read_text()):
        raise DocumentError(f"{document.name} links to {target}, and there is no such heading")


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_paths(text: str) -> list[str]:
    """Files and folders of the repository that a document names, in words or in code."""
    names = re.findall(r"(?<![\w/.-])((?:[\w.-]+/)+[\w.-]*[\w])(?![\w<*{])", text)
    own = [name for name in names if name.split("/")[0] in PLACES]
    return [name for name in own if re.search(r"\.(py|sh|md|json|h|cu|mp4|safetensors)$", name)]


def check_path(name: str, *places: Path) -> None:
    """Find a file in one of the places."""
    if not any((place / name).exists() for place in places):
        raise DocumentError(f"there is no {name}")
