"""Damage in a text itself: broken letters, marks of web pages, stray blanks, gaps left open."""

import re
from array import array
from collections.abc import Iterable

from app.datasets.doctor import mending
from app.datasets.doctor.findings import CheckFinding
from app.datasets.doctor.rows import Row

# In capitals between brackets, as forms have it, in the languages of the samples.
_FIELDS = (
    r"(?:YOUR |INSERT |FIRST |LAST |FULL |PATIENT |PUPIL |STUDENT |CUSTOMER |COMPANY |HOSPITAL )*"
    r"(?:NAME|DATE|TIME|ADDRESS|PHONE|PHONE NUMBER|EMAIL|COMPANY|CITY|TOWN|TITLE|AMOUNT|NUMBER|URL|"
    r"LINK|PLACEHOLDER|TEXT|TEXT HERE|HERE|TBD|PATIENT|PUPIL|STUDENT|CUSTOMER|TOPIC|SIGNATURE|"
    r"DATUM|ADRESSE|ORT|TELEFON|NOM|PRÉNOM|PRENOM|VILLE|NOMBRE|FECHA|DIRECCIÓN|NAAM|NOME|DATA)"
)
_GAP = re.compile(
    r"\{\{\s*[\w .-]{1,40}\s*\}\}"
    r"|\$\{\w{1,40}\}"
    rf"|\[{_FIELDS}\]|<{_FIELDS}>"
    r"|\bX{3,}\b"
    r"|(?i:lorem ipsum)"
)
_SIGNS = ("{", "[", "<", "XXX", "orem", "OREM")


class Texts:
    """Checks each text by itself."""

    def __init__(self) -> None:
        self._rows = {kind: array("i") for kind in ("broken_letters", "markup", "spaces")}
        self._gaps = array("i")

    def check(self, rows: list[Row]) -> None:
        for row in rows:
            contents = [message.get("content") or "" for message in row.messages]
            whole = "\n".join(contents)
            if not whole.isascii() and (
                mending.REPLACEMENT in whole or mending.letters(whole) != whole
            ):
                self._rows["broken_letters"].append(row.index)
            if ("<" in whole or "&" in whole) and mending.markup(whole) != whole:
                self._rows["markup"].append(row.index)
            if any(text != mending.spaces(text) for text in contents):
                self._rows["spaces"].append(row.index)
            if has_gap(whole):
                self._gaps.append(row.index)

    def findings(self) -> Iterable[CheckFinding]:
        for kind, rows in self._rows.items():
            yield CheckFinding(kind, rows)
        yield CheckFinding("placeholder", self._gaps)


def has_gap(text: str) -> bool:
    """Say whether a text has a place that somebody was to fill in."""
    return any(sign in text for sign in _SIGNS) and _GAP.search(text) is not None
