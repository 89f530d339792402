"""The privacy gate through a real scanning process and a real PostgreSQL."""

import json
from typing import Any

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import Conflict, Forbidden, Invalid
from app.core.models import (
    AuditEvent,
    BaseModel,
    DatasetVersion,
    Example,
    Job,
    PrivacyFinding,
    PrivacyPattern,
    PrivacyReview,
    ReviewStatus,
    Role,
    User,
    VersionStatus,
)
from app.datasets import changes, deletion, examples
from app.datasets.changes import Change
from app.datasets.privacy import reviews
from app.datasets.privacy.findings import Kind
from app.datasets.privacy.reviews import Decision
from app.datasets.privacy.stand_ins import key_of
from app.jobs import protocol, requests
from app.training.config import PRESETS
from tests.factories import first_user, make_base_model, make_dataset_version, make_user
from worker.cpu import privacy

SAID = {
    0: ("Can Thyra Blomqvist come on Monday?", "Yes. Call Mrs Blomqvist on 01632 960 123."),
    1: ("Where is Thyra now?", "Thyra Blomqvist is on ward 7, room PX1234."),
    2: ("May Mr Quillfeather have breakfast?", "Mr Quillfeather may, after the blood test."),
}
TOOL = "Ask Mr Quillfeather of the kitchen."


def make_version(db: Session, **columns: Any) -> DatasetVersion:
    version = make_dataset_version(db, decided=False, **columns)
    for index, (question, answer) in SAID.items():
        row = db.get_one(Example, (version.id, index))
        row.messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    row = db.get_one(Example, (version.id, 2))
    row.tools = [{"type": "function", "function": {"name": "ask", "description": TOOL}}]
    db.add(PrivacyPattern(name="Room badge", kind="other", pattern=r"PX\d{4}"))
    reviews.begin(db, version.id)
    db.commit()
    return version


def review_of(db: Session, version: DatasetVersion) -> PrivacyReview:
    db.expire_all()
    review = reviews.of(db, version.id)
    assert review is not None
    return review


def look(db: Session, version: DatasetVersion) -> PrivacyReview:
    assert privacy.review_next("cpu-0")
    return review_of(db, version)


def start(db: Session, user: User, version: DatasetVersion, **more: Any) -> Job:
    model = db.scalars(select(BaseModel)).first() or make_base_model(db)
    job = requests.create(
        db, user, name="x", version_id=version.id, base_model_id=model.id,
        config=PRESETS["quick"].config, **more,
    )  # fmt: skip
    db.commit()
    return job


def events(db: Session, action: str) -> list[AuditEvent]:
    return list(db.scalars(select(AuditEvent).where(AuditEvent.action == action)))


def said(db: Session, version: DatasetVersion, index: int) -> list[str]:
    example = examples.get(db, version, index)
    assert example is not None
    return [turn["content"] for turn in example.messages]


def test_a_version_is_scanned_decided_and_replaced(db: Session) -> None:
    user = first_user(db)
    version = make_version(db)
    with pytest.raises(Conflict, match="is still being searched") as caught:
        start(db, user, version)
    assert (caught.value.code, f"/versions/{version.id}/privacy" in caught.value.message) == (
        "privacy_undecided",
        True,
    )
    db.rollback()
    review = look(db, version)
    assert (review.status, review.reason) == (ReviewStatus.UNDECIDED, None)
    assert review.found == {"name": 7, "phone": 1, "other": 1}
    assert review.num_examples == 3
    assert review.lease_until is None
    assert not privacy.review_next("cpu-0")
    top = reviews.values(db, version, Kind.NAME, 10)
    assert [(row.number, row.index) for row in top] == [(3, 2), (2, 0), (1, 0), (1, 1)]
    reviews.decide(db, user, version, Decision(kinds={Kind.OTHER: "blank"}))
    db.commit()
    review = look(db, version)
    assert review.status is ReviewStatus.REPLACED
    following = db.get_one(DatasetVersion, review.result_version_id)
    assert said(db, following, 0) == [
        "Can [Name 1] come on Monday?",
        "Yes. Call Mrs [Name 1] on [Phone number 1].",
    ]
    assert said(db, following, 1) == ["Where is [Name 1] now?", "[Name 1] is on ward 7, room ___."]
    assert said(db, following, 2)[0] == "May Mr [Name 2] have breakfast?"
    with_tools = examples.get(db, following, 2)
    assert with_tools is not None
    assert with_tools.tools is not None
    assert with_tools.tools[0]["function"]["description"] == "Ask Mr [Name 2] of the kitchen."
    assert said(db, following, 3) == said(db, version, 3)
    assert following.changes == {
        "why": "7 names and 1 phone number replaced by stand-ins, 1 site-specific detail blanked",
        "num_edited": 3,
        "num_moved": 0,
        "num_removed": 0,
    }
    done = review_of(db, following)
    assert (done.status, done.decided_by_id) == (ReviewStatus.DECIDED, user.id)
    assert start(db, user, following).version_id == following.id
    with pytest.raises(Conflict, match="taken out in version 2"):
        start(db, user, version)
    db.rollback()
    [event] = events(db, "privacy.decide")
    assert event.actor == user.email
    assert event.detail["found"] == {"name": 7, "phone": 1, "other": 1}
    assert event.detail["done"] == {
        "name": {"replace": 7},
        "phone": {"replace": 1},
        "other": {"blank": 1},
    }
    kept = json.dumps([each.detail for each in db.scalars(select(AuditEvent))])
    assert "Blomqvist" not in kept
    assert "960" not in kept


def test_a_later_version_is_asked_about_what_is_new_in_it_alone(db: Session) -> None:
    user = first_user(db)
    version = make_version(db)
    look(db, version)
    reviews.decide(db, user, version, Decision())
    db.commit()
    look(db, version)
    second = db.get_one(DatasetVersion, review_of(db, version).result_version_id)
    row = examples.get(db, second, 1)
    assert row is not None
    fresh = [{"role": "user", "content": "Is Mrs Okonjo-Bright in?"}, row.messages[1]]
    third = changes.derive(db, user, second, [Change(1, fresh)], "by hand")
    db.commit()
    assert reviews.of(db, third.id) is not None
    review = look(db, third)
    assert (review.status, review.found) == (ReviewStatus.UNDECIDED, {"name": 1})
    reviews.decide(db, user, third, Decision())
    db.commit()
    look(db, third)
    fourth = db.get_one(DatasetVersion, review_of(db, third).result_version_id)
    assert said(db, fourth, 1)[0] == "Is Mrs [Name 3] in?", "numbers go on: none means two people"
    # What holds nothing needs nobody.
    plain = [{"role": "user", "content": "Where is the ward?"}, row.messages[1]]
    fifth = changes.derive(db, user, fourth, [Change(1, plain)], "by hand")
    db.commit()
    assert look(db, fifth).status is ReviewStatus.DECIDED
    assert len(events(db, "privacy.clear")) == 1


def test_keeping_needs_a_reason_that_names_nobody_in_the_audit_log(db: Session) -> None:
    user = first_user(db)
    version = make_version(db)
    look(db, version)
    with pytest.raises(Invalid) as caught:
        reviews.decide(db, user, version, Decision(default="keep", reason="ok"))
    assert caught.value.field == "reason"
    with pytest.raises(Forbidden):
        reviews.decide(db, make_user(db, role=Role.VIEWER), version, Decision())
    reason = "Thyra Blomqvist, and Quillfeather too, are invented."
    reviews.decide(db, user, version, Decision(default="keep", reason=reason))
    db.commit()
    assert review_of(db, version).status is ReviewStatus.DECIDED
    [event] = events(db, "privacy.decide")
    assert event.detail["reason"] == "[name] and [name] too, are invented."
    assert start(db, user, version).version_id == version.id
    with pytest.raises(Conflict, match="not waiting for a decision"):
        reviews.decide(db, user, version, Decision())


def test_one_value_may_be_kept_where_its_kind_is_replaced(db: Session) -> None:
    user = first_user(db)
    version = make_version(db)
    look(db, version)
    key = key_of(Kind.NAME, "quillfeather")
    kept = Decision(values={key: "keep"}, reason="He wrote the leaflet.")
    reviews.decide(db, user, version, kept)
    db.commit()
    following = db.get_one(DatasetVersion, look(db, version).result_version_id)
    assert said(db, following, 2) == list(SAID[2])
    assert "Thyra" not in said(db, following, 1)[0]


def test_the_record_tells_what_was_kept_by_its_value_and_every_later_version_does(
    db: Session,
) -> None:
    user = first_user(db)
    version = make_version(db)
    look(db, version)
    # Of her names, the surname alone is kept: it stands in a row that changes beside it.
    key = key_of(Kind.NAME, "blomqvist")
    values: dict[str, reviews.Action] = {key: "keep", key_of(Kind.NAME, "quillfeather"): "keep"}
    reviews.decide(db, user, version, Decision(values=values, reason="They wrote the leaflet."))
    db.commit()
    review = look(db, version)
    assert (review.done or {})["name"] == {"replace": 3, "keep": 4}
    second = db.get_one(DatasetVersion, review.result_version_id)
    assert (second.changes or {})["why"] == (
        "3 names, 1 phone number and 1 site-specific detail replaced by stand-ins"
    )
    assert said(db, second, 0)[1] == "Yes. Call Mrs Blomqvist on [Phone number 1]."
    kept = {row.key: row.number for row in reviews.values(db, second, Kind.NAME, 10)}
    assert kept == {key: 1, key_of(Kind.NAME, "Quillfeather"): 3}
    [place] = reviews.places(db, second, [key], 3)
    text = said(db, second, 0)[place.text]
    assert text[place.start : place.end] == "Blomqvist", "where it stands now"
    assert (review_of(db, second).done, review_of(db, second).found) == (
        {"name": {"keep": 4}},
        {"name": 4},
    )
    # An edit elsewhere asks nobody, and forgets nothing.
    plain = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "Here."}]
    third = changes.derive(db, user, second, [Change(3, plain)], "by hand")
    db.commit()
    review = look(db, third)
    assert (review.status, review.done) == (ReviewStatus.DECIDED, {"name": {"keep": 4}})


def test_rows_may_be_left_out(db: Session) -> None:
    user = first_user(db)
    version = make_version(db)
    look(db, version)
    key = key_of(Kind.OTHER, "PX1234")
    decision = Decision(
        kinds={Kind.NAME: "keep"}, values={key: "leave_out"}, reason="All invented."
    )
    reviews.decide(db, user, version, decision)
    db.commit()
    review = look(db, version)
    second = db.get_one(DatasetVersion, review.result_version_id)
    assert examples.get(db, second, 1) is None
    assert second.num_rows == version.num_rows - 1
    assert (second.changes or {})["why"] == (
        "1 phone number replaced by stand-ins, 1 example left out"
    )
    assert said(db, second, 0)[0] == SAID[0][0]
    # What else stood in the row that went is not kept or replaced: it is gone.
    assert review.done is not None
    assert (review.done["name"], review.done["other"]) == (
        {"keep": 5, "leave_out": 2},
        {"leave_out": 1},
    )
    # The two names of the row that went stand nowhere any more.
    assert review_of(db, second).done == {"name": {"keep": 5}}


def test_leaving_out_too_much_is_said_at_once(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    version = make_version(db)
    look(db, version)
    monkeypatch.setenv("ETUDE_MIN_EXAMPLES", str(version.num_rows - 1))
    settings.get.cache_clear()
    with pytest.raises(Invalid, match="Leaving out 3 examples would leave") as caught:
        reviews.decide(db, first_user(db), version, Decision(default="leave_out"))
    assert caught.value.field == "reason"


def test_a_decision_stated_beforehand_is_carried_out_and_the_job_follows(db: Session) -> None:
    user = first_user(db)
    version = make_version(db)
    job = start(db, user, version, privacy=Decision())
    worker = protocol.WorkerInfo("gpu-0", "here", "boot", 1, 1, ("cpu",))
    assert protocol.claim(db, worker) is None, "it waits for what was decided"
    db.commit()  # the line is locked until then
    assert look(db, version).status is ReviewStatus.REQUESTED
    assert look(db, version).status is ReviewStatus.REPLACED
    db.refresh(job)
    assert job.version_id == review_of(db, version).result_version_id
    assert protocol.claim(db, worker) is not None
    [event] = events(db, "privacy.state")
    assert event.detail == {"decision": "replace", "reason": ""}


def test_the_site_says_whether_the_gate_is_required(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = first_user(db)
    monkeypatch.setenv("ETUDE_PRIVACY_GATE", "advised")
    settings.get.cache_clear()
    version = make_version(db)
    assert start(db, user, version).version_id == version.id
    assert look(db, version).status is ReviewStatus.UNDECIDED
    monkeypatch.setenv("ETUDE_PRIVACY_GATE", "off")
    settings.get.cache_clear()
    other = make_dataset_version(db, decided=False)
    reviews.begin(db, other.id)
    assert reviews.of(db, other.id) is None


def test_a_scan_that_breaks_off_says_so_and_can_be_started_again(
    db: Session, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    version = make_version(db)
    monkeypatch.setenv("ETUDE_PRIVACY_RECOGNIZER", "tests.worker.no_such_module:find")
    settings.get.cache_clear()
    review = look(db, version)
    assert review.status is ReviewStatus.FAILED
    assert "broke off" in (review.reason or "")
    assert db.scalar(select(PrivacyFinding.index).limit(1)) is None
    monkeypatch.setenv("ETUDE_PRIVACY_RECOGNIZER", "")
    settings.get.cache_clear()
    reviews.scan_again(db, first_user(db), version)
    db.commit()
    assert look(db, version).status is ReviewStatus.UNDECIDED
    output = "".join(capfd.readouterr())
    assert "Thyra" not in output


def test_deleting_a_dataset_takes_the_findings_and_keeps_the_counts(db: Session) -> None:
    version = make_version(db)
    look(db, version)
    deletion.delete_dataset(db, first_user(db), version.dataset)
    db.commit()
    assert db.scalar(select(PrivacyFinding.index).limit(1)) is None
    review = review_of(db, version)
    assert (review.status, review.found) == (
        ReviewStatus.FAILED,
        {"name": 7, "phone": 1, "other": 1},
    )
    assert version.status is VersionStatus.READY
    assert not privacy.review_next("cpu-0")


def test_a_scan_that_saw_only_a_part_of_the_rows_decides_nothing(
    db: Session, owner: Connection
) -> None:
    """What the child was not given it cannot warn of."""
    version = make_version(db)
    db.commit()
    owner.execute(text("ALTER TABLE example RENAME TO example_away"))
    with pytest.raises(ProgrammingError):
        privacy.review_next("cpu-0")
    owner.execute(text("ALTER TABLE example_away RENAME TO example"))
    assert review_of(db, version).status is ReviewStatus.SCANNING
    assert look(db, version).found == {"name": 7, "phone": 1, "other": 1}
