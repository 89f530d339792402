"""Numbers of a workbook are written as in the language of its texts."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from app.datasets.proposals import propose
from app.datasets.readers import separators
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect
from tests import document_files, files

GERMAN = [
    "Wie viel Milliliter sind das für die Patientin?",
    "Was ist der Wert, und wann wird er geprüft?",
]
FRENCH = [
    "Quelle est la dose pour une patiente de 60 kg ?",
    "Combien de comprimés sont dans la boîte ?",
]
SPANISH = [
    "¿Cuál es la dosis para un paciente con fiebre?",
    "¿Cuántas hay en una caja del hospital?",
]
ENGLISH = ["What is the dose for a patient?", "How many are in the box, and when do you count?"]
NOTHING = ["Heparin", "Leukozyten"]
VALUES = [(12500, "#,##0"), (2.5, 'General" ml"')]


def book(questions: list[str], more: str = "0.00") -> bytes:
    made = openpyxl.Workbook()
    sheet = made.active
    assert sheet is not None
    sheet.append(["question", "answer"])
    for row, (question, (value, code)) in enumerate(zip(questions, VALUES, strict=True), start=2):
        sheet.cell(row, 1, question)
        sheet.cell(row, 2, value).number_format = code
    sheet.cell(4, 1, questions[0] + " 2")
    sheet.cell(4, 2, 5).number_format = more
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


def read(folder: Path, content: bytes, **read_as: Any) -> Inspection:
    (folder / "file").write_bytes(content)
    return inspect(folder / "file", ReadAs.model_validate(read_as), lambda rows: None)


def answers(found: Inspection) -> list[str]:
    return [row.values["answer"] for row in found.preview]


@pytest.mark.parametrize(
    ("questions", "code", "expected"),
    [
        (GERMAN, "0.00", ["12.500", "2,5 ml", "5,00"]),
        (FRENCH, "0.00", ["12\u202f500", "2,5 ml", "5,00"]),
        (SPANISH, "0.00", ["12.500", "2,5 ml", "5,00"]),
        (ENGLISH, "0.00", ["12,500", "2.5 ml", "5.00"]),
        (GERMAN, "[$CHF-807] 0.00", ["12’500", "2.5 ml", "CHF 5.00"]),
        (SPANISH, "[$$-80A]0.00", ["12,500", "2.5 ml", "$5.00"]),
        # A price in francs makes no Swiss of an English text.
        (ENGLISH, "[$CHF-807] 0.00", ["12,500", "2.5 ml", "CHF 5.00"]),
        # What stands in a format between quotes is no separator.
        (GERMAN, '0.00" (z.B. 1,5)"', ["12.500", "2,5 ml", "5,00 (z.B. 1,5)"]),
    ],
)
def test_numbers_are_written_as_the_language_of_the_texts_has_them(
    tmp_path: Path, questions: list[str], code: str, expected: list[str]
) -> None:
    found = read(tmp_path, book(questions, code))
    assert answers(found) == expected
    is_english = expected[0] == "12,500"
    assert len(found.warnings) == (0 if is_english else 1)
    if not is_english:
        assert f"such as “{expected[0]}” (row 2)" in found.warnings[0]
    assert propose(found).is_sure


def test_where_no_text_tells_a_person_chooses(tmp_path: Path) -> None:
    found = read(tmp_path, book(NOTHING))
    assert answers(found) == ["12,500", "2.5 ml", "5.00"]
    assert "numbers such as “12,500” (row 2) depends on the" in found.warnings[0]
    assert not propose(found).is_sure
    for chosen, expected in (
        ("english", ["12,500", "2.5 ml", "5.00"]),
        ("german", ["12.500", "2,5 ml", "5,00"]),
    ):
        found = read(tmp_path, book(NOTHING), separators=chosen)
        assert answers(found) == expected
        assert found.warnings == []
        assert propose(found).is_sure
        assert found.reading["separators"] == chosen


def test_the_number_that_is_doubtful_is_named(tmp_path: Path) -> None:
    danish = "Hvad er dosis, og hvordan skal det gives til en patient?"
    rows: list[tuple[str, str | float]] = [("question", "answer"), (danish, 2.5), (danish, 12.5)]
    found = read(tmp_path, files.workbook({"A": rows}))
    # All that may be meant write it with a comma.
    assert answers(found) == ["2,5", "12,5"]
    assert propose(found).is_sure
    made = openpyxl.load_workbook(io.BytesIO(book([danish, danish])))
    made.worksheets[0].move_range("A2:B2", rows=6)  # 12.500 or 12 500
    made.save(stream := io.BytesIO())
    found = read(tmp_path, stream.getvalue())
    assert "numbers such as “12.500” (row 8) depends on the" in found.warnings[0]
    assert not propose(found).is_sure


def test_what_was_read_is_read_so_again(tmp_path: Path) -> None:
    found = read(tmp_path, book(GERMAN))
    again = found.read_as(ReadAs())
    assert again.separators == "german"
    # Versions that know nothing of it had English numbers.
    old = found.model_copy(update={"separators": None})
    assert old.read_as(ReadAs()).separators == "english"


def test_numbers_without_separators_depend_on_no_language(tmp_path: Path) -> None:
    rows: list[tuple[str, str | int]] = [("question", "answer"), ("Heparin", 5), ("Tabl.", 250)]
    found = read(tmp_path, files.workbook({"A": rows}))
    assert found.warnings == []
    assert propose(found).is_sure


@pytest.mark.parametrize(
    ("country", "expected"), [(49, "2,5"), (41, "2.5"), (33, "2,5"), (1, "2,5"), (None, "2,5")]
)
def test_an_old_workbook_names_its_country(
    tmp_path: Path, country: int | None, expected: str
) -> None:
    rows: list[tuple[str, str | float]] = [
        ("question", "answer"),
        (GERMAN[0], 2.5),
        (GERMAN[1], 12),
    ]
    extra = b"" if country is None else struct.pack("<HHHH", 0x8C, 4, country, country)
    found = read(tmp_path, files.xls({"A": rows}, extra))
    assert answers(found)[0] == expected


def test_workbooks_of_other_kinds(tmp_path: Path) -> None:
    rows = [("question", "answer"), (GERMAN[0], "2.5"), (GERMAN[1], "12.25")]
    excel = document_files.excel_rows(rows)
    for value in ("2.5", "12.25"):
        excel = excel.replace(f'"String">{value}', f'"Number">{value}')
    found = read(tmp_path, document_files.spreadsheetml({"A": excel}))
    assert answers(found) == ["2,5", "12,25"]
    # An open document has the shown text, but not always.
    content = zipfile.ZipFile(io.BytesIO(files.ods({"A": rows}))).read("content.xml").decode()
    for value in ("2.5", "12.25"):
        start = content.index(f">{value}<")
        cell = content.rindex("<table:table-cell", 0, start)
        end = content.index("</table:table-cell>", start)
        content = (
            content[:cell]
            + f'<table:table-cell office:value-type="float" office:value="{value}">'
            + content[end:]
        )
    mime = "application/vnd.oasis.opendocument.spreadsheet"
    packed = files.zip_of({"mimetype": mime, "content.xml": content})
    found = read(tmp_path, packed)
    assert answers(found) == ["2,5", "12,25"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Какую дозу дают при температуре?", ("french",)),
        ("Ποια είναι η δόση;", ("german",)),
        ("熱があるときはどうしますか", ("english",)),
        ("Hvad er dosis, og hvordan skal det gives til en patient?", ("german", "french")),
        ("Heparin i.v.", separators.ALL),
        ("", separators.ALL),
        ("ما هي الجرعة", separators.ALL),
    ],
)
def test_which_separators_a_text_speaks_for(text: str, expected: tuple[str, ...]) -> None:
    assert separators.guess(text) == expected
