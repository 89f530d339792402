"""Multiple choice: of several options none is learned as the answer but the right one."""

from pathlib import Path
from typing import Any

import pytest

from app.datasets.mapping import ColumnRole
from app.datasets.proposals import Proposal, propose
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect

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


@pytest.mark.parametrize("options", [("a", "b", "c"), ("Option A", "Option B", "Option C")])
@pytest.mark.parametrize("right", [None, "correct feedback", "Hinweis"])
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
