"""What a sheet or a document shows is what is learned; what it does not show is counted."""

import datetime
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.comments import Comment
from openpyxl.styles import Font
from openpyxl.worksheet.worksheet import Worksheet

from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect, open_rows
from app.datasets.readers.tables import MAX_COLUMNS
from app.datasets.readers.unreadable import Unreadable
from tests import document_files, files

Build = Callable[[Worksheet], None]


def read(folder: Path, content: bytes, **read_as: Any) -> Inspection:
    (folder / "file").write_bytes(content)
    return inspect(folder / "file", ReadAs.model_validate(read_as), lambda rows: None)


def rows(found: Inspection) -> list[tuple[Any, ...]]:
    return [tuple(row.values.values()) for row in found.preview]


def workbook(build: Build) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    build(book.active)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


# --- XLSX ------------------------------------------------------------------------------------


def test_a_workbooks_numbers_are_learned_as_they_are_shown(tmp_path: Path) -> None:
    shown: list[tuple[float | str, str, str]] = [
        (0.075, "0.0%", "7.5%"),
        (5, '0" mg"', "5 mg"),
        (12, '"W-"000', "W-012"),
        (7, "00000", "00007"),
        (1.260416666666667, "[h]:mm", "30:15"),
        (46461, "DD.MM.YYYY", "15.03.2027"),
        (0.75, "# ?/?", "3/4"),
        (True, "General", "TRUE"),
        ("ward", '"W-"@', "W-ward"),
        (0.1 + 0.2, "General", "0.3"),
    ]

    def build(sheet: Worksheet) -> None:
        sheet.append(["question", "answer"])
        for number, (value, code, _) in enumerate(shown, start=2):
            sheet.cell(number, 1, "What?")
            sheet.cell(number, 2, value).number_format = code

    found = read(tmp_path, workbook(build))
    assert [answer for _, answer in rows(found)] == [text for _, _, text in shown]
    assert found.warnings == []


def test_dates_that_are_written_as_iso_has_them_are_shown_as_excel_shows_them(
    tmp_path: Path,
) -> None:
    def build(sheet: Worksheet) -> None:
        assert sheet.parent is not None
        sheet.parent.iso_dates = True
        sheet.append(["question", "answer"])
        sheet.append(["When?", datetime.datetime(2027, 3, 15, 9, 30)])  # noqa: DTZ001 - as Excel
        sheet["B2"].number_format = "DD.MM.YYYY hh:mm"

    found = read(tmp_path, workbook(build))
    assert rows(found) == [("When?", "15.03.2027 09:30")]
    assert found.warnings == []


def test_a_format_that_the_file_does_not_settle_is_counted_and_named(tmp_path: Path) -> None:
    def build(sheet: Worksheet) -> None:
        sheet.append(["question", "answer"])
        for number in range(2, 5):
            sheet.cell(number, 1, "How much?")
            sheet.cell(number, 2, 5).number_format = "[DBNum1]0"

    found = read(tmp_path, workbook(build))
    assert len(found.warnings) == 1
    assert "3 cells have a number format that this file does not settle" in found.warnings[0]
    assert "“[DBNum1]0”; first in row 2" in found.warnings[0]


def test_raised_struck_and_symbol_text_in_a_cell(tmp_path: Path) -> None:
    def piece(text: str, **font: Any) -> TextBlock:
        return TextBlock(InlineFont(**font), text)

    def build(sheet: Worksheet) -> None:
        sheet.append(["question", "answer"])
        sheet.append(
            ["Platelets?", CellRichText("400 × 10", piece("3", vertAlign="superscript"), "/µl")]
        )
        sheet.append(["Dose?", CellRichText(piece("50 mg", strike=True), " 5 mg")])
        sheet.append(["Vitamin?", CellRichText("5 ", piece("\uf06d", rFont="Symbol"), "g")])
        sheet.append(["Old?", "gone"])
        sheet["B5"].font = Font(strike=True)
        sheet.append(["Water?", CellRichText("H", piece("2", vertAlign="subscript"), "O")])

    found = read(tmp_path, workbook(build))
    assert [answer for _, answer in rows(found)] == ["400 × 10³/µl", "5 mg", "5 µg", "", "H₂O"]
    assert found.warnings == ["In 2 cells text is struck out and was left out (first in row 3)."]


def test_a_plain_piece_of_a_cell_that_is_not_plain(tmp_path: Path) -> None:
    texts = [("m", "g daily"), ("3", " 5 mg"), ("50 mg ", "5 mg"), ("5 ", "mg")]

    def within(sheet: Worksheet) -> None:
        looks = [
            Font(name="Symbol"),
            Font(vertAlign="superscript"),
            Font(strike=True),
            Font(b=True),
        ]
        sheet.append(["question", "answer"])
        for number, ((own, rest), look) in enumerate(zip(texts, looks, strict=True), start=2):
            sheet.cell(number, 1, "What?")
            piece = TextBlock(InlineFont(rFont="Calibri"), rest)
            sheet.cell(number, 2, CellRichText(own, piece)).font = look

    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream) as book:
        sheet, plain = book.add_worksheet(), book.add_format({"font_name": "Calibri"})
        sheet.write_row(0, 0, ["question", "answer"])
        looks = ({"font_name": "Symbol"}, {"font_script": 1}, {"font_strikeout": True}, {"bold": 1})
        for number, ((own, rest), look) in enumerate(zip(texts, looks, strict=True), start=1):
            sheet.write(number, 0, "What?")
            sheet.write_rich_string(number, 1, own, plain, rest, book.add_format(look))
    for content in (workbook(within), stream.getvalue()):
        found = read(tmp_path, content)
        assert [answer for _, answer in rows(found)] == ["µg daily", "³ 5 mg", "5 mg", "5 mg"]
        assert found.warnings == ["In 1 cell text is struck out and was left out (row 4)."]


def test_hidden_rows_and_columns_are_left_out_unless_a_person_takes_them_in(
    tmp_path: Path,
) -> None:
    def build(sheet: Worksheet) -> None:
        sheet.append(["question", "draft", "answer"])
        for number in range(4):
            sheet.append([f"{number}?", f"old {number}", f"new {number}"])
        sheet.row_dimensions[3].hidden = True
        sheet.column_dimensions["B"].hidden = True

    content = workbook(build)
    found = read(tmp_path, content)
    assert found.columns == ["question", "answer"]
    assert rows(found) == [("0?", "new 0"), ("2?", "new 2"), ("3?", "new 3")]
    assert found.num_rows == 4
    assert found.warnings == [
        "1 hidden column was left out (“draft”).",
        "1 row is hidden or filtered out and was left out; take hidden rows in if it belongs here.",
    ]
    taken = read(tmp_path, content, hidden="take_in")
    assert taken.columns == ["question", "draft", "answer"]
    assert len(rows(taken)) == 4
    assert taken.warnings == []
    # Built just as it was read.
    with open_rows(tmp_path / "file", taken.read_as(ReadAs())) as source:
        assert len(list(source.rows)) == 4


def test_merged_cells_are_filled_down_or_counted(tmp_path: Path) -> None:
    def build(sheet: Worksheet) -> None:
        for row in [
            ("question", "answer"),
            ("When?", "At 8."),
            (None, "Or at 9."),
            ("Who?", "Me."),
        ]:
            sheet.append(row)
        sheet.merge_cells("A2:A3")

    content = workbook(build)
    filled = read(tmp_path, content)
    assert rows(filled)[1] == ("When?", "Or at 9.")
    assert "1 cell was filled with the text of the merged cell" in filled.warnings[0]
    blank = read(tmp_path, content, merged="leave_blank")
    assert rows(blank)[1] == ("", "Or at 9.")
    assert "1 cell belongs to a merged cell and stayed blank (row 3)" in blank.warnings[0]


def test_errors_notes_and_hidden_sheets_of_a_workbook_are_said(tmp_path: Path) -> None:
    def build(sheet: Worksheet) -> None:
        sheet.append(["question", "answer"])
        sheet.append(["What?", "#DIV/0!"])
        sheet["B2"].data_type = "e"
        sheet.append(["Who?", "You."])
        sheet["B3"].comment = Comment("Check this.", "desk")
        assert sheet.parent is not None
        old = sheet.parent.create_sheet("old")
        old.append(["question", "answer"])
        old.sheet_state = "hidden"

    found = read(tmp_path, workbook(build))
    assert found.sheets == ["Sheet"]
    assert rows(found) == [("What?", ""), ("Who?", "You.")]
    assert found.warnings == [
        "1 cell shows an error such as #DIV/0! and counts as blank (row 2).",
        "1 note (comment) at a cell was not read.",
    ]


# --- XLS and ODS -----------------------------------------------------------------------------


def test_an_old_workbook_shows_what_excel_shows(tmp_path: Path) -> None:
    styles = b"".join(
        [
            files.xls_font(),
            files.xls_font(is_struck=True),
            files.xls_font(raises=1),
            files.xls_font(name="Symbol"),
            files.xls_format(164, "0.0%"),
            files.xls_format(165, '0" mg"'),
            files.xls_format(166, "[h]:mm"),
            *(files.xls_style(0, number) for number in (0, 164, 165, 166, 14)),
            *(files.xls_style(font, 0) for font in (1, 2, 3)),
        ]
    )
    cells: list[tuple[files.OldCell, ...]] = [
        ("question", "old", "answer"),
        ("Share?", "x", (0.075, 1)),
        ("Dose?", "x", (5, 2)),
        ("Shift?", "x", (1.260416666666667, 3)),
        ("When?", "x", (46461, 4)),
        ("Struck?", "x", ("50 mg", 5)),
        ("Power?", "x", ("3", 6)),
        ("Unit?", "x", ("m", 7)),
        ("Hidden?", "x", "y"),
        ("Merged?", "x", "a"),
        ("", "x", "b"),
    ]
    within = files.xls_hidden(row=8) + files.xls_hidden(column=1) + files.xls_merged((9, 10, 0, 0))
    found = read(tmp_path, files.xls({"A": cells}, styles, within))
    assert found.columns == ["question", "answer"]
    assert rows(found) == [
        ("Share?", "7.5%"),
        ("Dose?", "5 mg"),
        ("Shift?", "30:15"),
        ("When?", "2027-03-15"),
        ("Struck?", ""),
        ("Power?", "³"),
        ("Unit?", "µ"),
        ("Merged?", "a"),
        ("Merged?", "b"),
    ]
    assert "1 hidden column was left out (“old”)." in found.warnings
    assert "In 1 cell text is struck out and was left out (row 6)." in found.warnings


def ods(*body_rows: str, styles: str = "", columns: str = "") -> bytes:
    table = f'<table:table table:name="A">{columns}{"".join(body_rows)}</table:table>'
    made = files.ods({}, table)
    head = "<office:body>"
    names = 'xmlns:style="style" xmlns:fo="fo"'
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made)) as old, zipfile.ZipFile(stream, "w") as new:
        for info in old.infolist():
            body = old.read(info)
            if info.filename == "content.xml":
                own = f"<office:automatic-styles {names}>{styles}</office:automatic-styles>{head}"
                body = body.replace(head.encode(), own.encode())
            new.writestr(info, body)
    return stream.getvalue()


def ods_row(*cells: str, attributes: str = "") -> str:
    return f"<table:table-row {attributes}>{''.join(cells)}</table:table-row>"


def ods_cell(inner: str, attributes: str = 'office:value-type="string"') -> str:
    inner = inner if inner.startswith("<") else f"<text:p>{inner}</text:p>"
    return f"<table:table-cell {attributes}>{inner}</table:table-cell>"


HEAD = ods_row(ods_cell("question"), ods_cell("answer"))


def test_an_open_document_sheet_shows_its_own_texts(tmp_path: Path) -> None:
    styles = (
        '<style:style style:name="T1" style:family="text"><style:text-properties '
        'style:text-line-through-style="solid"/></style:style>'
        '<style:style style:name="T2" style:family="text"><style:text-properties '
        'style:text-position="super 58%"/></style:style>'
    )
    found = read(
        tmp_path,
        ods(
            HEAD,
            ods_row(
                ods_cell("Share?"),
                ods_cell("7.5%", 'office:value-type="percentage" office:value="0.075"'),
            ),
            ods_row(
                ods_cell("Lines?"),
                ods_cell(
                    "<text:p>one<text:s text:c='2'/>two</text:p>"
                    "<text:p>three<text:tab/>four</text:p>"
                ),
            ),
            ods_row(
                ods_cell("Note?"),
                ods_cell(
                    "<office:annotation><text:p>COMMENT</text:p></office:annotation><text:p>right</text:p>"
                ),
            ),
            ods_row(
                ods_cell("Dose?"),
                ods_cell("<text:p><text:span text:style-name='T1'>50 mg</text:span> 5 mg</text:p>"),
            ),
            ods_row(
                ods_cell("Power?"),
                ods_cell("<text:p>10<text:span text:style-name='T2'>3</text:span></text:p>"),
            ),
            ods_row(ods_cell("Hidden?"), ods_cell("no"), attributes='table:visibility="filter"'),
            ods_row(
                ods_cell("Bare?"),
                ods_cell("<text:p/>", 'office:value-type="float" office:value="5"'),
            ),
            styles=styles,
        ),
    )
    assert rows(found) == [
        ("Share?", "7.5%"),
        ("Lines?", "one  two\nthree\tfour"),
        ("Note?", "right"),
        ("Dose?", "5 mg"),
        ("Power?", "10³"),
        ("Bare?", "5"),
    ]
    assert [warning[:40] for warning in found.warnings] == [
        "In 1 cell text is struck out and was lef",
        "1 note (comment) at a cell was not read.",
        "1 cell has a number format that this fil",
        "1 row is hidden or filtered out and was ",
    ]


def test_errors_of_an_open_document_sheet_in_any_language(tmp_path: Path) -> None:
    formula = 'office:value-type="string" table:formula="of:=1/0"'
    error = f'{formula} calcext:value-type="error" xmlns:calcext="c"'
    cells = [
        ods_cell("#WERT!", error),
        ods_cell("#NV", error),
        ods_cell("Fehler", error),
        ods_cell("", error),
        ods_cell("#BEZUG!", formula),
        ods_cell("#N/D", formula),
        ods_cell("Err:502", formula),
        ods_cell("#1 is right", formula),
        ods_cell("#NV", 'office:value-type="string"'),
    ]
    found = read(tmp_path, ods(HEAD, *(ods_row(ods_cell("What?"), cell) for cell in cells)))
    assert [answer for _, answer in rows(found)] == [""] * 7 + ["#1 is right", "#NV"]
    assert found.warnings == [
        "7 cells show an error such as #DIV/0! and count as blank (first in row 2)."
    ]


def test_merged_cells_and_hidden_columns_of_an_open_document_sheet(tmp_path: Path) -> None:
    columns = (
        '<table:table-column/><table:table-column table:visibility="collapse"/>'
        "<table:table-column/>"
    )
    merged = ods_cell("When?", 'office:value-type="string" table:number-rows-spanned="2"')
    found = read(
        tmp_path,
        ods(
            ods_row(ods_cell("question"), ods_cell("draft"), ods_cell("answer")),
            ods_row(merged, ods_cell("x"), ods_cell("At 8.")),
            ods_row("<table:covered-table-cell/>", ods_cell("x"), ods_cell("Or at 9.")),
            columns=columns,
        ),
    )
    assert found.columns == ["question", "answer"]
    assert rows(found) == [("When?", "At 8."), ("When?", "Or at 9.")]


# --- Word and PDF ----------------------------------------------------------------------------


def run(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def math(inner: str) -> str:
    return f'<m:oMath xmlns:m="m">{inner}</m:oMath>'


def letters(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


def tag(name: str, inner: str) -> str:
    return f"<m:{name}>{inner}</m:{name}>"


def fraction(above: str, below: str) -> str:
    return tag("f", tag("num", letters(above)) + tag("den", letters(below)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (run("10") + run("3", '<w:vertAlign w:val="superscript"/>') + run("/µl"), "10³/µl"),
        (run("H") + run("2", '<w:vertAlign w:val="subscript"/>') + run("O"), "H₂O"),
        (run("1") + run("st", '<w:vertAlign w:val="superscript"/>') + run(" floor"), "1st floor"),
        (run("5 ") + '<w:r><w:sym w:font="Symbol" w:char="F06D"/></w:r>' + run("g"), "5 µg"),
        (run("5 ") + run("\uf06d", '<w:rFonts w:ascii="Symbol"/>') + run("g"), "5 µg"),
        ('<w:r><w:sym w:font="Symbol" w:char="F0B3"/></w:r>' + run(" 38"), "≥ 38"),
        (run("50 mg", "<w:strike/>") + run(" 5 mg"), "5 mg"),
        (run("50 mg", '<w:strike w:val="0"/>'), "50 mg"),
        (run("a ") + run("SECRET", "<w:vanish/>") + run(" b"), "a b"),
        (f"<w:del>{run('two')}</w:del><w:ins>{run('three')}</w:ins>", "three"),
        (math(fraction("1", "2")) + run(" tablet"), "½ tablet"),
        (run("2") + math(fraction("3", "10")), "2 3/10"),
        (math(fraction("a+b", "c")), "(a+b)/c"),
        (math(tag("sSup", tag("e", letters("r")) + tag("sup", letters("2")))), "r²"),
        (math(tag("rad", "<m:deg/>" + tag("e", letters("x+1")))), "√(x+1)"),
    ],
)  # fmt: skip
def test_word_keeps_what_its_reader_sees(tmp_path: Path, body: str, expected: str) -> None:
    table = files.word_table([("Question", "Answer")]).replace(
        "</w:tbl>",
        f"<w:tr><w:tc>{files.paragraph('What?')}</w:tc><w:tc><w:p>{body}</w:p></w:tc></w:tr></w:tbl>",
    )
    found = read(tmp_path, files.docx(table), way="pairs")
    assert [row.values["answer"] for row in found.preview] == [expected]


def scripts(kind: str, base: str, sub: str, sup: str) -> str:
    return tag(kind, "".join(tag(*each) for each in (
        ("sub", letters(sub)), ("sup", letters(sup)), ("e", letters(base)),
    )))  # fmt: skip


NO_BAR = fraction("n", "k").replace("<m:f>", '<m:f><m:fPr><m:type m:val="noBar"/></m:fPr>')
STRUCK = "<m:r><w:rPr><w:strike/></w:rPr><m:t>50</m:t></m:r>"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (NO_BAR, "(n over k)"),
        (tag("d", tag("e", NO_BAR)), "(n over k)"),
        (tag("bar", '<m:barPr><m:pos m:val="top"/></m:barPr>' + tag("e", letters("x"))), "x\u0304"),
        (tag("bar", '<m:barPr><m:pos m:val="top"/></m:barPr>' + tag("e", letters("AB"))),
         "A\u0305B\u0305"),
        (scripts("sPre", "I", "53", "131"), "¹³¹₅₃I"),
        (letters("2") + scripts("sPre", "I", "53", "131"), "2 ¹³¹₅₃I"),
        (scripts("sSubSup", "x", "1", "2"), "x₁²"),
        (STRUCK + letters("5"), "5"),
        (tag("borderBox", '<m:borderBoxPr><m:strikeH m:val="1"/></m:borderBoxPr>'
             + tag("e", letters("50"))) + letters("5"), "5"),
        (tag("borderBox", tag("e", letters("5"))), "5"),
    ],
)  # fmt: skip
def test_equations_of_word(tmp_path: Path, inner: str, expected: str) -> None:
    body = f"<w:p>{math(inner)}{run(' mg')}</w:p>"
    found = read(tmp_path, files.docx(body), way="text")
    assert found.preview[0].values["text"] == f"{expected} mg"
    was_left_out = ["In 1 place text is struck out and was left out (paragraph 1)."]
    assert found.warnings == (was_left_out if "50" in inner else [])


def changed(before: str) -> str:
    """How a text looked before a change that was tracked."""
    return f'<w:rPrChange w:id="1" w:author="x"><w:rPr>{before}</w:rPr></w:rPrChange>'


def test_how_text_looked_before_a_tracked_change_says_nothing(tmp_path: Path) -> None:
    raised, struck = '<w:vertAlign w:val="{}"/>', "<w:strike/>"
    texts = [
        run("10") + run("3", raised.format("superscript") + changed("")) + run("/µl"),
        run("10") + run("4", raised.format("superscript") + changed(raised.format("baseline"))),
        run("2", changed(raised.format("superscript"))) + run(" mg"),
        run("5 mg", changed(struck)) + run(" 50 mg", struck + changed("")),
        run("shown", changed("<w:vanish/>")) + run(" HIDDEN", "<w:vanish/>" + changed("")),
        run("g", changed('<w:rFonts w:ascii="Symbol"/>')),
    ]
    former = "<w:pPr><w:pPrChange><w:pPr>{}</w:pPr></w:pPrChange></w:pPr>"
    heading = former.format('<w:outlineLvl w:val="0"/><w:numPr/><w:pStyle w:val="berschrift1"/>')
    cells = "".join(f"<w:p>{heading}{text}</w:p>" for text in texts)
    body = files.paragraph("What?", "berschrift1") + cells
    found = read(tmp_path, files.docx(body), way="pairs")
    assert [row.values["answer"] for row in found.preview] == [
        "10³/µl\n\n10⁴\n\n2 mg\n\n5 mg\n\nshown\n\ng"
    ]
    assert found.warnings == [
        "In 1 place text is struck out and was left out (paragraph 5).",
        "In 1 place text is hidden and was left out (paragraph 6).",
    ]


def test_a_row_of_a_table_that_was_deleted_is_left_out(tmp_path: Path) -> None:
    """Its words say so by themselves in Word's own files, and in nobody else's."""

    def row(*cells: str, settings: str = "") -> str:
        made = "".join(f"<w:tc><w:p>{run(cell)}</w:p></w:tc>" for cell in cells)
        return f"<w:tr><w:trPr>{settings}</w:trPr>{made}</w:tr>"

    gone = '<w:cantSplit/><w:del w:id="1" w:author="x"/>'
    inner = f"<w:tbl>{row('inner')}{row('INNER', settings=gone)}</w:tbl>"
    body = (
        f"<w:tbl>{row('question', 'answer')}{row('Dogs?', 'No.')}"
        f"{row('Cats?', 'GONE', settings=gone)}{row('Birds?', 'Yes.')}"
        f"<w:tr><w:tc><w:p>{run('Fish?')}</w:p></w:tc><w:tc>{inner}<w:p/></w:tc></w:tr></w:tbl>"
    )
    found = read(tmp_path, files.docx(body), way="pairs")
    assert [(row.values["question"], row.values["answer"]) for row in found.preview] == [
        ("Dogs?", "No."),
        ("Birds?", "Yes."),
        ("Fish?", "inner"),
    ]
    assert "In 2 places text was deleted while changes were tracked" in str(found.warnings)


def field(instruction: str, shown: str = "", look: str = "") -> str:
    parts = "".join(
        f'<w:r><w:rPr>{look}</w:rPr><w:instrText xml:space="preserve">{part}</w:instrText></w:r>'
        for part in instruction.split("~")
    )
    begin, separate, end = (
        f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>' for kind in ("begin", "separate", "end")
    )
    return begin + parts + (separate + shown if shown else "") + end


def nested(before: str, inner: str, after: str) -> str:
    """A field in the instruction of another."""
    whole = field(f"{before}~{after}")
    split = whole.index("</w:r>", whole.index(before)) + len("</w:r>")
    return whole[:split] + field(inner) + whole[split:]


SYMBOL = ' SYMBOL 109 \\f "Symbol" \\s 11 '


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (run("5 ") + field(SYMBOL) + run("g"), "5 µg"),
        (run("5 ") + field(SYMBOL, run("m", '<w:rFonts w:ascii="Symbol"/>')) + run("g"), "5 µg"),
        (run("5 ") + f"<w:fldSimple w:instr='{SYMBOL}'>{run('m')}</w:fldSimple>" + run("g"),
         "5 µg"),
        (field("SYMBOL 0xB3 \\f Symbol") + run(" 38"), "≥ 38"),
        (field("SYMBOL 8805 \\u") + run(" 38"), "≥ 38"),
        (run("20 ") + field("SYMBOL 176 \\f Arial") + run("C"), "20 °C"),
        (run("Take ") + field(" EQ \\f(1~;2) ") + run(" tablet"), "Take ½ tablet"),
        (run("Take 1") + field("EQ \\f(3,10)") + run(" tablet"), "Take 1 3/10 tablet"),
        (field("EQ \\f(0,5;a+b)"), "0,5/(a+b)"),
        (field("EQ \\r(3;\\f(x;4))"), "∛(x/4)"),
        (run("10") + field("EQ \\s\\up 6(3)") + run("/l"), "10³/l"),
        (nested("EQ \\f(1;", "SYMBOL 109 \\f Symbol", "g)"), "1/µg"),
        (run("see ") + field("PAGEREF x", run("5")) + run("."), "see 5."),
        (f"<w:fldSimple w:instr=''>{run('kept')}</w:fldSimple>", "kept"),
        (run("a") + field(SYMBOL, look="<w:strike/>") + run("b"), "ab"),
    ],
)  # fmt: skip
def test_fields_of_word_that_stand_for_signs(tmp_path: Path, body: str, expected: str) -> None:
    text = files.paragraph("Before.") + f"<w:p>{body}</w:p>" + files.paragraph("After.")
    found = read(tmp_path, files.docx(text), way="text")
    assert found.preview[0].values["text"] == "\n\n".join(
        part for part in ("Before.", expected, "After.") if part
    )


def test_fields_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    unknown = field("EQ \\i(0;1;x)") + field('SYMBOL 1 \\f "Symbol"', run("m"))
    unknown += field(SYMBOL, look="<w:strike/>")
    text = f"<w:p>{run('Take ')}{unknown}{run('tablet')}</w:p>" + files.paragraph("After.")
    open_ended = '<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r></w:p>'
    found = read(tmp_path, files.docx(open_ended + text), way="text")
    assert found.preview[0].values["text"] == "Take tablet\n\nAfter."
    assert found.warnings == [
        "In 1 place text is struck out and was left out (paragraph 2).",
        "1 sign of a symbol font is not known and was left out (paragraph 2); write it as a "
        "letter.",
        "1 equation in a field (EQ) cannot be read and was left out (paragraph 2); write it in "
        "Word's own equations or as text.",
    ]


def test_what_word_hides_is_counted(tmp_path: Path) -> None:
    odd = '<w:r><w:sym w:font="Wingdings" w:char="F021"/></w:r>'
    body = "".join(
        f"<w:p>{run(f'Where is {n}?')}</w:p><w:p>{run('old', '<w:dstrike/>')}{run('Here. ')}"
        f"{run('SECRET', '<w:vanish/>')}<w:moveFrom>{run('away')}</w:moveFrom>{odd}</w:p>"
        for n in range(3)
    )
    found = read(tmp_path, files.docx(body))
    assert [row.values["answer"] for row in found.preview] == ["Here."] * 3
    assert found.warnings == [
        "In 3 places text is struck out and was left out (first in paragraph 2).",
        "In 3 places text is hidden and was left out (first in paragraph 2).",
        "In 3 places text was deleted while changes were tracked, and was left out (first in "
        "paragraph 2).",
        "3 signs of a symbol font are not known and were left out (first in paragraph 2); write "
        "them as letters.",
    ]


def test_an_embedded_object_of_word_is_counted(tmp_path: Path) -> None:
    inner = "<w:r><w:object><v:shape xmlns:v='v'>{}</v:shape></w:object></w:r>"
    objects = inner.format("") + inner.format("<v:imagedata/>")
    drawing = "<w:r><w:drawing><a:blip xmlns:a='a'/></w:drawing></w:r>"
    body = f"<w:p>{run('Take ')}{objects}{run('tablet')}{drawing}</w:p>"
    found = read(tmp_path, files.docx(body), way="text")
    said = " ".join(found.warnings)
    assert "2 charts or embedded objects were not read" in said
    assert "1 picture was not read" in said


def test_tables_of_word_with_merged_cells_and_tables_in_them(tmp_path: Path) -> None:
    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{files.paragraph(text)}</w:tc>"

    inner = files.word_table([("April", "beans"), ("May", "mint")])
    begins, wide = '<w:vMerge w:val="restart"/>', '<w:gridSpan w:val="2"/>'
    body = (
        f"<w:tbl><w:tr>{cell('Topic')}{cell('Question')}{cell('Answer')}</w:tr>"
        f"<w:tr>{cell('a')}{cell('When?', begins)}{cell('At 8.')}</w:tr>"
        f"<w:tr>{cell('b')}{cell('', '<w:vMerge/>')}{cell('At 9.')}</w:tr>"
        f"<w:tr>{cell('x', wide)}{cell('No question.')}</w:tr>"
        f"<w:tr>{cell('c')}{cell('What grows?')}<w:tc>{inner}<w:p/></w:tc></w:tr></w:tbl>"
    )
    found = read(tmp_path, files.docx(body))
    assert [(row.values["question"], row.values["answer"]) for row in found.preview] == [
        ("When?", "At 8."),
        ("When?", "At 9."),
        ("What grows?", "April | beans\nMay | mint"),
    ]
    assert "1 cell of a table was filled" in found.warnings[0]


def test_styles_of_word_and_footnotes(tmp_path: Path) -> None:
    styles = (
        '<w:styles xmlns:w="w"><w:style w:styleId="Up"><w:rPr><w:vertAlign w:val="superscript"/>'
        '</w:rPr></w:style><w:style w:styleId="Off"><w:rPr><w:strike/></w:rPr></w:style>'
        '<w:style w:styleId="Off2"><w:basedOn w:val="Off"/></w:style></w:styles>'
    )
    notes = (
        '<w:footnotes xmlns:w="w"><w:footnote w:id="2"><w:p><w:r><w:t>See page 4.</w:t></w:r></w:p>'
        "</w:footnote></w:footnotes>"
    )
    up = '<w:rStyle w:val="Up"/>'
    body = (
        f"<w:p>{run('10')}{run('3', up)}{run(' litres')}"
        '<w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
        f'<w:p><w:pPr><w:pStyle w:val="Off2"/></w:pPr>{run("gone")}</w:p>'
    )
    more = {"word/styles.xml": styles, "word/footnotes.xml": notes}
    found = read(tmp_path, files.docx(body, more=more), way="text")
    assert found.preview[0].values["text"] == "10³ litres [See page 4.]"
    assert found.warnings == ["In 1 place text is struck out and was left out (paragraph 2)."]


def quiz(*options: str, end: str = "") -> bytes:
    questions = "".join(
        files.paragraph(f"{n}. Which is number {n}?") + "".join(map(files.paragraph, options))
        for n in range(1, 5)
    )
    return files.docx(questions + end)


def test_the_options_of_a_quiz_are_no_answer_but_the_right_one_is(tmp_path: Path) -> None:
    plain = read(tmp_path, quiz("a) One", "b) Two", "_____"))
    assert rows(plain) == []
    assert plain.num_rows == 4
    assert "4 questions have options to choose from" in plain.warnings[0]
    starred = read(tmp_path, quiz("a) One", "*b) Two"))
    assert [row.values["answer"] for row in starred.preview] == ["Two"] * 4
    end = files.paragraph("Answer key", "berschrift1") + files.paragraph("1a 2b 3a 4b")
    keyed = read(tmp_path, quiz("a) One", "b) Two", end=end))
    assert [row.values["answer"] for row in keyed.preview] == ["One", "Two", "One", "Two"]
    steps = read(tmp_path, quiz("a) Open the lid, then:", "Pour."))
    assert steps.preview[0].values["answer"] == "a) Open the lid, then:\n\nPour."


def test_raised_digits_of_a_pdf_stay_raised(tmp_path: Path) -> None:
    raised = "/F1 7 Tf 5 Ts ({}) Tj 0 Ts /F1 10 Tf"
    made = files.pdf([[("MARK of the blood, 2026-11-12.", 10)]])
    content = f"(Normal are 10) Tj {raised.format('3')} (/l, and 10) Tj {raised.format('-3')} ( m"
    found = read(
        tmp_path,
        _with_length(made, "(MARK of the blood, 2026-11-12.", content + ", 2026-11-12."),
        way="text",
    )
    assert found.preview[0].values["text"] == "Normal are 10³/l, and 10⁻³ m, 2026-11-12."


def drawn(*parts: str | tuple[str, int, float]) -> str:
    """A line of a page: texts of 11 points, and others with their size and rise."""
    shown = [part if isinstance(part, tuple) else (part, 11, 0) for part in parts]
    return " ".join(f"/F1 {size} Tf {rise} Ts ({text}) Tj" for text, size, rise in shown)


def up(text: str) -> tuple[str, int, float]:
    return text, 7, 4


def down(text: str) -> tuple[str, int, float]:
    return text, 7, -2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # A raised or lowered sign in the very middle.
        (drawn("Count 10", up("3"), "/l and H", down("2"), "O daily"), "Count 10³/l and H₂O daily"),
        (drawn("Up to 5 x 10", up("-3"), " mol daily in"), "Up to 5 x 10⁻³ mol daily in"),
        (drawn("R", up("2"), " of 0.8 and CO", down("2"), " of 40"), "R² of 0.8 and CO₂ of 40"),
        (drawn("Ca", up("2+"), " and Na", up("+"), " daily"), "Ca²⁺ and Na⁺ daily"),
        (drawn("from 10", up("3"), "-10", up("4"), "/l on"), "from 10³-10⁴/l on"),
        (drawn("HCO", down("3"), up("-"), " of 24 mmol"), "HCO₃⁻ of 24 mmol"),
        (drawn("Take 1", up("1"), "/", down("2"), " tablets daily"), "Take 1½ tablets daily"),
        (drawn("Take 5-10 mg on 2026-11-12"), "Take 5-10 mg on 2026-11-12"),
    ],
)  # fmt: skip
def test_powers_and_indices_of_a_pdf(tmp_path: Path, line: str, expected: str) -> None:
    assert learned_of_pdf(tmp_path, line) == (f"{expected} and so on for ever.", [])


def learned_of_pdf(folder: Path, line: str) -> tuple[str, list[str]]:
    made = files.pdf([[("MARK", 11), ("and so on for ever.", 11)]])
    content = _with_length(made, "(MARK) Tj", f"{line} 0 Ts /F1 11 Tf")
    found = read(folder, content, way="text")
    return found.preview[0].values["text"], found.warnings


def test_a_stacked_fraction_of_a_pdf(tmp_path: Path) -> None:
    def at(x: int, y: int, size: int, text: str) -> str:
        return f"/F1 {size} Tf 1 0 0 1 {x} {y} Tm ({text}) Tj"

    fraction = f"{at(90, 770, 8, '1')} {at(90, 760, 8, '2')} {at(98, 765, 11, 'tablet')}"
    assert learned_of_pdf(tmp_path, f"{at(60, 765, 11, 'Take ')} {fraction}") == (
        "Take ½ tablet and so on for ever.", []
    )  # fmt: skip
    fraction = f"{at(103, 770, 8, '3')} {at(103, 760, 8, '7')} {at(110, 765, 11, 'tablet')}"
    assert learned_of_pdf(tmp_path, f"{at(60, 765, 11, 'Take about 1')} {fraction}")[0] == (
        "Take about 1 3/7 tablet and so on for ever."
    )


def _with_length(pdf: bytes, old: str, new: str) -> bytes:
    """Change what a page says; readers find the objects without the table of places."""
    start = pdf.index(b"stream\n") + 7
    end = pdf.index(b"\nendstream")
    content = pdf[start:end].replace(old.encode(), new.encode())
    body = pdf[:start].replace(b"/Length %d" % (end - start), b"/Length %d" % len(content))
    return body + content + pdf[end : pdf.index(b"xref\n")] + b"trailer << /Root 1 0 R >>\n%%EOF\n"


def test_a_sheet_that_repeats_a_text_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.datasets.readers.grids.MAX_SHEET_CHARACTERS", 10_000)
    long = ods_cell("x" * 500)
    many = ods_row(long, long, attributes='table:number-rows-repeated="100"')
    with pytest.raises(Unreadable, match=r"The sheet “A” of this .* which looks like a trap"):
        read(tmp_path, ods(HEAD, many))


@pytest.mark.parametrize("kind", ["ods", "xlsx", "spreadsheetml"])
def test_a_sheet_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    sheets = {
        "Good": [["question", "answer"], ["a", "b"]],
        "Wide": [["x", *[""] * MAX_COLUMNS, *["y"] * 101]],
    }
    content = {
        "ods": lambda: files.ods(sheets),
        "xlsx": lambda: files.workbook(sheets),
        "spreadsheetml": lambda: document_files.spreadsheetml(
            {name: document_files.excel_rows(rows) for name, rows in sheets.items()}
        ),
    }[kind]()
    with pytest.raises(Unreadable, match=r"^The sheet “Wide” of this workbook has more than 1,000"):
        read(tmp_path, content, sheet="Wide")
