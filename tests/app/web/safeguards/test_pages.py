"""The page of safeguards: for administrators, and it says what is so."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import OutboundCount, Role, Webhook
from app.machines import safeguards
from app.training import isolation
from tests.app.web.pages import sign_in
from tests.factories import make_user

ADDRESS = "/settings/safeguards"


def test_only_administrators_see_it(client: TestClient, db: Session) -> None:
    for role in (Role.MEMBER, Role.LEAD, Role.VIEWER):
        sign_in(client, db, make_user(db, role=role))
        assert client.get(ADDRESS).status_code == 403
        assert ADDRESS not in client.get("/account").text
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert client.get(ADDRESS).status_code == 200
    assert ADDRESS in client.get("/settings").text


def test_with_nothing_switched_on_it_says_that_nothing_leaves(
    client: TestClient, db: Session
) -> None:
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    page = client.get(ADDRESS).text
    assert "No setting lets anything leave this machine, and nothing has tried to." in page
    assert "On: " not in page
    assert ("Stands" in page) == isolation.can_leave_network()


def test_what_is_switched_on_is_named(
    client: TestClient, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ETUDE_HUB_DOWNLOADS": "true",
        "ETUDE_SMTP_HOST": "mail.house.example",
        "ETUDE_MLFLOW_URL": "https://mlflow.house.example/",
        "ETUDE_INFERENCE_URL": "http://user:secret@vllm.house.example:8000/",
        "REDIS_URL": "redis://:secret@valkey.house.example:6379/0",
    }.items():
        monkeypatch.setenv(name, value)
    settings.get.cache_clear()
    db.add(Webhook(name="Ward", url="https://hooks.house.example/x"))
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    page = client.get(ADDRESS).text
    for said in (
        "On: models may be downloaded", "On: mail.house.example", "On: 1 address",
        "On: mlflow.house.example", "On: vllm.house.example", "On: valkey.house.example",
    ):  # fmt: skip
        assert said in page
    assert "secret" not in page
    assert "downloads of models, mail, webhooks, figures and settings of jobs, for the site" in page


def test_what_was_tried_is_shown_and_what_is_unexpected_first(
    client: TestClient, db: Session
) -> None:
    now = datetime.now(UTC)
    rows: tuple[tuple[str, dict[str, int], dict[str, int]], ...] = (
        ("web-8000@here", {}, {}),
        ("cpu-0@here", {"mail": 12, "webhooks": 3}, {"<b>evil</b>.example": 2}),
    )
    for process, allowed, unexpected in rows:
        db.add(
            OutboundCount(
                process=process, allowed=allowed, unexpected=unexpected, started_at=now, seen_at=now
            )
        )
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    page = client.get(ADDRESS).text
    assert "Something here tried to reach another machine, and no setting allows that." in page
    assert "mail: 12, webhooks: 3" in page
    assert "&lt;b&gt;evil&lt;/b&gt;.example (2 times)" in page
    assert "<b>evil" not in page


def test_a_process_that_is_gone_for_a_week_is_forgotten(db: Session) -> None:
    old = datetime(2020, 1, 1, tzinfo=UTC)
    for name, seen in (("gone@here", old), ("here@here", datetime.now(UTC))):
        db.add(OutboundCount(process=name, allowed={}, unexpected={}, seen_at=seen))
    db.commit()
    safeguards.forget_old(db)
    assert [each.process for each in safeguards.tried(db)] == ["here@here"]
