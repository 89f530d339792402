"""What the page of limits shows: departments and people, each with its rule in words."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import AppError
from app.core.models import Department, QueueRule, User
from app.jobs import limits, shares
from app.jobs.scheduling import Rule
from app.web.forms import LimitsForm


@dataclass(frozen=True)
class Entry:
    """A department or a person, and the values of its form."""

    key: str  # of its form, unique in the page
    name: str
    address: str
    words: str  # what it may have
    used: str  # what it has had
    values: limits.Wanted
    has_share: bool
    is_open: bool


def wanted(form: LimitsForm) -> limits.Wanted:
    """Read what the form says; a ticked box has any value."""
    return limits.Wanted(**{**form.model_dump(), "weekends": bool(form.weekends)})


@dataclass(frozen=True)
class LimitsPage:
    departments: list[Entry]
    people: list[Entry]
    others: list[tuple[int, str]]  # people without limits of their own: id and words
    local: datetime  # now, in the site's time zone
    is_fair: bool
    error: AppError | None
    wrong: str  # the key of the form it is about


def limits_page(
    db: Session,
    admin: User,
    person: int | None,
    typed: limits.Wanted | None,
    wrong: str,
    error: AppError | None,
) -> LimitsPage:
    """Gather the page's parts.

    Args:
        person: Somebody without limits so far, for whom a form is wanted.
        typed: What was typed into the form that is wrong.
        wrong: That form's key.
        error: What is wrong with it.
    """
    of_departments, of_people = limits.list_rules(db, admin)
    everyone = shares.standings(db)

    def entry(key: str, address: str, name: str, rule: QueueRule | None, has_share: bool) -> Entry:
        kind, _, number = key.partition("-")
        known = everyone.departments if kind == "department" else everyone.people
        standing = known.get(int(number))
        used = f"{standing.month_seconds / 3600:,.1f} h" if standing else ""
        values = typed if typed is not None and key == wrong else _values(rule)
        is_open = key == wrong or (person is not None and key == f"person-{person}")
        words = in_words(shares.rule_of(rule), has_share) if rule else "No limits"
        return Entry(key, name, address, words, used, values, has_share, is_open)

    people = list(db.scalars(select(User).where(User.disabled_at.is_(None)).order_by(User.email)))
    return LimitsPage(
        departments=[
            entry(
                f"department-{department.id}",
                f"/queue/limits/departments/{department.id}",
                department.name,
                of_departments.get(department.id),
                True,
            )
            for department in db.scalars(select(Department).order_by(Department.name))
        ],
        people=[
            entry(
                f"person-{each.id}",
                f"/queue/limits/people/{each.id}",
                each.name or each.email,
                of_people.get(each.id),
                False,
            )
            for each in people
            if each.id in of_people or each.id == person
        ],
        others=[
            (each.id, f"{each.name} ({each.email})" if each.name else each.email)
            for each in people
            if each.id not in of_people and each.id != person
        ],
        local=everyone.local,
        is_fair=everyone.is_fair,
        error=error,
        wrong=wrong,
    )


def in_words(rule: Rule, has_share: bool) -> str:
    """Say a rule in a line."""
    parts = []
    if has_share and rule.share != 1:
        parts.append(f"share {rule.share:g}")
    if rule.max_running is not None:
        parts.append(f"at most {rule.max_running} training at once")
    if rule.max_queued is not None:
        parts.append(f"at most {rule.max_queued} waiting")
    if rule.month_seconds is not None:
        parts.append(f"{rule.month_seconds / 3600:g} device-hours a month")
    if rule.hours is not None:
        parts.append(rule.hours.words[0].lower() + rule.hours.words[1:])
    words = ", ".join(parts)
    return words[:1].upper() + words[1:] or "No limits"


def _values(rule: QueueRule | None) -> limits.Wanted:
    if rule is None:
        return limits.Wanted()

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:g}"

    return limits.Wanted(
        share=number(rule.share),
        max_running=number(rule.max_running),
        max_queued=number(rule.max_queued),
        month_hours=number(rule.month_hours),
        opens=f"{rule.opens:%H:%M}" if rule.opens else "",
        closes=f"{rule.closes:%H:%M}" if rule.closes else "",
        weekends=rule.weekends,
    )
