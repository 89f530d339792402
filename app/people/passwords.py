"""What a password may be, and how it is kept: argon2, at most two hashes at a time."""

import secrets
import string
import threading
from functools import lru_cache
from pathlib import Path

from pwdlib import PasswordHash

from app.core.errors import Invalid

MIN_LENGTH = 10
MAX_LENGTH = 256

_hasher = PasswordHash.recommended()
# Each hash takes 64 MB: a flood of sign-ins must wait, not fill the memory.
_hashing = threading.BoundedSemaphore(2)
_COMMON_DIR = Path(__file__).parent / "common_passwords"
# What people put around a common word to make it pass; more than that, and it is their own.
_MAX_AROUND = 6
_AROUND = string.digits + string.punctuation + " "
_SPELLED_WITH_DIGITS = str.maketrans("013457@$!", "oleastasi")
_OF_THE_PRODUCT = frozenset({"etude", "étude"})


def check(password: str, email: str = "") -> None:
    """Refuse a password that would be guessed.

    Raises:
        Invalid: with the field `password`.
    """
    if len(password) < MIN_LENGTH:
        raise Invalid(f"Use at least {MIN_LENGTH} characters.", field="password")
    if len(password) > MAX_LENGTH:
        raise Invalid(f"Use at most {MAX_LENGTH} characters.", field="password")
    lowered, email = password.lower(), email.lower()
    own = {email, *email.replace("@", ".").split(".")} - {""}
    if len(set(lowered)) < 4 or _is_guessed(lowered, _OF_THE_PRODUCT | own):
        raise Invalid(
            "Many people use this password or one like it, so it is tried first. "
            "Use a few words that have nothing to do with each other.",
            field="password",
        )


def hashed(password: str) -> str:
    """Return what is kept of a password."""
    with _hashing:
        return _hasher.hash(password)


def verify(password: str, stored: str | None) -> tuple[bool, str | None]:
    """Say whether a password is the one that was kept, and what to keep from now on, if anything.

    Without one (no such account) the answer takes as long.
    """
    with _hashing:
        if stored is None:
            _hasher.verify(password[:MAX_LENGTH], _nobodys_hash())
            return False, None
        return _hasher.verify_and_update(password[:MAX_LENGTH], stored)


@lru_cache
def common() -> frozenset[str]:
    """Return the passwords that everybody tries first, in lower case."""
    files = sorted(_COMMON_DIR.glob("*.txt"))
    return frozenset(line for file in files for line in file.read_text("utf-8").splitlines())


@lru_cache
def _nobodys_hash() -> str:
    return _hasher.hash(secrets.token_urlsafe(16))  # when first needed: it takes 0.1 s


def _is_guessed(lowered: str, own: frozenset[str] | set[str]) -> bool:
    """Say whether it is a common password, also twice, or with a few digits and signs around it."""
    known = common()
    if lowered in known or lowered in own:
        return True
    core = lowered.strip(_AROUND)
    before, _, after = lowered.partition(core) if core else ("", "", "")
    around = before + after
    if len(around) > _MAX_AROUND and around not in known:
        return False
    half = core[: len(core) // 2]
    words = {core, half if core == half * 2 else core}
    words |= {word.translate(_SPELLED_WITH_DIGITS) for word in words}
    return bool(words & known or words & own)
