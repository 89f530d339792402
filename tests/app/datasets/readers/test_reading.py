"""Files as people really send them: what is read, and how each bad one is refused."""

import csv
import datetime
import io
import json
import zipfile
from pathlib import Path

import openpyxl
import pytest

from app.datasets.mapping import ColumnRole
from app.datasets.proposals import propose
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect
from app.datasets.readers.unreadable import Unreadable

Sheet = list[tuple[str | float | datetime.date | None, ...]]
ROWS = [("Wo ist die Küche?", "Im Keller, links."), ("Wann?", "Um 8; täglich.")]


def read(folder: Path, content: bytes | str, **read_as: object) -> Inspection:
    # A name that lies: only the content may count.
    path = folder / "picture.png"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return inspect(path, ReadAs.model_validate(read_as), lambda rows: None)


def workbook(rows: Sheet, **sheets: Sheet) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    for name, content in sheets.items():
        extra = book.create_sheet(name)
        for row in content:
            extra.append(row)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def table(delimiter: str, encoding: str = "utf-8") -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerow(["Frage", "Antwort"])
    writer.writerows(ROWS)
    return stream.getvalue().encode(encoding)


def values(found: Inspection) -> list[tuple[object, ...]]:
    return [tuple(row.values.values()) for row in found.preview]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_tables_with_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    found = read(tmp_path, table(delimiter))
    assert (found.format, found.delimiter, found.encoding) == ("csv", delimiter, "utf-8")
    assert found.columns == ["Frage", "Antwort"]
    assert values(found) == ROWS
    assert [row.number for row in found.preview] == [2, 3]
    assert found.warnings == []


@pytest.mark.parametrize(
    ("encoding", "is_guess"),
    [("utf-8-sig", False), ("utf-16", False), ("utf-32", False), ("utf-16-le", True)],
)
def test_encodings_that_can_be_told(tmp_path: Path, encoding: str, is_guess: bool) -> None:
    found = read(tmp_path, table(",", encoding))
    assert (found.encoding, found.encoding_is_guess) == (encoding, is_guess)
    assert values(found) == ROWS


def test_an_old_encoding_is_a_guess_that_is_shown_and_can_be_changed(tmp_path: Path) -> None:
    found = read(tmp_path, table(",", "cp1252"))
    assert (found.encoding, found.encoding_is_guess) == ("cp1252", True)
    assert values(found) == ROWS
    assert "choose another if not" in found.warnings[0]
    chosen = read(tmp_path, table(",", "cp1252"), encoding="cp850")
    assert chosen.preview[0].values["Frage"] == "Wo ist die K³che?"
    assert not chosen.encoding_is_guess


def test_json_lines_keep_their_structure(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    lines = "\n\n".join(json.dumps({"messages": turns, "n": n}) for n in range(3))
    found = read(tmp_path, "\n" + lines)
    assert (found.format, found.num_rows, found.columns) == ("jsonl", 3, ["messages", "n"])
    assert found.preview[1].values == {"messages": turns, "n": 1}
    assert found.preview[1].number == 4


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"q": q, "a": a} for q, a in ROWS]),
        json.dumps([{"q": q, "a": a} for q, a in ROWS], indent=2, ensure_ascii=False),
        json.dumps({"version": 1, "data": [{"q": q, "a": a} for q, a in ROWS]}, indent=1),
    ],
)
def test_json_lists_bare_or_wrapped(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert (found.format, found.columns) == ("json", ["q", "a"])
    assert values(found) == ROWS


def test_json_longer_than_any_buffer(tmp_path: Path) -> None:
    rows = [{"q": f"Frage {n}", "a": "ä\n" * 40_000} for n in range(60)]
    found = read(tmp_path, json.dumps(rows, ensure_ascii=False))
    assert found.num_rows == 60
    assert found.preview[19].values["q"] == "Frage 19"


def test_workbooks(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        workbook(
            [
                ("q", "a", "when"),
                ("One?", 3, datetime.date(2024, 5, 1)),
                (None, None),
                ("Two?", 2.5),
            ],
            Notes=[("x",)],
        ),
    )
    assert (found.format, found.sheet, found.sheets) == ("xlsx", "Sheet", ["Sheet", "Notes"])
    assert values(found) == [("One?", "3", "2024-05-01"), ("Two?", "2.5", "")]
    assert [row.number for row in found.preview] == [2, 4]
    assert "2 sheets" in found.warnings[0]
    assert read(tmp_path, workbook([("q",)], Notes=[("x",), ("y",)]), sheet="Notes").columns == [
        "x"
    ]


def test_headers_that_are_missing_doubled_or_blank(tmp_path: Path) -> None:
    found = read(tmp_path, "answer,answer,,,\nA,B,C,,\nD,E,,,\n")
    assert found.columns == ["answer", "answer (2)", "Column 3"]  # 4 and 5 are blank throughout
    assert any("called “answer”" in warning for warning in found.warnings)
    found = read(tmp_path, "Where is room 4?,Upstairs.\nWhen is lunch?,At noon.\n")
    assert (found.columns, found.num_rows) == (["Column 1", "Column 2"], 2)
    assert "looks like an example" in found.warnings[0]
    found = read(tmp_path, "Where is room 4?,Upstairs.\nx,y\n", has_header=True)
    assert found.columns == ["Where is room 4?", "Upstairs."]


def test_a_blank_column_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, "question,answer\nWhere?,\nWhen?,  \n".replace("  ", ""))
    assert "The column “answer” is blank in every row." in found.warnings


def test_a_few_ragged_rows_are_told_and_many_refused(tmp_path: Path) -> None:
    good = "q,a\n" + "Where?,There\n" * 5
    found = read(tmp_path, good + "Which?,This, that\nShort\n")
    assert found.num_rows == 7
    assert "1 row has more cells than there are columns (line 7)" in found.warnings[0]
    assert found.preview[-1].values == {"q": "Short", "a": ""}
    with pytest.raises(Unreadable, match="From line 2 on, most rows have more cells"):
        read(tmp_path, "q,a\n" + "Where?,There, and here\n" * 5)


def test_one_row_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "q,a\nWhere?,There\n").num_rows == 1


def test_one_column_of_text_may_hold_commas(tmp_path: Path) -> None:
    found = read(tmp_path, "text\nOne, two, three\nFour\n")
    assert (found.columns, found.num_rows, found.delimiter) == (["text"], 2, None)


def zip_of(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), content)
    return stream.getvalue()


def bomb() -> bytes:
    return zip_of(xl__workbook_xml=b"x", xl__sheet_xml=b"\0" * 200_000_000)


def protected() -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le")


def syntax_error_at_40312() -> str:
    lines = [json.dumps({"q": "Where?", "a": "There"})] * 50_000
    lines[40_311] = '{"q": "Where?" "a": "There"}'
    return "\n".join(lines)


BAD: dict[str, tuple[bytes | str, str]] = {
    "empty": (b"", "is empty (0 bytes)"),
    "blank": (b" \n \n\t", "is blank"),
    "header only": (b"question,answer\n", "column names but no rows"),
    "empty list": (b"[]", "has an empty list"),
    "nul": (b"q,a\nx,y\nWh\0ere,There\n", "Line 3 has NUL bytes"),
    "torn utf-8": ("q,a\nä,ö\nx,y\n".encode() + b"\xff\xfe,z\n", "Line 4 has bytes that are not"),
    "open quote": (b'q,a\nx,y\n"Where,There\nx,y\n', "Line 3 opens a quote"),
    "huge cell": (b'q,a\n"' + b"x" * 1_100_000 + b'",y\n', "Line 2 opens a quote"),
    "stray quote": (b'q,a\nx,"He said "no" to me"\n', "Line 2 has a quote"),
    "many columns": (b",".join(b"c%d" % n for n in range(1500)), "at most 1,000 columns"),
    "json syntax at 40312": (syntax_error_at_40312(), "Line 40,312, character 16, is not valid"),
    "json list syntax": ('[{"q": 1},\n{"q": 2},\n{"q" 3}]', "Line 3, character 6, is not valid"),
    "json one long line": (
        "[" + '{"q": "word"}, ' * 200_000 + '{"q" 3}]',
        "Line 1, character 3,000,007, is not valid",
    ),
    "backslash quotes": (
        b'"q","a"\n"Where?","He said \\"no\\", as ever."\n',
        'Line 2 has a quote with a backslash before it (\\"), which only some programs read; write '
        "each such quote twice",
    ),
    "json cut off": ('[{"q": 1},\n{"q": "abc', "closing quote is missing"),
    "json no list end": ('[{"q": 1}\n', "Line 2 is not valid JSON"),
    "json more after": ('[{"q": 1}]\n{"q": 2}', "something stands behind the end"),
    "json object syntax": ('{"data": [\n{"q": 1},\n{"q": }]}', "Line 3, character 7, is not valid"),
    "json not objects": ('["a", "b"]', "Entry 1 (line 1) is a text and not an object"),
    "jsonl list line": ('{"q": 1}\n[1, 2]\n', "Line 2 is a list and not an object"),
    "json infinity": (
        '{"q": 1}\n{"q": Infinity}\n',
        "Line 2 is not valid JSON: Infinity is not a number",
    ),
    "deep json": (
        '{"q": 1}\n{"q": ' + "[" * 100 + "]" * 100 + "}",
        "Line 2 is nested more than 64",
    ),
    "very deep json": ("[" + '{"q": ' * 1 + "[" * 200_000, "nested more than 64"),
    "many keys": (
        "\n".join(json.dumps({f"k{n}": 1}) for n in range(1200)),
        "more than 1,000 different names",
    ),
    "key that is no text": (
        '{"a\\u0000b": 1}\n',
        "name that is longer than 200 characters or is no",
    ),
    "zip bomb": (bomb(), "zip bomb"),
    "password": (protected(), "protected by a password"),
    "old xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Office's old format"),
    "torn workbook": (workbook([("q", "a"), ("x", "y")])[:-300], "damaged or incomplete"),
    "hollow workbook": (zip_of(xl__workbook_xml=b"<x/>"), "This workbook is damaged"),
    "empty workbook": (workbook([]), "no cells with text or numbers"),
    "pdf": (b"%PDF-1.7\n", "This PDF is damaged"),
    "png": (b"\x89PNG\r\n\x1a\n", "a picture (PNG)"),
    "docx": (zip_of(word__document_xml=b"<x/>"), "has no text"),
    "sqlite": (b"SQLite format 3\0" + bytes(80), "an SQLite database"),
    "exe": (b"MZ\x90\0" + bytes(80), "a Windows program"),
    "html": (b"<!DOCTYPE html><table>", "has no text"),
    "pickle": (b"\x80\x04\x95" + bytes(20), "a Python pickle"),
    "parquet": (b"PAR1" + bytes(20), "This Parquet file is damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_end_in_one_sentence(tmp_path: Path, name: str) -> None:
    content, expected = BAD[name]
    with pytest.raises(Unreadable) as caught:
        read(tmp_path, content)
    message = str(caught.value)
    assert expected in message
    # One sentence: one full stop, at its end.
    assert message.endswith(".")
    assert ". " not in message
    assert len(message) < 260


def test_a_chosen_encoding_that_does_not_fit_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="Line 2 cannot be read as utf-8; choose another"):
        read(tmp_path, table(",", "cp1252"), encoding="utf-8")
    with pytest.raises(Unreadable, match="not an encoding that can be chosen"):
        read(tmp_path, table(","), encoding="rot13")


def test_previews_are_cut_and_fit_the_database(tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps({"q": "x" * 5000, "a": "\0 \ud800", "n": 1e300}) + "\n")
    row = found.preview[0].values
    assert len(row["q"]) == 2001
    assert row["a"] == "� ?"


LOOK = {"type": "function", "function": {"name": "look", "parameters": {}}}
NAMES = [
    (["messages"], {"messages": "messages"}, False),  # text cells are no conversations
    (["question", "answer"], {"question": "question", "answer": "answer"}, True),
    (["Frage", "Antwort", "Id"], {"Frage": "question", "Antwort": "answer", "Id": "ignore"}, True),
    (["Pregunta", "Respuesta"], {"Pregunta": "question", "Respuesta": "answer"}, True),
    (["Vraag", "Antwoord"], {"Vraag": "question", "Antwoord": "answer"}, True),
    (["问题", "回答"], {"问题": "question", "回答": "answer"}, True),
    (["prompt", "completion"], {"prompt": "question", "completion": "answer"}, True),
    (["input", "output"], {"input": "question", "output": "answer"}, True),
    (
        ["instruction", "input", "output", "system"],
        {"instruction": "question", "input": "question", "output": "answer", "system": "system"},
        True,
    ),
    (
        ["Subject", "Question", "Model answer"],
        {"Question": "question", "Model answer": "answer"},
        False,
    ),
    (["question", "answer", "reply"], {"question": "question", "answer": "answer"}, False),
    (["question", "answer", "answer (2)"], {"question": "question", "answer": "answer"}, False),
    (["text"], {"text": "text"}, True),
    (
        ["prompt", "chosen", "rejected"],
        {"prompt": "question", "chosen": "better", "rejected": "worse"},
        True,
    ),
    (["prompt", "chosen"], {"prompt": "question", "chosen": "answer"}, False),
]


@pytest.mark.parametrize(("columns", "roles", "is_sure"), NAMES, ids=lambda value: str(value)[:40])
def test_columns_are_proposed_by_name(
    columns: list[str], roles: dict[str, str], is_sure: bool
) -> None:
    found = Inspection.model_validate(
        {
            "format": "csv",
            "place": "line",
            "columns": columns,
            "num_rows": 1,
            "preview": [{"number": 2, "values": {name: f"some {name}" for name in columns}}],
        }
    )
    proposal = propose(found)
    assert {
        n: r for n, r in proposal.mapping.column_roles.items() if r != "ignore" or n in roles
    } == roles
    assert proposal.is_sure is is_sure


def test_unknown_names_are_judged_by_content_and_never_sure(tmp_path: Path) -> None:
    found = read(
        tmp_path, "foo;bar\nLong words of wisdom, all of them;Why now?\nAnd more so;Who?\n"
    )
    proposal = propose(found)
    assert proposal.mapping.column_roles == {"foo": ColumnRole.ANSWER, "bar": ColumnRole.QUESTION}
    assert not proposal.is_sure
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    sure = propose(read(tmp_path, json.dumps({"messages": turns, "tools": [LOOK]})))
    assert sure.mapping.column_roles == {"messages": ColumnRole.MESSAGES, "tools": ColumnRole.TOOLS}
    assert sure.is_sure
    good, bad = ([{"role": "assistant", "content": text}] for text in ("Good", "Bad"))
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    openai = {"input": asked, "preferred_output": good, "non_preferred_output": bad}
    sure = propose(read(tmp_path, json.dumps(openai)))
    assert list(sure.mapping.column_roles.values()) == ["question", "better", "worse"]
    assert sure.is_sure
    proposal = propose(read(tmp_path, json.dumps({"thread": turns})))
    assert proposal.mapping.column_roles == {"thread": ColumnRole.MESSAGES}
