"""What an assistant thought before it answered: beside its answer, or at the beginning of it."""

import re
from collections.abc import Mapping
from typing import Any

# How Etude keeps it in a turn.
THOUGHT = "reasoning_content"
WORDS = ("<think>", "</think>")
# Some answers have lost the first of the two.
_THINKS = re.compile(
    r"\s*<think>(?P<marked>.*?)</think>|(?P<bare>(?:(?!</?think>).)*)\n</think>(?=\s*\n)", re.DOTALL
)


def match(turn: Mapping[str, Any]) -> re.Match[str] | None:
    """Find what a turn's text begins with that was thought."""
    is_answer = turn["role"] == "assistant"
    return _THINKS.match(turn.get("content") or "") if is_answer else None


def of(found: re.Match[str]) -> str:
    """Return what was thought, without the words around it."""
    return (found["marked"] or found["bare"] or "").strip("\n")


def all_of(turn: Mapping[str, Any]) -> list[str]:
    """Return all that was thought before a turn, beside it and within."""
    found = match(turn)
    thought = [str(turn.get(THOUGHT) or ""), of(found) if found else ""]
    return [each for each in thought if each.strip()]
