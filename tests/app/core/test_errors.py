"""All that is wrong with a form is said at once, and raw words of machines never."""

import errno
import smtplib
import socket
import ssl

import pytest

from app.core import plain_errors
from app.core.errors import Conflict, Invalid, Problems


def test_problems_are_gathered() -> None:
    problems = Problems()
    with problems:
        raise Invalid("Enter a number.", field="share")
    with problems:
        kept = 7
    problems.add("Choose one.", "kind")
    assert kept == 7
    with pytest.raises(Invalid) as caught:
        problems.check()
    error = caught.value
    assert [(one.field, one.message) for one in error.all] == [
        ("share", "Enter a number."),
        ("kind", "Choose one."),
    ]
    assert error.at("kind") == "Choose one."
    assert error.at("seed") == ""
    outer = Problems()
    with outer:
        raise error
    assert len(outer.found) == 2, "what was gathered is gathered whole"


def test_what_is_not_about_the_form_is_raised_at_once() -> None:
    problems = Problems()
    with pytest.raises(Conflict), problems:
        raise Conflict("It has changed meanwhile.")
    problems.check()


def test_nobody_reads_the_number_of_an_error() -> None:
    with pytest.raises(OSError) as refused:
        socket.create_connection(("127.0.0.1", 1), timeout=5)
    untrusted = ssl.SSLCertVerificationError(1, "certificate verify failed")
    untrusted.verify_message = "self-signed certificate"
    said = [
        plain_errors.words(error)
        for error in (
            refused.value,
            OSError(errno.ENOSPC, "No space left on device"),
            OSError("[Errno 111] Connection refused"),
            OSError("HTTPSConnectionPool(host='x', port=443): Max retries exceeded"),
            TimeoutError(),
            untrusted,
            smtplib.SMTPAuthenticationError(535, b"5.7.8 bad\r\ncredentials"),
            ValueError("it answered 503"),
        )
    ]
    assert said == [
        "nothing answers at this address",
        "the disk is full",
        "there was no answer",
        "there was no answer",
        "there was no answer in time",
        "its certificate cannot be trusted (self-signed certificate)",
        "the mail server answered 535: 5.7.8 bad credentials",
        "it answered 503",
    ]
