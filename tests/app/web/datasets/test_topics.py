"""What the examples are about: on the page once the data may be learned from, and not before."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import CheckStatus, DatasetCheck, DatasetVersion, PrivacyReview, ReviewStatus
from app.datasets.doctor.report import Report, Topic
from tests.app.web.pages import sign_in
from tests.factories import make_dataset_version, make_user

TOPICS = [Topic(words=["copperyard", "ramp"], count=18), Topic(words=["porters<"], count=3)]


def checked(db: Session, **columns: Any) -> DatasetVersion:
    version = make_dataset_version(db, user=make_user(db), **columns)
    report = Report(num_examples=24, topics=TOPICS, num_topics_of=20)
    db.add(
        DatasetCheck(
            version_id=version.id,
            status=CheckStatus.DONE,
            report=report.model_dump(),
            checked_at=datetime.now(UTC),
        )
    )
    db.commit()
    return version


def page_of(client: TestClient, db: Session, version: DatasetVersion) -> str:
    sign_in(client, db, version.dataset.owner)
    return client.get(f"/versions/{version.id}/check").text


def test_topics_are_shown_with_their_counts(client: TestClient, db: Session) -> None:
    version = checked(db)
    page = page_of(client, db, version)
    assert "What the examples are about" in page
    assert f'href="/versions/{version.id}/examples?q=copperyard"' in page
    assert "porters&lt;" in page
    assert "Counted in 20 examples" in page


@pytest.mark.parametrize("status", [None, ReviewStatus.WAITING, ReviewStatus.UNDECIDED])
def test_no_word_of_them_is_shown_before_the_gate_is_decided(
    client: TestClient, db: Session, status: ReviewStatus | None
) -> None:
    version = checked(db, decided=False)
    if status is not None:
        found = {"name": 2} if status is ReviewStatus.UNDECIDED else None
        db.add(PrivacyReview(version_id=version.id, status=status, found=found))
        db.commit()
    page = page_of(client, db, version)
    assert "copperyard" not in page
    assert "What the examples are about" not in page
