"""Web pages -> rows: as a document, a workbook (nothing but tables), or an export."""

from contextlib import ExitStack

from app.datasets.readers import encodings, gemini, web_page, workbooks
from app.datasets.readers.document_files import open_document
from app.datasets.readers.files import File
from app.datasets.readers.inspections import Inspection, ReadAs, new_inspection
from app.datasets.readers.sources import Source, telling
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.workbook_files import open_book


def open_page(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    """Open a web page as a document, or the tables of one that is nothing else as a workbook."""
    encoding = web_page.encoding_of(file, read_as.encoding, is_checked=read_as.is_checked)
    page = web_page.WebPage(file, encoding.name)
    if read_as.form != "document" and page.is_activity():
        return _open_activity(page, encoding)
    is_table = page.is_table() if read_as.form is None else read_as.form == "table"
    inspection = _begun("row" if is_table else "paragraph", encoding)
    if is_table:
        book = workbooks.Workbook(file, "html", stack, page)
        if not book.sheets:
            raise Unreadable("This web page has no table with text in it; read it as a document.")
        return open_book(book, inspection, read_as)
    return open_document(page.blocks, inspection, read_as, page.seen)


def _open_activity(page: web_page.WebPage, encoding: encodings.Encoding) -> Source:
    inspection = _begun("entry", encoding)
    inspection.columns = list(gemini.COLUMNS)
    rows = telling(page.activity(), inspection, lambda: page.seen.sentences(gemini.sentences()))
    return Source(inspection, rows)


def _begun(place: str, encoding: encodings.Encoding) -> Inspection:
    inspection = new_inspection("html", place)
    inspection.encoding, inspection.encoding_is_guess = encoding.name, encoding.is_guess
    inspection.encoding_is_doubtful = encoding.is_doubtful
    if encoding.is_guess:
        inspection.warnings.append(encodings.guessed(encoding))
    return inspection
