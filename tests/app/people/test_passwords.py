"""Passwords that everybody tries first are refused, and those that nobody tries are not."""

from pathlib import Path

import pytest

from app.core.errors import Invalid
from app.people import passwords


def test_the_list_is_long_and_has_its_licence() -> None:
    assert len(passwords.common()) == 40_101
    folder = Path(passwords.__file__).parent / "common_passwords"
    for list_of in folder.glob("*.txt"):
        assert f"`LICENSE.{list_of.stem}`" in (folder / "README.md").read_text()
        assert "Copyright (c)" in (folder / f"LICENSE.{list_of.stem}").read_text()


@pytest.mark.parametrize(
    "password",
    [
        "1234567890", "qwertyuiop", "Basketball", "PASSWORD123", "Password2026!", "p@ssw0rd2026",
        "!!sunshine!!", "sunshine 99", "letmeinletmein", "password1234567890", "Etude-2026!",
        "ada@house.example", "house12345", "short", "aaaaaaaaaaaaaa", "abababababab", "x" * 257,
    ],
)  # fmt: skip
def test_what_would_be_guessed_is_refused(password: str) -> None:
    with pytest.raises(Invalid) as raised:
        passwords.check(password, "ada@house.example")
    assert raised.value.field == "password"


@pytest.mark.parametrize(
    "password",
    [
        "four quiet green lamps", "five loud red kettles", "correct-horse-battery",
        "Tr0ub4dor&3xyz",
        "nachts singt die ampel", "夜の赤い傘と七つの鍵", "x7Kq2mVp9Lw4",
    ],
)  # fmt: skip
def test_what_nobody_tries_is_taken(password: str) -> None:
    passwords.check(password, "ada@house.example")
