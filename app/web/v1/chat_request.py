"""From OpenAI's chat body to what is asked of a model, each refusal naming its parameter."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.adapters import answering, asking, sharing
from app.adapters.asking import Asked
from app.base_models import registry as base_models
from app.core.errors import Unavailable
from app.core.models import BaseModel, User
from app.training import json_schemas, tool_calls
from app.training.answers import MAX_STOPS, AnswerRequest, Limits
from app.training.chat import read_template
from app.training.tool_calls import CallReader, Family
from app.web.v1 import chat_lookup
from app.web.v1.chat_schemas import (
    ChatSource,
    CreateChatCompletion,
    Message,
    NamedTool,
    ToolCall,
)
from app.web.v1.errors import BadRequest, unsupported

# OpenAI's own defaults; a script that leaves them out goes on as it did.
_TEMPERATURE, _TOP_P = 1.0, 1.0
_MAX_NEW_TOKENS = 2**31 - 1  # more than any context; the answer ends at its model's
_CALL_END = "</tool_call>"


@dataclass(frozen=True)
class Tools:
    """What a model may call, and how its calls are read."""

    family: Family
    names: tuple[str, ...]
    is_forced: bool
    is_single: bool

    def reader(self) -> CallReader:
        return CallReader(
            self.family, self.names, is_forced=self.is_forced, is_single=self.is_single
        )


@dataclass(frozen=True)
class Prepared:
    """What is asked, where, and in which form it is answered."""

    model: str
    request: AnswerRequest
    found: answering.Found
    tools: Tools | None
    is_streamed: bool
    with_usage: bool
    # Where the adapter's owner keeps what is asked: the question; none: nothing is kept for them.
    kept_question: str | None = None
    sources: list[ChatSource] | None = None  # None: nothing is looked up


def prepare(db: Session, user: User, body: CreateChatCompletion) -> Prepared:
    """Settle what is asked of which model.

    Raises:
        BadRequest: something cannot be done as it stands.
        NotFound, Forbidden, Invalid: as for asking.by_name.
        Unavailable: no process answers.
        TooMany: the person has asked as often as the adapter's owner allows.
    """
    asked = asking.by_name(db, user, body.model)
    is_streamed = bool(body.stream)
    if body.stream_options is not None and not is_streamed:
        raise BadRequest(
            "stream_options: send it with `stream: true` alone.", field="stream_options"
        )
    messages = turns(body.messages)
    if asking.continues_text(db, asked.adapter):
        messages = _as_text(body, messages)
    has_calls = any("tool_calls" in turn or turn["role"] == "tool" for turn in messages)
    family = _family(asked.base) if body.tools or has_calls else None
    if has_calls and family is None:
        raise _no_place_for_tools(asked, "messages")
    tools = _tools(body, asked, family)
    offered = None
    if tools is not None:
        offered = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
    request = AnswerRequest(
        base_model_id=asked.base.id,
        adapter_id=asked.adapter.id if asked.adapter else None,
        account=f"user-{user.id}",
        messages=messages,
        tools=offered,
        num_answers=body.n or 1,
        limits=_limits(body, tools, offered),
    )
    looked = chat_lookup.looked_up(db, user, body, asked, request)
    found = answering.find(db, asked.base.id)
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    kept = None
    if asked.adapter is not None:
        # Last, so that what is refused counts for nothing.
        sharing.count_use(db, user, asked.adapter)
        kept = _last_question(messages) if sharing.keeps(asked.adapter) else None
    sources = chat_lookup.sources(db, looked)
    return Prepared(
        asked.name, looked.request, found, tools, is_streamed, with_usage, kept, sources
    )


def _last_question(messages: Sequence[dict[str, Any]]) -> str | None:
    said = (turn["content"] for turn in reversed(messages) if turn["role"] in ("user", "text"))
    return next(said, None)


# --- turns -----------------------------------------------------------------------------------


def turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Write a conversation as models' templates know it.

    Raises:
        BadRequest: a turn has not what it needs, or what it cannot have.
    """
    called: set[str] = set()
    written = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        turn = _turn(message, where)
        for call in turn.get("tool_calls", ()):
            called.add(call["id"])
        if message.role == "tool" and message.tool_call_id not in called:
            raise BadRequest(
                f"{where}.tool_call_id: no call before it has this id.",
                field=f"{where}.tool_call_id",
            )
        written.append(turn)
    return written


def _turn(message: Message, where: str) -> dict[str, Any]:
    is_answer = message.role == "assistant"
    for name in ("tool_calls", "refusal"):
        if getattr(message, name) and not is_answer:
            raise BadRequest(
                f"{where}.{name}: only an assistant's turn has it.", field=f"{where}.{name}"
            )
    content = _words(message)
    if content is None and is_answer:
        content = message.refusal or ""
    if content is None:
        raise BadRequest(
            f"{where}.content: the turn of a {message.role} needs text.", field=f"{where}.content"
        )
    # OpenAI's newer word for the same.
    role = "system" if message.role == "developer" else message.role
    turn: dict[str, Any] = {"role": role, "content": content}
    if message.name:
        turn["name"] = message.name
    if message.role == "tool":
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{number}]")
            for number, call in enumerate(message.tool_calls)
        ]
    return turn


def _words(message: Message) -> str | None:
    """Join the parts of a turn; nothing stands between them that nobody wrote."""
    if isinstance(message.content, list):
        return "".join(part.text for part in message.content)
    return message.content


def _call(call: ToolCall, where: str) -> dict[str, Any]:
    arguments = call.function.arguments
    try:
        is_object = isinstance(json.loads(arguments or "{}"), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise BadRequest(
            f"{where}.function.arguments: it has to be a JSON object, as text.",
            field=f"{where}.function.arguments",
        )
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _as_text(body: CreateChatCompletion, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(messages) != 1 or messages[0]["role"] != "user":
        raise unsupported(
            "messages: this model learned plain text and goes on with a text; send it as one "
            "message of the user.",
            "messages",
        )
    if body.tools:
        raise unsupported("tools: this model learned plain text and calls no tools.", "tools")
    return [{"role": "text", "content": messages[0]["content"]}]


# --- tools -----------------------------------------------------------------------------------


def _tools(body: CreateChatCompletion, asked: Asked, family: Family | None) -> Tools | None:
    choice = body.tool_choice or "auto"
    is_forced = choice == "required" or isinstance(choice, NamedTool)
    names = tuple(tool.function.name for tool in body.tools or ())
    if is_forced and not names:
        raise BadRequest("tool_choice: there are no tools to choose from.", field="tool_choice")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise BadRequest(
            f"tool_choice.function.name: no tool is called {choice.function.name!r}.",
            field="tool_choice.function.name",
        )
    if not names or choice == "none":
        return None  # a model that is told of none calls none
    if family is None:
        raise _no_place_for_tools(asked, "tools")
    _check_tools(body, names, is_forced)
    return Tools(family, names, is_forced, body.parallel_tool_calls is False)


def _check_tools(body: CreateChatCompletion, names: Sequence[str], is_forced: bool) -> None:
    for number, tool in enumerate(body.tools or ()):
        if names.index(tool.function.name) != number:
            raise BadRequest(
                f"tools[{number}].function.name: another tool has this name.",
                field=f"tools[{number}].function.name",
            )
        if tool.function.strict and not is_forced:
            raise unsupported(
                f"tools[{number}].function.strict: arguments are held to their schema where "
                "`tool_choice` asks for a call; leave it out, or ask for one.",
                f"tools[{number}].function.strict",
            )
        if is_forced and tool.function.parameters:
            _require_kept(tool.function.parameters, f"tools[{number}].function.parameters")
    if body.response_format is not None and body.response_format.type != "text":
        raise unsupported(
            "response_format: an answer that is held to a form can call no tools; leave one out.",
            "response_format",
        )
    if body.logprobs:
        raise unsupported("logprobs: they are not told where tools are offered.", "logprobs")


def _no_place_for_tools(asked: Asked, field: str) -> BadRequest:
    return unsupported(
        f"{field}: the chat template of {asked.base.name} has no place for tools and their calls "
        "that Etude could read; /help/programs says which have.",
        field,
    )


def _family(base: BaseModel) -> Family | None:
    return _family_in(base_models.folder(base), base.manifest_sha256)


@lru_cache(maxsize=64)
def _family_in(folder: Path, _manifest_sha256: str | None) -> Family | None:
    try:
        template = read_template(folder)
    except (OSError, ValueError):
        raise Unavailable(
            "The model's files cannot be read; tell your administrator.", field="model"
        ) from None
    return tool_calls.family_of(template) if isinstance(template, str) else None


# --- limits ----------------------------------------------------------------------------------


def _limits(
    body: CreateChatCompletion, tools: Tools | None, offered: list[dict[str, Any]] | None
) -> Limits:
    if body.top_logprobs is not None and not body.logprobs:
        raise BadRequest("top_logprobs: send it with `logprobs: true`.", field="top_logprobs")
    return Limits(
        max_new_tokens=_max_new_tokens(body),
        temperature=_TEMPERATURE if body.temperature is None else body.temperature,
        top_p=_TOP_P if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=_stop(body, tools),
        frequency_penalty=body.frequency_penalty or 0,
        presence_penalty=body.presence_penalty or 0,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        json_schema=_schema(body, tools, offered),
    )


def _max_new_tokens(body: CreateChatCompletion) -> int | None:
    newer, older = body.max_completion_tokens, body.max_tokens
    if newer is not None and older is not None and newer != older:
        raise BadRequest(
            "max_tokens: it says another number than max_completion_tokens; send one of them.",
            field="max_tokens",
        )
    wanted = newer if newer is not None else older
    return None if wanted is None else min(wanted, _MAX_NEW_TOKENS)


def _stop(body: CreateChatCompletion, tools: Tools | None) -> list[str]:
    words = [body.stop] if isinstance(body.stop, str) else list(body.stop or ())
    if tools is not None and tools.is_single and tools.family == "hermes" and not tools.is_forced:
        if len(words) == MAX_STOPS:
            raise BadRequest(
                f"stop: with `parallel_tool_calls: false` at most {MAX_STOPS - 1} stop words can "
                "be kept.",
                field="stop",
            )
        words.append(_CALL_END)  # behind the first call nothing more is said
    return words


def _schema(
    body: CreateChatCompletion, tools: Tools | None, offered: list[dict[str, Any]] | None
) -> dict[str, Any] | None:
    if tools is not None and tools.is_forced:
        named = body.tool_choice
        name = named.function.name if isinstance(named, NamedTool) else None
        return tool_calls.forced_schema(tools.family, offered or (), name)
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {}
    if wanted.json_schema is None:
        raise BadRequest(
            "Missing required parameter: response_format.json_schema.",
            field="response_format.json_schema",
            code="missing",
        )
    schema = wanted.json_schema.wanted or {}
    _require_kept(schema, "response_format.json_schema.schema")
    return schema


def _require_kept(schema: dict[str, Any], where: str) -> None:
    problem = json_schemas.problem(schema)
    if problem is not None:
        path, sentence = problem
        field = f"{where}.{path}" if path else where
        raise unsupported(f"{field}: {sentence}.", field)
