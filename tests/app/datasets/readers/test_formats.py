"""Workbooks, Parquet and archives: rows as they stand there, several parts as one table."""

import datetime
import decimal
import io
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.datasets.mapping import ColumnRole
from app.datasets.proposals import propose
from app.datasets.readers import archives, parquet
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect, open_rows
from app.datasets.readers.unreadable import Unreadable
from tests import files

PAIRS = [["Frage", "Antwort"], ["Wo?", "Im Keller."], ["Wann?", "Um 8."]]
MORE = [["Frage", "Antwort"], ["Wer?", "Die Pforte."]]
ROWS = [{"Frage": "Wo?", "Antwort": "Im Keller."}, {"Frage": "Wann?", "Antwort": "Um 8."}]


def read(folder: Path, content: bytes, **read_as: Any) -> Inspection:
    path = folder / "picture.png"  # a name that lies
    path.write_bytes(content)
    return inspect(path, ReadAs.model_validate(read_as), lambda rows: None)


def again(folder: Path, found: Inspection, **chosen: Any) -> list[dict[str, Any]]:
    """Read the rows as they are read for building, after what was found."""
    with open_rows(folder / "picture.png", found.read_as(ReadAs(**chosen))) as source:
        return [row for _, row in source.rows if isinstance(row, dict)]


def values(found: Inspection) -> list[dict[str, Any]]:
    return [row.values for row in found.preview]


@pytest.mark.parametrize("make", [files.workbook, files.xls, files.ods])
def test_any_workbook(tmp_path: Path, make: Any) -> None:
    found = read(tmp_path, make({"Station": PAIRS}))
    assert found.format == {"workbook": "xlsx"}.get(make.__name__, make.__name__)
    assert (found.sheet, found.sheets, found.warnings) == ("Station", ["Station"], [])
    assert values(found) == ROWS == again(tmp_path, found)


@pytest.mark.parametrize("make", [files.workbook, files.xls, files.ods])
def test_sheets_of_the_same_columns_are_one_table_unless_one_is_chosen(
    tmp_path: Path, make: Any
) -> None:
    content = make({"Ost": PAIRS, "West": MORE})
    found = read(tmp_path, content)
    assert (found.sheet, found.sheets_agree, found.num_rows) == ("*", True, 3)
    assert [(part.name, part.num_rows) for part in found.parts] == [("Ost", 2), ("West", 1)]
    assert values(found)[2] == {"sheet": "West", "Frage": "Wer?", "Antwort": "Die Pforte."}
    assert [row.number for row in found.preview] == [1, 2, 3]
    assert values(found) == again(tmp_path, found)
    proposal = propose(found)
    assert proposal.is_sure
    assert proposal.mapping.named(ColumnRole.IGNORE) == ["sheet"]
    only = read(tmp_path, content, sheet="West")
    assert (only.sheet, only.sheets_agree, only.columns) == ("West", True, ["Frage", "Antwort"])


def test_sheets_of_other_columns_are_a_persons_choice(tmp_path: Path) -> None:
    content = files.workbook({"Ost": PAIRS, "Notizen": [["x"], ["y"]]})
    found = read(tmp_path, content)
    assert (found.sheet, found.sheets_agree, found.num_rows) == ("Ost", False, 2)
    assert "2 sheets; “Ost” was read" in found.warnings[0]
    with pytest.raises(Unreadable, match=r"^In “Notizen”: Its columns \(“x”\) differ from"):
        read(tmp_path, content, sheet="*")


def test_formulas_give_their_values_and_those_without_one_are_told(tmp_path: Path) -> None:
    content = files.workbook({"A": [["q", "a"], ["1 + 1?", "=1+1"], ["2 + 2?", "=2+2"]]})
    found = read(tmp_path, content)
    assert found.warnings[0].startswith("2 cells have formulas without values")
    # As Excel writes it, with the value that it worked out.
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            body = old.read(name)
            body = body.replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>")
            new.writestr(name, body)
    found = read(tmp_path, stream.getvalue())
    assert found.warnings == []
    assert [row["a"] for row in values(found)] == ["2", "2"]


def test_parquet_with_texts_lists_and_what_is_no_text(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    content = files.parquet(
        {
            "messages": [talk, talk, None],
            "when": [datetime.date(2024, 5, 1)] * 3,
            "n": [decimal.Decimal("1.50")] * 3,
            "raw": [b"\xff\xd8", "ü".encode(), None],
        },
        row_group_size=2,
    )
    found = read(tmp_path, content)
    assert (found.format, found.num_rows) == ("parquet", 3)
    assert values(found)[0] == {
        "messages": talk,
        "when": "2024-05-01",
        "n": "1.50",
        "raw": {"bytes": 2},
    }
    assert values(found)[1]["raw"] == "ü"
    assert propose(found).mapping.column_roles["messages"] is ColumnRole.MESSAGES
    with pytest.raises(Unreadable, match="This Parquet file is damaged or incomplete"):
        read(tmp_path, content[:-40])


def test_floats_of_a_parquet_file_have_the_digits_of_their_own_type(tmp_path: Path) -> None:
    half = pa.array([0.1, None, -2.5], pa.float32()).cast(pa.float16())
    inner = pa.struct([("dose", pa.float32()), ("list", pa.list_(pa.float32()))])
    content = files.parquet(
        {
            "single": pa.array([0.1, None, 1 / 3], pa.float32()),
            "half": half,
            "double": pa.array([0.1 + 0.2, None, 7.0]),
            "inner": pa.array([{"dose": 0.1, "list": [0.2, None]}, None, {"dose": 5.0}], inner),
            "fixed": pa.array([[0.1], [0.2], None], pa.list_(pa.float32(), 1)),
        }
    )
    assert [row.values for row in read(tmp_path, content).preview] == [
        {
            "single": 0.1, "half": 0.1, "double": 0.1 + 0.2, "fixed": [0.1],
            "inner": {"dose": 0.1, "list": [0.2, None]},
        },
        {"single": None, "half": None, "double": None, "inner": None, "fixed": [0.2]},
        {"single": 0.33333334, "half": -2.5, "double": 7.0, "inner": {"dose": 5.0}, "fixed": None},
    ]  # fmt: skip


def test_the_first_answer_of_a_parquet_file_of_squad(tmp_path: Path) -> None:
    content = files.parquet(
        {
            "question": ["How much?", "Why?", "Who?", "When?"],
            "answers": [
                {"text": ["100 mg", "0.1 g"], "answer_start": [0, 9]},
                {"text": [], "answer_start": []},
                None,
                {"text": None, "answer_start": [1]},
            ],
        }
    )
    found = read(tmp_path, content)
    assert found.columns == ["question", "answer"]
    assert [row["answer"] for row in values(found)] == ["100 mg", "", "", ""]


def test_a_parquet_file_that_is_a_trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One text of 500 kB, written once and repeated 6,000 times: 3 GB from next to nothing.
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 6000), pa.array(["x" * 500_000]))
    content = files.parquet({"q": texts}, compression="zstd")
    assert len(content) < 100_000
    with pytest.raises(Unreadable, match="unpacks to more than 1 GB, which looks like a trap"):
        read(tmp_path, content)
    with pytest.raises(Unreadable, match="Row 1 has a text of more than 1 MB"):
        read(tmp_path, files.parquet({"q": ["x" * 1_100_000]}))
    monkeypatch.setattr(parquet, "MAX_COLUMNS", 1)
    with pytest.raises(Unreadable, match="has 2 columns and at most 1 can be read"):
        read(tmp_path, files.parquet({"q": ["x"], "a": ["y"]}))


def test_an_archive_of_tables_of_any_kind_is_one_table(tmp_path: Path) -> None:
    content = files.zip_of(
        {
            "b/ost.csv": "Frage;Antwort\nWo ist die Küche?;Unten\n".encode("cp1252"),
            "a/west.jsonl": files.jsonl([{"Antwort": "Ja", "Frage": "Ob?"}]),
            "c.xlsx": files.workbook({"A": PAIRS}),
            "d.parquet": files.parquet({"Frage": ["P?"], "Antwort": ["Ja"]}),
            "__MACOSX/._c.xlsx": b"clutter",
            ".DS_Store": b"clutter",
            "b/": b"",
        }
    )
    found = read(tmp_path, content)
    assert (found.format, found.place, found.num_rows) == ("zip", "row", 5)
    assert [(part.name, part.num_rows) for part in found.parts] == [
        ("a/west.jsonl", 1),
        ("b/ost.csv", 1),
        ("c.xlsx", 2),
        ("d.parquet", 1),
    ]
    assert values(found)[1] == {
        "file": "b/ost.csv",
        "Frage": "Wo ist die Küche?",
        "Antwort": "Unten",
    }
    assert found.encoding_is_guess
    assert found.warnings[0].startswith("In this ZIP “.DS_Store”")
    assert found.warnings[1].startswith("“b/ost.csv”: The file does not say its encoding")
    assert values(found) == again(tmp_path, found)
    assert propose(found).is_sure


def test_an_archive_of_one_file_is_that_file(tmp_path: Path) -> None:
    found = read(tmp_path, files.zip_of({"a.csv": "q,a\nWo?,Da\n"}))
    assert (found.columns, found.num_rows) == (["q", "a"], 1)


def entry(name: str, link: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        if link:
            info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "q,a\nWo?,Da\n")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            files.zip_of({"a.csv": "q,a\nx,y\n", "b.csv": "name,age\nx,4\n"}),
            "In “b.csv”: Its columns (“name”, “age”) differ from those of “a.csv” (“q”, “a”)",
        ),
        (
            files.zip_of({"a.csv": "q,a\nx,y\n", "b.exe": b"MZ\x90\0"}),
            "In “b.exe”: This is a Windows program",
        ),
        (files.zip_of({"a.csv": 'q,a\nx,"y\n'}), "In “a.csv”: Line 2 opens a quote"),
        (files.zip_of({"a.zip": files.zip_of({"a.csv": "q,a\n"})}), "an archive inside an archive"),
        (files.zip_of({"__MACOSX/x": "x"}), "has no files in it"),
        (entry("../../etc/passwd"), "“../../etc/passwd”, which points out of its folder"),
        (entry("a/../../b.csv"), "points out of its folder"),
        (entry("/etc/passwd"), "points out of its folder"),
        (entry("C:\\Users\\x.csv"), "points out of its folder"),
        (entry("link.csv", link=True), "is a link, not a file"),
        (files.zip_of({"a.csv": b"q,a\n" + b"x,y\n" * 20_000_000}), "MB in 1 part from"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(tmp_path, content)
    message = str(caught.value)
    assert expected in message
    assert message.endswith(".")
    assert ". " not in message


def test_archives_of_too_many_or_too_large_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = files.zip_of({f"{n}.csv": "q,a\nx,y\n" for n in range(4)})
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    with pytest.raises(Unreadable, match="in 4 parts"):
        read(tmp_path, many)
    monkeypatch.setattr("app.datasets.readers.files.MAX_HELD_BYTES", 100)
    with pytest.raises(Unreadable, match=r"^In “a\.xlsx”: This file would unpack to 0 MB"):
        read(tmp_path, files.zip_of({"a.xlsx": files.workbook({"A": PAIRS})}))


def test_quotes_that_are_a_part_of_the_texts_of_a_tsv(tmp_path: Path) -> None:
    rows = [(f'What is "{n}"?', f'"It" is {n}') for n in range(20)]
    content = "question\tanswer\n" + "".join(f"{q}\t{a}\n" for q, a in rows)
    found = read(tmp_path, content.encode())
    assert [tuple(row.values.values()) for row in found.preview] == rows
    assert found.warnings == ["Quotes in this file are a part of its texts and were kept."]
    # One cell that needs its quotes speaks for all of them.
    for cell in ('"two\nlines"', '"with ""quotes"""', r'"with \"quotes\""'):
        with pytest.raises(Unreadable, match=r'Line 2 has a quote \("\) inside a text'):
            read(tmp_path, f"{content}Which?\t{cell}\n".encode())
