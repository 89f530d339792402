"""Sign-in, one-time links, accounts and people, as a browser without JavaScript meets them."""

import re

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import ApiToken, Role, User
from app.main import create_app
from app.people import auth
from tests.app.web.pages import ORIGIN, sign_in
from tests.factories import PASSWORD, make_user


def test_the_first_link_makes_the_administrator_once(client: TestClient, db: Session) -> None:
    secret = auth.create_setup_link(db, None)
    db.commit()
    nobody_yet = client.get("/sign-in").text
    assert "one-time link" in nobody_yet
    assert 'name="password"' not in nobody_yet
    page = client.get(f"/setup/{secret}")
    assert "Welcome" in page.text
    form = {"email": "Ada@House.example", "name": "Ada", "password": PASSWORD}
    wrong = client.post(f"/setup/{secret}", data=form, headers=ORIGIN)
    assert wrong.status_code == 422
    assert "The two passwords differ" in wrong.text
    assert 'value="Ada@House.example"' in wrong.text
    assert PASSWORD not in wrong.text
    form["password_again"] = PASSWORD
    home = client.post(f"/setup/{secret}", data=form, headers=ORIGIN)
    assert home.url.path == "/"
    assert "Hello, Ada" in home.text
    assert db.scalars(select(User.role)).all() == [Role.ADMIN]
    assert client.get(f"/setup/{secret}").status_code == 404


def test_the_cookie_is_for_the_browser_alone(client: TestClient, db: Session) -> None:
    make_user(db, email="ada@house.example", password=PASSWORD)
    answer = client.post(
        "/sign-in",
        data={"email": "ada@house.example", "password": PASSWORD},
        headers=ORIGIN,
        follow_redirects=False,
    )
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_over_https_no_other_site_can_set_the_cookie(
    database_url: str, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_SECURE_COOKIES", "true")
    settings.get.cache_clear()
    ada = make_user(db, email="ada@house.example", password=PASSWORD)
    with TestClient(create_app(), base_url="https://127.0.0.1") as browser:
        browser.headers["Origin"] = "https://127.0.0.1"
        form = {"email": "ada@house.example", "password": PASSWORD}
        answer = browser.post("/sign-in", data=form, follow_redirects=False)
        said = answer.headers.get_list("set-cookie")
        assert [each.partition("=")[0] for each in said] == [
            "__Host-etude_session",
            "__Host-etude_known_browser",
        ]
        for each in said:  # what browsers ask of a name with this prefix
            assert "; Path=/;" in each
            assert "; Secure" in each
            assert "domain" not in each.lower()
        assert browser.get("/account").url.path == "/account"
        left = browser.post("/sign-out", follow_redirects=False)
        assert left.headers["clear-site-data"] == '"cache", "storage"'
        assert not browser.cookies.get("__Host-etude_session")
        # One of the name without the prefix may be from anybody.
        browser.cookies.set(auth.COOKIE, auth.open_session(db, ada))
        db.commit()
        assert browser.get("/account").status_code == 401


def test_guessing_a_password_is_slowed_down(client: TestClient, db: Session) -> None:
    make_user(db, email="ada@house.example", password=PASSWORD)
    form = {"email": "ada@house.example", "password": "a wrong guess"}
    for _ in range(5):
        answer = client.post("/sign-in", data=form, headers=ORIGIN)
        assert answer.status_code == 422
        assert 'value="ada@house.example"' in answer.text
    form["password"] = PASSWORD
    answer = client.post("/sign-in", data=form, headers=ORIGIN)
    assert answer.status_code == 429
    assert "Please wait" in answer.text


def test_signing_out_ends_the_session(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    cookie = client.cookies[auth.COOKIE]
    assert client.post("/sign-out").url.path == "/sign-in"
    client.cookies.set(auth.COOKIE, cookie)
    assert client.get("/account", follow_redirects=False).headers["location"].startswith("/sign-in")


def test_a_password_is_changed_with_the_old_one(client: TestClient, db: Session) -> None:
    user = make_user(db, password=PASSWORD)
    elsewhere = auth.open_session(db, user)
    sign_in(client, db, user)
    new = "five loud red kettles"
    form = {"old_password": "not it", "password": new, "password_again": new}
    wrong = client.post("/account/password", data=form)
    assert wrong.status_code == 422
    assert re.search(r'id="old_password-wrong">This is not your current password', wrong.text)
    empty = client.post("/account/password", data={}).text
    several = {"old_password": "not it", "password": "short", "password_again": "other"}
    for page in (empty, client.post("/account/password", data=several).text):
        for field in several:
            assert f'id="{field}-wrong"' in page, field
    form["old_password"] = PASSWORD
    assert "has been changed" in client.post("/account/password", data=form).text
    db.expire_all()
    assert auth.user_of_session(db, elsewhere) is None
    assert auth.sign_in(db, user.email, new, "10.0.0.1")


def test_a_token_is_shown_once_and_can_be_stopped(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    assert client.post("/account/tokens", data={"name": " "}).status_code == 422
    made = client.post("/account/tokens", data={"name": "nightly"})
    token = re.findall(r"<code class=\"secret\">(etude-[\w-]+)</code>", made.text)[0]
    assert auth.user_of_token(db, token) is not None
    assert token not in client.get("/account").text
    # Who reloads the page, or opens the form's own address, sees the account's page.
    assert "Your account" in client.get("/account/tokens").text
    number = db.scalars(select(ApiToken.id)).one()
    client.post(f"/account/tokens/{number}/revoke")
    db.expire_all()
    assert auth.user_of_token(db, token) is None


def test_a_token_of_somebody_else_cannot_be_stopped(client: TestClient, db: Session) -> None:
    token = auth.create_token(db, make_user(db), "theirs")
    db.commit()
    sign_in(client, db, make_user(db))
    number = db.scalars(select(ApiToken.id)).one()
    assert client.post(f"/account/tokens/{number}/revoke").status_code == 404
    assert auth.user_of_token(db, token) is not None


def test_an_administrator_invites_and_the_link_works_once(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    form = {"email": "nobody", "name": "Bea", "role": "viewer"}
    wrong = client.post("/people", data=form)
    assert wrong.status_code == 422
    assert 'id="email-wrong"' in wrong.text
    assert 'value="Bea"' in wrong.text
    form["email"] = "bea@house.example"
    page = client.post("/people", data=form)
    link = re.findall(r"http://127\.0\.0\.1(/setup/[\w-]+)", page.text)[0]
    assert page.request.method == "GET", "reloading it sends no form"
    again = client.get("/people")
    assert "/setup/" not in again.text, "it is shown once"
    client.cookies.clear()
    assert "bea@house.example" in client.get(link).text
    passwords = {"password": PASSWORD, "password_again": PASSWORD}
    assert "Hello, Bea" in client.post(link, data=passwords).text
    assert client.post(link, data=passwords).status_code == 404
    bea = db.scalars(select(User).where(User.email == "bea@house.example")).one()
    assert bea.role is Role.VIEWER


def test_a_reset_link_is_shown_to_who_asked_for_it_alone(client: TestClient, db: Session) -> None:
    admin, other = make_user(db, role=Role.ADMIN), make_user(db, role=Role.ADMIN)
    person = make_user(db)
    sign_in(client, db, admin)
    answer = client.post(f"/people/{person.id}/link", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/people")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "/setup/" not in answer.headers["set-cookie"]
    once = client.cookies["etude_once"]
    sign_in(client, db, other)
    client.cookies.set("etude_once", once)
    assert "/setup/" not in client.get("/people").text, "it is signed for another"
    sign_in(client, db, admin)
    client.cookies.set("etude_once", once.replace(once[:4], "0000"))
    assert "/setup/" not in client.get("/people").text, "it was changed on the way"
    opened = client.get(f"/people/{person.id}/link")
    assert opened.status_code == 200
    assert "Add a person" in opened.text


def test_all_that_is_wrong_with_a_form_is_said_at_once(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    wrong = client.post("/people", data={"email": "nobody", "name": "Bea", "role": "queen"})
    assert wrong.status_code == 422
    assert 'id="email-wrong"' in wrong.text
    assert 'id="role-wrong"' in wrong.text
    assert "2 things are missing or wrong" in wrong.text
    person = make_user(db)
    link = auth.create_setup_link(db, person, None)
    db.commit()
    page = client.post(f"/setup/{link}", data={"password": "short", "password_again": "other"})
    assert 'id="password-wrong"' in page.text
    assert 'id="password_again-wrong"' in page.text


@pytest.mark.parametrize("role", [Role.MEMBER, Role.LEAD, Role.VIEWER])
def test_people_are_for_administrators(client: TestClient, db: Session, role: Role) -> None:
    other = make_user(db)
    sign_in(client, db, make_user(db, role=role))
    assert client.get("/people").status_code == 403
    assert client.post("/people", data={"email": "x@house.example"}).status_code == 403
    for deed in ("role", "disable", "enable", "link"):
        assert client.post(f"/people/{other.id}/{deed}").status_code == 403, deed
    assert db.scalars(select(func.count()).select_from(User)).one() == 2


def test_closing_an_account_ends_its_sessions_and_tokens(client: TestClient, db: Session) -> None:
    person = make_user(db)
    session, token = auth.open_session(db, person), auth.create_token(db, person, "program")
    db.commit()
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert client.post(f"/people/{person.id}/disable").status_code == 200
    db.expire_all()
    assert auth.user_of_session(db, session) is None
    assert auth.user_of_token(db, token) is None
    client.post(f"/people/{person.id}/enable")
    db.expire_all()
    assert auth.user_of_token(db, token) is not None


def test_the_last_administrator_stays_one(client: TestClient, db: Session) -> None:
    admin = make_user(db, role=Role.ADMIN)
    sign_in(client, db, admin)
    answer = client.post(f"/people/{admin.id}/role", data={"role": "member"})
    assert answer.status_code == 409
    assert "the only administrator" in answer.text
    second = make_user(db, role=Role.ADMIN)
    assert client.post(f"/people/{admin.id}/role", data={"role": "member"}).status_code == 403
    db.expire_all()
    assert (admin.role, second.role) == (Role.MEMBER, Role.ADMIN)
