"""The queue as a picture: who trains when, and whose names are read by whom."""

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings, site_time
from app.core.models import Attempt, Job, JobStatus, Role, Worker
from app.jobs import queue_view
from app.web.queue import timeline
from tests.app.web.pages import sign_in
from tests.app.web.queue.test_pages import PLAN, make_worker
from tests.factories import make_department, make_job, make_user

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def make_training(db: Session, job: Job, worker: str) -> None:
    job.status, job.worker_id, job.attempt = JobStatus.RUNNING, worker, 1
    job.step, job.total_steps = 50, 100
    job.lease_until = datetime.now(UTC) + timedelta(hours=1)
    began = datetime.now(UTC) - timedelta(minutes=30)
    db.add(
        Attempt(
            job_id=job.id,
            number=1,
            worker_id=worker,
            host="here",
            boot_id="b",
            supervisor_pid=1,
            supervisor_started=1,
            devices=["cuda:0"],
            resume_step=0,
            started_at=began,
        )
    )
    db.execute(update(Worker).where(Worker.id == worker).values(last_seen=datetime.now(UTC)))
    db.commit()


def picture_of(page: str) -> str:
    found = re.search(
        r'<section class="sheet" aria-labelledby="timeline">.*?</section>', page, re.S
    )
    return found[0] if found else ""


def test_each_machine_has_its_row_and_jobs_follow_each_other(
    client: TestClient, db: Session
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    make_worker(db, "gpu-0@here", last_seen=datetime.now(UTC))
    first = make_job(db, user=admin, name="Now", plan=PLAN)
    make_training(db, first, "gpu-0@here")
    for name in ("Next", "Then"):
        make_job(db, user=admin, version=first.version, name=name, plan=PLAN)
    db.commit()
    sign_in(client, db, admin)
    shown = picture_of(client.get("/queue").text)
    # A narrow bar has its name as a title alone.
    names = re.findall(r"<title>([^<]+?)(?: · [^<]*)?</title>", shown)
    assert names == ["Now", "Next", "Then"]
    for bar in shown.split('<svg x="')[1:]:
        width = re.search(r'width="([\d.]+)%" height="30"', bar)
        if width is not None:  # wide enough for its name, it has it, and else no letter of it
            assert ('<text class="job-name' in bar) == (float(width[1]) >= 6)
    places = re.findall(r'<svg x="([\d.]+)%" y="\d+" width="([\d.]+)%"', shown)
    ends = 0.0
    for left, width in places:
        assert float(left) >= ends - 0.01
        ends = float(left) + float(width)
    assert float(places[0][0]) == 0
    assert ends <= 100
    # The table says the same, and nothing needs a style of its own.
    table = re.sub(r"<[^>]+>", " ", shown.partition("<table")[2])
    assert all(name in table for name in names)
    assert "style=" not in shown


def test_names_are_read_as_on_the_rest_of_the_page(client: TestClient, db: Session) -> None:
    make_worker(db, "gpu-0@here", last_seen=datetime.now(UTC))
    mine = make_user(db)
    other = make_user(db, department=make_department(db))
    theirs = make_job(db, user=other, name="Their secret", plan=PLAN)
    make_training(db, theirs, "gpu-0@here")
    make_job(db, user=other, version=theirs.version, name="Another secret", plan=PLAN)
    make_job(db, user=mine, name="My own", plan=PLAN)
    db.commit()
    sign_in(client, db, mine)
    shown = picture_of(client.get("/queue").text)
    assert "secret" not in shown
    assert other.email not in shown
    assert shown.count(f"<title>{timeline.OTHERS}</title>") == 2
    assert "<title>My own" in shown
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert "Their secret" in picture_of(client.get("/queue").text)


def test_nothing_to_draw_draws_nothing(client: TestClient, db: Session) -> None:
    make_worker(db)
    sign_in(client, db, make_user(db))
    assert picture_of(client.get("/queue").text) == ""


def test_a_job_of_which_nobody_knows_the_end_fills_its_row(db: Session) -> None:
    admin = make_user(db, role=Role.ADMIN)
    make_worker(db, "gpu-0@here", last_seen=datetime.now(UTC))
    job = make_job(db, user=admin, name="Endless")
    make_training(db, job, "gpu-0@here")
    db.execute(update(Job).values(step=0, total_steps=None))
    db.commit()
    outlook = queue_view.with_what_is_not_kept(db)
    known = {job.id: timeline.Named("Endless", "Ana", "", "")}
    drawn = timeline.draw(outlook, known)
    assert drawn is not None
    (bar,) = drawn.lanes[0].bars
    assert (bar.left, bar.width, bar.words) == (0, 100, "Endless")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("hour", range(24))
def test_the_picture_ends_on_a_morning_and_its_hours_have_room(
    hour: int, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_TIME_ZONE", zone)
    settings.get.cache_clear()
    now = NOON.replace(hour=hour, minute=17)
    ends = timeline._morning(now)
    assert site_time.local(ends).strftime("%H:%M") == "08:00"
    assert timedelta(hours=6) <= ends - now < timedelta(hours=30)
    ticks = timeline._ticks(timeline._Window(now, ends))
    assert 1 <= len(ticks) <= 7
    lefts = [tick.left for tick in ticks]
    assert lefts == sorted(lefts)
    assert all(after - before > 8 for before, after in itertools.pairwise(lefts))
    settings.get.cache_clear()


@pytest.mark.parametrize(
    ("hour", "hours", "words"),
    [
        (9, 23, "Today and tonight, until Wed 08:00"),
        (9, 3, "Today, until 12:00"),
        (22, 10, "Tonight, until Wed 08:00"),
        (1, 7, "Tonight, until 08:00"),
        (1, 9, "Today, until 10:00"),
        (3, 29, "Today and tonight, until Wed 08:00"),
        (17, 9, "Today and tonight, until Wed 02:00"),
    ],
)
def test_the_time_is_called_what_it_is(hour: int, hours: int, words: str) -> None:
    now = NOON.replace(hour=hour)
    assert timeline._when(timeline._Window(now, now + timedelta(hours=hours))) == words


def test_a_job_of_minutes_is_seen_with_its_name_on_a_phone(client: TestClient, db: Session) -> None:
    """In a picture of a day and a night it would be two pixels wide."""
    admin = make_user(db, role=Role.ADMIN)
    make_worker(db, "gpu-0@here", last_seen=datetime.now(UTC))
    job = make_job(db, user=admin, name="Rules for the ward", plan=PLAN)
    make_training(db, job, "gpu-0@here")
    db.execute(update(Job).values(step=95))
    db.commit()
    sign_in(client, db, admin)
    shown = picture_of(client.get("/queue").text)
    (width,) = re.findall(r'<svg x="0\.0%" y="\d+" width="([\d.]+)%"', shown)
    assert float(width) >= 4
    assert ">Now: Rules for the ward</text>" in shown
    outlook = queue_view.with_what_is_not_kept(db)
    drawn = timeline.draw(outlook, {})
    assert drawn is not None
    ends = timeline._last(outlook, timeline._morning(outlook.now))
    assert ends - outlook.now <= timedelta(hours=2), "nothing is foreseen for longer"
