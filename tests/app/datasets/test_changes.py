"""A derived version holds what changed and reads like a whole one, however long the chain."""

import hashlib
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.orm import Session

from app.core import db as database
from app.core import migrations
from app.core.errors import Conflict, Forbidden, Invalid
from app.core.models import (
    AuditEvent,
    DatasetVersion,
    Example,
    Role,
    Split,
    VersionStatus,
)
from app.datasets import browsing, changes, comparing, deletion, examples, parts
from app.datasets.changes import Addition, Change
from tests.factories import first_user, make_dataset_version, make_user


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]


def derive(
    db: Session, base: DatasetVersion, *made: Change, why: str = "by hand"
) -> DatasetVersion:
    version = changes.derive(db, base.dataset.owner, base, made, why)
    db.commit()
    return version


def own_rows(db: Session, version: DatasetVersion) -> int:
    query = select(func.count()).select_from(Example).where(Example.version_id == version.id)
    return db.scalars(query).one()


def questions(db: Session, version: DatasetVersion, split: Split | None = None) -> dict[int, str]:
    return {
        row["index"]: row["messages"][0]["content"]
        for batch in examples.stream(db, version, split)
        for row in batch
    }


def chain(db: Session) -> list[DatasetVersion]:
    """Four versions of 24 examples: edited, moved and removed, and changed again on top."""
    first = make_dataset_version(db)
    second = derive(db, first, Change(3, said("three")), Change(23, is_removed=True))
    third = derive(db, second, Change(3, is_removed=True), Change(0, split=Split.VALIDATION))
    fourth = derive(db, third, Change(0, said("zero")), Change(20, split=Split.TRAIN))
    return [first, second, third, fourth]


def test_a_version_is_its_base_plus_what_changed(db: Session) -> None:
    first, second, third, fourth = chain(db)
    assert [own_rows(db, each) for each in (first, second, third, fourth)] == [24, 2, 2, 2]
    assert (fourth.number, fourth.base_version_id, fourth.status) == (
        4,
        third.id,
        VersionStatus.READY,
    )
    assert fourth.ready_at is not None
    before = {index: f"What is rule {index}?" for index in range(24)}
    assert questions(db, first) == before
    after = {index: text for index, text in before.items() if index not in (3, 23)}
    assert questions(db, second) == {**after, 3: "three"}
    assert questions(db, third) == after
    assert questions(db, fourth) == {**after, 0: "zero"}
    assert list(questions(db, fourth)) == sorted(after), "in order"
    assert questions(db, fourth, Split.VALIDATION) == {
        0: "zero",
        **{i: before[i] for i in (21, 22)},
    }
    for version, numbers in zip(
        (first, second, third, fourth), [(20, 4), (20, 3), (18, 4), (19, 3)], strict=True
    ):
        assert (version.num_train, version.num_validation) == numbers
        assert tuple(examples.count(db, version, split) for split in Split) == (*numbers, 0)
        # The base has two parts, and so has what is derived from it.
        assert version.num_test is None


def test_pages_follow_one_another_by_the_index(db: Session) -> None:
    fourth = chain(db)[-1]
    whole = list(questions(db, fourth))
    seen, after = [], -1
    while page := examples.page(db, fourth, after=after, limit=5):
        seen += [example.index for example in page]
        after = page[-1].index
    assert seen == whole
    assert [e.index for e in examples.page(db, fourth, offset=3, limit=2)] == whole[3:5]
    held_out = examples.page(db, fourth, Split.VALIDATION, after=0, limit=1)
    assert [example.index for example in held_out] == [21]
    assert examples.get(db, fourth, 3) is None
    zero = examples.get(db, fourth, 0)
    assert zero is not None
    assert (zero.messages[0]["content"], zero.split) == ("zero", Split.VALIDATION)
    assert [e.index for e in examples.at(db, fourth, [23, 22, 3, 1])] == [1, 22]
    sizes = examples.sample_sizes(db, fourth, 6)
    assert list(sizes) == [0, 4, 8, 12, 16, 20]
    assert sizes[0] < sizes[12]  # "zero" is shorter than what stood there before


def test_a_long_chain_is_streamed_in_batches(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "STREAM_ROWS", 3)
    version = make_dataset_version(db)
    for number in range(12):
        version = derive(db, version, Change(number, said(f"again {number}")))
    found = questions(db, version)
    assert list(found) == list(range(24))
    assert [found[i] for i in (0, 11, 12)] == ["again 0", "again 11", "What is rule 12?"]
    assert own_rows(db, version) == 1


def test_the_hash_is_that_of_the_examples_whoever_wrote_them(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_dataset_version(db)
    derived = derive(db, base, Change(0, is_removed=True))
    by_hand = hashlib.sha256()
    for index in range(1, 24):
        split = "train" if index < 20 else "validation"
        body = (
            f'[{{"content":"What is rule {index}?","role":"user"}},'
            f'{{"content":"Rule {index} says: wash your hands.","role":"assistant"}}]'
        )
        by_hand.update(f"{split} {body}\n".encode())
    assert derived.examples_sha256 == by_hand.hexdigest()
    monkeypatch.setattr(changes, "MAX_HASHED_AT_ONCE", 5)
    assert derive(db, base, Change(0, is_removed=True)).examples_sha256 is None


def test_what_was_done_is_kept_in_words_and_audited(db: Session) -> None:
    version = derive(
        db,
        make_dataset_version(db),
        Change(1, said("one"), Split.VALIDATION),
        Change(2, is_removed=True),
        why="checked by hand",
    )
    counts = {"num_edited": 1, "num_moved": 1, "num_removed": 1}
    assert version.changes == {"why": "checked by hand", **counts}
    assert changes.described(version) == "1 example edited, 1 example moved, 1 example left out"
    event = db.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.action, event.subject) == ("dataset.derive", f"dataset version {version.id}")
    assert event.detail == {
        "base": version.base_version_id,
        "why": "checked by hand",
        **counts,
    }


def test_what_cannot_be_derived(db: Session) -> None:
    base = make_dataset_version(db)
    user = first_user(db)
    same = examples.get(db, base, 0)
    assert same is not None
    for made, kind, words in (
        ([Change(0, same.messages, Split.TRAIN)], Invalid, "Nothing would change"),
        ([Change(24, said("x"))], Conflict, "Example 25 is no longer in this version"),
        ([Change(i, is_removed=True) for i in range(20)], Invalid, "leave 0 examples in the pr"),
        ([Change(0, split=Split.TEST)], Invalid, "only a practice set and a test set"),
    ):
        with pytest.raises(kind, match=words):
            changes.derive(db, user, base, made, "x")
        db.rollback()
    with pytest.raises(Forbidden):
        changes.derive(db, make_user(db, role=Role.VIEWER), base, [Change(0, is_removed=True)], "x")
    waiting = make_dataset_version(db, status=VersionStatus.BUILDING, lease_until=datetime.now(UTC))
    with pytest.raises(Conflict, match="ready"):
        changes.derive(db, user, waiting, [Change(0, is_removed=True)], "x")
    assert len(base.dataset.versions) == 1
    deletion.delete_dataset(db, user, base.dataset)
    with pytest.raises(Conflict):
        changes.derive(db, user, base, [Change(0, is_removed=True)], "x")


def test_rows_move_between_three_parts(db: Session) -> None:
    base = make_dataset_version(db, num_train=20, num_validation=4, num_test=6)
    moved = [
        Change(0, split=Split.VALIDATION),
        Change(1, split=Split.TEST),
        Change(20, split=Split.TEST),
        Change(24, split=Split.TRAIN),
        Change(25, is_removed=True),
    ]
    made = changes.derive(db, first_user(db), base, moved, "x")
    db.commit()
    assert made.changes is not None
    assert (made.changes["num_moved"], made.changes["num_removed"]) == (4, 1)
    assert (made.num_train, made.num_validation, made.num_test) == (19, 4, 6)
    for split in Split:
        assert examples.count(db, made, split) == parts.count(made, split)
    assert sorted(questions(db, made, Split.TEST)) == [1, 20, 26, 27, 28, 29]
    # The base stays as it was.
    assert (base.num_train, base.num_validation, base.num_test) == (20, 4, 6)
    assert sorted(questions(db, base, Split.TEST)) == list(range(24, 30))
    with pytest.raises(
        Invalid, match=r"0 examples in the practice set, 4 .*check set and 6 .*test"
    ):
        changes.derive(
            db, first_user(db), base, [Change(i, is_removed=True) for i in range(20)], "x"
        )


def test_deleting_a_dataset_takes_all_layers(db: Session) -> None:
    fourth = chain(db)[-1]
    deletion.delete_dataset(db, fourth.dataset.owner, fourth.dataset)
    db.commit()
    assert db.scalar(select(func.count()).select_from(Example)) == 0


def test_without_layers_a_derived_version_has_all_rows_itself(
    db: Session, owner: Connection
) -> None:
    third = chain(db)[2]
    before = questions(db, third)
    db.commit()
    migrations.downgrade(owner.engine, "0001")
    assert "layers" not in {
        c["name"] for c in inspect(database.engine()).get_columns("dataset_version")
    }
    migrations.upgrade(owner.engine)
    db.expire_all()
    assert third.layers is None
    assert questions(db, third) == before


def test_new_examples_stand_behind_all_others(db: Session) -> None:
    first = make_dataset_version(db)
    owner = first.dataset.owner
    added = [Addition(said("new")), Addition(said("tested"), Split.VALIDATION, {"feedback": 7})]
    second = changes.derive(db, owner, first, [Change(23, is_removed=True)], "said", added=added)
    db.commit()
    assert questions(db, second) == {
        **{index: text for index, text in questions(db, first).items() if index != 23},
        24: "new",
        25: "tested",
    }
    assert (second.num_train, second.num_validation) == (21, 4)
    assert changes.described(second) == "2 examples added, 1 example left out"
    assert [row.index for row in examples.page(db, second, after=22)] == [24, 25]
    assert examples.kind(db, second) is examples.kind(db, first)
    assert browsing.page(db, second, browsing.Wish(words="tested")).examples[0].index == 25
    differences, _ = comparing.page(db, first, second)
    assert [(one.index, one.how) for one in differences] == [
        (23, comparing.How.LEFT_OUT),
        (24, comparing.How.ADDED),
        (25, comparing.How.ADDED),
    ]
    # What is added to that again comes behind, also where the last one was left out.
    third = derive(db, second, Change(25, is_removed=True))
    fourth = changes.derive(db, owner, third, [], "said", added=[Addition(said("last"))])
    assert max(questions(db, fourth)) == 26
    assert examples.sha256(db, fourth) == fourth.examples_sha256
