"""transformers as an engine: on a GPU in bfloat16, on a CPU in float32 as the reference.

Machines with AVX2 alone would compute bfloat16 by way of float32, slower and less exactly.

Dimensions: T tokens of a row, R rows of scores, V vocabulary.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from app.training import manifests
from worker.inference import layers
from worker.inference.engine import Chunk, EngineError
from worker.inference.mixed_lora import Adapters
from worker.inference.slot_cache import ATTENTION, Reading, SlotCache, in_flight, make_groups
from worker.inference.slots import kv_shape, longest_context
from worker.inference.steps import Steps


class TorchEngine:
    """A base model with adapters; see engine.Engine.

    Args:
        model: transformers', with slot_cache's attention, on the device that computes.
        num_slots: Texts that are held at once.
        context_tokens: What one holds; less where the model reads less.

    Raises:
        EngineError: memory does not suffice.
    """

    mixes_adapters = True

    def __init__(self, model: Any, num_slots: int = 4, context_tokens: int = 4096) -> None:
        embedding, config = model.get_input_embeddings().weight, model.config.to_dict()
        self.model, self.device = model, embedding.device
        self.num_slots = num_slots
        self.context_tokens = min(context_tokens, longest_context(config) or context_tokens)
        self.vocab_size = int(embedding.shape[0])
        shape, dtype = kv_shape(config), embedding.dtype
        with _enough_memory("This model does not fit into the memory that is free."):
            self.cache = SlotCache(shape, num_slots, self.context_tokens, dtype, self.device)
        self._held = [0] * num_slots
        self.adapters = Adapters(model)
        self.steps: Steps | None = None
        if self.device.type == "cuda":
            layers.shorten(model, dtype)
            self.steps = Steps(model, self.cache, self.adapters)

    @classmethod
    def open(
        cls,
        base: Path,
        manifest_sha256: str,
        device: str = "cpu",
        num_threads: int | None = None,
        num_slots: int = 4,
        context_tokens: int = 4096,
    ) -> "TorchEngine":
        """Load a base model.

        Args:
            base: The registry's verified folder.
            manifest_sha256: Of the files that were imported.
            device: "cpu" or "cuda:0".
            num_threads: That compute on a CPU; None leaves as many as there are.
            num_slots: See above, as context_tokens.
            context_tokens: What one holds.

        Raises:
            EngineError: the files are not those that were imported, or memory does not suffice.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        _verify(base, manifest_sha256)
        with _enough_memory("This model does not fit into the memory that is free."):
            model = _load(base, torch.device(device))
        return cls(model, num_slots, context_tokens)

    def add_adapter(self, name: str, path: Path) -> None:
        with _enough_memory("This trained model does not fit into the memory that is free."):
            self.adapters.add(name, path)

    def remove_adapter(self, name: str) -> None:
        self.adapters.remove(name)

    def forward(self, chunks: Sequence[Chunk]) -> list[NDArray[np.float32]]:
        scores_RV: NDArray[np.float32] = self.read(chunks).cpu().numpy()
        results, at = [], 0
        for chunk in chunks:
            num = len(chunk.token_ids) if chunk.all_scores else 1
            results.append(scores_RV[at : at + num])
            at += num
        return results

    @torch.inference_mode()
    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """Do what `forward` does, and leave all scores (R, V, float32) where they were made.

        Who draws on the GPU spares it the way of a whole vocabulary for each token.
        """
        self._check(chunks)
        order = sorted(range(len(chunks)), key=lambda i: (len(chunks[i].token_ids), chunks[i].slot))
        begins, begin = {}, 0
        for number in order:
            begins[number] = begin
            begin += len(chunks[number].token_ids)
        asked = [
            begins[number] + token
            for number, chunk in enumerate(chunks)
            for token in range(len(chunk.token_ids))
            if chunk.all_scores or token == len(chunk.token_ids) - 1
        ]
        ordered = [chunks[number] for number in order]
        for chunk in chunks:
            self._held[chunk.slot] = chunk.position  # should it fail half-way
        with _enough_memory("The memory that is free does not suffice to go on with this answer."):
            played_RV = self.steps.play(chunks) if self.steps else None
            scores_RV = self._run(ordered, asked) if played_RV is None else played_RV
        for chunk in chunks:
            self._held[chunk.slot] = chunk.position + len(chunk.token_ids)
        return scores_RV

    def close(self) -> None:
        del self.model, self.cache, self.adapters, self.steps
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _run(self, chunks: Sequence[Chunk], asked: list[int]) -> Tensor:
        """Run the model on a row of chunks, and return the scores of some of its tokens."""

        def on_device(values: Any) -> Tensor:
            return torch.tensor(values, device=self.device)

        each = [(chunk, token) for chunk in chunks for token in range(len(chunk.token_ids))]
        positions_T = on_device([chunk.position + token for chunk, token in each])
        groups = make_groups(
            [chunk.slot for chunk in chunks],
            [chunk.position for chunk in chunks],
            [len(chunk.token_ids) for chunk in chunks],
            self.device,
        )
        reading = Reading(
            self.cache, groups, on_device([chunk.slot for chunk, _ in each]), positions_T
        )
        self.adapters.choose([chunk.adapter for chunk, _ in each], self.device)
        token_ids_T = on_device([chunk.token_ids[token] for chunk, token in each])
        with in_flight(reading):
            output = self.model(
                input_ids=token_ids_T[None],
                position_ids=positions_T[None],
                use_cache=False,
                logits_to_keep=on_device(asked),
            )
        scores_RV: Tensor = output.logits[0].float()
        return scores_RV

    def _check(self, chunks: Sequence[Chunk]) -> None:
        """Refuse what a GPU would answer by ending the process."""
        slots = [chunk.slot for chunk in chunks]
        if len(set(slots)) != len(slots) or not all(0 <= s < self.num_slots for s in slots):
            raise ValueError(f"chunks of the slots {slots}, of which there are {self.num_slots}")
        for chunk in chunks:
            end = chunk.position + len(chunk.token_ids)
            if not chunk.token_ids or not 0 <= chunk.position <= self._held[chunk.slot]:
                raise ValueError(f"nothing, or behind a gap, for slot {chunk.slot}")
            if end > self.context_tokens:
                raise ValueError(f"{end} tokens for a slot of {self.context_tokens}")
            if min(chunk.token_ids) < 0 or max(chunk.token_ids) >= self.vocab_size:
                raise ValueError("a token that the model does not have")


def _verify(base: Path, manifest_sha256: str) -> None:
    try:
        if manifests.verify_manifest(base) == manifest_sha256:
            return
        print("Its manifest is not the one that was imported.", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)  # for the log alone: it names places on this machine
    raise EngineError(
        "The model's files have changed since they were imported; ask your administrator to "
        "import the model again."
    )


def _load(base: Path, device: torch.device) -> Any:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
            device_map={"": device},
            attn_implementation=ATTENTION,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        print(repr(error), file=sys.stderr)  # for the log
        raise EngineError(
            "The model cannot be loaded: its files are damaged, or of a kind that Etude does not "
            "know. Ask your administrator to import the model again."
        ) from error
    return model.eval().requires_grad_(False)


@contextmanager
def _enough_memory(sentence: str) -> Iterator[None]:
    """Turn running out of memory, which torch tells in several ways, into a sentence."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        pass
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
    else:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise EngineError(sentence)
