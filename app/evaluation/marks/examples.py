"""Marks for examples: a chat by its last turn, a call of tools by name and arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.evaluation.marks.marked import Marked, wrong
from app.evaluation.marks.rules import mark
from app.evaluation.marks.structured import calls_in, calls_of, mark_calls

_SAID = ("user", "human")


def mark_example(
    messages_before: Sequence[Mapping[str, Any]],
    reference_message: Mapping[str, Any],
    answer: str,
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    language: str | None = None,
    was_cut: bool = False,
) -> Marked:
    """Mark what a model says in a conversation.

    Args:
        messages_before: The turns up to the one that is answered, as an example stores them.
        reference_message: The turn that is right; of a pair, the preferred one.
        answer: The model's text, in which its calls of tools are read.
        tools: What it was offered.
        language: As for `mark`.
        was_cut: The answer ended at its limit of tokens.
    """
    names = [str(_function(tool).get("name", "")) for tool in tools or ()]
    expected = calls_of(dict(reference_message))
    given = calls_in(answer, names)
    reference = text_of(reference_message)
    if expected:
        return mark_calls(expected, given)
    if given and not calls_in(reference, names):
        return wrong("a tool is called where none is needed")
    question = next(
        (text_of(message) for message in reversed(messages_before) if message.get("role") in _SAID),
        "",
    )
    return mark(question, reference, answer, language=language, was_cut=was_cut)


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text, whole or in parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, Mapping)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function", tool)
    return function if isinstance(function, Mapping) else {}
