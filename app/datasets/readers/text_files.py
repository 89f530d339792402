"""Texts of any kind -> rows: tables, JSON, what programs export, and documents."""

import io
import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from app.datasets.readers import (
    chat_exports,
    documents,
    encodings,
    exports,
    fragments,
    gemini,
    json_rows,
    model_chats,
    option_rows,
    tables,
)
from app.datasets.readers.blocks import Block, text_blocks
from app.datasets.readers.document_files import open_document
from app.datasets.readers.files import File
from app.datasets.readers.grids import Seen
from app.datasets.readers.inspections import Inspection, ReadAs, new_inspection
from app.datasets.readers.sources import Source, of_export, of_known_table, of_table, telling
from app.datasets.readers.unreadable import Unreadable


def open_text(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    """Open a text as what its first lines show it to be, unless a person says otherwise."""
    encoding = encodings.detect(file, read_as.encoding, is_checked=read_as.is_checked)
    inspection = new_inspection("csv", "line")
    inspection.encoding, inspection.encoding_is_guess = encoding.name, encoding.is_guess
    inspection.encoding_is_doubtful = encoding.is_doubtful
    if encoding.is_guess:
        inspection.warnings.append(encodings.guessed(encoding))
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
        is_by_itself = read_as.delimiter is None and read_as.header_row is None
        if is_by_itself and not read_as.as_it_stands and json_rows.are_texts(sample):
            return _open_texts(text, inspection)
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

    return open_document(blocks, inspection, read_as)


_OBJECT = re.compile(r"""\{\s*(?:["'}]|$|[\w$-]+\s*:)""")
# A list that is empty or begins with a number or a word of JSON, and is not a text's "[1] Where".
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_PLAIN_LIST = re.compile(
    rf"\[\s*(?:(?:{_NUMBER}|true|false|null|NaN)\s*,|(?:{_NUMBER}|true|false|null|NaN)?\s*"
    r"(?:$|\]\s*(?:$|[\[,])))"
)


def _starts_json(start: str) -> bool:
    # A text may begin with [a note] as well, or with {a place} to fill.
    if start[0] == "[" and start[1:].lstrip().startswith(("{", "[", '"')):
        return True
    return _OBJECT.match(start) is not None or _PLAIN_LIST.match(start) is not None


def _first_characters(text: io.TextIOWrapper) -> str:
    while (piece := text.read(4096)) and not piece.strip():
        pass
    text.seek(0)
    start = piece.strip().lstrip("\ufeff").lstrip()
    # Comments above JSON; a text that begins so has no object behind it.
    rest = json_rows.without_comments(start) if start.startswith("//") else ""
    return rest if rest and _starts_json(rest) else start


def _open_exported_text(
    kind: exports.ExportFormat,
    text: io.TextIOWrapper,
    sample: str,
    inspection: Inspection,
    read_as: ReadAs,
) -> Source:
    export = exports.open_text(kind, text, sample, read_as.options, read_as.pause_minutes)
    if export is not None:
        return of_export(export, inspection)
    inspection.format = kind
    return open_document(lambda: exports.subtitle_blocks(text), inspection, read_as)


def _open_texts(text: io.TextIOWrapper, inspection: Inspection) -> Source:
    inspection.format = "jsonl"
    inspection.warnings.append(
        "Each line is a text without the name of a field, so all of them stand in a column “text”."
    )
    return Source(inspection, json_rows.read_texts(text))


def _open_json(text: io.TextIOWrapper, inspection: Inspection, read_as: ReadAs) -> Source:
    objects: Iterator[tuple[int, dict[str, Any]]]
    seen = Seen()
    if json_rows.is_jsonl(text):
        inspection.format, objects = "jsonl", json_rows.read_jsonl(text, seen)
    else:
        inspection.format, inspection.place = "json", "entry"
        objects = json_rows.read_json(text, seen)
    first = list(itertools.islice(objects, option_rows.NUM_FIRST_ROWS))
    if not first:
        return Source(inspection, iter(()))
    if chat_exports.holds_messages(first[0][1]):
        inspection.pause_minutes = read_as.pause_minutes
    objects = itertools.chain(first, objects)
    rows = chat_exports.opened(objects, read_as.pause_minutes, seen)
    choice = None if read_as.as_it_stands else option_rows.option_columns(first[0][1])
    if choice and not option_rows.only_judges(choice, (row for _, row in first)):
        inspection.options = read_as.options
        rows = option_rows.rows(rows, choice, read_as.options)
    place = inspection.place
    said = {**gemini.sentences(), **fragments.sentences(place), **model_chats.sentences(place)}
    said |= json_rows.sentences(place)
    return Source(inspection, telling(rows, inspection, lambda: seen.sentences(said)))


def _open_csv(
    text: io.TextIOWrapper, sample: str, inspection: Inspection, read_as: ReadAs
) -> Source:
    delimiter = read_as.delimiter or tables.sniff_delimiter(sample)[0]
    inspection.delimiter = None if delimiter == tables.NO_DELIMITER else delimiter
    table = tables.read_csv(
        text,
        sample,
        delimiter,
        header_row=read_as.header_row,
        has_header=read_as.has_header,
        as_it_stands=read_as.as_it_stands,
    )
    return of_known_table(of_table(inspection, table), read_as)
