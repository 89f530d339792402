"""The queue on real PostgreSQL: whose job a worker gets, and whose it does not get."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, time, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core import clock, settings
from app.core import db as database
from app.core.errors import Invalid, TooMany
from app.core.models import (
    Attempt,
    DatasetVersion,
    Department,
    Desired,
    DeviceUse,
    Job,
    JobStatus,
    QueueRule,
    Role,
    User,
    Worker,
    WorkerState,
)
from app.jobs import (
    fence,
    limits,
    metrics,
    ordering,
    protocol,
    queue_view,
    requests,
    shares,
    wishes,
)
from app.machines import devices as machines
from app.training.config import PRESETS
from app.training.plan.machine import DeviceInfo
from tests.factories import (
    make_base_model,
    make_dataset_version,
    make_department,
    make_job,
    make_user,
)

WORKER = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1234, 99, ("cuda:0",))
GIGABYTE = 10**9


class Site:
    """Departments with a person each, and one version of data for all jobs."""

    def __init__(self, db: Session, *names: str) -> None:
        self.db = db
        self.admin = make_user(db, role=Role.ADMIN)
        self.version: DatasetVersion = make_dataset_version(db, user=self.admin)
        self.people = {
            name: make_user(db, department=make_department(db, name), email=f"{name}@house.example")
            for name in names
        }

    def job(self, name: str, minutes: float = 10, **columns: Any) -> Job:
        plan = {"seconds": 60 * minutes, "tokens_per_second": 100, "peak_bytes": GIGABYTE}
        return make_job(self.db, user=self.people[name], version=self.version, plan=plan, **columns)

    def worker(self, id_: str, *devices: str, gigabytes: float = 24, **columns: Any) -> Worker:
        info = DeviceInfo(
            kind="cuda", free_bytes=int(gigabytes * GIGABYTE), num_devices=len(devices)
        )
        worker = Worker(
            id=id_,
            queue="gpu",
            host=columns.pop("host", "here"),
            boot_id="boot",
            devices=list(devices),
            hardware=info.model_dump(),
            version="0",
            **columns,
        )
        self.db.add(worker)
        self.db.commit()
        return worker

    def claim(self, worker: protocol.WorkerInfo = WORKER) -> int | None:
        claimed = protocol.claim(self.db, worker)
        self.db.commit()
        return claimed.job_id if claimed else None

    def end_all(self, hours: float = 0) -> None:
        """Let what runs end now, as if it had begun so many hours ago."""
        self.db.expire_all()
        running = self.db.scalars(select(Job).where(Job.status == JobStatus.RUNNING)).all()
        began = func.clock_timestamp() - timedelta(hours=hours)
        self.db.execute(update(Attempt).where(Attempt.ended_at.is_(None)).values(started_at=began))
        for job in running:
            claim = fence.Claim(job.id, job.attempt, job.worker_id or "", 0)
            protocol.fail(self.db, claim, code="x", reason="y")
        self.db.commit()
        self.db.expire_all()


@pytest.fixture
def site(db: Session) -> Site:
    return Site(db, "ward", "school")


def order(site: Site, number: int) -> list[int | None]:
    return [site.claim(replace(WORKER, id=f"w{n}", host=f"h{n}")) for n in range(number)]


def test_departments_take_turns(site: Site) -> None:
    """Two machines that are free together do not both go to the one that came first."""
    first, second, third = (site.job("ward") for _ in range(3))
    other = site.job("school")
    positions = queue_view.outlook(site.db).positions
    assert sorted(positions, key=positions.__getitem__) == [first.id, other.id, second.id, third.id]
    assert order(site, 4) == [first.id, other.id, second.id, third.id]


def test_who_had_more_waits_and_what_was_had_fades(site: Site, db: Session) -> None:
    site.job("ward")
    site.claim()
    site.end_all(hours=5)
    mine, theirs = site.job("ward"), site.job("school")
    ward = site.people["ward"].department_id
    assert db.get_one(Department, ward).used_seconds == pytest.approx(5 * 3600, rel=0.01)
    use = db.scalars(select(DeviceUse)).all()
    assert sum(row.seconds for row in use) == pytest.approx(5 * 3600, rel=0.01)
    assert {row.user_id for row in use} == {site.people["ward"].id}
    # Seven days later half of it is left.
    back = Department.used_at - timedelta(days=7)
    db.execute(update(Department).where(Department.id == ward).values(used_at=back))
    assert shares.standings(db).departments[ward].charge == pytest.approx(2.5 * 3600, rel=0.01)
    db.commit()
    assert order(site, 2) == [theirs.id, mine.id]


def test_a_share_and_a_priority_weigh(site: Site, db: Session) -> None:
    limits.grant(
        db,
        site.admin,
        limits.Wanted(share="3"),
        department_id=site.people["school"].department_id,
    )
    ward = [site.job("ward").id for _ in range(4)]
    school = [site.job("school").id for _ in range(4)]
    ordering.to_top(db, site.admin, db.get_one(Job, ward[3]))
    db.commit()
    # Equal at first; then three times the time for three times the share.
    assert order(site, 6) == [ward[3], *school[:3], ward[0], school[3]]


def test_the_line_foreseen_is_the_line_that_comes(site: Site, db: Session) -> None:
    """What the page says by the pure rules, and what claims do in SQL, for a random queue."""
    dice = random.Random(7)
    for _ in range(12):
        site.job(
            dice.choice(["ward", "school"]), dice.randint(1, 90), priority=dice.choice([0, 0, 1])
        )
    limits.grant(
        db, site.admin, limits.Wanted(share="2"), department_id=site.people["ward"].department_id
    )
    db.commit()
    positions = queue_view.outlook(db).positions
    assert order(site, 12) == sorted(positions, key=positions.__getitem__)


def test_limits_of_running_jobs_and_of_hours_a_month(site: Site, db: Session) -> None:
    ward = site.people["ward"]
    limits.grant(db, site.admin, limits.Wanted(max_running="1"), department_id=ward.department_id)
    first, second = site.job("ward"), site.job("ward")
    assert order(site, 2) == [first.id, None]
    assert queue_view.outlook(db).why(second.id) == (
        "Its department already has 1 job in training; no more are allowed at once."
    )
    site.end_all(hours=2)
    *before, use = db.scalars(select(DeviceUse).order_by(DeviceUse.month)).all()
    for other in before:  # in the first two hours of a month
        db.delete(other)
    use.seconds = 7200
    limits.grant(db, site.admin, limits.Wanted(month_hours="2"), user_id=ward.id)
    db.commit()
    assert site.claim() is None
    assert (
        queue_view.outlook(db).why(second.id)
        == "ward@house.example has used up this month's hours."
    )
    # What was had in another month does not count.
    db.execute(update(DeviceUse).values(month=date(2020, 1, 1)))
    db.commit()
    assert site.claim() == second.id


def test_no_two_claims_pass_a_limit_together(site: Site, db: Session) -> None:
    limits.grant(
        db,
        site.admin,
        limits.Wanted(max_running="1"),
        department_id=site.people["ward"].department_id,
    )
    for _ in range(6):
        site.job("ward")
    barrier = threading.Barrier(6)

    def take(number: int) -> bool:
        with database.session() as session:
            session.execute(select(1))  # connected before all of them start
            barrier.wait()
            found = protocol.claim(session, replace(WORKER, id=f"w{number}", host=f"h{number}"))
            session.commit()
            return found is not None

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 1


def test_what_runs_counts_towards_the_month(site: Site, db: Session) -> None:
    ward = site.people["ward"]
    limits.grant(db, site.admin, limits.Wanted(month_hours="0.001"), user_id=ward.id)
    site.job("ward")
    site.job("ward")
    assert site.claim() is not None
    db.execute(update(Attempt).values(started_at=func.clock_timestamp() - timedelta(seconds=4)))
    db.commit()
    assert site.claim(replace(WORKER, id="w1")) is None


def test_more_waiting_than_may_be_is_refused(site: Site, db: Session) -> None:
    ward = site.people["ward"]
    limits.grant(db, site.admin, limits.Wanted(max_queued="1"), department_id=ward.department_id)
    version, model = make_dataset_version(db, user=ward), make_base_model(db, name="house/other")

    def create(user: User) -> Job:
        return requests.create(
            db, user, name="x", version_id=version.id, base_model_id=model.id,
            config=PRESETS["quick"].config,
        )  # fmt: skip

    create(ward)
    with pytest.raises(TooMany, match="Your department has reached its limit") as refused:
        create(ward)
    assert refused.value.code == limits.QUEUE_FULL
    limits.grant(db, site.admin, limits.Wanted(), department_id=ward.department_id)
    assert db.scalar(select(func.count()).select_from(QueueRule)) == 0
    create(ward)


def test_hours_on_the_clock_of_the_house(
    site: Site, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_TIME_ZONE", "Pacific/Kiritimati")  # fourteen hours ahead of UTC
    settings.get.cache_clear()
    now = clock.read(db).astimezone(settings.get().zone())
    ward = site.people["ward"]
    row = QueueRule(department_id=ward.department_id)
    row.opens, row.closes = (
        (now + timedelta(hours=2)).time().replace(second=0, microsecond=0),
        (now + timedelta(hours=4)).time().replace(second=0, microsecond=0),
    )
    db.add(row)
    job, other = site.job("ward"), site.job("school")
    assert order(site, 2) == [other.id, None]
    assert queue_view.outlook(db).why(job.id) == (
        f"Its department may train only between {row.opens:%H:%M} and {row.closes:%H:%M}."
    )
    assert not protocol.has_claimable(db, WORKER)
    row.opens = (now - timedelta(hours=1)).time().replace(second=0, microsecond=0)
    db.commit()
    assert protocol.has_claimable(db, WORKER)
    claimed = protocol.claim(db, WORKER)
    db.commit()
    assert claimed is not None
    assert claimed.job_id == job.id
    assert wishes.of(db, claimed, WORKER.host, WORKER.devices) == (Desired.RUN, False)
    assert metrics.ingest(db, claimed.job_id, claimed.attempt, [], 0) == (Desired.RUN, False)
    row.closes = (now - timedelta(minutes=1)).time().replace(second=0, microsecond=0)
    db.commit()
    assert wishes.of(db, claimed, WORKER.host, WORKER.devices) == (Desired.RUN, True)
    assert metrics.ingest(db, claimed.job_id, claimed.attempt, [], 0) == (Desired.RUN, True)


def test_a_worker_gets_what_it_can_hold(site: Site, db: Session) -> None:
    site.worker("gpu-0@here", "cuda:0", gigabytes=10)
    large = site.job("ward", needs_bytes=24 * GIGABYTE)
    wide = site.job("ward", needs_devices=2)
    small = site.job("ward", needs_bytes=10 * GIGABYTE)
    assert site.claim() == small.id
    assert site.claim() is None
    queue = queue_view.outlook(db)
    assert queue.why(large.id) == "It needs 24 GB of memory; no machine here has that much."
    assert queue.why(wide.id) == "It needs 2 devices together; no machine here has that many."
    site.worker("gpu-1@here", "cuda:1", gigabytes=24)
    assert site.claim(replace(WORKER, id="gpu-1@here", devices=("cuda:1",))) == large.id


def test_a_job_for_more_devices_than_one_machine_has_is_told_so(site: Site, db: Session) -> None:
    site.worker("gpu-0@one", "cuda:0", host="one")
    site.worker("gpu-0@two", "cuda:0", host="two")
    wide = site.job("ward", needs_devices=2)
    assert queue_view.outlook(db).why(wide.id) == (
        "It needs 2 devices together in one machine; those here are in several, and Etude cannot "
        "train one job over more than one machine."
    )


def test_a_short_job_goes_beside_a_wide_one_that_waits(site: Site, db: Session) -> None:
    site.worker("gpu-0@here", "cuda:0")
    site.worker("gpu-1@here", "cuda:1")
    site.worker("both@here", "cuda:0", "cuda:1")
    right = replace(WORKER, id="gpu-1@here", devices=("cuda:1",))
    both = replace(WORKER, id="both@here", devices=("cuda:0", "cuda:1"))
    first = site.job("ward", minutes=60)
    assert site.claim(right) == first.id
    wide = site.job("ward", minutes=10, needs_devices=2, priority=-1)
    long, short = site.job("ward", minutes=90), site.job("ward", minutes=30)
    assert site.claim(both) is None  # half of it is taken
    assert site.claim() == short.id
    assert site.claim() is None  # it trains already
    site.end_all()
    assert site.claim() is None  # both are free: the wide one is about to begin
    assert site.claim(both) == wide.id
    assert site.claim(right) is None
    site.end_all()
    assert site.claim() == long.id


def test_a_worker_with_all_devices_leaves_small_jobs_to_the_others(site: Site, db: Session) -> None:
    one, other = (site.worker(f"gpu-{n}@here", f"cuda:{n}") for n in range(2))
    site.worker("gpu-all@here", "cuda:0", "cuda:1")
    everything = replace(WORKER, id="gpu-all@here", devices=("cuda:0", "cuda:1"))
    small, wide = site.job("ward"), site.job("ward", needs_devices=2)
    assert site.claim(everything) is None  # the small one goes first
    assert site.claim() == small.id
    assert site.claim(everything) is None
    site.end_all()
    second = site.job("ward")
    assert site.claim(everything) == wide.id
    queue = queue_view.outlook(db)
    assert second.id in queue.times
    site.end_all()
    assert not protocol.has_claimable(db, everything)
    for worker in (one, other):
        machines.drain(db, site.admin, worker)
    db.commit()
    assert site.claim(everything) == second.id  # nobody else takes it


def test_ill_and_drained_devices_get_nothing(site: Site, db: Session) -> None:
    worker = site.worker("gpu-0@here", "cuda:0")
    job = site.job("ward")
    machines.quarantine(db, site.admin, worker, "cuda:0", "Xid 79")
    db.commit()
    assert site.claim() is None
    assert protocol.is_out(db, WORKER)
    assert not protocol.is_out(db, replace(WORKER, devices=("cuda:1",)))
    assert queue_view.outlook(db).why(job.id) == "The machine it needs is paused for maintenance."
    machines.release(db, site.admin, worker, "cuda:0")
    machines.drain(db, site.admin, worker)
    db.commit()
    assert worker.state is WorkerState.DRAINING
    assert site.claim() is None
    machines.activate(db, site.admin, worker)
    db.commit()
    assert site.claim() == job.id


def test_paused_jobs_keep_their_place(site: Site, db: Session) -> None:
    first, second = site.job("ward"), site.job("ward")
    requests.pause(db, site.people["ward"], first)
    db.commit()
    assert queue_view.outlook(db).why(first.id) == "Paused by ward@house.example."
    requests.resume(db, site.people["ward"], first)
    db.commit()
    assert order(site, 2) == [first.id, second.id]


def test_like_jobs_say_when_a_job_begins_and_ends(site: Site, db: Session) -> None:
    site.worker("gpu-0@here", "cuda:0")
    plan = {"seconds": 600, "tokens_per_second": 100, "peak_bytes": 1}
    done = site.job("ward")
    site.claim()
    claim = fence.Claim(done.id, 1, WORKER.id, 0)
    protocol.succeed(db, claim, measured={"tokens_per_second": 50})  # half as fast as planned
    job = site.job("ward")
    job.plan = plan
    config = dict(job.config)
    job.config = {**config, "early_stopping_patience": 0}
    db.commit()
    queue = queue_view.outlook(db)
    ends = queue.times[job.id].ends
    assert ends is not None
    seconds = [(at - queue.now).total_seconds() for at in ends]
    # At the latest it answers test questions for two minutes as well.
    assert seconds == pytest.approx([0.75 * 1200, 1.35 * 1200 + 120])
    assert queue.why(job.id) == "It is next in the queue."


def test_who_stands_still_with_the_line_in_hand_loses_it(
    site: Site, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = site.job("ward")
    monkeypatch.setenv("ETUDE_LINE_LOCK_SECONDS", "0.2")
    settings.get.cache_clear()
    with database.session() as frozen:
        held = protocol.claim(frozen, replace(WORKER, id="frozen"))
        assert held is not None
        # Its row is its own as well until then.
        assert site.claim() == job.id
        with pytest.raises(DBAPIError) as ended:
            frozen.commit()
        assert ended.value.connection_invalidated
    db.expire_all()
    assert (job.attempt, job.worker_id) == (1, WORKER.id)


def test_a_clock_that_was_put_back_charges_nothing(site: Site, db: Session) -> None:
    job = site.job("ward")
    now = clock.read(db)
    shares.charge(db, job.id, now, now - timedelta(hours=1), 1)
    db.commit()
    used = select(Department.used_seconds).where(Department.id == job.department_id)
    assert db.scalar(used) == 0


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (limits.Wanted(share="0"), "share"),
        (limits.Wanted(share="nan"), "share"),
        (limits.Wanted(max_running="1.5"), "max_running"),
        (limits.Wanted(max_queued="-1"), "max_queued"),
        (limits.Wanted(month_hours="many"), "month_hours"),
        (limits.Wanted(opens="20:00"), "closes"),
        (limits.Wanted(opens="25:00", closes="06:00"), "opens"),
        (limits.Wanted(opens="06:00", closes="06:00"), "closes"),
    ],
)
def test_what_no_limit_can_be(wanted: limits.Wanted, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        limits.checked(wanted)
    assert refused.value.field == field


def test_a_rule_is_kept_as_it_was_meant(site: Site, db: Session) -> None:
    wanted = limits.Wanted("2", "3", "4", "1,5", "20:00", "06:00", weekends=True)
    limits.grant(db, site.admin, wanted, user_id=site.admin.id)
    row = db.scalars(select(QueueRule)).one()
    assert (row.opens, row.closes, row.weekends) == (time(20), time(6), True)
    rule = shares.rule_of(row)
    assert (rule.max_running, rule.max_queued, rule.month_seconds) == (3, 4, 5400)
