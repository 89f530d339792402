"""A file opened as rows, and the columns that make a table a quiz or a chat."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from app.datasets.mapping import LeftOut
from app.datasets.readers import chats, exports, fragments, headers, option_rows, team_chats
from app.datasets.readers.grids import Seen
from app.datasets.readers.inspections import Inspection, ReadAs, new_inspection

NumberedRow = tuple[int, dict[str, Any] | LeftOut]


class Source:
    """A file opened as rows; `inspection` says how it is read, without what only the rows tell."""

    def __init__(
        self, inspection: Inspection, rows: Iterator[NumberedRow], unnamed: set[str] | None = None
    ) -> None:
        self.inspection = inspection
        self.rows = rows
        self.unnamed = unnamed or set()


def telling(
    rows: Iterator[NumberedRow], inspection: Inspection, said: Callable[[], list[str]]
) -> Iterator[NumberedRow]:
    """Yield rows, and say afterwards what their reader left out."""
    yield from rows
    inspection.warnings += said()


def of_known_table(source: Source, read_as: ReadAs) -> Source:
    """Read tables that are multiple choice, or messages, as what they are."""
    return _of_chat_table(of_option_table(source, read_as), read_as)


def of_option_table(source: Source, read_as: ReadAs) -> Source:
    """Put the right option of each row into one column; leave other tables as they are."""
    inspection = source.inspection
    choice = option_rows.option_columns(inspection.columns)
    if choice is None or read_as.as_it_stands:
        return source
    first = list(itertools.islice(source.rows, option_rows.NUM_FIRST_ROWS))
    source.rows = itertools.chain(first, source.rows)
    if option_rows.only_judges(choice, (row for _, row in first)):
        return source
    rows = option_rows.rows(source.rows, choice, read_as.options)
    inspection.columns = option_rows.kept_columns(inspection.columns, choice)
    inspection.options = read_as.options
    return Source(inspection, rows, source.unnamed)


def _of_chat_table(source: Source, read_as: ReadAs) -> Source:
    """Say of a table of messages which conversation each belongs to; leave others as they are."""
    inspection = source.inspection
    chat = None if read_as.as_it_stands else team_chats.chat_columns(inspection.columns)
    first = next(source.rows, None) if chat is not None else None
    if chat is None or first is None:
        return source
    source.rows = itertools.chain([first], source.rows)
    if not isinstance(first[1], dict) or chats.seconds_of(first[1].get(chat.time)) is None:
        return source
    seen = Seen()
    rows = team_chats.table_rows(source.rows, chat, read_as.pause_minutes, seen)
    said = fragments.sentences(inspection.place)
    inspection.columns = team_chats.table_columns(inspection.columns, chat)
    inspection.pause_minutes = read_as.pause_minutes
    return Source(
        inspection, telling(rows, inspection, lambda: seen.sentences(said)), source.unnamed
    )


def of_table(inspection: Inspection, table: headers.Rows) -> Source:
    """Open a table; what is said of its end is said once it was read."""
    inspection.columns = table.columns
    inspection.has_header, inspection.header_row = table.has_header, table.header_row
    inspection.warnings += table.warnings

    def rows() -> Iterator[NumberedRow]:
        yield from table.rows
        inspection.warnings += table.closing
        inspection.numbers_are_doubtful = table.numbers_are_doubtful

    return Source(inspection, rows(), table.unnamed)


def of_export(export: exports.Export, inspection: Inspection | None = None) -> Source:
    """Open what a program exported."""
    inspection = inspection or new_inspection(export.format, export.place)
    inspection.format, inspection.place = export.format, export.place
    inspection.columns = export.columns
    inspection.options, inspection.pause_minutes = export.options, export.pause_minutes
    # What an export may leave blank is no column where it always is.
    unnamed = set(export.columns) - exports.ESSENTIAL
    return Source(inspection, telling(export.rows, inspection, export.said), unnamed)
