"""Sheets of a workbook, or files of an archive, one after the other as one table."""

import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from app.datasets.readers import archives
from app.datasets.readers.inspections import Inspection, Part, ReadAs
from app.datasets.readers.sources import NumberedRow, Source
from app.datasets.readers.unreadable import Unreadable

MAX_WARNINGS = 12


def joined(
    parts: list[tuple[str, Callable[[ExitStack], Source]]],
    inspection: Inspection,
    noun: str,
    read_as: ReadAs,
) -> Source:
    """Read several tables one after the other as one; a column says which each row is from."""
    with ExitStack() as stack, named(parts[0][0]):
        first = parts[0][1](stack)
        columns = _columns(first)
    name = noun if noun not in columns else f"{noun} (2)"
    for key in (
        "encoding", "encoding_is_guess", "encoding_is_doubtful", "delimiter", "has_header",
        "header_row", "way", "chunk_tokens", "overlap_tokens",
    ):  # fmt: skip
        setattr(inspection, key, getattr(first.inspection, key))
    _note_choices(inspection, first.inspection, read_as)
    if len(parts) == 1:
        name = ""
    inspection.columns = [*([name] if name else []), *first.inspection.columns]

    def rows() -> Iterator[NumberedRow]:
        number = 0
        for label, opener in parts:
            part = Part(name=label)
            inspection.parts.append(part)
            with ExitStack() as stack, named(label):
                source = opener(stack)
                _agree(columns, _columns(source), parts[0][0])
                for _, row in source.rows:
                    number += 1
                    part.num_rows += 1
                    if isinstance(row, dict) and name:
                        row = {name: label, **row}  # noqa: PLW2901 - the same row, with its origin
                        if source.inspection.pause_minutes and "conversation" in row:
                            # Each file counts its own.
                            row["conversation"] = f"{label} · {row['conversation']}"
                    yield number, row
            _tell(inspection, source, label)
            part.options = source.inspection.options
            part.pause_minutes = source.inspection.pause_minutes
            _note_choices(inspection, source.inspection, read_as)

    return Source(inspection, rows(), first.unnamed)


def _note_choices(inspection: Inspection, of_part: Inspection, read_as: ReadAs) -> None:
    """Offer what one quiz or one chat among others needs, as it was chosen for all of them."""
    if of_part.options:
        inspection.options = read_as.options
    if of_part.pause_minutes:
        inspection.pause_minutes = read_as.pause_minutes


def _columns(source: Source) -> list[str]:
    """Return the columns of a part; JSON names them row by row, so its first row stands for it."""
    if source.inspection.columns:
        return source.inspection.columns
    first = next(source.rows, None)
    if first is None:
        return []
    source.rows = itertools.chain([first], source.rows)
    return list(first[1]) if isinstance(first[1], dict) else []


def _agree(first: list[str], other: list[str], name: str) -> None:
    one, two = set(first), set(other)
    # Fields of JSON may be left out where they are empty.
    if one == two or (one and two and (one <= two or two <= one)):
        return

    def listed(columns: list[str]) -> str:
        return ", ".join(f"“{c}”" for c in columns[:4]) + (", …" if len(columns) > 4 else "")

    raise Unreadable(
        f"Its columns ({listed(other) or 'none'}) differ from those of “{name}” "
        f"({listed(first) or 'none'}); give all parts the same columns, or upload each by itself."
    )


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say in which part something was wrong."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise archives.damaged(name) from None
    except NotImplementedError:
        raise Unreadable(
            f"“{name}” in this archive is packed in a way that is not known here; pack the files "
            "again as an ordinary ZIP."
        ) from None
    except Unreadable as error:
        message = str(error)
        raise Unreadable(f"In “{name}”: {message}") from None


def _tell(inspection: Inspection, source: Source, label: str) -> None:
    for warning in source.inspection.warnings:
        if len(inspection.warnings) < MAX_WARNINGS:
            inspection.warnings.append(f"“{label}”: {warning}")
    inspection.encoding_is_guess = (
        inspection.encoding_is_guess or source.inspection.encoding_is_guess
    )
    inspection.encoding_is_doubtful = (
        inspection.encoding_is_doubtful or source.inspection.encoding_is_doubtful
    )
    inspection.numbers_are_doubtful = (
        inspection.numbers_are_doubtful or source.inspection.numbers_are_doubtful
    )
    for place, number in source.inspection.found_in.items():
        inspection.found_in[place] = inspection.found_in.get(place, 0) + number
