"""Documents of any kind -> rows: their own questions and answers, or their text in pieces."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from app.core.sentences import counted
from app.datasets.mapping import Options
from app.datasets.readers import documents, epub, odt, pdf, pptx, rtf, unread, word
from app.datasets.readers.blocks import Block
from app.datasets.readers.files import File
from app.datasets.readers.grids import Seen
from app.datasets.readers.inspections import Inspection, ReadAs, new_inspection
from app.datasets.readers.sources import NumberedRow, Source, telling

_DocumentFormat = Literal["docx", "odt", "rtf", "pptx", "epub", "pdf"]
# What the number of a block counts, and what reads the file into blocks.
_DOCUMENTS: dict[_DocumentFormat, tuple[str, Callable[[File, Seen], Iterator[Block]]]] = {
    "docx": ("paragraph", word.word_blocks),
    "odt": ("paragraph", odt.odt_blocks),
    "rtf": ("paragraph", rtf.rtf_blocks),
    "pptx": ("slide", pptx.pptx_blocks),
    "epub": ("chapter", epub.epub_blocks),
    "pdf": ("page", pdf.pdf_blocks),
}


def open_document_file(file: File, kind: _DocumentFormat, read_as: ReadAs) -> Source:
    """Open a document that is no plain text."""
    place, blocks = _DOCUMENTS[kind]
    inspection, seen = new_inspection(kind, place), Seen()
    if kind == "pptx":
        inspection.hidden = read_as.hidden
        blocks = partial(pptx.pptx_blocks, takes_hidden=read_as.hidden == "take_in")
    # Twice: once to see whether there are questions in it.
    return open_document(lambda: blocks(file, seen), inspection, read_as, seen)


def open_document(
    blocks: Callable[[], Iterator[Block]],
    inspection: Inspection,
    read_as: ReadAs,
    seen: Seen | None = None,
) -> Source:
    """Open a document; `seen` is what its reader left out, once it was read."""
    counts = documents.Counts()
    inspection.way = read_as.way or ("pairs" if documents.has_pairs(blocks, counts) else "text")
    inspection.chunk_tokens, inspection.overlap_tokens = (
        read_as.chunk_tokens,
        read_as.overlap_tokens,
    )
    rows: Iterator[NumberedRow]
    if inspection.way == "text":
        inspection.columns = list(documents.TEXT_COLUMNS)
        if counts.num_with_options:
            options_in_text = counted(
                counts.num_with_options,
                "1 question has options to choose from, and a plain text teaches the wrong ones "
                "with the right one; use the document's own questions and answers instead.",
                "{n} questions have options to choose from, and a plain text teaches the wrong "
                "ones with the right one; use the document's own questions and answers instead.",
            )
            inspection.warnings.append(options_in_text)
        rows = documents.texts(blocks(), read_as.chunk_tokens, read_as.overlap_tokens)
    else:
        inspection.columns = list(documents.PAIR_COLUMNS)
        rows = _pairs(blocks, inspection, read_as.options)

    if seen is None:
        return Source(inspection, rows)
    left_out = partial(seen.sentences, unread.sentences(inspection.place))
    return Source(inspection, telling(rows, inspection, left_out))


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
