"""How a workbook's numbers are written: as the language of its texts has them.

The file keeps 12500 and 2.5; 12.500 and 2,5 are the work of the computer that shows it.
"""

import re
from collections.abc import Iterable

from app.datasets.mapping import Separators
from app.datasets.readers import common_words
from app.datasets.readers.grids import Seen

ALL: tuple[Separators, ...] = ("english", "german", "french", "swiss")
_LANGUAGES: dict[str, Separators] = {
    "en": "english",
    **dict.fromkeys(("de", "es", "it", "pt", "nl", "da", "tr", "hr", "ro"), "german"),
    **dict.fromkeys(("fr", "pl", "cs", "hu", "sv", "no", "fi", "et", "lt", "lv"), "french"),
}  # fmt: skip
# Where the letters alone say it: Cyrillic and Greek ones, then those of Asia but Arabic's.
_SCRIPTS: tuple[tuple[re.Pattern[str], Separators], ...] = (
    (re.compile(r"[\u0400-\u04ff]"), "french"),
    (re.compile(r"[\u0370-\u03ff]"), "german"),
    (re.compile(r"[\u0590-\u05ff\u0900-\u0eff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]"), "english"),
)
_WORD = re.compile(r"[^\W\d_]+")
# Countries that write numbers otherwise than others of their language, by Windows' numbers for
# a language there and by its name.
_REGION = re.compile(r"\[\$[^\]]*-(?:0*(807|100C|810|1407|80A)|(?:de|fr|it)-(CH)|es-(MX))\]", re.I)
_MEXICO = frozenset({"80A", "MX"})
_SPOKEN = {"english": frozenset({"es"}), "swiss": frozenset({"de", "fr", "it"})}


def region(codes: Iterable[str]) -> Separators | None:
    """Return the separators of Switzerland or Mexico where a number format names the country."""
    for code in codes:
        if found := _REGION.search(code):
            number = next(filter(None, found.groups())).upper()
            return "english" if number in _MEXICO else "swiss"
    return None


def guess(text: str, of_region: Separators | None = None) -> tuple[Separators, ...]:
    """Return the separators of the language that a text is in; all where that is not clear."""
    words = _WORD.findall(text)
    letters = "".join(words)
    for script, separators in _SCRIPTS:
        if len(script.findall(letters)) * 2 > len(letters):
            return (separators,)
    languages = common_words.languages(word.lower() for word in words)
    if of_region and _SPOKEN[of_region] & {*languages}:
        return (of_region,)
    # Danish and Norwegian texts may be either: one decimal comma, and points or blanks.
    return tuple(dict.fromkeys(_LANGUAGES[each] for each in languages)) or ALL


def said(seen: Seen, is_chosen: bool) -> list[str]:
    """Say in a sentence how numbers are written, unless a person chose it or it is English."""
    if is_chosen:
        return []
    if seen.doubtful:
        text, row = seen.doubtful
        return [
            f"How the sheet shows numbers such as “{text}” (row {row:,}) depends on the computer's "
            "language, and the texts do not say which it is; choose how numbers are written."
        ]
    if seen.separated is None or seen.separators[0] == "english":
        return []
    text, row = seen.separated
    return [
        f"Numbers are written as in the language of the texts, such as “{text}” (row {row:,}); "
        "choose how they are written if the sheet shows them otherwise."
    ]
