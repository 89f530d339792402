"""What others wrote, on a terminal: shown, but never obeyed."""

import json
import re
from collections.abc import Callable
from functools import partial

# Beside control characters: what turns the reading direction around, and halves of a pair.
_STEERING = "\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT = re.compile(rf"[\x00-\x08\x0b-\x1f{_STEERING}]")
_IN_JSON = re.compile(f"[{_STEERING}]")


def harmless(text: str) -> str:
    """Keep text from steering a terminal; lines stay lines, and an escape becomes a sign for it."""
    return _IN_TEXT.sub(_sign, text)


def line(text: object) -> str:
    """The same on one line."""
    return harmless(" ".join(str(text).split()))


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] == "\r":
        return ""  # Windows ends its lines with it; alone it would write over what stands there
    return chr(0x2400 + code) if code < 0x20 else "\N{REPLACEMENT CHARACTER}"


def as_json(value: object) -> str:
    """Write JSON that people can read and that steers no terminal either."""
    written = json.dumps(value, ensure_ascii=False, indent=2)
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def sayer(say: Callable[..., object], **how: object) -> Callable[[str], object]:
    """Return what says a line that others may have written."""
    return lambda text: partial(say, **how)(harmless(text))
