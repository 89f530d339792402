"""How long a sign-in lasts, which there are, and how their owner ends them."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import extract, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import clock
from app.core.models import AuditEvent, User, WebSession
from app.people import auth, browsers, sessions
from tests.app.web.pages import ORIGIN, READS_HTML, sign_in
from tests.factories import PASSWORD, make_user

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:150.0) Gecko/20100101 Firefox/150.0"


@pytest.fixture
def ada(db: Session) -> User:
    return make_user(db, email="ada@house.example", password=PASSWORD)


def age(db: Session, **minutes: float) -> None:
    """Let time pass for every session: idle, or since it began."""
    values = {"last_used_at": clock.NOW - timedelta(minutes=minutes.get("idle", 0))}
    if "whole" in minutes:
        values["expires_at"] = WebSession.expires_at - timedelta(minutes=minutes["whole"])
    db.execute(update(WebSession).values(values))
    db.commit()
    db.expire_all()


def idle_minutes(db: Session) -> float:
    since = db.scalars(select(extract("epoch", clock.NOW - WebSession.last_used_at))).one()
    return float(since) / 60


def post_sign_in(client: TestClient, **more: str) -> None:
    form = {"email": "ada@house.example", "password": PASSWORD, **more}
    answer = client.post("/sign-in", data=form, headers=ORIGIN, follow_redirects=False)
    assert answer.status_code == 303, answer.text


def is_in(client: TestClient, **headers: str) -> bool:
    answer = client.get("/account", headers={**READS_HTML, **headers}, follow_redirects=False)
    return answer.status_code == 200


def test_an_idle_session_ends_and_a_used_one_does_not(
    client: TestClient, ada: User, db: Session
) -> None:
    post_sign_in(client)
    age(db, idle=119)
    assert is_in(client)
    age(db, idle=61)
    assert is_in(client), "what was done before counts"
    age(db, idle=121)
    assert not is_in(client)


def test_every_session_ends_at_last(client: TestClient, ada: User, db: Session) -> None:
    post_sign_in(client)
    age(db, whole=12 * 60 + 1)
    assert not is_in(client)


def test_a_shared_computer_is_signed_out_after_a_quarter_of_an_hour(
    client: TestClient, ada: User, db: Session
) -> None:
    assert "after 15 minutes" in client.get("/sign-in").text
    post_sign_in(client, shared="yes")
    age(db, idle=14)
    assert is_in(client)
    age(db, idle=16)
    assert not is_in(client)


def test_the_cookie_of_a_shared_computer_goes_with_its_window(
    client: TestClient, ada: User, db: Session
) -> None:
    form = {"email": "ada@house.example", "password": PASSWORD}
    for more, lasts in (({}, True), ({"shared": "yes"}, False)):
        answer = client.post("/sign-in", data=form | more, headers=ORIGIN, follow_redirects=False)
        cookies = answer.headers.get_list("set-cookie")
        cookie = next(each for each in cookies if each.startswith(auth.COOKIE + "="))
        assert ("max-age" in cookie.lower()) is lasts


def test_what_a_page_asks_by_itself_keeps_nobody_signed_in(
    client: TestClient, ada: User, db: Session
) -> None:
    post_sign_in(client)
    age(db, idle=100)
    assert client.get("/notices/bell", headers={"HX-Request": "true"}).status_code == 200
    assert idle_minutes(db) > 99
    client.post("/notices/read", headers={**ORIGIN, "HX-Request": "true"})
    assert idle_minutes(db) < 90, "a person pressed something"


def test_signing_in_ends_the_session_that_the_browser_had(
    client: TestClient, ada: User, db: Session
) -> None:
    bea = make_user(db)
    hers = auth.open_session(db, bea)
    elsewhere = auth.open_session(db, bea)
    db.commit()
    client.cookies.set(auth.COOKIE, hers)
    post_sign_in(client)
    assert auth.user_of_session(db, hers) is None
    assert auth.user_of_session(db, elsewhere) is bea


def test_setting_a_password_by_a_link_ends_it_too(
    client: TestClient, ada: User, db: Session
) -> None:
    hers = auth.open_session(db, make_user(db))
    link = auth.create_setup_link(db, ada)
    db.commit()
    client.cookies.set(auth.COOKIE, hers)
    form = {"password": PASSWORD, "password_again": PASSWORD}
    assert client.post(f"/setup/{link}", data=form, headers=ORIGIN).url.path == "/"
    assert auth.user_of_session(db, hers) is None


def test_a_person_sees_where_they_are_signed_in_and_ends_it(
    client: TestClient, ada: User, db: Session
) -> None:
    ward = auth.open_session(db, ada, browser="Chrome on a Chromebook", is_shared=True)
    home = auth.open_session(db, ada, browser="Safari on an iPhone")
    db.commit()
    client.headers["User-Agent"] = FIREFOX
    post_sign_in(client)
    client.headers.update({**ORIGIN, **READS_HTML})
    shown = client.get("/account").text
    for words in ("Firefox on Windows", "Chrome on a Chromebook", "Safari on an iPhone"):
        assert shown.count(f"<strong>{words}</strong>") == 1
    assert shown.count("This one") == 1
    assert shown.count("shared computer") == 1
    ends = re.findall(r'action="(/account/sessions/\d+/end)"', shown)
    assert len(ends) == 2, "this one has its own button at the top"
    row = db.scalars(select(WebSession).where(WebSession.token_hash == sessions.digest(ward))).one()
    done = client.post(f"/account/sessions/{row.id}/end")
    assert "That browser has been signed out" in done.text
    assert auth.user_of_session(db, ward) is None
    assert auth.user_of_session(db, home) is not None
    assert client.post(f"/account/sessions/{row.id}/end").status_code == 404
    assert "Every other browser" in client.post("/account/sessions/others/end").text
    assert auth.user_of_session(db, home) is None
    actions = set(db.scalars(select(AuditEvent.action)))
    assert {"account.end_session", "account.end_other_sessions"} <= actions


def test_nobody_ends_somebody_elses(client: TestClient, ada: User, db: Session) -> None:
    hers = auth.open_session(db, ada)
    db.commit()
    number = db.scalars(select(WebSession.id)).one()
    sign_in(client, db, make_user(db))
    assert client.post(f"/account/sessions/{number}/end").status_code == 404
    client.post("/account/sessions/others/end")
    assert auth.user_of_session(db, hers) is not None


def test_a_new_password_leaves_a_shared_computer_shared(
    client: TestClient, ada: User, db: Session
) -> None:
    post_sign_in(client, shared="yes")
    new = "five loud red kettles"
    form = {"old_password": PASSWORD, "password": new, "password_again": new}
    assert client.post("/account/password", data=form, headers=ORIGIN).status_code == 200
    assert db.scalars(select(WebSession.is_shared)).all() == [True]


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (FIREFOX, "Firefox on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
         "Version/19.0 Safari/605.1.15", "Safari on a Mac"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/145.0.0.0 "
         "Safari/537.36 Edg/145.0.0.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
         "Chrome/145.0.0.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.0", "An unknown browser"),
        ("", "An unknown browser"),
    ],
)  # fmt: skip
def test_what_a_browser_is_called(user_agent: str, words: str) -> None:
    assert browsers.describe(user_agent) == words
