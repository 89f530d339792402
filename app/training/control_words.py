"""A template's control words, told from the same letters in what people wrote.

`<|im_end|>` in a question is ten letters and ends nobody's turn. While a template is rendered, a
mark stands for each such word of a person; the words that are in the text then are the template's.
A text with marks is encoded by a second tokenizer, equal to the model's but that it knows control
words by other names alone: the template's bear those names there, and a person's are letters.
"""

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Encoding, Tokenizer

# Names are of letters that no text has, and as long as the words: places in a text stay the same.
_FIRST_LETTER, _NUM_LETTERS = 0xF0000, 0xFFFD


class ControlWords:
    """The words of one tokenizer that end turns, begin others, or say what a model calls."""

    def __init__(self, tokenizer: Tokenizer, written: str) -> None:
        """Find the words.

        Args:
            tokenizer: The model's.
            written: What its template writes: an added token in there is a control word, whether
                its file calls it special or not.
        """
        added = [
            token
            for token in tokenizer.get_added_tokens_decoder().values()
            if token.content.strip() and (token.special or token.content in written)
        ]
        # Nobody can type what stands for a word, since nobody can guess it.
        self._key = f"w{secrets.token_hex(8)}n"
        self._words = sorted({token.content for token in added}, key=len, reverse=True)
        self._marks = {word: f"{self._key}{i}z" for i, word in enumerate(self._words)}
        self._names = {word: _name(word) for word in self._words}
        self._word = _any_of(self._words)
        self._mark = re.compile(rf"{self._key}(\d+)z")
        self._tokenizer = tokenizer
        # Letters that only become a control word when they are normalized are in no text before.
        self._may_arise = tokenizer.normalizer is not None and any(t.normalized for t in added)

    def are_in(self, value: Any) -> bool:
        """Say whether any text in there, however deep, has one of the words."""
        if isinstance(value, str):
            return self._word.search(value) is not None
        if isinstance(value, Mapping):
            return any(self.are_in(key) or self.are_in(one) for key, one in value.items())
        return isinstance(value, Sequence) and any(map(self.are_in, value))

    def hold(self, value: Any, but: Sequence[str] = ()) -> Any:
        """Put marks in the words' places, in every text within turns or within tools.

        Args:
            value: The text, the turn or the list.
            but: Words that are left as they are.
        """
        if isinstance(value, str):
            return self._word.sub(
                lambda match: match[0] if match[0] in but else self._marks[match[0]], value
            )
        if isinstance(value, Mapping):
            return {self.hold(key, but): self.hold(one, but) for key, one in value.items()}
        if isinstance(value, Sequence):
            return [self.hold(one, but) for one in value]
        return value

    def show(self, text: str) -> str:
        """Put the words back."""
        return self._mark.sub(lambda match: self._words[int(match[1])], text)

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode rendered texts, on all cores; offsets are those of the text that is shown."""
        special = [
            index for index, text in enumerate(texts) if self._may_arise or self._key in text
        ]
        if not special:
            return list(self._tokenizer.encode_batch(texts, add_special_tokens=False))
        named = [self.show(self._word.sub(self._renamed, texts[index])) for index in special]
        encodings = dict(
            zip(special, self._letters.encode_batch(named, add_special_tokens=False), strict=True)
        )
        others = [index for index in range(len(texts)) if index not in encodings]
        batch = self._tokenizer.encode_batch([texts[i] for i in others], add_special_tokens=False)
        encodings.update(zip(others, batch, strict=True))
        return [encodings[index] for index in range(len(texts))]

    def _renamed(self, match: re.Match[str]) -> str:
        return self._names[match[0]]

    @property
    def is_ready(self) -> bool:
        """Say whether the second tokenizer is made, which takes a second or two."""
        return "_letters" in self.__dict__

    def prepare(self) -> None:
        """Make the second tokenizer now and not when a text needs it."""
        _ = self._letters

    @cached_property
    def _letters(self) -> Tokenizer:
        written = json.loads(self._tokenizer.to_str())
        for token in written["added_tokens"]:
            token["content"] = self._names.get(token["content"], token["content"])
        model = written["model"]
        vocabulary = model["vocab"]
        if isinstance(vocabulary, list):  # Unigram's: pieces with their scores
            model["vocab"] = [[self._names.get(piece, piece), score] for piece, score in vocabulary]
        else:
            for word in self._words:
                if word in vocabulary:
                    vocabulary[self._names[word]] = vocabulary.pop(word)
        if model.get("unk_token") in self._names:
            model["unk_token"] = self._names[model["unk_token"]]
        if model.get("merges"):
            model["merges"] = [pair for pair in model["merges"] if not self._makes_a_word(pair)]
        return Tokenizer.from_str(json.dumps(written))

    def _makes_a_word(self, pair: Sequence[str] | str) -> bool:
        parts = pair.split(" ") if isinstance(pair, str) else pair
        return "".join(parts) in self._names or any(part in self._names for part in parts)


def _name(word: str) -> str:
    return "".join(chr(_FIRST_LETTER + secrets.randbelow(_NUM_LETTERS)) for _ in word)


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Match any of the words, which come longest first."""
    return re.compile("|".join(map(re.escape, words)) or r"(?!)")
