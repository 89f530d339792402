"""What departments and people may have and have had: their standing in the queue, and the charge.

A claim reads three small tables: departments with one fading number each, rules, and the month's
device-seconds a person. A charge is made as an attempt ends, under the lock that claims take: so
neither a claim nor another charge reads or writes in between.
"""

from datetime import datetime

from sqlalchemy import Float, bindparam, cast, func, outerjoin, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core import clock, settings
from app.core.db import silence_limit
from app.core.models import (
    Attempt,
    Department,
    DeviceUse,
    Job,
    JobStatus,
    QueueRule,
    User,
)
from app.jobs.hours import OpeningHours
from app.jobs.scheduling import (
    UNKNOWN_SECONDS,
    Rule,
    Standing,
    Standings,
    by_month,
    faded,
)

# Built once: a claim asks them under the queue's lock.
_NOW = select(clock.NOW.label("now")).cte("now")
_DEPARTMENTS = select(  # a row at least: what the clock says
    _NOW.c.now, Department.id, Department.name, Department.used_seconds, Department.used_at
).select_from(outerjoin(_NOW, Department, true()))
_RULES = select(QueueRule)
_USE = select(DeviceUse.department_id, DeviceUse.user_id, DeviceUse.seconds).where(
    DeviceUse.month == bindparam("month")
)
_RUNNING = (
    select(
        Job.department_id,
        Job.owner_id,
        Attempt.started_at,
        func.jsonb_array_length(Attempt.devices).label("num_devices"),
        Job.plan["seconds"].as_float().label("expected"),
    )
    .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
    .where(Job.status == JobStatus.RUNNING)
)
_LOCK = 0x45747564654C  # "EtudeL": the queue is read and changed by one at a time


def lock(db: Session) -> None:
    """Wait for the queue until the end of the transaction.

    Who holds it waits for no row: claims pass over rows that others hold. So whoever holds a job's
    row may wait for the queue. A process that is frozen meanwhile must not stop the site: the
    server ends its session when it has said nothing for so long.
    """
    held = func.pg_advisory_xact_lock(_LOCK)
    db.execute(select(silence_limit(settings.get().line_lock_seconds), held))


def rule_of(row: QueueRule) -> Rule:
    """Read a rule."""
    limits_hours = row.opens is not None or row.weekends
    return Rule(
        share=row.share,
        max_running=row.max_running,
        max_queued=row.max_queued,
        month_seconds=None if row.month_hours is None else row.month_hours * 3600,
        hours=OpeningHours(row.opens, row.closes, row.weekends) if limits_hours else None,
    )


def standings(db: Session) -> Standings:
    """Return how everyone stands in the queue now."""
    chosen = settings.get()
    rows = db.execute(_DEPARTMENTS).all()
    now = rows[0].now
    everyone = Standings(now, chosen.zone(), is_fair=chosen.fair_share)
    half_life = chosen.share_half_life_days * 86400
    for row in rows:
        if row.id is None:
            continue
        recent = faded(row.used_seconds, (now - row.used_at).total_seconds(), half_life)
        everyone.departments[row.id] = Standing(recent_seconds=recent, name=row.name)
    for rule in db.scalars(_RULES):
        if rule.department_id is not None:
            everyone.department(rule.department_id).rule = rule_of(rule)
        elif rule.user_id is not None:
            everyone.people[rule.user_id] = Standing(rule_of(rule))
    if everyone.people:
        named = select(User.id, User.name, User.email).where(User.id.in_(everyone.people))
        for user_id, name, email in db.execute(named):
            everyone.people[user_id].name = name or email
    _count_month(db, everyone)
    _count_running(db, everyone)
    return everyone


def time_is_up(db: Session, job_id: int) -> bool:
    """Say whether a running job has reached the end of its hours."""
    rows = db.scalars(
        select(QueueRule)
        .join(
            Job,
            (QueueRule.department_id == Job.department_id) | (QueueRule.user_id == Job.owner_id),
        )
        .where(Job.id == job_id)
    ).all()
    hours = [rule.hours for rule in map(rule_of, rows) if rule.hours is not None]
    if not hours:
        return False
    local = clock.read(db).astimezone(settings.get().zone())
    return not all(each.is_open(local) for each in hours)


def charge(db: Session, job_id: int, begin: datetime, end: datetime, num_devices: int) -> None:
    """Charge the department and the owner of a job for an attempt that has ended."""
    lock(db)
    end = max(begin, end)  # where the machine's clock was put back
    department_id, owner_id = db.execute(
        select(Job.department_id, Job.owner_id).where(Job.id == job_id)
    ).one()
    chosen = settings.get()
    half_life = chosen.share_half_life_days * 86400
    age = func.extract("epoch", clock.NOW - Department.used_at)
    db.execute(
        update(Department)
        .where(Department.id == department_id)
        .values(
            # Of two clocks read in one statement the later one may be earlier by microseconds.
            used_seconds=Department.used_seconds
            * func.power(cast(2.0, Float), -func.greatest(age, 0) / half_life)
            + num_devices * (end - begin).total_seconds(),
            used_at=clock.NOW,
        )
        .execution_options(synchronize_session=False)
    )
    for month, seconds in by_month(begin, end, chosen.zone()):
        new = insert(DeviceUse).values(
            month=month,
            user_id=owner_id,
            department_id=department_id,
            seconds=num_devices * seconds,
        )
        total = DeviceUse.seconds + new.excluded.seconds
        keys = ["month", "user_id", "department_id"]
        db.execute(new.on_conflict_do_update(index_elements=keys, set_={"seconds": total}))


def _count_month(db: Session, everyone: Standings) -> None:
    month = everyone.local.date().replace(day=1)
    for row in db.execute(_USE, {"month": month}):
        everyone.department(row.department_id).month_seconds += row.seconds
        if row.user_id in everyone.people:
            everyone.people[row.user_id].month_seconds += row.seconds


def _count_running(db: Session, everyone: Standings) -> None:
    month = everyone.local.date().replace(day=1)
    for row in db.execute(_RUNNING):
        elapsed = max(0.0, (everyone.now - row.started_at).total_seconds())
        expected = max(elapsed, row.expected if row.expected is not None else UNKNOWN_SECONDS)
        this_month = sum(
            seconds
            for first, seconds in by_month(row.started_at, everyone.now, everyone.zone)
            if first == month
        )
        person = everyone.people.get(row.owner_id)
        for standing in filter(None, (everyone.department(row.department_id), person)):
            standing.begin(row.num_devices * expected)
            standing.month_seconds += row.num_devices * this_month
