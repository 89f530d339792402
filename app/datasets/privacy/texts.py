"""All texts of an example's messages in order: contents, and whatever else holds words."""

from collections.abc import Iterator
from typing import Any

# What programs read and nobody wrote: no place for a person.
_TECHNICAL = frozenset(["role", "type", "id", "tool_call_id", "weight"])


def read(messages: list[Any]) -> list[str]:
    """Return every text: of all roles, and those inside a tool's call."""
    return list(_leaves(messages))


def write(messages: list[Any], texts: list[str]) -> list[Any]:
    """Return the messages with other texts, as many as `read` returns."""
    rest = iter(texts)
    written = _put(messages, rest)
    assert next(rest, None) is None
    assert isinstance(written, list)
    return written


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, dict):
        for key in sorted(value):  # JSONB keeps no order
            if key not in _TECHNICAL:
                yield from _leaves(value[key])


def _put(value: Any, rest: Iterator[str]) -> Any:
    if isinstance(value, str):
        return next(rest)
    if isinstance(value, list):
        return [_put(part, rest) for part in value]
    if isinstance(value, dict):
        put = {key: _put(value[key], rest) for key in sorted(value) if key not in _TECHNICAL}
        return {key: put.get(key, part) for key, part in value.items()}
    return value
