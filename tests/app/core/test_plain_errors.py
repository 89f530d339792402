"""What errors mean, in words for people who do not program."""

import errno

import pytest

from app.core import plain_errors


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (
            "The model's files could not be read or written: [Errno 2] No such file or directory: "
            "'/var/lib/etude/models/a/tokenizer.json'.",
            "The model's files could not be read or written: it is not there: “tokenizer.json”.",
        ),
        ("Line 14 has no `messages`.", "Line 14 has no messages."),
        ("[Errno 111] Connection refused", "nothing answers at this address"),
        ("No such file or directory (os error 2)", "it is not there"),
        (
            "The server answered 403: Permission denied",
            "The server answered 403: Permission denied",
        ),
        # Addresses of pages and of programs are no files.
        (
            "Decide on the page /versions/3/privacy, or by /v1/files/file-3/content.",
            "Decide on the page /versions/3/privacy, or by /v1/files/file-3/content.",
        ),
    ],
)
def test_what_programmers_read_is_taken_out_of_a_sentence(said: str, read: str) -> None:
    assert plain_errors.cleaned(said) == read


def test_an_errors_own_words_are_cleaned_too() -> None:
    error = ValueError("`rank` is missing in /tmp/x/adapter_config.json")
    assert plain_errors.words(error) == "rank is missing in “adapter_config.json”"
    assert plain_errors.words(OSError(errno.ENOENT, "No such file")) == "it is not there"
