"""The privacy gate by pages: what is shown, what may be done, and what a job is told."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import (
    DatasetVersion,
    Example,
    Job,
    PrivacyFinding,
    PrivacyPattern,
    PrivacyReview,
    ReviewStatus,
    Role,
    User,
)
from app.datasets.privacy import reviews
from app.datasets.privacy.findings import Kind
from app.datasets.privacy.stand_ins import key_of
from tests.app.web.pages import sign_in
from tests.factories import make_base_model, make_dataset_version, make_department, make_user

ROOT = Path(__file__).resolve().parents[4]
NASTY = "<b>Thyra</b>"


@pytest.fixture
def member(client: TestClient, db: Session) -> User:
    user = make_user(db)
    sign_in(client, db, user)
    return user


def scanned(db: Session, user: User, **columns: Any) -> DatasetVersion:
    """A version in which a worker has found a name and a phone number."""
    version = make_dataset_version(db, user=user, decided=False, **columns)
    row = db.get_one(Example, (version.id, 4))
    text = f"Call {NASTY} on 555-0143 today."
    row.messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]
    for kind, value in ((Kind.NAME, NASTY), (Kind.PHONE, "555-0143")):
        start = text.index(value)
        finding = PrivacyFinding(
            version_id=version.id, index=4, text=0, start=start, end=start + len(value),
            kind=kind.value, key=key_of(kind, value),
        )  # fmt: skip
        db.add(finding)
    found = {"name": 1, "phone": 1}
    db.add(
        PrivacyReview(
            version_id=version.id, status=ReviewStatus.UNDECIDED, found=found, num_examples=1
        )
    )
    db.commit()
    return version


def status(db: Session, version: DatasetVersion) -> ReviewStatus:
    db.expire_all()
    review = reviews.of(db, version.id)
    assert review is not None
    return review.status


def test_what_was_found_is_shown_and_a_job_is_sent_here(
    client: TestClient, db: Session, member: User
) -> None:
    model = make_base_model(db)
    version = scanned(db, member)
    page = client.get(f"/versions/{version.id}").text
    assert "We found 1 name and 1 phone number" in page
    assert "Train a model with this" not in page
    gate = client.get(f"/versions/{version.id}/privacy").text
    assert "Call <mark>&lt;b&gt;Thyra&lt;/b&gt;</mark> on 555-0143 today." in gate
    assert NASTY not in gate
    form = {"version_id": version.id, "base_model_id": model.id, "preset": "quick", "name": "x"}
    refused = client.post("/jobs/new", data=form)
    assert refused.status_code == 422
    assert "Decide about the personal details" in refused.text
    assert f'href="/versions/{version.id}/privacy"' in refused.text
    assert db.scalars(select(Job)).all() == []


def test_one_button_replaces_all_without_javascript(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    version = scanned(db, member)
    page = client.post(f"/versions/{version.id}/privacy", data={"do": "replace"})
    assert page.url.path == f"/versions/{version.id}/privacy"
    assert 'http-equiv="refresh"' in page.text
    assert status(db, version) is ReviewStatus.REQUESTED
    again = client.post(f"/versions/{version.id}/privacy", data={"do": "replace"})
    assert again.status_code == 409


def test_keeping_asks_for_a_sentence_and_keeps_what_was_chosen(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    version = scanned(db, member)
    key = key_of(Kind.NAME, NASTY)
    form = {"do": "chosen", "kind-name": "replace", "kind-phone": "keep", f"value-{key}": "keep"}
    wrong = client.post(f"/versions/{version.id}/privacy", data=form)
    assert wrong.status_code == 422
    assert 'id="reason-wrong"' in wrong.text
    chosen = re.findall(r'name="(kind-\w+|value-\w+)">.*?</select>', wrong.text, re.DOTALL)
    assert len(chosen) == 4
    assert wrong.text.count('<option value="keep" selected>') == 2
    odd = client.post(f"/versions/{version.id}/privacy", data={**form, "kind-phone": "sell"})
    assert odd.status_code == 422
    client.post(f"/versions/{version.id}/privacy", data={**form, "reason": "It is our own desk."})
    assert status(db, version) is ReviewStatus.DECIDED
    page = client.get(f"/versions/{version.id}").text
    assert "Personal details: 1 name and 1 phone number kept." in page
    assert "Train a model with this" in page
    kept = client.get(f"/versions/{version.id}/privacy").text
    assert "Kept in it: 1 name and 1 phone number." in kept
    assert "Call <mark>&lt;b&gt;Thyra&lt;/b&gt;</mark> on 555-0143 today." in kept
    assert "Replaced with stand-ins" not in kept
    assert "No personal details were found" not in kept


def test_one_decision_settles_a_value_in_all_its_examples(
    client: TestClient, db: Session, member: User
) -> None:
    version = make_dataset_version(db, user=member, decided=False)
    for index in range(6):
        row = db.get_one(Example, (version.id, index))
        row.messages = [
            {"role": "user", "content": f"No. {index}: ask Thyra, or Thyra's son."},
            {"role": "assistant", "content": "Her number is 943 476 5919."},
        ]
        places = [(Kind.NAME, 0, 11, 16), (Kind.NAME, 0, 21, 26), (Kind.NATIONAL_ID, 1, 14, 26)]
        for kind, text, start, end in places:
            value = row.messages[text]["content"][start:end]
            db.add(
                PrivacyFinding(
                    version_id=version.id, index=index, text=text, start=start, end=end,
                    kind=kind.value, key=key_of(kind, value),
                )
            )  # fmt: skip
    found = {"name": 12, "national_id": 6}
    db.add(
        PrivacyReview(
            version_id=version.id, status=ReviewStatus.UNDECIDED, found=found, num_examples=6
        )
    )
    db.commit()
    page = " ".join(client.get(f"/versions/{version.id}/privacy").text.split())
    assert page.count('name="value-') == 2, "a choice for each value, not for each place"
    assert page.index(">6 national IDs<") < page.index(">12 names<"), "the most dangerous first"
    assert "12 times in 6 examples" in page
    assert page.count("<mark>Thyra</mark>") == 3, "in three examples"
    assert "2 more examples" in page
    assert "Leave 6 examples out" in page


def test_what_one_button_leaves_out_is_checked(
    client: TestClient, db: Session, member: User, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = scanned(db, member)
    address = f"/versions/{version.id}/privacy"
    assert client.post(address, data={"do": "keep"}).status_code == 422
    assert client.post(address, data={"do": "sell"}).status_code == 422
    monkeypatch.setenv("ETUDE_MIN_EXAMPLES", str(version.num_rows))
    settings.get.cache_clear()
    refused = client.post(address, data={"do": "leave_out"})
    assert refused.status_code == 422
    assert "Leaving out 1 example would leave" in refused.text
    monkeypatch.setenv("ETUDE_MIN_EXAMPLES", "2")
    settings.get.cache_clear()
    client.post(address, data={"do": "leave_out"})
    assert status(db, version) is ReviewStatus.REQUESTED


def test_strangers_find_no_gate_and_viewers_cannot_decide(
    client: TestClient, db: Session, member: User
) -> None:
    version = scanned(db, member)
    address = f"/versions/{version.id}/privacy"
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert "Replace all" not in client.get(address).text
    assert client.post(address, data={"do": "replace"}).status_code == 403
    assert client.post(f"{address}/scan").status_code == 403
    sign_in(client, db, make_user(db, department=make_department(db)))
    for answer in (client.get(address), client.post(address), client.post(f"{address}/scan")):
        assert answer.status_code == 404
    assert status(db, version) is ReviewStatus.UNDECIDED


def test_a_version_that_nobody_looked_through_can_be(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    version = make_dataset_version(db, user=member, decided=False)
    address = f"/versions/{version.id}/privacy"
    assert "has not been searched" in client.get(address).text
    client.post(f"{address}/scan")
    assert status(db, version) is ReviewStatus.WAITING
    assert client.get(f"{address}?watching=1").status_code == 200


def test_a_sample_of_ours_is_decided_on_by_itself(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    client.post("/datasets/sample/clinic")
    review = db.scalars(select(PrivacyReview)).one()
    assert (review.status, review.is_stated) == (ReviewStatus.STATED, True)
    assert (review.decision or {})["default"] == "keep"


def test_administrators_add_patterns(client: TestClient, db: Session, member: User) -> None:
    assert client.get("/patterns").status_code == 403
    assert client.post("/patterns", data={"name": "x"}).status_code == 403
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    good = {"name": "Pass", "kind": "student_id", "pattern": r"\bST-\d{5}\b", "sample": "ST-00417"}
    for change, field in (
        ({"name": ""}, "name"),
        ({"kind": "shoe"}, "kind"),
        ({"pattern": "("}, "pattern"),
        ({"pattern": "a*"}, "pattern"),
        ({"pattern": r"(a|aa)+(b|a)+$", "sample": "ab"}, "pattern"),
        ({"sample": "ST-417"}, "sample"),
    ):
        wrong = client.post("/patterns", data={**good, **change})
        assert wrong.status_code == 422, change
        assert f'id="{field}-wrong"' in wrong.text, change
    empty = client.post("/patterns", data={"kind": "shoe"}).text
    assert all(f'id="{field}-wrong"' in empty for field in good)
    assert r"\bST-\d{5}\b" in client.post("/patterns", data=good).text
    row = db.scalars(select(PrivacyPattern)).one()
    client.post(f"/patterns/{row.id}/delete")
    db.expire_all()
    assert db.scalars(select(PrivacyPattern)).all() == []


@pytest.mark.usefixtures("member")
def test_a_page_says_how_well_the_search_works(client: TestClient) -> None:
    measured = (ROOT / "docs" / "privacy.md").read_text().rsplit("| name |", 1)[1]
    recall = float(measured.split("|")[1].split(",")[0])
    assert f"it found {100 * recall:.0f} of 100 names" in " ".join(
        client.get("/privacy").text.split()
    )
