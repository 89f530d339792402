"""Where the rows come from that an export is proved by: never from what the model practised."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from app.core.models import Adapter, DatasetVersion, ExampleKind, JobStatus
from tests.factories import make_adapter, make_dataset_version, make_job
from worker.cpu import export_rows


def adapter_of(
    db: Session, version: DatasetVersion, validation: DatasetVersion | None = None
) -> Adapter:
    job = make_job(
        db,
        version=version,
        status=JobStatus.SUCCEEDED,
        finished_at=datetime.now(UTC),
        validation_version_id=validation.id if validation else None,
    )
    return make_adapter(db, job=job)


def numbers(found: export_rows.HeldOut) -> list[int]:
    """Which rules the questions are about: the rows' places in their version."""
    return [int(row["messages"][0]["content"].split()[-1][:-1]) for row in found.rows]


@pytest.mark.parametrize(
    ("num_test", "expected", "words"),
    [
        (3, [24, 25, 26], "test rows"),
        (0, [20, 21, 22, 23], "check rows, as there are no test rows"),
        (None, [20, 21, 22, 23], "test rows"),  # of before there were check parts
    ],
)
def test_rows_that_were_set_apart(
    db: Session, num_test: int | None, expected: list[int], words: str
) -> None:
    found = export_rows.held_out(db, adapter_of(db, make_dataset_version(db, num_test=num_test)))
    assert (numbers(found), found.words) == (expected, words)


def test_all_rows_of_data_that_were_given_for_it(db: Session) -> None:
    validation = make_dataset_version(db, name="Exam", num_train=2, num_validation=1)
    adapter = adapter_of(db, make_dataset_version(db, num_test=3), validation)
    found = export_rows.held_out(db, adapter)
    assert (numbers(found), found.words) == ([0, 1, 2], "test rows")


def test_of_pairs_the_preferred_answer_is_the_reference(db: Session) -> None:
    version = make_dataset_version(db, num_test=2, kind=ExampleKind.PREFERENCE)
    found = export_rows.held_out(db, adapter_of(db, version))
    assert [row["messages"][1] for row in found.rows] == [
        {"role": "assistant", "content": f"Rule {number} says: wash your hands."}
        for number in (24, 25)
    ]


@pytest.mark.parametrize("is_deleted", [True, False])
def test_general_questions_where_nothing_was_set_apart(db: Session, is_deleted: bool) -> None:
    version = make_dataset_version(
        db, num_test=3 if is_deleted else 0, num_validation=4 if is_deleted else 0
    )
    adapter = adapter_of(db, version)
    if is_deleted:
        version.dataset.deleted_at = datetime.now(UTC)
        db.commit()
    found = export_rows.held_out(db, adapter)
    assert len(found.rows) >= 10
    assert found.words == "general questions, as no rows of the data were set apart"
    assert all(row["messages"][1]["content"] for row in found.rows)
