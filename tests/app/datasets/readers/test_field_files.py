"""What is right for the files of others that stand beside this repository, where they do."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import Invalid
from app.datasets.readers.inspections import ReadAs
from app.ops import data_command
from app.ops.data_command import Report

FOLDER = Path(__file__).parents[4] / "../shared/data/field"
pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="the field's files stand beside the project in its workshop alone"
)


def read(pattern: str, folder: Path, **chosen: Any) -> Report:
    (original,) = FOLDER.glob(pattern)
    path = shutil.copy(original, folder)
    return data_command.read(Path(path), ReadAs(**chosen), [], with_checks=False)


@pytest.mark.parametrize(
    ("pattern", "num_examples", "left_out", "noted"),
    [
        ("bug-08-*", 24, {}, {"placeholder": 14}),
        ("bug-15-*", 24, {}, {}),
        ("bug-18-*", 12, {}, {}),
        ("bug-19-*", 24, {}, {}),
        ("bug-24-*", 22, {"unknown_role": 2}, {}),
        ("bug-25-*", 24, {}, {}),
        ("bug-26-*", 24, {}, {}),
        ("bug-29-*", 24, {}, {}),
        ("bug-30-*", 20, {"not_text": 4}, {}),
        ("bug-31-*", 24, {}, {"reasoning": 24}),
        ("bug-32-*", 24, {}, {}),
        ("bug-33-*", 24, {}, {"control": 24}),
        ("bug-34-*", 24, {}, {}),
        (
            "bug-35-*",
            19,
            {"empty_answer": 4, "bad_messages": 3, "blank": 2, "empty_question": 1},
            {},
        ),
        ("bug-38-*", 23, {"bad_characters": 1}, {}),
        ("bug-42-*", 12, {}, {}),
        ("bug-43-*", 24, {}, {"column": 24}),
        ("extra-05a-*", 14, {}, {}),
        ("extra-05b-*", 24, {}, {}),
        ("extra-06-*", 24, {}, {"column": 24}),
        ("extra-09a-*", 1, {}, {}),
        ("extra-10a-*", 1, {}, {"column": 1}),
        ("var-x8-1-*", 24, {}, {}),
        ("var-08-*", 24, {}, {"placeholder": 24}),
        ("var-15-*", 24, {}, {}),
        ("var-18-*", 24, {}, {}),
        ("var-19-*", 24, {}, {}),
        ("var-24-*", 24, {}, {}),
        ("var-29-*", 24, {}, {}),
        ("var-30-*", 24, {}, {}),
        ("var-31-*", 24, {}, {}),
        ("var-33-*", 6, {}, {"control": 6}),
        ("var-34-*", 12, {"not_learned": 12}, {}),
        ("var-35-*", 12, {"empty_answer": 12}, {}),
        ("var-38-*", 24, {}, {}),
        ("var-42-*", 12, {}, {}),
        ("var-43-*", 24, {}, {}),
        ("var-x6-*", 24, {}, {}),
    ],
)
def test_a_file_of_the_field(
    pattern: str,
    num_examples: int,
    left_out: dict[str, int],
    noted: dict[str, int],
    tmp_path: Path,
) -> None:
    report = read(pattern, tmp_path)
    assert (report.num_examples, report.left_out) == (num_examples, left_out)
    assert {note.kind: note.count for note in report.inspection.notes} == noted


def test_a_person_says_who_the_students_are(tmp_path: Path) -> None:
    report = read("bug-24-*", tmp_path, roles={"student": "user", "Teacher": "assistant"})
    assert (report.num_examples, report.left_out) == (24, {})


@pytest.mark.parametrize("pattern", ["extra-08a-*", "extra-08c-*"])
def test_a_person_says_who_of_a_chat_is_the_assistant(pattern: str, tmp_path: Path) -> None:
    assert read(pattern, tmp_path).num_examples == 0
    report = read(pattern, tmp_path, speakers={"Office": "assistant", "Parent": "user"})
    assert report.num_examples == 1
    said = [turn["content"] for turn in report.examples[0]]
    assert said[0] == "When does the school library open?"
    assert said[1].startswith("At half past seven, on every school day.")
    assert not any("<p>" in text or "encrypted" in text for text in said)


def test_a_lesson_is_learned_without_times_and_by_the_one_who_answers(tmp_path: Path) -> None:
    (messages,) = read("extra-09a-*", tmp_path).examples
    assert [turn["role"] for turn in messages[:2]] == ["user", "assistant"]
    assert messages[0]["content"] == "When does the school library open?"
    assert not any("-->" in turn["content"] or "<v" in turn["content"] for turn in messages)


def test_a_quiz_and_cards_have_right_answers_alone(tmp_path: Path) -> None:
    for pattern in ("extra-05a-*", "extra-05b-*", "extra-06-*", "var-x6-*"):
        for messages in read(pattern, tmp_path).examples:
            joined = " ".join(turn["content"] for turn in messages)
            for wrong in ("Nobody knows", "On Sunday", "<", "[sound", "{{", "\t", "school\n"):
                assert wrong not in joined, pattern


def test_a_mail_answers_what_it_quotes(tmp_path: Path) -> None:
    (messages,) = read("extra-10a-*", tmp_path).examples
    assert messages[0]["content"].startswith("When does the school library open?")
    assert "Grüße" in messages[1]["content"]
    assert ">" not in messages[1]["content"]


@pytest.mark.parametrize("pattern", ["bug-06-*", "var-06-1-*"])
def test_a_backslash_before_a_quote_is_named_with_its_line(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(Invalid, match="Line 2 has a quote with a backslash before it"):
        read(pattern, tmp_path)
