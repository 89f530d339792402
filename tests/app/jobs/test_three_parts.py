"""What a job does with practice, check and test rows, and what is said of it afterwards."""

import pytest
from sqlalchemy.orm import Session

from app.adapters import conversations, model_card
from app.core.errors import Invalid
from app.core.models import Adapter, Example, ExampleKind, Job, JobEvent, JobStatus, User
from app.jobs import cuts, practice
from app.training.events import DoneEvent
from app.training.plan.shape import LengthHistogram
from tests.factories import make_adapter, make_dataset_version, make_job, make_user

DONE = DoneEvent(
    at=0, best_step=8, validation_loss_before=2, validation_loss_after=1, train_loss=1,
    trained_tokens=1, peak_memory_bytes=1, train_seconds=1, stopped_early=True,
)  # fmt: skip


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db)


def rows_of(db: Session, version_id: int, first: int, number: int) -> list[list[dict[str, str]]]:
    rows = [db.get_one(Example, (version_id, index)) for index in range(first, first + number)]
    return [row.messages for row in rows]


def finished(db: Session, owner: User, **columns: object) -> Job:
    return make_job(db, user=owner, status=JobStatus.SUCCEEDED, **columns)  # type: ignore[arg-type]


def asked_of(db: Session, owner: User, adapter: Adapter) -> list[int]:
    known = conversations.source(db, owner, adapter)
    asked = conversations.held_out(db, known, after=-1, limit=100)
    return [one.index for one in asked]


def test_only_test_rows_are_the_test_questions_of_the_ask_page(db: Session, owner: User) -> None:
    version = make_dataset_version(db, user=owner, num_train=20, num_validation=5, num_test=6)
    adapter = make_adapter(db, job=finished(db, owner, version=version))
    assert asked_of(db, owner, adapter) == list(range(25, 31))
    known = conversations.source(db, owner, adapter)
    assert conversations.held_out_at(db, known, 22) is None  # it has helped to choose
    assert conversations.held_out_at(db, known, 25) is not None
    two = make_dataset_version(db, user=owner, num_train=20, num_validation=4)
    before = make_adapter(db, job=finished(db, owner, version=two))
    assert asked_of(db, owner, before) == [20, 21, 22, 23]


def test_with_tests_of_its_own_a_job_practises_all_but_what_checks(
    db: Session, owner: User
) -> None:
    version = make_dataset_version(db, user=owner, num_train=20, num_validation=5, num_test=6)
    tests = make_dataset_version(db, user=owner, num_train=40, num_validation=0)
    job = finished(db, owner, version=version, validation_version_id=tests.id)
    adapter = make_adapter(db, job=job)
    known = practice.known(db, adapter)
    assert known is not None
    assert len(known.rows) == 26
    assert all(row in known.rows for row in rows_of(db, version.id, 0, 20))
    assert not any(row in known.rows for row in rows_of(db, version.id, 20, 5))
    assert all(row in known.rows for row in rows_of(db, version.id, 25, 6))
    # What it has practised, word for word, is no question to test it with.
    assert asked_of(db, owner, adapter) == [*range(20, 25), *range(31, 40)]


def test_of_two_parts_it_practises_all_as_before(db: Session, owner: User) -> None:
    version = make_dataset_version(db, user=owner, num_train=20, num_validation=4)
    tests = make_dataset_version(db, user=owner)
    job = finished(db, owner, version=version, validation_version_id=tests.id)
    known = practice.known(db, make_adapter(db, job=job))
    assert known is not None
    assert len(known.rows) == 24
    assert practice.chosen_by(job) == "test"


def test_new_test_rows_are_asked_for_and_not_new_check_rows(db: Session, owner: User) -> None:
    first = make_adapter(db, job=finished(db, owner))  # has practised the rows 0 to 19
    version = make_dataset_version(db, user=owner, num_train=2, num_validation=0, num_test=18)
    with pytest.raises(Invalid, match="of the 18 to test on, none would be new"):
        practice.require_new_rows(db, first, version, None)
    # Here those that check are known to it, and those that test are not.
    version = make_dataset_version(db, user=owner, num_train=2, num_validation=18, num_test=8)
    practice.require_new_rows(db, first, version, None)


def test_a_plan_counts_what_is_practised_and_what_checks(db: Session, owner: User) -> None:
    version = make_dataset_version(db, user=owner, num_train=80, num_validation=10, num_test=24)
    tests = make_dataset_version(db, user=owner, num_train=30, num_validation=0)
    assert practice.sizes_of(version, None) == practice.Sizes(80, 10, 24)
    assert practice.sizes_of(version, tests) == practice.Sizes(104, 10, 30)
    lengths = LengthHistogram.from_lengths([10, 30], 80, 10)
    more = lengths.of_so_many(104, 10)
    assert (more.num_train, more.num_validation, more.total_tokens) == (104, 10, 114 * 20)
    assert more.mean_tokens == lengths.mean_tokens == 20


@pytest.mark.parametrize(
    ("sizes", "examples", "words", "set_name"),
    [
        ((96, 12, 24), "96 to practise, 12 to check, 24 to test", "which chose\nthe step", "Check"),
        ((20, 4, None), "20 to practise, 4 to test", "It chose the step\nas well", "Test"),
        ((36, 0, 4), "36 to practise, 4 to test", "the adapter is that of the last", "Practice"),
    ],
)
def test_the_card_says_what_chose(
    db: Session,
    owner: User,
    sizes: tuple[int, int, int | None],
    examples: str,
    words: str,
    set_name: str,
) -> None:
    num_train, num_validation, num_test = sizes
    version = make_dataset_version(
        db, user=owner, num_train=num_train, num_validation=num_validation, num_test=num_test
    )
    card = model_card.write(finished(db, owner, version=version), DONE)
    assert f"| Examples | {examples} |" in card
    assert words in card
    assert f"| {set_name} set, with this adapter (step 8) | 1.0000 |" in card


def test_the_card_counts_cut_practice_rows_apart(db: Session, owner: User) -> None:
    version = make_dataset_version(db, user=owner, num_train=96, num_validation=12, num_test=24)
    job = finished(db, owner, version=version)
    assert "| Cut |" not in model_card.write(job, DONE)
    cut = {"num_truncated": 1, "num_cut_tokens": 40, "num_checked_truncated": 0}
    db.add(JobEvent(job_id=job.id, seq=9, level="warn", kind="plan", message="m", data=cut))
    db.flush()
    card = model_card.write(job, DONE)
    assert "| Cut | 1 practice example is too long and is cut" in card
    assert "check example" not in card
    assert cuts.by_use(cuts.of_jobs(db, [job.id])[job.id], "check") == {
        "practice": {"examples": 1, "tokens": 40, "answers": 0},
        "check": {"examples": 0, "tokens": 0, "answers": 0},
    }


def test_a_card_of_plain_text_has_its_parts_too(db: Session, owner: User) -> None:
    version = make_dataset_version(
        db, user=owner, kind=ExampleKind.TEXT, num_train=50, num_validation=6, num_test=7
    )
    card = model_card.write(finished(db, owner, version=version), DONE)
    assert "50 to practise, 6 to check, 7 to test" in card
