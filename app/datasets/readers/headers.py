"""Where a table's column names are: below titles, in two rows, above a hint, repeated amid rows.

The first rows are looked at; what is passed over is counted and said, and a person may name the
row (`header_row`).
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.core.sentences import counted
from app.datasets.column_names import ROLES, is_known_name, likely_role, plain, says
from app.datasets.mapping import ColumnRole, LeftOut
from app.datasets.readers.unreadable import Unreadable

MAX_NAME_CHARACTERS = 200
# A person may name a row up to here; by itself the header is looked for further up.
MAX_HEADER_ROW = 1000
_NUM_LOOKED_AT = 40
_MAX_ABOVE = 15
_MAX_NAME_LENGTH = 60
_MAX_TOTALS = 20
# Hidden rows above the first that is shown.
_MAX_HELD = 100_000
# At the ends of a name nobody sees them.
_INVISIBLE = " \t\r\n\u00a0\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u3000\ufeff"

Cells = list[Any]
Numbered = tuple[int, Cells | LeftOut]

_HINT_WORDS = (
    r"\([^()]*\)|\[[^\[\]]*\]|<(?!bos>|s>|eos>|pad>|unk>)[^<>|/]*>",
    r"e\.\s?g\..*|for example.*|example:.*|z\.\s?b\..*|beispiel:.*",
    r"p(ar)? ?ex\..*|exemple ?:.*|p\. ?ej\..*|ejemplo:.*|ad es\..*|esempio:.*",
    r"bijv\..*|voorbeeld:.*",
    r"(please |bitte )?(enter|write|type|fill in|put|choose|select)\b.*|bitte .*",
    r"hier .*(eintragen|eingeben|schreiben).*|(saisir|écrire|indiquer|escribir|scrivere)\b.*",
    r"max(\.|imum|imal)? ?\d+.*",
    r"(required|optional|mandatory|pflichtfeld|obligatoire|facultatif|obligatorio|opcional"
    r"|verplicht)\s*\*?",
)
_HINT = re.compile(rf"\s*({'|'.join(_HINT_WORDS)})\s*$", re.IGNORECASE | re.DOTALL)
# What a column holds, and nothing else: in a list of words they are words as any other.
_TYPES = {
    "text": "text", "free text": "text", "freitext": "text", "string": "text",
    "number": "number", "integer": "number", "zahl": "number", "date": "date", "datum": "date",
}  # fmt: skip
_TOTAL_WORDS = (
    r"(grand |sub)?totals?|sum|average|mean|median|count|gesamt(summe)?|summe|insgesamt|mittelwert",
    r"durchschnitt|anzahl|total général|totaux|somme|moyenne|nombre|totale|somma|media|promedio",
    r"suma|totaal|som|gemiddelde|aantal|totalt|snitt|razem|średnia|итого|всего|合计|总计|合計",
)
_TOTAL = re.compile(
    rf"\s*({'|'.join(_TOTAL_WORDS)})\b\s*[:：=]?\s*[\d.,:% ]*"
    r"(rows?|entries|zeilen|einträge|lignes|filas|righe|rijen)?\s*$",
    re.IGNORECASE,
)
# Who speaks, in turns: no names of columns where rows stand above them.
_SPEAKING = frozenset({"user", "human", "assistant", "gpt", "system", "a", "q"})
_PAIR = frozenset({ColumnRole.QUESTION, ColumnRole.ANSWER})
# No name that is known is longer.
_MAX_KNOWN = 28
_FIGURE = re.compile(r"[-+(]?[\d.,:/ ]*\d[\d.,:/ ]*\)?\s*[%€$£]?")


@dataclass
class Rows:
    """Named columns and numbered rows; a row that cannot be one is a LeftOut."""

    columns: list[str]
    rows: Iterator[tuple[int, dict[str, Any] | LeftOut]]
    # Columns that the file gives no name: dropped where they stay blank.
    unnamed: set[str] = field(default_factory=set)
    has_header: bool = True
    # Which row has the names; 0 where none does.
    header_row: int = 0
    warnings: list[str] = field(default_factory=list)
    # What only the rows tell: said once they are read.
    closing: list[str] = field(default_factory=list)
    # It has numbers of which nobody knows how the sheet writes them; known then, too.
    numbers_are_doubtful: bool = False


class _Found(NamedTuple):
    """Where the names are, by their places among the filled rows."""

    first: int | None  # none: no row has names
    num_above: int = 0  # rows that are no part of the table
    upper: int | None = None  # a row of groups of columns above the names
    lower: int | None = None  # or the names' second row below them


def with_header(
    rows: Iterator[Numbered],
    place: str,
    *,
    header_row: int | None = None,
    has_header: bool | None = None,
    groups: Iterable[tuple[int, int, int]] = (),
    dropped: Iterable[int] = (),
    judged: Callable[[Iterator[Numbered], int], Iterator[Numbered]] | None = None,
) -> Rows:
    """Find the row with the columns' names; the rows below it follow.

    Args:
        place: What a row's number counts: “line” or “row”.
        header_row: The number of the row with the names, as a person said; 0: there is none.
        has_header: Without a number: the first row has them, or none has.
        groups: Merged cells that span columns: row, first and last column.
        dropped: Places of columns that are left out.
        judged: Given the rows below the names and how many names there are; takes out some.
    """
    head = _first(rows, header_row or 0)
    filled = [
        (at, cells)
        for at, (_, cells) in enumerate(head)
        if not isinstance(cells, LeftOut) and any(cells)
    ]
    if not filled:
        raise Unreadable(
            "All rows of this sheet are hidden; show them, or take hidden rows in."
            if any(isinstance(cells, LeftOut) for _, cells in head)
            else "This file is blank; upload one with examples."
        )
    spans = [(row, left, right) for row, left, right in groups if right > left]
    table = _Table(head, filled, spans, place, set(dropped))
    found = table.chosen(header_row, has_header)
    is_wished = header_row is not None or has_header is not None
    return table.rows(found, rows, judged, is_wished=is_wished)


def _first(rows: Iterator[Numbered], number: int) -> list[Numbered]:
    """Take the rows that are looked at: some that are filled, and all up to a wished one."""
    head: list[Numbered] = []
    num_filled = 0
    for at, cells in rows:
        head.append((at, cells))
        num_filled += not isinstance(cells, LeftOut)
        is_enough = num_filled >= _NUM_LOOKED_AT and (at >= number or num_filled > MAX_HEADER_ROW)
        if is_enough or len(head) > _MAX_HELD:
            break
    return head


class _Table:
    def __init__(
        self,
        head: list[Numbered],
        filled: list[tuple[int, Cells]],
        spans: list[tuple[int, int, int]],
        place: str,
        dropped: set[int],
    ) -> None:
        self.head, self.filled, self.spans, self.place = head, filled, spans, place
        self.dropped = dropped
        self.texts = [[str(cell).strip() for cell in cells] for _, cells in filled]
        self.num_filled = [sum(map(bool, texts)) for texts in self.texts]
        self.known = [
            _num_known(texts, is_first=at == 0)
            if at == 0 or not any(t.endswith((".", "?", "!")) for t in texts)
            else 0
            for at, texts in enumerate(self.texts[:_MAX_ABOVE])
        ]
        # What has nothing below it names nothing.
        if 1 < len(self.filled) <= _MAX_ABOVE:
            self.known[-1] = 0
        # How many cells most rows have; of equals the most.
        counts = Counter(self.num_filled)
        self.width = max(counts, key=lambda number: (counts[number], number))

    def number(self, at: int) -> int:
        return self.head[self.filled[at][0]][0]

    def chosen(self, header_row: int | None, has_header: bool | None) -> _Found:
        if header_row == 0 or (header_row is None and has_header is False):
            return _Found(None)
        if header_row is not None:
            at = next((n for n in range(len(self.filled)) if self.number(n) == header_row), None)
            if at is None:
                raise Unreadable(
                    f"There is nothing in {self.place} {header_row:,}, so it cannot have the "
                    "column names; choose another row."
                )
            return self._with_groups(at)
        if has_header:
            return _Found(0)
        at = self._search()
        if at is None:
            return _Found(None, num_above=self._num_titles())
        return self._with_groups(at)

    def _search(self) -> int | None:
        """Return which row most likely has the names, if any."""
        if self.known and self.known[0] >= 2:
            return 0
        usable = [known if self._has_titles_above(at) else 0 for at, known in enumerate(self.known)]
        best = max(usable, default=0)
        if best >= 2:
            return usable.index(best)
        titles = self._num_titles()
        named = [
            at
            for at, known in enumerate(usable)
            if known and self.num_filled[at] * 5 >= self.width * 3 and at <= titles + 1
        ]
        if named:
            return named[0]
        if self.known and self.known[0]:
            return 0
        is_data = looks_like_data(self.texts[titles]) and not self._asks(titles)
        return None if is_data or self._is_card(titles) else titles

    def _has_titles_above(self, at: int) -> bool:
        """Say whether all above a row is narrower than the table: only that is no part of it."""
        width = max(self.width, self.num_filled[at])
        return all(number < width for number in self.num_filled[:at])

    def _is_card(self, at: int) -> bool:
        """Say whether a row is a word and what it means, as lists to learn by heart have them."""
        texts = [text for text in self.texts[at] if text]
        return len(texts) == self.width == 2 and texts[1][0].islower() and texts[1].count(" ") > 1

    def _asks(self, at: int) -> bool:
        """Say whether names are questions, as in a form: what stands below them is none."""
        texts, below = self.texts[at], self.texts[at + 1 :]
        asking = [n for n, text in enumerate(texts) if text.endswith(("?", "？", "؟"))]
        others = [text for n, text in enumerate(texts) if n not in asking]
        if not asking or len(below) < 3 or not any(others) or looks_like_data(others):
            return False
        answers = [_at(row, n) for row in below for n in asking]
        return sum(text.endswith(("?", "？", "؟")) for text in answers) * 10 < len(answers) * 3

    def _may_be_an_example(self, at: int) -> bool:
        """Say whether two texts that count as names could as well be the first of the rows."""
        if self.width != 2 or self.known[at] or len(self.filled) <= at + 1:
            return False
        # “Libellé de la question” beside “Réponse attendue”: the columns are proposed by that.
        names = [plain(text) for text in self.texts[at] if text]
        said = [
            {name for name in names if says(name, role)}
            for role in (ColumnRole.QUESTION, ColumnRole.ANSWER)
        ]
        is_named = all(said) and said[0] != said[1]
        return not (is_named or any(likely_role(text) for text in self.texts[at] if _is_name(text)))

    def _num_titles(self) -> int:
        """Return how many rows above the table have a single cell, as titles do."""
        if self.width < 2 or self.num_filled[0] > 1:
            return 0
        found = next(
            (
                at
                for at, number in enumerate(self.num_filled[:_MAX_ABOVE])
                if number >= 2 and number * 5 >= self.width * 3
            ),
            0,
        )
        return found if self.num_filled[found] > 1 else 0

    def _with_groups(self, at: int) -> _Found:
        if at > 0 and self._groups(at - 1, at):
            return _Found(at, at - 1, upper=at - 1)
        if at + 1 < len(self.filled) and self._goes_on(at):
            return _Found(at, at, lower=at + 1)
        return _Found(at, at)

    def _groups(self, above: int, below: int) -> bool:
        """Say whether a row names groups of the columns that the row below it names."""
        if self.number(below) != self.number(above) + 1:
            return False
        upper, lower = self.texts[above], self.texts[below]
        spanned = self._spans_of(above)
        if any(left == 0 and right >= len(lower) - 1 for left, right in spanned):
            return False  # a title over the whole table
        if self.num_filled[above] < 2 and not spanned:
            return False
        gaps = [n for n, text in enumerate(lower) if text and not _at(upper, n)]
        return bool(gaps) and not looks_like_data(upper)

    def _goes_on(self, at: int) -> bool:
        """Say whether the row below the names is their second row."""
        upper, lower = self.texts[at], self.texts[at + 1]
        if self.number(at + 1) != self.number(at) + 1 or looks_like_data(lower):
            return False
        width = max(len(upper), len(lower))
        gaps = [n for n in range(width) if not _at(upper, n)]
        if not gaps or not all(_at(lower, n) for n in gaps):
            return False
        if not all(_is_name(text) and not _FIGURE.fullmatch(text) for text in lower if text):
            return False
        covered = {n for left, right in self._spans_of(at) for n in range(left, right + 1)}
        if covered and all(n in covered for n in gaps):
            return True
        # Without merged cells: words that name, unlike the rows below, and come again.
        shown = [text for text in lower if text]
        below = self.texts[at + 2 : at + 8]
        is_unlike = any(any(not _is_name(t) or looks_like_data([t]) for t in row) for row in below)
        return len(gaps) < width - 1 and is_unlike and len(set(shown)) < len(shown)

    def _spans_of(self, at: int) -> list[tuple[int, int]]:
        number = self.number(at)
        return [(left, right) for row, left, right in self.spans if row == number]

    def _names(self, found: _Found) -> list[str]:
        assert found.first is not None
        texts = self.texts[found.first]
        if found.upper is not None:
            return _combined(self.texts[found.upper], texts, self._spans_of(found.upper))
        if found.lower is not None:
            return _combined(texts, self.texts[found.lower], self._spans_of(found.first))
        return texts

    def rows(
        self,
        found: _Found,
        rest: Iterator[Numbered],
        judged: Callable[[Iterator[Numbered], int], Iterator[Numbered]] | None,
        *,
        is_wished: bool,
    ) -> Rows:
        warnings: list[str] = []
        if found.first is None:
            first = self.texts[found.num_above]
            if not is_wished:
                warnings.append(
                    f"The first {self.place} looks like an example and not like column names, so "
                    "the columns are numbered; if it does have the names, say so below."
                    if not found.num_above
                    else f"{self.place.capitalize()} {self.number(found.num_above):,} looks like "
                    "an example and not like column names, so the columns are numbered; if a row "
                    "has the names, say so below."
                )
            header, begins = [""] * len(first), self.filled[found.num_above][0]
            number = 0
        else:
            header = self._names(found)
            last = found.first if found.lower is None else found.lower
            begins = self.filled[last][0] + 1
            number = self.number(found.first)
        if found.num_above and not is_wished:
            warnings.append(self._above(found, number))
        if found.first is not None and not is_wished and self._may_be_an_example(found.first):
            warnings.append(
                f"None of the column names in {self.place} {number:,} is known here; if that "
                f"{self.place} is an example, say below that there are none (0)."
            )
        names, unnamed = _names(header, warnings, found.first is not None)
        # What is hidden above the names is counted as what is hidden below them.
        hidden_above = [row for row in self.head[:begins] if isinstance(row[1], LeftOut)]
        body: Iterator[Numbered] = itertools.chain(hidden_above, self.head[begins:], rest)
        if judged is not None:
            body = judged(body, len(names))
        kept = [n for n in range(len(names)) if n not in self.dropped]
        hidden = [names[n] for n in range(len(names)) if n in self.dropped and header[n]]
        if hidden:
            shown = ", ".join(f"“{name}”" for name in hidden[:3])
            shown += ", …" if len(hidden) > 3 else ""
            warnings.append(
                counted(
                    len(hidden),
                    "1 hidden column was left out ({shown}).",
                    "{n} hidden columns were left out ({shown}).",
                    shown=shown,
                )
            )
        table = Rows([names[n] for n in kept], iter(()), unnamed, found.first is not None, number)
        table.warnings = warnings
        again = _Again(header, names, kept, self.place) if found.first is not None else None
        table.rows = _following(body, names, kept if self.dropped else None, again, table)
        return table

    def _above(self, found: _Found, number: int) -> str:
        if number == 0:
            return counted(
                found.num_above,
                "1 {place} above the table is not used.",
                "{n} {place}s above the table are not used.",
                place=self.place,
            )
        return counted(
            found.num_above,
            "The column names are in {place} {row}; the {place} with text above it is not used.",
            "The column names are in {place} {row}; the {n} {place}s with text above it are not "
            "used.",
            place=self.place,
            row=f"{number:,}",
        )


def _following(  # noqa: PLR0912 - a branch for each kind of row
    body: Iterator[Numbered],
    names: list[str],
    kept: list[int] | None,
    again: "_Again | None",
    table: Rows,
) -> Iterator[tuple[int, dict[str, Any] | LeftOut]]:
    """Name the cells of the rows below the names, or of all where there are none.

    A hint below the names, the names when they come again, and totals at the end are left out.
    Names that come again in another order count for the rows below them.
    """
    width = len(names)
    blanks = [""] * width
    some = None if kept is None else [(n, names[n]) for n in kept]
    totals: list[tuple[int, dict[str, Any]]] = []
    may_be_hint = again is not None
    for at, cells in body:
        if isinstance(cells, LeftOut):
            yield at, cells
            continue
        if again is not None and again.is_like(cells) and again.is_same(at, cells):
            # Behind totals another table follows: they ended the one before.
            for number, _ in totals:
                yield number, LeftOut("total")
            totals, may_be_hint = [], False
            yield at, LeftOut("header_again")
            continue
        if again is not None and again.order is not None:
            ordered = again.in_order(cells, again.order)
            if ordered is None:
                yield at, LeftOut("too_many_cells")
                continue
            row = ordered
        elif len(cells) > width and any(cells[width:]):
            yield at, LeftOut("too_many_cells")
            continue
        elif some is None:
            row = dict(zip(names, cells + blanks[len(cells) :], strict=False))
        else:
            row = {name: cells[n] if n < len(cells) else "" for n, name in some}
        if may_be_hint:
            may_be_hint = False
            texts = [value for value in row.values() if value]
            if texts and _are_hints(texts, names):
                yield at, LeftOut("hint")
                continue
        # A total has a word and figures: no long text at its end.
        is_short = width > 1 and len(cells[-1]) <= _MAX_NAME_LENGTH
        if is_short and len(totals) < _MAX_TOTALS and _is_total(row):
            totals.append((at, row))
            continue
        if totals:
            yield from totals
            totals = []
        yield at, row
    for at, _ in totals:
        yield at, LeftOut("total")
    if again is not None:
        table.closing += again.sentences()


def _are_hints(texts: list[str], names: list[str]) -> bool:
    """Say whether the cells below the names only say what to write there."""
    types = [_TYPES.get(text.strip().casefold()) for text in texts]
    if not all(
        kind or (len(text) <= 300 and _HINT.match(text))
        for text, kind in zip(texts, types, strict=True)
    ):
        return False
    if not all(types):
        return True
    # Two words for one thing are a word and what it means.
    words = {text.strip().casefold() for text in texts}
    return len(words) == len(set(types)) and any(map(is_known_name, names))


class _Again:
    """Knows the names when they come again amid the rows, in whatever order or language.

    What stands below them goes by the last ones: `order` has the name of each place in a row, and
    is None as long as they stand as above the first row.
    """

    def __init__(self, header: list[str], names: list[str], kept: list[int], place: str) -> None:
        self._blank = dict.fromkeys((names[n] for n in kept), "")
        self.order: dict[int, str] | None = None
        self._place = place
        self._dropped = set(range(len(names))) - set(kept)
        compared = {n: _compared(header[n]) for n in kept if header[n]}
        self._places = {word: n for n, word in compared.items()}
        # Names that stand twice say by their places alone which is which.
        self._is_doubled = len(self._places) < len(compared)
        self._words = [compared[n] for n in sorted(compared)]
        self._names = {n: names[n] for n in compared}
        self._unnamed = {n: names[n] for n in kept if n not in compared}
        self._roles = _by_role({n: header[n] for n in compared})
        longest = max(map(len, self._words), default=0)
        self._longest = max(longest + 3, _MAX_KNOWN if len(self._roles) > 1 else 0)
        self._num_others, self._first = 0, (0, "")
        self._unused: list[str] = []

    def is_like(self, cells: Cells) -> bool:
        """Say whether a row may be names, by its first and last cell: asked of each row."""
        # Marks and quotes may stand around them.
        return len(cells[0]) < self._longest and len(cells[-1]) < self._longest

    def is_same(self, at: int, cells: Cells) -> bool:
        """Say whether a row has the names again, and go by their order from there on."""
        texts = {n: cell for n, cell in enumerate(cells) if cell and n not in self._dropped}
        if len(texts) < 2 or not self._may_begin(next(iter(texts.values()))):
            return False
        if max(map(len, texts.values())) >= self._longest:
            return False
        compared = {n: _compared(text) for n, text in texts.items()}
        if list(compared.values()) == self._words:
            found = dict(zip(compared, sorted(self._names), strict=True))
        elif not self._is_doubled and set(compared.values()) == self._places.keys():
            if len(compared) != len(self._places):
                return False
            found = {n: self._places[word] for n, word in compared.items()}
        else:
            found = self._by_meaning(texts, compared)
            if not found:
                return False
        self._follow(at, texts, found)
        return True

    def _may_begin(self, text: str) -> bool:
        word = _compared(text)
        if word in self._places or len(self._roles) < 2:
            return word in self._places
        # Most texts need no closer look, which takes its time.
        if word.isascii() and word[-1:].isalnum():
            return word.replace(" ", "_") in ROLES
        return is_known_name(text)

    def _by_meaning(self, texts: dict[int, str], compared: dict[int, str]) -> dict[int, int]:
        """Return which column each place is, of a row that names a question and an answer."""
        roles = _by_role(texts)
        if _PAIR - roles.keys() or _PAIR - self._roles.keys():
            return {}
        found = {roles[role]: self._roles[role] for role in roles if role in self._roles}
        for n, word in compared.items():
            column = self._places.get(word)
            if n not in found and column is not None and column not in found.values():
                found[n] = column
        return found

    def _follow(self, at: int, texts: dict[int, str], found: dict[int, int]) -> None:
        if all(n == column for n, column in found.items()) and len(found) == len(texts):
            self.order = None
            return
        # Below a name that the table does not have stands what nobody asked for.
        self.order = {n: self._names[found[n]] if n in found else "" for n in texts}
        self.order |= dict.fromkeys(self._dropped, "")
        self.order |= {n: name for n, name in self._unnamed.items() if n not in texts}
        for n, text in texts.items():
            if n not in found and text.strip() not in self._unused and len(self._unused) < 4:
                self._unused.append(text.strip())
        if not self._num_others:
            shown = ", ".join(f"“{text.strip()}”" for text in list(texts.values())[:4])
            self._first = (at, shown + (", …" if len(texts) > 4 else ""))
        self._num_others += 1

    def in_order(self, cells: Cells, order: dict[int, str]) -> dict[str, Any] | None:
        """Name the cells of a row; None where one stands below no name."""
        if any(cell and n not in order for n, cell in enumerate(cells)):
            return None
        named = {name: cells[n] for n, name in order.items() if name and n < len(cells)}
        return self._blank | named

    def sentences(self) -> list[str]:
        """Say where the names came in another order."""
        if not self._num_others:
            return []
        row, shown = self._first
        said = counted(
            self._num_others,
            "In {place} {row} the column names come again in another way ({shown}): what stands "
            "below was read by them.",
            "The column names come again in another way {n} times (first in {place} {row}: "
            "{shown}): what stands below was read by them.",
            place=self._place,
            row=f"{row:,}",
            shown=shown,
        )
        if self._unused:
            unused = ", ".join(f"“{text}”" for text in self._unused[:3])
            unused += ", …" if len(self._unused) > 3 else ""
            said += f" Columns that the first names do not have are not used ({unused})."
        return [said]


def _by_role(names: dict[int, str]) -> dict[ColumnRole, int]:
    """Return where the known kinds of columns are; not those that are named twice."""
    places: dict[ColumnRole, list[int]] = {}
    for n, name in names.items():
        role = ROLES.get(plain(name)) if _is_name(name) else None
        if role is not None and plain(name) not in _SPEAKING:
            places.setdefault(role, []).append(n)
    return {role: found[0] for role, found in places.items() if len(found) == 1}


def _compared(text: str) -> str:
    # Exports that were glued keep the mark of a file's start, and with it the quotes.
    return text.strip('\ufeff" \t').casefold()


def is_total_line(text: str) -> bool:
    """Say whether a text is a total, such as “Total: 24 rows”."""
    return len(text) <= _MAX_NAME_LENGTH and _TOTAL.match(text) is not None


def _is_total(row: dict[str, Any]) -> bool:
    values = iter(row.values())
    first = next((value for value in values if value), None)
    if not isinstance(first, str) or not is_total_line(first):
        return False
    others = [str(value).strip() for value in values if value]
    return all(len(text) <= _MAX_NAME_LENGTH and _FIGURE.fullmatch(text) for text in others)


def _at(texts: list[str], n: int) -> str:
    return texts[n] if n < len(texts) else ""


def _num_known(texts: list[str], *, is_first: bool) -> int:
    """Count the kinds of columns that a row names.

    Below the first one, words for who speaks may be those of a turn, and two words for one kind a
    word and what it means.
    """
    known = [plain(text) for text in texts if _is_name(text) and is_known_name(text)]
    if is_first:
        return len(set(known))
    return len({ROLES.get(name) for name in known if name not in _SPEAKING})


def _is_name(text: str) -> bool:
    return len(text) <= _MAX_NAME_LENGTH and "\n" not in text


def _combined(upper: list[str], lower: list[str], spans: list[tuple[int, int]]) -> list[str]:
    """Put two rows of names together: the lower alone where that says which column it is."""
    width = max(len(upper), len(lower))
    group = list(upper) + [""] * (width - len(upper))
    if spans:
        for left, right in spans:
            group[left : right + 1] = [_at(upper, left)] * (min(right, width - 1) + 1 - left)
    else:
        for n in range(1, width):
            if not group[n] and _at(lower, n):
                group[n] = group[n - 1]
    counts = Counter(_compared(text) for text in lower if text)
    names = []
    for n in range(width):
        name, above = _at(lower, n), group[n]
        if not name or not above or _compared(name) == _compared(above):
            names.append(name or _at(upper, n))
        elif is_known_name(above) and not is_known_name(name):
            names.append(f"{above} ({name})")
        elif counts[_compared(name)] > 1:
            names.append(f"{name} ({above})")
        else:
            names.append(name)
    return names


def _names(header: Cells, warnings: list[str], has_header: bool) -> tuple[list[str], set[str]]:
    names: list[str] = []
    unnamed: set[str] = set()
    doubled: list[str] = []
    for position, cell in enumerate(header, start=1):
        wanted = " ".join(str(cell).strip(_INVISIBLE).split())[:MAX_NAME_CHARACTERS]
        wanted = wanted or f"Column {position}"
        name, count = wanted, 1
        while name in names:
            count += 1
            name = f"{wanted} ({count})"
        if count == 2:
            doubled.append(wanted)
        if has_header and not str(cell).strip(_INVISIBLE):
            unnamed.add(name)
        names.append(name)
    if doubled:
        shown = ", ".join(f"“{name}”" for name in doubled[:3])
        warnings.append(
            f"Several columns are called {shown}; the later ones are numbered, e.g. "
            f"“{doubled[0]} (2)”."
        )
    return names, unnamed


def looks_like_data(cells: Cells) -> bool:
    """Say whether a row reads like an example and not like the names of columns."""
    texts = [str(cell).strip() for cell in cells]
    if any(len(text) <= MAX_NAME_CHARACTERS and is_known_name(text) for text in texts):
        return False
    if len([text for text in texts if text]) > 2 and _is_form(texts):
        return False
    return any(
        len(text) > 100
        or "\n" in text
        or text.endswith(("?", "？", "؟", "."))
        or re.fullmatch(r"-?\d+([.,]\d+)?", text)
        for text in texts
    )


# What forms call the columns that they add by themselves.
_FORM_NAMES = frozenset(
    {"timestamp", "time_stamp", "email_address", "username", "start_time", "completion_time"}
    | {"response_id", "respondent_id", "submission_id", "submitted_at", "submission_date"}
    | {"zeitstempel", "e_mail_adresse", "benutzername", "startzeit", "fertigstellungszeit"}
    | {"horodateur", "adresse_e_mail", "nom_d_utilisateur", "marca_temporal", "nombre_de_usuario"}
    | {"direccion_de_correo_electronico", "informazioni_cronologiche", "indirizzo_email"}
    | {"tijdstempel", "e_mailadres", "carimbo_de_data_hora"}
)


def _is_form(texts: list[str]) -> bool:
    """Say whether names are those of a form, where questions name the columns."""
    return any(plain(text) in _FORM_NAMES for text in texts)
