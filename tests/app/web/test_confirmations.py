"""After everything that a person does a page says so, once, without JavaScript."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import JobStatus, Role
from app.main import PAGE_ROUTERS
from app.web import confirmations
from tests.app.web.pages import sign_in
from tests.factories import make_dataset_version, make_job, make_user


def said(page: str) -> list[str]:
    return re.findall(r'<p class="said" role="status" data-said>([^<]*)</p>', page)


def test_each_form_has_its_word_or_a_reason_to_have_none() -> None:
    forms = {
        route.path  # type: ignore[attr-defined]
        for router in PAGE_ROUTERS
        for route in router.routes
        if route.methods & {"POST", "PATCH", "DELETE"}  # type: ignore[attr-defined]
    }
    sentences, themselves = confirmations.SENTENCES, confirmations.SAY_IT_THEMSELVES
    assert forms == set(sentences) | set(themselves)
    assert not set(sentences) & set(themselves)
    assert {path for path, _ in confirmations.OTHERWISE} <= set(sentences)
    for sentence in [*sentences.values(), *confirmations.OTHERWISE.values()]:
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_what_was_done_is_said_once(client: TestClient, db: Session, broker: str) -> None:
    user = make_user(db)
    version = make_dataset_version(db, user=user)
    sign_in(client, db, user)
    answer = client.post(
        f"/datasets/{version.dataset_id}/rename", data={"name": "Rules"}, follow_redirects=False
    )
    there = answer.headers["location"]
    # A piece that a script fetches meanwhile takes nothing away.
    assert said(client.get(there, headers={"HX-Request": "true"}).text) == []
    assert said(client.get(there).text) == ["Renamed."]
    assert said(client.get(there).text) == [], "a page that is loaded again says nothing"
    # Over a second redirect: the dataset's address leads on to its newest version.
    client.post(f"/versions/{version.id}/privacy/scan", follow_redirects=False)
    assert said(client.get(f"/datasets/{version.dataset_id}").text) == ["The search starts soon."]
    wrong = client.post(f"/datasets/{version.dataset_id}/rename", data={"name": " "})
    assert said(wrong.text) == []


@pytest.mark.parametrize("where", ["/jobs", "/queue/jobs"])
@pytest.mark.parametrize(
    ("status", "form", "words"),
    [
        (JobStatus.RUNNING, "cancel", "The job is being stopped."),
        (JobStatus.QUEUED, "cancel", "The job is cancelled."),
        (JobStatus.RUNNING, "pause", "The job is paused as soon as it has saved its place."),
        (JobStatus.QUEUED, "pause", "The job is paused."),
    ],
)
def test_a_job_that_only_begins_to_stop_is_not_said_to_have_stopped(
    client: TestClient,
    db: Session,
    broker: str,
    where: str,
    status: JobStatus,
    form: str,
    words: str,
) -> None:
    user = make_user(db, role=Role.ADMIN)
    lease: dict[str, Any] = {
        "worker_id": "gpu-0",
        "lease_until": datetime.now(UTC) + timedelta(hours=1),
    }
    held = lease if status is JobStatus.RUNNING else {}
    job = make_job(db, user=user, status=status, **held)
    sign_in(client, db, user)
    page = client.post(f"{where}/{job.id}/{form}").text
    assert said(page) == [
        words if form == "cancel" or where == "/jobs" else "The queue is changed."
    ]


def test_whoever_did_nothing_is_told_nothing(client: TestClient, db: Session, broker: str) -> None:
    user = make_user(db)
    job = make_job(db, user=user)
    sign_in(client, db, user)
    client.cookies.set("etude_said", "<b>Pay here</b>")
    page = client.get("/").text
    assert said(page) == []
    assert "Pay here" not in page
    client.cookies.clear()
    refused = client.post(f"/jobs/{job.id}/cancel")
    assert refused.url.path == "/sign-in"
    assert said(refused.text) == []
