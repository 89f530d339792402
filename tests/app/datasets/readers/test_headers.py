"""The header is where it is: below titles, in two rows, above hints, or where a person says."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from app.datasets.conversations import assemble
from app.datasets.mapping import ColumnRole, LeftOut
from app.datasets.proposals import propose
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect, open_rows
from app.datasets.readers.unreadable import Unreadable
from tests import files

PAIRS = [("When?", "At 8, every day."), ("Who?", "Anyone who asks."), ("Why?", "To learn.")]


def read(folder: Path, content: bytes | str, **read_as: Any) -> Inspection:
    path = folder / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return inspect(path, ReadAs.model_validate(read_as), lambda rows: None)


def csv(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def workbook(*rows: tuple[Any, ...], merged: tuple[str, ...] = ()) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    for area in merged:
        sheet.merge_cells(area)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def made(folder: Path, found: Inspection) -> tuple[list[list[str]], list[str]]:
    """Return the texts of the examples, and why rows became none."""
    mapping = propose(found).mapping
    texts, reasons = [], []

    def rows() -> Any:
        with open_rows(folder / "file", found.read_as(ReadAs())) as source:
            yield from source.rows

    for _, messages, _ in assemble(mapping, rows):
        if isinstance(messages, LeftOut):
            reasons.append(messages.reason)
        else:
            texts.append([message["content"] for message in messages])
    return texts, reasons


def test_titles_above_and_totals_below_are_no_rows_of_the_table(tmp_path: Path) -> None:
    content = workbook(
        ("Questions of the front desk",),
        (),
        ("exported 2026-11-20",),
        ("Question", "Answer", "Topic"),
        *((q, a, "desk") for q, a in PAIRS),
        (),
        ("Total: 3 rows",),
        merged=("A1:C1",),
    )
    found = read(tmp_path, content)
    assert (found.columns, found.header_row) == (["Question", "Answer", "Topic"], 4)
    assert found.warnings == [
        "The column names are in row 4; the 2 rows with text above it are not used.",
        "1 row at the end is a total and was left out.",
    ]
    assert made(tmp_path, found) == ([list(pair) for pair in PAIRS], ["total"])


def test_titles_above_a_csv_table_with_and_without_delimiters(tmp_path: Path) -> None:
    body = ["Question;Answer", *(f"{q};{a}" for q, a in PAIRS), "Gesamt;3"]
    for title in ("Fragen;", "Fragen"):
        found = read(tmp_path, csv(title, *body))
        assert (found.columns, found.header_row) == (["Question", "Answer"], 2)
        assert made(tmp_path, found) == ([list(pair) for pair in PAIRS], ["total"])


def test_an_answer_that_is_called_total_stays_one_amid_the_rows(tmp_path: Path) -> None:
    found = read(tmp_path, csv("question,answer", "Total,5", *(f'{q},"{a}"' for q, a in PAIRS)))
    assert len(made(tmp_path, found)[0]) == 4


def test_a_header_of_two_rows_is_named_by_the_lower(tmp_path: Path) -> None:
    content = workbook(
        (None, "English", None, "Deutsch", None),
        ("Nr", "Question", "Answer", "Frage", "Antwort"),
        *((n, q, a, f"{q} auf Deutsch", f"{a} auf Deutsch") for n, (q, a) in enumerate(PAIRS)),
        merged=("B1:C1", "D1:E1"),
    )
    found = read(tmp_path, content)
    assert found.columns == ["Nr", "Question", "Answer", "Frage", "Antwort"]
    assert not propose(found).is_sure  # a person chooses the language
    assert len(made(tmp_path, found)[0]) == 3


@pytest.mark.parametrize("is_merged", [True, False])
def test_a_header_that_goes_on_in_its_second_row(tmp_path: Path, is_merged: bool) -> None:
    table = [
        ("Question", None, "Answer", None),
        ("English", "Deutsch", "English", "Deutsch"),
        *((q, "Frage?", a, "Antwort, lang genug.") for q, a in PAIRS),
    ]
    found = read(tmp_path, workbook(*table, merged=("A1:B1", "C1:D1") if is_merged else ()))
    assert found.columns == [
        "Question (English)",
        "Question (Deutsch)",
        "Answer (English)",
        "Answer (Deutsch)",
    ]
    assert made(tmp_path, found)[0] == [list(pair) for pair in PAIRS]


def test_names_that_are_doubled_are_told_apart_by_their_groups(tmp_path: Path) -> None:
    content = workbook(
        ("Biology 7b",),
        ("Pupil", "Task 1", None, "Task 2", None),
        (None, "Question", "Answer", "Question", "Answer"),
        *(("x", q, a, q, a) for q, a in PAIRS),
        merged=("A1:E1", "A2:A3", "B2:C2", "D2:E2"),
    )
    assert read(tmp_path, content).columns == [
        "Pupil",
        "Question (Task 1)",
        "Answer (Task 1)",
        "Question (Task 2)",
        "Answer (Task 2)",
    ]


def test_a_hint_below_the_names_and_names_again_are_no_examples(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        csv(
            "Question,Answer",
            "(what people ask),e.g. At 8.",
            '"When?","At 8, every day."',
            "\ufeffQuestion,Answer",
            '"Who?","Anyone who asks."',
        ),
    )
    assert made(tmp_path, found) == ([list(pair) for pair in PAIRS[:2]], ["hint", "header_again"])
    assert "1 row repeats the column names" in found.warnings[0]
    assert "The row below the column names only says what to write" in found.warnings[1]


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;"])
def test_the_line_that_names_the_delimiter_is_obeyed_and_is_no_row(
    tmp_path: Path, line: str
) -> None:
    found = read(tmp_path, csv(line, "question;answer", *(f"{q};{a}" for q, a in PAIRS)))
    assert (found.delimiter, found.columns, found.header_row) == (";", ["question", "answer"], 2)
    assert found.num_rows == 3
    assert [row.number for row in found.preview] == [3, 4, 5]


def test_a_tab_may_be_named_too(tmp_path: Path) -> None:
    found = read(tmp_path, csv("sep=\t", "question\tanswer", "When?\tAt 8, or 9."))
    assert (found.delimiter, found.columns) == ("\t", ["question", "answer"])


@pytest.mark.parametrize(
    "names",
    [
        ("question\u200b", "\u00a0answer\u2060"),
        ("Question (required)", "Answer *"),
        ("Frage (Pflichtfeld)", "Antwort"),
        ("PatientQuestion", "ClinicianReply"),
        ("PATIENT_QUESTION", "CLINICIAN_REPLY"),
        ("question text", "answer text"),
    ],
)
def test_names_are_known_whatever_is_added_to_them(tmp_path: Path, names: tuple[str, str]) -> None:
    found = read(tmp_path, csv(",".join(names), *(f'{q},"{a}"' for q, a in PAIRS)))
    roles = list(propose(found).mapping.column_roles.values())
    assert roles == [ColumnRole.QUESTION, ColumnRole.ANSWER]
    assert len(made(tmp_path, found)[0]) == 3


def test_a_form_whose_names_are_questions_holds_answers_to_them(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        csv(
            '"Timestamp","What did you like about the day?","May we publish it?"',
            '"2026/11/1 8:00:00 AM GMT+1","The pottery room.","Yes"',
            '"2026/11/2 9:00:00 AM GMT+1","Lunch, and the choir.","No"',
            '"2026/11/3 9:00:00 AM GMT+1","Nothing much.","No"',
        ),
    )
    proposal = propose(found)
    assert not proposal.is_sure
    assert "is itself a question" in proposal.why
    assert proposal.mapping.named(ColumnRole.ANSWER_TO_NAME) == ["What did you like about the day?"]
    assert made(tmp_path, found)[0][0] == ["What did you like about the day?", "The pottery room."]


def test_several_questions_of_a_form_are_one_conversation(tmp_path: Path) -> None:
    lines = [f"Pupil {n},Answer one of {n}.,Answer two of {n}." for n in range(4)]
    found = read(tmp_path, csv("Name,What was good?,What was bad?", *lines))
    assert made(tmp_path, found)[0][0] == [
        "What was good?",
        "Answer one of 0.",
        "What was bad?",
        "Answer two of 0.",
    ]


def test_a_time_stamp_is_never_an_answer(tmp_path: Path) -> None:
    lines = [f"2026-11-0{n} 08:00,p{n}@example.org,Where is room {n} of ours?" for n in range(1, 5)]
    roles = propose(read(tmp_path, csv("When,Mail,Said", *lines))).mapping.column_roles
    assert roles["When"] is roles["Mail"] is ColumnRole.IGNORE


@pytest.mark.parametrize(
    "lines",
    [
        ["Gespräch;Person;Wortlaut", "1;user;Hallo", "1;assistant;Guten Tag", "2;user;Wo?"],
        ["No;Prompt text;Reply text", "1;a;b", "2;c;d"],
        ["Deutsch;English", "Haus;house", "Frage;question", "Antwort;answer", "Text;text"],
        ["Deutsch;English", "Datum;date", "Zahl;number", "Hund;dog"],
        ["Name;Rolle;Inhalt", "x;user;Hallo", "y;assistant;Antwort", "z;user;Text"],
    ],
)
def test_words_in_rows_are_no_names(tmp_path: Path, lines: list[str]) -> None:
    found = read(tmp_path, csv(*lines))
    assert found.columns == lines[0].split(";")
    assert [";".join(row.values.values()) for row in found.preview] == lines[1:]


def test_names_below_narrower_rows_are_found(tmp_path: Path) -> None:
    found = read(tmp_path, csv("Ward 3;", "user;assistant", "Dose?;5 mg", "When?;At 8."))
    assert found.columns == ["user", "assistant"]
    found = read(tmp_path, csv("By;Ann;", "nr;question;answer", "1;Dose?;5 mg", "2;When?;At 8."))
    assert found.columns == ["nr", "question", "answer"]


def test_marks_of_templates_are_no_hints(tmp_path: Path) -> None:
    rows = ["<bos>Dose?<eos>;<bos>5 mg<eos>", "[INST] When? [/INST];[INST] 8. [/INST]"]
    assert read(tmp_path, csv("question;answer", *rows)).num_rows == 2
    assert made(tmp_path, read(tmp_path, csv("question;answer", "<your text>;string", *rows)))[
        1
    ] == ["hint"]


def test_hidden_rows_above_the_names_are_counted(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (["draft", "of May"], ["old", "older"], ["question", "answer"], ["Dose?", "5 mg"]):
        book.active.append(row)
    book.active.row_dimensions[1].hidden = book.active.row_dimensions[2].hidden = True
    stream = io.BytesIO()
    book.save(stream)
    found = read(tmp_path, stream.getvalue())
    assert found.columns == ["question", "answer"]
    assert "2 rows are hidden or filtered out" in str(found.warnings)


def test_line_breaks_without_quotes_go_on_with_their_cell(tmp_path: Path) -> None:
    lines = [f"{n}|Where is room {n}?|Upstairs.\r\nAsk at the desk." for n in range(6)]
    found = read(tmp_path, csv("MRN|PATIENT_QUESTION|CLINICIAN_REPLY", *lines, "Total: 6 rows"))
    texts, reasons = made(tmp_path, found)
    assert texts == [[f"Where is room {n}?", "Upstairs.\nAsk at the desk."] for n in range(6)]
    assert reasons == ["total"]
    assert "6 lines go on with cells of the rows before them" in found.warnings[0]


def test_a_break_within_a_middle_cell(tmp_path: Path) -> None:
    lines = [f"{n}|Where is\r\nroom {n}?|Upstairs." for n in range(6)]
    found = read(tmp_path, csv("nr|question|answer", *lines))
    assert made(tmp_path, found)[0][2] == ["Where is\nroom 2?", "Upstairs."]


def test_rows_without_their_last_cells_are_not_joined(tmp_path: Path) -> None:
    lines = [f"Where is room {n}?|Upstairs.{'|x' if n % 2 else ''}" for n in range(8)]
    found = read(tmp_path, csv("question|answer|note", *lines))
    assert found.num_rows == 8
    assert found.warnings == []


@pytest.mark.parametrize("sign", ["|", "\t", ";", ","])
def test_a_row_whose_text_may_go_on_in_the_next_line_is_left_out(tmp_path: Path, sign: str) -> None:
    rest = {8: "not more than twice a day", 20: "or\r\n\r\nafter meals", 33: "Total: 1 row"}
    lines = [
        f"{n}{sign}Where is room {n}?{sign}Upstairs.\r\n{rest.get(n, '')}".rstrip()
        for n in range(40)
    ]
    found = read(tmp_path, csv(sign.join(("id", "question", "answer")), *lines))
    texts, reasons = made(tmp_path, found)
    assert [text[0] for text in texts] == [
        f"Where is room {n}?" for n in range(40) if n not in (8, 20)
    ]
    assert Counter(reasons) == {"broken_row": 5, "empty_question": 1}
    assert "5 rows may be parts of texts with line breaks" in found.warnings[0]


def test_half_a_question_is_not_learned(tmp_path: Path) -> None:
    lines = [f"Where is room {n}?|Upstairs." for n in range(40)]
    lines[9] = "May it be taken\r\nwith food?|No."
    lines[20] = "Who pays?"  # a question without an answer breaks nothing
    texts, reasons = made(tmp_path, read(tmp_path, csv("question|answer", *lines)))
    assert [question for question, _ in texts] == [
        f"Where is room {n}?" for n in range(40) if n not in (8, 9, 20)
    ]
    assert Counter(reasons) == {"broken_row": 3, "empty_answer": 1}


def test_a_break_within_a_middle_cell_of_a_single_row(tmp_path: Path) -> None:
    lines = [f"Where is room {n}?|Upstairs.|Ann" for n in range(40)]
    lines[9] = "Where is room 9?|Give 5 mg\r\nTwice a day.|Ann"
    texts, reasons = made(tmp_path, read(tmp_path, csv("question|answer|by", *lines)))
    assert len(texts) == 39
    assert reasons == ["broken_row", "broken_row"]


def test_line_ends_within_cells_are_written_as_everywhere(tmp_path: Path) -> None:
    found = read(tmp_path, csv("question,answer", 'When?,"At 8.\r\nOr 9."', 'Who?,"A\rB"'))
    assert [row.values["answer"] for row in found.preview] == ["At 8.\nOr 9.", "A\nB"]


def test_a_person_may_name_the_row_or_say_that_there_is_none(tmp_path: Path) -> None:
    content = csv("a1,b1", "Heading one,Heading two", *(f'{q},"{a}"' for q, a in PAIRS))
    chosen = read(tmp_path, content, header_row=2)
    assert (chosen.columns, chosen.num_rows) == (["Heading one", "Heading two"], 3)
    assert propose(chosen).mapping.header_row == 2
    none = read(tmp_path, content, header_row=0)
    assert (none.columns, none.num_rows, none.has_header) == (["Column 1", "Column 2"], 5, False)
    with pytest.raises(Unreadable, match="There is nothing in line 9"):
        read(tmp_path, content, header_row=9)


def test_what_was_read_before_rows_had_numbers_is_read_as_then(tmp_path: Path) -> None:
    content = csv("Title,", "question,answer", *(f'{q},"{a}"' for q, a in PAIRS))
    old = read(tmp_path, content).model_copy(update={"header_row": None})
    again = inspect(tmp_path / "file", old.read_as(ReadAs()), lambda rows: None)
    assert again.columns == ["Title", "Column 2"]
    assert old.read_as(ReadAs()).hidden == "take_in"


def test_a_second_table_below_is_read_by_its_own_order_of_names(tmp_path: Path) -> None:
    content = workbook(
        ("Frage", "Antwort"),
        *PAIRS,
        (),
        ("Station B",),
        ("Antwort", "Frage"),
        *((f"{a} Of B.", f"B: {q}") for q, a in PAIRS),
        ("Frage", "Antwort"),
        ("Last?", "The last."),
    )
    found = read(tmp_path, content)
    texts, reasons = made(tmp_path, found)
    assert texts == [
        *([q, a] for q, a in PAIRS),
        *([f"B: {q}", f"{a} Of B."] for q, a in PAIRS),
        ["Last?", "The last."],
    ]
    assert Counter(reasons) == {"header_again": 2, "empty_answer": 1}
    assert (
        "In row 7 the column names come again in another way (“Antwort”, “Frage”): what stands "
        "below was read by them."
    ) in found.warnings


def test_a_second_table_in_another_language_and_place(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        csv(
            "Nr;Question;Answer",
            *(f"{n};{q};{a}" for n, (q, a) in enumerate(PAIRS)),
            "Réponse;Question;Source",
            *(f"{a};{q};Book" for q, a in PAIRS),
        ),
    )
    texts, reasons = made(tmp_path, found)
    assert texts == [[q, a] for q, a in PAIRS * 2]
    assert reasons == ["header_again"]
    assert any("names do not have are not used (“Source”)." in said for said in found.warnings)


def test_a_word_and_what_it_means_is_no_second_header(tmp_path: Path) -> None:
    words = [("question", "Frage"), ("answer", "Antwort"), ("answer", "a reply"), ("q", "a")]
    found = read(tmp_path, csv("Question,Answer", *(f"{one},{other}" for one, other in words)))
    assert made(tmp_path, found)[0] == [list(pair) for pair in words]


def test_the_sheet_with_the_questions_is_read_and_not_the_cover(tmp_path: Path) -> None:
    table = [("Frage", "Antwort"), *PAIRS]
    for cover in (
        [("Hinweise zur Datei",)],
        [("Station", "Innere"), ("Stand", "Mai"), ("Version", "2")],
        [("Article", "Price"), ("Bed", "500"), ("Lamp", "50")],
    ):
        found = read(
            tmp_path,
            files.workbook({"Info": cover, "Fragen": table, "Preise": [("Artikel",), ("x",)]}),
        )
        assert (found.sheet, found.columns) == ("Fragen", ["Frage", "Antwort"])
        assert found.warnings == [
            "The workbook has 3 sheets; “Fragen” was read and the others were not."
        ]
    found = read(
        tmp_path, files.workbook({"Info": [("Notes",)], "Data": [("one", "two"), ("Bed", "500")]})
    )
    assert found.sheet == "Data"
    chosen = read(
        tmp_path, files.workbook({"Info": [("Notes",), ("Text",)], "Fragen": table}), sheet="Info"
    )
    assert chosen.sheet == "Info"


def test_a_stray_cell_far_to_the_right_is_counted_and_hinders_nothing(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in [("Frage", "Antwort"), *PAIRS]:
        sheet.append(row)
    sheet["XFD3"] = "x"
    stream = io.BytesIO()
    book.save(stream)
    found = read(tmp_path, stream.getvalue())
    assert made(tmp_path, found) == ([list(pair) for pair in PAIRS], [])
    assert found.warnings == [
        "1 cell stands further right than column 1,000 (row 3) and was not read."
    ]
    for number in range(1, 200):
        sheet.cell(1, 2000 + number, "name")
    stream = io.BytesIO()
    book.save(stream)
    with pytest.raises(Unreadable, match="has more than 1,000 columns"):
        read(tmp_path, stream.getvalue())


def test_names_by_which_columns_are_proposed_are_not_called_unknown(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("Libellé de la question;Réponse attendue\nCombien ?;Dix.\nQuand ?;Hier.\n")
    assert inspect(path, ReadAs(), lambda rows: None).warnings == []
