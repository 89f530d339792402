"""Multiple choice: of several options none is learned as the answer but the right one."""

from pathlib import Path
from typing import Any

import pytest

from app.datasets.mapping import ColumnRole
from app.datasets.proposals import Proposal, propose
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect
from tests import files

LETTERS = "abca"


def read(folder: Path, content: str | bytes, **read_as: Any) -> Inspection:
    raw = content.encode() if isinstance(content, str) else content
    (folder / "file").write_bytes(raw)
    return inspect(folder / "file", ReadAs.model_validate(read_as), lambda rows: None)


def table(*names: str, right: str | None) -> str:
    """A table whose right options are “one”, “two”, “three”, “one”."""
    lines = [";".join([*names, *([right] if right else [])])]
    for n, letter in enumerate(LETTERS):
        cells = [f"What is {n}?", "one", "two", "three", *([letter] if right else [])]
        lines.append(";".join(cells))
    return "\n".join(lines) + "\n"


def roles(proposal: Proposal, role: ColumnRole) -> list[str]:
    return proposal.mapping.named(role)


@pytest.mark.parametrize(
    "right",
    [
        *("richtig ist", "Lösungsbuchstabe", "Richtige Option", "Lösung", "korrekt"),
        *("correct option", "Correct", "The correct one", "right choice", "correct_letter"),
        *("bonne réponse", "Réponse exacte", "respuesta correcta", "Opción correcta", "clave"),
        *("risposta esatta", "juiste antwoord", "rätt"),
    ],
)
def test_a_column_says_which_option_is_right(tmp_path: Path, right: str) -> None:
    found = read(tmp_path, table("Frage", "a", "b", "c", right=right))
    assert [row.values["answer"] for row in found.preview] == ["one", "two", "three", "one"]
    assert propose(found).is_sure


@pytest.mark.parametrize("other", ["Lösungsweg", "nicht richtig", "correct feedback"])
def test_a_column_beside_it_says_something_else(tmp_path: Path, other: str) -> None:
    lines = [f"Frage;a;b;c;{other};Richtig ist"]
    lines += [f"What is {n}?;one;two;three;b;{letter}" for n, letter in enumerate("acac")]
    found = read(tmp_path, "\n".join(lines) + "\n")
    assert [row.values["answer"] for row in found.preview] == ["one", "three", "one", "three"]


@pytest.mark.parametrize("options", [("a", "b", "c"), ("Option A", "Option B", "Option C")])
@pytest.mark.parametrize("right", [None, "correct feedback", "Hinweis", "nicht richtig"])
def test_where_none_says_it_no_option_is_proposed(
    tmp_path: Path, options: tuple[str, ...], right: str | None
) -> None:
    found = read(tmp_path, table("Frage", *options, right=right))
    proposal = propose(found)
    assert roles(proposal, ColumnRole.QUESTION) == ["Frage"]
    assert roles(proposal, ColumnRole.ANSWER) == []
    assert "look like what people choose from" in proposal.why
    assert not proposal.is_sure


def test_the_kind_of_a_question_asks_nothing(tmp_path: Path) -> None:
    lines = ["question,question_type,a,b,answer"]
    lines += [f"What is {n}?,single,one,two,{LETTERS[n]}" for n in range(2)]
    found = read(tmp_path, "\n".join(lines) + "\n")
    assert [row.values["answer"] for row in found.preview] == ["one", "two"]


def test_two_columns_of_single_letters_are_no_options(tmp_path: Path) -> None:
    found = read(tmp_path, "q,a\n" + "".join(f"Where is {n}?,There\n" for n in range(3)))
    assert roles(propose(found), ColumnRole.ANSWER) == ["a"]


# --- documents -------------------------------------------------------------------------------


def word(*questions: tuple[str, ...]) -> bytes:
    """A document of questions and the lines below each; a line between stars is bold."""
    body = ""
    for asked, *lines in questions:
        body += files.paragraph(asked, "Heading1")
        for line in lines:
            shown = files.paragraph(line.strip("*"))
            is_bold = line.startswith("*")
            body += shown.replace("<w:r>", "<w:r><w:rPr><w:b/></w:rPr>") if is_bold else shown
    return files.docx(body)


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (("o 5 mg", "o 10 mg", "x 500 mg"), "500 mg"),
        (("O 5 mg", "X 10 mg", "O 500 mg"), "10 mg"),
        (("( ) 5 mg", "(x) 10 mg", "( ) 500 mg"), "10 mg"),
        (("☐ 5 mg", "☒ 10 mg", "☐ 500 mg"), "10 mg"),
        (("5 mg", "*10 mg*", "500 mg"), "10 mg"),
        (("a) 5 mg", "*b) 10 mg*", "c) 500 mg"), "10 mg"),
        (("*a) 5 mg*", "b) 10 mg", "c) 500 mg"), "5 mg"),
        # Several right ones, or none that could be told: nothing is learned.
        (("o 5 mg", "x 10 mg", "x 500 mg"), None),
        (("*5 mg*", "10 mg", "500 mg"), None),
        # One paragraph that is bold as a whole marks none of its options.
        (("*a) 5 mg b) 10 mg c) 500 mg*",), None),
        (("*a) 5 mg b) 10 mg*", "c) 500 mg"), None),
        # Other answers stay whole.
        (("o 5 mg", "o 10 mg", "o 500 mg"), "o 5 mg\n\no 10 mg\n\no 500 mg"),
        (("5 mg", "10 mg", "500 mg"), "5 mg\n\n10 mg\n\n500 mg"),
        (("5 mg a day.", "*Never more!*"), "5 mg a day.\n\nNever more!"),
        (("Each day:", "*5 mg*", "500 ml"), "Each day:\n\n5 mg\n\n500 ml"),
        (
            ("Call the ward.", "*Never give it twice!*", "Stay there."),
            "Call the ward.\n\nNever give it twice!\n\nStay there.",
        ),
        (("*5 mg*", "*10 mg*", "500 mg"), "5 mg\n\n10 mg\n\n500 mg"),
    ],
)
def test_the_right_option_in_a_document_alone_is_learned(
    tmp_path: Path, lines: tuple[str, ...], answer: str | None
) -> None:
    found = read(tmp_path, word(*((f"How much is it for {n}?", *lines) for n in range(3))))
    expected = [] if answer is None else [answer] * 3
    assert [row.values["answer"] for row in found.preview] == expected
    if answer is None:
        assert "nothing in it says which answers are right" in propose(found).why
        assert found.num_rows == 3


def test_a_text_that_has_options_says_so(tmp_path: Path) -> None:
    quiz = word(("How much?", "a) 5 mg", "b) 500 mg"), ("When?", "a) now", "b) later"))
    found = read(tmp_path, quiz)
    assert found.way == "text"
    assert "2 questions have options to choose from, and a plain text teaches" in found.warnings[0]
    assert read(tmp_path, word(("How much?", "5 mg"))).warnings == []
