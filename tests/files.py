"""Files as programs write them, made by hand where no library of ours writes the format."""

import datetime
import io
import json
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

import openpyxl

Row = Sequence[str | float | datetime.date | None]
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
# Style ids are translated by Word, names are not.
_STYLES = (
    f'<w:styles {_WORD}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>'
    '<w:style w:styleId="Mein"><w:name w:val="Mein"/><w:basedOn w:val="berschrift2"/></w:style>'
    "</w:styles>"
)


def zip_of(files: Mapping[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def workbook(
    sheets: Mapping[str, Iterable[Row]], hidden_rows: Mapping[str, Sequence[int]] | None = None
) -> bytes:
    """XLSX with these sheets."""
    book = openpyxl.Workbook()
    assert book.active is not None
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        for number in (hidden_rows or {}).get(name, ()):
            sheet.row_dimensions[number].hidden = True
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def ods(sheets: Mapping[str, Iterable[Sequence[str]]], body: str | None = None) -> bytes:
    """An OpenDocument spreadsheet; `body` replaces the tables' XML."""
    tables = body or "".join(
        f'<table:table table:name="{escape(name)}">'
        + "".join(
            "<table:table-row>"
            + "".join(
                f'<table:table-cell office:value-type="string"><text:p>{escape(cell)}</text:p>'
                "</table:table-cell>"
                for cell in row
            )
            + "</table:table-row>"
            for row in rows
        )
        + "</table:table>"
        for name, rows in sheets.items()
    )
    content = (
        '<?xml version="1.0" encoding="UTF-8"?><office:document-content '
        'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
        'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
        'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" office:version="1.2">'
        f"<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body>"
        "</office:document-content>"
    )
    manifest = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        "</manifest:manifest>"
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED
        )
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", manifest)
    return stream.getvalue()


def compound(streams: Mapping[str, bytes]) -> bytes:
    """An OLE compound file, the container of Office before 2007; streams of 4096 bytes or more."""
    sectors: list[bytes] = []
    entries, chains = [], []
    for name, content in streams.items():
        size = max(len(content), 4096)
        padded = content.ljust(size + -size % 512, b"\0")
        chains.append((len(sectors), len(padded) // 512))
        entries.append((name, len(sectors), size))
        sectors += [padded[at : at + 512] for at in range(0, len(padded), 512)]
    num_fat = (len(sectors) + 8) // 120 + 1
    fat = [0xFFFFFFFD] * num_fat + [0xFFFFFFFE]
    for start, count in chains:
        fat += [start + num_fat + 1 + n + 1 for n in range(count - 1)] + [0xFFFFFFFE]
    fat += [0xFFFFFFFF] * (num_fat * 128 - len(fat))

    def entry(name: str, kind: int, child: int, right: int, start: int, size: int) -> bytes:
        raw = name.encode("utf-16-le")
        return struct.pack(
            "<64sHBBIII16sIQQIQ",
            raw,
            len(raw) + 2,
            kind,
            1,
            0xFFFFFFFF,
            right,
            child,
            b"",
            0,
            0,
            0,
            start,
            size,
        )

    directory = entry("Root Entry", 5, 1, 0xFFFFFFFF, 0xFFFFFFFE, 0)
    for place, (name, start, size) in enumerate(entries, start=1):
        right = place + 1 if place < len(entries) else 0xFFFFFFFF
        directory += entry(name, 2, 0xFFFFFFFF, right, start + num_fat + 1, size)
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH6xIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, num_fat, num_fat, 0, 4096,
                          0xFFFFFFFE, 0, 0xFFFFFFFE, 0)  # fmt: skip
    header += struct.pack("<109I", *range(num_fat), *[0xFFFFFFFF] * (109 - num_fat))
    body = struct.pack(f"<{num_fat * 128}I", *fat) + directory.ljust(512, b"\0")
    return header + body + b"".join(sectors)


def _record(kind: int, body: bytes) -> bytes:
    return struct.pack("<HH", kind, len(body)) + body


# A cell of an old workbook: what is in it, and where it has one, the number of its format.
OldCell = str | float | tuple[str | float, int]


def biff(
    sheets: Mapping[str, Iterable[Sequence[OldCell]]], extra: bytes = b"", within: bytes = b""
) -> bytes:
    """The stream of an Excel 97 workbook.

    Args:
        sheets: The cells by sheet.
        extra: Records that stand before the names of the sheets.
        within: Records that each sheet begins with.
    """
    bodies = []
    for rows in sheets.values():
        body = _record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0, 0, 0, 0)) + within
        for row, cells in enumerate(rows):
            for column, each in enumerate(cells):
                cell, format_ = each if isinstance(each, tuple) else (each, 0)
                place = struct.pack("<HHH", row, column, format_)
                if isinstance(cell, str):
                    text = cell.encode("utf-16-le")
                    body += _record(0x0204, place + struct.pack("<HB", len(text) // 2, 1) + text)
                else:
                    body += _record(0x0203, place + struct.pack("<d", cell))
        bodies.append(body + _record(0x000A, b""))
    start = _record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0)) + extra
    names = [name.encode("utf-16-le") for name in sheets]
    offset = len(start) + sum(12 + len(name) for name in names) + 4
    result = start
    for name, body in zip(names, bodies, strict=True):
        result += _record(0x0085, struct.pack("<IBBBB", offset, 0, 0, len(name) // 2, 1) + name)
        offset += len(body)
    return result + _record(0x000A, b"") + b"".join(bodies)


def xls(
    sheets: Mapping[str, Iterable[Sequence[OldCell]]], extra: bytes = b"", within: bytes = b""
) -> bytes:
    return compound({"Workbook": biff(sheets, extra, within)})


def xls_font(*, is_struck: bool = False, raises: int = 0, name: str = "Arial") -> bytes:
    """A font of an old workbook; `raises` is 1 for raised text, 2 for lowered."""
    text = name.encode("utf-16-le")
    body = struct.pack("<HHHHHBBBB", 200, 8 * is_struck, 0x7FFF, 400, raises, 0, 0, 0, 0)
    return _record(0x0031, body + struct.pack("<BB", len(name), 1) + text)


def xls_format(number: int, code: str) -> bytes:
    text = code.encode("utf-16-le")
    return _record(0x041E, struct.pack("<HHB", number, len(code), 1) + text)


def xls_style(font: int, format_: int) -> bytes:
    """What a cell's format number stands for, in the order in which they are written."""
    return _record(0x00E0, struct.pack("<HHHBBBBIIH", font, format_, 1, 0, 0, 0, 0xFC, 0, 0, 0))


def xls_hidden(row: int | None = None, column: int | None = None) -> bytes:
    """Hide a row or a column of an old workbook's sheet."""
    if row is not None:
        return _record(0x0208, struct.pack("<HHHHHHI", row, 0, 9, 255, 0, 0, 0x120))
    return _record(0x007D, struct.pack("<HHHHHH", column, column, 2560, 0, 1, 0))


def xls_merged(*areas: tuple[int, int, int, int]) -> bytes:
    """Merge cells: first row, last row, first column, last column, all from 0."""
    return _record(
        0x00E5,
        struct.pack("<H", len(areas)) + b"".join(struct.pack("<4H", *area) for area in areas),
    )


def paragraph(text: str, style: str = "") -> str:
    """A paragraph of a Word document; `style` is one of _STYLES."""
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def word_table(rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(
        "<w:tr>" + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) + "</w:tr>"
        for row in rows
    )
    return f"<w:tbl>{cells}</w:tbl>"


def docx(body: str, prolog: str = "", more: Mapping[str, bytes | str] | None = None) -> bytes:
    """A Word document with this XML between its body's tags."""
    document = f"{prolog}<w:document {_WORD}><w:body>{body}</w:body></w:document>"
    return zip_of(
        {
            "[Content_Types].xml": "<Types/>",
            "word/document.xml": document,
            "word/styles.xml": _STYLES,
            **(more or {}),
        }
    )


def pdf(pages: Sequence[Sequence[tuple[str, int]]], trailer: str = "") -> bytes:
    """A PDF whose pages are lines of (text, size); a line of size 0 only leaves room."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for lines in pages:
        y = 780
        content = "BT\n"
        for text, size in lines:
            y -= size + 4 if size else 18
            safe = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
            if size:
                content += f"/F1 {size} Tf 1 0 0 1 60 {y} Tm ({safe}) Tj\n"
        content += "ET"
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {number + 1} 0 R "
            "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica "
            "/Encoding /WinAnsiEncoding >> >> >> >>"
        )
        size = len(content.encode("cp1252"))
        objects.append(f"<< /Length {size} >>\nstream\n{content}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    result = b"%PDF-1.7\n"
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(result))
        result += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252")
    start = len(result)
    result += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    result += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    tail = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n"
    return result + tail.encode() + b"%%EOF\n"


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), stream, **options)
    return stream.getvalue()


def jsonl(rows: Iterable[object]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
