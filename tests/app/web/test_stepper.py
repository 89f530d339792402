"""The six steps at the top of each page about a piece of work, from a file to its use."""

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import (
    Adapter,
    Arm,
    CheckStatus,
    DatasetCheck,
    JobStatus,
    PrivacyReview,
    Release,
    ReviewStatus,
    User,
    VersionStatus,
)
from app.web import stepper
from app.web.stepper import Stepper
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_dataset_version,
    make_evaluation,
    make_job,
    make_user,
)
from tests.security.full_house import addresses, furnish


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


def states_of(found: Stepper | None) -> dict[str, str]:
    assert found is not None
    return {step.name: step.state for step in found.steps}


def notes_of(found: Stepper | None) -> dict[str, str]:
    assert found is not None
    return {step.name: step.note for step in found.steps}


def test_from_a_file_to_its_use(db: Session, user: User) -> None:
    version = make_dataset_version(db, user=user, num_test=4)
    version.status = VersionStatus.UPLOADED
    db.flush()
    found: Stepper | None = stepper.of_version(db, version, "Data")
    assert found is not None
    assert states_of(found) == {
        "Data": "next", "Check": "later", "Personal details": "later",
        "Train": "later", "Result": "later", "Use": "later",
    }  # fmt: skip
    assert found.number == 1
    assert notes_of(found)["Data"] == "being read"
    version.status = VersionStatus.CONFIRMED
    db.flush()
    assert notes_of(stepper.of_version(db, version, "Data"))["Data"] == "being made into examples"

    version.status = VersionStatus.READY
    check = DatasetCheck(version_id=version.id, status=CheckStatus.WAITING)
    db.add(check)
    db.flush()
    found = stepper.of_version(db, version, "Data")
    assert states_of(found)["Data"] == "done"
    assert (states_of(found)["Check"], notes_of(found)["Check"]) == ("next", "being checked")
    check.status = CheckStatus.DONE
    db.flush()
    assert notes_of(stepper.of_version(db, version, "Data"))["Check"] == "nothing stands out"

    job = make_job(db, user=user, version=version)
    assert notes_of(stepper.of_version(db, version, "Data"))["Train"] == "waiting"
    # Its own page says so itself, and goes on to say it.
    assert notes_of(stepper.of_job(db, job))["Train"] == "waiting"
    assert stepper.of_job(db, job).steps[3].figure == "status"
    job.status = JobStatus.FAILED
    assert states_of(stepper.of_job(db, job))["Train"] == "wrong"
    # Whoever makes another one begins anew.
    assert states_of(stepper.of_new_job(db, version))["Train"] == "next"

    trained = make_job(
        db, user=user, version=version, status=JobStatus.SUCCEEDED, finished_at=datetime.now(UTC)
    )
    adapter = make_adapter(db, job=trained)
    found = stepper.of_adapter(db, adapter, "Use")
    assert states_of(found)["Train"] == "done"
    assert (states_of(found)["Result"], states_of(found)["Use"]) == ("next", "next")
    marks = {Arm.TUNED: "r" * 29 + "w" * 12, Arm.BASE: "w" * 41, Arm.LOOKUP: "w" * 41}
    evaluation = make_evaluation(db, adapter=adapter, marks=marks)
    found = stepper.of_evaluation(db, evaluation)
    assert notes_of(found)["Result"] == "29 of 41 right"
    assert found is not None
    assert (found.here, found.number) == ("Result", 5)
    # Better than before, and not ready: nobody is led on to use it.
    assert states_of(found)["Result"] == "wrong"
    use = found.steps[-1]
    assert (use.state, use.note) == ("later", "not ready to be used")
    adapter.release = Release.RELEASED
    released = stepper.of_adapter(db, adapter, "Use")
    assert notes_of(released)["Use"] == "released, though not ready"
    marks = {Arm.TUNED: "r" * 60, Arm.BASE: "w" * 60, Arm.LOOKUP: "w" * 60}
    make_evaluation(db, adapter=adapter, marks=marks)
    released = stepper.of_adapter(db, adapter, "Use")
    assert (states_of(released)["Result"], states_of(released)["Use"]) == ("done", "done")
    assert notes_of(released)["Use"] == "released to colleagues"


@pytest.mark.parametrize(
    ("status", "done", "state", "note"),
    [
        (ReviewStatus.SCANNING, None, "next", "being searched"),
        (ReviewStatus.UNDECIDED, None, "next", "your decision is needed"),
        (ReviewStatus.FAILED, None, "wrong", "the search failed"),
        (ReviewStatus.DECIDED, {}, "done", "none found"),
        (ReviewStatus.DECIDED, {"name": {"keep": 2}}, "done", "2 kept"),
    ],
)
def test_what_the_gate_makes_of_it(
    db: Session,
    user: User,
    status: ReviewStatus,
    done: dict[str, dict[str, int]] | None,
    state: str,
    note: str,
) -> None:
    version = make_dataset_version(db, user=user)
    review = db.query(PrivacyReview).filter_by(version_id=version.id).one_or_none()
    if review is None:
        review = PrivacyReview(version_id=version.id)
        db.add(review)
    review.status, review.done = ReviewStatus.DECIDED, done
    db.flush()
    if status is ReviewStatus.SCANNING:
        review.status = ReviewStatus.WAITING  # held by nobody
    else:
        review.status = status
    db.flush()
    found = stepper.of_version(db, version, "Personal details")
    step = found.steps[2]
    assert (step.state, step.note) == (state, note)
    # What is held has no next step but the decision.
    assert (states_of(found)["Train"] == "next") == (state == "done")


def test_what_was_taken_out_in_another_version_is_counted(db: Session, user: User) -> None:
    before = make_dataset_version(db, user=user)
    after = make_dataset_version(db, user=user)
    for version in (before, after):
        db.query(PrivacyReview).filter_by(version_id=version.id).delete()
    db.add(
        PrivacyReview(
            version_id=before.id, status=ReviewStatus.REPLACED, result_version_id=after.id,
            done={"name": {"replace": 30, "keep": 1}, "phone": {"replace": 7}},
        )
    )  # fmt: skip
    db.add(
        PrivacyReview(version_id=after.id, status=ReviewStatus.DECIDED, done={"name": {"keep": 1}})
    )
    db.flush()
    step = stepper.of_version(db, after, "Data").steps[2]
    assert step.note == "37 taken out, 1 kept"
    assert "newer version" in stepper.of_version(db, before, "Data").steps[2].note


def test_each_page_of_the_work_shows_where_it_is(
    client: TestClient, db: Session, user: User
) -> None:
    version = make_dataset_version(db, user=user, num_test=4)
    job = make_job(db, user=user, version=version)
    adapter = make_adapter(db, job=job)
    evaluation = make_evaluation(db, adapter=adapter)
    sign_in(client, db, user)
    for address, number in (
        (f"/versions/{version.id}", 1),
        (f"/versions/{version.id}/check", 2),
        (f"/versions/{version.id}/privacy", 3),
        (f"/versions/{version.id}/train", 4),
        (f"/versions/{version.id}/file", 1),
        (f"/jobs/new?version={version.id}", 4),
        (f"/jobs/{job.id}", 4),
        (f"/evaluations/{evaluation.id}", 5),
        (f"/adapters/{adapter.id}", 6),
        (f"/adapters/{adapter.id}/ask", 6),
    ):
        text = client.get(address).text
        assert f"Step {number} of 6" in text, address
        assert text.count('aria-current="step"') == 2, address  # for a desk, and for a phone
    assert 'class="stepper"' not in client.get("/").text


def test_steps_and_tabs_name_each_page_of_data_once(
    client: TestClient, db: Session, user: User
) -> None:
    version = make_dataset_version(db, user=user, num_test=4)
    make_job(db, user=user, version=version)
    at = f"/versions/{version.id}"
    sign_in(client, db, user)
    for below in ("", "/check", "/privacy", "/train", "/file"):
        text = client.get(at + below).text
        steps = dict(re.findall(r'<a href="([^"]+)">([^<]+)</a>', _nav(text, "Steps of this work")))
        assert [steps[f"{at}{each}"] for each in ("", "/check", "/privacy", "/train")] == [
            "Data", "Check", "Personal details", "Train",
        ]  # fmt: skip
        tabs = re.findall(r"<a[^>]*>([^<]+)</a>", _nav(text, "Pages of this data"))
        assert tabs == ([] if below in ("/check", "/privacy", "/train") else list(_TABS)), below
        # From what has no tabs the way back stands at the top.
        crumbs = _nav(text, "Where you are")
        assert (f'href="{at}"' in crumbs) == (not tabs), below
    held = make_dataset_version(db, user=user, decided=False)
    address = f"/versions/{held.id}/train"
    assert f'href="{address}"' in client.get(f"/versions/{held.id}").text
    assert client.get(address).status_code == 200


_TABS = ("Overview", "File and versions")


def _nav(text: str, label: str) -> str:
    found = re.search(rf'<nav[^>]*aria-label="{label}">(.*?)</nav>', text, re.DOTALL)
    return found[1] if found else ""


# Pages of a piece of work that stand in no step of it: for everybody, and before a vote.
_IN_NO_STEP = re.compile(r"/(ask/\d+|votes/\d+)$")
_WORK = re.compile(r"/(versions|jobs|adapters|evaluations|curves|votes|ask|lists)/\d")


def test_no_page_of_a_piece_of_work_is_without_its_steps(
    client: TestClient, db: Session, broker: str
) -> None:
    admin = furnish(db)
    adapter = db.scalars(select(Adapter).where(Adapter.binned_at.is_(None))).first()
    assert adapter is not None
    sign_in(client, db, admin)
    without, num_looked = [], 0
    for address in {re.sub(r"\d+", "N", each): each for each in addresses(db)}.values():
        if not _WORK.match(address):
            continue
        answer = client.get(address)
        is_page = "text/html" in answer.headers.get("content-type", "") and "<html" in answer.text
        if answer.status_code != 200 or not is_page:
            continue
        num_looked += 1
        has_it = 'id="steps"' in answer.text
        if has_it == bool(_IN_NO_STEP.match(address)):
            without.append(address)
    assert num_looked > 20
    assert not without, "\n".join(without)
    for below, number in (("use", 6), ("sharing", 6), ("feedback", 6), ("lists", 6)):
        text = client.get(f"/adapters/{adapter.id}/{below}").text
        assert f"Step {number} of 6" in text, below
