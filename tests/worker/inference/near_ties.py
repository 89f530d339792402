"""Where two tokens are as good as equally likely, a processor's rounding says which comes first.

The tiny models of these tests are random, so it happens: in other batches, or on another processor,
one of the two is said, and all that follows is another answer. What is compared word by word is so
up to the first place where the reference itself is undecided; a test says how much that leaves.
"""

from collections.abc import Sequence
from typing import Any

# Between two logits; rounding moves one by some 1e-5 in float32.
CLOSE = 2e-3


def margins(model: Any, row: Sequence[int], start: int) -> list[float]:
    """Return for each place of a row, from one on, how far its two best logits are apart.

    Args:
        model: transformers', in float32.
        row: Token ids.
        start: The first place, at least 1.
    """
    import torch

    with torch.inference_mode():
        logits_RV = model(input_ids=torch.tensor([list(row)])).logits[0, start - 1 : -1].float()
    best_R2 = logits_RV.topk(2, -1).values
    margins_R: list[float] = (best_R2[:, 0] - best_R2[:, 1]).tolist()
    return margins_R


def num_certain(model: Any, row: Sequence[int], start: int) -> int:
    """Return how many tokens from a place on are the likeliest ones on every processor."""
    found = margins(model, row, start)
    return next((number for number, each in enumerate(found) if each < CLOSE), len(found))


def greedy(model: Any, row: Sequence[int], num_tokens: int) -> list[int]:
    """Say what a model finds likeliest, token by token, whatever ends an answer.

    Not by `generate` with a least length: that forbids the end, which may well be the likeliest.
    """
    import torch

    ids = list(row)
    with torch.inference_mode():
        for _ in range(num_tokens):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(row) :]
