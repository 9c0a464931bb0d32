"""A floor imports its own or lower ones; heavy libraries stay in their rooms."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "recbole_llm"
FLOORS = [
    {"compat", "errors"},
    {"config"},
    {"text", "llm"},
    {"data"},
    {"model"},
    {"train", "evaluation"},
    {"experiment", "serving"},
    {"cli", "doctor"},
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# library: the rooms or files that may import it, at all or (False) only inside a function or class
ROOMS = {
    "recbole": ({"compat", "config", "data", "model", "train", "evaluation", "__init__"}, True),
    "transformers": ({"text", "llm"}, False),
    "sentence_transformers": ({"text"}, False),
    "openai": ({"llm"}, False),
    "peft": ({"llm"}, False),
    "matplotlib": ({"evaluation", "experiment"}, False),
    "ray": ({"compat", "experiment", "train/on_ray.py", "llm/on_ray.py"}, False),
    "fastapi": ({"serving"}, False),
}


def room_of(path):
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports_of(path):
    """(line, imported module as a tuple from the top, whether at module level) of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    package = ["recbole_llm", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, tuple(alias.name.split(".")), id(node) in top
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                yield node.lineno, (*base, alias.name), id(node) in top


def faults(path):
    room = room_of(path)
    for line, name, at_top in imports_of(path):
        where = f"{path.relative_to(PACKAGE)}:{line} ({room}) imports {'.'.join(name)}"
        if name[0] == "recbole_llm" and len(name) > 1 and room in HEIGHT and name[1] in HEIGHT:
            if HEIGHT[name[1]] > HEIGHT[room]:
                yield where
        elif name[0] in ROOMS:
            rooms, anywhere = ROOMS[name[0]]
            allowed = room in rooms or path.relative_to(PACKAGE).as_posix() in rooms
            if not allowed or (at_top and not anywhere):
                yield where


def test_no_floor_imports_a_higher_one_and_heavy_libraries_stay_in_their_rooms():
    found = [fault for path in sorted(PACKAGE.rglob("*.py")) for fault in faults(path)]
    assert not found, "\n".join(found)


def test_every_room_has_its_floor():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms <= set(HEIGHT), rooms - set(HEIGHT)


def test_a_fault_is_named_with_file_line_and_room(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "text").mkdir()
    bad = tmp_path / "text" / "bad.py"
    bad.write_text(
        "import numpy\nfrom recbole_llm.model import x\nfrom ..train import run\nimport transformers\n"
    )
    assert list(faults(bad)) == [
        "text/bad.py:2 (text) imports recbole_llm.model.x",
        "text/bad.py:3 (text) imports recbole_llm.train.run",
        "text/bad.py:4 (text) imports transformers",
    ]


def test_preparation_imports_nothing_of_the_house():
    for path in (PACKAGE.parent / "dataset_prep").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not [name for name in names if name.startswith("recbole")], path


@pytest.mark.parametrize("pattern", [r"pickle\.load", r"torch\.load\(", r"(?<![\w.])eval\("])
def test_nothing_on_our_paths_can_run_a_file(pattern):
    """``compat`` alone may read RecBole's pickles, and asks first."""
    for path in PACKAGE.rglob("*.py"):
        if room_of(path) != "compat":
            assert not re.search(pattern, path.read_text()), path
