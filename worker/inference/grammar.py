"""Answers that keep to a JSON schema, by llguidance: the same on every engine."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray
from tokenizers import Tokenizer

# A schema from a stranger must not hold up everybody's words.
_LIMITS = LLParserLimits(max_items_in_row=2000, initial_lexer_fuel=1_000_000)


class Unkeepable(ValueError):
    """No answer can be held to this schema; a sentence for a person."""


class Grammars:
    """What the grammars of one tokenizer share; reading its vocabulary takes a second."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, ends: Iterable[int]) -> None:
        self._tokenizer = LLTokenizer(tokenizer.to_str(), vocab_size, sorted(ends))
        self.vocab_size = vocab_size

    def of_schema(self, schema: dict[str, Any]) -> "JsonGrammar":
        """Hold an answer to a schema; `{}` takes any JSON object.

        Raises:
            Unkeepable: llguidance does not know all that it asks for.
        """
        grammar = LLMatcher.grammar_from_json_schema(
            schema or {"type": "object"},
            overrides={
                # Left free, small models write line breaks for ever.
                "whitespace_flexible": False,
                "item_separator": ", ",
                "key_separator": ": ",
            },
        )
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            said = matcher.get_error().splitlines()[0]
            raise Unkeepable(f"An answer cannot be held to this schema: {said[:300]}")
        return JsonGrammar(matcher, self.vocab_size)


class JsonGrammar:
    """One answer's state within its grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size
        self._bits = allocate_token_bitmask(1, vocab_size)

    def mask(self) -> NDArray[np.bool_]:
        """Return which of the vocabulary (V) may come next.

        Raises:
            Unkeepable: the grammar became too large.
        """
        fill_next_token_bitmask(self._matcher, self._bits)
        if self._matcher.is_error():
            raise Unkeepable("This schema allows too much at once; make it simpler.")
        bits = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        return bits[: self._vocab_size].astype(np.bool_)

    def accept(self, token_id: int) -> None:
        self._matcher.consume_token(token_id)
