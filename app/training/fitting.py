"""Conversations that a starting model's template refuses: whether their turns can be joined.

Templates differ in what they take: some want question and answer to take turns, some know no
system turn amid a chat, some no tools. What one refuses is joined or left out, and never fails a
job.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from app.training import thoughts
from app.training.chat import ChatError, ChatFormat, Message, Tools, is_pair, worse

_SIMPLE = {"role", "content", "weight"}


class Fit(NamedTuple):
    """What a template takes of a conversation."""

    messages: Sequence[Message] | None  # as they are or joined; none: it refuses them
    is_joined: bool
    problem: str  # why it refuses them as they are


def fit(chat: ChatFormat, messages: Sequence[Message], tools: Tools | None, *, joins: bool) -> Fit:
    """Find the form in which a template takes a conversation, if in any."""
    problem = _problem(chat, messages, tools)
    if not problem:
        return Fit(messages, False, "")
    joined = join_turns(messages) if joins else list(messages)
    if joined != list(messages) and not _problem(chat, joined, tools):
        return Fit(joined, True, problem)
    return Fit(None, False, problem)


def _problem(chat: ChatFormat, messages: Sequence[Message], tools: Tools | None) -> str:
    try:
        chat.segments(messages, tools)
        if is_pair(messages):
            chat.segments(worse(messages), tools)
    except ChatError as error:
        return str(error)
    return ""


def join_turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Join turns of one speaker that follow each other, and system turns with their questions.

    A system turn amid a chat opens the question behind it. Answers of which only one is learned
    stay apart, and so do calls of tools.
    """
    joined: list[dict[str, Any]] = []
    for message in messages:
        turn, last = dict(message), joined[-1] if joined else None
        if last is not None and _is_one(last, turn):
            last["content"] = f"{last['content']}\n\n{turn['content']}"
        elif last is not None and _opens(joined, turn):
            said = joined.pop()
            turn["content"] = f"{said['content']}\n\n{turn['content']}"
            if joined and _is_one(joined[-1], turn):
                turn["content"] = f"{joined[-1]['content']}\n\n{turn['content']}"
                joined.pop()
            joined.append(turn)
        else:
            joined.append(turn)
    return joined


def _is_one(last: Message, turn: Message) -> bool:
    return (
        last["role"] == turn["role"]
        and turn["role"] != "tool"
        and last.keys() <= _SIMPLE
        and turn.keys() <= _SIMPLE
        and last.get("weight", 1) == turn.get("weight", 1)
    )


def _opens(joined: list[dict[str, Any]], turn: Message) -> bool:
    """Say whether a system turn, not the first turn, stands right before this question."""
    return len(joined) > 1 and joined[-1]["role"] == "system" and turn["role"] == "user"


def drops_thoughts(chat: ChatFormat, messages: Sequence[Message], tools: Tools | None) -> bool:
    """Say whether something that was thought before an answer is not in what the model learns."""
    thought = [each for message in messages for each in thoughts.all_of(message)]
    text = chat.render(messages, tools=tools) if thought else ""
    return any(each.strip() not in text for each in thought)
