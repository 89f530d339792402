"""The data directory's format: how its files lie, apart from the tables, whose revisions tell.

One number in a file of the directory. It grows when an older Etude could no longer read what lies
there; an older one then refuses to start instead of misreading it.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

FORMAT = 1
NAME = "FORMAT.json"


class Written(NamedTuple):
    """What a data directory says of itself."""

    format: int
    etude: str  # the version that wrote it


def read(data_dir: Path) -> Written | None:
    """Return what a directory says; nothing where no Etude since 0.2.0 has used it.

    Raises:
        SystemExit: the file holds something else; one sentence.
    """
    path = data_dir / NAME
    try:
        said = json.loads(path.read_bytes())
        return Written(int(said["format"]), str(said["etude"]))
    except (FileNotFoundError, NotADirectoryError):
        return None  # whoever makes the directory says what is wrong with it
    except (OSError, ValueError, TypeError, KeyError):
        raise SystemExit(
            f"etude: {path} cannot be read, and says which Etude may use this folder: bring it "
            "back from a backup, or delete it if no newer Etude has been used here."
        ) from None


def require_known(data_dir: Path) -> None:
    """Refuse a directory that a newer Etude has written.

    Raises:
        SystemExit: it has; one sentence.
    """
    said = read(data_dir)
    if said is not None and said.format > FORMAT:
        raise SystemExit(
            f"etude: {data_dir} was written by Etude {said.etude} in a format that this version "
            f"({version('etude')}) does not know: start that version again, or restore a backup "
            "from before the update."
        )


def mark(data_dir: Path) -> None:
    """Note the format that is used from now on.

    Raises:
        SystemExit: a newer Etude has written it.
    """
    require_known(data_dir)
    said = read(data_dir)
    now = Written(FORMAT, version("etude"))
    if said == now:
        return
    path = data_dir / NAME
    half = path.with_suffix(f".{os.getpid()}")
    with half.open("w", encoding="utf-8") as file:
        json.dump(now._asdict(), file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
