"""What is right for the files of others that stand beside this repository, where they do."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.datasets.readers.reading import ReadAs
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
        ("bug-24-*", 22, {"unknown_role": 2}, {}),
        ("bug-25-*", 24, {}, {}),
        ("bug-29-*", 24, {}, {}),
        ("bug-30-*", 20, {"not_text": 4}, {}),
        ("bug-31-*", 24, {}, {"reasoning": 24}),
        ("bug-33-*", 24, {}, {"control": 24}),
        ("bug-34-*", 24, {}, {}),
        (
            "bug-35-*",
            19,
            {"empty_answer": 4, "bad_messages": 3, "blank": 2, "empty_question": 1},
            {},
        ),
        ("bug-38-*", 23, {"bad_characters": 1}, {}),
        ("var-08-*", 24, {}, {"placeholder": 24}),
        ("var-24-*", 24, {}, {}),
        ("var-29-*", 24, {}, {}),
        ("var-30-*", 24, {}, {}),
        ("var-31-*", 24, {}, {}),
        ("var-33-*", 6, {}, {"control": 6}),
        ("var-34-*", 12, {"not_learned": 12}, {}),
        ("var-35-*", 12, {"empty_answer": 12}, {}),
        ("var-38-*", 24, {}, {}),
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
