"""The search for personal details as a check of `etude data inspect`: by the rules, in memory."""

from collections import Counter
from typing import Any

from app.datasets.privacy import texts
from app.datasets.privacy.findings import WORDS, Kind
from app.datasets.privacy.scanner import Scanner

NUM_NAMED_ROWS = 5


class PrivacyCheck:
    """Counts what points to people, by kind, and names the first rows; never what they say."""

    def __init__(self) -> None:
        self._scanner = Scanner()
        self.counts: Counter[Kind] = Counter()
        self.rows: dict[Kind, list[int]] = {}

    def see(self, number: int, messages: list[Any]) -> None:
        """Look through one example, which was made of row `number`."""
        for spans in self._scanner.scan(texts.read(messages)):
            for span in spans:
                self.counts[span.kind] += 1
                rows = self.rows.setdefault(span.kind, [])
                if len(rows) < NUM_NAMED_ROWS and number not in rows:
                    rows.append(number)

    def said(self) -> list[tuple[str, int, list[int]]]:
        """Return, for each kind, a sentence, how many, and the first rows."""
        return [
            (
                f"Personal details: {number:,} {WORDS[kind][number != 1]}",
                number,
                self.rows[kind],
            )
            for kind, number in self.counts.most_common()
        ]
