"""Who may ask an adapter, how often, and what is kept of it."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters import sharing
from app.core import settings
from app.core.errors import Forbidden, Invalid, NotFound, TooMany
from app.core.models import Adapter, AuditEvent, KeptQuestion, Notice, Release, Role, User
from tests.factories import make_adapter, make_department, make_job, make_user


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def adapter(db: Session, owner: User) -> Adapter:
    return make_adapter(db, job=make_job(db, user=owner))


def share(db: Session, user: User, adapter: Adapter, **changes: object) -> None:
    said: dict[str, object] = {
        "purpose": "Answers about visiting hours.",
        "limits": "Never about doses.",
        "asks_per_day": 2,
        "keeps_questions": False,
    }
    sharing.release(db, user, adapter, **said | changes)  # type: ignore[arg-type]
    db.commit()


def test_viewers_may_ask_only_what_was_released(db: Session, owner: User, adapter: Adapter) -> None:
    viewer, colleague = make_user(db, role=Role.VIEWER), make_user(db)
    sharing.require_asking(colleague, adapter)
    with pytest.raises(Forbidden):
        sharing.require_asking(viewer, adapter)
    share(db, owner, adapter)
    sharing.require_asking(viewer, adapter)


def test_another_department_never_learns_of_it(db: Session, owner: User, adapter: Adapter) -> None:
    share(db, owner, adapter)
    stranger = make_user(db, role=Role.LEAD, department=make_department(db))
    with pytest.raises(NotFound):
        sharing.require_asking(stranger, adapter)


def test_withdrawn_means_nobody(db: Session, owner: User, adapter: Adapter) -> None:
    share(db, owner, adapter)
    sharing.withdraw(db, owner, adapter)
    for person in (owner, make_user(db, role=Role.ADMIN), make_user(db, role=Role.VIEWER)):
        with pytest.raises(NotFound):
            sharing.require_asking(person, adapter)
    sharing.make_private(db, owner, adapter)
    sharing.require_asking(owner, adapter)


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
def test_only_its_owner_lead_and_administrators_decide(
    db: Session, adapter: Adapter, role: Role
) -> None:
    colleague = make_user(db, role=role)
    with pytest.raises(Forbidden):
        share(db, colleague, adapter)
    with pytest.raises(Forbidden):
        sharing.withdraw(db, colleague, adapter)
    with pytest.raises(Forbidden):
        sharing.reports(db, colleague, adapter)
    with pytest.raises(Forbidden):
        sharing.kept(db, colleague, adapter)
    sharing.withdraw(db, make_user(db, role=Role.LEAD), adapter)
    assert adapter.release is Release.WITHDRAWN


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("purpose", "  "),
        ("limits", ""),
        ("purpose", "x" * 2001),
        ("asks_per_day", 0),
        ("asks_per_day", 10_001),
    ],
)
def test_what_is_missing_is_named(
    db: Session, owner: User, adapter: Adapter, field: str, value: object
) -> None:
    with pytest.raises(Invalid) as error:
        share(db, owner, adapter, **{field: value})
    assert error.value.field == field
    assert adapter.release is Release.PRIVATE


def test_each_person_has_a_number_of_questions_a_day(
    db: Session, owner: User, adapter: Adapter
) -> None:
    share(db, owner, adapter)
    viewer, another = make_user(db, role=Role.VIEWER), make_user(db)
    for person in (viewer, another):
        sharing.count_use(db, person, adapter)
        sharing.count_use(db, person, adapter)
        db.commit()
        with pytest.raises(TooMany, match="2 times today"):
            sharing.count_use(db, person, adapter)
        db.rollback()
    for _ in range(5):
        sharing.count_use(db, owner, adapter)
    db.commit()
    [day] = sharing.uses(db, adapter)
    assert (day.num_people, day.num_asked) == (3, 9)


def test_questions_are_kept_only_where_the_owner_says_so(
    db: Session, owner: User, adapter: Adapter
) -> None:
    def num_kept() -> int:
        return db.scalar(select(func.count()).select_from(KeptQuestion)) or 0

    share(db, owner, adapter)
    sharing.keep(db, adapter, "May I visit?", "Until eight.")
    assert num_kept() == 0
    share(db, owner, adapter, keeps_questions=True)
    sharing.keep(db, adapter, "May I visit?", "Until eight.")
    assert [row.question for row in sharing.kept(db, owner, adapter)] == ["May I visit?"]
    # Turned off, nothing stays.
    share(db, owner, adapter)
    assert num_kept() == 0


def test_a_reported_answer_reaches_the_owner_and_no_notice_quotes_it(
    db: Session, owner: User, adapter: Adapter
) -> None:
    share(db, owner, adapter)
    viewer = make_user(db, role=Role.VIEWER)
    sharing.report(db, viewer, adapter, question="Dose?", answer="Ten.", note=" Dangerous ")
    db.commit()
    [report] = sharing.reports(db, owner, adapter)
    assert (report.question, report.answer, report.note) == ("Dose?", "Ten.", "Dangerous")
    [notice] = db.scalars(select(Notice).where(Notice.user_id == owner.id))
    assert "Dose" not in notice.title
    assert "Ten" not in notice.title
    sharing.handle(db, owner, adapter, report.id)
    assert report.handled_at is not None


def test_whoever_may_not_ask_may_not_report(db: Session, adapter: Adapter) -> None:
    viewer = make_user(db, role=Role.VIEWER)
    with pytest.raises(Forbidden):
        sharing.report(db, viewer, adapter, question="a", answer="b", note="")


def test_decisions_are_audited_without_texts(db: Session, owner: User, adapter: Adapter) -> None:
    share(db, owner, adapter)
    sharing.withdraw(db, owner, adapter)
    db.commit()
    events = list(db.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(2)))
    assert [event.action for event in events] == ["adapter.withdraw", "adapter.release"]
    assert "visiting" not in str(events[1].detail)


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        # 01:00 in Berlin, before the clocks go forward, before they go back, and on other days.
        (datetime(2027, 3, 28, 0, tzinfo=UTC), 22),
        (datetime(2026, 10, 24, 23, tzinfo=UTC), 24),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), 21.5),  # 02:30 for the second time
        (datetime(2026, 12, 2, 0, tzinfo=UTC), 23),
    ],
)
def test_tomorrow_begins_when_it_does_where_the_clocks_change(
    now: datetime, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_TIME_ZONE", "Europe/Berlin")
    settings.get.cache_clear()
    assert sharing.seconds_left_today(now) == hours * 3600
    # Whoever comes back then is not refused for a part of a second.
    assert sharing.seconds_left_today(now + timedelta(seconds=0.5)) == hours * 3600
    settings.get.cache_clear()
