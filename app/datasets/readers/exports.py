"""What programs export that is neither a table nor a document: quizzes, cards, chats and mail.

Each becomes rows; sources.py puts them into a Source beside those of tables and documents.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from app.datasets.mapping import LeftOut, Options
from app.datasets.readers import (
    aiken,
    anki,
    chats,
    fragments,
    gift,
    mail,
    quiz_xml,
    quizzes,
    subtitles,
    whatsapp,
)
from app.datasets.readers.blocks import Block
from app.datasets.readers.files import File
from app.datasets.readers.grids import Seen
from app.datasets.readers.quizzes import Question

ExportFormat = Literal["gift", "aiken", "quiz", "anki", "whatsapp", "subtitles", "mail"]
# Of those, what a person may read as a document instead: it was told by how its text looks.
TOLD_BY_TEXT = frozenset({"gift", "aiken", "anki", "whatsapp", "subtitles"})
# Columns that are there even where all their cells are blank.
ESSENTIAL = frozenset({"conversation", "speaker", "text", "question", "answer"})
# What is said where an export has no row at all.
NOTHING = {
    "gift": "This GIFT file has no questions; export the quiz again from Moodle, with them.",
    "aiken": "This Aiken file has no questions; write each with its options and “ANSWER: ” below.",
    "quiz": "This quiz has no questions; export it again from the learning platform with its "
    "questions.",
    "anki": "This Anki export has no cards; choose a deck that has some and export it again.",
    "whatsapp": "This chat has no messages; export it again from WhatsApp.",
    "subtitles": "These subtitles have no text; export the transcript again.",
    "mail": "This file has no mails; save them again from the mail program.",
    "slack": "This Slack export has no messages; export channels that have some.",
}
Rows = Iterator[tuple[int, dict[str, Any] | LeftOut]]


@dataclass
class Export:
    """An export opened as rows; which choices of a person say how."""

    format: ExportFormat
    place: str  # what a row's number counts
    columns: list[str]
    rows: Rows
    seen: Seen
    sentences: dict[str, tuple[str, str]] = field(default_factory=dict)
    options: Options | None = None
    pause_minutes: int | None = None

    def said(self) -> list[str]:
        """Say what was left out, once the rows are read."""
        return self.seen.sentences(self.sentences)


def text_format(sample: str) -> ExportFormat | None:
    """Say which export a text is, by its first lines; none where it is none."""
    tests: tuple[tuple[ExportFormat, Callable[[str], bool]], ...] = (
        ("subtitles", subtitles.looks_like_subtitles),
        ("whatsapp", whatsapp.looks_like_whatsapp),
        ("anki", anki.looks_like_anki),
        ("aiken", aiken.looks_like_aiken),
        ("gift", gift.looks_like_gift),
    )
    return next((name for name, test in tests if test(sample)), None)


def begins_with_a_date(sample: str) -> bool:
    """Tell a chat whose dates stand in brackets from a list of JSON."""
    return whatsapp.looks_like_whatsapp(sample)


def open_text(
    kind: ExportFormat,
    text: io.TextIOWrapper,
    sample: str,
    options: Options,
    pause_minutes: int,
) -> Export | None:
    """Open a text that is an export; none where it is subtitles that name nobody.

    Args:
        text: Stands at its start.
    """
    seen = Seen()
    match kind:
        case "gift":
            return _quiz(kind, "line", gift.gift_questions(text, seen), seen, options)
        case "aiken":
            return _quiz(kind, "line", aiken.aiken_questions(text), seen, options)
        case "anki":
            cards = anki.text_cards(text, sample, seen)
            columns = anki.text_columns(sample)
            return Export(kind, "line", columns, cards, seen, fragments.sentences("line"))
        case "whatsapp":
            said = whatsapp.whatsapp_messages(text, sample)
            return _chat(kind, said, seen, pause_minutes)
        case "subtitles" if subtitles.names_speakers(sample):
            return _chat(kind, subtitles.spoken(text), seen, pause_minutes)
    return None


def subtitle_blocks(text: io.TextIOWrapper) -> Iterator[Block]:
    """Read subtitles that name nobody, from their start, as paragraphs of a document."""
    text.seek(0)
    return subtitles.subtitle_blocks(text)


def open_file(kind: Literal["mail", "quiz_xml", "anki"], file: File, options: Options) -> Export:
    """Open an export that is no text of one encoding."""
    seen = Seen()
    match kind:
        case "mail":
            mails = mail.mails(file, seen)
            return Export("mail", "message", list(mail.COLUMNS), mails, seen, mail.SENTENCES)
        case "quiz_xml":
            return _quiz("quiz", "question", quiz_xml.xml_questions(file, seen), seen, options)
        case "anki":
            cards = anki.package_cards(file, seen)
            columns = ["question", "answer", "tags"]
            return Export("anki", "note", columns, cards, seen, fragments.sentences("note"))


def _quiz(
    kind: ExportFormat, place: str, questions: Iterator[Question], seen: Seen, options: Options
) -> Export:
    return Export(
        kind,
        place,
        list(quizzes.COLUMNS),
        quizzes.rows(questions, options),
        seen,
        {**quizzes.SENTENCES, **fragments.sentences(place)},
        options=options,
    )


def _chat(kind: ExportFormat, said: Iterator[chats.Said], seen: Seen, pause_minutes: int) -> Export:
    return Export(
        kind,
        "line",
        list(chats.COLUMNS),
        chats.rows(said, pause_minutes),
        seen,
        pause_minutes=pause_minutes,
    )
