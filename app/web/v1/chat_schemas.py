"""What a chat completion takes and gives, field by field; null counts as absent.

Nothing is turned into what it is not: "5" is no number here and true no 1. What OpenAI has and
Etude has not is named, so that it can be refused by name.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.training.answers import MAX_ANSWERS, MAX_STOPS, MAX_TOP_LOGPROBS
from app.web.v1.errors import UNSUPPORTED
from app.web.v1.schemas import Metadata, Text

MAX_MESSAGES = 2000
MAX_TOOLS = 128
_MAX_DEPTH = 60


def _unsupported(sentence: str) -> PydanticCustomError:
    return PydanticCustomError(UNSUPPORTED, "{sentence}", {"sentence": sentence})


def _only(word: str, why: str) -> AfterValidator:
    """Take one word, and refuse OpenAI's others by name."""

    def check(value: str) -> str:
        if value != word:
            raise _unsupported(f"{why}, not {value[:40]!r}")
        return value

    return AfterValidator(check)


def _refused(why: str) -> BeforeValidator:
    """Take only what means nothing: null, false, or a list or an object of nothing."""

    def check(value: object) -> object:
        if value:
            raise _unsupported(why)
        return None

    return BeforeValidator(check)


def _sendable(value: Any) -> Any:
    """Refuse what cannot be written down again: half a pair of letters, nesting without end."""
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        if any(isinstance(one, str) and not _is_text(one) for one in level):
            raise ValueError("it contains a character that is no text (NUL, or half of a pair)")
        level = [inner for one in level for inner in _within(one)]
        if not level:
            return value
    raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


# Any JSON, as clients send along what they know and we need not.
Json = Annotated[Any, AfterValidator(_sendable)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_sendable)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# --- turns -----------------------------------------------------------------------------------


class TextPart(_Strict):
    type: Annotated[str, _only("text", "only parts of the type 'text' are read here")]
    text: Text
    prompt_cache_breakpoint: Json = None


def _kind_of_content(value: object) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


Content = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[list[TextPart], Tag("<parts>")],
    Discriminator(_kind_of_content),
]


class CalledFunction(_Strict):
    name: Text
    arguments: Text
    parsed_arguments: Json = None  # the SDK's own, beside the text


class ToolCall(_Strict):
    id: Text
    type: Annotated[str, _only("function", "only calls of the type 'function' are known here")] = (
        "function"
    )
    function: CalledFunction
    index: int | None = None  # of a chunk


_ROLES = ("system", "developer", "user", "assistant", "tool")


def _known_role(role: str) -> str:
    if role not in _ROLES:
        raise ValueError(f"it has to be one of {', '.join(_ROLES)}, not {role[:40]!r}")
    return role


class Message(_Strict):
    """A turn; an answer can be sent back with all that came with it."""

    role: Annotated[str, AfterValidator(_known_role), WithJsonSchema({"enum": list(_ROLES)})]
    content: Content | None = None
    name: Text | None = None
    refusal: Text | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Text | None = None
    annotations: Json = None
    parsed: Json = None  # the SDK's own, of an answer that it read
    audio: Annotated[Any, _refused("what is spoken cannot be read here")] = None
    function_call: Annotated[Any, _refused("send `tool_calls` instead")] = None


# --- what is asked for -----------------------------------------------------------------------


class OfferedFunction(_Strict):
    name: Name
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(_Strict):
    type: Annotated[str, _only("function", "only tools of the type 'function' are known here")]
    function: OfferedFunction


class NamedFunction(_Strict):
    name: Text


class NamedTool(_Strict):
    type: Annotated[str, _only("function", "one tool is chosen by the type 'function'")]
    function: NamedFunction


def _known_choice(choice: str) -> str:
    if choice not in ("none", "auto", "required"):
        raise ValueError("it has to be none, auto, required or one tool")
    return choice


ToolChoice = Annotated[
    Annotated[
        str,
        AfterValidator(_known_choice),
        WithJsonSchema({"enum": ["none", "auto", "required"]}),
        Tag("<word>"),
    ]
    | Annotated[NamedTool, Tag("<tool>")],
    Discriminator(lambda value: "<tool>" if isinstance(value, dict) else "<word>"),
]


class JsonSchemaFormat(_Strict):
    name: Name
    description: Text | None = None
    # BaseModel has a `schema` of its own.
    wanted: JsonObject | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(_Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # taken; nothing is obfuscated


def _not_empty(stop: str) -> str:
    if not stop:
        raise ValueError("a stop word must not be empty")
    return stop


StopWord = Annotated[Text, AfterValidator(_not_empty)]
Stop = Annotated[
    Annotated[StopWord, Tag("<word>")]
    | Annotated[list[StopWord], Field(max_length=MAX_STOPS), Tag("<words>")],
    Discriminator(lambda value: "<words>" if isinstance(value, list) else "<word>"),
]


class ChatOptions(_Strict):
    """`x_etude` of a chat: what OpenAI's own fields have no word for."""

    # A file's id, or true for the data that the tuned model learned from.
    lookup: Text | bool | None = None


class CreateChatCompletion(_Strict):
    model: Text
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]

    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Stop | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    x_etude: ChatOptions | None = None

    # What clients send along, and what changes nothing here.
    user: Text | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: Text | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_retention: Text | None = None
    prompt_cache_options: Json = None
    prediction: Json = None

    # What would change the answer, and is not done here.
    audio: Annotated[Any, _refused("answers are text here")] = None
    modalities: list[Annotated[str, _only("text", "answers are text here")]] | None = None
    function_call: Annotated[Any, _refused("deprecated; send `tool_choice`")] = None
    functions: Annotated[Any, _refused("deprecated; send `tools`")] = None
    logit_bias: Annotated[
        Any, _refused("token ids differ from model to model; it is not done here")
    ] = None
    moderation: Annotated[Any, _refused("nothing is moderated here")] = None
    reasoning_effort: Annotated[Any, _refused("the models here have no such setting")] = None
    verbosity: Annotated[
        Any, _refused("the models here have no such setting; ask for it in words")
    ] = None
    web_search_options: Annotated[Any, _refused("nothing leaves this server")] = None


# --- what is answered ------------------------------------------------------------------------


class Likelihood(BaseModel):
    token: str
    bytes: list[int]
    logprob: float


class TokenLogprob(Likelihood):
    top_logprobs: list[Likelihood]


class Logprobs(BaseModel):
    content: list[TokenLogprob]
    refusal: None = None


class AnsweredFunction(BaseModel):
    name: str
    arguments: str


class AnsweredCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: AnsweredFunction


class Answer(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    annotations: list[Any] = []
    tool_calls: list[AnsweredCall] | None = None


class Choice(BaseModel):
    index: int
    message: Answer
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class PromptTokensDetails(BaseModel):
    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ChatSource(BaseModel):
    """A row that an answer was taken from; `index` is its place among the version's examples."""

    file: str
    index: int
    question: str
    answer: str


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    # The rows that stood in the prompt, the most alike first; left out where nothing is looked up.
    x_sources: list[ChatSource] | None = None
