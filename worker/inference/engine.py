"""What every engine can do: read tokens into a slot, and say what it expects next.

How answers are drawn, cut and spelled stands once, in `generation.py`, above all engines.

Dimensions: R rows of scores, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# A prompt is read in pieces of this many tokens, counted from its beginning and one at a time: a
# piece is then computed the same way whether it was read just now or for an earlier question, and
# rounding cannot make an answer depend on what was cached.
READ_TOKENS = 64


class EngineError(Exception):
    """An engine cannot be opened or go on; a sentence for a person."""


@dataclass(frozen=True)
class Chunk:
    """Tokens for one slot: some of a prompt, or the one that was said last."""

    slot: int
    position: int  # of the first token; what the slot holds from there on is forgotten
    token_ids: Sequence[int]
    adapter: str | None  # None: the base model itself; the same for all that a slot holds
    all_scores: bool = False  # after each token, not after the last one alone


class Engine(Protocol):
    """A base model in memory with its adapters. Not safe for several threads at once."""

    num_slots: int
    context_tokens: int  # what one slot holds, prompt and answer together
    vocab_size: int
    mixes_adapters: bool  # whether one call of `forward` takes chunks of several adapters

    def add_adapter(self, name: str, path: Path) -> None:
        """Load an adapter; of the same name before, nothing is left.

        Raises:
            EngineError: its files cannot be used with this base model.
        """

    def remove_adapter(self, name: str) -> None: ...

    def forward(self, chunks: Sequence[Chunk]) -> list[NDArray[np.float32]]:
        """Read chunks of different slots side by side.

        Args:
            chunks: One prompt's piece, or the last token of each answer that is under way.

        Returns:
            For each chunk the scores (logits) of the next token, (R, V) float32: R is the number
            of its tokens with `all_scores`, else 1. Valid until the next call.

        Raises:
            EngineError: memory ran out, or the process is asked to end.
        """

    def close(self) -> None: ...
