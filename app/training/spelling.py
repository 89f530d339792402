"""Token ids -> text as they come: whole letters only, and stop words found across tokens.

A token may be half a letter, and a stop word may begin in one token and end in another, so what a
token adds to the text is known only later. The bytes of a token are read from the tokenizer's own
table: decoding the ids so far again for each new one would cost the square of the answer's length.
"""

import codecs
import json
from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from tokenizers import Tokenizer


class Spelled(NamedTuple):
    """Text that is certain, and how many of the tokens handed in spell it."""

    text: str
    num_tokens: int


class Bytes:
    """What each token of a tokenizer writes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {
            token_id: token.special or not token.content
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
        }
        kinds = _decoders(json.loads(tokenizer.to_str()).get("decoder"))
        self._is_byte_level = "ByteLevel" in kinds
        self._is_metaspace = "ByteFallback" in kinds or "Metaspace" in kinds
        # Such a tokenizer puts a space before every text, which is not the text's.
        self.begins_with_space = self._is_metaspace and "Strip" in kinds
        self._known: dict[int, bytes] = {}

    def is_special(self, token_id: int) -> bool:
        """Say whether it is a control token, which no text shows."""
        return self._special.get(token_id, False)

    def of(self, token_id: int) -> bytes:
        """Return the bytes of a token, of a control token its name."""
        if token_id not in self._known:
            self._known[token_id] = self._spell(token_id)
        return self._known[token_id]

    def _spell(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None:  # some models have more rows than their tokenizer has tokens
            return b""
        if token_id in self._special:
            return token.encode()
        if self._is_byte_level:
            letters = _byte_letters()
            if all(letter in letters for letter in token):
                return bytes(letters[letter] for letter in token)
        if self._is_metaspace:
            if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
                return bytes([int(token[3:5], 16)])
            return token.replace("▁", " ").encode()
        text: str = self._tokenizer.decode([token_id], skip_special_tokens=False)
        return text.encode()


class Speller:
    """One answer's text as its tokens come."""

    def __init__(
        self, spelling: Bytes, stops: Sequence[str] = (), keeps_stop: bool = False
    ) -> None:
        self._bytes, self._stops = spelling, [stop for stop in stops if stop]
        self._keeps_stop = keeps_stop
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held: deque[Spelled] = deque()  # not yet given out: it may begin a stop word
        self._half = 0  # tokens of a letter that is not whole
        self._is_first = True
        self.is_stopped = False  # a stop word was found

    def add(self, token_id: int) -> Spelled:
        """Take the next token; returns what is certain now."""
        text = self._decoder.decode(self._bytes.of(token_id))
        self._half += 1
        if text:
            if self._is_first and self._bytes.begins_with_space:
                text = text.removeprefix(" ")
            self._is_first = False
            self._held.append(Spelled(text, self._half))
            self._half = 0
        return self._give()

    def end(self) -> Spelled:
        """Give out what was held back; of a letter that was never finished nothing comes."""
        return self._pop(len(self._held))

    def _give(self) -> Spelled:
        if not self._stops:
            return self._pop(len(self._held))
        text = "".join(entry.text for entry in self._held)
        starts = [(start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if starts:
            self.is_stopped = True
            start, stop = min(starts)
            return self._cut(start + len(stop) if self._keeps_stop else start)
        certain = len(text) - max(_overlap(text, stop) for stop in self._stops)
        num = length = 0
        for entry in self._held:
            length += len(entry.text)
            if length > certain:
                break
            num += 1
        return self._pop(num)

    def _pop(self, num: int) -> Spelled:
        entries = [self._held.popleft() for _ in range(num)]
        return Spelled("".join(e.text for e in entries), sum(e.num_tokens for e in entries))

    def _cut(self, end: int) -> Spelled:
        """Give out what stands before a stop word, with the tokens that spell any of it.

        The last of them may spell some of the stop word as well.
        """
        text, num_tokens = "", 0
        while self._held and len(text) < end:
            entry = self._held.popleft()
            text, num_tokens = text + entry.text, num_tokens + entry.num_tokens
        self._held.clear()
        return Spelled(text[:end], num_tokens)


def _overlap(text: str, stop: str) -> int:
    """Return how many letters at the end of a text may begin a stop word."""
    return next(
        (num for num in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:num])), 0
    )


def _decoders(decoder: dict[str, object] | None) -> set[str]:
    if decoder is None:
        return set()
    inner = decoder.get("decoders")
    kinds = {str(decoder.get("type"))}
    for one in inner if isinstance(inner, list) else []:
        kinds |= _decoders(one)
    return kinds


@cache
def _byte_letters() -> dict[str, int]:
    """Return which letter stands for which byte in a byte-level vocabulary.

    Source: GPT-2's encoder.py: printable bytes stand for themselves, the others in order from 256.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + index): byte for index, byte in enumerate(others)}
