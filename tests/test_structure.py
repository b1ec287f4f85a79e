"""The house as its map says it is: rooms, modules, layers, sizes, and nobody's private paths."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import threading
from pathlib import Path

import pytest

import edgeq

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "edgeq"
MAX_LINES = 400
MAX_FUNCTION_LINES = 70  # build() is the whole pipeline on one screen


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def map_of_the_house() -> dict[str, set[str]]:
    """What the docstring lists: room -> its modules (a module that is a room has none)."""
    rooms: dict[str, set[str]] = {}
    for line in (edgeq.__doc__ or "").splitlines():
        if room := re.match(r" {4}([\w/]+?)(\.py|/) +\S", line):
            rooms[room[1]] = set()
        elif modules := re.match(r" {22}(\w[\w ]*)$", line):
            rooms[list(rooms)[-1]] |= set(modules[1].split())
    return rooms


def real_house() -> dict[str, set[str]]:
    rooms = {path.stem: set() for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    for init in PACKAGE.glob("*/**/__init__.py"):
        modules = {path.stem for path in init.parent.glob("*.py")}
        rooms[str(init.parent.relative_to(PACKAGE))] = modules - {"__init__"}
    return rooms


def layers() -> list[set[str]]:
    if tomllib is None:
        pytest.skip("reading pyproject.toml needs Python 3.11")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layered,) = [c for c in contracts["contracts"] if c["type"] == "layers"]
    assert layered["exhaustive"]
    return [set(re.findall(r"\w+", layer)) for layer in layered["layers"]]


def test_the_map_in_the_docstring_is_the_house():
    assert map_of_the_house() == real_house()


def test_the_layers_contract_gives_every_room_its_place_in_the_map_s_order():
    listed = layers()
    assert set().union(*listed) == {room for room in real_house() if "/" not in room}
    place = {room: depth for depth, rooms in enumerate(listed) for room in rooms}
    depths = [place[room.split("/")[0]] for room in map_of_the_house()]
    assert depths == sorted(depths)


@pytest.mark.parametrize("path", python_files("edgeq", "tests", "tools"), ids=relative)
def test_no_file_is_over_400_lines(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def function_lengths() -> dict[str, int]:
    return {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in python_files("edgeq")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }


def test_functions_are_short():
    lengths = function_lengths()
    longest = max(lengths, key=lambda name: lengths[name])
    assert lengths[longest] <= MAX_FUNCTION_LINES, longest
    ordered = sorted(lengths.values())
    assert 4 <= ordered[len(ordered) // 2] <= 10
    assert ordered[len(ordered) * 9 // 10] < 35


@pytest.mark.parametrize("path", python_files("edgeq"), ids=relative)
def test_every_module_says_in_one_line_what_it_is(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", "?", ":"))


def test_importing_everything_starts_no_thread():
    before = threading.active_count()
    for path in python_files("edgeq"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if path.stem != "__main__":
            importlib.import_module(name)
    assert threading.active_count() == before


def test_tests_mirror_the_rooms():
    extra = {"data", "tools", "e2e", "faults", "golden"}
    rooms = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))}
    assert rooms - extra <= set(real_house())
