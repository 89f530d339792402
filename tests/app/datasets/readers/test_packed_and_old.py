"""Files packed by gzip, and workbooks of Excel 2003 in XML."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from app.datasets.readers import process
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect
from app.datasets.readers.unreadable import Unreadable
from tests import document_files, files

CSV = b"question,answer\n" + b"Where?,There\n" * 3
ROWS = [("question", "answer"), ("Where?", "There")]


def read(folder: Path, content: bytes, **read_as: Any) -> Inspection:
    path = folder / "table.bin"
    path.write_bytes(content)
    return inspect(path, ReadAs.model_validate(read_as), lambda rows: None)


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (CSV, "csv"),
        (b'{"question": "Where?", "answer": "There"}\n' * 3, "jsonl"),
        (b'[{"question": "Where?", "answer": "There"}]', "json"),
        (files.workbook({"A": ROWS}), "xlsx"),
        (files.xls({"A": ROWS}), "xls"),
        (files.ods({"A": ROWS}), "ods"),
        (document_files.spreadsheetml({"A": document_files.excel_rows(ROWS)}), "spreadsheetml"),
        (files.parquet({"question": ["Where?"], "answer": ["There"]}), "parquet"),
        (files.docx(files.paragraph("Where?") + files.paragraph("There")), "docx"),
        (files.pdf([[("Where?", 14), ("There, on the left side.", 10)]] * 2), "pdf"),
        (b"{\\rtf1 Where?\\par There\\par}", "rtf"),
        (b"<html><body><p>Where?</p><p>There</p></body></html>", "html"),
        (b"# Where?\n\nThere\n", "markdown"),
    ],
)
def test_any_one_file_may_be_packed(tmp_path: Path, content: bytes, format_: str) -> None:
    bare, packed = read(tmp_path, content), read(tmp_path, gzip.compress(content))
    assert packed.format == format_
    assert packed == bare


def test_packed_files_that_are_broken_or_traps(tmp_path: Path) -> None:
    good = gzip.compress(CSV)
    with pytest.raises(Unreadable, match="its checksum is wrong"):
        read(tmp_path, good[:-8] + b"\1\2\3\4" + good[-4:])
    with pytest.raises(Unreadable, match="it breaks off"):
        read(tmp_path, good[:-9])
    with pytest.raises(Unreadable, match="gzip twice"):
        read(tmp_path, gzip.compress(good))
    with pytest.raises(Unreadable, match=r"unpacks to more than \d+ MB from .*zip bomb"):
        read(tmp_path, gzip.compress(b"a,b\n" * 15_000_000))
    with pytest.raises(Unreadable, match="ZIP archive packed by gzip"):
        read(tmp_path, gzip.compress(files.zip_of({"a.csv": CSV})))


def test_time_for_a_packed_file_goes_by_what_it_holds(tmp_path: Path) -> None:
    content = b"question,answer\n" + b"Where?,There\n" * 2_000_000
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(content, 1))
    bare = tmp_path / "a.csv"
    bare.write_bytes(content)
    assert process.seconds_for("build", path) == pytest.approx(
        process.seconds_for("build", bare), rel=0.01
    )


# --- Excel 2003 XML --------------------------------------------------------------------------


def test_a_workbook_of_2003_shows_what_excel_shows(tmp_path: Path) -> None:
    styles = (
        '<Style ss:ID="Default"/><Style ss:ID="p"><NumberFormat ss:Format="0.0%"/></Style>'
        '<Style ss:ID="d"><NumberFormat ss:Format="yyyy\\-mm\\-dd"/></Style>'
        '<Style ss:ID="n"><NumberFormat ss:Format="Percent"/></Style>'
        '<Style ss:ID="l"><NumberFormat ss:Format="Long Date"/></Style>'
        '<Style ss:ID="mg" ss:Parent="Default"><NumberFormat ss:Format="0&quot; mg&quot;"/></Style>'
        '<Style ss:ID="s"><Font ss:StrikeThrough="1"/></Style>'
    )

    def row(question: str, cell: str, attributes: str = "") -> str:
        asks = f'<Cell><Data ss:Type="String">{question}</Data></Cell>' if question else ""
        return f"<Row{attributes}>{asks}{cell}</Row>"

    def cell(value: str, kind: str = "Number", style: str = "Default", attributes: str = "") -> str:
        return (
            f'<Cell ss:StyleID="{style}"{attributes}><Data ss:Type="{kind}">{value}</Data></Cell>'
        )

    table = (
        '<Table><Column/><Column/><Column ss:Hidden="1"/>'
        + row("question", cell("answer", "String") + cell("internal", "String"))
        + row("Rate?", cell("0.075", style="p"))
        + row("Dose?", cell("5", style="mg") + cell("x", "String"))
        + row("Share?", cell("0.1", style="n"))
        + row("Date?", cell("2027-03-15T00:00:00.000", "DateTime", "d"))
        + row("Day?", cell("2027-03-15T00:00:00.000", "DateTime", "l"))
        + row("Hidden?", cell("yes", "String"), ' ss:Hidden="1"')
        + row("Number?", cell("7") + "<Cell><Comment><ss:Data>NOTE</ss:Data></Comment></Cell>")
        + '<Row><Cell ss:MergeDown="1"><Data ss:Type="String">Merged?</Data></Cell>'
        + cell("one", "String")
        + "</Row>"
        + row("", cell("two", "String", attributes=' ss:Index="2"'))
        + row("Struck?", cell("old", "String", "s"))
        + row(
            "Rich?",
            '<Cell><ss:Data ss:Type="String" xmlns="http://www.w3.org/TR/REC-html40">10<Sup>3</Sup>'
            '<S>no</S> <Font html:Face="Symbol">m<Font html:Face="Calibri">l</Font></Font>&#10;'
            "H<Sub>2</Sub>O</ss:Data></Cell>",
        )
        + row("Error?", cell("#DIV/0!", "Error"))
        + "</Table>"
    )
    hidden = "<Table/><WorksheetOptions><Visible>SheetHidden</Visible></WorksheetOptions>"
    found = read(tmp_path, document_files.spreadsheetml({"A": table, "B": hidden}, styles))
    assert (found.format, found.place, found.sheets) == ("spreadsheetml", "row", ["A"])
    shown = {row.values["question"]: row.values["answer"] for row in found.preview}
    assert found.columns == ["question", "answer"]
    assert shown | {"Merged?": ""} == {
        "Rate?": "7.5%",
        "Dose?": "5 mg",
        "Share?": "10.00%",
        "Date?": "2027-03-15",
        "Day?": "15 March 2027",
        "Number?": "7",
        "Merged?": "",
        "Struck?": "",
        "Rich?": "10³ µl\nH₂O",
        "Error?": "",
    }
    answers = [r.values["answer"] for r in found.preview if r.values["question"] == "Merged?"]
    assert answers == ["one", "two"]
    said = " ".join(found.warnings)
    for sentence in (
        "1 row is hidden or filtered out",
        "1 cell has a number format that this file does not settle (“Long Date”",
        "In 2 cells text is struck out",
        "1 cell shows an error",
        "1 note (comment) at a cell was not read",
        "1 cell was filled with the text of the merged cell",
    ):
        assert sentence in said, sentence
