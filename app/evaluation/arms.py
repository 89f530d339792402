"""What each arm is asked: the same question, with or without rows of the data before it.

An example is the turns before its last answer, and that answer, which is the right one: of a chat
its last turn, of a pair of answers the better one, of a call the call.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.core.models import Arm, Json, Part

NUM_LOOKED_UP = 4
# Those that look up practice rows before they answer.
LOOKING_UP = (Arm.LOOKUP, Arm.TUNED_LOOKUP)
# Those that the tuned model answers.
TUNED = (Arm.TUNED, Arm.TUNED_LOOKUP)
_BEFORE_ROWS = "Here are questions that were answered before:"
_BEHIND_ROWS = "Now answer this question:"
# What a turn has beside what is said in it, for training alone.
_NOT_SAID = frozenset({"weight", "rejected"})


class Turn(NamedTuple):
    """The last answer of an example, and what was said before it."""

    before: list[Json]
    reference: Json


class Asked(NamedTuple):
    """What a model is asked, and the practice rows that stand in it."""

    messages: list[Json]
    sources: list[Json] | None


@dataclass(frozen=True)
class Row:
    """A practice row that was looked up."""

    index: int
    question: str
    answer: str


def of(part: Part, arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms that answer the questions of a part."""
    match part:
        case Part.PRACTICE:
            return [arm for arm in arms if arm is Arm.TUNED]
        case Part.UNANSWERABLE:
            return [arm for arm in arms if arm in (Arm.TUNED, Arm.BASE, Arm.LOOKUP)]
        case Part.GENERAL | Part.SITE:
            return [arm for arm in arms if arm in (Arm.TUNED, Arm.BASE)]
        case Part.TEST:
            return list(arms)


def last_turn(messages: Sequence[Mapping[str, Any]]) -> Turn | None:
    """Cut an example at its last answer; None where it has none, or nothing before it."""
    for place in range(len(messages) - 1, 0, -1):
        if messages[place]["role"] == "assistant":
            before = [_said(message) for message in messages[:place]]
            reference = _said(messages[place])
            is_asked = bool(question_of(before).strip())
            return Turn(before, reference) if is_asked and words_of(reference).strip() else None
    return None


def question_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return what people said in some turns."""
    said = [message["content"] for message in messages if message["role"] == "user"]
    return "\n".join(words for words in said if isinstance(words, str))


def words_of(answer: Mapping[str, Any]) -> str:
    """Return what an answer says; of a call what is called, as JSON."""
    content = answer.get("content")
    said = content if isinstance(content, str) else ""
    calls = [call.get("function", call) for call in answer.get("tool_calls") or []]
    return "\n".join([*([said] if said else []), *(_json(call) for call in calls)])


def asked(
    arm: Arm,
    before: Sequence[Json],
    rows: Sequence[Row],
    fits: Callable[[Sequence[Json]], bool],
) -> Asked:
    """Return what an arm is asked.

    Args:
        before: The turns before the answer, its instruction as it was trained with among them.
        rows: That are most alike, the best first; only arms that look up take them.
        fits: Whether a prompt leaves enough of the context free.
    """
    messages = [dict(message) for message in before]
    if arm not in LOOKING_UP:
        return Asked(messages, None)
    taken = list(rows[:NUM_LOOKED_UP])
    num_found = len(taken)
    while taken:
        told = _with_rows(messages, taken)
        if fits(told):
            break
        taken.pop()
    sources: list[Json] = [{"index": row.index} for row in taken]
    if len(taken) < num_found:
        sources.append({"note": _fewer(len(taken), num_found)})
    return Asked(_with_rows(messages, taken) if taken else messages, sources)


def _with_rows(messages: Sequence[Json], rows: Sequence[Row]) -> list[Json]:
    """Put rows before the last question, the most alike nearest to it."""
    last = max(place for place, each in enumerate(messages) if each["role"] == "user")
    told = [f"Question: {row.question}\nAnswer: {row.answer}" for row in reversed(rows)]
    words = "\n\n".join([_BEFORE_ROWS, *told, _BEHIND_ROWS, str(messages[last]["content"])])
    return [*messages[:last], {**messages[last], "content": words}, *messages[last + 1 :]]


def _fewer(num_taken: int, num_found: int) -> str:
    if num_taken == 0:
        return f"The {num_found} most alike rows are too long for this model's prompt."
    return f"Only {num_taken} of the {num_found} most alike rows fit into the prompt."


def _said(message: Mapping[str, Any]) -> Json:
    return {key: value for key, value in message.items() if key not in _NOT_SAID}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
