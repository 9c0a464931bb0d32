"""What a wheel must hold, and what the two commands promise."""

import configparser
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def setup():
    parser = configparser.ConfigParser()
    parser.read(HOME / "setup.cfg")
    return parser


def test_a_wheel_ships_every_room_and_every_yaml():
    listed = set(setup()["options"]["packages"].split())
    rooms = {HOME / "recbole_llm", HOME / "dataset_prep"}
    rooms |= {path.parent for path in (HOME / "recbole_llm").rglob("__init__.py")}
    found = {".".join(room.relative_to(HOME).parts) for room in rooms}
    yamls = {path.parent for path in (HOME / "properties").rglob("*.yaml")}
    found |= {".".join(["recbole_llm", *folder.relative_to(HOME).parts]) for folder in yamls}
    assert listed == found


def test_the_version_stands_in_two_places_and_is_one():
    from recbole_llm import __version__

    assert setup()["metadata"]["version"] == __version__


def test_every_requirement_has_its_tested_version():
    pinned = {line.partition("==")[0].lower() for line in (HOME / "constraints.txt").read_text().splitlines()}
    asked = [
        *setup()["options"]["install_requires"].split(),
        *setup()["options.extras_require"]["test"].split(),
    ]
    names = {name.split(">")[0].split("=")[0].split("<")[0].split("[")[0].lower() for name in asked}
    assert names <= pinned, names - pinned


def test_the_two_commands_and_ci_are_there():
    makefile = (HOME / "Makefile").read_text()
    assert "\nrun: setup" in makefile and "\ntest: setup" in makefile
    assert "make test" in (HOME / ".ci" / "run").read_text()
    readme = (HOME / "README.md").read_text()
    assert "make run" in readme and "make test" in readme
