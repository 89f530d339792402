"""What is said of rows that become no example, whatever the columns are."""

from collections import Counter

from app.core.sentences import counted
from app.datasets.mapping import LEFT_OUT
from app.datasets.readers import exports
from app.datasets.readers.inspections import Inspection
from app.datasets.readers.unreadable import Unreadable


def no_rows(inspection: Inspection) -> str:
    """Say why nothing was found in a file."""
    if inspection.way == "pairs":
        return (
            "This document has no headings, tables or “Q:” lines with answers below or beside "
            "them; read it as plain text, or make the questions headings."
        )
    if inspection.way == "text":
        return "This document has no text; upload one with text in it."
    if inspection.format in exports.NOTHING:
        return exports.NOTHING[inspection.format]
    if inspection.columns:
        return (
            "This file has column names but no rows below them; add examples and upload it again."
        )
    return "This file has an empty list; add examples and upload it again."


def none_usable(counts: Counter[str]) -> str:
    """Say why no row of a file has anything in it, by the reasons for which rows were left out."""
    reasons = [
        counted(count, *LEFT_OUT[reason])
        for reason, count in counts.most_common()
        if reason != "blank"
    ]
    if not reasons:
        return "This file has only empty cells; fill them, then upload it again."
    return (
        f"No row of this file can be used: {', '.join(reasons)}; correct them, then upload the "
        "file again."
    )


def judge(inspection: Inspection, left_out: list[int]) -> None:
    """Tell of rows with more cells than columns.

    Raises:
        Unreadable: most rows have.
    """
    if len(left_out) * 2 > inspection.num_rows:
        raise Unreadable(
            f"From {inspection.place} {left_out[0]:,} on, most rows have more cells than the first "
            f"{inspection.place} has columns; the texts probably have the delimiter without quotes "
            "around them: save the file as XLSX, or as CSV with quotes."
        )
    if left_out:
        inspection.warnings.append(
            f"{len(left_out):,} rows have more cells than there are columns (first in "
            f"{inspection.place} {left_out[0]:,}) and will be left out; put quotes around texts "
            "that have the delimiter in them."
            if len(left_out) > 1
            else f"1 row has more cells than there are columns ({inspection.place} "
            f"{left_out[0]:,}) and will be left out; put quotes around texts that have "
            "the delimiter in them."
        )


def tell_passed_over(inspection: Inspection, counts: Counter[str]) -> None:
    """Tell of each kind of row that was passed over, with how many."""
    words = _PASSED_OVER
    if not inspection.is_document:
        words = words | _OF_QUIZ
    for reason, (one, many) in words.items():
        if counts[reason]:
            inspection.warnings.append(counted(counts[reason], one, many))


# Of rows that are no examples whatever the columns are.
_PASSED_OVER = {
    "hidden": (
        "1 row is hidden or filtered out and was left out; take hidden rows in if it belongs here.",
        "{n} rows are hidden or filtered out and were left out; take hidden rows in if they belong "
        "here.",
    ),
    "header_again": (
        "1 row repeats the column names and was left out.",
        "{n} rows repeat the column names and were left out.",
    ),
    "broken_row": (
        "1 row may be a part of a text with a line break and was left out; put quotes around texts "
        "with line breaks, or save the file as XLSX.",
        "{n} rows may be parts of texts with line breaks (a line with too few cells follows) and "
        "were left out; put quotes around texts with line breaks, or save the file as XLSX.",
    ),
    "hint": (
        "The row below the column names only says what to write there and was left out.",
        "{n} rows below the column names only say what to write there and were left out.",
    ),
    "options": (
        "1 question has options to choose from and does not say which is right, so it was left "
        "out; mark the right one with a star, or write it as the answer.",
        "{n} questions have options to choose from and do not say which is right, so they were "
        "left out; mark the right ones with a star, or write them as the answers.",
    ),
    "no_right_answer": (
        "1 question has no right answer in the file and was left out.",
        "{n} questions have no right answer in the file and were left out.",
    ),
    "question_kind": (
        "1 question is of a kind that cannot be read as text, such as dragging or several gaps, "
        "and was left out.",
        "{n} questions are of kinds that cannot be read as text, such as dragging or several gaps, "
        "and were left out.",
    ),
    "broken_question": (
        "1 question has braces that do not close, and was left out.",
        "{n} questions have braces that do not close, and were left out.",
    ),
    "notice": (
        "1 row is a notice of the program, which nobody said, and was left out.",
        "{n} rows are notices of the program, which nobody said, and were left out.",
    ),
    "no_speaker": (
        "1 row does not say who speaks and was left out.",
        "{n} rows do not say who speaks and were left out.",
    ),
    "not_text": (
        "1 message is no text but a picture, a sound, a poll or a place, and was left out; look "
        "whether what follows it still makes sense.",
        "{n} messages are no text but pictures, sounds, polls or places, and were left out; look "
        "whether what follows them still makes sense.",
    ),
    "total": (
        "1 row at the end is a total and was left out.",
        "{n} rows at the end are totals and were left out.",
    ),
}


# Of a document a person marks the right ones; a quiz says it in its own way.
_OF_QUIZ = {
    "options": (
        "1 question does not say which of its options is right, and was left out; set the right "
        "one in the quiz and export it again.",
        "{n} questions do not say which of their options are right, and were left out; set the "
        "right ones in the quiz and export it again.",
    ),
}
