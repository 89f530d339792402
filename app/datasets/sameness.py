"""When two examples are the same: their questions and answers are, but for case and space."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any


def whole(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Return what all is asked and answered, without the instruction; of a pair the better one."""
    return _body([message for message in messages if message["role"] != "system"])


def question(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the same, but of a pair of answers the question alone."""
    return _body([m for m in messages if m["role"] != "system" and "rejected" not in m])


def number(body: bytes, key: bytes) -> int:
    """Return a number of 64 bits that is equal for equal contents under one key."""
    return int.from_bytes(hashlib.blake2b(body, digest_size=8, key=key).digest(), "big")


def _body(messages: Sequence[Mapping[str, Any]]) -> bytes:
    said = "\0".join(f"{message['role']}\0{message['content']}" for message in messages)
    return said.casefold().encode().translate(None, b" \t\r\n\f\v")
