"""Browsers that an account was signed in with before, and what a browser is called.

A known browser carries a signed mark for each account. It lets nobody in: it only says that tries
from there are not a stranger's (app/people/attempts.py).
"""

import hashlib
import hmac
import re
import secrets as random
import time
from dataclasses import dataclass

from app.core import secrets, settings

COOKIE = "etude_known_browser"
MAX_AGE_SECONDS = 400 * 86400  # browsers keep nothing longer

_KEY_FILE = "known-browsers-key"
_MAX_MARKS = 5  # people of one browser; the one who has been away longest goes
_MARK = re.compile(r"([0-9]{1,10})-([0-9]{1,6})-([0-9a-f]{32})-([0-9a-f]{32})")
_DAY_SECONDS = 86400

# The first that is found counts: most browsers also name those that they are like.
_PROGRAMS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_DEVICES = (
    ("iPhone", "an iPhone"),
    ("iPad", "an iPad"),
    ("Android", "Android"),
    ("CrOS", "a Chromebook"),
    ("Windows", "Windows"),
    ("Macintosh", "a Mac"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True)
class _Mark:
    user_id: int
    day: int  # on which it was given, since 1970
    name: str  # of the browser, at random

    def __str__(self) -> str:
        said = f"{self.user_id}-{self.day}-{self.name}"
        key = secrets.get(settings.get(), _KEY_FILE).encode()
        return f"{said}-{hmac.digest(key, said.encode(), hashlib.sha256).hex()[:32]}"


def name_for(cookie: str, user_id: int) -> str | None:
    """Return the name of a browser that an account is known in; None: it is a stranger's."""
    return next((mark.name for mark in _marks(cookie) if mark.user_id == user_id), None)


def remember(cookie: str, user_id: int) -> str:
    """Return the cookie with which the browser is known from now on, for this account as well."""
    name = name_for(cookie, user_id) or random.token_hex(16)
    others = [mark for mark in _marks(cookie) if mark.user_id != user_id]
    marks = [_Mark(user_id, _today(), name), *others][:_MAX_MARKS]
    return ".".join(str(mark) for mark in marks)


def describe(user_agent: str) -> str:
    """Say what a browser is to its owner: Firefox on Windows."""
    program = next((name for sign, name in _PROGRAMS if sign in user_agent), "")
    device = next((name for sign, name in _DEVICES if sign in user_agent), "")
    if not program and not device:
        return "An unknown browser"
    return f"{program or 'A browser'} on {device or 'an unknown device'}"


def _marks(cookie: str) -> list[_Mark]:
    found = []
    for text in cookie.split(".")[:_MAX_MARKS]:
        if match := _MARK.fullmatch(text):
            mark = _Mark(int(match[1]), int(match[2]), match[3])
            is_fresh = 0 <= _today() - mark.day <= MAX_AGE_SECONDS // _DAY_SECONDS
            if is_fresh and hmac.compare_digest(str(mark), text):
                found.append(mark)
    return found


def _today() -> int:
    return int(time.time()) // _DAY_SECONDS
