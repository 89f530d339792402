"""What was asked and answered in Gemini, as Google Takeout writes it under My Activity.

The same in JSON and as a web page: an entry for each thing that was done, of which questions and
answers are some.
"""

import html
import re
from collections.abc import Iterator
from typing import Any

from app.datasets.mapping import LeftOut
from app.datasets.readers import fragments
from app.datasets.readers.grids import Seen

Row = dict[str, Any]

COLUMNS = ["question", "answer", "date"]
# What Google's activity writes before what was asked, in the languages of its pages.
_PROMPTED = (
    "Prompted ", "Asked ", "Said ", "Eingegebener Prompt: ", "Gab Folgendes ein: ", "Prompt: ",
    "Gefragt: ", "Requête : ", "Petición: ", "Prompt inserito: ", "Opdracht gegeven: ",
)  # fmt: skip
# What is no question although something stands below it.
_DONE = ("Created Gemini Canvas", "Used ", "Gave ", "Viewed ", "Visited ", "Selected ")
_PRODUCTS = re.compile(r"\b(?:Gemini|Bard)\b")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
# A line by itself: “27.03.2026, 08:00:00 MEZ”, “Mar 27, 2026, 8:00:00 AM CET”.
_DATE = re.compile(r"(?=.{0,60}\b(?:19|20)\d\d)(?=.{0,60}\d{1,2}[:.]\d\d[:.]\d\d)[^\n]{8,60}")
_FILE = re.compile(r"(?:\s|-|&nbsp;)*<a\s", re.IGNORECASE)


def sentences() -> dict[str, tuple[str, str]]:
    """Return how to say what was left out."""
    return {
        **fragments.sentences("entry"),
        "file": (
            "1 question was asked with a file, which is not in this export (entry {row}); look "
            "whether its answer makes sense without it.",
            "{n} questions were asked with files, which are not in this export (first in entry "
            "{row}); look whether their answers make sense without them.",
        ),
        "prompt": (
            "1 question may begin with words of Google’s, such as “Prompted”, which are not known "
            "in its language (entry {row}); look at it.",
            "{n} questions may begin with words of Google’s, such as “Prompted”, which are not "
            "known in their language (first in entry {row}); look at them.",
        ),
    }


def is_entry(row: Row) -> bool:
    """Tell an entry of Google's activity, of whichever of its products."""
    is_activity = isinstance(row.get("products"), list) or isinstance(row.get("safeHtmlItem"), list)
    return {"title", "header"} <= row.keys() and is_activity


def of_json(row: Row, seen: Seen, number: int) -> Row | LeftOut:
    """Read an entry of JSON."""
    title = str(row.get("title") or "")
    items = row.get("safeHtmlItem")
    answers = [
        fragments.seen_text(str(item.get("html") or ""), seen, number)
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict)
    ]
    title = title.replace("\u00a0", " ")
    start = next((start for start in _PROMPTED if title.startswith(start)), "")
    is_done = not any(answers) or title.startswith(_DONE)  # “Used Gemini”, “Gave feedback”
    if (not start and is_done) or not _PRODUCTS.search(str(row.get("header"))):
        return LeftOut("notice")
    if not start:
        seen.add("prompt", number)
    return {
        "question": title.removeprefix(start).strip(),
        "answer": "\n\n".join(filter(None, answers)),
        "date": str(row.get("time") or ""),
    }


def is_activity(root: Any) -> bool:
    """Say whether a page is such an export: cells of which one is Gemini's."""
    return any(_is_of_gemini(cell) for cell in root.css("div.outer-cell"))


def of_page(root: Any, seen: Seen) -> Iterator[tuple[int, Row | LeftOut]]:
    """Read the entries of a page; those of other products are left out."""
    for number, cell in enumerate(root.css("div.outer-cell"), start=1):
        content = cell.css_first("div.content-cell")
        if content is None or not _is_of_gemini(cell):
            yield number, LeftOut("notice")
        else:
            yield number, _entry(content.inner_html or "", seen, number)


def _is_of_gemini(cell: Any) -> bool:
    head = cell.css_first("div.header-cell")
    return head is not None and _PRODUCTS.search(head.text(deep=True)) is not None


def _entry(content: str, seen: Seen, number: int) -> Row | LeftOut:
    """Read what was asked, a line with the date, and what was answered."""
    lines = _BREAK.split(content)
    dates = [
        at
        for at, line in enumerate(lines)
        if "<" not in line and _DATE.fullmatch(_text(line).strip())
    ]
    if not dates:
        return LeftOut("notice")
    at = dates[0]
    asked = lines[:at]
    files = [place for place, line in enumerate(asked) if _FILE.match(line)]
    if files:  # and before them a line that counts them, in the page's language
        asked = asked[: max(files[0] - 1, 1)]
        seen.add("file", number)
    # Google writes a blank that does not break between what was done and what with.
    done, _, question = "\n".join(map(_text, asked)).partition("\u00a0")
    answer = fragments.seen_text("<br>".join(lines[at + 1 :]), seen, number)
    is_prompt = f"{done} ".startswith(_PROMPTED)
    if not question.strip() or not (is_prompt or answer) or f"{done} ".startswith(_DONE):
        return LeftOut("notice")
    return {
        "question": question.replace("\u00a0", " ").strip(),
        "answer": answer,
        "date": " ".join(_text(lines[at]).split()),
    }


def _text(line: str) -> str:
    return html.unescape(re.sub(r"<[^<>]*>", "", line))
