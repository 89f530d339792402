"""What is asked of a model and what it answers: the messages between web, parent and child.

Web and `etude answer` speak them over one connection a request, one JSON line each; the parent and
its child over a pipe, where each line also bears the request's number. `docs/life-of-an-answer.md`
follows one from the page to the model and back.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

MAX_ANSWERS = 8  # n
MAX_STOPS = 4
MAX_TOP_LOGPROBS = 20
# A model may rule a token out, and JSON has no minus infinity.
LEAST_LOGPROB = -1e4
Logprob = Annotated[float, AfterValidator(lambda value: max(value, LEAST_LOGPROB))]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Limits(_Message):
    """How an answer is drawn and where it ends. Defaults are the likeliest word each time."""

    max_new_tokens: int | None = Field(default=None, ge=1)  # None: as many as the context holds
    temperature: float = Field(default=0, ge=0, le=2)
    top_p: float = Field(default=1, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: list[str] = Field(default_factory=list, max_length=MAX_STOPS)
    keeps_stop: bool = False  # whether the stop word itself is said
    frequency_penalty: float = Field(default=0, ge=-2, le=2)
    presence_penalty: float = Field(default=0, ge=-2, le=2)
    # None: no log-probabilities; else that many of the likeliest beside each token's own.
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    # A JSON schema that the answer keeps to; {} is any JSON object.
    json_schema: dict[str, Any] | None = None


class AnswerRequest(_Message):
    """A conversation to go on, or a text; rights were checked by whoever sends it."""

    kind: Literal["answer"] = "answer"
    base_model_id: int
    adapter_id: int | None = None  # None: the base model itself
    # Whose cached words may be read again: nobody else's show in `cached_tokens`.
    account: str
    # Turns with role and content, or one of role "text" that is continued.
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    num_answers: int = Field(default=1, ge=1, le=MAX_ANSWERS)
    limits: Limits = Field(default_factory=Limits)


class ScoreRequest(_Message):
    """How likely a model finds an answer that is given."""

    kind: Literal["score"] = "score"
    base_model_id: int
    adapter_id: int | None = None
    account: str
    messages: list[dict[str, Any]]  # the last one is the answer
    tools: list[dict[str, Any]] | None = None


Request = Annotated[AnswerRequest | ScoreRequest, Field(discriminator="kind")]
REQUEST: TypeAdapter[AnswerRequest | ScoreRequest] = TypeAdapter(Request)


class Waiting(_Message):
    """Nothing is said yet; sent whenever one of these changes."""

    kind: Literal["waiting"] = "waiting"
    place: int = 0  # how many are before it; 0 once it is this one's turn
    doing: str = ""  # what is being made ready, for a person: "loading the model"


class Begun(_Message):
    """The question is read; words follow. Nothing that can be refused is refused later."""

    kind: Literal["begun"] = "begun"
    prompt_tokens: int
    cached_tokens: int  # of these, how many were known from this account's earlier request


class Likelihood(_Message):
    """A token and the natural logarithm of its probability, before anything was drawn."""

    token: str
    bytes: list[int]
    logprob: Logprob


class TokenLogprob(Likelihood):
    top: list[Likelihood] = Field(default_factory=list)


class Piece(_Message):
    """What an answer goes on with: whole letters only, nothing of the template."""

    kind: Literal["piece"] = "piece"
    index: int  # which of `num_answers`
    text: str
    logprobs: list[TokenLogprob] | None = None  # of the tokens that spell `text`


class Ended(_Message):
    """One answer is over."""

    kind: Literal["ended"] = "ended"
    index: int
    # The model or a stop word ended it; or a limit: the request's, or the context's.
    reason: Literal["stop", "length"]
    completion_tokens: int


class Done(_Message):
    """All answers are over; the last message."""

    kind: Literal["done"] = "done"
    engine: Literal["llama.cpp", "transformers", "vllm"]
    seconds: float  # from the first token read to the last one said
    tokens_per_second: float


class Scores(_Message):
    """The answer to a ScoreRequest, and its only message."""

    kind: Literal["scores"] = "scores"
    logprobs: list[Logprob]  # natural, one for each token of the answer
    num_prompt_tokens: int


class Refused(_Message):
    """It cannot be answered; the last message. Sentences are for a person."""

    kind: Literal["refused"] = "refused"
    status: int  # as HTTP has it
    code: str
    message: str
    param: str | None = None
    retry_after_seconds: float | None = None


Event = Annotated[
    Waiting | Begun | Piece | Ended | Done | Scores | Refused, Field(discriminator="kind")
]
EVENT: TypeAdapter[Waiting | Begun | Piece | Ended | Done | Scores | Refused] = TypeAdapter(Event)
