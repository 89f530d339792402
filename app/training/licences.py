"""A model's licences: which of its files they are. They go wherever its weights go."""

import re
import shutil
from pathlib import Path

_NAME = re.compile(
    r"(licen[sc]e|notice|copying|use_policy)([-_][a-z0-9_-]{1,60})?(\.(txt|md))?", re.IGNORECASE
)


def is_one(name: str) -> bool:
    """Say by its name whether a file is the text of a licence, or goes with one."""
    return _NAME.fullmatch(name) is not None


def of(folder: Path) -> list[Path]:
    """Return a model's licences, notices and terms of use, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.is_file() and is_one(path.name))


def copy(base: Path, folder: Path) -> None:
    """Copy a starting model's licences into the folder of what was made of it."""
    for path in of(base):
        shutil.copyfile(path, folder / path.name)
