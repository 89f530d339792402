"""Tries at passwords, counted before a password is looked at: sixty guesses at once are five.

Strangers' tries are counted by account and by where they come from, and whoever has used up the
free ones waits, each time twice as long. Whoever can be told from strangers has a lane of their
own, which strangers cannot fill: a browser that the account was signed in with before
(app/people/browsers.py), and a person who is signed in and types the password once more.
"""

import ipaddress
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, extract, func, select
from sqlalchemy.orm import Session

from app.core import clock
from app.core.errors import TooMany
from app.core.models import SignInFailure

STRANGER = ""
SIGNED_IN = "signed-in"

# Tries that are free for an account, or for an address; then the wait doubles.
_FREE_BY_LANE, _FREE_BY_ADDRESS = 5, 30
_FIRST_WAIT_SECONDS, _MAX_WAIT_SECONDS = 15, 300
_WINDOW = timedelta(minutes=15)
_KEPT = timedelta(days=1)
_LOCK = 0x457475646541474C  # one counts at a time; it takes a few milliseconds


def begin(db: Session, email: str, address: str, lane: str = STRANGER) -> None:
    """Count one try and commit, so that tries of the same moment see each other.

    Args:
        email: Of the account, in lower case.
        address: Where it comes from.
        lane: Whose it is.

    Raises:
        TooMany: says how long to wait; such a try is not counted.
    """
    place = _place(address)
    of_lane = [and_(SignInFailure.email == email, SignInFailure.lane == lane)]
    of_place = [and_(SignInFailure.address == place, SignInFailure.lane == STRANGER)]
    db.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    left = _seconds_left(db, _FREE_BY_LANE, *of_lane)
    if lane == STRANGER:
        left = max(left, _seconds_left(db, _FREE_BY_ADDRESS, *of_place))
    if left > 0:
        db.rollback()
        raise TooMany(f"Too many attempts. Please wait {int(left) + 1} seconds.")
    db.add(SignInFailure(email=email, address=place, lane=lane, at=clock.NOW))
    db.commit()


def succeeded(db: Session, email: str, lane: str = STRANGER) -> None:
    """Forget the tries of a lane: the last one had the right password."""
    db.execute(
        delete(SignInFailure).where(SignInFailure.email == email, SignInFailure.lane == lane)
    )


def forget_old(db: Session) -> None:
    """Remove tries that count no longer."""
    db.execute(delete(SignInFailure).where(SignInFailure.at < clock.NOW - _KEPT))


def _seconds_left(db: Session, free: int, *conditions: ColumnElement[bool]) -> float:
    count, since = db.execute(
        select(func.count(), extract("epoch", clock.NOW - func.max(SignInFailure.at))).where(
            SignInFailure.at > clock.NOW - _WINDOW, *conditions
        )
    ).one()
    if count < free:
        return 0.0
    wait = min(_FIRST_WAIT_SECONDS * 2.0 ** min(count - free, 10), _MAX_WAIT_SECONDS)
    return wait - float(since)


def _place(address: str) -> str:
    """Return an address, of IPv6 its network: whoever has one address there has all of them."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
