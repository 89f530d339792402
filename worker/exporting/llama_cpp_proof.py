"""What llama.cpp makes of a GGUF file: its numbers, and how it reads text.

A file is proved by a program that is not ours. It is given token ids, so that weights are judged
apart from the tokenizer, which is asked on its own.

Dimensions: R positions, V vocabulary.
"""

import ctypes
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.inference import llama_abi
from worker.inference.engine import READ_TOKENS, Chunk, EngineError
from worker.inference.llama_cpp import LlamaCpp


@dataclass(frozen=True)
class RowScore:
    """What a program expects at each position of a row from some position on."""

    likeliest: list[int]  # token ids
    logprobs: list[float]  # of the token that stands there, in nats; NaN where weights overflow


@dataclass(frozen=True)
class Reading:
    """How llama.cpp reads text with a file's vocabulary."""

    token_ids: list[list[int]]  # one list a text
    adds_bos: bool  # whether it puts the sign that a text begins in front by itself
    end_ids: frozenset[int]  # at which it takes an answer to be over


class Opened:
    """A model's file in llama.cpp, with an adapter's beside it if there is one."""

    def __init__(self, engine: LlamaCpp, adapter: str | None) -> None:
        self._engine, self._adapter = engine, adapter

    def scores(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[RowScore]:
        """Judge rows of tokens, each from its start on, which is at least 1."""
        cut = zip(rows, starts, strict=True)
        return [_score(self._engine, row, start, self._adapter) for row, start in cut]

    def go_on(self, row: Sequence[int], ends: Collection[int], num_tokens: int) -> list[int]:
        """Say the likeliest words after a row, up to an end and with it, or so many."""
        said: list[int] = []
        unread, position = list(row), 0
        while len(said) < num_tokens:
            chunk = Chunk(0, position, unread, self._adapter)
            said.append(int(self._engine.forward([chunk])[0][-1].argmax()))
            if said[-1] in ends:
                break
            unread, position = said[-1:], position + len(unread)
        return said


@contextmanager
def opened(
    gguf: Path, context_tokens: int, adapter: Path | None = None, *, scale: float = 1.0
) -> Iterator[Opened]:
    """Open a model's file.

    Args:
        gguf: The file.
        context_tokens: As many as the longest row and what is said after it.
        adapter: An adapter's file, to be loaded beside the model's.
        scale: How much of what the adapter changes.

    Raises:
        EngineError: a file cannot be used, or memory is short; a sentence.
    """
    # More than one thread collapse where others use the cores.
    engine = LlamaCpp(gguf, context_tokens=context_tokens, num_threads=1)
    try:
        name = None
        if adapter is not None:
            name = "adapter"
            engine.add_adapter(name, adapter, scale)
        yield Opened(engine, name)
    finally:
        engine.close()


def read_texts(gguf: Path, texts: Sequence[str]) -> Reading:
    """Let llama.cpp turn texts with control words into token ids, as they stand.

    Raises:
        EngineError: the file cannot be used.
    """
    lib = llama_abi.load()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(str(gguf).encode(), params)
    if not model:
        raise EngineError(f"llama.cpp could not load {gguf.name}.")
    try:
        vocabulary = lib.llama_model_get_vocab(model)
        num_tokens = lib.llama_vocab_n_tokens(vocabulary)
        return Reading(
            token_ids=[_read(lib, vocabulary, text) for text in texts],
            adds_bos=bool(lib.llama_vocab_get_add_bos(vocabulary)),
            end_ids=frozenset(
                token_id
                for token_id in range(num_tokens)
                if lib.llama_vocab_is_eog(vocabulary, token_id)
            ),
        )
    finally:
        lib.llama_model_free(model)


def _read(lib: ctypes.CDLL, vocabulary: int, text: str) -> list[int]:
    said = text.encode()
    room = len(said) + 8  # a space may be put in front of each piece
    ids = (ctypes.c_int32 * (2 * room))()
    number = lib.llama_tokenize(vocabulary, said, len(said), ids, 2 * room, False, True)
    assert number >= 0, "no text has more tokens than that"
    return list(ids[:number])


def _score(engine: LlamaCpp, row: Sequence[int], start: int, adapter: str | None) -> RowScore:
    """Read a row in pieces, and keep what is expected from its start on."""
    assert 1 <= start <= len(row)
    given = row[:-1]
    likeliest: list[int] = []
    logprobs: list[float] = []
    for begin in range(0, len(given), READ_TOKENS):
        piece = given[begin : begin + READ_TOKENS]
        chunk = Chunk(0, begin, piece, adapter, all_scores=True)
        scores_RV = engine.forward([chunk])[0]
        first = max(0, start - 1 - begin)
        if first >= len(piece):
            continue
        next_ids = row[begin + first + 1 : begin + len(piece) + 1]
        found, known = _judge(scores_RV[first:], next_ids)
        likeliest += found
        logprobs += known
    return RowScore(likeliest, logprobs)


def _judge(
    scores_RV: NDArray[np.float32], next_ids: Sequence[int]
) -> tuple[list[int], list[float]]:
    scores_RV = scores_RV.astype(np.float64)
    scores_RV -= scores_RV.max(-1, keepdims=True)
    totals_R = np.log(np.exp(scores_RV).sum(-1))
    chosen_R = scores_RV[np.arange(len(next_ids)), np.asarray(next_ids)]
    return scores_RV.argmax(-1).tolist(), (chosen_R - totals_R).tolist()
