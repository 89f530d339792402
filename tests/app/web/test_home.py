"""The start page: what somebody can do next, what waits for them, and whose work is whose."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import (
    Arm,
    DatasetVersion,
    EvaluationStatus,
    JobStatus,
    ModelStatus,
    PrivacyReview,
    Release,
    ReviewStatus,
    Role,
    Standing,
    User,
    VersionStatus,
)
from app.evaluation import states
from app.web import stepper
from app.web.home.page import STEPS
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_department,
    make_evaluation,
    make_job,
    make_user,
)

_PRIMARY = r'<a class="button" href="([^"]+)">([^<]+)</a>'


@pytest.fixture
def ana(db: Session, broker: str) -> User:
    return make_user(db, email="ana@house.example")


@pytest.fixture
def ben(db: Session, ana: User) -> User:
    return make_user(db, email="ben@house.example")


def home(client: TestClient) -> str:
    answer = client.get("/")
    assert answer.status_code == 200
    return answer.text


def card(html: str, title: str) -> str:
    """Return a card of the page; empty: it is not there."""
    found = re.search(rf"<h2>{title}</h2>(.*?)</section>", html, re.DOTALL)
    return found[1] if found else ""


def held(db: Session, version: DatasetVersion) -> None:
    found = {"name": 3}
    row = PrivacyReview(version_id=version.id, status=ReviewStatus.UNDECIDED, found=found)
    row.num_examples = 3
    db.add(row)
    db.commit()


# --- the first time ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER])
def test_who_has_nothing_sees_three_steps_and_a_sample(
    client: TestClient, db: Session, broker: str, role: Role
) -> None:
    user = make_user(db, role=role)
    sign_in(client, db, user)
    html = home(client)
    assert html.count('<svg class="drawing"') >= 3
    # The same six steps as at the top of the pages.
    steps = html[html.index('<ol class="first-steps">') :]
    said = re.findall(r"<h3>([^<]+)</h3>", steps[: steps.index("</ol>")])
    assert tuple(", ".join(said).split(", ")) == STEPS
    assert re.findall(_PRIMARY, html) == [("/datasets/new", "Add data")]
    assert 'action="/datasets/sample/school"' in html
    assert "There is no starting model yet" in html
    assert ('href="/models">add one' in html) == (role is Role.ADMIN)
    model = make_base_model(db, status=ModelStatus.IMPORTING, lease_until=datetime.now(UTC))
    assert f"{model.label} is being imported; you can begin meanwhile" in home(client)
    model.status, model.lease_until = ModelStatus.READY, None
    db.commit()
    assert f"The starting model {model.label} is here." in home(client)


def test_the_sample_leads_on(client: TestClient, db: Session, ana: User) -> None:
    sign_in(client, db, ana)
    begun = client.post("/datasets/sample/school")
    assert begun.status_code == 200
    html = home(client)
    assert "What to do" not in html
    assert "School exercises (sample)" in card(html, "Your work")


def test_a_colleagues_work_does_not_take_the_first_steps_away(
    client: TestClient, db: Session, ana: User, ben: User
) -> None:
    make_adapter(db, user=ben, name="Night shifts")
    sign_in(client, db, ana)
    html = home(client)
    assert "What to do" in html
    assert "Night shifts" in card(html, "Colleagues’ models")
    assert card(html, "Your work") == card(html, "Your models") == ""


# --- one's own -----------------------------------------------------------------------------------


def test_the_next_step_is_one_and_the_rest_waits_below(
    client: TestClient, db: Session, ana: User
) -> None:
    columns = make_dataset_version(db, user=ana, name="Falls", status=VersionStatus.MAPPING)
    gate = make_dataset_version(db, user=ana, name="Nights", decided=False)
    held(db, gate)
    ready = make_dataset_version(db, user=ana, name="Pain")
    sign_in(client, db, ana)
    html = home(client)
    ((address, words),) = re.findall(_PRIMARY, html)
    assert (address, words) == (f"/versions/{gate.id}/privacy", "Review personal details")
    waits = card(html, "Waiting for you")
    assert f'href="/versions/{columns.id}"' in waits
    assert f'href="/jobs/new?version={ready.id}"' in waits
    assert "“Nights”" not in waits, "it is said above"
    work = card(html, "Your work")
    assert re.findall(r"Step (\d) of 6: ([A-Z][a-z ]*[a-z])", " ".join(work.split())) == [
        ("3", "Personal details"),
        ("1", "Data"),
        ("4", "Train"),
    ]


def test_a_piece_of_work_goes_from_training_to_its_use(
    client: TestClient, db: Session, ana: User
) -> None:
    version = make_dataset_version(db, user=ana, name="Pain")
    until = datetime.now(UTC) + timedelta(hours=1)
    job = make_job(
        db,
        user=ana,
        version=version,
        status=JobStatus.RUNNING,
        worker_id="gpu-0",
        lease_until=until,
        started_at=datetime.now(UTC),
        phase="training",
        step=30,
        total_steps=120,
    )
    sign_in(client, db, ana)
    html = home(client)
    assert re.findall(_PRIMARY, html) == [(f"/jobs/{job.id}", "See how it goes")]
    assert "step 30 of 120" in card(html, "Your work")
    assert '<progress aria-label="Steps of Pain" max="120" value="30">' in html
    job.status, job.worker_id, job.lease_until = JobStatus.FAILED, None, None
    db.commit()
    assert re.findall(_PRIMARY, home(client)) == [(f"/jobs/{job.id}", "See why")]
    again = make_job(db, user=ana, version=version, status=JobStatus.SUCCEEDED)
    adapter = make_adapter(db, job=again, name="Pain model")
    evaluation = make_evaluation(db, adapter=adapter, status=EvaluationStatus.WAITING)
    assert "Being counted" in card(home(client), "Your work")
    evaluation.status, evaluation.figures = EvaluationStatus.DONE, None
    evaluation.standing = Standing.READY_FOR_TRIAL
    db.commit()
    html = home(client)
    assert re.findall(_PRIMARY, html) == [(f"/adapters/{adapter.id}/ask", "Ask it")]
    assert "Step 6 of 6: Use" in " ".join(card(html, "Your work").split())
    assert "Pain model" in card(html, "Your models")
    adapter.binned_at = datetime.now(UTC)
    db.commit()
    html = home(client)
    assert "its model was deleted" in html
    assert card(html, "Your models") == ""


# Of each answer a letter: right, partly, wrong or unsure.
RESULTS = {
    "to check": (
        {"marks": {Arm.TUNED: "r" * 9 + "u" * 15, Arm.BASE: "w" * 24}},
        "Check 15 answers",
    ),
    "one to check": (
        {"marks": {Arm.TUNED: "r" * 23 + "u", Arm.BASE: "w" * 24}},
        "Check 1 answer",
    ),
    "no better": (
        {"marks": {Arm.TUNED: "w" * 24, Arm.BASE: "w" * 24}},
        "See what would help",
    ),
    "not ready": (
        {"marks": {Arm.TUNED: "r" * 12 + "w" * 12, Arm.BASE: "w" * 24}},
        "See what would help",
    ),
    "failed": ({"status": EvaluationStatus.FAILED, "reason": "It is so."}, "See why"),
    "cancelled": ({"status": EvaluationStatus.CANCELLED}, "Evaluate again"),
    "being counted": ({"status": EvaluationStatus.WAITING}, "See how far it is"),
    "good": ({"marks": {Arm.TUNED: "r" * 60, Arm.BASE: "w" * 60, Arm.LOOKUP: "w" * 60}}, "Ask it"),
    "few": ({"marks": {Arm.TUNED: "rrw", Arm.BASE: "www"}}, "Ask it"),
    "nobody counted": (None, "Evaluate it"),
}


@pytest.mark.parametrize(("made", "words"), RESULTS.values(), ids=RESULTS)
def test_a_result_that_waits_for_a_person_is_the_next_step(
    client: TestClient, db: Session, ana: User, made: dict[str, Any] | None, words: str
) -> None:
    version = make_dataset_version(db, user=ana, name="Pain", num_test=60)
    job = make_job(db, user=ana, version=version, status=JobStatus.SUCCEEDED)
    adapter = make_adapter(db, job=job, name="Pain model")
    evaluation = make_evaluation(db, adapter=adapter, **made) if made is not None else None
    db.commit()
    sign_in(client, db, ana)
    html = home(client)
    ((address, button),) = re.findall(_PRIMARY, html)
    assert button == words
    assert client.get(address).status_code == 200
    # The pages of the work name the same step as the next, and say the same of it.
    way = stepper.of_adapter(db, adapter, "Use")
    assert way is not None
    due = next(step for step in way.steps if step.state in ("next", "wrong"))
    assert f"Step {way.steps.index(due) + 1} of 6: {due.name}" in " ".join(html.split())
    use = way.steps[-1]
    assert (use.state == "next") == (evaluation is None or states.of(evaluation).may_use)
    # With something more urgent above, it waits below.
    failed = make_job(db, user=ana, version=make_dataset_version(db, user=ana, decided=False))
    held(db, failed.version)
    waits = card(home(client), "Waiting for you")
    is_quiet = words in ("See how far it is", "Ask it", "Evaluate it")
    assert (words in waits) != is_quiet


def test_what_was_checked_no_longer_waits(client: TestClient, db: Session, ana: User) -> None:
    version = make_dataset_version(db, user=ana, name="Pain", num_test=24)
    job = make_job(db, user=ana, version=version, status=JobStatus.SUCCEEDED)
    adapter = make_adapter(db, job=job, name="Pain model")
    marks = {Arm.TUNED: "r" * 9 + "w" * 14 + "u", Arm.BASE: "w" * 24}
    evaluation = make_evaluation(db, adapter=adapter, marks=marks)
    sign_in(client, db, ana)
    html = home(client)
    assert "1 answer of “Pain model” is for you to check. It counts as wrong until you do." in html
    ((address, _),) = re.findall(_PRIMARY, html)
    assert "tuned says 23" in client.get(address).text
    client.post(f"/evaluations/{evaluation.id}/answers/23/tuned", data={"mark": "wrong"})
    html = home(client)
    assert "to check" not in html
    assert "“Pain model”: better, not ready." in html
    assert "do not use it yet" in html


def test_a_model_that_was_withdrawn_asks_for_nothing(
    client: TestClient, db: Session, ana: User
) -> None:
    version = make_dataset_version(db, user=ana, num_test=24)
    job = make_job(db, user=ana, version=version, status=JobStatus.SUCCEEDED)
    adapter = make_adapter(db, job=job, release=Release.WITHDRAWN)
    make_evaluation(db, adapter=adapter)
    sign_in(client, db, ana)
    html = home(client)
    assert "Withdrawn everywhere" in card(html, "Your work")
    assert re.findall(_PRIMARY, html) == [("/datasets/new", "Add data")]


def test_what_failed_says_so(client: TestClient, db: Session, ana: User) -> None:
    version = make_dataset_version(db, user=ana, status=VersionStatus.FAILED, reason="It is empty.")
    sign_in(client, db, ana)
    assert re.findall(_PRIMARY, home(client)) == [(f"/versions/{version.id}", "See what is wrong")]


# --- colleagues' ---------------------------------------------------------------------------------


def test_colleagues_work_stands_below_and_waits_for_them(
    client: TestClient, db: Session, ana: User, ben: User
) -> None:
    make_dataset_version(db, user=ana, name="Mine")
    theirs = make_dataset_version(db, user=ben, name="Theirs", decided=False)
    held(db, theirs)
    sign_in(client, db, ana)
    html = home(client)
    assert "Theirs" in card(html, "Data waiting for somebody")
    assert "Theirs" not in card(html, "Waiting for you") + card(html, "Your work")


def test_a_lead_is_asked_to_decide_about_colleagues_data(
    client: TestClient, db: Session, ben: User
) -> None:
    lead = make_user(db, role=Role.LEAD)
    theirs = make_dataset_version(db, user=ben, name="Theirs", decided=False)
    held(db, theirs)
    sign_in(client, db, lead)
    html = home(client)
    assert f"/versions/{theirs.id}/privacy" in html


def test_another_department_is_not_there(client: TestClient, db: Session, ana: User) -> None:
    stranger = make_user(db, department=make_department(db))
    make_adapter(db, user=stranger, name="Elsewhere")
    make_dataset_version(db, user=stranger, name="Far", status=VersionStatus.MAPPING)
    sign_in(client, db, ana)
    html = home(client)
    assert "Elsewhere" not in html
    assert "Far" not in html


# --- what it costs -------------------------------------------------------------------------------


@contextmanager
def counted() -> Iterator[list[str]]:
    """Note the statements that all sessions send."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_pages_ask_few_questions_however_much_there_is(
    client: TestClient, db: Session, ana: User, ben: User
) -> None:
    for user in (ana, ben):
        for number in range(12):
            adapter = make_adapter(db, user=user, name=f"Try {number}")
            make_evaluation(db, adapter=adapter)
            make_dataset_version(db, user=user, status=VersionStatus.MAPPING)
            make_job(db, user=user, status=JobStatus.FAILED)
    sign_in(client, db, ana)
    for address, most in (("/", 7), ("/jobs", 6), ("/datasets", 6), ("/adapters", 6)):
        client.get(address)  # what a process knows from then on
        with counted() as sent:
            assert client.get(address).status_code == 200
        assert len(sent) <= most, f"{address}:\n" + "\n".join(sent)
