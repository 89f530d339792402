"""Chat template -> text, token ids and labels: the one place that decides what is learned.

Web, planner and trainer share it, so it needs tokenizers and the sandboxed Jinja2 alone: importing
transformers would load torch. Where an answer begins is found by rendering what stands before it
and asking for one, and where it ends by rendering it with a mark in its place: many templates mark
nothing, and a padding token is often the end token as well.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from app.training import thoughts
from app.training.control_words import ControlWords
from app.training.thoughts import THOUGHT

IGNORE_INDEX = -100
# Strangers write them; the longest that is known has a third of it.
MAX_TEMPLATE_BYTES = 64 * 1024
MAX_TOKENIZER_BYTES = 50 * 1024**2
_MAX_SAID = 200  # characters of what a template says itself
Message = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]  # OpenAI's: {"type": "function", "function": {"name", …}}
# Stands in for a message's content to find where a template puts it; no text has it.
_SENTINEL = "\ue000etude\ue001"
_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _SENTINEL}]
# How templates name what was thought before an answer, the first that one knows being meant.
_THOUGHT_KEYS = (THOUGHT, "reasoning", "thinking")
# What is for Etude and not for a template.
_OURS = frozenset({"weight", "rejected"})
# Templates that say what day it is get this one, Llama 3.1's own: a job that goes on tomorrow, or
# is done again, has to see the same words.
_TODAY = datetime(2024, 7, 26, tzinfo=UTC)


_HIDDEN = (
    "The starting model's chat template hides where an answer begins, so Etude cannot tell what to "
    "learn; choose another starting model."
)

_FAULTY = (
    "The model's chat template has a fault, so no conversation can be written with it; choose "
    "another copy."
)
_REFUSES = "The starting model's chat template refuses this conversation"
_TOO_LONG = "The model's chat template ({file}) is unreasonably long; choose another copy."
_TOO_LARGE = "The model's {file} is unreasonably large; choose another copy."


class ChatError(ValueError):
    """A conversation that this model's template cannot take; the message is for a person."""


class _Refused(TemplateError):
    """What a template says itself of a conversation that it does not take."""


class Segment(NamedTuple):
    text: str
    is_trained: bool


class _Settled(NamedTuple):
    """A conversation in the form that a template takes, and rendered."""

    messages: list[dict[str, Any]]
    tools: Tools | None
    text: str


class Encoded(NamedTuple):
    """One example as the trainer sees it; labels are not shifted."""

    token_ids: list[int]
    labels: list[int]
    num_cut_tokens: int
    num_cut_answer_tokens: int = 0  # of those cut, the ones that would have been learned
    # Of a pair: how many tokens belong to the better answer, behind which the worse stands with the
    # same question before it.
    num_better_tokens: int = 0
    num_cut_end_tokens: int = 0  # of those cut, the ones at the end; the others stand before it

    @property
    def lengths(self) -> list[int]:
        """Return how long the one sequence is, or the two of a pair."""
        better = self.num_better_tokens
        return [better, len(self.token_ids) - better] if better else [len(self.token_ids)]


class Measured(NamedTuple):
    """A conversation as the model sees it, and which of its characters a length leaves in it."""

    segments: list[Segment]
    num_tokens: int
    first: int  # what stands before is cut off
    last: int  # and so is what stands from here on


# One sentence for all that may be wrong with its files: only an administrator can do something.
UNREADABLE = (
    "The model's tokenizer cannot be read; ask your administrator to import the model again."
)


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
        bos = self._special.get("bos_token")
        self._adds_bos = bool(
            special.get("add_bos_token", bos and _begins_with(tokenizer_json, str(bos)))
        )

    @classmethod
    def load(cls, model_dir: Path | str) -> "ChatFormat":
        """Read `tokenizer.json`, `tokenizer_config.json` and the template of a model folder.

        Raises:
            ChatError: a file is missing or cannot be used.
        """
        folder = Path(model_dir)
        try:
            tokenizer_json = _read(folder / "tokenizer.json", MAX_TOKENIZER_BYTES)
            config = json.loads(_read(folder / "tokenizer_config.json", MAX_TOKENIZER_BYTES))
            template = read_template(folder)
            if not isinstance(template, str):
                raise ChatError(
                    "The model has no chat template, so it cannot hold a conversation; choose "
                    "the model's “instruct” or “chat” form."
                )
            return cls(tokenizer_json, template, config)
        except OSError as error:
            raise ChatError(UNREADABLE) from error
        except TemplateError as error:
            raise ChatError(_FAULTY) from error

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        tools: Tools | None = None,
    ) -> str:
        """Write a conversation out as the model sees it.

        Raises:
            ChatError: the template refuses these messages.
        """
        return self.words.show(self._rendered(messages, add_generation_prompt, tools))

    def _rendered(
        self, messages: Sequence[Message], add_generation_prompt: bool, tools: Tools | None
    ) -> str:
        if _is_text(messages):
            return str(self.words.hold(messages[0]["content"]))
        return self._settle(messages, add_generation_prompt, tools).text

    def segments(self, messages: Sequence[Message], tools: Tools | None = None) -> list[Segment]:
        """Cut what the model sees into trained and untrained text, in order.

        Args:
            messages: Turns with role and content; what an assistant says and calls is trained.
            tools: What the model is told that it may call.

        Raises:
            ChatError: the template refuses these messages or hides where answers begin.
        """
        return self._shown(self._segments(messages, tools))

    def _shown(self, segments: Sequence[Segment]) -> list[Segment]:
        return [Segment(self.words.show(text), is_trained) for text, is_trained in segments]

    def _segments(self, messages: Sequence[Message], tools: Tools | None) -> list[Segment]:
        """Do what `segments` does, with marks for control words that people wrote."""
        if _is_text(messages):
            text = self._rendered(messages, False, None)
            return [Segment(self._begin_of_text + text + self.end_token, True)]
        plain, tools, text = self._settle(messages, False, tools)
        _check_tools(plain, tools, text)
        pieces: list[Segment] = []
        position = 0
        weights = [message.get("weight", 1) for message in messages[-len(plain) :]]
        for index, message in enumerate(plain):
            if message["role"] != "assistant" or weights[index] == 0:
                continue
            start, end = self._answer_span(plain, index, text, tools)
            if not position <= start < end:
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

    def encode(
        self, messages: Sequence[Message], max_length_tokens: int, tools: Tools | None = None
    ) -> Encoded:
        """Turn a conversation into token ids and labels, cut at the beginning of its question.

        Args:
            messages: Turns with role and content; an answer with weight 0 is not learned.
            max_length_tokens: What is longer is cut, from the left up to the last answer; only
                an answer that is itself too long loses its end. Plain text loses its end, too;
                `cut_text` loses nothing of it.
            tools: What the model is told that it may call.

        Returns:
            Token ids and labels of the same length; IGNORE_INDEX where nothing is learned.

        Raises:
            ChatError: the template refuses these messages or hides where answers begin.
        """
        return self.encode_many([messages], max_length_tokens, [tools])[0]

    def encode_many(
        self,
        conversations: Sequence[Sequence[Message]],
        max_length_tokens: int | Sequence[int],
        tools: Iterable[Tools | None] | None = None,
    ) -> list[Encoded]:
        """Do what `encode` does for many conversations at once, on all cores.

        Args:
            conversations: As many as there are.
            max_length_tokens: One limit for all, or one each.
            tools: One list each.
        """
        given = repeat(None) if tools is None else tools
        # strict would ask the endless None for one more
        pairs = zip(conversations, given, strict=False)
        cut = [self._segments(messages, offered) for messages, offered in pairs]
        batch = self.words.encode(["".join(s.text for s in segments) for segments in cut])
        if isinstance(max_length_tokens, int):
            max_length_tokens = [max_length_tokens] * len(cut)
        return [
            _truncate(
                list(encoding.ids), _labels(encoding, self._shown(segments)), limit, self._bos_id
            )
            for encoding, segments, limit in zip(batch, cut, max_length_tokens, strict=True)
        ]

    def measure(
        self, messages: Sequence[Message], tools: Tools | None, max_length_tokens: int
    ) -> Measured:
        """Return how long a conversation is, and which part of its text a length leaves of it.

        Raises:
            ChatError: as `segments`.
        """
        segments = self._segments(messages, tools)
        shown = self._shown(segments)
        encoding = self.words.encode(["".join(s.text for s in segments)])[0]
        offsets, num_tokens = encoding.offsets, len(encoding.ids)
        if num_tokens <= max_length_tokens:
            return Measured(shown, num_tokens, 0, sum(len(s.text) for s in shown))
        labels = _labels(encoding, shown)
        begin = _num_cut_before(labels, max_length_tokens)
        first = begin + _keeps_sign(encoding.ids, labels, begin, self._bos_id)
        end = offsets[min(begin + max_length_tokens, num_tokens) - 1][1]
        return Measured(shown, num_tokens, offsets[first][0], end)

    def encode_pairs(
        self,
        conversations: Sequence[Sequence[Message]],
        max_length_tokens: int,
        tools: Iterable[Tools | None] | None = None,
    ) -> list[Encoded]:
        """Do what `encode` does for chats whose last answer is the better of two.

        The last answers alone are labelled, and both lose as much of their question. An answer that
        is too long for itself loses its end.
        """
        offered = list(tools) if tools is not None else [None] * len(conversations)
        better, worse = (
            self.encode_many(
                [_last_answer(messages, key) for messages in conversations], 2**62, offered
            )
            for key in ("content", "rejected")
        )
        return [
            _pair(one, other, max_length_tokens, self._bos_id)
            for one, other in zip(better, worse, strict=True)
        ]

    def encode_prompt(self, messages: Sequence[Message], tools: Tools | None = None) -> list[int]:
        """Return the token ids after which the model is to answer, or to go on with a text.

        Raises:
            ChatError: the template refuses these messages.
        """
        text = self._rendered(messages, True, tools)
        if _is_text(messages):
            text = self._begin_of_text + text
        return list(self.words.encode([text])[0].ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Turn an answer's token ids back into text, without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()

    @cached_property
    def _bos_id(self) -> int | None:
        return self.tokenizer.token_to_id(str(self._special.get("bos_token", "")))

    @property
    def _begin_of_text(self) -> str:
        return str(self._special.get("bos_token", "")) if self._adds_bos else ""

    @property
    def end_token(self) -> str:
        return str(self._special.get("eos_token", ""))

    @cached_property
    def end_token_ids(self) -> frozenset[int]:
        """Token ids at which an answer is over: the end token and the template's end of turn."""
        ids = (self.tokenizer.token_to_id(token) for token in (self.end_token, *self._turn_ends))
        return frozenset(token_id for token_id in ids if token_id is not None)

    @cached_property
    def _lead(self) -> str:
        """What the template writes before an answer's words and has the model say: a space."""
        before = self.render(_PROBE).partition(_SENTINEL)[0]
        asking = self.render(_PROBE[:1], add_generation_prompt=True)
        return before.removeprefix(asking) if before.startswith(asking) else ""

    @cached_property
    def _turn_ends(self) -> tuple[str, ...]:
        """What the template writes right behind an answer."""
        after = self.render(_PROBE).partition(_SENTINEL)[2]
        return tuple(token for token in self._special_tokens if after.startswith(token))

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        added = self.tokenizer.get_added_tokens_decoder().values()
        return tuple(token.content for token in added if token.special)

    @cached_property
    def words(self) -> ControlWords:
        """What tells turns from what is said in them, and calls of tools from words."""
        # Some templates put a role's name between the signs of a control word.
        turns = [{"role": role, "content": "a"} for role in ("user", "assistant", "system")]
        written = [self._try(turns[:number], None) or "" for number in (2, 3)]
        return ControlWords(self.tokenizer, "\n".join([self.template_text, *written]))

    def must_prepare(self, asked: Any) -> bool:
        """Say whether texts in there have control words, and what encodes these is not made yet."""
        return not self.words.is_ready and self.words.are_in(asked)

    @cached_property
    def thought_key(self) -> str | None:
        """How the template calls what was thought before an answer, if it has a place for that."""
        named = rf"(?:\.|\[['\"])({'|'.join(_THOUGHT_KEYS)})\b"
        known = set(re.findall(named, self.template_text))
        return next((key for key in _THOUGHT_KEYS if key in known), None)

    def _ends_a_turn(self, text: str) -> bool:
        return not self.end_token or text.endswith(self._special_tokens)

    def _settle(
        self, messages: Sequence[Message], add_generation_prompt: bool, tools: Tools | None
    ) -> _Settled:
        """Put a conversation into the form that the template takes.

        Returns:
            The messages in that form, of which a system turn may have gone into the first
            question; the tools; and their text. Marks stand for control words in all of them.

        Raises:
            ChatError: it takes them in none.
        """
        tools = self.words.hold(tools)
        variants = [[self._held(turn) for turn in _plain(messages)]]
        if any(m.get("tool_calls") for m in variants[0]):
            # Mistral's wants ids of nine letters, which OpenAI's are not.
            variants.append(_with_short_ids(variants[0]))
        system = ""
        if [m["role"] for m in variants[0][:2]] == ["system", "user"]:
            # Some models know no system turn: it then opens the first question.
            system = str(variants[0][0]["content"]).strip()
            variants += [_without_system(variant) for variant in variants]
        problem = None
        for variant in variants:
            try:
                text = self._render(variant, add_generation_prompt, tools)
            except ChatError as error:
                problem = problem or error
            else:
                # Mistral's says it before the last question alone, so not at all before an answer.
                if system in text:
                    return _Settled(variant, tools, text)
        raise problem or ChatError("The starting model's chat template drops the system turn.")

    def _held(self, turn: dict[str, Any]) -> dict[str, Any]:
        """Put marks for control words into a turn, and what was thought where its template has it.

        A template without a place for that, but which looks for it in an answer, finds it there.
        """
        said, match = turn.get("content") or "", thoughts.match(turn)
        thought = [turn.pop(THOUGHT, None)]
        if self.thought_key is None:
            looks = match is not None and "</think>" in self.template_text
            return self._marked_turn(turn, but=thoughts.WORDS if looks else ())
        if match is not None:
            turn["content"] = said[match.end() :].lstrip("\n")
            thought.append(thoughts.of(match))
        known = dict.fromkeys(each for each in thought if each is not None)
        if known:
            turn[self.thought_key] = "\n\n".join(known)
        return self._marked_turn(turn)

    def _marked_turn(self, turn: dict[str, Any], but: Sequence[str] = ()) -> dict[str, Any]:
        # Whose turn it is says no person, and templates decide by it.
        return {**self.words.hold(turn, but), "role": turn["role"]}

    def _render(
        self, messages: Sequence[Message], add_generation_prompt: bool, tools: Tools | None
    ) -> str:
        try:
            return self._template.render(
                messages=messages,
                tools=tools or None,
                add_generation_prompt=add_generation_prompt,
                **self._special,
            )
        except _Refused as error:
            raise ChatError(f"{_REFUSES}; its makers say: “{error}”.") from error
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            # Jinja's and Python's own words are for programmers, and may quote what people wrote.
            raise ChatError(f"{_REFUSES}; choose another starting model.") from error

    def _answer_span(
        self, messages: Sequence[Message], index: int, text: str, tools: Tools | None
    ) -> tuple[int, int]:
        """Find an answer in the whole text: from behind the words that ask for it to its end."""
        head, mark, tail = self._marked(messages, index, tools)
        start = self._behind_asking(messages, index, text, tools)
        if start is None and mark and text.startswith(head):
            start = len(head) - len(self._lead if head.endswith(self._lead) else "")
        if start is None:
            raise ChatError(_HIDDEN)
        if messages[index].get("tool_calls"):
            return start, self._end_of_turn(text, start)
        if not (mark and text.endswith(tail)):
            raise ChatError(_HIDDEN)
        end = len(text) - len(tail)
        return start, end + max((len(t) for t in self._turn_ends if tail.startswith(t)), default=0)

    def _behind_asking(
        self, messages: Sequence[Message], index: int, text: str, tools: Tools | None
    ) -> int | None:
        """Find where the words that ask for an answer end in the whole text; None: nowhere."""
        if not index:
            return None  # nobody asked
        before = self._try(messages[:index], tools)
        if before is None:
            return None
        if text.startswith(before):
            return len(before)
        # What stands further up may change with what comes after: Mistral's tools stand before the
        # last question, Qwen's thoughts behind it. So both are compared from the turn before on.
        _, is_asked, asking = self._marked(messages[:index], index - 1, tools, asks=True)
        _, mark, after = self._marked(messages, index - 1, tools)
        answer = after.removeprefix(asking)
        is_found = is_asked and mark and after.startswith(asking) and text.endswith(answer)
        return len(text) - len(answer) if is_found else None

    def _marked(
        self, messages: Sequence[Message], index: int, tools: Tools | None, asks: bool = False
    ) -> tuple[str, str, str]:
        """Return what is rendered before and behind a turn's content, and a mark between them.

        The mark is empty where the content is not rendered.
        """
        marked = [dict(message) for message in messages]
        marked[index]["content"] = _SENTINEL
        return self._render(marked, asks, tools).partition(_SENTINEL)

    def _end_of_turn(self, text: str, start: int) -> int:
        """Find where a turn ends whose calls stand behind its words, or in their place."""
        ends = [
            position + len(token)
            for token in self._turn_ends
            if (position := text.find(token, start)) >= 0
        ]
        if not ends:
            raise ChatError(_HIDDEN)
        return min(ends)

    def _try(self, messages: Sequence[Message], tools: Tools | None) -> str | None:
        try:
            return self._render(messages, True, tools)
        except ChatError:
            return None  # e.g. a system turn alone


def require_short_templates(model_dir: Path) -> None:
    """Refuse templates of unreasonable length, wherever a folder has them and whether used or not.

    Raises:
        ChatError: one is longer than any that is honest, or all of a list together are.
    """
    file = model_dir / "chat_template.jinja"
    if file.exists():
        _read(file, MAX_TEMPLATE_BYTES)
    config = model_dir / "tokenizer_config.json"
    if config.exists():
        _short_template(json.loads(_read(config, MAX_TOKENIZER_BYTES)))


def read_template(model_dir: Path) -> object:
    """Return the chat template that stands in a model folder; a text, unless the folder is odd.

    Raises:
        OSError: there is no such folder, or not with these files.
        ChatError: it is longer than any that is honest, also as one of a list.
    """
    template_file = model_dir / "chat_template.jinja"
    if template_file.exists():
        return _read(template_file, MAX_TEMPLATE_BYTES)
    return _short_template(
        json.loads(_read(model_dir / "tokenizer_config.json", MAX_TOKENIZER_BYTES))
    )


def _short_template(config: Mapping[str, Any]) -> object:
    template: object = config.get("chat_template")
    text = template if isinstance(template, str) else json.dumps(template, ensure_ascii=False)
    if len(text.encode(errors="replace")) > MAX_TEMPLATE_BYTES:
        raise ChatError(_TOO_LONG.format(file="tokenizer_config.json"))
    return template


def _read(path: Path, max_bytes: int) -> str:
    """Read a file of a model's folder.

    Raises:
        OSError: it is not there.
        ChatError: it is larger than any that is honest.
    """
    with path.open(encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            sentence = _TOO_LONG if max_bytes == MAX_TEMPLATE_BYTES else _TOO_LARGE
            raise ChatError(sentence.format(file=path.name))
        return file.read()


def cut_text(encoded: Encoded, max_length_tokens: int) -> list[Encoded]:
    """Cut plain text that was encoded whole into pieces, each token of which is learned once.

    A piece begins with the last token of the one before it, because a first token is nobody's to
    predict.
    """
    stride = max_length_tokens - 1
    return [
        Encoded(
            encoded.token_ids[begin : begin + max_length_tokens],
            encoded.labels[begin : begin + max_length_tokens],
            0,
        )
        for begin in range(0, max(1, len(encoded.token_ids) - 1), stride)
    ]


def _labels(encoding: Any, segments: Sequence[Segment]) -> list[int]:
    ids = encoding.ids  # made anew by each access
    labels = [IGNORE_INDEX] * len(ids)
    spans = []
    position = 0
    for segment in segments:
        if segment.is_trained:
            spans.append((position, position + len(segment.text)))
        position += len(segment.text)
    offsets = iter(enumerate(encoding.offsets))
    token = next(offsets, None)
    for start, end in spans:
        # Tokens and spans are both in order: one walk over each.
        while token is not None and token[1][0] < start:
            token = next(offsets, None)
        while token is not None and token[1][0] < end:
            labels[token[0]] = ids[token[0]]
            token = next(offsets, None)
    return labels


def _truncate(token_ids: list[int], labels: list[int], limit: int, bos: int | None) -> Encoded:
    excess = len(token_ids) - limit
    if excess <= 0:
        return Encoded(token_ids, labels, 0)
    cut = _num_cut_before(labels, limit)
    lost = labels[:cut] + labels[cut + limit :]
    num_lost = sum(label != IGNORE_INDEX for label in lost)
    ids, kept = _cut(token_ids, labels, cut, limit, bos)
    num_at_end = max(0, len(token_ids) - cut - limit)
    return Encoded(ids, kept, excess, num_lost, num_cut_end_tokens=num_at_end)


def _num_cut_before(labels: list[int], limit: int) -> int:
    """Count the tokens to be cut off the beginning: no more than stand before the last answer."""
    last_answer = max((i for i, label in enumerate(labels) if label != IGNORE_INDEX), default=0)
    while last_answer > 0 and labels[last_answer - 1] != IGNORE_INDEX:
        last_answer -= 1
    return min(len(labels) - limit, last_answer)


def _cut(
    token_ids: list[int], labels: list[int], cut: int, limit: int, bos: int | None
) -> tuple[list[int], list[int]]:
    """Cut the beginning off, and keep the sign that a text begins in the place of a token."""
    ids, kept = token_ids[cut : cut + limit], labels[cut : cut + limit]
    if _keeps_sign(token_ids, labels, cut, bos):
        ids[0] = token_ids[0]
    return ids, kept


def _keeps_sign(token_ids: list[int], labels: list[int], cut: int, bos: int | None) -> bool:
    """Say whether the sign that a text begins takes the place of the first token behind a cut.

    Models lean on that sign (Gemma hardly works without). Where it stands before each turn as well,
    as SmolLM2's does, it means something else.
    """
    is_sign = bos is not None and token_ids[0] == bos and bos not in token_ids[1:]
    return bool(cut) and is_sign and labels[cut] == IGNORE_INDEX


def _plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as templates know them.

    Arguments of calls are objects there, where OpenAI has them as JSON in a string; a tool's answer
    bears the tool's name.
    """
    names: dict[str, str] = {}
    plain = []
    for message in messages:
        turn = {key: value for key, value in message.items() if key not in _OURS}
        if turn.get("tool_calls"):
            turn["tool_calls"] = [_called(call) for call in turn["tool_calls"]]
            for call in turn["tool_calls"]:
                names[str(call.get("id"))] = call["function"]["name"]
        elif turn["role"] == "tool" and not turn.get("name") and turn.get("tool_call_id") in names:
            turn["name"] = names[turn["tool_call_id"]]
        plain.append(turn)
    return plain


def _without_system(messages: Sequence[Message]) -> list[dict[str, Any]]:
    content = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{**messages[1], "content": content}, *(dict(m) for m in messages[2:])]


def _with_short_ids(messages: Sequence[Message]) -> list[dict[str, Any]]:
    def short(call_id: object) -> str:
        return hashlib.blake2b(str(call_id).encode(), digest_size=5).hexdigest()[:9]

    copies = [dict(message) for message in messages]
    for message in copies:
        if message.get("tool_calls"):
            calls = message["tool_calls"]
            message["tool_calls"] = [{**call, "id": short(call.get("id"))} for call in calls]
        if "tool_call_id" in message:
            message["tool_call_id"] = short(message["tool_call_id"])
    return copies


def _called(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        function["arguments"] = json.loads(function["arguments"] or "{}")
    return {**call, "function": function}


def _check_tools(messages: Sequence[Message], tools: Tools | None, text: str) -> None:
    """Refuse a template that leaves out what may be called or what was.

    Raises:
        ChatError: it does.
    """
    names = [tool.get("function", tool).get("name") for tool in tools or ()]
    names += [call["function"]["name"] for m in messages for call in m.get("tool_calls") or ()]
    if any(str(name) not in text for name in names):
        raise ChatError(
            "The starting model's chat template has no place for tools and their calls; choose a "
            "starting model that can call tools, or data without them."
        )


def _begins_with(tokenizer_json: str, token: str) -> bool:
    """Say whether a tokenizer puts this token before each text by itself, as Llama 3's does."""
    processor = json.loads(tokenizer_json).get("post_processor") or {}
    for one in processor.get("processors", [processor]):
        single = one.get("single") or [{}]
        if one.get("type") == "TemplateProcessing" and "SpecialToken" in single[0]:
            return bool(single[0]["SpecialToken"]["id"] == token)
    return False


def is_pair(messages: Sequence[Message]) -> bool:
    """Say whether a chat ends with a better answer that has a worse one beside it."""
    return bool(messages) and "rejected" in messages[-1]


def worse(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return a pair's conversation with the worse answer in the better one's place."""
    return _last_answer(messages, "rejected", is_alone=False)


def _last_answer(
    messages: Sequence[Message], key: str, is_alone: bool = True
) -> list[dict[str, Any]]:
    last = {k: v for k, v in messages[-1].items() if k not in _OURS}
    before = [dict(m) | ({"weight": 0} if is_alone else {}) for m in messages[:-1]]
    return [*before, last | {"content": messages[-1][key]}]


def _pair(better: Encoded, worse: Encoded, limit: int, bos: int | None) -> Encoded:
    excess = max(len(better.token_ids), len(worse.token_ids)) - limit
    asked = next(i for i, label in enumerate(better.labels) if label != IGNORE_INDEX)
    cut = min(max(excess, 0), asked)
    halves = [_cut(one.token_ids, one.labels, cut, limit, bos) for one in (better, worse)]
    num_lost = sum(max(0, len(one.token_ids) - cut - limit) for one in (better, worse))
    ids, labels = (halves[0][part] + halves[1][part] for part in range(2))
    return Encoded(ids, labels, 2 * cut + num_lost, num_lost, len(halves[0][0]))


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
        raise _Refused(" ".join(str(message).split()).rstrip(".")[:_MAX_SAID])

    def strftime_now(form: str) -> str:
        return _TODAY.strftime(form)

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
