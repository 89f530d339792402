"""A model's calls of tools, read from what it says: each family of chat templates has its form.

    hermes    <tool_call>{"name": …, "arguments": {…}}</tool_call>, any number, words before them
              (Hermes, Qwen 2.5, Qwen 3)
    llama     {"name": …, "parameters": {…}} as the whole answer (Llama 3.1 to 3.3)
    mistral   [TOOL_CALLS] [{"name": …, "arguments": {…}}, …] as the whole answer (tokens v3)

What looks like a call and is none, since it is no such JSON or names a tool that nobody offered, is
what the model said, and stays text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

Family = Literal["hermes", "llama", "mistral"]

# As the templates' source has them, with a line break written out as `\n`.
_HERMES = re.compile(r"<tool_call>\\n\{\\?\"name\\?\"")
_LLAMA = re.compile(r"'\"parameters\": '")
_CALL, _CALL_END = "<tool_call>", "</tool_call>"
# With what an answer begins that may be a call as a whole. Special tokens are no part of an
# answer's text, so that Mistral's mark may be gone.
_BEGINNINGS = {"llama": ("<|python_tag|>", "{"), "mistral": ("[TOOL_CALLS]", "[{")}
_ARGUMENTS = ("arguments", "parameters")


class Call(NamedTuple):
    name: str
    arguments: str  # a JSON object as text, as OpenAI has it


def family_of(template: str) -> Family | None:
    """Say in which form models of a chat template call tools; None: in none that is read here."""
    if _HERMES.search(template):
        return "hermes"
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return "mistral"
    if _LLAMA.search(template) and "tool_calls" in template:
        return "llama"
    return None


class CallReader:
    """Tells calls from text while an answer comes; what may become a call is held back.

    The same answer gives the same text and calls, however it is cut into pieces.
    """

    def __init__(
        self,
        family: Family,
        names: Sequence[str],
        *,
        is_forced: bool = False,
        is_single: bool = False,
    ) -> None:
        """Read answers of a model that was offered some tools.

        Args:
            family: Its template's.
            names: The tools' names.
            is_forced: The answer is held to `forced_schema`, so that all of it is one call.
            is_single: Several calls in an answer are none.
        """
        self._names = frozenset(names)
        self._is_single = is_single
        self._is_within = family == "hermes" and not is_forced
        self._beginnings = () if is_forced else _BEGINNINGS.get(family, ())
        self._state: Literal["begin", "text", "whole"] = "whole" if is_forced else "begin"
        self._held = ""
        self._has_called = False

    def feed(self, text: str) -> list[str | Call]:
        """Take a piece in and return what is certain by now."""
        self._held += text
        if self._is_within:
            return self._read_within()
        if self._state == "begin":
            self._state = self._begun()
        if self._state != "text":
            return []
        return self._take_all()

    def end(self) -> list[str | Call]:
        """Return what was held back; the answer is over."""
        if self._is_within:
            said = self._read_within()
            before, mark, rest = self._held.partition(_CALL)
            # A model that is stopped right behind its call has not said the end of it.
            call = self._call(rest) if mark else None
            if call is None:
                if self._has_called and not self._held.strip():
                    self._held = ""  # a line break behind a call
                return said + self._take_all()
            self._held = ""
            return [*said, *filter(None, [before.rstrip()]), call]
        calls = self._calls(self._held) if self._state == "whole" else []
        if not calls or (self._is_single and len(calls) > 1):
            return self._take_all()
        self._held = ""
        return list(calls)

    def _take_all(self) -> list[str | Call]:
        said, self._held = self._held, ""
        return [said] if said else []

    def _begun(self) -> Literal["begin", "text", "whole"]:
        words = self._held.lstrip()
        if any(words.startswith(mark) for mark in self._beginnings):
            return "whole"
        may_follow = any(mark.startswith(words) for mark in self._beginnings)
        return "begin" if may_follow else "text"

    def _read_within(self) -> list[str | Call]:
        """Take out what stands before, in and between calls."""
        said: list[str | Call] = []
        while True:
            start = self._held.find(_CALL)
            if start < 0:
                sure = len(self._held) - len(_may_go_on(self._held, _CALL))
                said += filter(None, [self._held[:sure]])
                self._held = self._held[sure:]
                return said
            end = self._held.find(_CALL_END, start)
            if end < 0:
                words = self._held[:start].rstrip()
                said += filter(None, [words])
                self._held = self._held[len(words) :]
                return said
            end += len(_CALL_END)
            call = self._call(self._held[start + len(_CALL) : end - len(_CALL_END)])
            if call is None:
                said.append(self._held[:end])
            else:
                said += [*filter(None, [self._held[:start].rstrip()]), call]
                self._has_called = True
            self._held = self._held[end:]

    def _call(self, text: str) -> Call | None:
        calls = self._calls(text)
        return calls[0] if len(calls) == 1 else None

    def _calls(self, text: str) -> list[Call]:
        """Read a text that holds calls and nothing else; none where it does not."""
        for mark in ("<|python_tag|>", "[TOOL_CALLS]"):
            text = text.strip().removeprefix(mark)
        values: list[Any] = []
        decoder = json.JSONDecoder()
        position = 0
        try:
            while rest := text[position:].lstrip(" \t\r\n;"):
                value, used = decoder.raw_decode(rest)
                values += value if isinstance(value, list) else [value]
                position = len(text) - len(rest) + used
        except (ValueError, RecursionError):
            return []
        calls = [self._checked(value) for value in values]
        return [call for call in calls if call] if all(calls) else []

    def _checked(self, value: Any) -> Call | None:
        if not isinstance(value, dict) or value.get("name") not in self._names:
            return None
        arguments: Any = next((value[key] for key in _ARGUMENTS if key in value), {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                return None
        if not isinstance(arguments, dict):
            return None
        return Call(value["name"], json.dumps(arguments, ensure_ascii=False))


def forced_schema(
    family: Family, tools: Sequence[Mapping[str, Any]], name: str | None = None
) -> dict[str, Any]:
    """Build the JSON schema of an answer that is a call: of the named tool, or else of any."""
    key = "parameters" if family == "llama" else "arguments"
    choices, parts = [], {}
    for number, tool in enumerate(tools):
        function = tool["function"]
        if name not in (None, function["name"]):
            continue
        place = f"tool{number}"
        parts[place] = _moved(
            function.get("parameters")
            or {"type": "object", "properties": {}, "additionalProperties": False},
            f"#/$defs/{place}",
        )
        choices.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    key: {"$ref": f"#/$defs/{place}"},
                },
                "required": ["name", key],
                "additionalProperties": False,
            }
        )
    whole = choices[0] if len(choices) == 1 else {"anyOf": choices}
    return {**whole, "$defs": parts}


def _moved(schema: Any, place: str) -> Any:
    """Point a schema's references to where it stands now."""
    if isinstance(schema, list):
        return [_moved(one, place) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for key, value in schema.items()
    }


def _may_go_on(text: str, mark: str) -> str:
    """Return the end of a text that may be the white space before a mark, and its beginning."""
    for length in range(min(len(mark) - 1, len(text)), -1, -1):
        if length == 0 or text.endswith(mark[:length]):
            before = text[: len(text) - length]
            return text[len(before.rstrip()) :]
    raise AssertionError("unreachable")
