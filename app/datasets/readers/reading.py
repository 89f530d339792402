"""What is in a file: its format, columns and rows; sniffed by content, never by name."""

import io
import itertools
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.core.sentences import counted
from app.datasets.mapping import MAX_WORDS, Hidden, LeftOut, Mapping, Merged, Options
from app.datasets.notes import Note
from app.datasets.readers import (
    archives,
    chat_exports,
    chats,
    documents,
    encodings,
    epub,
    exports,
    fragments,
    gzipped,
    headers,
    json_rows,
    named_kinds,
    odt,
    option_rows,
    parquet,
    pdf,
    pptx,
    quiz_xml,
    rtf,
    slack,
    tables,
    team_chats,
    unread,
    web_page,
    word,
    workbooks,
)
from app.datasets.readers.blocks import Block, text_blocks
from app.datasets.readers.files import Entry, File
from app.datasets.readers.grids import Seen
from app.datasets.readers.sniffing import sniff
from app.datasets.readers.unreadable import Unreadable
from app.datasets.turns import TurnRole, parsed, plain_word, unknown_roles

Format = Literal[
    "csv",
    "json",
    "jsonl",
    "xlsx",
    "xls",
    "ods",
    "parquet",
    "markdown",
    "text",
    "docx",
    "pdf",
    "gift",
    "aiken",
    "quiz",
    "anki",
    "whatsapp",
    "subtitles",
    "mail",
    "slack",
    "zip",
    "odt",
    "rtf",
    "pptx",
    "html",
    "spreadsheetml",
    "epub",
]
# Instead of a sheet's name, which cannot hold this sign: all of them as one table.
ALL_SHEETS = "*"
NUM_PREVIEW_ROWS = 20
PREVIEW_CHARACTERS = 2000
MAX_WARNINGS = 12
_PROGRESS_ROWS = 5000
# A list of something else may have a role in each entry, and a new word in each role.
_MAX_ROLE_WORDS = 1000

NumberedRow = tuple[int, dict[str, Any] | LeftOut]
DocumentUse = Literal["pairs", "text"]


class ReadAs(BaseModel):
    """How a person says that a file is to be read; what is left out goes by the content."""

    model_config = ConfigDict(extra="forbid")

    encoding: str | None = Field(default=None, max_length=40)
    # The whole file was read in this encoding before.
    is_checked: bool = False
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    sheet: str | None = Field(default=None, max_length=200)
    # Of a table: the number of the row with the column names; 0: none has.
    header_row: int | None = Field(default=None, ge=0, le=headers.MAX_HEADER_ROW)
    # As it was said before rows had numbers: whether the first has them.
    has_header: bool | None = None
    # Of a workbook: rows and columns that are hidden or filtered out, and merged cells.
    hidden: Hidden = "leave_out"
    merged: Merged = "fill"
    # Of a quiz: what stands below a question; of a chat: how long a pause begins a new one.
    options: Options = "leave_out"
    pause_minutes: int = Field(
        default=chats.DEFAULT_PAUSE_MINUTES,
        ge=chats.MIN_PAUSE_MINUTES,
        le=chats.MAX_PAUSE_MINUTES,
    )
    # Columns as the file has them, for sheets that people get back: neither a quiz nor a chat.
    as_it_stands: bool = False
    # Of a text file: rows and columns, or prose.
    form: Literal["table", "document"] | None = None
    # Of a document: its own questions and answers, or its text in pieces.
    way: DocumentUse | None = None
    chunk_tokens: int = Field(
        default=documents.DEFAULT_CHUNK_TOKENS,
        ge=documents.MIN_CHUNK_TOKENS,
        le=documents.MAX_CHUNK_TOKENS,
    )
    overlap_tokens: int = Field(default=0, ge=0)
    # What words for roles and for speakers mean: for the mapping that is proposed.
    roles: dict[str, TurnRole] = Field(default={}, max_length=MAX_WORDS)
    speakers: dict[str, TurnRole] = Field(default={}, max_length=MAX_WORDS)
    placeholders: bool = False

    @model_validator(mode="after")
    def _overlap_fits(self) -> "ReadAs":
        if self.overlap_tokens * 2 > self.chunk_tokens:
            raise ValueError("pieces may overlap by at most half of their length")
        return self

    def explain(self, mapping: Mapping) -> None:
        """Put into a mapping what a person said of words."""
        mapping.roles, mapping.speakers = (
            {plain_word(word): role for word, role in chosen.items()}
            for chosen in (self.roles, self.speakers)
        )
        mapping.placeholders = self.placeholders


class PreviewRow(BaseModel):
    number: int  # line of a text file, row of a sheet, place in a JSON list; from 1
    values: dict[str, Any]


class Part(BaseModel):
    """A sheet of a workbook or a file of an archive; rows are numbered through all of them."""

    name: str
    num_rows: int = 0


class Inspection(BaseModel):
    """What the reader found; kept as DatasetVersion.inspection."""

    format: Format
    # What a row's number counts: "line" or "row" or "entry", "paragraph" or "page".
    place: str
    encoding: str | None = None
    # No proof but a guess: the person looks at the preview and may choose another.
    encoding_is_guess: bool = False
    delimiter: str | None = None
    sheet: str | None = None
    sheets: list[str] = []
    # The sheets have the same columns and may be read as one table.
    sheets_agree: bool = False
    has_header: bool = True
    # Of a table: the number of the row with the names, 0 where none has; unknown to old versions.
    header_row: int | None = None
    # Of a workbook or slides; unknown to old versions, which had hidden rows and no filled cells.
    hidden: Hidden | None = None
    merged: Merged | None = None
    # Of what has options to choose from, and of what pauses divide.
    options: Options | None = None
    pause_minutes: int | None = None
    # Of a document: the way that was taken, and how long the pieces of text are.
    way: DocumentUse | None = None
    chunk_tokens: int = documents.DEFAULT_CHUNK_TOKENS
    overlap_tokens: int = 0
    # Where pairs of a document were found: {"heading": 12, "table": 3}.
    found_in: dict[str, int] = {}
    parts: list[Part] = []
    columns: list[str]
    num_rows: int
    preview: list[PreviewRow]
    # One sentence each.
    warnings: list[str] = []
    # What the proposed mapping rests on, as a sentence, and whether it needs no person to look.
    why: str = ""
    is_sure: bool = False
    # The first rows that became no example, by reason; known once the examples are built.
    left_out_rows: dict[str, list[int]] = {}
    # What was met in them, by reason: {"unknown_role": {"teacher": 2}}.
    left_out_words: dict[str, dict[str, int]] = {}
    # What was passed over in rows that did; known then, too.
    notes: list[Note] = []
    # Words for roles in lists of turns that a person has to say the meaning of, by column: in how
    # many turns of the whole file.
    unknown_roles: dict[str, dict[str, int]] = {}

    @property
    def is_document(self) -> bool:
        return self.way is not None

    @property
    def reading(self) -> dict[str, Any]:
        """What a mapping keeps of how the file was read."""
        return {
            "header_row": self.header_row,
            "hidden": self.hidden,
            "merged": self.merged,
            "options": self.options,
            "pause_minutes": self.pause_minutes,
        }

    def read_as(self, chosen: ReadAs) -> ReadAs:
        """Say how to read the file again just as it was read, whatever would be guessed today."""
        if self.format == "zip":  # each file in it was judged by itself
            return chosen.model_copy(update={"way": self.way})
        header: dict[str, Any] = {"header_row": self.header_row, "has_header": None}
        if self.header_row is None:  # read before rows had numbers
            header = {"header_row": None, "has_header": self.has_header}
        if self.parts:  # each sheet has its own
            header = {}
        return chosen.model_copy(
            update=header
            | {
                "encoding": self.encoding,
                "is_checked": True,
                "delimiter": self.delimiter,
                "sheet": self.sheet,
                "hidden": self.hidden or "take_in",
                "merged": self.merged or "leave_blank",
                # Subtitles that name nobody are a document, and no plain text.
                "form": "document" if self.is_document and self.format != "subtitles" else "table",
                "way": self.way,
            }
        )


class Source:
    """A file opened as rows; `inspection` says how it is read, without what only the rows tell."""

    def __init__(
        self, inspection: Inspection, rows: Iterator[NumberedRow], unnamed: set[str] | None = None
    ) -> None:
        self.inspection = inspection
        self.rows = rows
        self.unnamed = unnamed or set()


@contextmanager
def open_rows(path: Path, read_as: ReadAs) -> Iterator[Source]:
    """Sniff a file and open it; the rows come one at a time.

    Raises:
        Unreadable: now or while the rows are read; one sentence.
    """
    with ExitStack() as stack:
        yield _open(File(path), read_as, stack)


def _open(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    kind = sniff(file)
    match kind:
        case "zip":
            return _open_archive(file, read_as, stack)
        case "xlsx" | "xls" | "ods" | "spreadsheetml":
            return _open_workbook(file, kind, read_as, stack)
        case "parquet":
            inspection = _new_inspection("parquet", "row")
            inspection.columns, rows = parquet.open_parquet(file)
            return _of_option_table(Source(inspection, rows), read_as)
        case "mail" | "quiz_xml" | "anki":
            return _of_export(exports.open_file(kind, file, read_as.options))
        case "docx" | "odt" | "rtf" | "pptx" | "epub" | "pdf":
            place, blocks = _DOCUMENTS[kind]
            inspection, seen = _new_inspection(kind, place), Seen()
            if kind == "pptx":
                inspection.hidden = read_as.hidden
                blocks = partial(pptx.pptx_blocks, takes_hidden=read_as.hidden == "take_in")
            # Twice: once to see whether there are questions in it.
            return _open_document(lambda: blocks(file, seen), inspection, read_as, seen)
        case "html":
            return _open_page(file, read_as, stack)
        case "gzip":
            return _open_gzip(file, read_as, stack)
        case "text":
            return _open_text(file, read_as, stack)


# What the number of a block counts, and what reads the file into blocks.
_DOCUMENTS: dict[str, tuple[str, Callable[[File, Seen], Iterator[Block]]]] = {
    "docx": ("paragraph", word.word_blocks),
    "odt": ("paragraph", odt.odt_blocks),
    "rtf": ("paragraph", rtf.rtf_blocks),
    "pptx": ("slide", pptx.pptx_blocks),
    "epub": ("chapter", epub.epub_blocks),
    "pdf": ("page", pdf.pdf_blocks),
}


def _open_gzip(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    inner = gzipped.unpacked(file)
    if sniff(inner) == "zip":
        raise Unreadable(
            "This is a ZIP archive packed by gzip; upload the ZIP as it was before that."
        )
    return _open(inner, read_as, stack)


def _open_page(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    """Open a web page as a document, or the tables of one that is nothing else as a workbook."""
    encoding = web_page.encoding_of(file, read_as.encoding, is_checked=read_as.is_checked)
    page = web_page.WebPage(file, encoding.name)
    is_table = page.is_table() if read_as.form is None else read_as.form == "table"
    inspection = _new_inspection("html", "row" if is_table else "paragraph")
    inspection.encoding, inspection.encoding_is_guess = encoding.name, encoding.is_guess
    if encoding.is_guess:
        inspection.warnings.append(_guessed(encoding.name))
    if is_table:
        book = workbooks.Workbook(file, "html", stack, page)
        if not book.sheets:
            raise Unreadable("This web page has no table with text in it; read it as a document.")
        return _open_book(book, inspection, read_as)
    return _open_document(page.blocks, inspection, read_as, page.seen)


def _guessed(encoding: str) -> str:
    return (
        f"The file does not say its encoding, so it was read as {encodings.CHOICES[encoding]} "
        f"({encoding}): check that accents and umlauts are right below, and choose another if not."
    )


def _new_inspection(format_: Format, place: str) -> Inspection:
    return Inspection(format=format_, place=place, columns=[], num_rows=0, preview=[])


# --- text ------------------------------------------------------------------------------------


def _open_text(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    encoding = encodings.detect(file, read_as.encoding, is_checked=read_as.is_checked)
    inspection = _new_inspection("csv", "line")
    inspection.encoding, inspection.encoding_is_guess = encoding.name, encoding.is_guess
    if encoding.is_guess:
        inspection.warnings.append(_guessed(encoding.name))
    text = stack.enter_context(file.text(encoding.name))
    start = _first_characters(text)
    if not start:
        raise Unreadable(
            "This file is blank: it has nothing but spaces and line breaks; upload one with "
            "examples."
        )
    sample = tables.sample_of(text)
    if read_as.form != "document":
        # A chat's first date may stand in brackets, too.
        if _starts_json(start) and not exports.begins_with_a_date(sample):
            return _open_json(text, inspection, read_as)
        if not read_as.as_it_stands and (kind := exports.text_format(sample)):
            return _open_exported_text(kind, text, sample, inspection, read_as)
    is_document = (
        not tables.separator_line(sample) and documents.looks_like_document(sample)
        if read_as.form is None and read_as.delimiter is None
        else read_as.form == "document"
    )
    if not is_document:
        return _open_csv(text, sample, inspection, read_as)
    inspection.format = "markdown" if re.search(r"(?m)^ {0,3}#{1,6}[ \t]+\S", sample) else "text"

    def blocks() -> Iterator[Block]:
        text.seek(0)
        return text_blocks(text)

    return _open_document(blocks, inspection, read_as)


def _starts_json(start: str) -> bool:
    # A text may begin with [a note] as well.
    return start[0] == "{" or (
        start[0] == "[" and start[1:].lstrip()[:1] in ("", *'{["]-0123456789tfn')
    )


def _first_characters(text: io.TextIOWrapper) -> str:
    while (piece := text.read(4096)) and not piece.strip():
        pass
    text.seek(0)
    return piece.strip()


def _open_exported_text(
    kind: exports.ExportFormat,
    text: io.TextIOWrapper,
    sample: str,
    inspection: Inspection,
    read_as: ReadAs,
) -> Source:
    export = exports.open_text(kind, text, sample, read_as.options, read_as.pause_minutes)
    if export is not None:
        return _of_export(export, inspection)
    inspection.format = kind
    return _open_document(lambda: exports.subtitle_blocks(text), inspection, read_as)


def _of_export(export: exports.Export, inspection: Inspection | None = None) -> Source:
    inspection = inspection or _new_inspection(export.format, export.place)
    inspection.format, inspection.place = export.format, export.place
    inspection.columns = export.columns
    inspection.options, inspection.pause_minutes = export.options, export.pause_minutes
    # What an export may leave blank is no column where it always is.
    unnamed = set(export.columns) - exports.ESSENTIAL
    return Source(inspection, _telling(export.rows, inspection, export.said), unnamed)


def _telling(
    rows: Iterator[NumberedRow], inspection: Inspection, said: Callable[[], list[str]]
) -> Iterator[NumberedRow]:
    """Yield rows, and say afterwards what their reader left out."""
    yield from rows
    inspection.warnings += said()


def _open_json(text: io.TextIOWrapper, inspection: Inspection, read_as: ReadAs) -> Source:
    objects: Iterator[tuple[int, dict[str, Any]]]
    if json_rows.is_jsonl(text):
        inspection.format, objects = "jsonl", json_rows.read_jsonl(text)
    else:
        inspection.format, inspection.place, objects = "json", "entry", json_rows.read_json(text)
    first = next(objects, None)
    if first is None:
        return Source(inspection, iter(()))
    if chat_exports.holds_messages(first[1]):
        inspection.pause_minutes = read_as.pause_minutes
    seen = Seen()
    objects = itertools.chain([first], objects)
    rows = chat_exports.opened(objects, read_as.pause_minutes, seen)
    if not read_as.as_it_stands and (choice := option_rows.option_columns(first[1])):
        inspection.options = read_as.options
        rows = option_rows.rows(rows, choice, read_as.options)
    said = fragments.sentences(inspection.place)
    return Source(inspection, _telling(rows, inspection, lambda: seen.sentences(said)))


def _open_csv(
    text: io.TextIOWrapper, sample: str, inspection: Inspection, read_as: ReadAs
) -> Source:
    delimiter = read_as.delimiter or tables.sniff_delimiter(sample)[0]
    inspection.delimiter = None if delimiter == tables.NO_DELIMITER else delimiter
    table = tables.read_csv(
        text, sample, delimiter, header_row=read_as.header_row, has_header=read_as.has_header
    )
    return _of_known_table(_of_table(inspection, table), read_as)


def _of_known_table(source: Source, read_as: ReadAs) -> Source:
    """Read tables that are multiple choice, or messages, as what they are."""
    return _of_chat_table(_of_option_table(source, read_as), read_as)


def _of_option_table(source: Source, read_as: ReadAs) -> Source:
    """Put the right option of each row into one column; leave other tables as they are."""
    inspection = source.inspection
    choice = option_rows.option_columns(inspection.columns)
    if choice is None or read_as.as_it_stands:
        return source
    rows = option_rows.rows(source.rows, choice, read_as.options)
    inspection.columns = option_rows.kept_columns(inspection.columns, choice)
    inspection.options = read_as.options
    return Source(inspection, rows, source.unnamed)


def _of_chat_table(source: Source, read_as: ReadAs) -> Source:
    """Say of a table of messages which conversation each belongs to; leave others as they are."""
    inspection = source.inspection
    chat = None if read_as.as_it_stands else team_chats.chat_columns(inspection.columns)
    first = next(source.rows, None) if chat is not None else None
    if chat is None or first is None:
        return source
    source.rows = itertools.chain([first], source.rows)
    if not isinstance(first[1], dict) or chats.seconds_of(first[1].get(chat.time)) is None:
        return source
    seen = Seen()
    rows = team_chats.table_rows(source.rows, chat, read_as.pause_minutes, seen)
    said = fragments.sentences(inspection.place)
    inspection.columns = team_chats.table_columns(inspection.columns, chat)
    inspection.pause_minutes = read_as.pause_minutes
    return Source(
        inspection, _telling(rows, inspection, lambda: seen.sentences(said)), source.unnamed
    )


def _of_table(inspection: Inspection, table: headers.Rows) -> Source:
    inspection.columns = table.columns
    inspection.has_header, inspection.header_row = table.has_header, table.header_row
    inspection.warnings += table.warnings

    def rows() -> Iterator[NumberedRow]:
        yield from table.rows
        inspection.warnings += table.closing

    return Source(inspection, rows(), table.unnamed)


# --- documents -------------------------------------------------------------------------------


def _open_document(
    blocks: Callable[[], Iterator[Block]],
    inspection: Inspection,
    read_as: ReadAs,
    seen: Seen | None = None,
) -> Source:
    """Open a document; `seen` is what its reader left out, once it was read."""
    inspection.way = read_as.way or ("pairs" if documents.has_pairs(blocks) else "text")
    inspection.chunk_tokens, inspection.overlap_tokens = (
        read_as.chunk_tokens,
        read_as.overlap_tokens,
    )
    rows: Iterator[NumberedRow]
    if inspection.way == "text":
        inspection.columns = list(documents.TEXT_COLUMNS)
        rows = documents.texts(blocks(), read_as.chunk_tokens, read_as.overlap_tokens)
    else:
        inspection.columns = list(documents.PAIR_COLUMNS)
        rows = _pairs(blocks, inspection, read_as.options)

    if seen is None:
        return Source(inspection, rows)
    left_out = partial(seen.sentences, unread.sentences(inspection.place))
    return Source(inspection, _telling(rows, inspection, left_out))


def _pairs(
    blocks: Callable[[], Iterator[Block]], inspection: Inspection, options: Options
) -> Iterator[NumberedRow]:
    counts = documents.Counts()
    for number, row in documents.pairs(blocks, counts, options):
        if isinstance(row, dict):
            inspection.found_in[row["found_in"]] = inspection.found_in.get(row["found_in"], 0) + 1
        yield number, row
    if counts.num_with_options:
        inspection.options = options
    if counts.num_unused:
        many = counts.num_unused
        inspection.warnings.append(
            f"{many:,} paragraphs have no question above them and are not used; read the document "
            "as plain text to use all of it."
            if many > 1
            else "1 paragraph has no question above it and is not used; read the document as plain "
            "text to use all of it."
        )


# --- workbooks and archives ------------------------------------------------------------------


def _open_workbook(
    file: File,
    kind: Literal["xlsx", "xls", "ods", "spreadsheetml"],
    read_as: ReadAs,
    stack: ExitStack,
) -> Source:
    book = workbooks.Workbook(file, kind, stack)
    return _open_book(book, _new_inspection(kind, "row"), read_as)


def _open_book(book: workbooks.Workbook, inspection: Inspection, read_as: ReadAs) -> Source:
    kind = inspection.format
    inspection.sheets = book.sheets
    inspection.hidden, inspection.merged = read_as.hidden, read_as.merged
    chosen = read_as.model_dump(include={"header_row", "has_header", "hidden", "merged"})
    sheet = read_as.sheet
    if len(book.sheets) > 1:
        by_sheet = book.columns(**chosen)
        inspection.sheets_agree = (
            len(by_sheet) > 1 and len({tuple(c) for c in by_sheet.values()}) == 1
        )
        if sheet is None and inspection.sheets_agree:
            sheet = ALL_SHEETS
    inspection.sheet = sheet or book.first_filled()
    if inspection.sheet == ALL_SHEETS:
        filled = book.columns(**chosen)
        return _joined(
            [(name, _sheet_opener(book, name, chosen, kind, read_as)) for name in filled],
            inspection,
            "sheet",
        )
    if len(book.sheets) > 1:
        what = "page has {} tables" if kind == "html" else "workbook has {} sheets"
        inspection.warnings.append(
            f"The {what.format(len(book.sheets))}; “{inspection.sheet}” was read and the others "
            "were not."
        )
    return _of_known_table(_of_table(inspection, book.rows(inspection.sheet, **chosen)), read_as)


def _sheet_opener(
    book: workbooks.Workbook, name: str, chosen: dict[str, Any], kind: Format, read_as: ReadAs
) -> Callable[[ExitStack], Source]:
    return lambda _: _of_option_table(
        _of_table(_new_inspection(kind, "row"), book.rows(name, **chosen)), read_as
    )


def _open_archive(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    entries, passed = stack.enter_context(archives.open_entries(file))
    for apart in (_chat_apart, _quizzes_apart):
        entries, beside = apart(entries)
        passed += beside
    inspection = _new_inspection("zip", "row")
    if passed:
        inspection.warnings.append(
            f"In this ZIP {archives.listed_over(passed)} "
            + ("was" if len(passed) == 1 else "were")
            + " passed over."
        )
    if slack.is_export(entries):
        return _open_slack(entries, inspection, read_as)
    parts = [
        (archives.shown(entry.info.filename), _entry_opener(entry, read_as)) for entry in entries
    ]
    return _joined(parts, inspection, "file")


def _chat_apart(entries: list[Entry]) -> tuple[list[Entry], list[archives.PassedOver]]:
    """Take from a chat of WhatsApp what was sent along with it, of whatever kind."""
    chats_in_it = [entry for entry in entries if _CHAT.search(entry.info.filename)]
    if not chats_in_it:
        return entries, []
    passed = [
        archives.PassedOver(archives.shown(entry.info.filename), "sent in the chat")
        for entry in entries
        if entry not in chats_in_it
    ]
    return chats_in_it, passed


# What WhatsApp calls it: “_chat.txt”, or by the people in it.
_CHAT = re.compile(r"(^|/)(_chat|[^/]*whatsapp[^/]*)\.txt$", re.IGNORECASE)


def _quizzes_apart(
    entries: list[Entry],
) -> tuple[list[Entry], list[archives.PassedOver]]:
    """Take the XML from a package of a quiz that only says what else is in it."""
    heads: dict[Entry, bytes] = {}
    for entry in entries:
        if entry.info.filename.lower().endswith((".xml", ".dat")):
            with _named(archives.shown(entry.info.filename)):
                heads[entry] = entry.head(named_kinds.HEAD_BYTES)
    if not any(map(quiz_xml.is_quiz, heads.values())):
        return entries, []
    beside = [entry for entry, head in heads.items() if not quiz_xml.is_quiz(head)]
    passed = [
        archives.PassedOver(archives.shown(entry.info.filename), "about the quiz")
        for entry in beside
    ]
    return [entry for entry in entries if entry not in beside], passed


def _open_slack(entries: list[Entry], inspection: Inspection, read_as: ReadAs) -> Source:
    inspection.format, inspection.place = "slack", "message"
    inspection.columns = list(chats.COLUMNS)
    inspection.pause_minutes = read_as.pause_minutes
    unread = slack.unread(entries)
    if unread:
        inspection.warnings.append(f"In this export {archives.listed_over(unread)} was not read.")
    rows = chats.rows(slack.messages(entries), read_as.pause_minutes)
    return Source(inspection, rows, set(chats.COLUMNS) - exports.ESSENTIAL)


def _entry_opener(entry: File, read_as: ReadAs) -> Callable[[ExitStack], Source]:
    return lambda stack: _open(entry, read_as, stack)


def _joined(
    parts: list[tuple[str, Callable[[ExitStack], Source]]], inspection: Inspection, noun: str
) -> Source:
    """Read several tables one after the other as one; a column says which each row is from."""
    with ExitStack() as stack, _named(parts[0][0]):
        first = parts[0][1](stack)
        columns = _columns(first)
    name = noun if noun not in columns else f"{noun} (2)"
    for key in (
        "encoding", "encoding_is_guess", "delimiter", "has_header", "header_row", "way", "options",
        "pause_minutes",
    ):  # fmt: skip
        setattr(inspection, key, getattr(first.inspection, key))
    inspection.chunk_tokens = first.inspection.chunk_tokens
    inspection.overlap_tokens = first.inspection.overlap_tokens
    if len(parts) == 1:
        name = ""
    inspection.columns = [*([name] if name else []), *first.inspection.columns]

    def rows() -> Iterator[NumberedRow]:
        number = 0
        for label, opener in parts:
            part = Part(name=label)
            inspection.parts.append(part)
            with ExitStack() as stack, _named(label):
                source = opener(stack)
                _agree(columns, _columns(source), parts[0][0])
                for _, row in source.rows:
                    number += 1
                    part.num_rows += 1
                    if isinstance(row, dict) and name:
                        row = {name: label, **row}  # noqa: PLW2901 - the same row, with its origin
                        if source.inspection.pause_minutes and "conversation" in row:
                            # Each file counts its own.
                            row["conversation"] = f"{label} · {row['conversation']}"
                    yield number, row
            _tell(inspection, source, label)

    return Source(inspection, rows(), first.unnamed)


def _columns(source: Source) -> list[str]:
    """Return the columns of a part; JSON names them row by row, so its first row stands for it."""
    if source.inspection.columns:
        return source.inspection.columns
    first = next(source.rows, None)
    if first is None:
        return []
    source.rows = itertools.chain([first], source.rows)
    return list(first[1]) if isinstance(first[1], dict) else []


def _agree(first: list[str], other: list[str], name: str) -> None:
    one, two = set(first), set(other)
    # Fields of JSON may be left out where they are empty.
    if one == two or (one and two and (one <= two or two <= one)):
        return

    def listed(columns: list[str]) -> str:
        return ", ".join(f"“{c}”" for c in columns[:4]) + (", …" if len(columns) > 4 else "")

    raise Unreadable(
        f"Its columns ({listed(other) or 'none'}) differ from those of “{name}” "
        f"({listed(first) or 'none'}); give all parts the same columns, or upload each by itself."
    )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say in which part something was wrong."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise archives.damaged(name) from None
    except NotImplementedError:
        raise Unreadable(
            f"“{name}” in this archive is packed in a way that is not known here; pack the files "
            "again as an ordinary ZIP."
        ) from None
    except Unreadable as error:
        message = str(error)
        raise Unreadable(f"In “{name}”: {message}") from None


def _tell(inspection: Inspection, source: Source, label: str) -> None:
    for warning in source.inspection.warnings:
        if len(inspection.warnings) < MAX_WARNINGS:
            inspection.warnings.append(f"“{label}”: {warning}")
    inspection.encoding_is_guess = (
        inspection.encoding_is_guess or source.inspection.encoding_is_guess
    )
    for place, number in source.inspection.found_in.items():
        inspection.found_in[place] = inspection.found_in.get(place, 0) + number


# --- a whole file ----------------------------------------------------------------------------


def inspect(path: Path, read_as: ReadAs, report: Callable[[int], None]) -> Inspection:
    """Read a whole file and say what is in it; `report` hears of each few thousand rows.

    Raises:
        Unreadable: the file cannot be read, or holds no row.
    """
    with open_rows(path, read_as) as source:
        inspection = source.inspection
        # A JSON file names its columns row by row; a dict keeps their order.
        columns = dict.fromkeys(inspection.columns)
        num_columns = 0
        filled: set[str] = set()
        left_out: list[int] = []
        passed_over: Counter[str] = Counter()
        words: dict[str, Counter[str]] = {}
        for number, row in source.rows:
            inspection.num_rows += 1
            if inspection.num_rows % _PROGRESS_ROWS == 0:
                report(inspection.num_rows)
            if isinstance(row, LeftOut):
                if row.reason == "too_many_cells":
                    left_out.append(number)
                passed_over[row.reason] += 1
                continue
            if not row.keys() <= columns.keys():
                columns |= dict.fromkeys(row)
            _count_roles(words, row)
            if len(filled) < len(columns):
                filled.update(name for name, value in row.items() if value not in (None, ""))
            if len(columns) > num_columns:
                _check_names(list(columns)[num_columns:], f"{inspection.place} {number:,}")
                num_columns = len(columns)
            if num_columns > tables.MAX_COLUMNS:
                raise Unreadable(
                    f"The objects of this file have more than {tables.MAX_COLUMNS:,} different "
                    f"names (at {inspection.place} {number:,}); keep only the questions and "
                    "answers."
                )
            if len(inspection.preview) < NUM_PREVIEW_ROWS:
                values = {name: _short(value) for name, value in row.items()}
                inspection.preview.append(PreviewRow(number=number, values=values))
    if inspection.num_rows == 0:
        raise Unreadable(_no_rows(inspection))
    _judge(inspection, left_out)
    _tell_passed_over(inspection, passed_over)
    inspection.unknown_roles = {
        name: dict(found.most_common(MAX_WORDS)) for name, found in words.items()
    }
    inspection.columns = [name for name in columns if name in filled or name not in source.unnamed]
    if not inspection.columns:
        raise Unreadable("This file has only empty cells; fill them, then upload it again.")
    for shown in inspection.preview:
        shown.values = {name: shown.values.get(name) for name in inspection.columns}
    blank = [] if inspection.is_document else [n for n in inspection.columns if n not in filled]
    inspection.warnings += [f"The column “{name}” is blank in every row." for name in blank[:3]]
    return inspection


def _count_roles(words: dict[str, Counter[str]], row: dict[str, Any]) -> None:
    for name, value in row.items():
        # Asked of every cell: the first letters of a text tell a list in it.
        if type(value) is not list and not (type(value) is str and value[:2] == "[{"):
            continue
        for role in unknown_roles(parsed(value)):
            found = words.setdefault(name, Counter())
            if role in found or len(found) < _MAX_ROLE_WORDS:
                found[role] += 1


def _no_rows(inspection: Inspection) -> str:
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


def _check_names(names: list[str], where: str) -> None:
    for name in names:
        if len(name) > headers.MAX_NAME_CHARACTERS or _short(name) != name:
            raise Unreadable(
                f"A field in {where} has a name that is longer than "
                f"{headers.MAX_NAME_CHARACTERS} characters or is not text; name it “question” or "
                "“answer”, for example."
            )


def _judge(inspection: Inspection, left_out: list[int]) -> None:
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


def _tell_passed_over(inspection: Inspection, counts: Counter[str]) -> None:
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
        "1 message is a picture or a sound and was left out; look whether what follows it still "
        "makes sense.",
        "{n} messages are pictures or sounds and were left out; look whether what follows them "
        "still makes sense.",
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


def _short(value: Any) -> Any:
    """Cut a value for the preview; structure stays, so that messages show as such."""
    if isinstance(value, str):
        # PostgreSQL's JSON has no place for either.
        value = value.replace("\0", "�")
        value = value.encode(errors="replace").decode()
        return value if len(value) <= PREVIEW_CHARACTERS else value[:PREVIEW_CHARACTERS] + "…"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # 1e999 is valid JSON in a file, and none in the database
    if isinstance(value, list):
        return [_short(part) for part in value[:20]]
    if isinstance(value, dict):
        return {_short(key): _short(part) for key, part in list(value.items())[:50]}
    return value
