"""Chat template -> text, token ids and labels: the one place that decides what is learned.

Web, planner and trainer share it, so it needs tokenizers and the sandboxed Jinja2 alone: importing
transformers would load torch. Where an answer begins and ends is found by rendering prefixes of
the conversation: many templates mark nothing, and a padding token is often the end token as well.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

IGNORE_INDEX = -100
Message = Mapping[str, Any]
# Stands in for a message's content to find where a template puts it; no text has it.
_SENTINEL = "\ue000etude\ue001"


class ChatError(ValueError):
    """A conversation that this model's template cannot take; the message is for a person."""


class Segment(NamedTuple):
    text: str
    is_trained: bool


class Encoded(NamedTuple):
    """One example as the trainer sees it; labels are not shifted."""

    token_ids: list[int]
    labels: list[int]
    num_cut_tokens: int


class ChatFormat:
    """A model's tokenizer and chat template."""

    def __init__(self, tokenizer_json: str, template: str, special: Mapping[str, Any]) -> None:
        # Post-processors add tokens, which templates do themselves, and trim offsets, which would
        # let the line break before an answer look like a part of it.
        self.tokenizer = Tokenizer.from_str(
            json.dumps(json.loads(tokenizer_json) | {"post_processor": None})
        )
        # Files of some models still ask for padding and cutting; both are our own business.
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.template_text = template
        self._template = _environment().from_string(template)
        self._special = {
            key: value["content"] if isinstance(value, dict) else value
            for key, value in special.items()
            if key in ("bos_token", "eos_token", "unk_token", "pad_token") and value
        }
        self._adds_bos = bool(special.get("add_bos_token"))

    @classmethod
    def load(cls, model_dir: Path | str) -> "ChatFormat":
        """Read `tokenizer.json`, `tokenizer_config.json` and the template of a model folder.

        Raises:
            ChatError: a file is missing or cannot be used.
        """
        folder = Path(model_dir)
        try:
            tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            template_file = folder / "chat_template.jinja"
            template = (
                template_file.read_text(encoding="utf-8")
                if template_file.exists()
                else config.get("chat_template")
            )
            if not isinstance(template, str):
                raise ChatError(
                    f"The model in {folder} has no chat template, so it cannot hold a "
                    "conversation; choose the model's “instruct” or “chat” form."
                )
            return cls(tokenizer_json, template, config)
        except OSError as error:
            raise ChatError(f"The model's tokenizer cannot be read: {error}") from error
        except TemplateError as error:
            raise ChatError(f"The model's chat template cannot be used: {error}") from error

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """Write a conversation out as the model sees it.

        Raises:
            ChatError: the template refuses these messages.
        """
        if _is_text(messages):
            return str(messages[0]["content"])
        plain = [{key: m[key] for key in m if key != "weight"} for m in messages]
        try:
            return self._render(plain, add_generation_prompt)
        except ChatError:
            if not (len(plain) > 1 and plain[0]["role"] == "system" and plain[1]["role"] == "user"):
                raise
            # Some models know no system turn: it then opens the first question.
            content = f"{plain[0]['content']}\n\n{plain[1]['content']}"
            return self._render(
                [plain[1] | {"content": content}, *plain[2:]], add_generation_prompt
            )

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """Cut what the model sees into trained and untrained text, in order.

        Raises:
            ChatError: the template refuses these messages or hides where answers begin.
        """
        if _is_text(messages):
            begin = self._special.get("bos_token", "") if self._adds_bos else ""
            return [Segment(begin + self.render(messages) + self.end_token, True)]
        text = self.render(messages)
        pieces: list[Segment] = []
        position = 0
        for index, message in enumerate(messages):
            if message["role"] != "assistant" or message.get("weight", 1) == 0:
                continue
            start, end = self._answer_span(messages, index, text)
            if start < position:
                raise ChatError("The model's chat template changes the order of the messages.")
            pieces += [Segment(text[position:start], False), Segment(text[start:end], True)]
            position = end
        pieces.append(Segment(text[position:], False))
        if position and not self._ends_a_turn(text[:position]):
            # A template without an end of turn: the model must still learn when to stop.
            tail = pieces.pop()
            pieces[-1] = Segment(pieces[-1].text + self.end_token, True)
            pieces.append(tail)
        return [piece for piece in pieces if piece.text]

    def encode(self, messages: Sequence[Message], max_length_tokens: int) -> Encoded:
        """Turn a conversation into token ids and labels, cut at the beginning of its question.

        Args:
            messages: Turns with role and content; an answer with weight 0 is not learned.
            max_length_tokens: What is longer is cut, from the left up to the last answer; only
                an answer that is itself too long loses its end.

        Returns:
            Token ids and labels of the same length; IGNORE_INDEX where nothing is learned.

        Raises:
            ChatError: the template refuses these messages or hides where answers begin.
        """
        return self.encode_many([messages], max_length_tokens)[0]

    def encode_many(
        self, conversations: Iterable[Sequence[Message]], max_length_tokens: int
    ) -> list[Encoded]:
        """Do what `encode` does for many conversations at once, on all cores."""
        cut = [self.segments(messages) for messages in conversations]
        texts = ["".join(segment.text for segment in segments) for segments in cut]
        batch = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [
            _truncate(list(found.ids), _labels(found, segments), max_length_tokens)
            for found, segments in zip(batch, cut, strict=True)
        ]

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids after which the model is to answer."""
        text = self.render(messages, add_generation_prompt=True)
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Turn an answer's token ids back into text, without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()

    @property
    def end_token(self) -> str:
        return str(self._special.get("eos_token", ""))

    @cached_property
    def end_token_ids(self) -> frozenset[int]:
        """Token ids at which an answer is over: the end token and the template's end of turn."""
        probe: list[Message] = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ]
        ends = {self.end_token}
        last = next((s.text for s in reversed(self.segments(probe)) if s.is_trained), "")
        ends |= {token for token in self._special_tokens if last.endswith(token)}
        ids = (self.tokenizer.token_to_id(token) for token in ends)
        return frozenset(token_id for token_id in ids if token_id is not None)

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        added = self.tokenizer.get_added_tokens_decoder().values()
        return tuple(token.content for token in added if token.special)

    def _ends_a_turn(self, text: str) -> bool:
        return not self.end_token or text.endswith(self._special_tokens)

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **self._special
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise ChatError(
                f"The starting model's chat template refuses this conversation: {error}"
            ) from error

    def _answer_span(self, messages: Sequence[Message], index: int, text: str) -> tuple[int, int]:
        # The ordinary way: all before the answer, with the words that ask for one.
        before = self._try(messages[:index], add_generation_prompt=True) if index else None
        through = self._try(messages[: index + 1])
        if before and through and through.startswith(before) and text.startswith(through):
            answer = through[len(before) :]
            return len(before), len(before) + self._until_end_of_turn(answer)
        return self._marked_span(messages, index, text)

    def _marked_span(self, messages: Sequence[Message], index: int, text: str) -> tuple[int, int]:
        # Prefixes may render differently: a default system turn appears when the first message is
        # no system turn, and some templates drop earlier reasoning. A marked copy shows the place.
        marked = [dict(m) for m in messages]
        marked[index]["content"] = _SENTINEL
        before, found, after = self.render(marked).partition(_SENTINEL)
        if not (found and text.startswith(before) and text.endswith(after)):
            raise ChatError(
                "The starting model's chat template hides where an answer begins, so Etude "
                "cannot tell what to learn; choose another starting model."
            )
        content_end = len(text) - len(after)
        ends = [
            position + len(token)
            for token in self._special_tokens
            if (position := after.find(token)) == 0
        ]
        return len(before), content_end + max(ends, default=0)

    def _try(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str | None:
        try:
            return self.render(messages, add_generation_prompt)
        except ChatError:
            return None  # e.g. a system turn alone

    def _until_end_of_turn(self, answer: str) -> int:
        # The line break between two turns is nobody's answer.
        stripped = answer.rstrip()
        return len(stripped) if stripped.endswith(self._special_tokens) else len(answer)


def _labels(found: Any, segments: Sequence[Segment]) -> list[int]:
    ids = found.ids  # made anew by each access
    labels = [IGNORE_INDEX] * len(ids)
    spans = []
    position = 0
    for segment in segments:
        if segment.is_trained:
            spans.append((position, position + len(segment.text)))
        position += len(segment.text)
    offsets = iter(enumerate(found.offsets))
    token = next(offsets, None)
    for start, end in spans:
        # Tokens and spans are both in order: one walk over each.
        while token is not None and token[1][0] < start:
            token = next(offsets, None)
        while token is not None and token[1][0] < end:
            labels[token[0]] = ids[token[0]]
            token = next(offsets, None)
    return labels


def _truncate(token_ids: list[int], labels: list[int], limit: int) -> Encoded:
    excess = len(token_ids) - limit
    if excess <= 0:
        return Encoded(token_ids, labels, 0)
    last_answer = max((i for i, label in enumerate(labels) if label != IGNORE_INDEX), default=0)
    while last_answer > 0 and labels[last_answer - 1] != IGNORE_INDEX:
        last_answer -= 1
    cut = min(excess, last_answer)
    return Encoded(token_ids[cut : cut + limit], labels[cut : cut + limit], excess)


def _is_text(messages: Sequence[Message]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == "text"


class _GenerationMarks(Extension):
    """Templates may wrap answers in `{% generation %}`; the marks add no text."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 reads it from the class

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _GenerationMarks],
    )

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.now(UTC).strftime(form)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        # Jinja2's own filter escapes for HTML, which no model has seen.
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    helpers: dict[str, Callable[..., Any]] = {
        "raise_exception": raise_exception,
        "strftime_now": strftime_now,
    }
    environment.globals.update(helpers)
    environment.filters["tojson"] = tojson
    return environment
