"""Accounts, sessions, one-time links and tokens."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.errors import Conflict, Forbidden, Invalid, NotFound, TooMany
from app.core.models import (
    ApiToken,
    Role,
    SetupLink,
    SignInFailure,
    User,
    WebSession,
)
from app.people import auth

PASSWORD = "four quiet green lamps"


def make_person(db: Session, email: str = "ada@house.example") -> User:
    return auth.create_user(db, None, email, Role.MEMBER, password=PASSWORD)


def test_a_person_signs_in_and_out(db: Session) -> None:
    person = make_person(db)
    user, cookie = auth.sign_in(db, " Ada@House.example ", PASSWORD, "10.0.0.1")
    assert user.id == person.id
    assert auth.user_of_session(db, cookie) is person
    auth.sign_out(db, cookie)
    assert auth.user_of_session(db, cookie) is None


def test_the_cookie_is_not_stored_in_the_clear(db: Session) -> None:
    make_person(db)
    _, cookie = auth.sign_in(db, "ada@house.example", PASSWORD, "10.0.0.1")
    assert cookie.encode() not in db.scalars(select(WebSession)).one().token_hash


def test_an_expired_session_counts_no_longer(db: Session) -> None:
    make_person(db)
    _, cookie = auth.sign_in(db, "ada@house.example", PASSWORD, "10.0.0.1")
    db.execute(update(WebSession).values(expires_at=datetime.now(UTC) - timedelta(minutes=5)))
    assert auth.user_of_session(db, cookie) is None


def test_wrong_password_and_unknown_address_get_the_same_words(db: Session) -> None:
    make_person(db)
    words = set()
    for email in ("ada@house.example", "nobody@house.example"):
        with pytest.raises(Invalid) as raised:
            auth.sign_in(db, email, "not the password", "10.0.0.1")
        words.add(raised.value.message)
    assert len(words) == 1


def test_guessing_is_slowed_down_for_the_account_only(db: Session) -> None:
    make_person(db)
    make_person(db, "bea@house.example")
    for _ in range(5):
        with pytest.raises(Invalid):
            auth.sign_in(db, "ada@house.example", "wrong", "10.0.0.1")
        db.flush()
    # A slow machine may have spent the wait on hashing.
    db.execute(update(SignInFailure).values(at=datetime.now(UTC)))
    with pytest.raises(TooMany, match="wait"):
        auth.sign_in(db, "ada@house.example", PASSWORD, "10.0.0.2")
    assert auth.sign_in(db, "bea@house.example", PASSWORD, "10.0.0.1")
    # The wait ends by itself: strangers cannot lock a person out for good.
    db.execute(update(SignInFailure).values(at=datetime.now(UTC) - timedelta(minutes=6)))
    assert auth.sign_in(db, "ada@house.example", PASSWORD, "10.0.0.2")


def test_a_disabled_account_is_out_at_once(db: Session) -> None:
    person = make_person(db)
    _, cookie = auth.sign_in(db, "ada@house.example", PASSWORD, "10.0.0.1")
    token = auth.create_token(db, person, "script")
    person.disabled_at = datetime.now(UTC)
    db.flush()
    assert auth.user_of_session(db, cookie) is None
    assert auth.user_of_token(db, token) is None
    with pytest.raises(Invalid):
        auth.sign_in(db, "ada@house.example", PASSWORD, "10.0.0.1")


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaa", "ada@house.example", "x" * 257])
def test_weak_passwords_are_refused(db: Session, password: str) -> None:
    with pytest.raises(Invalid) as raised:
        auth.create_user(db, None, "ada@house.example", Role.MEMBER, password=password)
    assert raised.value.field == "password"


def test_changing_the_password_ends_other_sessions(db: Session) -> None:
    person = make_person(db)
    _, cookie = auth.sign_in(db, person.email, PASSWORD, "10.0.0.1")
    with pytest.raises(Invalid) as raised:
        auth.change_password(db, person, "not it", "another long password")
    assert raised.value.field == "old_password"
    auth.change_password(db, person, PASSWORD, "another long password")
    assert auth.user_of_session(db, cookie) is None


def test_one_address_has_one_account(db: Session) -> None:
    make_person(db)
    with pytest.raises(Conflict):
        make_person(db, "ADA@house.example")


def test_the_first_link_makes_one_administrator(db: Session) -> None:
    assert auth.needs_first_administrator(db)
    secret = auth.create_setup_link(db, None)
    assert auth.setup_link_user(db, secret) is None
    user = auth.use_setup_link(db, secret, email="ada@house.example", password=PASSWORD)
    db.flush()
    assert user.role is Role.ADMIN
    assert not auth.needs_first_administrator(db)
    with pytest.raises(NotFound):
        auth.use_setup_link(db, secret, email="eve@house.example", password=PASSWORD)


def test_a_new_link_replaces_the_old_one_and_expires(db: Session) -> None:
    person = make_person(db)
    old, new = auth.create_setup_link(db, person), auth.create_setup_link(db, person)
    with pytest.raises(NotFound):
        auth.setup_link_user(db, old)
    assert auth.setup_link_user(db, new) is person
    db.execute(update(SetupLink).values(expires_at=datetime.now(UTC) - timedelta(minutes=5)))
    with pytest.raises(NotFound):
        auth.setup_link_user(db, new)


def test_tokens_work_until_revoked_and_are_stored_hashed(db: Session) -> None:
    person = make_person(db)
    secret = auth.create_token(db, person, "script")
    stored = db.scalars(select(ApiToken)).one()
    assert secret.encode() not in stored.token_hash
    assert auth.user_of_token(db, secret) is person
    stranger = make_person(db, "eve@house.example")
    with pytest.raises(NotFound):
        auth.revoke_token(db, stranger, stored.id)
    auth.revoke_token(db, person, stored.id)
    db.flush()
    assert auth.user_of_token(db, secret) is None


def test_a_service_account_has_no_password(db: Session) -> None:
    with pytest.raises(Invalid):
        auth.create_user(
            db, None, "demo@house.example", Role.MEMBER, password=PASSWORD, is_service=True
        )


def test_roles_are_required_by_name(db: Session) -> None:
    person = make_person(db)
    auth.require_role(person, Role.ADMIN, Role.MEMBER)
    with pytest.raises(Forbidden, match="admin"):
        auth.require_role(person, Role.ADMIN)
