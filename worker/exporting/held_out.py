"""Held-out rows as token ids: what was asked, and the reference answer that is judged."""

from collections.abc import Sequence
from typing import NamedTuple

from app.training.chat import IGNORE_INDEX, ChatError, ChatFormat
from worker.exporting.agreement import ENOUGH_POSITIONS
from worker.exporting.requests import Row, Unusable

NUM_ROWS = 20
# Longer ones are cut: a conversation at its beginning, an answer at its end.
_MAX_TOKENS, _MAX_JUDGED = 512, 128


class Asked(NamedTuple):
    """A row's token ids, and the position of the answer's first one."""

    ids: list[int]
    start: int


def choose(chat: ChatFormat, rows: Sequence[Row]) -> list[Asked]:
    """Return up to 20 rows: the first, or those with the longest answers where that is too little.

    Raises:
        Unusable: the starting model's template takes none of them.
    """
    asked = [one for row in rows if (one := _asked(chat, row)) is not None]
    if not asked:
        raise Unusable(
            "None of the held-out rows can be asked of this starting model, so this could not be "
            "proved."
        )
    chosen = asked[:NUM_ROWS]
    if sum(len(one.ids) - one.start for one in chosen) < ENOUGH_POSITIONS:
        chosen = sorted(asked, key=lambda one: one.start - len(one.ids))[:NUM_ROWS]
    return chosen


def _asked(chat: ChatFormat, row: Row) -> Asked | None:
    """Encode a row up to the end of its last answer; of plain text the second half is judged."""
    try:
        encoded = chat.encode(row.messages, _MAX_TOKENS, row.tools)
    except ChatError:
        return None  # e.g. its turns are in an order that this template does not take
    ids, labels = encoded.token_ids, encoded.labels
    end = max((i + 1 for i, label in enumerate(labels) if label != IGNORE_INDEX), default=0)
    start = end
    while start > 1 and labels[start - 1] != IGNORE_INDEX:
        start -= 1
    if row.messages[0].get("role") == "text":
        start = max(1, end // 2)
    end = min(end, start + _MAX_JUDGED)
    return Asked(ids[:end], start) if end > start else None
