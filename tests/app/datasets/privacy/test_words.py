"""The word lists are text files: all of them are read, and none stays behind when Etude is packed."""

import tomllib
from pathlib import Path

from app.datasets.privacy import words

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "app" / "datasets" / "privacy" / "words"


def test_every_file_is_read_once_and_whole() -> None:
    lists = {
        name: value for name, value in vars(words).items() if name.isupper() and name[0] != "_"
    }
    read = [
        v
        for value in lists.values()
        for v in (value.values() if isinstance(value, dict) else [value])
    ]
    assert len(read) == len(list(FOLDER.rglob("*.txt")))
    lines = [line for path in FOLDER.rglob("*.txt") for line in path.read_text("utf-8").split("\n")]
    read = [words for words in read if words is not lists["NOT_NAMES"]] + [
        lists["NOT_NAMES"] - lists["PLACES"]
    ]
    assert sum(map(len, read)) == sum(bool(line) and not line.startswith("#") for line in lines)
    assert all(line == line.strip() for line in lines)


def test_an_installed_etude_has_them() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["app.datasets.privacy"]
    packed = {path for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    assert packed == {*FOLDER.rglob("*.txt"), FOLDER.parent / "weights.json"}
