"""Exports that are broken or meant to do harm: quizzes, cards, chats, transcripts and mail."""

import json
import zlib
from collections.abc import Iterator

import pyarrow

from tests import exports, files

READ, REFUSED, EITHER = "(read)", "(refused)", "(read or refused)"
Case = tuple[str, bytes, str]


def corpus() -> Iterator[Case]:
    """Yield each file with what becomes of it."""
    for group in (_quizzes, _quiz_xml, _cards, _chats, _transcripts, _mail, _json, _names):
        yield from group()


def _quizzes() -> Iterator[Case]:
    yield "gift", exports.GIFT.encode(), READ
    gift = b"Who? {=I ~you}\n\n"
    yield (
        "gift without an end",
        gift * 2 + b"Who? {" + b"=a ~b\n" * 100_000,
        "its braces never close",
    )
    yield "gift of braces", gift * 2 + b"{" * 200_000, READ
    yield "gift of signs", gift * 2 + b"Who? {" + b"=" * 200_000 + b"}\n", READ
    yield "gift of tildes and weights", gift * 2 + b"Who? {" + b"~%1%" * 60_000 + b"}\n", READ
    yield "gift of backslashes", gift * 2 + b"Who? {=" + b"\\" * 200_001 + b"}\n", READ
    yield "gift of titles", gift * 2 + b"::" * 100_000 + b"\n\n", READ
    yield "gift of categories", gift * 2 + b"$CATEGORY: x\n" * 20_000, READ
    yield "gift of tags", gift * 2 + b"Who? {=" + b"<sup>" * 40_000 + b"}\n", READ
    yield "gift of open tags", gift * 2 + b"Who? {=<p>" + b"<a " * 60_000 + b"}\n", READ
    yield "gift of comments of HTML", gift * 2 + b"Who? {=<p>" + b"<!--" * 50_000 + b"}\n", READ
    yield "gift in half a line", b"Who? {=I", EITHER
    yield "gift of many questions", gift * 20_000, READ
    aiken = b"Who?\nA. I\nB. You\nANSWER: A\n\n"
    yield "aiken", exports.AIKEN.encode(), READ
    yield "aiken of many questions", aiken * 20_000, READ
    yield "aiken without answers", aiken + b"A. x\n" * 200_000, READ
    yield "aiken of one endless question", aiken + b"words\n" * 5000, "longer than any quiz"
    yield "aiken of answers", aiken + b"ANSWER: A, " + b"B, " * 100_000 + b"\n", READ


def _quiz_xml() -> Iterator[Case]:
    yield "moodle", exports.MOODLE.encode(), READ
    yield "qti 1", exports.QTI1.encode(), READ
    yield "qti 2", exports.qti2().encode(), READ
    head = b'<?xml version="1.0"?>\n'
    laughs = b"".join(
        b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10 if n else b"ha") for n in range(10)
    )
    entity = head + b"<!DOCTYPE quiz [" + laughs + b"]><quiz><question>&l9;</question></quiz>"
    yield "moodle that laughs", entity, "document type of its own"
    yield (
        "moodle with a file as an entity",
        head + b'<!DOCTYPE quiz [<!ENTITY x SYSTEM "file:///etc/passwd">]><quiz>&x;</quiz>',
        "document type of its own",
    )
    far = b'<!DOCTYPE quiz SYSTEM "http://127.0.0.1:9/a.dtd">'
    yield (
        "qti with a document type from elsewhere",
        head + far + b"<quiz>&nbsp;</quiz>",
        "no questions",
    )
    yield "moodle cut off", exports.MOODLE.encode()[:700], "is damaged"
    yield "moodle of nothing", head + b"<quiz></quiz>", "no questions"
    yield "moodle without an end", head + b"<quiz><question>" + b"<a>" * 100_000, "nested more than"
    many = b"<answer/>" * 30_000
    yield (
        "moodle of answers",
        head + b"<quiz><question>" + many + b"</question></quiz>",
        "is longer",
    )
    long = b"<text>" + b"x" * 5_000_000 + b"</text>"
    yield (
        "moodle of one text",
        head + b"<quiz><question>" + long + b"</question></quiz>",
        "is longer",
    )
    file = b"<file>" + b"QUFB" * 3_000_000 + b"</file>"
    yield (
        "moodle with a large picture",
        head
        + b'<quiz><question type="shortanswer"><questiontext><text>Who?</text>'
        + file
        + b'</questiontext><answer fraction="100"><text>I</text></answer></question></quiz>',
        READ,
    )
    yield "moodle of fractions", exports.MOODLE.replace('"100"', '"1e999"').encode(), READ
    yield "moodle of numbers that are none", exports.MOODLE.replace('"100"', '"nan"').encode(), READ
    yield "qti of comments", head + b"<!--" * 1000 + b"-->" + b"<quiz/>", EITHER
    yield "another xml", head + b"<feed><entry/></feed>", "a news feed (Atom)"
    items = {f"{n}.xml": exports.qti2() for n in range(300)}
    yield (
        "package of 300 questions",
        files.zip_of({"imsmanifest.xml": "<manifest/>", **items}),
        READ,
    )


def _cards() -> Iterator[Case]:
    anki = b"#separator:tab\n#html:true\n"
    yield "anki", anki + b"Who?\t<b>I</b>\n", READ
    yield "anki of clozes", anki + b"{{c1::a}} " * 20_000 + b"\tx\n", READ
    yield "anki of open clozes", anki + b"{{c1::" * 30_000 + b"\tx\n", READ
    yield "anki of numbers", anki + b"".join(b"{{c%d::a}}" % n for n in range(900)) + b"\tx\n", READ
    yield "anki of sounds", anki + b"[sound:" * 60_000 + b"\tx\n", READ
    yield "anki of cells", anki + b"a\t" * 900 + b"\n" + b"b\tc\n" * 3, READ
    yield "anki of headers", b"#html:true\n" * 5000 + b"a\tb\n", READ
    yield (
        "anki with a strange separator",
        b"#separator:\xe2\x82\xac\n#html:true\na\xe2\x82\xacb\n",
        READ,
    )
    yield "apkg", exports.apkg([("Who?", "I")]), READ
    new = "collection.anki21b"
    yield "apkg of today", exports.apkg([("Who?", "I")], name=new), READ
    yield "apkg that is no database", files.zip_of({"collection.anki2": b"x" * 5000}), "is damaged"
    yield "apkg without a byte", files.zip_of({"collection.anki2": b""}), "is damaged"
    yield "apkg without notes", exports.apkg([], script="CREATE TABLE x (y)"), "is damaged"
    endless = (
        "CREATE VIEW notes AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) "
        "SELECT id, 1 AS mid, '' AS tags, 'x' AS flds FROM n"
    )
    yield "apkg with notes without end", exports.apkg([], script=endless), "is damaged"
    computed = (
        "CREATE TABLE notes (id, mid, tags, flds AS (printf('%20000000d', id)));"
        "INSERT INTO notes (id) VALUES (1)"
    )
    yield "apkg that computes its texts", exports.apkg([], script=computed), EITHER
    yield "apkg of one long text", exports.apkg([("x" * 2_000_000, "y")]), "more than 1 MB"
    yield "apkg of fields", exports.apkg([["x"] * 500]), "more than 100 fields"
    broken = bytearray(exports.apkg([("Who?", "I")] * 500))
    broken[200:260] = bytes(60)
    yield "apkg with flipped bytes", bytes(broken), REFUSED
    yield "apkg bomb", files.zip_of({new: _zeros_as_zstd(300)}), "more than 268 MB"
    yield "apkg of noise as zstd", files.zip_of({new: zlib.compress(b"x" * 999)}), "is damaged"


def _zeros_as_zstd(megabytes: int) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        for _ in range(megabytes):
            stream.write(bytes(1_000_000))
    return bytes(sink.getvalue().to_pybytes())


def _chats() -> Iterator[Case]:
    line = b"[27.3.26, 08:00:00] Ana: Hello\n"
    yield "whatsapp", exports.WHATSAPP.encode(), READ
    yield "whatsapp of many", line * 30_000, READ
    yield "whatsapp of one message", line * 2 + b"and on\n" * 300_000, "more than 1 MB"
    yield "whatsapp of dates that are none", line * 2 + b"[99.99.26, 77:88:99] Ana: x\n", READ
    yield "whatsapp of the year 0", line * 2 + b"[1.1.0000, 08:00] Ana: x\n" * 9, READ
    yield "whatsapp of colons", line * 2 + b"[27.3.26, 08:00] " + b":" * 90_000 + b"\n", READ
    yield "whatsapp of media", line * 2 + b"[27.3.26, 08:00] A: " + b"<a" * 90_000 + b"\n", READ
    yield "whatsapp of words", line * 2 + b"[27.3.26, 08:00] A: " + b"a " * 90_000 + b"\n", READ
    blanks = line * 2 + b"[27.3.26, 08:00] A: x" + b" " * 900_000 + b"x\n"
    yield "whatsapp of blanks", blanks, READ
    yield "slack", exports.slack(), READ
    day = {"users.json": "[]", "ward/2026-09-21.json": "[" * 100_000}
    yield "slack that is no json", files.zip_of(day), "not valid JSON"
    odd = [{"type": "message", "ts": "nan", "text": {"a": 1}, "thread_ts": ["x"], "user": 7}]
    day["ward/2026-09-21.json"] = json.dumps(odd * 9)
    yield "slack of odd values", files.zip_of(day), READ
    day["ward/2026-09-21.json"] = json.dumps(
        [{"type": "message", "ts": "1", "text": "<@" * 90_000}]
    )
    yield "slack of links", files.zip_of(day), READ
    head = b"ThreadId,Sender,SentTime,Content\n"
    yield "teams of tags", head + b"t,A,2026-01-01," + b"<p>" * 200_000 + b"\n", READ
    yield (
        "teams of threads",
        head + b"".join(b"%d,A,2026-01-01,x\n" % n for n in range(90_000)),
        READ,
    )
    yield "teams of times", head + b"t,A,1e999,x\nt,A,nan,x\nt,A,-1,x\n", READ


def _transcripts() -> Iterator[Case]:
    cue = b"00:00:00.000 --> 00:00:01.000\n"
    yield "vtt", exports.VTT.encode(), READ
    yield "srt", exports.SRT.encode(), READ
    yield "vtt of nothing", b"WEBVTT\n\nNOTE x\n", "has no text"
    yield "vtt of voices", b"WEBVTT\n\n" + cue + b"<v A>x" * 100_000 + b"\n", READ
    yield "vtt of open voices", b"WEBVTT\n\n" + cue + b"<v A>x<v " * 50_000 + b"\n", READ
    yield "vtt of blanks", b"WEBVTT\n\n" + cue + b"<v" + b" " * 900_000 + b"x\n", EITHER
    yield "vtt of tags", b"WEBVTT\n\n" + cue + b"<c" * 200_000 + b"\n", READ
    yield "vtt of one cue", b"WEBVTT\n\n" + cue + b"words\n" * 300_000, "more than 1 MB"
    yield "vtt of times", b"WEBVTT\n\n" + cue * 100_000 + b"x\n", READ
    yield "vtt of one line", b"WEBVTT\n\n" + cue + b"x" * 2_000_000, "longer than 1 MB"
    yield "vtt that goes back", b"WEBVTT\n\n999:00:00.000 --> 00:00.000\nx\n\n" + cue + b"y\n", READ


def _mail() -> Iterator[Case]:
    yield "eml", exports.eml("At eight.\n\nOn Thu Ana wrote:\n> When?\n"), READ
    yield "mbox", exports.mbox(exports.eml("a"), exports.eml("b")), READ
    yield "eml of nothing", exports.eml(""), READ
    yield "mbox of many", exports.mbox(*[exports.eml("Hello")] * 3000), READ
    yield (
        "eml of 40 MB",
        exports.eml("x" * 79 + "\n") + b"x" * 79 * 1000 + (b"x" * 79 + b"\n") * 450_000,
        "more than 34 MB",
    )
    yield "eml of 2 MB of text", exports.eml("words\n" * 350_000), "more than 1 MB of text"
    deep = "".join(
        f"--b{n}\nContent-Type: multipart/mixed; boundary=b{n + 1}\n\n" for n in range(2000)
    )
    yield (
        "eml of parts in parts",
        exports.eml(deep, Content_Type="multipart/mixed; boundary=b0"),
        EITHER,
    )
    parts = "--b\nContent-Type: text/plain\n\nx\n" * 3000
    yield (
        "eml of 3,000 parts",
        exports.eml(parts, Content_Type="multipart/mixed; boundary=b"),
        "500 parts",
    )
    yield (
        "eml of an unknown charset",
        exports.eml("x", Content_Type="text/plain; charset=x-evil"),
        READ,
    )
    yield "eml of base64 that is none", exports.eml("%%%", Content_Transfer_Encoding="base64"), READ
    yield "eml of a broken word", exports.eml("x", Subject="=?utf-8?b?====?= =?x?q?=ZZ?="), READ
    yield "eml of a long subject", exports.eml("x", Subject="=?utf-8?q?a?= " * 20_000), READ
    yield "eml of addresses", exports.eml("x", To="(" * 50_000 + ", ".join(["a@b"] * 5000)), READ
    yield "eml of a date", exports.eml("x", Date="Fri, 99 Foo 99999 99:99:99 +9999"), READ
    yield "eml that answers itself", exports.eml("x", References="<2@example.org> " * 3000), READ
    yield "eml of quotes", exports.eml("> " * 100_000 + "\n" + ">" * 100_000), READ
    yield "eml of those who wrote", exports.eml("On wrote wrote:\n" * 40_000), READ
    yield "eml of heads", exports.eml("From: x\n" * 80_000), READ
    yield "eml of signatures", exports.eml("-- \n" * 100_000), READ
    html = exports.eml("<blockquote>" * 60_000, Content_Type="text/html")
    yield "eml of blockquotes", html, READ
    yield "eml with nul", exports.eml("a\0b"), READ
    yield (
        "eml as a name of a header",
        b"From: a\nTo: b\nSubject: c\n" + b"X" * 500_000 + b": y\n\nz",
        READ,
    )


def _json() -> Iterator[Case]:
    def one(value: object) -> bytes:
        return json.dumps(value).encode()

    ring = {"a": {"parentId": "b", "role": "user"}, "b": {"parentId": "a", "role": "user"}}
    chat = {"chat": {"history": {"messages": ring, "currentId": "a"}}}
    yield "open webui in a ring", one([chat]), READ
    yield "open webui of odd values", one([{"chat": {"messages": [1, None, "x"]}}] * 3), READ
    yield "gemini of odd values", one({"chunkedPrompt": {"chunks": [1, {"role": 7}, {}]}}), READ
    yield "gemini of no chunks", one({"chunkedPrompt": {"chunks": "x"}}), READ
    contents = [{"contents": [{"parts": 7}], "systemInstruction": {"parts": 7}}]
    yield "gemini of odd parts", one(contents * 3), READ
    activity = [{"products": [], "title": 7, "header": 7, "safeHtmlItem": 7}]
    yield "activity of odd values", one(activity * 3), EITHER
    squad = {"data": [{"paragraphs": [1, {"qas": [2, {"answers": 3}, {"answers": [4]}]}]}]}
    yield "squad of odd values", one(squad), EITHER
    yield "answers of odd values", one([{"answers": {"text": [[1]]}}] * 3), READ
    graph = {"value": [{"body": {}, "createdDateTime": 7, "from": 7, "replies": [7]}] * 3}
    yield "teams of odd values", one(graph), EITHER
    skype = {"conversations": [{"MessageList": [7, {"originalarrivaltime": 7, "content": 7}]}]}
    yield "skype of odd values", one(skype), READ
    telegram = {"messages": [{"id": 1, "type": "message", "date": 7, "text": [7, None]}, 7]}
    yield "telegram of odd values", one(telegram), READ
    yield "splits of odd values", one({"train": 7, "test": [1], "dev": {"a": 1}}), READ
    yield "columns of odd values", one({"columns": ["a"], "data": [[1], 2]}), READ
    yield "fhir", one({"resourceType": "QuestionnaireResponse"}), "FHIR"


def _names() -> Iterator[Case]:
    yield "webp", b"RIFF\x10\0\0\0WEBPVP8 ", "a picture (WebP)"
    yield "heic", b"\0\0\0\x18ftypheic" + bytes(20), "a picture (HEIC)"
    yield "hl7", b"MSH|^~\\&|LAB|\r" * 9, "HL7 messages"
    yield "msg", files.compound({"__substg1.0_1000001F": b"x" * 5000}), "a mail of Outlook"
    yield "dicom", bytes(128) + b"DICM" + bytes(99), "DICOM"
    yield "comments without end", b"<!-- -->" * 100_000, EITHER
    yield "beginnings of xml", b"<?xml ?>" * 100_000, EITHER
    yield "document types", b"<!DOCTYPE " * 100_000, EITHER
