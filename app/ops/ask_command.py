"""`etude ask`: one question to a model, or a chat with it, word by word on the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from app.core.errors import AppError, Invalid
from app.ops.terminal import as_json, harmless, line
from app.ops.v1_client import Api, JsonObject, Unreachable, find_model

BEFORE, TRAINED = "Before training", "Trained model"
ALONE, LOOKED_UP = "The starting model alone", "Looked up in the data"
_LABELS = {"lookup": LOOKED_UP, "untrained": ALONE}


@dataclass(frozen=True)
class Wish:
    """How to answer. Without an instruction the model gets the one that it was trained with."""

    temperature: float
    max_tokens: int
    instruction: str | None


@dataclass
class Answer:
    text: str = ""
    finish_reason: str = ""
    usage: JsonObject | None = None


@dataclass
class Talk:
    """A conversation with one model; what it is called is said where there are two."""

    api: Api
    model: str
    called: str
    wish: Wish
    turns: list[JsonObject] = field(default_factory=list)

    def ask(self, question: str, hear: Callable[[str], object]) -> Answer:
        """Ask, and keep the turn if it comes to its end."""
        asked = {"role": "user", "content": question}
        told = self.wish.instruction
        first = [{"role": "system", "content": told}] if told else []
        answer = Answer()
        for piece in _pieces(self.api, self.model, [*first, *self.turns, asked], self.wish, answer):
            answer.text += piece
            hear(piece)
        if not answer.finish_reason:
            raise Unreachable("The answer broke off; please ask again.")
        self.turns += [asked, {"role": "assistant", "content": answer.text}]
        return answer


def _pieces(
    api: Api, model: str, turns: list[JsonObject], wish: Wish, answer: Answer
) -> Iterator[str]:
    request = {
        "model": model,
        "messages": turns,
        "temperature": wish.temperature,
        "max_completion_tokens": wish.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for chunk in api.stream("/chat/completions", request):
        answer.usage = chunk.get("usage") or answer.usage
        for choice in chunk["choices"]:
            answer.finish_reason = choice["finish_reason"] or answer.finish_reason
            if piece := choice["delta"].get("content"):
                yield piece


def open_talks(api: Api, wanted: str, wish: Wish, *, with_base: bool) -> list[Talk]:
    """Find the model, and the one that it was trained from where that is to answer, too.

    Raises:
        Invalid: no such model, or a starting model that has none before it.
    """
    model = find_model(api, wanted)
    if wish.instruction is None and model["x_kind"] != "base":
        # A list does not say it: it is looked up in the data.
        shown = api.get(f"/models/{quote(model['id'])}")
        wish = Wish(wish.temperature, wish.max_tokens, shown["x_instruction"])
    label = _LABELS.get(model["x_kind"], TRAINED)
    talks = [Talk(api, model["id"], label, wish)]
    if with_base:
        if model["x_kind"] in ("base", "untrained"):
            raise Invalid(f"{model['id']} is a starting model itself; leave --base out.")
        base_label = ALONE if label == LOOKED_UP else BEFORE
        talks.insert(0, Talk(api, model["x_base_model"], base_label, wish))
    return talks


def once(talks: list[Talk], question: str) -> None:
    """Ask one question, and print the words as they come."""
    for number, talk in enumerate(talks):
        if len(talks) > 1:
            print(f"{'' if number == 0 else chr(10)}{talk.called}:")
        answer = talk.ask(question, _print)
        print(flush=True)
        if answer.finish_reason == "length":
            print("(The answer is cut here: --max-tokens allows more.)", file=sys.stderr)


def _print(piece: str) -> None:
    print(harmless(piece), end="", flush=True)


def once_as_json(talks: list[Talk], question: str) -> None:
    """Ask one question, and print all that is known as one object at the end."""
    *before, tuned = [_as_object(talk, talk.ask(question, len)) for talk in talks]
    said: dict[str, Any] = {"question": question, **tuned}
    if before:
        said["base"] = before[0]
    print(as_json(said))


def _as_object(talk: Talk, answer: Answer) -> JsonObject:
    return {
        "model": talk.model,
        "instruction": talk.wish.instruction or "",
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
    }


def chat(talks: list[Talk]) -> None:
    """Answer question after question, each knowing those before, until there are no more.

    Raises:
        AppError: a question cannot be answered, and nobody is there who could ask another one.
    """
    is_person = sys.stdin.isatty()
    if is_person:
        print(f"Ask {line(talks[-1].model)}. Ctrl-D ends the chat, Ctrl-C stops it at once.")
        _edit_lines()
    for question in _questions(is_person):
        try:
            once(talks, question)
        except AppError as error:
            if not is_person:
                raise
            print(f"etude: {line(error)}", file=sys.stderr)


def _edit_lines() -> None:
    with suppress(ImportError):
        import readline  # noqa: F401 - input() then edits lines and has a history


def _questions(is_person: bool) -> Iterator[str]:
    while True:
        try:
            question = input("\n> " if is_person else "").strip()
        except EOFError:
            if is_person:
                print()
            return
        if question:
            yield question
