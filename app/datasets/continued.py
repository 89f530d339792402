"""Answers that go on in the rows below: rows without a question, joined to the answer above."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from app.core.kinds import ExampleKind
from app.datasets.column_names import HARMLESS, plain
from app.datasets.mapping import ColumnRole, LeftOut, Mapping
from app.datasets.notes import Notes

Row = dict[str, Any]
# More than any honest answer has.
_MAX_ROWS, _MAX_CHARACTERS = 1000, 1024**2
# They may stand amid the rows of an answer.
_PASSED = frozenset({"hidden", "blank"})


class GoingOn(BaseModel):
    """Rows that say something new in one column alone, below others; kept in an inspection."""

    rows: int = 0
    above: int = 0  # how many rows they go on with
    first: int = 0


class Below:
    """Counts, by column, the rows of a table that have nothing new but in that column."""

    def __init__(self) -> None:
        self.found: dict[str, GoingOn] = {}
        self._above: Row | None = None
        self._goes_on = ""  # the column of the row before, where that one went on

    def see(self, number: int, row: Row | LeftOut) -> None:
        """Look at the next row."""
        if isinstance(row, LeftOut):
            if row.reason not in _PASSED:
                self._above = None
            return
        # Asked of each row: one without a blank cell is whole.
        values = row.values()
        has_blank = "" in values or " " in values or "\u00a0" in values
        name = self._new(row) if has_blank else None
        if name is None:
            self._above, self._goes_on = row, ""
        elif name:
            found = self.found.setdefault(name, GoingOn(first=number))
            found.rows += 1
            found.above += self._goes_on != name
            self._goes_on = name

    def _new(self, row: Row) -> str | None:
        """Return the one column that says something new; blank: none does; None: the row is one."""
        above = self._above
        new = [name for name in row if _text(row[name]) and plain(name) not in HARMLESS]
        if not new:
            return ""
        if above is None:
            return None
        new = [name for name in new if row[name] != above.get(name)]
        is_less = any(_text(above[name]) and not _text(row.get(name)) for name in above)
        return new[0] if len(new) == 1 and is_less else None


def may_go_on(mapping: Mapping) -> bool:
    """Say whether rows are questions with answers, which other rows could go on with."""
    return (
        mapping.kind is ExampleKind.PAIR
        and bool(mapping.named(ColumnRole.QUESTION))
        and bool(mapping.named(ColumnRole.ANSWER))
    )


def joined(
    mapping: Mapping, rows: Iterator[tuple[int, Row | LeftOut]], notes: Notes
) -> Iterator[tuple[int, Row | LeftOut]]:
    """Join rows that have an answer alone to the row above, and count them."""
    answers = mapping.named(ColumnRole.ANSWER)
    questions = mapping.named(ColumnRole.QUESTION)
    head: tuple[int, Row] | None = None
    first: Row = {}  # the row above as it stood
    num_rows, is_lost = 0, False
    for number, row in rows:
        if isinstance(row, LeftOut):
            if head is not None and row.reason not in _PASSED:
                yield (head[0], LeftOut("broken_row")) if is_lost else head
                head = None
            yield number, row
            continue
        if head is not None and _goes_on(row, first, questions, answers):
            num_rows += 1
            whole = {name: _put_together(head[1].get(name), row.get(name)) for name in answers}
            is_lost |= num_rows > _MAX_ROWS or sum(map(len, whole.values())) > _MAX_CHARACTERS
            if is_lost:  # never half an answer
                yield number, LeftOut("broken_row")
            else:
                head = (head[0], head[1] | whole)
                notes.add(number, {("continued", "")})
            continue
        if not any(row.values()):
            yield number, row
            continue
        if head is not None:
            yield (head[0], LeftOut("broken_row")) if is_lost else head
            head = None
        if any(_text(row.get(name)) for name in questions):
            head, first, num_rows, is_lost = (number, row), row, 0, False
        else:
            yield number, row
    if head is not None:
        yield (head[0], LeftOut("broken_row")) if is_lost else head


def _goes_on(row: Row, above: Row, questions: list[str], answers: list[str]) -> bool:
    if any(_text(row.get(name)) for name in questions):
        return False
    if not any(isinstance(value := row.get(name), str) and value.strip() for name in answers):
        return False
    # What else it has says nothing, or stands above as well.
    return all(
        not _text(value) or name in answers or value == above.get(name) or plain(name) in HARMLESS
        for name, value in row.items()
    )


def _text(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _put_together(above: Any, below: Any) -> str:
    texts = [value.strip() for value in (above, below) if isinstance(value, str)]
    return "\n".join(text for text in texts if text)
