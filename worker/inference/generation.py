"""From questions to words, above any engine: read, draw, spell, stop; several side by side.

One `step` reads a piece of one prompt and then one token of every answer that is under way, so a
long question delays the words of others by a piece at a time. A slot belongs to one answer until
that is over; what it read of the prompt stays for the same account's next question.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.training.answers import (
    AnswerRequest,
    Begun,
    Done,
    Ended,
    Event,
    Likelihood,
    Piece,
    Refused,
    ScoreRequest,
    Scores,
    TokenLogprob,
    Waiting,
)
from app.training.chat import IGNORE_INDEX, ChatError, ChatFormat
from app.training.spelling import Bytes, Spelled, Speller
from worker.inference.engine import READ_TOKENS, Chunk, Engine, EngineError
from worker.inference.grammar import Grammars, Unkeepable
from worker.inference.sampling import Grammar, Sampler, likeliest, log_probabilities

# Tokens that a model says itself although its tokenizer calls them special.
_SAID = frozenset({"[TOOL_CALLS]", "<|python_tag|>"})

Tell = Callable[[int, Event], None]


@dataclass
class _Slot:
    """One place in the engine's cache."""

    number: int
    adapter: str | None = None
    account: str = ""
    # Of what it holds, the tokens that were read in whole pieces of a prompt: only these are read
    # again for nothing. What was said came a token at a time, and rounds differently.
    kept: list[int] = field(default_factory=list)
    used_at: float = 0.0
    answer: "_Answer | _Score | None" = None


@dataclass
class _Asked:
    """A request with one or more answers."""

    id: int
    adapter: str | None
    account: str
    num_open: int
    came_at: float
    began_at: float = 0.0
    is_begun: bool = False
    num_said: int = 0
    place: int = -1  # as it was told last


@dataclass
class _Answer:
    """One answer on its way: waiting, being read, being said."""

    asked: _Asked
    index: int
    prompt: list[int]
    limit: int  # tokens it may have
    sampler: Sampler
    speller: Speller
    top_logprobs: int | None
    num_read: int = 0
    cached: int = 0
    said: list[int] = field(default_factory=list)
    likelihoods: deque[TokenLogprob] = field(default_factory=deque)


@dataclass
class _Score:
    """A given answer whose tokens' likelihoods are asked for."""

    asked: _Asked
    prompt: list[int]  # with the answer
    scored: list[int]  # positions of the answer's tokens
    num_read: int = 0
    cached: int = 0
    logprobs: list[float] = field(default_factory=list)


class Answering:
    """Everything that is being answered with one base model and its adapters."""

    def __init__(
        self,
        engine: Engine,
        name: Literal["llama.cpp", "transformers"],
        chat: ChatFormat,
        tell: Tell,
        ends: Iterable[int] = (),
    ) -> None:
        """
        Args:
            tell: Called with a request's id and its next event.
            ends: Tokens at which an answer is over, beside those of the chat template.
        """
        self._engine, self._name, self._chat, self._tell = engine, name, chat, tell
        self._bytes = Bytes(chat.tokenizer)
        self._ends = chat.end_token_ids | frozenset(ends)
        self._slots = [_Slot(number) for number in range(engine.num_slots)]
        self._waiting: deque[_Answer | _Score] = deque()
        self._grammars: Grammars | None = None

    @property
    def is_idle(self) -> bool:
        return not self._waiting and all(slot.answer is None for slot in self._slots)

    def ask(
        self, request_id: int, adapter: str | None, request: AnswerRequest | ScoreRequest
    ) -> None:
        """Take a request; what cannot be answered is refused at once."""
        try:
            if isinstance(request, ScoreRequest):
                self._waiting.append(self._score(request_id, adapter, request))
            else:
                self._waiting.extend(self._answers(request_id, adapter, request))
        except _Refusal as refusal:
            self._tell(request_id, refusal.event)
        except ChatError as error:
            self._tell(request_id, _refused(400, "invalid_value", str(error), "messages"))
        except Unkeepable as error:
            self._tell(request_id, _refused(400, "invalid_value", str(error), "response_format"))
        self._tell_places()

    def stop(self, request_id: int) -> None:
        """Forget a request; nothing more is said of it."""
        self._waiting = deque(a for a in self._waiting if a.asked.id != request_id)
        for slot in self._slots:
            if slot.answer is not None and slot.answer.asked.id == request_id:
                slot.answer = None

    def forget_adapter(self, adapter: str) -> None:
        """Refuse what is asked of an adapter that is going, and drop what was read for it."""
        asked = {
            a.asked.id for a in (*self._waiting, *self._active()) if a.asked.adapter == adapter
        }
        for request_id in asked:
            self.stop(request_id)
            self._tell(
                request_id,
                _refused(404, "model_not_found", "This model was withdrawn while it answered."),
            )
        for slot in self._slots:
            if slot.adapter == adapter:
                slot.kept = []

    def forget(self) -> None:
        """Be as at the beginning: know neither what slots have read nor when they were used."""
        for slot in self._slots:
            slot.kept, slot.used_at = [], 0.0

    def step(self) -> bool:
        """Do the next bit of work; says whether there was any.

        An engine that fails refuses everything that it holds, with its sentence.
        """
        self._admit()
        reading = [s for s in self._slots if s.answer is not None and _is_reading(s.answer)]
        saying = [s for s in self._slots if s.answer is not None and not _is_reading(s.answer)]
        if not reading and not saying:
            return False
        try:
            if reading:
                self._read(min(reading, key=lambda s: s.answer.asked.came_at if s.answer else 0))
            for group in self._groups(saying):
                self._say(group)
        except EngineError as error:
            for slot in self._slots:
                slot.kept = []
            for request_id in {a.asked.id for a in self._active()}:
                self.stop(request_id)
                self._tell(request_id, _refused(503, "engine_failed", str(error)))
        return True

    def _active(self) -> list["_Answer | _Score"]:
        return [slot.answer for slot in self._slots if slot.answer is not None]

    # What is asked

    def _answers(
        self, request_id: int, adapter: str | None, request: AnswerRequest
    ) -> list[_Answer]:
        limits = request.limits
        prompt = self._chat.encode_prompt(request.messages, request.tools)
        room = self._engine.context_tokens - len(prompt)
        if room < (limits.max_new_tokens or 1):
            raise _Refusal(_too_long(len(prompt), limits.max_new_tokens, self._engine))
        asked = _Asked(request_id, adapter, request.account, request.num_answers, time.monotonic())
        return [
            _Answer(
                asked,
                index,
                prompt,
                min(room, limits.max_new_tokens or room),
                Sampler(limits, self._grammar(limits.json_schema), index),
                Speller(self._bytes, limits.stop, limits.keeps_stop),
                limits.top_logprobs,
            )
            for index in range(request.num_answers)
        ]

    def _grammar(self, schema: dict[str, Any] | None) -> Grammar | None:
        if schema is None:
            return None
        if self._grammars is None:
            self._grammars = Grammars(self._chat.tokenizer, self._engine.vocab_size, self._ends)
        return self._grammars.of_schema(schema)

    def _score(self, request_id: int, adapter: str | None, request: ScoreRequest) -> _Score:
        encoded = self._chat.encode(request.messages, 2**62, request.tools)
        if len(encoded.token_ids) > self._engine.context_tokens:
            raise _Refusal(_too_long(len(encoded.token_ids), None, self._engine))
        scored = [i for i, label in enumerate(encoded.labels) if label != IGNORE_INDEX]
        # Of several answers in a conversation the last one.
        first = next((i for i in reversed(scored) if i - 1 not in scored), 0)
        asked = _Asked(request_id, adapter, request.account, 1, time.monotonic())
        return _Score(asked, encoded.token_ids, [i for i in scored if i >= max(first, 1)])

    # Slots

    def _admit(self) -> None:
        free = [slot for slot in self._slots if slot.answer is None]
        while self._waiting and free:
            answer = self._waiting.popleft()
            slot = max(free, key=lambda s: (_known(s, answer), -s.used_at))
            free.remove(slot)
            answer.cached = answer.num_read = _known(slot, answer)
            slot.adapter, slot.account = answer.asked.adapter, answer.asked.account
            slot.kept = slot.kept[: answer.cached]
            slot.answer = answer
            answer.asked.began_at = answer.asked.began_at or time.monotonic()
            self._tell_places()

    def _free(self, slot: _Slot) -> None:
        slot.answer, slot.used_at = None, time.monotonic()

    def _tell_places(self) -> None:
        asked = list({answer.asked.id: answer.asked for answer in self._waiting}.values())
        for place, one in enumerate(asked, start=1):
            if one.place != place and not one.began_at:
                one.place = place
                self._tell(one.id, Waiting(place=place))

    # Reading and saying

    def _read(self, slot: _Slot) -> None:
        """Read one piece of a prompt; at its end the first token is drawn."""
        answer = slot.answer
        assert answer is not None
        start = answer.num_read
        ids = answer.prompt[start : start + READ_TOKENS]
        is_score = isinstance(answer, _Score)
        [scores_RV] = self._engine.forward(
            [Chunk(slot.number, start, ids, answer.asked.adapter, all_scores=is_score)]
        )
        answer.num_read += len(ids)
        if len(ids) == READ_TOKENS:
            slot.kept = answer.prompt[: answer.num_read]
        if isinstance(answer, _Score):
            try:
                self._note_scores(slot, answer, start, scores_RV)
            except ValueError as error:
                self._refuse(answer, _refused(503, "engine_failed", _sentence(error)))
        elif not _is_reading(answer):
            asked = answer.asked
            if not asked.is_begun:
                asked.is_begun = True
                self._tell(
                    asked.id,
                    Begun(prompt_tokens=len(answer.prompt), cached_tokens=answer.cached),
                )
            self._next(slot, answer, scores_RV[-1])

    def _note_scores(
        self, slot: _Slot, score: _Score, start: int, scores_RV: NDArray[np.float32]
    ) -> None:
        for position in score.scored:
            # What stands at a position was predicted by the token before it.
            if start <= position - 1 < start + len(scores_RV):
                logs_V = log_probabilities(scores_RV[position - 1 - start])
                score.logprobs.append(float(logs_V[score.prompt[position]]))
        if score.num_read == len(score.prompt):
            self._free(slot)
            num_prompt = len(score.prompt) - len(score.scored)
            self._tell(
                score.asked.id, Scores(logprobs=score.logprobs, num_prompt_tokens=num_prompt)
            )

    def _groups(self, slots: list[_Slot]) -> list[list[_Slot]]:
        """Put together what one call of the engine takes."""
        if self._engine.mixes_adapters:
            return [slots] if slots else []
        adapters = dict.fromkeys(slot.adapter for slot in slots)
        return [[slot for slot in slots if slot.adapter == adapter] for adapter in adapters]

    def _say(self, slots: list[_Slot]) -> None:
        chunks = []
        for slot in slots:
            answer = slot.answer
            assert isinstance(answer, _Answer)
            position = len(answer.prompt) + len(answer.said) - 1
            chunks.append(Chunk(slot.number, position, answer.said[-1:], answer.asked.adapter))
        scores = self._engine.forward(chunks)
        for slot, scores_RV in zip(slots, scores, strict=True):
            assert isinstance(slot.answer, _Answer)
            self._next(slot, slot.answer, scores_RV[-1])

    def _next(self, slot: _Slot, answer: _Answer, scores_V: NDArray[np.float32]) -> None:
        """Draw a token, and say what is certain because of it."""
        likelihood = None
        try:
            token_id = answer.sampler.next(scores_V)
            if answer.top_logprobs is not None:
                likelihood = self._likelihood(answer.top_logprobs, token_id, scores_V)
        except Unkeepable as error:
            self._refuse(answer, _refused(400, "invalid_value", str(error), "response_format"))
            return
        except ValueError as error:
            self._refuse(answer, _refused(503, "engine_failed", _sentence(error)))
            return
        if token_id in self._ends or self._is_control(token_id):
            self._finish(slot, answer, "stop")
            return
        answer.said.append(token_id)
        if likelihood is not None:
            answer.likelihoods.append(likelihood)
        self._tell_piece(answer, answer.speller.add(token_id))
        if answer.speller.is_stopped:
            self._finish(slot, answer, "stop")
        elif len(answer.said) >= answer.limit:
            self._finish(slot, answer, "length")

    def _refuse(self, answer: _Answer | _Score, refused: Refused) -> None:
        self.stop(answer.asked.id)
        self._tell(answer.asked.id, refused)

    def _is_control(self, token_id: int) -> bool:
        """Say whether a model begins somebody's turn, which ends its own."""
        return self._bytes.is_special(token_id) and (
            self._bytes.of(token_id).decode(errors="replace") not in _SAID
        )

    def _finish(self, slot: _Slot, answer: _Answer, reason: Literal["stop", "length"]) -> None:
        self._free(slot)
        asked = answer.asked
        if not answer.speller.is_stopped:
            self._tell_piece(answer, answer.speller.end())
        asked.num_open -= 1
        asked.num_said += len(answer.said)
        self._tell(
            asked.id,
            Ended(index=answer.index, reason=reason, completion_tokens=len(answer.said)),
        )
        if asked.num_open == 0:
            seconds = time.monotonic() - asked.began_at
            rate = asked.num_said / max(seconds, 1e-9)
            self._tell(asked.id, Done(engine=self._name, seconds=seconds, tokens_per_second=rate))

    def _tell_piece(self, answer: _Answer, spelled: Spelled) -> None:
        if not spelled.text:
            return
        logprobs = None
        if answer.top_logprobs is not None:
            logprobs = [answer.likelihoods.popleft() for _ in range(spelled.num_tokens)]
            _shorten(logprobs, spelled.text)
        self._tell(answer.asked.id, Piece(index=answer.index, text=spelled.text, logprobs=logprobs))

    def _likelihood(
        self, num_top: int, token_id: int, scores_V: NDArray[np.float32]
    ) -> TokenLogprob:
        logs_V = log_probabilities(scores_V)

        def of(one: int) -> Likelihood:
            spelled = self._bytes.of(one)
            return Likelihood(
                token=spelled.decode(errors="replace"),
                bytes=list(spelled),
                logprob=float(logs_V[one]),
            )

        top = [of(one) for one in likeliest(logs_V, num_top)]
        return TokenLogprob(**of(token_id).model_dump(), top=top)


class _Refusal(Exception):
    def __init__(self, event: Refused) -> None:
        super().__init__(event.message)
        self.event = event


def _shorten(logprobs: list[TokenLogprob], text: str) -> None:
    """Let tokens spell a text and nothing more: a stop word may begin within the last one.

    The first one of an answer may have a space before it that is not the text's.
    """
    excess = sum(len(one.bytes) for one in logprobs) - len(text.encode())
    if excess <= 0:
        return
    first, last = logprobs[0], logprobs[-1]
    if first.token.startswith(" ") and not text.startswith(" "):
        _respell(first, first.bytes[1:])
        excess -= 1
    if excess > 0:
        _respell(last, last.bytes[:-excess])


def _respell(one: TokenLogprob, spelled: list[int]) -> None:
    one.bytes, one.token = spelled, bytes(spelled).decode(errors="replace")


def _is_reading(answer: _Answer | _Score) -> bool:
    return answer.num_read < len(answer.prompt)


def _known(slot: _Slot, answer: _Answer | _Score) -> int:
    """Return how many of an answer's tokens a slot has read, in whole pieces.

    At least the last one is read anew, for its scores; all of a given answer is.
    """
    asked = answer.asked
    if (slot.adapter, slot.account) != (asked.adapter, asked.account):
        return 0
    needed = len(answer.prompt) - 1
    if isinstance(answer, _Score):
        needed = min(needed, answer.scored[0] - 1)
    same = 0
    for kept, wanted in zip(slot.kept, answer.prompt[:needed], strict=False):
        if kept != wanted:
            break
        same += 1
    return same // READ_TOKENS * READ_TOKENS


def _too_long(num_prompt: int, max_new: int | None, engine: Engine) -> Refused:
    asked = f" and asks for {max_new} more" if max_new else ""
    return _refused(
        400,
        "context_length_exceeded",
        f"This model reads {engine.context_tokens} tokens, question and answer together; the "
        f"question has {num_prompt}{asked}. Shorten the question or the answer.",
        "messages",
    )


def _refused(status: int, code: str, message: str, param: str | None = None) -> Refused:
    return Refused(status=status, code=code, message=message, param=param)


def _sentence(error: Exception) -> str:
    said = str(error)
    return f"The answer broke off: {said}. Ask your administrator to look at the model."
