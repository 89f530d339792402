"""Anki's cards: its text export, and packages (APKG), which are SQLite in a ZIP."""

import io
import json
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from app.datasets.mapping import LeftOut
from app.datasets.readers import fragments
from app.datasets.readers.files import DAMAGES, File
from app.datasets.readers.grids import Seen
from app.datasets.readers.tables import csv_rows
from app.datasets.readers.unreadable import Unreadable

# The newest first: a package has an old one beside it that only says “update Anki”.
COLLECTIONS = ("collection.anki21b", "collection.anki21", "collection.anki2")
MAX_COLLECTION_BYTES = 256 * 1024**2
_MAX_FIELD_CHARACTERS = 1024**2
_MAX_FIELDS = 100
_HEADER = re.compile(r"#([a-z ]{2,20}):(.*)")
_SEPARATORS = {
    "comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "colon": ":", "space": " "
}  # fmt: skip
_BESIDE = ("tags", "deck", "notetype", "guid")
_CLOZE = re.compile(
    r"\{\{c(\d{1,3})::((?:(?!\{\{c\d|::|\}\}).){0,5000})(?:::((?:(?!\{\{c\d|\}\}).){0,300}))?\}\}",
    re.DOTALL,
)
_SOUND = re.compile(r"\[(?:sound|anki):[^\[\]]{1,300}\]")
_MAX_CLOZES = 50

Row = dict[str, Any]
Rows = Iterator[tuple[int, Row | LeftOut]]


# --- the text export -------------------------------------------------------------------------


@dataclass
class _Header:
    num_lines: int = 0
    separator: str = "\t"
    is_html: bool = False
    names: list[str] = field(default_factory=list)
    beside: dict[int, str] = field(default_factory=dict)  # what columns have, from 0


def looks_like_anki(sample: str) -> bool:
    """Tell Anki's text export by the lines at its start, such as `#separator:tab`."""
    header = _header(sample.splitlines())
    return header.num_lines > 0


def _header(lines: list[str]) -> _Header:
    header = _Header()
    known = False
    for line in lines:
        found = _HEADER.fullmatch(line.lstrip("\ufeff").rstrip())
        if found is None:
            break
        header.num_lines += 1
        name, value = found[1], found[2].strip()
        known = known or name in ("separator", "html", "notetype", "deck", "tags", "columns")
        if name == "separator":
            header.separator = _SEPARATORS.get(value.lower(), value[:1] or "\t")
        elif name == "html":
            header.is_html = value.lower() == "true"
        elif name == "columns":
            header.names = found[2].split(header.separator)
        elif name.removesuffix(" column") in _BESIDE and value.isdecimal():
            header.beside[int(value[:6]) - 1] = name.removesuffix(" column")
    return header if known else _Header()


def text_columns(sample: str) -> list[str]:
    """Return the columns of a text export, as far as its first lines tell them."""
    header = _header(sample.splitlines())
    return ["question", "answer", *sorted(set(header.beside.values()), key=_BESIDE.index)]


def text_cards(text: io.TextIOBase, sample: str, seen: Seen) -> Rows:
    """Yield a row for each card of a text export, with the number of its line."""
    header = _header(sample.splitlines())
    for _ in range(header.num_lines):
        text.readline()
    for number, cells in csv_rows(text, header.separator, header.num_lines):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > _MAX_FIELDS:
            yield number, LeftOut("too_many_cells")
            continue
        beside = {name: cells[at] for at, name in header.beside.items() if at < len(cells)}
        fields = [
            (header.names[at] if at < len(header.names) else f"field {at + 1}", cell)
            for at, cell in enumerate(cells)
            if at not in header.beside
        ]
        yield from _cards(number, fields, beside, seen, is_html=header.is_html)


def _cards(
    number: int, fields: list[tuple[str, str]], beside: Row, seen: Seen, *, is_html: bool
) -> Rows:
    """Make the cards of a note: one, or one for each number of its clozes."""
    texts = [(name, _shown(text, seen, number, is_html=is_html)) for name, text in fields]
    front = texts[0][1] if texts else ""
    numbers = list(dict.fromkeys(found[1] for found in _CLOZE.finditer(front)))[:_MAX_CLOZES]
    back = _open(texts[1][1]) if len(texts) > 1 else ""
    more = {name: _open(text) for name, text in texts[2:] if text}
    if not numbers:
        yield number, {"question": front, "answer": back, **more, **beside}
        return
    for one in numbers:
        hidden = [found[2] for found in _CLOZE.finditer(front) if found[1] == one]
        row = {"question": _with_gap(front, one), "answer": ", ".join(dict.fromkeys(hidden))}
        # What stands on the back of such a card is a remark.
        yield number, {**row, **({texts[1][0]: back} if back else {}), **more, **beside}


def _shown(text: str, seen: Seen, number: int, *, is_html: bool) -> str:
    if "[" in text:
        text, num_sounds = _SOUND.subn("", text)
        for _ in range(num_sounds):
            seen.add("sound", number)
    return fragments.seen_text(text, seen, number) if is_html else text.strip()


def _open(text: str) -> str:
    """Show what the gaps of a text hide."""
    return _CLOZE.sub(lambda found: found[2], text) if "{{c" in text else text


def _with_gap(text: str, number: str) -> str:
    def shown(found: re.Match[str]) -> str:
        return f"[{found[3] or '…'}]" if found[1] == number else found[2]

    return _CLOZE.sub(shown, text)


# --- packages --------------------------------------------------------------------------------


def package_cards(file: File, seen: Seen) -> Rows:
    """Yield a row for each card of a package, numbered by its note.

    Raises:
        Unreadable: it is damaged, or too large to be read.
    """
    collection = _collection(file)
    if not collection.startswith(b"SQLite format 3\0"):
        raise Unreadable(_DAMAGED)
    database = sqlite3.connect(":memory:")
    try:
        database.deserialize(collection)
        # Names of note types are compared by a rule of Anki's own.
        database.create_collation("unicase", _unicase)
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
        _require_table(database)
        names = _field_names(database)
        database.set_authorizer(_only_notes)
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 16 * 1024**2)
        found = database.execute("SELECT mid, tags, flds FROM notes ORDER BY id")
        for number, (kind, tags, flds) in enumerate(found, start=1):
            yield from _note(number, names.get(kind, []), tags, flds, seen)
    except (sqlite3.Error, OverflowError, UnicodeDecodeError):
        raise Unreadable(_DAMAGED) from None
    finally:
        database.close()


_DAMAGED = (
    "This Anki package is damaged: its cards cannot be read; export the deck again in Anki "
    "(File, Export), as notes in plain text or as a package."
)


def _note(number: int, names: list[str], tags: Any, flds: Any, seen: Seen) -> Rows:
    texts = str(flds or "").split("\x1f")
    if len(texts) > _MAX_FIELDS:
        raise Unreadable(
            f"Note {number:,} of this Anki package has more than {_MAX_FIELDS} fields; export a "
            "deck with questions and answers."
        )
    if any(len(text) > _MAX_FIELD_CHARACTERS for text in texts):
        raise Unreadable(
            f"Note {number:,} of this Anki package has more than 1 MB of text; shorten it, then "
            "export the deck again."
        )
    fields = [
        (names[at] if at < len(names) else f"field {at + 1}", text) for at, text in enumerate(texts)
    ]
    beside = {"tags": " ".join(str(tags or "").split())}
    yield from _cards(number, fields, beside, seen, is_html=True)


def _collection(file: File) -> bytes:
    try:
        with file.open() as packed, zipfile.ZipFile(packed) as archive:
            name = next(name for name in COLLECTIONS if name in archive.namelist())
            if archive.getinfo(name).file_size > MAX_COLLECTION_BYTES:
                raise Unreadable(_too_large())
            with archive.open(name) as entry:
                return _held(cast(BinaryIO, entry), is_zstd=name == COLLECTIONS[0])
    except (*DAMAGES, ValueError):
        raise Unreadable(_DAMAGED) from None


def _held(entry: BinaryIO, *, is_zstd: bool) -> bytes:
    if not is_zstd:
        return entry.read()
    import pyarrow  # with threads of its own, which have to stand within the walls

    with pyarrow.CompressedInputStream(pyarrow.PythonFile(entry, mode="r"), "zstd") as stream:
        held: bytes = stream.read(MAX_COLLECTION_BYTES + 1)
    if len(held) > MAX_COLLECTION_BYTES:
        raise Unreadable(_too_large())
    return held


def _too_large() -> str:
    return (
        f"The cards of this Anki package have more than {MAX_COLLECTION_BYTES / 1e6:,.0f} MB; "
        "export one deck at a time, without its history."
    )


def _unicase(one: str, other: str) -> int:
    left, right = one.casefold(), other.casefold()
    return (left > right) - (left < right)


def _require_table(database: sqlite3.Connection) -> None:
    """A view in a table's place could compute without end."""
    kinds = database.execute("SELECT type FROM sqlite_master WHERE name = 'notes'").fetchall()
    if kinds != [("table",)]:
        raise Unreadable(_DAMAGED)


def _only_notes(action: int, one: str | None, *_: Any) -> int:
    is_read = action == sqlite3.SQLITE_READ and one == "notes"
    return sqlite3.SQLITE_OK if is_read or action == sqlite3.SQLITE_SELECT else sqlite3.SQLITE_DENY


def _field_names(database: sqlite3.Connection) -> dict[int, list[str]]:
    """Return the names of fields by note type; in JSON until 2020, in a table since."""
    names: dict[int, list[str]] = {}
    tables = dict(
        database.execute("SELECT name, type FROM sqlite_master WHERE name IN ('fields', 'col')")
    )
    try:
        if tables.get("fields") == "table":
            found = database.execute("SELECT ntid, name FROM fields ORDER BY ntid, ord LIMIT 10000")
            for kind, name in found:
                names.setdefault(kind, []).append(str(name)[:100])
        elif tables.get("col") == "table":
            (models,) = database.execute("SELECT models FROM col").fetchone()
            for kind, model in json.loads(models).items():
                names[int(kind)] = [str(each["name"])[:100] for each in model["flds"]]
    except (sqlite3.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # fields have numbers then
    return names
