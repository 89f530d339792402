"""Documents as programs write them, made by hand: OpenDocument, PowerPoint, EPUB, XML of 2003."""

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

from tests import files

_ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:number="urn:oasis:names:tc:opendocument:xmlns:datastyle:1.0" '
    'xmlns:fo="urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"'
)
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_POWERPOINT = (
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    f'xmlns:r="{_RELATIONS}"'
)


def _package(mimetype: str, parts: Mapping[str, bytes | str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", mimetype, zipfile.ZIP_STORED)
        for name, content in parts.items():
            archive.writestr(name, content)
    return stream.getvalue()


def odt(
    body: str, styles: str = "", more: Mapping[str, bytes | str] | None = None, prolog: str = ""
) -> bytes:
    """An OpenDocument text with this XML as its text; `styles` are those of its own."""
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?>{prolog}<office:document-content {_ODF}>'
        f"<office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    return _package(
        "application/vnd.oasis.opendocument.text", {"content.xml": content, **(more or {})}
    )


def odt_style(name: str, properties: str = "", *, family: str = "text", parent: str = "") -> str:
    above = f' style:parent-style-name="{parent}"' if parent else ""
    return (
        f'<style:style style:name="{name}" style:family="{family}"{above}>'
        f"<style:text-properties {properties}/></style:style>"
    )


def shape(paragraphs: str, placeholder: str | None = None, *, hidden: bool = False) -> str:
    """A shape of a slide; `placeholder` is its type, “” for the place of the main text."""
    kind = f' type="{placeholder}"' if placeholder else ""
    place = f"<p:ph{kind}/>" if placeholder is not None else ""
    unseen = ' hidden="1"' if hidden else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="1" name="x"{unseen}/>'
        f"<p:nvPr>{place}</p:nvPr></p:nvSpPr><p:txBody>{paragraphs}</p:txBody></p:sp>"
    )


def slide_text(*texts: str) -> str:
    return "".join(f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p>" for text in texts)


def pptx(
    slides: Sequence[str],
    notes: Mapping[int, str] | None = None,
    *,
    hidden: Iterable[int] = (),
    more: Mapping[str, bytes | str] | None = None,
    relations: Mapping[int, Mapping[str, str]] | None = None,
) -> bytes:
    """A presentation of slides with this XML, written in another order than they are shown.

    Args:
        notes: What the speaker's notes hold, by the number of the slide from 0.
        relations: More parts that slides have: kind -> the part's name.
    """
    ids = "".join(f'<p:sldId id="{256 + n}" r:id="rId{n}"/>' for n in range(len(slides)))
    parts: dict[str, bytes | str] = {
        "[Content_Types].xml": "<Types/>",
        "ppt/presentation.xml": f"<p:presentation {_POWERPOINT}><p:sldIdLst>{ids}</p:sldIdLst>"
        "</p:presentation>",
        "ppt/_rels/presentation.xml.rels": _relations(
            {f"rId{n}": ("slide", f"slides/slide{len(slides) - n}.xml") for n in range(len(slides))}
        ),
    }
    for n, body in enumerate(slides):
        name = f"slide{len(slides) - n}.xml"
        show = ' show="0"' if n in hidden else ""
        parts[f"ppt/slides/{name}"] = _slide("sld", body, show)
        own = {
            f"x{kind}": (kind, target) for kind, target in ((relations or {}).get(n) or {}).items()
        }
        if n in (notes or {}):
            own["rId9"] = ("notesSlide", f"../notesSlides/notes{n}.xml")
            parts[f"ppt/notesSlides/notes{n}.xml"] = _slide("notes", (notes or {})[n])
        parts[f"ppt/slides/_rels/{name}.rels"] = _relations(own)
    return files.zip_of({**parts, **(more or {})})


def _slide(tag: str, body: str, attributes: str = "") -> str:
    return (
        f"<p:{tag} {_POWERPOINT}{attributes}><p:cSld><p:spTree>{body}</p:spTree></p:cSld></p:{tag}>"
    )


def _relations(found: Mapping[str, tuple[str, str]]) -> str:
    inner = "".join(
        f'<Relationship Id="{each}" Type="{_RELATIONS}/{kind}" Target="{target}"/>'
        for each, (kind, target) in found.items()
    )
    return f"<Relationships>{inner}</Relationships>"


def epub(chapters: Mapping[str, str], more: Mapping[str, bytes | str] | None = None) -> bytes:
    """An e-book of these chapters: name -> what stands between the body's tags."""
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(chapters)
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
        '<item id="toc" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
        f'{items}</manifest><spine><itemref idref="toc"/>{order}</spine></package>'
    )
    pages = {
        f"OEBPS/{name}": '<?xml version="1.0" encoding="utf-8"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/x.dtd">'
        f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{body}</body></html>'
        for name, body in {"nav.xhtml": "<p>Contents</p>", **chapters}.items()
    }
    container = (
        '<container><rootfiles><rootfile full-path="OEBPS/book.opf" '
        'media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    return _package(
        "application/epub+zip",
        {
            "META-INF/container.xml": container,
            "OEBPS/book.opf": package,
            **pages,
            **(more or {}),
        },
    )


def spreadsheetml(sheets: Mapping[str, str], styles: str = "") -> bytes:
    """A workbook as Excel 2003 saved it in XML: by sheet what stands in its table."""
    return (
        '<?xml version="1.0"?>\n<?mso-application progid="Excel.Sheet"?>\n'
        '<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet" '
        'xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet" '
        'xmlns:x="urn:schemas-microsoft-com:office:excel" '
        'xmlns:html="http://www.w3.org/TR/REC-html40">'
        f"<Styles>{styles}</Styles>"
        + "".join(
            f'<Worksheet ss:Name="{escape(name)}">{table}</Worksheet>'
            for name, table in sheets.items()
        )
        + "</Workbook>"
    ).encode()


def excel_rows(rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(
        "<Row>"
        + "".join(f'<Cell><Data ss:Type="String">{escape(cell)}</Data></Cell>' for cell in row)
        + "</Row>"
        for row in rows
    )
    return f"<Table>{cells}</Table>"


def placed_pdf(pages: Sequence[Sequence[tuple[str, float, float]]], size: int = 11) -> bytes:
    """A PDF whose texts stand at places (text, x, y), drawn in this order."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for texts in pages:
        content = f"BT /F1 {size} Tf\n"
        for text, x, y in texts:
            safe = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
            content += f"1 0 0 1 {x} {y} Tm ({safe}) Tj\n"
        content += "ET"
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {number + 1} 0 R "
            "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica "
            "/Encoding /WinAnsiEncoding >> >> >> >>",
            f"<< /Length {len(content.encode('cp1252'))} >>\nstream\n{content}\nendstream",
        ]
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    body = "".join(f"{n} 0 obj\n{each}\nendobj\n" for n, each in enumerate(objects, start=1))
    return f"%PDF-1.7\n{body}trailer << /Root 1 0 R >>\n%%EOF\n".encode("cp1252")
