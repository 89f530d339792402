"""What was passed over, or met, in rows that did become examples: counted by kind and by word."""

from collections.abc import Sequence

from pydantic import BaseModel

from app.core.sentences import counted
from app.datasets.turns import Noted

NUM_NAMED_ROWS = 5
_MAX_WORDS = 50  # of a kind that are told apart
_NUM_SHOWN = 8
_OTHERS = "others"

# By kind, for one row and for {n}; {words} are those that were met. In the order of their weight.
_SENTENCES = {
    "template": (
        "1 row has a whole chat template written out as text ({words}). Its control words are "
        "learned as letters and divide no turns; send the turns as a list of messages instead",
        "{n} rows have a whole chat template written out as text ({words}). Its control words are "
        "learned as letters and divide no turns; send the turns as a list of messages instead",
    ),
    "control": (
        "1 row has control words of models in its text ({words}). They are learned as letters",
        "{n} rows have control words of models in their text ({words}). They are learned as "
        "letters",
    ),
    "column": (
        "1 row has text in columns that are not used: {words}",
        "{n} rows have text in columns that are not used: {words}",
    ),
    "turn_key": (
        "1 row has turns with fields that are not used: {words}",
        "{n} rows have turns with fields that are not used: {words}",
    ),
    "flag": (
        "1 row has a flag that is neither yes nor no ({words}). It was passed over, and the answer "
        "is learned",
        "{n} rows have a flag that is neither yes nor no ({words}). It was passed over, and the "
        "answer is learned",
    ),
    "fraction": (
        "1 row has an answer with a part of a weight ({words}). It is learned whole",
        "{n} rows have an answer with a part of a weight ({words}). They are learned whole",
    ),
    "half": (
        "1 row is one turn together with an answer that is not to be learned, or is that answer. "
        "Nothing of the turn is learned",
        "{n} rows are one turn together with an answer that is not to be learned, or are that "
        "answer. Nothing of the turn is learned",
    ),
    "continued": (
        "1 row has an answer alone and was joined to the answer above",
        "{n} rows have an answer alone and were joined to the answers above",
    ),
    "alternative": (
        "1 row has a list of several answers, of which the first is learned",
        "{n} rows have lists of several answers, of which the first is learned",
    ),
    "reasoning": (
        "1 row has reasoning beside the answer. It is learned where the starting model's chat "
        "template has a place for it",
        "{n} rows have reasoning beside the answer. It is learned where the starting model's chat "
        "template has a place for it",
    ),
    "placeholder": (
        "1 row has a word that stands for nothing ({words}) where more text could be. It was not "
        "added; if it is meant, say so beside the columns",
        "{n} rows have a word that stands for nothing ({words}) where more text could be. It was "
        "not added; if it is meant, say so beside the columns",
    ),
    "placeholder_alone": (
        "1 row has nothing but a word that may stand for nothing ({words}) as question or answer. "
        "It is learned; leave the row out of the file if nothing was meant",
        "{n} rows have nothing but a word that may stand for nothing ({words}) as question or "
        "answer. They are learned; leave them out of the file if nothing was meant",
    ),
}


class Note(BaseModel):
    """Rows of one kind; kept as Inspection.notes."""

    kind: str
    count: int = 0
    rows: list[int] = []  # the first few
    words: dict[str, int] = {}


class Notes:
    """Counts while rows are read."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Note] = {}

    def add(self, number: int, noted: Noted) -> None:
        """Count what was noted of a row."""
        for kind in {kind for kind, _ in noted}:
            note = self._by_kind.setdefault(kind, Note(kind=kind))
            note.count += 1
            if len(note.rows) < NUM_NAMED_ROWS:
                note.rows.append(number)
        for kind, word in noted:
            words = self._by_kind[kind].words
            known = word if word in words or len(words) < _MAX_WORDS else _OTHERS
            if word:
                words[known] = words.get(known, 0) + 1

    @property
    def found(self) -> list[Note]:
        """What there is, the weightiest first."""
        return [self._by_kind[kind] for kind in _SENTENCES if kind in self._by_kind]


def sentence(note: Note) -> str:
    """Say what was found, without the rows."""
    words = sorted(note.words.items(), key=lambda item: (item[0] == _OTHERS, -item[1], item[0]))
    alone = len(words) == 1 and words[0][1] == note.count
    named = [f"“{word}”" if alone else f"“{word}” {number:,}×" for word, number in words]
    shown = named[:_NUM_SHOWN] + (["…"] if len(named) > _NUM_SHOWN else [])
    return counted(note.count, *_SENTENCES[note.kind], words=", ".join(shown))


def sentences(notes: list[Note], place: str) -> list[str]:
    """Say all that was found, each with the first rows."""
    return [f"{sentence(note)}{where(place, note.rows, note.count)}." for note in notes]


def where(place: str, rows: Sequence[int], count: int) -> str:
    """Say in brackets which rows are meant, e.g. “ (lines 1, 2, …)”; nothing where none is known.

    Args:
        place: What a row's number counts, e.g. “line”.
        rows: The first of them.
        count: How many there are.
    """
    if not rows:
        return ""
    many = "entries" if place == "entry" else f"{place}s"
    numbers = ", ".join(f"{row:,}" for row in rows)
    return f" ({place if count == 1 else many} {numbers}{', …' if count > len(rows) else ''})"
