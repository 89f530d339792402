"""Documents and packed files that are broken or meant to do harm; a part of tests/hostile.py."""

import gzip
import zlib
from collections.abc import Iterator

from tests import document_files, exports, files

READ, REFUSED, EITHER = "(read)", "(refused)", "(read or refused)"
Case = tuple[str, bytes, str]
_XXE = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
_LAUGHS = (
    '<!DOCTYPE x [<!ENTITY l0 "ha">'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    + "]>"
)
_CSV = b"question,answer\n" + b"Where?,There\n" * 5
_WORDS = "word " * 1_000_000


def corpus() -> Iterator[Case]:
    """Yield each file with what becomes of it."""
    for group in (_gzip, _odt, _pptx, _rtf, _html, _spreadsheetml, _epub, _placed):
        yield from group()


def _gzip() -> Iterator[Case]:
    good = gzip.compress(_CSV)
    yield "csv.gz", good, READ
    yield "gzip of several parts", good + gzip.compress(b"Who?,You\n"), READ
    yield "gzip with blanks behind", good + bytes(512), READ
    yield "gzip with noise behind", good + b"noise", "is not gzip throughout"
    yield "gzip bomb", gzip.compress(bytes(120_000_000)), REFUSED
    yield (
        "gzip bomb of rows",
        gzip.compress(b"question,answer\n" + b"a,b\n" * 30_000_000),
        "“zip bomb”",
    )
    yield "gzip cut off", good[:-12], "it breaks off"
    yield "gzip of its head alone", good[:10], "it breaks off"
    yield "wrong checksum of gzip", good[:-8] + b"\1\2\3\4" + good[-4:], "checksum is wrong"
    yield "wrong length of gzip", good[:-4] + b"\1\2\3\4", "checksum is wrong"
    noise = bytearray(good)
    noise[20] ^= 0xFF
    yield "flipped bits of gzip", bytes(noise), REFUSED
    yield "unknown packing of gzip", good[:2] + b"\x07" + good[3:], REFUSED
    yield "gzip in gzip", gzip.compress(good), "packed by gzip twice"
    yield "gzip of nothing", gzip.compress(b""), "is empty (0 bytes)"
    yield "zip in gzip", gzip.compress(files.zip_of({"a.csv": _CSV})), "ZIP archive packed by gzip"
    yield "workbook in gzip", gzip.compress(files.workbook({"A": [("q", "a"), ("b", "c")]})), READ
    yield "program in gzip", gzip.compress(b"MZ\x90\0" + bytes(100)), "Windows program"
    yield "tar in gzip", gzip.compress(bytes(257) + b"ustar" + bytes(600)), "a tar archive"
    yield "a long name in gzip", b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 3_000_000, REFUSED


def _odt() -> Iterator[Case]:
    make = document_files.odt
    good = '<text:h text:outline-level="1">Where?</text:h><text:p>There.</text:p>' * 4
    yield "ODT", make(good), READ
    yield "ODT with an entity", make("<text:p>&e;</text:p>", prolog=_XXE), "(DTD)"
    yield "laughing ODT", make("<text:p>&l11;</text:p>", prolog=_LAUGHS), "(DTD)"
    yield "nested ODT", make("<text:section>" * 5000), "200 levels"
    yield "spans in spans of ODT", make(f"{good}<text:p>{'<text:span>' * 5000}"), "200 levels"
    yield "ODT cut off", make(good)[:-100], "damaged or incomplete"
    yield "XML of ODT cut off", make(good + "<text:p>"), "breaks off"
    yield "ODT without content", make("", more={"content.xml": ""}), REFUSED
    yield "ODT without words", make(""), "has no text"
    yield "ODT of blanks", make(" " * 120_000_000), "“zip bomb”"
    yield "paragraph of 5 MB in ODT", make(f"<text:p>{_WORDS}</text:p>"), "more than 4 MB"
    blanks = '<text:p>x<text:s text:c="4000000000"/>y</text:p>' * 5
    yield "blanks beyond counting in ODT", make(good + blanks), READ
    cell = '<table:table-cell table:number-rows-spanned="4000000000" {}><text:p>x</text:p>'
    wide = cell.format('table:number-columns-spanned="4000000000"') + "</table:table-cell>"
    covered = '<table:covered-table-cell table:number-columns-repeated="4000000000"/>'
    row = f"<table:table-row>{wide}{covered}</table:table-row>"
    yield "ODT that spans beyond counting", make(f"<table:table>{row * 3}</table:table>"), EITHER
    huge = f'<text:h text:outline-level="{"9" * 400_000}">Where?</text:h><text:p>There</text:p>'
    yield "huge attribute of ODT", make(huge * 4), READ
    circle = document_files.odt_style("a", parent="b") + document_files.odt_style("b", parent="a")
    yield "styles of ODT in a circle", make(good + "<text:p>x</text:p>", circle), READ
    many = "".join(document_files.odt_style(f"s{n}") for n in range(100_050))
    yield "styles of ODT without end", make(good, many), EITHER
    math = "<math><mrow>" + "<msup>" * 5000
    frame = '<text:p><draw:frame><draw:object xlink:href="./O"/></draw:frame></text:p>'
    yield "equation without end in ODT", make(good + frame, more={"O/content.xml": math}), REFUSED
    away = '<text:p><draw:object xlink:href="../../../etc/passwd"/></text:p>'
    yield "ODT that points away", make(good + away), READ
    note = "<text:note><text:note-body><text:p>" * 60
    yield "notes in notes of ODT", make(good + f"<text:p>{note}"), REFUSED


def _pptx() -> Iterator[Case]:
    make, shape, text = document_files.pptx, document_files.shape, document_files.slide_text
    slide = shape(text("Where?"), "title") + shape(text("There."), "")
    yield "PPTX", make([slide] * 4), READ
    yield "slides with an entity", make([slide] * 3, more=_first_slide(_XXE, "&e;")), "(DTD)"
    yield "laughing slides", make([slide] * 3, more=_first_slide(_LAUGHS, "&l11;")), "(DTD)"
    yield "nested slides", make([slide, "<p:grpSp>" * 5000]), "200 levels"
    yield "PPTX cut off", make([slide])[:-100], "damaged or incomplete"
    yield (
        "slide cut off",
        make([slide] * 3, more={"ppt/slides/slide1.xml": "<p:sld>"}),
        "breaks off",
    )
    yield "slides without words", make([shape("")] * 3), "has no text"
    yield "slide of 5 MB", make([shape(text(_WORDS), "")]), "more than 4 MB"
    yield "hidden slides alone", make([slide] * 3, hidden=range(3)), "has no text"
    lost = {"ppt/_rels/presentation.xml.rels": "<Relationships/>"}
    yield "slides that nobody finds", make([slide], more=lost), "has no text"
    away = {0: {"notesSlide": "../../../../etc/passwd", "comments": "http://10.0.0.1/"}}
    yield "slides that point away", make([slide] * 4, relations=away), READ
    ring = {n: {"notesSlide": "slide1.xml"} for n in range(3)}
    yield "slides that are notes", make([slide] * 4, relations=ring), READ
    again = "".join(f'<p:sldId r:id="rId0" id="{n}"/>' for n in range(6000))
    order = (
        f'<p:presentation xmlns:p="p" xmlns:r="r"><p:sldIdLst>{again}</p:sldIdLst></p:presentation>'
    )
    yield (
        "6,000 times one slide",
        make([slide], more={"ppt/presentation.xml": order}),
        "6,000 slides",
    )
    wide = f"<a:tbl><a:tr>{'<a:tc/>' * 100_000}</a:tr></a:tbl>"
    yield (
        "cells of slides without end",
        make([slide] * 4 + [f"<p:graphicFrame>{wide}</p:graphicFrame>"]),
        READ,
    )
    deep = "<a:p><m:oMath>" + "<m:f><m:num>" * 3000
    yield "equation in equation on slides", make([slide, f"<p:sp>{deep}"]), "200 levels"


def _first_slide(prolog: str, text: str) -> dict[str, bytes | str]:
    return {"ppt/slides/slide3.xml": f'{prolog}<p:sld xmlns:p="p" xmlns:a="a">{text}</p:sld>'}


def _rtf() -> Iterator[Case]:
    good = rb"\pard\s1 Where?\par\pard There.\par" * 4
    head = rb"{\rtf1\ansi{\stylesheet{\s1 heading 1;}}"
    yield "RTF", head + good + b"}", READ
    yield "RTF cut off", head + good, "breaks off before its end"
    yield "RTF of brackets", b"{\\rtf1" + b"{" * 300_000, "1,000 levels"
    yield "RTF with a bracket too many", b"{\\rtf1 x}}" + b"}" * 1000, READ
    yield "RTF of closing brackets", b"{\\rtf1" + good + b"}" + b"}{" * 1000, READ
    yield "RTF without words", b"{\\rtf1\\ansi}", "has no text"
    yield "RTF of one long word", b"{\\rtf1\\" + b"a" * 5_000_000 + b" x}", EITHER
    yield "RTF of digits", b"{\\rtf1\\u" + b"9" * 5_000_000 + b" x}", EITHER
    yield "paragraph of 5 MB in RTF", b"{\\rtf1 " + _WORDS.encode() + b"}", "more than 4 MB"
    yield "RTF of backslashes", b"{\\rtf1" + b"\\" * 400_001 + b"}", EITHER
    yield "RTF that skips beyond its end", head + good + rb"{\pict\bin2000000000 x}}", "breaks off"
    yield "RTF that skips backwards", head + good + rb"{\pict\bin-200000 x}}", READ
    yield (
        "RTF with an object",
        head + rb"{\object\objemb{\*\objdata " + b"00" * 500_000 + b"}}" + good + b"}",
        READ,
    )
    yield (
        "RTF that fetches",
        head + rb'{\field{\*\fldinst INCLUDETEXT "http://10.0.0.1/"}{\fldrslt x}}' + good + b"}",
        READ,
    )
    yield (
        "RTF that starts a program",
        head + rb"{\field{\*\fldinst DDEAUTO c:\\cmd.exe}}" + good + b"}",
        READ,
    )
    fonts = b"".join(rb"{\f%d\fcharset204 F%d;}" % (n, n) for n in range(30_000))
    yield "fonts without end", b"{\\rtf1{\\fonttbl" + fonts + b"}" + good + b"}", EITHER
    cells = rb"\trowd" + rb"\cellx9" * 100_000 + rb"\intbl x\cell" * 100_000 + rb"\row "
    yield "cells of RTF without end", head + good + cells + b"}", EITHER
    yield (
        "unknown code page",
        rb"{\rtf1\ansicpg99999 {\fonttbl{\f0\fcharset250 X;}}\f0 \'e4\par x}",
        READ,
    )
    yield "half a pair of RTF", rb"{\rtf1\uc0\u-10179 Where? \u-8704\u-10179\par There}", READ
    yield (
        "equation without end in RTF",
        head + rb"{\mmath{\*\moMath" + rb"{\mf{\mnum" * 400 + b"x",
        REFUSED,
    )
    yield (
        "powers of powers in RTF",
        head + good + rb"{\*\moMath" + rb"{\msSup{\me" * 300 + b"}}" * 300 + b"}}",
        READ,
    )
    yield "RTF of NUL", b"{\\rtf1" + bytes(1_000_000) + b"}", EITHER
    yield "RTF in UTF-16", "{\\rtf1 x}".encode("utf-16"), EITHER


def _html() -> Iterator[Case]:
    page = (
        b"<html><body><h2>Where?</h2><p>There.</p><h2>When?</h2><p>Now.</p><h2>Who?</h2><p>We.</p>"
    )
    yield "web page", page, READ
    yield "web page of scripts", b"<html><script>" + b"x" * 5_000_000, "has no text"
    yield (
        "web page that fetches",
        page + b'<img src="http://10.0.0.1/x"><iframe src="file:///etc/passwd">',
        READ,
    )
    yield "frames alone", b"<html><frameset><frame src=a.htm></frameset></html>", "others in frames"
    yield "nested page", b"<html>" + b"<div>" * 300_000 + b"x", "1,000 levels"
    yield "nested bold", b"<html>" + b"<b>" * 50_000 + b"x", EITHER
    yield "links in links", page + b"<a href=x>" * 20_000 + b"x", EITHER
    yield "lists in lists of a page", page + b"<ul><li>" * 5000 + b"x", "1,000 levels"
    yield "tables in tables of a page", page + b"<table><tr><td>" * 300 + b"x", EITHER
    yield "page of forms", page + b"<table><form><p>" * 3000, EITHER
    huge = b"<p title='" + b"a" * 8_000_000 + b"'>x</p>"
    yield "huge attribute of a page", page + huge, READ
    yield (
        "many attributes",
        page + b"<p " + b" ".join(b"a%d=1" % n for n in range(10_000)) + b">x",
        READ,
    )
    yield "paragraph of 5 MB in a page", b"<html><p>" + _WORDS.encode(), "more than 4 MB"
    span = b"<table><tr>" + b"<td colspan=1000 rowspan=65000>x" * 9 + b"</table>"
    yield "page that spans", page + span, EITHER
    rows = b"<tr><td colspan=900>x<td>y" * 30_000
    yield "page of spans", b"<table>" + rows + b"</table>", "trap"
    yield "columns of a page without end", b"<table><tr>" + b"<td>x" * 200_000, "1,000 columns"
    yield "page of NUL", page + bytes(1_000_000), EITHER
    yield (
        "page that lies about its letters",
        b"<meta charset=utf-8>" + page + "Küche ä".encode("cp1252"),
        READ,
    )
    yield "page in UTF-7", b"<meta charset=utf-7>" + page + b"+ADw-script+AD4-", READ
    yield "page of an unknown encoding", b"<meta charset=x-no-such>" + page, READ
    yield "page of entities", page + b"<p>" + b"&#x110000;&#0;&#xD800;&nosuch;&amp" * 1000, READ
    yield (
        "XHTML that ends at once",
        b"<?xml version='1.0'?><html xmlns='x'><title/><script/>" + page,
        READ,
    )
    yield "XHTML of open tags", b"<?xml version='1.0'?><html xmlns='x'>" + b"<a " * 500_000, EITHER
    yield (
        "page with an entity",
        b"<!DOCTYPE html [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + page + b"&x;",
        READ,
    )
    yield "comment without end", page + b"<!--" + b"-" * 3_000_000, READ
    yield (
        "table of scripts",
        b"<table><tr><td><script>1</script>q<td>a" + b"<tr><td>x<td>y" * 5,
        READ,
    )
    cell = exports.activity_cell
    odd = [cell(""), cell("<br>" * 9), cell("2026 8:00:00<br>x"), cell("a&nbsp;b<br><a <br>-<a x")]
    yield "activity of odd cells", exports.activity(*odd * 50).encode(), READ
    within = '<div class="outer-cell">' * 500 + cell("Prompted&nbsp;a<br>1.1.2026 8:00:00<br>b")
    yield "activity in activity", exports.activity(within).encode(), EITHER
    many = cell("Prompted&nbsp;" + "a<br>" * 20_000 + "1.1.2026 8:00:00<br>b")
    yield "activity of many lines", exports.activity(many).encode(), READ
    yield "page of 60 MB", b"<html>" + b"<p>x</p>\n" * 6_700_000, "at most"
    yield "page of mathematics", page + b"<math>" + b"<msup>" * 900 + b"<mi>x", EITHER


def _spreadsheetml() -> Iterator[Case]:
    make, rows = document_files.spreadsheetml, document_files.excel_rows
    good = rows([("question", "answer")] + [("Where?", "There")] * 5)
    book = make({"A": good})
    yield "workbook in XML", book, READ
    yield (
        "workbook in XML with an entity",
        book.replace(b"?>\n<Workbook", b"?>\n" + _XXE.encode() + b"<Workbook"),
        "(DTD)",
    )
    yield (
        "laughing workbook in XML",
        book.replace(b"?>\n<Workbook", b"?>\n" + _LAUGHS.encode() + b"<Workbook"),
        "(DTD)",
    )
    yield "workbook in XML cut off", book[:-30], "breaks off"
    yield "nested workbook in XML", make({"A": "<Table>" * 5000}), "200 levels"
    yield "workbook in XML without cells", make({"A": "<Table/>"}), "no cells"
    far = '<Table><Row ss:Index="9999999"><Cell ss:Index="9999999"><Data ss:Type="String">x</Data>'
    yield "cell far away in XML", make({"A": far + "</Cell></Row></Table>"}), REFUSED
    cell = f'<Table><Row><Cell><Data ss:Type="String">{"x" * 1_200_000}</Data></Cell></Row></Table>'
    yield "huge cell in XML", make({"A": cell}), "more than 1 MB"
    merged = '<Cell ss:MergeAcross="9999999" ss:MergeDown="9999999">'
    merged += '<Data ss:Type="String">x</Data></Cell>'
    yield (
        "merged beyond counting in XML",
        make({"A": f"<Table><Row>{merged}</Row></Table>{good}"}),
        EITHER,
    )
    numbers = "".join(
        f'<Row><Cell><Data ss:Type="{kind}">{value}</Data></Cell></Row>'
        for kind, value in (("Number", "1e99999"), ("Number", "nan"), ("DateTime", "9999-99-99T99"),
                            ("DateTime", "0001-01-01T00:00:00"), ("Boolean", "2"), ("Noise", "x"))
    )  # fmt: skip
    yield "numbers that are none in XML", make({"A": f"<Table>{numbers}</Table>"}), READ
    style = f'<Style ss:ID="a"><NumberFormat ss:Format="{"[" * 5000}"/></Style>'
    cell = '<Table><Row><Cell ss:StyleID="a"><Data ss:Type="Number">1</Data></Cell></Row></Table>'
    yield "format of brackets in XML", make({"A": cell * 2}, style), READ
    yield (
        "a part of ODF",
        b"<?xml version='1.0'?><office:document-content/>",
        "a part of an OpenDocument",
    )
    yield "XML of no kind", b"<?xml version='1.0'?><a:b/>", "This is XML"
    yield "a picture in XML", b"<svg xmlns='x'><text>q</text></svg>", "a picture (SVG)"


def _epub() -> Iterator[Case]:
    make = document_files.epub
    good = {"a.xhtml": "<h1>Where?</h1><p>There.</p>" * 4}
    yield "EPUB", make(good), READ
    yield "EPUB cut off", make(good)[:-100], "damaged or incomplete"
    yield "EPUB without chapters", make({}), "has no text"
    yield "EPUB of noise", make({"a.xhtml": "\ufffd\x01" * 3000}), EITHER
    package = (
        '<package><manifest><item id="c0" href="{}" media-type="text/html"/></manifest>'
        "<spine>{}</spine></package>"
    )
    once = '<itemref idref="c0"/>'
    away = {"OEBPS/book.opf": package.format("../../etc/passwd", once)}
    yield "EPUB that points away", make(good, away), "has no text"
    twice = {"OEBPS/book.opf": package.format("a.xhtml", once * 100_000)}
    yield "a chapter again and again", make(good, twice), READ
    lock = (
        '<encryption><EncryptedData><EncryptionMethod Algorithm="aes"/>'
        '<CipherReference URI="OEBPS/a.xhtml"/></EncryptedData></encryption>'
    )
    yield "locked EPUB", make(good, {"META-INF/encryption.xml": lock}), "is locked (DRM)"
    yield (
        "EPUB with an entity",
        make(good, {"META-INF/container.xml": _XXE + "<container>&e;</container>"}),
        "(DTD)",
    )
    yield "nested EPUB", make({"a.xhtml": "<div>" * 50_000}), "1,000 levels"
    yield "EPUB of blanks", make({"a.xhtml": " " * 120_000_000}), "“zip bomb”"
    yield "EPUB without a container", files.zip_of({"mimetype": "application/epub+zip"}), "damaged"


def _placed() -> Iterator[Case]:
    make = document_files.placed_pdf
    scattered = [(f"word{n}", (n * 7919) % 560, (n * 104_729) % 800) for n in range(3000)]
    yield "words all over a page", make([scattered]), READ
    yield (
        "pieces beyond every page",
        make([[("word", 10.0**9, -(10.0**9))] * 50 + [("text of it", 50, 50)] * 9]),
        EITHER,
    )
    stacked = [(f"line {n}", 60 + 200 * (n % 2), 400) for n in range(2000)]
    yield "lines at one place", make([stacked]), READ
    many = [[(f"left {n} {m}", 60, 800 - 7 * m) for m in range(100)] for n in range(40)]
    yield (
        "columns on many pages",
        make(
            [
                [piece for left in page for piece in (left, ("right of it", 310, left[2]))]
                for page in many
            ]
        ),
        READ,
    )
    broken = zlib.compress(b"BT /F1 11 Tf (x) Tj" * 100_000)
    yield (
        "a stream where there is none",
        make([[("x", 1, 1)]]).replace(b"BT", broken[:2], 1),
        EITHER,
    )
