"""Asking, above an engine whose scores are worked out by hand: what is said, held back and refused.

The engine here continues what stands in a script, and fails where the loop breaks the protocol.
"""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.training.answers import (
    EVENT,
    AnswerRequest,
    Begun,
    Done,
    Ended,
    Event,
    Limits,
    Piece,
    Refused,
    ScoreRequest,
    Scores,
    Waiting,
)
from app.training.chat import ChatFormat
from tests.worker.trainer.conftest import SMOLLM2_TEMPLATE, tokenizer_json
from worker.inference.engine import READ_TOKENS, Chunk, EngineError
from worker.inference.generation import Answering

SPECIAL = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
VOCABULARY = 320


class Scripted:
    """Says `script(adapter, tokens so far)`; its second choice is a nat less likely."""

    mixes_adapters = False
    vocab_size = VOCABULARY

    def __init__(
        self,
        script: Callable[[str | None, list[int]], int],
        num_slots: int = 2,
        context_tokens: int = 512,
    ) -> None:
        self.script, self.num_slots, self.context_tokens = script, num_slots, context_tokens
        self.held: list[list[int]] = [[] for _ in range(num_slots)]
        self.owners: list[str | None] = [None] * num_slots
        self.calls: list[list[Chunk]] = []
        self.is_broken = False

    def add_adapter(self, name: str, path: Path) -> None: ...

    def remove_adapter(self, name: str) -> None: ...

    def close(self) -> None: ...

    def forward(self, chunks: Sequence[Chunk]) -> list[NDArray[np.float32]]:
        if self.is_broken:
            raise EngineError("Memory ran out.")
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        assert len({chunk.adapter for chunk in chunks}) == 1
        self.calls.append(list(chunks))
        return [self._scores(chunk) for chunk in chunks]

    def _scores(self, chunk: Chunk) -> NDArray[np.float32]:
        held = self.held[chunk.slot]
        assert chunk.token_ids
        assert chunk.position <= len(held)
        assert chunk.position == 0 or self.owners[chunk.slot] == chunk.adapter
        self.owners[chunk.slot] = chunk.adapter
        rows = []
        for offset, token_id in enumerate(chunk.token_ids):
            held[chunk.position + offset :] = [token_id]
            rows.append(self._row(chunk.adapter, held))
        assert len(held) <= self.context_tokens
        return np.stack(rows if chunk.all_scores else rows[-1:])

    def _row(self, adapter: str | None, held: list[int]) -> NDArray[np.float32]:
        row = np.full(VOCABULARY, -20, np.float32)
        best = self.script(adapter, held)
        row[best], row[(best + 1) % 256] = 0, -1
        return row


def chat() -> ChatFormat:
    return ChatFormat(tokenizer_json(), SMOLLM2_TEMPLATE, SPECIAL)


def saying(text: str, end: str = "<|im_end|>") -> Callable[[str | None, list[int]], int]:
    """Answer every question with one text; an adapter's answer begins with its name."""
    form = chat()
    begin = form.tokenizer.encode("assistant\n", add_special_tokens=False).ids

    def next_token(adapter: str | None, held: list[int]) -> int:
        ids = form.tokenizer.encode((adapter or "") + text + end, add_special_tokens=False).ids
        starts = (i for i in range(len(held), 0, -1) if held[i - len(begin) : i] == begin)
        start = next(starts, len(held))  # elsewhere in a prompt nobody listens
        return int(ids[min(len(held) - start, len(ids) - 1)])

    return next_token


class House:
    """An Answering with its engine, and what it told."""

    def __init__(self, engine: Scripted) -> None:
        self.engine = engine
        self.told: list[tuple[int, Event]] = []
        self.answering = Answering(
            engine, "llama.cpp", chat(), lambda one, event: self.told.append((one, event))
        )
        self._ids = itertools.count(1)

    def ask(
        self,
        text: str = "Where?",
        adapter: str | None = None,
        account: str = "nurse",
        num_answers: int = 1,
        **limits: Any,
    ) -> int:
        request = AnswerRequest(
            base_model_id=1,
            account=account,
            messages=[{"role": "user", "content": text}],
            num_answers=num_answers,
            limits=Limits(**limits),
        )
        number = next(self._ids)
        self.answering.ask(number, adapter, request)
        return number

    def run(self) -> None:
        while self.answering.step():
            pass

    def events(self, number: int) -> list[Event]:
        return [event for one, event in self.told if one == number]

    def text(self, number: int, index: int = 0) -> str:
        pieces = [e for e in self.events(number) if isinstance(e, Piece) and e.index == index]
        return "".join(piece.text for piece in pieces)

    def ends(self, number: int) -> list[Ended]:
        return [event for event in self.events(number) if isinstance(event, Ended)]


def house(text: str = "Up the stairs.", **engine: Any) -> House:
    return House(Scripted(saying(text), **engine))


def test_an_answer_begins_is_said_ends_and_is_done() -> None:
    one = house()
    number = one.ask()
    one.run()
    kinds = [event.kind for event in one.events(number)]
    assert kinds[:2] == ["waiting", "begun"]
    assert set(kinds[2:-2]) == {"piece"}
    assert kinds[-2:] == ["ended", "done"]
    assert one.text(number) == "Up the stairs."
    assert one.ends(number) == [Ended(index=0, reason="stop", completion_tokens=14)]
    assert one.answering.is_idle


def test_the_prompt_is_the_templates_own() -> None:
    one = house()
    number = one.ask("Where?")
    one.run()
    ids = chat().encode_prompt([{"role": "user", "content": "Where?"}])
    read = [i for call in one.engine.calls for c in call for i in c.token_ids][: len(ids)]
    assert read == ids
    [begun] = [event for event in one.events(number) if isinstance(event, Begun)]
    assert (begun.prompt_tokens, begun.cached_tokens) == (len(ids), 0)


def test_at_the_limit_no_letter_comes_in_halves() -> None:
    one = house("ä😀ü")
    for limit in range(1, 9):
        number = one.ask(max_new_tokens=limit)
        one.run()
        whole = "ä😀ü".encode()[:limit].decode(errors="ignore")
        assert one.text(number) == whole
        reason = "length" if limit < 9 else "stop"
        assert one.ends(number) == [Ended(index=0, reason=reason, completion_tokens=limit)]


def test_a_stop_word_ends_and_is_not_said() -> None:
    one = house("One. Two. Three.")
    number = one.ask(stop=[". Th", "nothing"])
    one.run()
    assert one.text(number) == "One. Two"
    assert one.ends(number)[0].reason == "stop"


def test_what_was_held_back_for_a_stop_word_comes_at_the_end() -> None:
    one = house("One. Tw")
    number = one.ask(stop=[". Two"])
    one.run()
    assert one.text(number) == "One. Tw"


def test_a_stop_word_at_once_is_an_empty_answer() -> None:
    one = house("One.")
    number = one.ask(stop=["On"])
    one.run()
    assert one.text(number) == ""
    assert one.ends(number)[0].reason == "stop"


@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_start|>", "<|endoftext|>"])
def test_no_piece_of_the_template_is_said(end: str) -> None:
    one = House(Scripted(saying("Yes.", end)))
    number = one.ask()
    one.run()
    assert one.text(number) == "Yes."
    assert one.ends(number)[0].reason == "stop"


def test_log_probabilities_spell_the_answer_and_are_the_models_own() -> None:
    one = house("ä. B")
    number = one.ask(top_logprobs=2, temperature=0.5, seed=7, frequency_penalty=1.5, stop=["B"])
    one.run()
    pieces = [event for event in one.events(number) if isinstance(event, Piece)]
    tokens = [token for piece in pieces for token in piece.logprobs or []]
    spelled = bytes(byte for token in tokens for byte in token.bytes)
    assert spelled.decode() == one.text(number)
    rest = (VOCABULARY - 2) * math.exp(-20)
    best = -math.log(1 + math.exp(-1) + rest)
    for token in tokens:
        assert [top.logprob for top in token.top] == pytest.approx([best, best - 1])


class Forbidding(Scripted):
    """Rules out all but its two choices, or has no numbers at all."""

    other = -math.inf

    def _row(self, adapter: str | None, held: list[int]) -> NDArray[np.float32]:
        row = super()._row(adapter, held)
        row[row == -20] = self.other
        return row


def test_what_a_model_rules_out_is_told_as_a_number() -> None:
    """JSON has no minus infinity: whoever reads the line would find null."""
    one = House(Forbidding(saying("Up.")))
    number = one.ask(top_logprobs=4)
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Ux."}]
    one.answering.ask(9, None, ScoreRequest(base_model_id=1, account="a", messages=messages))
    one.run()
    events = [EVENT.validate_json(event.model_dump_json()) for _, event in one.told]
    pieces = [event for event in events if isinstance(event, Piece)]
    tops = [token.top for piece in pieces for token in piece.logprobs or []]
    assert [[top.logprob for top in told][2:] for told in tops] == [[-1e4, -1e4]] * 3
    [scores] = [event for event in events if isinstance(event, Scores)]
    assert scores.logprobs[1] == -1e4
    assert one.text(number) == "Up."


def test_a_model_without_numbers_is_refused_whatever_was_asked_of_it() -> None:
    engine = Forbidding(saying('{"a": 1}'))
    engine.other = math.nan
    one = House(engine)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    numbers = [one.ask(), one.ask(top_logprobs=1), one.ask(top_logprobs=1, json_schema=schema)]
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Up."}]
    one.answering.ask(9, None, ScoreRequest(base_model_id=1, account="a", messages=messages))
    one.run()
    for number in (*numbers, 9):
        [refused] = [event for event in one.events(number) if isinstance(event, Refused)]
        assert refused.code == "engine_failed"
    assert one.answering.is_idle


def test_several_answers_to_one_question_each_have_their_seed() -> None:
    draws = []
    for _ in range(2):
        one = house(num_slots=3)
        number = one.ask(num_answers=3, temperature=2, seed=5, max_new_tokens=12)
        one.run()
        draws.append([one.text(number, index) for index in range(3)])
        assert sorted(end.index for end in one.ends(number)) == [0, 1, 2]
        assert sum(isinstance(event, Begun) for event in one.events(number)) == 1
        assert sum(isinstance(event, Done) for event in one.events(number)) == 1
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 3


def test_a_presence_penalty_turns_to_the_second_choice() -> None:
    one = house("aaa")
    number = one.ask(presence_penalty=1.5, max_new_tokens=3)
    one.run()
    # "a" lost 1.5 where its neighbour is a nat behind; then both have lost it.
    assert one.text(number) == "aba"


def test_a_schema_is_kept() -> None:
    one = house("I would rather not.")
    schema = {
        "type": "object",
        "properties": {"dose": {"type": "integer"}},
        "required": ["dose"],
        "additionalProperties": False,
    }
    number = one.ask(json_schema=schema, max_new_tokens=60)
    one.run()
    text = one.text(number)
    if one.ends(number)[0].reason == "stop":
        assert isinstance(json.loads(text)["dose"], int)
    else:  # a whole number has no end that this model would choose
        assert text.startswith('{"dose": ')


def test_a_schema_that_cannot_be_kept_is_refused() -> None:
    one = house()
    number = one.ask(json_schema={"type": "object", "patternProperties": {"(": 7}})
    [refused] = one.events(number)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.param) == (400, "response_format")


def test_what_does_not_fit_is_refused_at_once() -> None:
    one = house(context_tokens=128)
    long = one.ask("Where? " * 30)
    greedy = one.ask(max_new_tokens=100)
    for number in (long, greedy):
        [refused] = one.events(number)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.code) == (400, "context_length_exceeded")
    assert one.engine.calls == []


def test_at_the_contexts_end_the_answer_ends() -> None:
    one = house("x" * 500, context_tokens=160)
    number = one.ask()
    one.run()
    num_prompt = len(chat().encode_prompt([{"role": "user", "content": "Where?"}]))
    [ended] = one.ends(number)
    assert (ended.reason, ended.completion_tokens) == ("length", 160 - num_prompt)


def test_adapters_and_bases_answer_side_by_side_and_never_mix() -> None:
    one = house(num_slots=4)
    asked = {
        one.ask(f"Where {index}?" * (index % 5 + 1), adapter=adapter): adapter
        for index, adapter in enumerate([None, "a", "b", None, "a", "b", "a"] * 3)
    }
    one.run()
    for number, adapter in asked.items():
        assert one.text(number) == (adapter or "") + "Up the stairs."


def test_the_next_question_of_an_account_reads_only_what_is_new() -> None:
    one = house()
    long = "Where is it? " * 12
    one.ask(long, account="nurse")
    one.run()
    second = one.ask(long + "And then?", account="nurse")
    stranger = one.ask(long + "And then?", account="teacher")
    one.run()
    cached = {
        number: next(e.cached_tokens for e in one.events(number) if isinstance(e, Begun))
        for number in (second, stranger)
    }
    assert cached[second] >= 2 * READ_TOKENS
    assert cached[second] % READ_TOKENS == 0
    assert cached[stranger] == 0
    assert one.text(second) == one.text(stranger) == "Up the stairs."


def test_a_slot_keeps_nothing_for_another_adapter() -> None:
    one = house(num_slots=1)
    long = "Where is it? " * 12
    one.ask(long, adapter="a")
    one.run()
    number = one.ask(long, adapter="b")
    one.run()
    [begun] = [event for event in one.events(number) if isinstance(event, Begun)]
    assert begun.cached_tokens == 0


def test_a_long_question_delays_others_by_a_piece_at_a_time() -> None:
    one = house("y" * 60, context_tokens=2000)
    first = one.ask()
    while not one.text(first):
        one.answering.step()
    one.ask("Where? " * 100)
    said = len(one.text(first))
    for _ in range(5):
        one.answering.step()
    assert len(one.text(first)) == said + 5
    assert max(len(c.token_ids) for call in one.engine.calls for c in call) == READ_TOKENS


def test_those_who_wait_hear_their_place() -> None:
    one = house(num_slots=1)
    numbers = [one.ask() for _ in range(3)]
    one.run()

    def places(number: int) -> list[int]:
        return [event.place for event in one.events(number) if isinstance(event, Waiting)]

    assert places(numbers[2]) == [3, 2, 1]


def test_nothing_is_said_to_whoever_left() -> None:
    one = house("x" * 100, num_slots=1)
    first, second = one.ask(), one.ask()
    while not one.text(first):
        one.answering.step()
    one.answering.stop(first)
    num_told = len(one.events(first))
    one.run()
    assert len(one.events(first)) == num_told
    assert one.text(second) == "x" * 100


def test_a_withdrawn_adapter_stops_answering() -> None:
    one = house("x" * 100, num_slots=1)
    first, second, other = one.ask(adapter="a"), one.ask(adapter="a"), one.ask()
    while not one.text(first):
        one.answering.step()
    one.answering.forget_adapter("a")
    one.run()
    for number in (first, second):
        last = one.events(number)[-1]
        assert isinstance(last, Refused)
        assert last.code == "model_not_found"
    assert one.text(other) == "x" * 100


def test_an_engine_that_fails_refuses_and_goes_on() -> None:
    one = house()
    first = one.ask()
    one.engine.is_broken = True
    one.run()
    last = one.events(first)[-1]
    assert isinstance(last, Refused)
    assert (last.status, last.message) == (503, "Memory ran out.")
    one.engine.is_broken = False
    second = one.ask()
    one.run()
    assert one.text(second) == "Up the stairs."


def test_a_given_answer_is_scored_token_by_token() -> None:
    one = house("Up.")
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Uq."}]
    request = ScoreRequest(base_model_id=1, account="evaluation", messages=messages)
    one.answering.ask(9, None, request)
    one.run()
    [scores] = [event for event in one.events(9) if isinstance(event, Scores)]
    rest = (VOCABULARY - 2) * math.exp(-20)
    best = -math.log(1 + math.exp(-1) + rest)
    # U, then q in place of p: a nat less likely; then the full stop and the end.
    assert scores.logprobs == pytest.approx([best, best - 1, best, best])


def test_a_text_is_continued_without_a_template() -> None:
    def next_token(_: str | None, held: list[int]) -> int:
        return held[-1] + 1 if len(held) < 12 else 258

    one = House(Scripted(next_token))
    request = AnswerRequest(
        base_model_id=1, account="a", messages=[{"role": "text", "content": "Once"}]
    )
    one.answering.ask(1, None, request)
    one.run()
    assert one.text(1)
    assert one.engine.calls[0][0].token_ids[-4:] == chat().tokenizer.encode("Once").ids
