"""Answers that a program reads: JSON by validity and fields, and calls of tools by name."""

import json
import re
from collections.abc import Sequence
from typing import Any

from app.evaluation.marks.marked import Marked, partly, right, unsure, wrong
from app.training.tool_calls import Call, CallReader

_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*?)\n?```$", re.DOTALL)
_NAME = re.compile(r'"name"\s*:\s*"([^"\\]{1,200})"')
_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:')
_MAX_DEPTH = 40
_MISSING = object()


def mark_json(reference: str, answer: str) -> Marked | None:
    """Mark by fields an answer to a reference that is a JSON object or array; None: it is none."""
    expected = _parsed(reference)
    if not isinstance(expected, dict | list) or not expected:
        return None
    given, is_alone = _found(answer)
    if given is _MISSING:
        return wrong("it is not valid JSON")
    marked = _compared(expected, given)
    if marked.mark.value == "right" and not is_alone:
        return partly("there are words around the JSON")
    return marked


def _parsed(text: str) -> Any:
    text = text.strip()
    fence = _FENCE.match(text)
    text = (fence[1] if fence else text).strip()
    if not text.startswith(("{", "[")):
        return _MISSING
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _MISSING


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _found(text: str) -> tuple[Any, bool]:
    """Return the JSON of an answer, and whether it stands alone."""
    value = _parsed(text)
    if value is not _MISSING:
        return value, True
    start = min((place for place in (text.find("{"), text.find("[")) if place >= 0), default=-1)
    if start < 0:
        return _MISSING, False
    try:
        value, end = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text, start)
    except (ValueError, RecursionError):
        return _MISSING, False
    rest = text[end:].replace("```", "").strip()
    return (_MISSING if rest.startswith(("{", "[", ",", ":")) else value), False


def _compared(expected: Any, given: Any) -> Marked:
    differing, missing, added = _differences(expected, given, "", 0)
    if differing:
        return wrong(f"the field {differing[0]} differs" if differing[0] else "the value differs")
    if missing:
        return partly(f"the field {missing[0]} is missing")
    if added:
        return partly(f"the field {added[0]} is added")
    return right("all fields are the same")


def _differences(
    expected: Any, given: Any, path: str, depth: int
) -> tuple[list[str], list[str], list[str]]:
    """Return the paths of fields that differ, are missing and are added."""
    if depth > _MAX_DEPTH:
        return ([path] if expected != given else []), [], []
    if isinstance(expected, dict) and isinstance(given, dict):
        differing: list[str] = []
        missing = [_join(path, key) for key in expected if key not in given]
        added = [_join(path, key) for key in given if key not in expected]
        for key in expected:
            if key in given:
                found = _differences(expected[key], given[key], _join(path, key), depth + 1)
                differing += found[0]
                missing += found[1]
                added += found[2]
        # Nothing in common is no part of an answer.
        if len(missing) == len(expected) and expected and not path:
            return [missing[0]], [], []
        return differing, missing, added
    if isinstance(expected, list) and isinstance(given, list):
        return _lists(expected, given, path, depth)
    return ([] if _same(expected, given) else [path]), [], []


def _lists(
    expected: list[Any], given: list[Any], path: str, depth: int
) -> tuple[list[str], list[str], list[str]]:
    if len(expected) == len(given):
        found = [_differences(one, two, f"{path}[{n}]", depth + 1)
                 for n, (one, two) in enumerate(zip(expected, given, strict=True), 1)]  # fmt: skip
        return tuple([name for one in found for name in one[part]] for part in range(3))  # type: ignore[return-value]
    left = [value for value in expected if not any(_same(value, one) for one in given)]
    more = [value for value in given if not any(_same(value, one) for one in expected)]
    if left and more:
        return [path or "1"], [], []
    return (
        [],
        [path or "1"] if left or len(expected) > len(given) else [],
        ([path or "1"] if more or len(given) > len(expected) else []),
    )


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, str) and isinstance(two, str):
        return " ".join(one.casefold().split()) == " ".join(two.casefold().split())
    if isinstance(one, int | float) and isinstance(two, int | float):
        return one == two
    return type(one) is type(two) and bool(one == two)


def calls_in(text: str, names: Sequence[str] = ()) -> list[Call]:
    """Return the calls of tools in a text, in whatever form a family of models writes them."""
    if not _ARGUMENTS.search(text) or not _NAME.search(text):
        return []
    known = {*names, *_NAME.findall(text)}
    for family in ("hermes", "mistral", "llama"):
        reader = CallReader(family, sorted(known))
        said = [*reader.feed(text.strip()), *reader.end()]
        calls = [part for part in said if isinstance(part, Call)]
        if calls:
            return calls
    return []


def calls_of(message: dict[str, Any]) -> list[Call]:
    """Return the calls of an example's message, as OpenAI has them."""
    calls = []
    for call in message.get("tool_calls") or ():
        function = call.get("function", call) if isinstance(call, dict) else {}
        name, arguments = function.get("name"), function.get("arguments", {})
        if isinstance(name, str):
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            calls.append(Call(name, text))
    return calls


def mark_calls(expected: Sequence[Call], given: Sequence[Call]) -> Marked:
    """Mark calls by name and arguments."""
    if not given:
        return wrong("no tool is called")
    if not expected:
        return wrong("a tool is called where none is needed")
    left = list(given)
    doubts: list[Marked] = []
    num_same = 0
    for call in expected:
        same = next((one for one in left if _call_mark(call, one).mark.value == "right"), None)
        named = same or next((one for one in left if one.name == call.name), None)
        if named is None:
            doubts.append(
                wrong(f"the tool {call.name} is not called")
                if len(expected) == 1
                else partly(f"the call of {call.name} is missing")
            )
            continue
        left.remove(named)
        found = _call_mark(call, named)
        num_same += found.mark.value == "right"
        if found.mark.value != "right":
            doubts.append(found)
    for marked in doubts:
        if marked.mark.value == "wrong":
            return marked
    if doubts:
        return doubts[0] if num_same or len(expected) == 1 else wrong(doubts[0].why)
    if left:
        return partly(f"the tool {left[0].name} is called, too")
    if [call.name for call in expected] != [call.name for call in given]:
        return unsure("the tools are called in another order")
    return right("the same tool is called with the same values")


def _call_mark(expected: Call, given: Call) -> Marked:
    if expected.name != given.name:
        return wrong(f"the tool {given.name} is called, not {expected.name}")
    try:
        one, two = json.loads(expected.arguments or "{}"), json.loads(given.arguments or "{}")
    except (ValueError, RecursionError):
        return wrong("its values cannot be read")
    if not one and not two:
        return right("the same tool is called")
    return _compared(one, two)
