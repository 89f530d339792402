"""What administrators grant departments and people: shares, limits and hours."""

from dataclasses import dataclass
from datetime import time

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.core import audit
from app.core.errors import Invalid, NotFound, Problems, TooMany
from app.core.models import Department, Job, JobStatus, QueueRule, Role, User
from app.jobs import shares
from app.jobs.scheduling import Rule
from app.people.auth import require_role

QUEUE_FULL = "queue_limit"
_MOST_JOBS, _MOST_HOURS, _LEAST_SHARE, _MOST_SHARE = 100_000, 1_000_000, 0.01, 1000


@dataclass(frozen=True)
class Wanted:
    """What a form says, as it was typed; empty: no limit."""

    share: str = "1"
    max_running: str = ""
    max_queued: str = ""
    month_hours: str = ""
    opens: str = ""
    closes: str = ""
    weekends: bool = False


def list_rules(db: Session, admin: User) -> tuple[dict[int, QueueRule], dict[int, QueueRule]]:
    """Return the rules that there are, by department and by person."""
    require_role(admin, Role.ADMIN)
    rules = db.scalars(select(QueueRule)).all()
    return (
        {rule.department_id: rule for rule in rules if rule.department_id is not None},
        {rule.user_id: rule for rule in rules if rule.user_id is not None},
    )


def grant(
    db: Session,
    admin: User,
    wanted: Wanted,
    *,
    department_id: int | None = None,
    user_id: int | None = None,
) -> None:
    """Set the rule of a department or of a person; one that says nothing is removed.

    Raises:
        Forbidden: it is not an administrator who asks.
        NotFound: there is no such department or person.
        Invalid: a value cannot be used; with its field.
    """
    require_role(admin, Role.ADMIN)
    whose: Department | User | None
    if department_id is not None:
        whose, subject = db.get(Department, department_id), f"department {department_id}"
        mine = QueueRule.department_id == department_id
    else:
        whose, subject = db.get(User, user_id), f"user {user_id}"
        mine = QueueRule.user_id == user_id
    if whose is None:
        raise NotFound("There is no such department or person.")
    values = checked(wanted)
    rule = db.scalars(select(QueueRule).where(mine).with_for_update()).one_or_none()
    if values == checked(Wanted()):
        if rule is not None:
            db.delete(rule)
    else:
        if rule is None:
            rule = QueueRule(department_id=department_id, user_id=user_id)
            db.add(rule)
        for name, value in values.items():
            setattr(rule, name, value)
    db.flush()
    said = {name: str(value) for name, value in values.items() if value not in (None, False)}
    audit.record(db, admin, "line.rule", subject, **said)


def check_queued(db: Session, user: User) -> None:
    """Refuse a job more than a person or the department may have waiting.

    Raises:
        TooMany: says whose limit it is.
    """
    rows = db.scalars(
        select(QueueRule).where(
            QueueRule.max_queued.is_not(None),
            (QueueRule.department_id == user.department_id) | (QueueRule.user_id == user.id),
        )
    ).all()
    if not rows:
        return
    # One at a time in a department: two would both count what was there before.
    key = {"key": 0x45747564 + user.department_id}
    db.execute(text("SELECT pg_advisory_xact_lock(:key)"), key)
    for row in rows:
        rule: Rule = shares.rule_of(row)
        theirs = row.department_id is not None
        whose = Job.department_id == user.department_id if theirs else Job.owner_id == user.id
        waiting = db.scalar(
            select(func.count()).select_from(Job).where(Job.status == JobStatus.QUEUED, whose)
        )
        if rule.max_queued is not None and (waiting or 0) >= rule.max_queued:
            raise TooMany(
                "Your department has reached its limit of waiting jobs "
                f"({waiting}). Start this job later, or cancel one that waits."
                if theirs
                else f"You have reached your limit of waiting jobs ({waiting}). "
                "Start this job later, or cancel one that waits.",
                code=QUEUE_FULL,
            )


def checked(wanted: Wanted) -> dict[str, object]:
    """Turn what was typed into the columns of a rule.

    Raises:
        Invalid: a value cannot be used; with its field.
    """
    problems, values = Problems(), dict[str, object]()
    with problems:
        values["share"] = _number(wanted.share or "1", "share", _LEAST_SHARE, _MOST_SHARE)
    for name, typed in (("max_running", wanted.max_running), ("max_queued", wanted.max_queued)):
        with problems:
            values[name] = _count(typed, name, least=0)
    with problems:
        values["month_hours"] = _number(wanted.month_hours, "month_hours", 0, _MOST_HOURS)
    with problems:
        values["opens"], values["closes"] = _times(wanted)
    problems.check()
    return values | {"weekends": wanted.weekends}


def _times(wanted: Wanted) -> tuple[time | None, time | None]:
    problems = Problems()
    with problems:
        opens = _clock(wanted.opens, "opens")
    with problems:
        closes = _clock(wanted.closes, "closes")
    problems.check()
    if (opens is None) != (closes is None):
        missing = "opens" if opens is None else "closes"
        raise Invalid("Enter both times, or neither.", field=missing)
    if opens is not None and opens == closes:
        raise Invalid(
            "Both times are the same; leave both empty to allow any time.", field="closes"
        )
    return opens, closes


def _count(typed: str, field: str, least: int) -> int | None:
    value = _number(typed, field, least, _MOST_JOBS)
    if value is not None and value != int(value):
        raise Invalid("Enter a whole number.", field=field)
    return None if value is None else int(value)


def _number(typed: str, field: str, least: float, most: float) -> float | None:
    if not typed.strip():
        return None
    try:
        value = float(typed.replace(",", "."))
    except ValueError:
        raise Invalid("Enter a number, or leave this empty.", field=field) from None
    if not least <= value <= most:
        raise Invalid(f"Enter a number from {least:g} to {most:,.10g}.", field=field)
    return value


def _clock(typed: str, field: str) -> time | None:
    if not typed.strip():
        return None
    try:
        return time.fromisoformat(typed.strip()).replace(second=0, microsecond=0, tzinfo=None)
    except ValueError:
        raise Invalid("Enter a time of day, such as 20:00.", field=field) from None
