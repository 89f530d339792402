"""More than 400 files that are broken or meant to do harm: name -> bytes, made afresh each time.

READ says that a file is read, REFUSED that it is not, EITHER that both are right; another string is
part of the sentence with which it is refused. tests/app/datasets/readers/test_hostile_files.py
gives each to a reading process.
"""

import bz2
import gzip
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator

from tests import files, hostile_documents, hostile_exports

READ, REFUSED, EITHER = "(read)", "(refused)", "(read or refused)"
Case = tuple[str, bytes, str]
_More = dict[str, bytes | str] | None
HEAD = b"question,answer\n"
GOOD = b"Where?,There\n" * 5
_BOMB_BYTES = 120_000_000


def corpus() -> Iterator[Case]:
    """Yield each file with what becomes of it."""
    for group in (_magic, _tables, _json, _archives, _xlsx, _xls, _ods, _parquet, _word, _pdf):
        yield from group()
    yield from hostile_documents.corpus()
    yield from hostile_exports.corpus()


def _magic() -> Iterator[Case]:
    starts = {
        "png": b"\x89PNG\r\n\x1a\n",
        "jpeg": b"\xff\xd8\xff\xe0",
        "gif": b"GIF89a",
        "bmp": b"BM\x00\x00",
        "tiff": b"II*\0",
        "sqlite": b"SQLite format 3\0",
        "windows program": b"MZ\x90\0",
        "program": b"\x7fELF\x02",
        "7z": b"7z\xbc\xaf\x27\x1c",
        "rar": b"Rar!\x1a\x07",
        "zstd": b"\x28\xb5\x2f\xfd",
        "arrow": b"ARROW1\0\0",
        "sound": b"RIFF\0\0\0\0WAVE",
        "mp3": b"ID3\x04",
        "ogg": b"OggS",
        "mp4": b"\0\0\0\x20ftypisom",
        "pickle": b"\x80\x04\x95\x20cos\nsystem\n(S'id'\ntR.",
        "encrypted parquet": b"PARE",
    }
    for name, start in starts.items():
        yield f"{name}, by its first bytes", start + bytes(100), "This is a"
    yield "bzip2", bz2.compress(b"q,a\n"), "a bzip2 archive"
    yield "xz", lzma.compress(b"q,a\n"), "an xz archive"
    yield "tar", bytes(257) + b"ustar" + bytes(600), "a tar archive"
    yield "program before an archive", b"MZ" + files.zip_of({"a.csv": "q,a\n"}), "Windows program"
    page = b"<html><script>alert(1)</script><table><tr><td>q</td></tr></table></html>"
    yield "web page as CSV", b"<!DOCTYPE html>" + page, READ
    yield "web page after blanks", b"\xef\xbb\xbf  \r\n" + page, READ
    yield (
        "xml with an entity",
        (b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>'),
        "This is XML",
    )


def _tables() -> Iterator[Case]:
    yield "empty", b"", "is empty (0 bytes)"
    yield "blanks", b" \n\t\r\n " * 1000, "is blank"
    yield "a mark and nothing", b"\xef\xbb\xbf", "is blank"
    yield "utf-16 mark and nothing", b"\xff\xfe", "is blank"
    yield "header alone", HEAD, "column names but no rows"
    yield "nul first", b"\0" + HEAD + GOOD, "NUL bytes"
    yield "nul within", HEAD + GOOD + b"Wh\0ere,There\n", "Line 7 has NUL bytes"
    yield "all nul", bytes(100_000), REFUSED
    yield "utf-16 cut in a letter", "q,a\nWo?,Da\n".encode("utf-16")[:-1], REFUSED
    yield "utf-16 with half a pair", "q,a\nx,".encode("utf-16") + b"\x00\xd8" * 3, REFUSED
    yield "utf-32 out of range", b"\xff\xfe\0\0" + b"\xff" * 40, REFUSED
    yield "half a character", HEAD + "ä,ö\n".encode() + b"\xed\xa0\x80,x\n", "Line 3 has bytes"
    yield "too long a form", HEAD + "ä,ö\n".encode() + b"\xc0\xaf,x\n", "Line 3 has bytes"
    yield "two encodings", HEAD + "ä,ö\n".encode() + "ä,ö\n".encode("cp1252"), "Line 3 has bytes"
    yield "one strange byte", HEAD + GOOD + b"caf\xe9,x\n", READ
    yield "cyrillic of 1995", "вопрос,ответ\nгде?,там\n".encode("koi8_r") * 20, READ
    yield "noise", bytes((n * 7919 + n * n) % 251 + 1 for n in range(20_000)), REFUSED
    yield "open quote", HEAD + b'"Where,There\n' + GOOD, "Line 2 opens a quote"
    yield "open quote to the end of 3 MB", HEAD + b'"' + b"x," * 1_500_000, "Line 2 opens a quote"
    yield "quote within", HEAD + b'x,"He said "no" to me"\n', "Line 2 has a quote"
    yield "quotes only", b'"' * 100_001, REFUSED
    yield "huge cell", HEAD + b"x" * 1_200_000 + b",y\n", "more than 1 MB"
    yield "one line of 20 MB", b"x" * 20_000_000, REFUSED
    yield "columns without end", b",".join(b"c%d" % n for n in range(200_000)), "at most 1,000"
    yield "delimiters only", b"," * 900 + b"\n" + b"," * 900, REFUSED
    yield "five million line ends", b"\n" * 5_000_000, "is blank"
    yield "ragged", b"q,a\n" + b"Where?,There, and here\n" * 5, "most rows have more cells"
    yield "old mac line ends", b"question,answer\rWhere?,There\rWhen?,Now\r", READ
    yield "mixed line ends", b"question,answer\r\nWhere?,There\nWhen?,Now\r", READ
    yield "name of 100,000 letters", b"question," + b"a" * 100_000 + b"\nx,y\n", READ
    yield "columns of one name", b"a,a,a,a\n" + b"1,2,3,4\n" * 3, READ
    yield (
        "formulas",
        HEAD + b"=cmd|' /C calc'!A0,@SUM(1+1)*cmd|x\n+1,-2+3\n\t=1,=HYPERLINK(1)\n",
        READ,
    )
    yield (
        "scripts",
        HEAD + b'"<script>alert(1)</script>","<img src=x onerror=alert(1)>"\n' * 3,
        READ,
    )
    yield "templates", HEAD + b"{{ 7*7 }},{% raw %}\n${7*7},#{7*7}\n", READ
    yield "escapes for a terminal", HEAD + b"\x1b]0;owned\x07,\x1b[2J\n" * 3, READ
    yield "reversed text", HEAD + "\u202egpj.exe,\u2066x\u2069\n".encode() * 3, READ
    yield "line separators of unicode", "question,answer\nA\u2028B,C\u0085D\n".encode(), READ
    broken = b"nr|question|answer\n" + b"1|Where?|There\nand on\n" * 20 + b"2|Who?|You\n"
    yield "a cell without an end", broken + b"and on\n" * 2_000_000, "does not end"
    yield "rows of totals", HEAD + GOOD + b"Total,1\n" * 200_000, READ
    yield "hints of brackets", HEAD + b"(" * 900_000 + b"," + b"(" * 900_000 + b"\n" + GOOD, READ
    yield "names of humps", b"aA" * 400_000 + b",answer\n" + GOOD, READ
    yield "figures without end", HEAD + b"Total," + b"1" * 900_000 + b"x\n" + GOOD, READ
    yield "sep line of excel", b"sep=;\nquestion;answer\nx;y\n", READ
    yield "sql", b"'; DROP TABLE example; --,x\nq,a\n" + GOOD, READ
    yield "shell", b"#!/bin/sh\nrm -rf /\n\n\necho done\n", READ
    yield "many columns, few names", HEAD.replace(b"\n", b"," * 998 + b"\n") + GOOD, READ
    yield "zero width names", "\u200b,\u200b\nx,y\n".encode(), READ
    yield "tabs and commas", b"a\tb,c\td\n" * 30, READ
    yield "bell and form feed", HEAD + b"a\x07\x0c,b\x0b\n" * 3, READ
    yield "markdown of one endless line", b"# Head\n\n" + b"word " * 300_000, "longer than 1 MB"
    yield "endless paragraph", b"# Head\n\n" + b"some words\n" * 500_000, "more than 4 MB"
    yield (
        "endless heading levels",
        b"".join(b"#" * (n % 9 + 1) + b" H\n" for n in range(20_000)),
        READ,
    )
    yield "open fence", b"# A\n\n```\n" + b"code\n" * 100, READ
    yield "table of bars", b"|" * 5000 + b"\n|---|---|\n" + b"|" * 5000 + b"\n", EITHER
    yield "marks in a row", b"Q: " * 50_000 + b"\n\nA: x\n", READ


def _json() -> Iterator[Case]:
    pair = {"question": "Where?", "answer": "There"}
    line = json.dumps(pair).encode() + b"\n"
    yield "deep list", b"[" * 300_000, "nested more than 64"
    yield "deep object", b'{"a":' * 100_000, REFUSED
    yield "deep entry", line + b'{"q": ' + b"[" * 100 + b"]" * 100 + b"}\n", "Line 2 is nested"
    yield "deep entry of a list", b'[{"q": ' + b"[" * 90 + b"]" * 90 + b"}]", "nested more than 64"
    yield "NaN in a line", line + b'{"question": NaN}\n', READ
    yield "NaN in a list", b'[{"question": NaN, "answer": "x"}]', READ
    for word in (b"Infinity", b"-Infinity"):
        yield f"{word.decode()} in a line", line + b'{"question": ' + word + b"}\n", "Line 2 is not"
        yield f"{word.decode()} in a list", b'[{"question": ' + word + b"}]", "is not valid JSON"
    yield "beyond every float", line + b'{"question": 1e99999, "answer": -1e99999}\n', READ
    yield (
        "number of 5,000 digits",
        line + b'{"question": ' + b"9" * 5000 + b"}\n",
        "too many digits",
    )
    yield "number of 30 digits", line + b'{"question": ' + b"9" * 30 + b', "answer": "x"}\n', READ
    yield "doubled keys", b'{"question": "a", "question": "b", "answer": "c"}\n' * 3, READ
    yield "comma at the end", b'[{"q": 1},\n]', READ
    yield "comment", b'[{"q": 1}, // no\n{"q": 2}]', "is not valid JSON"
    yield "single quotes", b"{'question': 'x'}\n" * 3, "is not valid JSON"
    yield "open text", line + b'{"question": "x', "Line 2"
    yield "cut off list", b'[{"q": 1}, {"q": "abc', "closing quote"
    yield "more after the list", b'[{"q": 1}] x', "behind the end of the list"
    yield "line break in a text", b'{"question": "a\nb"}\n', REFUSED
    yield "half a pair of letters", b'{"question": "\\ud83d", "answer": "x"}\n' * 3, READ
    yield "nul escaped", b'{"question": "a\\u0000b", "answer": "x"}\n' * 3, READ
    yield "nul in a name", b'{"a\\u0000b": 1}\n', "is not text"
    yield "half a pair in a name", b'{"a\\ud800b": 1}\n', "is not text"
    yield "name of 300 letters", json.dumps({"k" * 300: 1}).encode(), "longer than 200"
    yield "names without end", json.dumps({f"k{n}": 1 for n in range(100_000)}).encode(), "1,000"
    yield "new names in each line", b"".join(b'{"k%d": 1}\n' % n for n in range(1500)), "1,000"
    yield "empty list", b"[]", "empty list"
    yield "empty object", b"{}", "only empty cells"
    yield "list of lists", b"[[1, 2], [3]]", READ
    yield "list of texts", b'["a", "b"]', "is a text and not an object"
    yield "list among lines", line + b"[1]\n", "Line 2 is a list and not an object"
    yield "entry of 20 MB", b'[{"q": "' + b"x" * 20_000_000 + b'"}]', "longer than 16 MB"
    yield "line of 20 MB", line + b'{"q": "' + b"x" * 20_000_000 + b'"}\n', "longer than 16 MB"
    yield "wrapped and broken", b'{"data": [{"q": 1}, {"q": }]}', "is not valid JSON"
    yield "utf-16", json.dumps([pair]).encode("utf-16"), READ
    yield "latin letters", '{"question": "Küche?", "answer": "Ja"}\n'.encode("cp1252"), READ
    yield "torn letter in a line", b'{"question": "\xc3", "answer": "x"}\n', READ
    yield "proto", b'{"__proto__": {"a": 1}, "constructor": "x", "answer": "y"}\n' * 3, READ
    yield "turns by nobody", b'{"messages": [{"role": 7, "content": {}}]}\n' * 3, READ
    yield "turns in turns", b'{"messages": [[[{"role": "user"}]]]}\n' * 3, READ
    yield "turns as a text", b'{"messages": "[[[[[["}\n' * 3, READ
    yield (
        "a picture in a turn",
        (
            b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": '
            b'{"url": "http://10.0.0.1/"}}]}, {"role": "assistant", "content": "x"}]}\n'
        ),
        READ,
    )


def _entry(name: str, content: bytes = HEAD + GOOD, **fields: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        for key, value in fields.items():
            setattr(info, key, value)
        archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _archives() -> Iterator[Case]:
    for name in (
        "../a.csv",
        "x/../../a.csv",
        "/etc/a.csv",
        "..\\..\\a.csv",
        "C:\\a.csv",
        "C:a.csv",
    ):
        yield f"entry {name}", _entry(name), "points out of its folder"
    good = _entry("a.csv")
    yield "nul in an entry's name", good.replace(b"a.csv", b"a\0csv"), REFUSED
    link = {"create_system": 3, "external_attr": 0o120777 << 16}
    yield "link", _entry("a.csv", b"/etc/passwd", **link), "is a link"
    yield "device", _entry("a.csv", create_system=3, external_attr=0o020666 << 16), READ
    inner = files.zip_of({"a.csv": HEAD + GOOD})
    yield "archive in an archive", files.zip_of({"a.zip": inner}), "archive inside an archive"
    yield "three deep", files.zip_of({"b.zip": files.zip_of({"a.zip": inner})}), "inside an archive"
    yield "gzip in an archive", files.zip_of({"a.gz": gzip.compress(b"x")}), "inside an archive"
    yield "program in an archive", files.zip_of({"a.csv": b"MZ\x90\0"}), "a Windows program"
    yield "bomb", files.zip_of({"a.csv": b"a," * (_BOMB_BYTES // 2)}), "“zip bomb”"
    many = {f"{n}.csv": HEAD for n in range(1001)}
    yield "1,001 files", files.zip_of(many, zipfile.ZIP_STORED), "1,001 parts"
    for kind, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        yield f"bomb by {name}", files.zip_of({"a.csv": bytes(60_000_000)}, kind), "“zip bomb”"
    yield (
        "protected",
        good.replace(b"\x14\0\0\0\x08\0", b"\x14\0\x01\0\x08\0"),
        "protected by a password",
    )
    yield "unknown packing", good.replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0"), REFUSED
    flipped = bytearray(good)
    flipped[40] ^= 0xFF
    yield "flipped bits", bytes(flipped), REFUSED
    yield "wrong checksum", _checksum(good), "do not match its checksum"
    yield "cut off", good[:-30], "damaged or incomplete"
    yield "only a start", b"PK\x03\x04" + bytes(26), "damaged or incomplete"
    yield "only an end", b"PK\x05\x06" + bytes(18), "has no files in it"
    yield "folders only", files.zip_of({"a/": b"", "b/": b""}), "has no files in it"
    yield (
        "clutter only",
        files.zip_of({"__MACOSX/._a": b"x", ".DS_Store": b"x"}),
        "has no files in it",
    )
    yield "size that lies", _declared(good, 10), REFUSED
    yield "size that lies by gigabytes", _declared(good, 2**31), "“zip bomb”"
    yield "name of 60,000 letters", _entry("a" * 60_000), READ
    yield "name that steers a terminal", _entry("\x1b[2J\u202evsc.a"), READ
    yield "names twice", _twice(), READ
    yield (
        "other columns",
        files.zip_of({"a.csv": HEAD + GOOD, "b.csv": b"x,y\n1,2\n"}),
        "differ from",
    )
    yield "a picture beside", files.zip_of({"a.csv": HEAD + GOOD, "b.png": b"\x89PNG"}), READ
    yield "pictures alone", files.zip_of({"b.png": b"\x89PNG"}), "only “b.png” (a picture)"
    yield (
        "office leftovers",
        files.zip_of({"a/~$a.docx": b"x", "~WRL1.tmp": b"x", "Icon\r": b"", "a.csv": HEAD + GOOD}),
        READ,
    )
    yield (
        "a broken one beside",
        files.zip_of({"a.csv": HEAD + GOOD, "b.csv": b'q,a\n"x'}),
        "In “b.csv”",
    )
    yield "an empty one beside", files.zip_of({"a.csv": HEAD + GOOD, "b.csv": b""}), READ
    yield "slides without a slide", files.zip_of({"ppt/presentation.xml": b"<p/>"}), "has no text"
    yield "formulas in a name", _entry("=cmd|' C calc'!A0.csv"), READ


def _checksum(archive: bytes) -> bytes:
    """Write another checksum at the local header and in the directory."""
    changed = bytearray(archive)
    changed[14:18] = b"\1\2\3\4"
    directory = changed.find(b"PK\x01\x02")
    changed[directory + 16 : directory + 20] = b"\1\2\3\4"
    return bytes(changed)


def _declared(archive: bytes, size: int) -> bytes:
    changed = bytearray(archive)
    changed[22:26] = struct.pack("<I", size)
    directory = changed.find(b"PK\x01\x02")
    changed[directory + 24 : directory + 28] = struct.pack("<I", size)
    return bytes(changed)


def _twice() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, HEAD + GOOD)
    return stream.getvalue().replace(b"b.csv", b"a.csv")


_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def _sheet(rows: str, prolog: str = "", shared: str = "", more: _More = None) -> bytes:
    """A workbook whose sheet holds this XML, and its shared texts that."""
    parts: dict[str, bytes | str] = {}
    with zipfile.ZipFile(io.BytesIO(files.workbook({"A": [("x",)]}))) as archive:
        for name in archive.namelist():
            parts[name] = archive.read(name)
    parts["xl/worksheets/sheet1.xml"] = (
        f"<worksheet {_MAIN}><sheetData>{rows}</sheetData></worksheet>"
    )
    parts["xl/sharedStrings.xml"] = f"{prolog}<sst {_MAIN}>{shared}</sst>"
    return files.zip_of(parts | (more or {}))


def _cells(row: int, *texts: str) -> str:
    cells = "".join(
        f'<c r="{chr(65 + column)}{row}" t="inlineStr"><is><t>{text}</t></is></c>'
        for column, text in enumerate(texts)
    )
    return f'<row r="{row}">{cells}</row>'


def _xlsx() -> Iterator[Case]:
    good = _cells(1, "question", "answer") + _cells(2, "Where?", "There")
    yield "made by hand", _sheet(good), READ
    yield "stray cell", _sheet(good + '<row r="3"><c r="XFD3"><v>1</v></c></row>'), READ
    far = "".join(f'<row r="{row}"><c r="XFD{row}"><v>1</v></c></row>' for row in range(3, 1_000))
    yield "million columns", _sheet(good + far), "1,000 columns"
    corner = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    yield "far corner", _sheet(good + corner), READ
    yield "million rows", _sheet(good + '<row r="1048576"><c r="A1048576"><v>1</v></c></row>'), READ
    yield (
        "place that is none",
        _sheet('<row r="1"><c r="ZZZZZZ99999999999"><v>1</v></c></row>'),
        REFUSED,
    )
    for quoted in ("r='ZZZZZZ99999999'", "t='n'\nr = 'ZZZZZZ99999999'", 'r="zzzzzz99999999"'):
        odd = f'<row r="1"><c {quoted}><v>1</v></c></row>'
        yield f"place that is none, as {quoted}", _sheet(odd), REFUSED
    said = _cells(1, "question", "answer") + _cells(2, "Is r='ABCDEF' right?", "Yes")
    yield "words like a place", _sheet(said), READ
    yield "rows backwards", _sheet(_cells(2, "x", "y") + _cells(1, "question", "answer")), READ
    xxe = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    shared = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c></row><row r="2"><c r="A2" t="s"><v>0</v></c></row>'
    )
    entity = "<si><t>&e;</t></si>"
    yield "entity from outside", _sheet(shared, prolog=xxe, shared=entity), EITHER
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>'
    yield "laughs", _sheet(shared, prolog=bomb, shared="<si><t>&l11;</t></si>"), REFUSED
    yield "shared text that is not there", _sheet(shared, shared=""), REFUSED
    yield "bomb in a sheet", _sheet(" " * _BOMB_BYTES), "“zip bomb”"
    yield "cell of 2 MB", _sheet(_cells(1, "question", "x" * 2_000_000)), REFUSED
    yield "no cells", _sheet(""), "no cells"
    yield "broken XML", _sheet('<row r="1"><c r="A1"><v>1</c></row>'), REFUSED
    yield "no sheet", files.zip_of({"xl/workbook.xml": "<workbook/>"}), REFUSED
    yield "no XML at all", files.zip_of({"xl/workbook.xml": b"\0\1\2"}), REFUSED
    yield "binary workbook of noise", files.zip_of({"xl/workbook.bin": b"\xff" * 500}), REFUSED
    yield "macros", _sheet(good, more={"xl/vbaProject.bin": b"\xd0\xcf\x11\xe0" + bytes(500)}), READ
    link = '<externalLink><externalBook r:id="r1"/></externalLink>'
    yield "link to outside", _sheet(good, more={"xl/externalLinks/externalLink1.xml": link}), READ
    formula = '<row r="2"><c r="A2"><f>WEBSERVICE("http://10.0.0.1/")</f></c></row>'
    yield "formula without value", _sheet(_cells(1, "question", "answer") + formula), REFUSED
    dde = '<row r="2"><c r="A2" t="str"><f>cmd|"/C calc"!A0</f><v>x</v></c></row>'
    yield "formula that calls", _sheet(_cells(1, "question", "answer") + dde), READ
    wild = '<row r="2"><c r="A2"><v>1e400</v></c><c r="B2" t="d"><v>99999-99-99</v></c></row>'
    yield "values out of range", _sheet(_cells(1, "question", "answer") + wild), EITHER
    yield (
        "outside the package",
        _sheet(good).replace(b"worksheets/sheet1", b"../../../../sheet"),
        REFUSED,
    )
    yield (
        "row beyond counting",
        _sheet(good + '<row r="99999999999999"/>'),
        "where no sheet has one",
    )
    yield "a row that is none", _sheet(good + '<row r="-5"><c><v>1</v></c></row>'), REFUSED
    yield (
        "a column that is none",
        _sheet(_cells(1, "q", "a") + '<row><c r="AAAA1"/></row>'),
        REFUSED,
    )
    many = "".join(f'<mergeCell ref="A{n}:B{n + 1}"/>' for n in range(1, 120_000))
    yield "merged without end", _merged(good, many), "merged cells"
    overlap = "".join(f'<mergeCell ref="A1:A{n}"/>' for n in range(2, 50_000))
    yield "merged over each other", _merged(good, overlap), READ
    yield "merged where nothing is", _merged(good, '<mergeCell ref="ZZZZ1:A99999999999"/>'), READ
    rich = "<si><r><rPr><strike/></rPr><t>x</t></r></si>" * 300_000
    yield "rich texts", _sheet(shared, shared=rich), EITHER
    yield "shared text of 2 MB", _sheet(shared, shared=f"<si><t>{'x' * 2_000_000}</t></si>"), "1 MB"
    pieces = "<si>" + "<r><t>xxxxxxxxxx</t></r>" * 200_000 + "</si>"
    yield "shared text in pieces of 2 MB", _sheet(shared, shared=pieces), "1 MB"
    yield "nested sheet", _sheet("<row>" * 5000), REFUSED
    numbers = "".join(f'<row><c s="{n}"><v>{n}e{n}</v></c></row>' for n in range(300))
    yield "numbers in all formats", _styled(_cells(1, "question", "answer") + numbers), READ
    yield "formats without end", _styled(good, num_styles=80_000), "more formats"
    laughing: dict[str, bytes | str] = {
        "xl/styles.xml": f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><styleSheet>&l11;</styleSheet>'
    }
    yield "laughing styles", _sheet(good, more=laughing), "(DTD)"
    one = f"<si><t>{'x' * 900_000}</t></si>"
    cells = "".join('<row><c t="s"><v>0</v></c></row>' for _ in range(20_000))
    yield "one text a million times", _sheet(cells, shared=one), "looks like a trap"
    yield "twice the header", _sheet(_cells(1, "answer", "answer") + _cells(2, "x", "y")), READ
    yield "torn", files.workbook({"A": [("q", "a"), ("x", "y")]})[:-200], "damaged or incomplete"


def _merged(rows: str, areas: str) -> bytes:
    body = f"<worksheet {_MAIN}><sheetData>{rows}</sheetData><mergeCells>{areas}</mergeCells>"
    return _sheet(rows, more={"xl/worksheets/sheet1.xml": f"{body}</worksheet>"})


def _styled(rows: str, num_styles: int = 300) -> bytes:
    """A workbook with formats that no person writes."""
    odd = [
        "0" * 390,
        "%" * 390 + "0",
        "?/" + "9" * 390,
        "[h]" * 130,
        '"' * 399,
        "E+0;" * 99,
        "[>1e9]0",
    ]
    safe = [code.replace('"', "&quot;").replace(">", "&gt;") for code in odd]
    codes = "".join(
        f'<numFmt numFmtId="{200 + n}" formatCode="{safe[n % len(safe)]}"/>' for n in range(300)
    )
    cells = "".join(f'<xf numFmtId="{200 + n % 300}" fontId="{n}"/>' for n in range(num_styles))
    styles = f"<styleSheet><numFmts>{codes}</numFmts><cellXfs>{cells}</cellXfs></styleSheet>"
    return _sheet(rows, more={"xl/styles.xml": styles})


def _xls() -> Iterator[Case]:
    sheets = {"A": [("question", "answer"), ("Where?", "There")]}
    good = files.xls(sheets)
    yield "old workbook cut off", good[: len(good) // 2], REFUSED
    yield "old workbook of noise", good[:512] + b"\xff" * 4000, REFUSED
    loop = bytearray(good)
    loop[512 + 8 : 512 + 12] = struct.pack("<I", 2)  # a sector that follows itself
    yield "sectors in a circle", bytes(loop), EITHER
    yield (
        "old workbook with a password",
        files.xls(sheets, struct.pack("<HHHI", 0x2F, 6, 1, 0)),
        "password",
    )
    yield (
        "record beyond the end",
        files.compound({"Workbook": b"\x09\x08\xff\xff" + bytes(50)}),
        REFUSED,
    )
    far = files.compound(
        {"Workbook": files.biff(sheets).replace(b"\1\0\1\0\0\0", b"\xff\xff\xff\0\0\0")}
    )
    yield "cells at the far corner", far, EITHER
    macros = files.compound({"Workbook": files.biff(sheets), "_VBA_PROJECT_CUR": bytes(4096)})
    yield "old workbook with macros", macros, READ
    package = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le")
    )
    yield "any document with a password", package, "protected by a password"
    yield "old letter", files.compound({"WordDocument": bytes(4096)}), "not a workbook"
    yield "old workbook without sheets", files.xls({}), REFUSED
    wild = struct.pack("<HH", 0xE5, 2) + struct.pack("<H", 60_000)
    yield "merged beyond the record", files.xls(sheets, within=wild), EITHER
    texts = struct.pack("<HH", 0xFC, 8) + struct.pack("<II", 2**31, 2**31)
    yield "two billion shared texts", files.xls(sheets, texts), EITHER
    loud = files.xls_format(164, "[" * 30_000) + files.xls_style(0, 164)
    styled: dict[str, list[tuple[files.OldCell, ...]]] = {
        "A": [("question", "answer"), (("x", 60_000), (1e308, 0))]
    }
    yield "a format of brackets", files.xls(styled, loud), EITHER
    yield "a style that is not there", files.xls(styled), EITHER


def _ods() -> Iterator[Case]:
    cell = '<table:table-cell office:value-type="string" {}><text:p>x</text:p></table:table-cell>'
    wide = cell.format('table:number-columns-repeated="16384"')
    row = f'<table:table-row table:number-rows-repeated="1048576">{wide}</table:table-row>'
    yield (
        "repeated without end",
        files.ods({}, f'<table:table table:name="A">{row}</table:table>'),
        REFUSED,
    )
    one = cell.format("")
    tall = f'<table:table-row table:number-rows-repeated="4000000000">{one}</table:table-row>'
    yield (
        "rows beyond counting",
        files.ods({}, f'<table:table table:name="A">{tall}</table:table>'),
        EITHER,
    )
    yield "ODS without content", _without(files.ods({"A": [["q"]]}), "content.xml"), REFUSED
    yield "ODS of no XML", files.ods({}, "<table:table"), REFUSED
    yield "ODS without tables", files.ods({}), "no cells"
    deep = "<table:table>" * 5000
    yield "ODS in ODS in ODS", files.ods({}, deep + "</table:table>" * 5000), REFUSED
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = files.ods({"A": [["question", "answer"], ["x", "y"]]})
    yield "laughing ODS", _with_prolog(bomb, f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>'), "(DTD)"
    span = cell.format('table:number-rows-spanned="4000000000" table:number-columns-spanned="9999"')
    rows = f"<table:table-row>{span}{one}</table:table-row>" * 3
    yield (
        "merged beyond counting",
        files.ods({}, f'<table:table table:name="A">{rows}</table:table>'),
        READ,
    )
    blanks = cell.replace("<text:p>x", '<text:p><text:s text:c="4000000000"/>x').format("")
    rows = f"<table:table-row>{blanks}{one}</table:table-row>" * 3
    yield (
        "blanks beyond counting",
        files.ods({}, f'<table:table table:name="A">{rows}</table:table>'),
        READ,
    )
    text = cell.replace("<text:p>x", f"<text:p>{'x' * 900_000}").format("")
    rows = f'<table:table-row table:number-rows-repeated="1000000">{text}</table:table-row>'
    yield (
        "a long text repeated",
        files.ods({}, f'<table:table table:name="A">{rows}</table:table>'),
        "trap",
    )
    spans = "<text:span>" * 150 + "x" + "</text:span>" * 150
    spanned = cell.replace("<text:p>x", f"<text:p>{spans}").format("")
    rows = f"<table:table-row>{spanned}{one}</table:table-row>"
    yield (
        "spans in spans",
        files.ods({}, f'<table:table table:name="A">{rows * 3}</table:table>'),
        READ,
    )
    mimetype = "application/vnd.oasis.opendocument.graphics"
    yield "OpenDocument drawing", files.zip_of({"mimetype": mimetype}), "OpenDocument presentation"


def _with_prolog(archive: bytes, prolog: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        parts = {each: old.read(each) for each in old.namelist()}
    parts["content.xml"] = parts["content.xml"].replace(b"?>", b"?>" + prolog.encode(), 1)
    return files.zip_of(parts)


def _without(archive: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        return files.zip_of({each: old.read(each) for each in old.namelist() if each != name})


def _parquet() -> Iterator[Case]:
    good = files.parquet({"question": ["Where?"] * 100, "answer": ["There"] * 100})
    yield "parquet cut off", good[: len(good) // 2], "damaged or incomplete"
    yield "parquet without its end", good[:-8], "damaged or incomplete"
    yield "only the signs", b"PAR1PAR1", REFUSED
    yield "footer longer than the file", good[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1", REFUSED
    yield "footer of noise", b"PAR1" + b"\xff" * 400 + struct.pack("<I", 400) + b"PAR1", REFUSED
    torn = bytearray(good)
    torn[4:60] = b"\xff" * 56
    yield "pages of noise", bytes(torn), "damaged or incomplete"
    yield "wide parquet", files.parquet({f"c{n}": [1] for n in range(1100)}), "1,100 columns"
    yield "no rows", files.parquet({"q": [], "a": []}), "no rows"
    import pyarrow as pa

    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 4000), pa.array(["x" * 600_000]))
    yield "one text, repeated", files.parquet({"q": texts}, compression="zstd"), "looks like a trap"
    yield "text of 2 MB", files.parquet({"q": ["x" * 2_000_000]}), "Row 1 has a text"
    value: object = "x"
    for _ in range(60):
        value = [value]
    yield "lists in lists", files.parquet({"question": [value] * 3, "answer": ["x"] * 3}), EITHER
    yield "numbers only", files.parquet({"n": [1, 2, 3]}), READ
    yield "pictures", files.parquet({"image": [b"\x89PNG\xff"] * 3, "text": ["x"] * 3}), READ


def _word() -> Iterator[Case]:
    words = files.paragraph("Where?", "berschrift1") + files.paragraph("There.")
    xxe = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    yield "letter with an entity", files.docx("<w:p><w:r><w:t>&e;</w:t></w:r></w:p>", xxe), "(DTD)"
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    yield "laughing letter", files.docx(words, f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>'), "(DTD)"
    yield "entity that nobody names", files.docx("<w:p>&nobody;</w:p>"), "damaged"
    yield "nested letter", files.docx("<w:tbl>" * 5000), "200 levels"
    yield (
        "tables in tables",
        files.docx("<w:tbl><w:tr><w:tc>" * 60 + "</w:tc></w:tr></w:tbl>" * 60),
        EITHER,
    )
    yield "letter cut off", files.docx(words)[:-100], "damaged or incomplete"
    yield "XML cut off", files.docx(words + "<w:p><w:r>"), "breaks off"
    yield "letter of blanks", files.docx(" " * _BOMB_BYTES), "“zip bomb”"
    yield "paragraph of 5 MB", files.docx(files.paragraph("word " * 1_000_000)), "more than 4 MB"
    yield "letter without words", files.docx(""), "has no text"
    yield (
        "letter with macros",
        files.docx(words * 4, more={"word/vbaProject.bin": bytes(500)}),
        READ,
    )
    outside = '<w:altChunk r:id="x" xmlns:r="y"/><w:object><w:OLEObject/></w:object>'
    yield "letter that fetches", files.docx(words * 4 + outside), READ
    yield (
        "letter in UTF-16",
        files.zip_of({"word/document.xml": "<w>x</w>".encode("utf-16")}),
        REFUSED,
    )
    deep = "<m:f><m:num>" * 5000
    yield "equation in equation", files.docx(f'<w:p><m:oMath xmlns:m="m">{deep}'), "200 levels"
    half = "<m:oMath xmlns:m='m'>" + "<m:sSup><m:e>" * 80 + "</m:e></m:sSup>" * 80 + "</m:oMath>"
    yield "powers of powers", files.docx(words * 4 + f"<w:p>{half}</w:p>"), READ
    wide = '<w:tc><w:tcPr><w:gridSpan w:val="99"/></w:tcPr></w:tc>' * 20_000
    yield "cells that span", files.docx(words * 4 + f"<w:tbl><w:tr>{wide}</w:tr></w:tbl>"), EITHER
    note = (
        "<w:footnote w:id='1'><w:p><w:r><w:t>" + "x" * 1_000_000 + "</w:t></w:r></w:p></w:footnote>"
    )
    notes = f'<w:footnotes xmlns:w="w">{note * 20}</w:footnotes>'
    yield "footnotes of 20 MB", files.docx(words * 4, more={"word/footnotes.xml": notes}), "16 MB"
    again = "<w:p>" + '<w:r><w:footnoteReference w:id="1"/></w:r>' * 20 + "</w:p>"
    one = {"word/footnotes.xml": f'<w:footnotes xmlns:w="w">{note}</w:footnotes>'}
    yield "a footnote again and again", files.docx(words * 4 + again * 50, more=one), REFUSED
    options = "".join(files.paragraph(f"{letter}) {' ' * 400_000}x") for letter in "abc")
    yield "options of blanks", files.docx((files.paragraph("Which?") + options) * 4), EITHER
    yield "letter of noise", files.zip_of({"word/document.xml": b"\0\xff" * 300}), REFUSED
    yield "styles of noise", files.docx(words * 4, more={"word/styles.xml": b"<x"}), "damaged"
    circle = (
        '<w:styles xmlns:w="w"><w:style w:styleId="a"><w:basedOn w:val="a"/></w:style></w:styles>'
    )
    yield "styles in a circle", files.docx(words * 4, more={"word/styles.xml": circle}), READ


def _stream(dictionary: str, content: bytes) -> bytes:
    head = f"<< {dictionary} /Length {len(content)} >>\nstream\n".encode()
    return head + content + b"\nendstream"


def _objects(*bodies: bytes) -> bytes:
    """A PDF of these objects; readers find them without a table of contents."""
    parts = [b"%d 0 obj\n%b\nendobj\n" % (n, body) for n, body in enumerate(bodies, start=1)]
    return b"%PDF-1.7\n" + b"".join(parts) + b"trailer << /Root 1 0 R >>\n%%EOF\n"


def _pdf() -> Iterator[Case]:
    page = [("Where?", 14), ("There, on the left side of the hall.", 10)]
    good = files.pdf([page] * 4)
    yield "PDF", good, READ
    yield "PDF cut off", good[:60], "damaged or incomplete"
    yield "PDF of noise", b"%PDF-1.7\n" + bytes(range(256)) * 40, "damaged or incomplete"
    yield "scan", files.pdf([[]] * 3), "only pictures of pages"
    locked = (
        "/Encrypt << /Filter /Standard /V 1 /R 2 /O <"
        + "00" * 32
        + "> /U <"
        + "00" * 32
        + "> /P -4 >> "
        "/ID [<00> <00>]"
    )
    yield "PDF with a password", files.pdf([page], locked), "protected by a password"
    script = good.replace(
        b"/Type /Catalog", b"/Type /Catalog /OpenAction << /S /JavaScript /JS (x) >>"
    )
    yield "PDF that runs a script", script, READ
    catalog = b"<< /Type /Catalog /Pages 2 0 R >>"
    circle = b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2000000000 >>"
    yield "pages in a circle", _objects(catalog, circle), REFUSED
    yield (
        "two billion pages",
        _objects(catalog, b"<< /Type /Pages /Kids [] /Count 2000000000 >>"),
        REFUSED,
    )
    yield "PDF of brackets", _objects(b"[" * 100_000, b"<<" * 100_000), REFUSED
    one = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>"
    kids = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    bomb = zlib.compress(zlib.compress(b"q " * 100_000_000, 9), 9)
    packed = _stream("/Filter [/FlateDecode /FlateDecode]", bomb)
    yield "stream that grows", _objects(catalog, kids, one, packed), REFUSED
    yield "contents that are themselves", _objects(catalog, kids, one, b"[4 0 R 4 0 R]"), REFUSED
    yield "reference to nothing", _objects(b"<< /Type /Catalog /Pages 99 0 R >>"), REFUSED
    late = b"x" * 900 + good
    yield "words before a PDF", late, READ
