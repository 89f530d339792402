"""The page of the queue: who sees whose jobs, and who may do what to them and to machines."""

import re
from datetime import UTC, datetime, timedelta
from importlib import metadata

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import (
    Attempt,
    AuditEvent,
    Desired,
    Job,
    JobStatus,
    QuarantinedDevice,
    QueueRule,
    Role,
    User,
    Worker,
    WorkerState,
)
from app.jobs import moments
from app.jobs.forecast import Times
from app.machines import devices
from app.machines.devices import DeviceReading, Readings
from app.training.plan.machine import DeviceInfo
from app.web.queue import page as queue_page
from tests.app.web.pages import sign_in
from tests.factories import make_dataset_version, make_department, make_job, make_user

PLAN = {"seconds": 600, "tokens_per_second": 100, "peak_bytes": 10**9}


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db, email="ana@house.example")


def make_worker(db: Session, name: str = "gpu-0@here", **columns: object) -> Worker:
    reading = DeviceReading(
        device="cuda:0", kind="cuda", name="NVIDIA L4", memory_used_bytes=6 * 10**9,
        memory_total_bytes=24 * 10**9, utilization_percent=87, temperature_celsius=61,
        power_watts=58.4, power_limit_watts=72, ecc_errors=0, xid=79, xid_at=1.7e9,
    )  # fmt: skip
    worker = Worker(
        id=name,
        queue="gpu",
        host="here",
        boot_id="b",
        devices=["cuda:0"],
        version="1.2.3",
        hardware=DeviceInfo(kind="cuda", name="NVIDIA L4", free_bytes=23 * 10**9).model_dump(),
        readings=Readings(devices=[reading]).model_dump(),
        **columns,
    )
    db.add(worker)
    db.commit()
    return worker


def running(db: Session, job: Job, worker: str = "gpu-0@here") -> None:
    values = {
        "status": JobStatus.RUNNING,
        "worker_id": worker,
        "lease_until": datetime.now(UTC) + timedelta(minutes=5),
        "attempt": 1,
        "step": 30,
        "total_steps": 100,
    }
    db.execute(update(Job).where(Job.id == job.id).values(values))
    attempt = Attempt(
        job_id=job.id,
        number=1,
        worker_id=worker,
        host="here",
        boot_id="b",
        supervisor_pid=1,
        supervisor_started=1,
        devices=["cuda:0"],
        resume_step=0,
        started_at=datetime.now(UTC) - timedelta(minutes=12),
    )
    db.add(attempt)
    db.commit()
    db.refresh(job)


def audited(db: Session) -> list[tuple[str, str]]:
    rows = db.execute(select(AuditEvent.action, AuditEvent.subject).order_by(AuditEvent.id))
    return [(action, subject) for action, subject in rows if not action.startswith("account")]


def test_each_sees_their_own_by_name_and_administrators_all(
    client: TestClient, db: Session, owner: User
) -> None:
    version = make_dataset_version(db, user=owner)
    make_worker(db)
    now, next_ = (make_job(db, user=owner, version=version, plan=PLAN) for _ in range(2))
    now.name, next_.name = "Falls on the ward", "Pain scores"
    stranger = make_user(db, department=make_department(db, "School"), email="bo@house.example")
    secret = make_job(db, user=stranger, version=make_dataset_version(db, user=stranger), plan=PLAN)
    secret.name = "Secret exam"
    db.commit()
    running(db, secret)
    sign_in(client, db, owner)
    html = client.get("/queue").text
    assert "Secret exam" not in html and "bo@house.example" not in html
    assert "1 job of other departments" in html
    assert "Training a job of another department." in html
    assert ">Falls on the ward</a>" in html
    assert "It is next in the queue." in html and "One job is ahead of it." in html
    assert re.search(r"starts (in a moment|\d\d:\d\d|about|tomorrow)", html)
    for words in ("6.0 GB of 24.0 GB", "87%", "61 °C", "58 of 72 W", "Xid 79"):
        assert words in html
    # The name of a program on a machine is for who looks after it.
    assert "gpu-0@here" not in html and "1.2.3" not in html
    assert "Quarantine" not in html and "/raise" not in html
    assert f"/queue/jobs/{now.id}/pause" in html

    sign_in(client, db, make_user(db, role=Role.ADMIN))
    html = client.get("/queue").text
    assert "Secret exam" in html and "bo@house.example · School" in html
    assert "Training Secret exam for bo@house.example." in html
    assert "Step 30 of 100 on NVIDIA L4 (gpu-0@here)" in html and "1.2.3" in html
    for deed in ("pause", "cancel", "raise", "lower", "top"):
        assert f'"/queue/jobs/{next_.id}/{deed}"' in html


def test_a_worker_of_another_version_is_told_to_administrators(
    client: TestClient, db: Session, owner: User
) -> None:
    told = f"This page runs {metadata.version('etude')}: restart the worker."
    worker = make_worker(db)
    sign_in(client, db, owner)
    assert told not in client.get("/queue").text
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert told in client.get("/queue").text
    worker.version = metadata.version("etude")
    db.commit()
    assert told not in client.get("/queue").text


def test_who_may_do_what_to_a_job(client: TestClient, db: Session, owner: User) -> None:
    version = make_dataset_version(db, user=owner)
    people = {
        "owner": owner,
        "lead": make_user(db, role=Role.LEAD),
        "colleague": make_user(db),
        "viewer": make_user(db, role=Role.VIEWER),
        "stranger": make_user(db, role=Role.LEAD, department=make_department(db)),
        "admin": make_user(db, role=Role.ADMIN, department=make_department(db)),
    }
    expected = {
        "pause": {"owner": 200, "lead": 200, "colleague": 403, "viewer": 403, "stranger": 404},
        "raise": {"owner": 403, "lead": 403, "colleague": 403, "viewer": 403, "stranger": 404},
        "lower": {"owner": 403, "viewer": 403, "stranger": 404},
        "top": {"owner": 403, "lead": 403, "stranger": 404},
        "cancel": {"owner": 200, "lead": 200, "colleague": 403, "viewer": 403, "stranger": 404},
        "nothing": {"admin": 404},
    }
    for deed, answers in expected.items():
        for who, status in ({"admin": 200} | answers).items():
            job = make_job(db, user=owner, version=version)
            sign_in(client, db, people[who])
            answer = client.post(f"/queue/jobs/{job.id}/{deed}")
            assert answer.status_code == status, (deed, who)
            db.refresh(job)
            untouched = (job.status, job.desired, job.priority) == (
                JobStatus.QUEUED, Desired.RUN, 0,
            )  # fmt: skip
            assert untouched is (status != 200), (deed, who)
    for who in ("colleague", "viewer"):
        failed = make_job(db, user=owner, version=version, status=JobStatus.FAILED)
        sign_in(client, db, people[who])
        assert client.post(f"/jobs/{failed.id}/retry").status_code == 403
        assert f"/jobs/{failed.id}/retry" not in client.get(f"/jobs/{failed.id}").text


def test_deeds_are_kept_in_the_audit_log(client: TestClient, db: Session, owner: User) -> None:
    admin = make_user(db, role=Role.ADMIN)
    worker = make_worker(db)
    first = make_job(db, user=owner)
    last = make_job(db, user=owner, version=first.version)
    sign_in(client, db, admin)
    for deed in ("top", "lower", "raise", "pause", "resume"):
        assert client.post(f"/queue/jobs/{last.id}/{deed}").url.path == "/queue"
    db.refresh(last)
    assert (last.priority, last.desired_by_id) == (-1, admin.id)
    place = f"/queue/workers/{worker.id}"
    device = {"device": "cuda:0"}
    refused = client.post(f"{place}/quarantine", data=device)
    assert refused.status_code == 422 and "Say why" in refused.text
    assert client.post(f"{place}/quarantine", data=device | {"reason": "Xid 79"}).is_success
    assert "in quarantine since" in client.get("/queue").text
    assert "cuda:0 of here was taken out of use" in client.get("/notices").text
    assert client.post(f"{place}/quarantine", data=device | {"reason": "x"}).status_code == 409
    assert client.post(f"{place}/release", data=device).is_success
    assert client.post(f"{place}/release", data={"device": "cuda:9"}).status_code == 404
    assert client.post(f"{place}/drain").is_success
    assert client.post("/queue/machines/here/activate").is_success
    db.refresh(worker)
    assert worker.state is WorkerState.ACTIVE
    assert client.post("/queue/machines/there/drain").status_code == 404
    job = f"job {last.id}"
    assert audited(db) == [
        ("job.top", job),
        ("job.lower", job),
        ("job.raise", job),
        ("job.pause", job),
        ("job.resume", job),
        ("device.quarantine", "cuda:0 of here"),
        ("device.release", "cuda:0 of here"),
        ("worker.drain", "worker gpu-0@here"),
        ("worker.activate", "worker gpu-0@here"),
    ]


def test_a_free_worker_that_takes_nothing_is_told(
    client: TestClient, db: Session, owner: User
) -> None:
    worker = make_worker(db)
    job = make_job(db, user=owner)
    job.run_after = func.clock_timestamp() - timedelta(hours=1)
    db.commit()
    sign_in(client, db, owner)
    said = " ".join(client.get("/queue").text.split())
    assert (
        "Jobs wait, but gpu-0@here is free and takes none. Please tell your administrator." in said
    )
    assert "Takes no jobs" in said
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert "Restart each worker named here" in client.get("/queue").text
    devices.leave(db, worker.id)
    worker.last_seen = func.clock_timestamp() - timedelta(hours=1)
    db.commit()
    said = client.get("/queue").text
    assert "Stopped" in said
    assert "Not responding" not in said
    assert "takes none" not in said


def test_only_administrators_touch_machines_and_limits(
    client: TestClient, db: Session, owner: User
) -> None:
    worker = make_worker(db)
    for user in (owner, make_user(db, role=Role.LEAD), make_user(db, role=Role.VIEWER)):
        sign_in(client, db, user)
        assert client.get("/queue/limits").status_code == 403
        for path in ("drain", "activate"):
            assert client.post(f"/queue/workers/{worker.id}/{path}").status_code == 403
            assert client.post(f"/queue/machines/here/{path}").status_code == 403
        for path in ("quarantine", "release"):
            answer = client.post(
                f"/queue/workers/{worker.id}/{path}", data={"device": "cuda:0", "reason": "x"}
            )
            assert answer.status_code == 403
        for path in (f"departments/{user.department_id}", f"people/{user.id}"):
            assert client.post(f"/queue/limits/{path}", data={"share": "9"}).status_code == 403
    db.refresh(worker)
    assert worker.state is WorkerState.ACTIVE
    assert db.scalars(select(QuarantinedDevice)).all() == []
    assert db.scalars(select(QueueRule)).all() == []


def test_limits_are_set_said_and_come_back_when_wrong(
    client: TestClient, db: Session, owner: User
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    sign_in(client, db, admin)
    department = f"/queue/limits/departments/{owner.department_id}"
    sent = {"share": "2", "max_running": "1", "opens": "20:00", "closes": "06:00",
            "weekends": "yes"}  # fmt: skip
    html = client.post(department, data=sent).text
    said = "Share 2, at most 1 training at once, only between 20:00 and 06:00, "
    assert said + "and all day on weekends" in html
    wrong = client.post(department, data=sent | {"month_hours": "lots"})
    assert wrong.status_code == 422
    assert 'value="lots"' in wrong.text and "Enter a number, or leave this empty." in wrong.text
    html = client.get(f"/queue/limits?person={owner.id}").text
    assert f'action="/queue/limits/people/{owner.id}"' in html
    html = client.post(f"/queue/limits/people/{owner.id}", data={"month_hours": "10"}).text
    assert "10 device-hours a month" in html
    assert client.post("/queue/limits/people/999", data={"share": "1"}).status_code == 404
    assert client.get("/queue/limits?person=x").status_code == 200
    client.post(department, data={})
    assert db.scalars(select(QueueRule.department_id)).all() == [None]
    assert [action for action, _ in audited(db)] == ["line.rule"] * 3


def test_a_long_line_is_counted_and_shown_in_part(
    client: TestClient, db: Session, owner: User
) -> None:
    version = make_dataset_version(db, user=owner)
    one = make_job(db, user=owner, version=version)
    for _ in range(queue_page.MOST_ROWS + 4):
        another = Job(
            department_id=owner.department_id,
            owner_id=owner.id,
            name="Another",
            version_id=version.id,
            base_model_id=one.base_model_id,
            config=one.config,
        )
        db.add(another)
    db.commit()
    sign_in(client, db, owner)
    html = client.get("/queue").text
    assert html.count('class="line-job"') == queue_page.MOST_ROWS
    assert "5 more jobs after these" in html
    assert f"{queue_page.MOST_ROWS + 5} jobs are waiting." in html


@pytest.mark.parametrize(
    ("early", "late", "words"),
    [
        (0, 4, "in a moment"),
        (60, 62, "about 13:00"),
        (60, 95, "13:00 to 13:35"),
        (20 * 60, 21 * 60, "tomorrow 08:00 to 09:00"),
        (600, 20 * 60, "22:00 to tomorrow 08:00"),
        (3 * 1440, 3 * 1440, "about Thu 12:00"),
        (30 * 1440, 40 * 1440, "23 Dec to 2 Jan"),
    ],
)
def test_times_are_said_as_people_do(
    early: float, late: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_TIME_ZONE", "UTC")
    settings.get.cache_clear()
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)  # a Monday
    span = (now + timedelta(minutes=early), now + timedelta(minutes=late))
    assert moments.in_words(Times(span, None), now, starts=True) == words
    assert moments.in_words(Times(span, None), now, starts=False) == ""
    settings.get.cache_clear()
