"""What departments and people may have and have had: their standing in the queue, and the charge.

A claim reads three small tables in one statement: departments with one fading number each, rules,
and the month's device-seconds a person. A charge is made as an attempt ends, under the lock that
claims take: so neither a claim nor another charge reads or writes in between.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    Float,
    Row,
    ScalarSelect,
    Select,
    SQLColumnExpression,
    cast,
    func,
    literal_column,
    or_,
    outerjoin,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core import clock, settings, site_time
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


def _build_standings() -> Select[Any]:
    def rows(*columns: Any) -> ColumnElement[Any]:
        return func.json_agg(func.json_build_array(*columns))

    def epoch(at: Any) -> ColumnElement[Any]:
        return func.extract("epoch", at)

    departments = select(
        rows(Department.id, Department.name, Department.used_seconds, epoch(Department.used_at))
    )
    rule = func.to_jsonb(literal_column(QueueRule.__tablename__))
    named = func.coalesce(func.nullif(User.name, ""), User.email)
    rules = select(rows(rule, named)).select_from(
        outerjoin(QueueRule, User, User.id == QueueRule.user_id)
    )
    # The site's month is not always the server's: which of the two it is shows afterwards.
    lately = cast(clock.NOW - timedelta(days=40), Date)
    use = select(
        rows(DeviceUse.department_id, DeviceUse.user_id, DeviceUse.seconds, DeviceUse.month)
    ).where(DeviceUse.month >= lately)
    running = (
        select(
            rows(
                Job.department_id,
                Job.owner_id,
                epoch(Attempt.started_at),
                func.jsonb_array_length(Attempt.devices),
                Job.plan["seconds"].as_float(),
            )
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .where(Job.status == JobStatus.RUNNING)
    )
    return select(
        clock.NOW.label("now"),
        departments.scalar_subquery().label("departments"),
        rules.scalar_subquery().label("rules"),
        use.scalar_subquery().label("use"),
        running.scalar_subquery().label("running"),
    )


# Built once: a claim asks it, with what else it needs, under the queue's lock.
STANDINGS = _build_standings()
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
    return _rule(
        row.share, row.max_running, row.max_queued, row.month_hours,
        row.opens, row.closes, row.weekends,
    )  # fmt: skip


def _rule(
    share: float,
    max_running: int | None,
    max_queued: int | None,
    month_hours: float | None,
    opens: time | None,
    closes: time | None,
    weekends: bool,
) -> Rule:
    limits_hours = opens is not None or weekends
    return Rule(
        share=share,
        max_running=max_running,
        max_queued=max_queued,
        month_seconds=None if month_hours is None else month_hours * 3600,
        hours=OpeningHours(opens, closes, weekends) if limits_hours else None,
    )


def standings(db: Session) -> Standings:
    """Return how everyone stands in the queue now."""
    return read_standings(db.execute(STANDINGS).one())


def read_standings(found: Row[Any]) -> Standings:
    """Read what `STANDINGS` has found."""
    chosen = settings.get()
    now = found.now
    everyone = Standings(now, chosen.zone(), is_fair=chosen.fair_share)
    half_life = chosen.share_half_life_days * 86400
    for department_id, name, used_seconds, used_at in found.departments or ():
        recent = faded(used_seconds, now.timestamp() - used_at, half_life)
        everyone.departments[department_id] = Standing(recent_seconds=recent, name=name)
    for row, name in found.rules or ():
        rule = _rule(
            row["share"], row["max_running"], row["max_queued"], row["month_hours"],
            _time(row["opens"]), _time(row["closes"]), row["weekends"],
        )  # fmt: skip
        if row["department_id"] is not None:
            everyone.department(row["department_id"]).rule = rule
        elif row["user_id"] is not None:
            everyone.people[row["user_id"]] = Standing(rule, name=name)
    _count_month(everyone, found.use or ())
    _count_running(everyone, found.running or ())
    return everyone


def hours_of(
    department_id: SQLColumnExpression[int], owner_id: SQLColumnExpression[int]
) -> ScalarSelect[Any]:
    """Say, in a query, what hours a job has: a list of (opens, closes, weekends), or null."""
    row = func.json_build_array(QueueRule.opens, QueueRule.closes, QueueRule.weekends)
    return (
        select(func.json_agg(row))
        .where(
            or_(QueueRule.department_id == department_id, QueueRule.user_id == owner_id),
            or_(QueueRule.opens.is_not(None), QueueRule.weekends),
        )
        .correlate_except(QueueRule)
        .scalar_subquery()
    )


def is_over(hours: Sequence[Sequence[Any]], now: datetime) -> bool:
    """Say whether a running job has reached the end of its hours, as `hours_of` found them."""
    local = site_time.local(now)
    return not all(
        OpeningHours(_time(opens), _time(closes), weekends).is_open(local)
        for opens, closes, weekends in hours
    )


def _time(text: str | None) -> time | None:
    return None if text is None else time.fromisoformat(text)


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


def _count_month(everyone: Standings, use: Iterable[Sequence[Any]]) -> None:
    month = everyone.local.date().replace(day=1).isoformat()
    for department_id, user_id, seconds, of_month in use:
        if of_month == month:
            everyone.department(department_id).month_seconds += seconds
            if user_id in everyone.people:
                everyone.people[user_id].month_seconds += seconds


def _count_running(everyone: Standings, running: Iterable[Sequence[Any]]) -> None:
    month = everyone.local.date().replace(day=1)
    for department_id, owner_id, started, num_devices, plan_seconds in running:
        started_at = datetime.fromtimestamp(started, UTC)
        elapsed = max(0.0, (everyone.now - started_at).total_seconds())
        expected = max(elapsed, plan_seconds if plan_seconds is not None else UNKNOWN_SECONDS)
        this_month = sum(
            seconds
            for first, seconds in by_month(started_at, everyone.now, everyone.zone)
            if first == month
        )
        person = everyone.people.get(owner_id)
        for standing in filter(None, (everyone.department(department_id), person)):
            standing.begin(num_devices * expected)
            standing.month_seconds += num_devices * this_month
