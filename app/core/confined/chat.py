"""A starting model's chat template and tokenizer, asked for what pages and workers want to know.

Both come from strangers and may loop or crash, so they are used in the kept child alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.core.confined.kept import Ended, child
from app.training.chat import ChatError, Measured, Message, Segment, Tools

_LATE = (
    "The starting model's chat template or tokenizer takes too long on this; choose another "
    "starting model, or tell your administrator."
)
_BROKEN = (
    "The starting model's chat template or tokenizer broke off on this; choose another starting "
    "model, or tell your administrator."
)


class ChatEnded(ChatError):
    """What the model's files made of it broke the child, or took too long."""


class Lengths(NamedTuple):
    """How many tokens conversations have; those that the template refuses are left out."""

    lengths: list[int]
    problem: str  # why the first of them was refused; empty where none was


class Fits(NamedTuple):
    """What a template does with a conversation."""

    is_taken: bool
    is_joined: bool  # it takes it once turns are joined
    drops_thoughts: bool  # what was thought before an answer is not learned
    problem: str  # why it does not take it as it is


class ConfinedChat:
    """What ChatFormat tells, for a model's folder; each call asks the child."""

    def __init__(self, folder: Path | str, manifest_sha256: str | None) -> None:
        # The manifest's hash tells another model in the same folder from this one.
        self._model = {"folder": str(folder), "hash": manifest_sha256}

    def check(self) -> None:
        """Have the model's files read.

        Raises:
            ChatError: they cannot be used; as all methods here.
        """
        self._ask("check")

    def segments(self, messages: Sequence[Message], tools: Tools | None = None) -> list[Segment]:
        """Cut what the model sees into trained and untrained text, in order."""
        said = self._ask("segments", messages=messages, tools=tools)
        return [Segment(text, is_trained) for text, is_trained in said]

    def measure(
        self, messages: Sequence[Message], tools: Tools | None, max_length_tokens: int
    ) -> Measured:
        """Say how long a conversation is, and what a length would leave of it."""
        said = self._ask("cut", messages=messages, tools=tools, length=max_length_tokens)
        segments = [Segment(text, is_trained) for text, is_trained in said["segments"]]
        return Measured(**said | {"segments": segments})

    def lengths(
        self,
        conversations: Sequence[Sequence[Message]],
        tools: Sequence[Tools | None],
        max_length_tokens: int,
    ) -> Lengths:
        """Count the tokens of many conversations."""
        said = self._ask(
            "lengths", conversations=conversations, tools=tools, length=max_length_tokens
        )
        return Lengths(said["lengths"], said["problem"])

    def fits(
        self, conversations: Sequence[Sequence[Message]], tools: Sequence[Tools | None]
    ) -> list[Fits]:
        """Say of each conversation whether the template takes it."""
        said = self._ask("fits", conversations=conversations, tools=tools)
        return [Fits(**one) for one in said]

    def num_prompt_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """Count the tokens after which the model is to answer."""
        return int(self._ask("prompt", messages=messages, tools=tools))

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of texts, without a template."""
        counts: list[int] = self._ask("texts", texts=texts)
        return counts

    def _ask(self, do: str, **about: Any) -> Any:
        try:
            said = child.ask({"do": do, "model": self._model, **about})
        except Ended as error:
            raise ChatEnded(_LATE if error.is_late else _BROKEN) from None
        if "refused" in said:
            raise ChatError(said["refused"])
        if "said" not in said:
            raise ChatEnded(_BROKEN)
        return said["said"]
