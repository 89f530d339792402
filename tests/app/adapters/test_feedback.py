"""What people say of answers: who sees it, and how it becomes data, checked like any other."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters import conversations, feedback, lessons
from app.adapters.conversations import Column, Wish
from app.core import settings
from app.core.errors import AppError, Conflict, Forbidden, Invalid
from app.core.models import (
    Adapter,
    Beside,
    CheckStatus,
    Conversation,
    ConversationAnswer,
    DatasetCheck,
    DatasetVersion,
    Example,
    ExampleKind,
    Feedback,
    Finish,
    JobStatus,
    PrivacyReview,
    ReviewStatus,
    Role,
    Split,
    User,
)
from app.datasets import changes, deletion, examples
from app.datasets.changes import Change
from app.datasets.privacy import reviews
from tests.factories import make_adapter, make_dataset_version, make_job, make_user
from tests.worker.cpu.test_checking import check
from tests.worker.cpu.test_privacy import look, start


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def adapter(db: Session, owner: User) -> Adapter:
    return make_adapter(db, job=make_job(db, user=owner))


def version_of(adapter: Adapter) -> DatasetVersion:
    assert adapter.job is not None
    return adapter.job.version


def say(
    db: Session,
    user: User,
    adapter: Adapter,
    question: str,
    answer: str = "Hm.",
    *,
    thumb: int | None = None,
    better: str | None = None,
    example_index: int | None = None,
    conversation: Conversation | None = None,
) -> ConversationAnswer:
    """Ask, be answered, and say something of the answer."""
    turn = conversations.add_turn(
        db,
        user,
        adapter,
        conversation,
        Wish(Beside.NOBODY, None, "", 0.0),
        question,
        [Column(0, "Your trained model", adapter.id)],
        example_index=example_index,
    )
    row = turn.answers[0]
    row.text, row.finish = answer, Finish.STOP
    db.flush()
    conversations.judge(db, user, row, thumb, better)
    db.commit()
    return row


def ids(db: Session) -> list[int]:
    return list(db.scalars(select(Feedback.id).order_by(Feedback.id)))


def make(
    db: Session, user: User, adapter: Adapter, chosen: Sequence[int] | None = None, **how: Any
) -> lessons.Made:
    made = lessons.make(db, user, adapter, ids(db) if chosen is None else chosen, **how)
    db.commit()
    return made


def rows(db: Session, version: DatasetVersion, split: Split | None = None) -> dict[int, Any]:
    return {
        row["index"]: row["messages"]
        for batch in examples.stream(db, version, split)
        for row in batch
    }


# --- collected --------------------------------------------------------------------------------


def test_one_question_and_answer_is_given_and_taken_back(
    db: Session, owner: User, adapter: Adapter
) -> None:
    colleague = make_user(db)
    first = say(db, colleague, adapter, "My secret")
    assert ids(db) == []
    second = say(
        db, colleague, adapter, "When?", "At two.", thumb=-1, conversation=first.turn.conversation
    )
    (row,) = feedback.collected(db, owner, adapter)
    assert (row.question, row.answer, row.thumb, row.is_follow_up) == ("When?", "At two.", -1, True)
    conversations.judge(db, colleague, second, None, "At three.")
    db.refresh(row)
    assert (row.thumb, row.better) == (None, "At three.")
    conversations.judge(db, colleague, second, None, None)
    assert feedback.collected(db, owner, adapter) == []
    conversations.judge(db, colleague, second, 1, None)
    conversations.open_answer(db, second)  # asked again: nobody has judged this one
    assert feedback.count(db, adapter) == 0


def test_it_goes_with_a_conversation_that_is_deleted_and_stays_when_its_time_is_over(
    db: Session, owner: User, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = say(db, owner, adapter, "Delete me", thumb=1)
    say(db, owner, adapter, "When?", thumb=1)
    conversations.delete(db, owner, gone.turn.conversation)
    assert [row.question for row in feedback.collected(db, owner, adapter)] == ["When?"]
    monkeypatch.setattr(settings.get(), "conversation_days", 0)
    assert conversations.forget_old(db) == 1
    db.commit()
    db.expire_all()
    (row,) = feedback.collected(db, owner, adapter)
    assert (row.question, row.answer_id) == ("When?", None)


def test_only_those_who_may_change_the_data_see_it(db: Session, adapter: Adapter) -> None:
    say(db, make_user(db), adapter, "When?", better="At three.")
    viewer = make_user(db, role=Role.VIEWER)
    for refused in (
        lambda: feedback.collected(db, viewer, adapter),
        lambda: feedback.leave_out(db, viewer, adapter, ids(db)),
        lambda: lessons.make(db, viewer, adapter, ids(db), as_pairs=False),
    ):
        with pytest.raises(Forbidden):
            refused()
    member = make_user(db)
    assert len(feedback.collected(db, member, adapter)) == 1
    feedback.leave_out(db, member, adapter, ids(db))
    assert feedback.count(db, adapter) == 0


# --- as examples ------------------------------------------------------------------------------


def test_corrections_become_examples_of_a_version_that_is_checked_and_gated(
    db: Session, owner: User, adapter: Adapter
) -> None:
    base = version_of(adapter)
    say(db, make_user(db), adapter, "Who is on call?", "Nobody.", better="Call Dr. Anna Weber.")
    say(db, owner, adapter, "Thumbs say nothing here", thumb=1)
    made = make(db, owner, adapter, as_pairs=False)
    assert (made.num_used, made.held_out) == (1, None)
    assert made.version.base_version_id == base.id
    assert (made.version.num_train, made.version.num_validation) == (21, 4)
    new = rows(db, made.version)[24]
    assert new[-2:] == [
        {"role": "user", "content": "Who is on call?"},
        {"role": "assistant", "content": "Call Dr. Anna Weber."},
    ]
    # The doctor looks at it, and no job takes it before somebody has decided.
    check = db.scalars(select(DatasetCheck).where(DatasetCheck.version_id == made.version.id)).one()
    assert check.status is CheckStatus.WAITING
    review = db.scalars(
        select(PrivacyReview).where(PrivacyReview.version_id == made.version.id)
    ).one()
    assert review.decision is None
    # What is data is not taken again; what was not used is still there.
    assert [row.question for row in feedback.collected(db, owner, adapter)] == [
        "Thumbs say nothing here"
    ]
    used = db.scalars(select(Feedback).where(Feedback.used_at.is_not(None))).one()
    assert used.used_version_id == made.version.id
    with pytest.raises(Invalid, match="None of these"):
        lessons.make(db, owner, adapter, ids(db), as_pairs=False)
    db.rollback()
    with pytest.raises(Invalid, match="not taken again"):
        lessons.make(db, owner, adapter, [used.id], as_pairs=False)
    db.rollback()
    # The next ones come on top of these.
    say(db, owner, adapter, "And at night?", better="The house doctor.")
    again = make(db, owner, adapter, as_pairs=False)
    assert sorted(set(rows(db, again.version)) - set(rows(db, base))) == [24, 25]


def test_of_two_corrections_of_one_question_the_later_counts(
    db: Session, owner: User, adapter: Adapter
) -> None:
    say(db, owner, adapter, "When?", better="At two.")
    say(db, owner, adapter, "  WHEN? ", better="At three.")
    made = make(db, owner, adapter, as_pairs=False)
    assert made.num_used == 2
    assert [
        messages[-1]["content"] for index, messages in rows(db, made.version).items() if index > 23
    ] == ["At three."]
    assert feedback.count(db, adapter) == 0


@pytest.mark.parametrize("index", [20, 25])  # one that checks, and one that tests
def test_a_correction_of_what_is_kept_from_practice_is_never_practised(
    db: Session, owner: User, index: int
) -> None:
    base = make_dataset_version(db, user=owner, num_train=20, num_validation=4, num_test=4)
    adapter = make_adapter(db, job=make_job(db, user=owner, version=base))
    question = rows(db, base)[index][0]["content"]
    say(db, owner, adapter, question.upper(), better="Right.")
    made = make(db, owner, adapter, as_pairs=False).version
    assert (made.num_train, made.num_validation, made.num_test) == (20, 4, 4)
    assert rows(db, made)[index][-1]["content"] == "Right."
    split = Split.VALIDATION if index == 20 else Split.TEST
    assert index in rows(db, made, split)
    say(db, owner, adapter, question, "Wrong.", better="Still right.")
    for number in range(10):
        say(db, owner, adapter, f"Free question {number}", "No.", better=f"Yes, {number}.")
    pairs = make(db, owner, adapter, as_pairs=True).version
    assert "Still right." in str(rows(db, pairs, split))
    assert (pairs.num_train, pairs.num_validation, pairs.num_test) == (
        (9, 1, 1) if index == 20 else (9, 0, 2)
    )


def test_what_checks_is_corrected_where_the_tests_are_a_version_of_their_own(
    db: Session, owner: User
) -> None:
    base = make_dataset_version(db, user=owner, num_train=20, num_validation=4, num_test=4)
    tests = make_dataset_version(db, user=owner, name="Tests")
    db.get_one(Example, (tests.id, 0)).messages = [
        {"role": "user", "content": "Only in the tests?"},
        {"role": "assistant", "content": "Old."},
    ]
    job = make_job(db, user=owner, version=base, validation_version_id=tests.id)
    adapter = make_adapter(db, job=job)
    asked = {"role": "user", "content": "Only to check?"}
    db.get_one(Example, (base.id, 20)).messages = [asked, {"role": "assistant", "content": "Old."}]
    db.commit()
    say(db, owner, adapter, "Only in the tests?", better="Right.", example_index=0)
    say(db, owner, adapter, "Only to check?", better="Right, too.")
    made = make(db, owner, adapter, as_pairs=False)
    assert made.held_out is not None
    assert rows(db, made.held_out)[0][-1]["content"] == "Right."
    assert rows(db, made.version, Split.VALIDATION)[20][-1]["content"] == "Right, too."
    assert "Right" not in str(rows(db, made.version, Split.TRAIN))
    assert made.version.num_rows == 28


@pytest.mark.parametrize("is_typed", [False, True])
def test_a_correction_of_a_test_question_changes_its_reference_and_is_never_practised(
    db: Session, owner: User, adapter: Adapter, is_typed: bool
) -> None:
    base = version_of(adapter)
    before = rows(db, base)
    question = before[21][0]["content"]
    if is_typed:  # by hand, in other letters
        say(db, owner, adapter, question.upper() + " ", better="Right.")
    else:
        say(db, owner, adapter, question, better="Right.", example_index=21)
    made = make(db, owner, adapter, as_pairs=False)
    assert (made.version.num_train, made.version.num_validation) == (20, 4)
    after = rows(db, made.version)
    assert after[21] == [before[21][0], before[21][1] | {"content": "Right."}]
    assert {index for index in after if after[index] != before[index]} == {21}
    assert "Right." not in str(rows(db, made.version, Split.TRAIN))
    # As a pair, too, it is one to test on.
    say(db, owner, adapter, question, "Wrong.", better="Still right.")
    for number in range(10):
        say(db, owner, adapter, f"Free question {number}", "No.", better=f"Yes, {number}.")
    pairs = make(db, owner, adapter, as_pairs=True).version
    practised = rows(db, pairs, Split.TRAIN)
    assert "Still right." not in str(practised)
    assert "Still right." in str(rows(db, pairs, Split.TEST))


def test_a_test_question_that_is_practised_by_now_is_left_alone(
    db: Session, owner: User, adapter: Adapter
) -> None:
    base = version_of(adapter)
    question = rows(db, base)[21][0]["content"]
    say(db, owner, adapter, question, better="Right.", example_index=21)
    changes.derive(db, owner, base, [Change(21, split=Split.TRAIN)], "moved")
    db.commit()
    with pytest.raises(Invalid):
        lessons.make(db, owner, adapter, ids(db), as_pairs=False)


def test_test_rows_of_another_dataset_are_corrected_there(
    db: Session, owner: User, adapter: Adapter
) -> None:
    assert adapter.job is not None
    tests = make_dataset_version(db, user=owner, name="Tests")
    message = [
        {"role": "user", "content": "Only in the tests?"},
        {"role": "assistant", "content": "Old."},
    ]
    row = db.get_one(Example, (tests.id, 0))
    row.messages = message
    adapter.job.validation_version_id = tests.id
    db.commit()
    say(db, owner, adapter, "Only in the tests?", better="Right.", example_index=0)
    say(db, owner, adapter, "When?", better="At three.")
    made = make(db, owner, adapter, as_pairs=False)
    assert made.held_out is not None
    assert rows(db, made.held_out)[0][-1]["content"] == "Right."
    assert "Right." not in str(rows(db, made.version))
    assert rows(db, made.version)[24][-1]["content"] == "At three."
    assert made.num_used == 2


def test_doctor_and_gate_look_at_what_people_wrote(
    db: Session, owner: User, adapter: Adapter
) -> None:
    contradicted = rows(db, version_of(adapter))[3][0]["content"]
    say(db, owner, adapter, contradicted, better="Rule 3 says something else.")
    say(db, owner, adapter, "Who is on call?", better="Mr Quillfeather, on 01632 960 123.")
    version = make(db, owner, adapter, as_pairs=False).version
    with pytest.raises(Conflict) as caught:
        start(db, owner, version)
    assert caught.value.code == "privacy_undecided"
    db.rollback()
    review = look(db, version)
    assert review.status is ReviewStatus.UNDECIDED
    assert review.found is not None
    assert review.found["name"] == 1
    assert 24 in {index for found in check(db, version).values() for index in found}
    reviews.decide(db, owner, version, reviews.Decision(default="keep", reason="Our own house."))
    db.commit()
    start(db, owner, version)


# --- as pairs ---------------------------------------------------------------------------------


def test_pairs_are_what_people_preferred(db: Session, owner: User, adapter: Adapter) -> None:
    say(db, owner, adapter, "When?", "At two.", thumb=-1)
    say(db, make_user(db), adapter, "when?", "At three.", thumb=1)
    say(db, owner, adapter, "Where?", "Here.", better="In room 4.")
    say(db, owner, adapter, "The same?", "Yes.", better=" yes. ")  # nothing is better there
    say(db, owner, adapter, "Alone", "Good.", thumb=1)
    with pytest.raises(Invalid, match="makes 2 pairs, and training needs at least 10"):
        lessons.make(db, owner, adapter, ids(db), as_pairs=True)
    db.rollback()
    for number in range(9):
        say(db, owner, adapter, f"Question {number}", "No.", better=f"Yes, {number}.")
    made = make(db, owner, adapter, as_pairs=True)
    version = made.version
    assert examples.kind(db, version) is ExampleKind.PREFERENCE
    assert (version.dataset_id, version.base_version_id) == (version_of(adapter).dataset_id, None)
    assert (version.num_train, version.num_validation, version.num_test) == (10, 0, 1)
    found = {
        (m[-2]["content"], m[-1]["content"], m[-1]["rejected"]) for m in rows(db, version).values()
    }
    assert {("Where?", "In room 4.", "Here."), ("When?", "At three.", "At two.")} < {
        (question[0].upper() + question[1:], better, worse) for question, better, worse in found
    }
    assert {row.question for row in feedback.collected(db, owner, adapter)} == {
        "The same?",
        "Alone",
    }
    # Few more are enough later: they join these.
    say(db, owner, adapter, "Later?", "No.", better="Yes, later.")
    later = make(db, owner, adapter, as_pairs=True).version
    assert later.base_version_id == version.id
    assert len(rows(db, later)) == 12
    # And examples go on from the examples.
    say(db, owner, adapter, "More?", better="A little.")
    assert (
        make(db, owner, adapter, as_pairs=False).version.base_version_id == version_of(adapter).id
    )


def test_of_plain_text_and_of_data_that_is_gone_nothing_is_made(db: Session, owner: User) -> None:
    text = make_dataset_version(db, user=owner, kind=ExampleKind.TEXT)
    writer = make_adapter(db, job=make_job(db, user=owner, version=text))
    say(db, owner, writer, "It began", better="with rain.")
    assert lessons.kinds(db, writer) == []
    with pytest.raises(Invalid):
        lessons.make(db, owner, writer, ids(db), as_pairs=False)
    db.rollback()
    over = make_job(db, user=owner, status=JobStatus.SUCCEEDED, finished_at=datetime.now(UTC))
    other = make_adapter(db, job=over)
    say(db, owner, other, "When?", better="At three.")
    deletion.delete_dataset(db, owner, version_of(other).dataset)
    db.commit()
    with pytest.raises(AppError):
        lessons.make(db, owner, other, ids(db), as_pairs=False)


def test_what_is_said_anew_of_used_feedback_counts_again(
    db: Session, owner: User, adapter: Adapter
) -> None:
    row = say(db, owner, adapter, "When?", better="At three.")
    make(db, owner, adapter, as_pairs=False)
    conversations.judge(db, owner, row, 1, "At three.")  # nothing new was said
    assert feedback.count(db, adapter) == 0
    conversations.judge(db, owner, row, 1, "At four.")
    assert feedback.count(db, adapter) == 1
    db.commit()


def test_feedback_of_another_adapter_is_never_taken(
    db: Session, owner: User, adapter: Adapter
) -> None:
    other = make_adapter(db, job=make_job(db, user=owner))
    say(db, owner, other, "When?", better="At three.")
    with pytest.raises(Invalid):
        lessons.make(db, owner, adapter, ids(db), as_pairs=False)
    feedback.leave_out(db, owner, adapter, ids(db))
    assert db.scalar(select(func.count()).select_from(Feedback)) == 1
