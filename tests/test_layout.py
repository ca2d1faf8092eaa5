"""The rooms of the package, the one direction of its imports, PyAV in one room, and the length of its files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ksnet_deploy

PACKAGE = Path(ksnet_deploy.__file__).parent
ROOMS = (
    *("cli", "web", "cluster", "training", "measure", "upscale"),
    *("export", "runtime", "network", "ops", "video", "base"),
)
"""From the top down: a room imports from those to its right, in functions and for types too."""
FILES = {"__init__.py", "__main__.py", "py.typed"}
LONGEST = 350


def modules() -> dict[str, Path]:
    """Files by the names of their modules; in a checkout ``export`` is a symlink, which globbing does not follow."""
    paths = sorted({*PACKAGE.glob("**/*.py"), *(PACKAGE / "export").glob("**/*.py")})
    names = [".".join(("ksnet_deploy", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in paths]
    return dict(zip((name.removesuffix(".__init__") for name in names), paths, strict=True))


MODULES = modules()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imported(path: Path) -> tuple[tuple[int, str], ...]:
    """Line and module of every import of a file, wherever it stands; ``from a import b`` is ``a.b`` where b is one."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; name the module whole"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.append((node.lineno, name if name in MODULES else str(node.module)))
    return tuple(found)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def test_the_package_has_these_rooms_and_nothing_else() -> None:
    found = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    assert found - FILES - {"bundled", "native"} == set(ROOMS)
    assert found >= FILES | {"bundled"}
    assert not list((PACKAGE / "bundled").glob("*.py"))


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name)])
def test_a_file_imports_from_the_rooms_below_its_own(name: str) -> None:
    floor = ROOMS.index(room_of(name) or "")
    for line, module in imported(MODULES[name]):
        if module.startswith("ksnet_deploy.") and name.partition(".")[2] != "":
            room = room_of(module)
            assert room is not None, f"{MODULES[name]}:{line} imports {module}, which is in no room"
            assert ROOMS.index(room) >= floor, (
                f"{MODULES[name]}:{line}: {ROOMS[floor]} imports {room}, which is above it"
            )


def test_no_imports_run_in_a_circle() -> None:
    arrows = {name: {module for _, module in imported(path) if module in MODULES} for name, path in MODULES.items()}
    finished: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in finished:
            for module in sorted(arrows[name] - {name}):
                visit(module, (*way, name))
            finished.add(name)

    for name in MODULES:
        visit(name, ())


def test_only_video_imports_pyav() -> None:
    for name, path in MODULES.items():
        if room_of(name) != "video":
            lines = [line for line, module in imported(path) if module.split(".")[0] == "av"]
            assert not lines, f"{path}:{lines[0]} imports av; only the room video does"


def test_only_two_files_import_ray() -> None:
    found = {name for name, path in MODULES.items() for _, module in imported(path) if module.split(".")[0] == "ray"}
    assert found == {"ksnet_deploy.cluster.nodes", "ksnet_deploy.cluster.opening"}


def test_only_what_drives_the_browser_of_tests_imports_playwright() -> None:
    root = Path(__file__).parent
    named = [path for path in (*MODULES.values(), *root.glob("**/*.py")) if "playwright" in path.read_text()]
    assert {path.name for path in named} == {"browser.py", "test_layout.py", "test_preview.py"}
    assert not [name for name, path in MODULES.items() for _, module in imported(path) if "playwright" in module]


def importers(library: str) -> set[str]:
    return {
        name for name, path in MODULES.items() for _, module in imported(path) if module.partition(".")[0] == library
    }


def test_only_the_page_imports_gradio_and_only_its_command_imports_the_page() -> None:
    assert importers("gradio") == {"ksnet_deploy.web.page"}
    assert importers("fastapi") | importers("starlette") | importers("uvicorn") <= {
        "ksnet_deploy.web.page",
        "ksnet_deploy.web.server",
    }
    users = {name for name, path in MODULES.items() for _, module in imported(path) if "ksnet_deploy.web" in module}
    assert {name for name in users if room_of(name) != "web"} == {"ksnet_deploy.cli.web"}


def test_what_few_need_is_imported_in_functions_alone() -> None:
    for name, path in MODULES.items():
        top = {node for node in parsed(path).body if isinstance(node, (ast.Import, ast.ImportFrom))}
        for node in top:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            libraries = {each.partition(".")[0] for each in names}
            assert not libraries & {"matplotlib", "playwright", "uvicorn", "starlette"}, f"{path}:{node.lineno}"
            if name != "ksnet_deploy.web.page":
                assert not libraries & {"gradio", "fastapi"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("room", ["ksnet_deploy", *(f"ksnet_deploy.{room}" for room in ROOMS)])
def test_entering_a_room_costs_nothing(room: str) -> None:
    if room != "ksnet_deploy":
        assert [line for line, module in imported(MODULES[room]) if module.startswith("ksnet_deploy")] == []
    assert ast.get_docstring(ast.parse(MODULES[room].read_text()))


def test_a_room_lists_its_files() -> None:
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name != "ksnet_deploy":
            listed = re.findall(r"``(\w+\.py)``", path.read_text())
            there = {file.name for file in path.parent.glob("*.py")} - FILES
            assert (sorted(listed), name) == (sorted(there), name)


def test_no_file_is_too_long() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def docstrings(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Line and text of the docstrings of a module's body: its own, and those of what is defined in it, values too."""
    for statement in body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            if isinstance(statement.value.value, str):
                yield statement.lineno, statement.value.value
        elif isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
            yield from docstrings(statement.body)


FRAGMENTS = re.compile(
    r"(As|By|For|From|How|In|Its?|Of|On|See|Than|That|The same|Those|To|What|When|Where|Which|Why|With)\b"
)


@pytest.mark.parametrize("name", MODULES)
def test_a_docstring_begins_with_the_thing_itself(name: str) -> None:
    found = docstrings(parsed(MODULES[name]).body)
    assert not [(line, text) for line, text in found if FRAGMENTS.match(text)]
