"""Rows of a few fixed shapes, on a GPU recorded once and played again.

Python starts the kernels of a model one by one, which takes several times as long as a GPU needs
for one token of each chat; CUDA plays a recorded row (a graph) without Python. A recorded row has
fixed tensors, so its shape is rounded up: more chats by copies of the first one, which write the
same numbers to the same place, and a prompt's last piece by tokens behind it, which none of its own
sees and the next one overwrites. All adapters take part in each, whoever asks.

Dimensions: T tokens of a row, B chunks, V vocabulary.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worker.inference.engine import READ_TOKENS, Chunk
from worker.inference.mixed_lora import Adapters, Stacks, numbers
from worker.inference.slot_cache import Group, Reading, SlotCache, in_flight
from worker.inference.slots import PAGE_TOKENS


class _Shape(NamedTuple):
    num_chunks: int
    length: int  # of each
    end: int  # no chunk reaches further


class Steps:
    """The recorded rows of a model.

    Args:
        model: With slot_cache's attention.
        cache: Where it is read into.
        adapters: Of the model.
        is_recorded: False runs each row anew, to try the same rows where CUDA is not.
    """

    def __init__(
        self, model: Any, cache: SlotCache, adapters: Adapters, is_recorded: bool = True
    ) -> None:
        self.model, self.cache, self.adapters = model, cache, adapters
        self.is_recorded = is_recorded
        self.num_played = 0
        self._steps: dict[_Shape, _Step] = {}
        self._names: tuple[str, ...] = ()
        self._stacks: Stacks = {}
        self._changes = -1
        self._gave_up = False

    def play(self, chunks: Sequence[Chunk]) -> Tensor | None:
        """Read chunks, and return the scores of the last token of each (B, V, float32).

        None: there is no such row. What is returned is overwritten by the next call.
        """
        shape = self._shape(chunks)
        if shape is None or self._gave_up:
            return None
        self.adapters.require([chunk.adapter for chunk in chunks])
        if self._changes != self.adapters.changes:
            # What was recorded knows the addresses of adapters that may be gone.
            self._steps.clear()
            self._names, self._stacks = self.adapters.everyone()
            self._changes = self.adapters.changes
        if shape not in self._steps:
            self._steps[shape] = _Step(shape, self.model, self.cache, self.adapters)
        step = self._steps[shape]
        step.fill(chunks, numbers(self._names, [chunk.adapter for chunk in chunks]))
        if self.is_recorded and step.graph is None and not self._record(step):
            return None
        self.num_played += 1
        return step.play(self._stacks)[: len(chunks)].float()

    def _shape(self, chunks: Sequence[Chunk]) -> _Shape | None:
        lengths = {len(chunk.token_ids) for chunk in chunks}
        num, length, end = 1, 1, max(chunk.position + len(chunk.token_ids) for chunk in chunks)
        if lengths == {1}:
            while num < len(chunks):
                num *= 2
            num = min(num, max(len(chunks), self.cache.num_slots))
        elif len(chunks) == 1 and max(lengths) <= READ_TOKENS and not chunks[0].all_scores:
            length, end = READ_TOKENS, chunks[0].position + READ_TOKENS
        else:
            return None
        if end > self.cache.held_tokens:
            return None
        # FlashAttention looks up how far each slot goes; other attention looks at all up to `end`.
        rounded = self.cache.held_tokens if self.cache.uses_flash else PAGE_TOKENS
        while rounded < end:
            rounded *= 2
        return _Shape(num, length, min(rounded, self.cache.held_tokens))

    def _record(self, step: "_Step") -> bool:
        try:
            step.record(self._stacks)
        except Exception as error:  # no memory for it, or an architecture that cannot be recorded
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            print(f"Steps are not recorded, so answers take longer: {reason}", file=sys.stderr)
            self._steps.clear()
            self._gave_up = True
        return not self._gave_up


class _Step:
    """One shape's fixed tensors, and what was recorded with them."""

    def __init__(self, shape: _Shape, model: Any, cache: SlotCache, adapters: Adapters) -> None:
        self.shape, self.model, self.adapters = shape, model, adapters
        self.graph: Any = None
        self.scores_BV: Tensor | None = None
        num, length, end = shape
        total, device = num * length, cache.keys[0].device
        # One copy to the device for all of them.
        sizes = (total, total, total, total, num, num, num)
        self.numbers = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        ids_T, positions_T, slots_T, index_T, slots_B, first_B, asked_B = self.numbers.split(sizes)
        self.ids_T, self.positions_T, self.index_T, self.asked_B = (
            ids_T, positions_T, index_T, asked_B,
        )  # fmt: skip
        group = Group(0, length, slots_B, first_B, None, 0, end)
        self.reading = Reading(cache, [group], slots_T, positions_T)

    def fill(self, chunks: Sequence[Chunk], index: Sequence[int]) -> None:
        num, length, _ = self.shape
        rows = [*zip(chunks, index, strict=True)]
        rows += [rows[0]] * (num - len(rows))
        ids: list[int] = []
        for chunk, _ in rows:
            ids += [*chunk.token_ids, *[chunk.token_ids[-1]] * (length - len(chunk.token_ids))]
        positions = [chunk.position + token for chunk, _ in rows for token in range(length)]
        slots = [chunk.slot for chunk, _ in rows for _ in range(length)]
        each = [number for _, number in rows for _ in range(length)]
        slots_B, first_B = [c.slot for c, _ in rows], [c.position for c, _ in rows]
        asked_B = [n * length + len(chunk.token_ids) - 1 for n, (chunk, _) in enumerate(rows)]
        values = [*ids, *positions, *slots, *each, *slots_B, *first_B, *asked_B]
        self.numbers.copy_(torch.tensor(values))

    def run(self, stacks: Stacks) -> Tensor:
        """Compute the row as it is filled."""
        self.reading.masks.clear()
        self.reading.pages.clear()
        self.adapters.use(stacks, self.index_T, is_mixed=bool(stacks))
        with in_flight(self.reading):
            output = self.model(
                input_ids=self.ids_T[None],
                position_ids=self.positions_T[None],
                use_cache=False,
                logits_to_keep=self.asked_B,
            )
        scores_BV: Tensor = output.logits[0]
        return scores_BV

    def record(self, stacks: Stacks) -> None:
        """Run the row beside what is under way, as CUDA wants it, then record it.

        Raises:
            RuntimeError: something in it cannot be recorded, or is another thing when it is played.
        """
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):  # kernels are compiled, and libraries choose theirs
                wanted_BV = self.run(stacks)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.scores_BV = self.run(stacks)
        graph.replay()
        error = (self.scores_BV - wanted_BV).abs().max().item()
        if not error <= 0.02 * wanted_BV.abs().max().item():
            raise RuntimeError(f"what was recorded differs by {error:.3g}")
        self.graph = graph

    def play(self, stacks: Stacks) -> Tensor:
        if self.graph is None:
            return self.run(stacks)
        self.graph.replay()
        assert self.scores_BV is not None
        return self.scores_BV
