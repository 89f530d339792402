"""Guesses are counted before a password is looked at, and strangers lock nobody out."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import clock
from app.core import db as database
from app.core.errors import Invalid, TooMany
from app.core.models import Role, SignInFailure, User
from app.people import attempts, auth, browsers
from tests.app.web.pages import ORIGIN
from tests.factories import PASSWORD, make_user

ADA = "ada@house.example"
NUM_GUESSES = 60


@pytest.fixture
def ada(db: Session) -> User:
    return make_user(db, email=ADA, password=PASSWORD)


def wrong(db: Session, address: str = "203.0.113.7", *, email: str = ADA, known: str = "") -> None:
    with pytest.raises(Invalid):
        auth.sign_in(db, email, "not the password", address, known=known)


def wait_out(db: Session) -> None:
    """Let the wait after too many tries pass, but not the time in which they count."""
    db.execute(update(SignInFailure).values(at=clock.NOW - timedelta(minutes=6)))
    db.commit()


def test_sixty_guesses_at_once_are_five(client: TestClient, ada: User, db: Session) -> None:
    form = {"email": ADA, "password": "not the password"}

    def guess(_: int) -> int:
        return client.post("/sign-in", data=form, headers=ORIGIN).status_code

    began = time.monotonic()
    with ThreadPoolExecutor(NUM_GUESSES) as threads:
        answers = list(threads.map(guess, range(NUM_GUESSES)))
    # On a machine so slow that waits have passed meanwhile, each has let one more through.
    more = int(math.log2((time.monotonic() - began) / 15 + 1))
    assert set(answers) == {422, 429}
    assert 5 <= answers.count(422) <= 5 + more
    assert db.scalar(select(func.count()).select_from(SignInFailure)) == answers.count(422)


def test_guesses_at_the_old_password_are_counted_too(ada: User, db: Session) -> None:
    def guess(number: int) -> bool:
        with database.session() as session:
            person = session.get_one(User, ada.id)
            try:
                auth.change_password(session, person, f"guess {number}", "five loud red kettles")
            except TooMany:
                return False
            except Invalid:
                return True
            raise AssertionError("it was no guess")

    with ThreadPoolExecutor(12) as threads:
        looked_at = list(threads.map(guess, range(12)))
    assert looked_at.count(True) == 5
    assert auth.sign_in(db, ADA, PASSWORD, "203.0.113.7"), "a stranger's lane is another"


def test_a_stranger_does_not_lock_a_known_browser_out(ada: User, db: Session) -> None:
    known = browsers.remember("", ada.id)
    for number in range(5):
        wrong(db, f"198.51.100.{number}")
    with pytest.raises(TooMany):
        auth.sign_in(db, ADA, PASSWORD, "198.51.100.77")
    # Not from the same address either: a stranger may sit behind the same router.
    assert auth.sign_in(db, ADA, PASSWORD, "198.51.100.4", known=known)
    with pytest.raises(TooMany):
        auth.sign_in(db, ADA, PASSWORD, "198.51.100.77")


def test_a_known_browser_guesses_as_slowly(ada: User, db: Session) -> None:
    known = browsers.remember("", ada.id)
    for _ in range(5):
        wrong(db, known=known)
    with pytest.raises(TooMany):
        auth.sign_in(db, ADA, PASSWORD, "203.0.113.7", known=known)
    assert auth.sign_in(db, ADA, PASSWORD, "203.0.113.7"), "its tries are nobody else's"


def test_a_mark_counts_for_its_own_account_and_cannot_be_made(ada: User, db: Session) -> None:
    bea = make_user(db, email="bea@house.example", password=PASSWORD)
    both = browsers.remember(browsers.remember("", ada.id), bea.id)
    assert browsers.name_for(both, ada.id)
    assert browsers.name_for(both, bea.id)
    mark = browsers.remember("", bea.id)
    assert browsers.name_for(mark, ada.id) is None
    assert browsers.name_for(mark.replace(f"{bea.id}-", f"{ada.id}-", 1), ada.id) is None
    assert browsers.name_for(mark[:-1] + ("0" if mark[-1] != "0" else "1"), bea.id) is None
    assert browsers.name_for("x" * 9000, bea.id) is None
    assert browsers.name_for(browsers.remember(both, ada.id), bea.id), "both are still known"


def test_a_browser_stays_the_same_one(ada: User) -> None:
    first = browsers.remember("", ada.id)
    again = browsers.remember(first, ada.id)
    assert browsers.name_for(first, ada.id) == browsers.name_for(again, ada.id)


def test_one_address_cannot_try_everybody(ada: User, db: Session) -> None:
    for number in range(30):
        wrong(db, f"2001:db8:1:2::{number:x}", email=f"nobody{number}@house.example")
    with pytest.raises(TooMany):
        auth.sign_in(db, ADA, PASSWORD, "2001:db8:1:2:ffff::1")
    assert auth.sign_in(db, ADA, PASSWORD, "2001:db8:1:3::1")


def test_waits_grow_and_end(ada: User, db: Session) -> None:
    for _ in range(5):
        wrong(db)
    wait_out(db)
    wrong(db)
    with pytest.raises(TooMany, match=r"wait (2\d|30) seconds"):
        auth.sign_in(db, ADA, PASSWORD, "203.0.113.7")
    wait_out(db)
    assert auth.sign_in(db, ADA, PASSWORD, "203.0.113.7")
    assert db.scalars(select(SignInFailure)).all() == [], "a right one ends the count"


def test_tries_are_forgotten_after_a_day(ada: User, db: Session) -> None:
    wrong(db)
    attempts.forget_old(db)
    assert len(db.scalars(select(SignInFailure)).all()) == 1
    db.execute(update(SignInFailure).values(at=clock.NOW - timedelta(days=2)))
    attempts.forget_old(db)
    assert db.scalars(select(SignInFailure)).all() == []


def test_a_browser_that_signed_in_is_known_from_then_on(
    client: TestClient, ada: User, db: Session
) -> None:
    form = {"email": ADA, "password": PASSWORD}
    client.post("/sign-in", data=form, headers=ORIGIN)
    assert browsers.name_for(client.cookies[browsers.COOKIE], ada.id)
    client.cookies.delete(browsers.COOKIE)
    client.post("/sign-in", data=form | {"shared": "yes"}, headers=ORIGIN)
    assert browsers.COOKIE not in client.cookies, "whoever sits there next is a stranger"


def test_an_account_that_is_none_is_counted_and_hashed_alike(db: Session) -> None:
    make_user(db, role=Role.ADMIN, email=ADA, password=PASSWORD)
    for email in (ADA, "nobody@house.example"):
        for _ in range(5):
            wrong(db, email=email)
        with pytest.raises(TooMany):
            auth.sign_in(db, email, "not the password", "203.0.113.7")
