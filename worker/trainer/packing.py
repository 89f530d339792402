"""Examples side by side in one row without padding.

Dimensions: T tokens of the row, B examples, L longest of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from app.training.chat import IGNORE_INDEX, Encoded
from worker.trainer.group import ALONE, Group


@dataclass(frozen=True)
class Row:
    """One micro-batch: the tokens of some examples in a row, int64."""

    token_ids_T: Tensor
    position_ids_T: Tensor  # begin at 0 with each example
    labels_T: Tensor  # IGNORE_INDEX where an example begins
    lengths: list[int]
    is_pairs: bool = False  # a better and a worse answer alternate, each an example here
    is_filler: bool = False  # weighs nothing

    @property
    def num_tokens(self) -> int:
        return self.token_ids_T.shape[0]

    def padded(self) -> Tensor:
        """Return the token ids (B, L): an example a row, filled up with 0 on the right."""
        return pad_sequence(list(self.token_ids_T.split(self.lengths)), batch_first=True)


def share_in_rows(
    examples: Sequence[Encoded],
    capacity: int,
    device: torch.device,
    group: Group = ALONE,
    *,
    padded: bool = False,
    equally_many: bool = False,
) -> list[Row]:
    """Pack this process's share of some examples into micro-batches.

    Args:
        examples: Of all processes; each gets the same ones.
        capacity: Tokens of a row, beside examples that are longer by themselves.
        device: Where the rows are to lie.
        group: The processes.
        padded: Count the padding that each example needs.
        equally_many: Add rows that weigh nothing until each process has as many as the others.
    """
    lengths = [len(example.token_ids) for example in examples]
    shares = group.shares(lengths)
    fill = pack_padded if padded else pack
    packed = [fill([lengths[index] for index in share], capacity) for share in shares]
    mine = shares[group.rank]
    rows = [
        make_row([examples[mine[position]] for position in row], device)
        for row in packed[group.rank]
    ]
    if equally_many:
        missing = max(map(len, packed)) - len(rows)
        is_pairs = any(example.num_better_tokens for example in examples)
        rows += [filler(device, is_pairs) for _ in range(missing)]
    return rows


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Sort examples into rows of at most `capacity` tokens, first fit, longest first.

    An example longer than the capacity gets a row of its own.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        fits = next((r for r, free in enumerate(room) if free >= length), None)
        if fits is None:
            rows.append([])
            room.append(capacity)
            fits = len(rows) - 1
        rows[fits].append(index)
        room[fits] -= length
    return rows


def pack_padded(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Sort examples into batches of at most `capacity` tokens with their padding, longest first.

    An example longer than the capacity gets a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= capacity:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def make_row(examples: Sequence[Encoded], device: torch.device) -> Row:
    """Put examples behind each other."""
    token_ids: list[int] = []
    position_ids: list[int] = []
    labels: list[int] = []
    lengths: list[int] = []
    for example in examples:
        token_ids += example.token_ids
        lengths += example.lengths
        begin = 0
        for length in example.lengths:
            position_ids += range(length)
            # Nothing may predict the first token: before it stands another example.
            labels += [IGNORE_INDEX, *example.labels[begin + 1 : begin + length]]
            begin += length
    return Row(
        torch.tensor(token_ids, device=device),
        torch.tensor(position_ids, device=device),
        torch.tensor(labels, device=device),
        lengths,
        is_pairs=any(example.num_better_tokens for example in examples),
    )


def filler(device: torch.device, is_pairs: bool) -> Row:
    """Make a row from which nothing is learned; it passes through the model as others do."""
    empty = Encoded([0, 0], [IGNORE_INDEX] * 2, 0, num_better_tokens=int(is_pairs))
    return replace(make_row([empty], device), is_filler=True)
