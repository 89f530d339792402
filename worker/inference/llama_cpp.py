"""llama.cpp on a CPU: a base model as GGUF, its adapters beside it, and a cache a slot.

Each slot has a cache of its own, so that an answer depends neither on what other slots hold nor on
whether its question was read just now or earlier; with weights and adapters in Q8_0, whose products
are summed as whole numbers, not even on the company in a batch. A cache in float32 would change
none of that and take twice the memory of this one, which has 16 bits.

One graph of computation is kept, for one adapter; changing it takes two or three milliseconds, so
callers take the slots of one adapter together.

Dimensions: R rows of scores, V vocabulary.
"""

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.inference import llama_abi
from worker.inference.engine import READ_TOKENS, Chunk, EngineError

_KNOWN_WINDOWS = ("gemma2", "gemma3_text")
_PAGE_TOKENS = 256  # llama.cpp rounds a slot's cache up to a multiple of this


class Interrupted(EngineError):
    """`interrupt` ended a call of `forward`; what it was reading is forgotten and can be redone."""

    def __init__(self) -> None:
        super().__init__("This was stopped.")


class LlamaCpp:
    """A base model in llama.cpp's memory. Only `interrupt` may be called from another thread."""

    mixes_adapters = False

    def __init__(
        self, gguf: Path, *, num_slots: int = 1, context_tokens: int = 4096, num_threads: int = 1
    ) -> None:
        """Load a model from its file, which stays mapped.

        Raises:
            EngineError: the file cannot be used, memory is short, or llama.cpp is another build.
        """
        self.num_slots = num_slots
        self.context_tokens = context_tokens
        self._adapters: dict[str, int] = {}  # pointers by name
        self._scales: dict[str, float] = {}
        self._active: str | None = None
        self._held = [0] * num_slots  # how many tokens each slot holds
        self._readers: list[str | None] = [None] * num_slots  # and by which adapter it read them
        self._model = self._context = self._memory = None
        self._batch: Any = None
        self._lib = lib = llama_abi.load()
        params = lib.llama_model_default_params()
        self._model = lib.llama_model_load_from_file(str(gguf).encode(), params)
        if not self._model:
            raise EngineError(
                f"llama.cpp could not load {gguf.name}: the file is damaged, or this machine has "
                "too little free memory."
            )
        self.vocab_size = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model)))
        self._max_batch = max(READ_TOKENS, num_slots)
        self._open_context(num_threads)
        # C's strlen looks whether a text is empty, without asking Python's lock a thousand times a
        # token: writing a letter into an empty text ends what is being computed.
        self._stop = ctypes.create_string_buffer(2)
        libc = ctypes.CDLL(None)
        lib.llama_set_abort_callback(
            self._context, ctypes.cast(libc.strlen, ctypes.c_void_p), ctypes.addressof(self._stop)
        )

    def _open_context(self, num_threads: int) -> None:
        lib = self._lib
        params = lib.llama_context_default_params()
        params.n_ctx = _rounded(self.context_tokens) * self.num_slots
        params.n_seq_max = self.num_slots
        params.n_batch = params.n_ubatch = self._max_batch
        params.n_threads = params.n_threads_batch = num_threads
        params.flash_attn_type = llama_abi.FLASH
        # A cache of the window alone could not go back to an earlier token.
        params.swa_full = True
        params.kv_unified = False
        self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            self.close()
            raise EngineError(
                f"This machine has too little free memory to answer {self.num_slots} at once with "
                f"{self.context_tokens} tokens each."
            )
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(self._max_batch, 0, 1)

    def set_threads(self, num_threads: int) -> None:
        """Compute with so many threads from the next call on."""
        self._lib.llama_set_n_threads(self._context, num_threads, num_threads)

    def add_adapter(self, name: str, path: Path, scale: float = 1.0) -> None:
        """Load an adapter's GGUF file; of the same name before, nothing is left.

        Args:
            name: What chunks call it.
            path: The file.
            scale: How much of what it changes; none at 0.

        Raises:
            EngineError: it does not fit this base model, or cannot be read.
        """
        self.remove_adapter(name)
        pointer = self._lib.llama_adapter_lora_init(self._model, str(path).encode())
        if not pointer:
            raise EngineError(f"{path.name} does not fit this model, or is damaged.")
        self._adapters[name] = pointer
        self._scales[name] = scale

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter and what slots read with it."""
        pointer = self._adapters.pop(name, None)
        if pointer is None:
            return
        for slot, reader in enumerate(self._readers):
            if reader == name:
                self._forget(slot, 0)
        if self._active == name:
            self._activate(None)
        self._lib.llama_adapter_lora_free(pointer)

    def forward(self, chunks: Sequence[Chunk]) -> list[NDArray[np.float32]]:
        """Read chunks of different slots and one adapter side by side.

        Returns:
            For each chunk the scores of the next token, (R, V); valid until the next call.

        Raises:
            Interrupted: `interrupt` was called.
            EngineError: memory ran out.
        """
        if not chunks:
            return []
        self._check(chunks)
        self._activate(chunks[0].adapter)
        for chunk in chunks:
            self._forget(chunk.slot, chunk.position)
        try:
            return self._read(chunks)
        except EngineError:
            for chunk in chunks:
                self._forget(chunk.slot, chunk.position)
            raise

    def interrupt(self) -> None:
        """End the call of `forward` that is under way, or else the next one, by Interrupted."""
        self._stop.raw = b"!\0"

    def close(self) -> None:
        """Give the memory back; the engine cannot be used afterwards."""
        if self._context:
            self._lib.llama_batch_free(self._batch)
            self._lib.llama_free(self._context)
        if self._model:
            self._lib.llama_model_free(self._model)  # and its adapters
        self._model = self._context = None
        self._adapters.clear()

    def _check(self, chunks: Sequence[Chunk]) -> None:
        assert self._context, "the engine is closed"
        assert len({chunk.adapter for chunk in chunks}) == 1, "one adapter at a time"
        assert len({chunk.slot for chunk in chunks}) == len(chunks), "one chunk a slot"
        for chunk in chunks:
            end = chunk.position + len(chunk.token_ids)
            assert 0 <= chunk.slot < self.num_slots and chunk.token_ids
            assert 0 <= chunk.position <= self._held[chunk.slot], "a gap before the chunk"
            assert end <= self.context_tokens, "the slot is full"
            assert chunk.position == 0 or self._readers[chunk.slot] == chunk.adapter, (
                "a slot goes on with the adapter that it began with"
            )
            # llama.cpp ends the process over ids that it does not know.
            assert 0 <= min(chunk.token_ids) <= max(chunk.token_ids) < self.vocab_size

    def _read(self, chunks: Sequence[Chunk]) -> list[NDArray[np.float32]]:
        # Together only what is one token each: a prompt's piece beside others would be computed in
        # another way than alone.
        if all(len(chunk.token_ids) == 1 for chunk in chunks):
            scores_RV = self._decode([(c.slot, c.position, c.token_ids, True) for c in chunks])
            return [scores_RV[row : row + 1] for row in range(len(chunks))]
        if len(chunks) > 1:
            return [self._read([chunk])[0].copy() for chunk in chunks]
        [chunk] = chunks
        ids, pieces = list(chunk.token_ids), []
        for start in range(0, len(ids), READ_TOKENS):
            piece = ids[start : start + READ_TOKENS]
            position = chunk.position + start
            scores_RV = self._decode([(chunk.slot, position, piece, chunk.all_scores)])
            if chunk.all_scores:
                pieces.append(scores_RV.copy())
        return [np.concatenate(pieces) if chunk.all_scores else scores_RV]

    def _decode(
        self, pieces: Sequence[tuple[int, int, Sequence[int], bool]]
    ) -> NDArray[np.float32]:
        """Read (slot, position, token ids, whether all their scores are wanted)."""
        batch, row, num_scores = self._batch, 0, 0
        for slot, position, token_ids, all_scores in pieces:
            for offset, token_id in enumerate(token_ids):
                is_wanted = all_scores or offset == len(token_ids) - 1
                batch.token[row] = token_id
                batch.pos[row] = position + offset
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = slot
                batch.logits[row] = is_wanted
                row += 1
                num_scores += is_wanted
        batch.n_tokens = row
        status = self._lib.llama_decode(self._context, batch)
        # A stop that came too late for the last operations is not kept for somebody else's words.
        if self._stop.raw[:1] != b"\0":
            self._stop.raw = b"\0\0"
            raise Interrupted
        if status != 0:
            raise EngineError(f"llama.cpp could not go on ({status}): memory ran out.")
        for slot, position, token_ids, _ in pieces:
            self._held[slot] = position + len(token_ids)
            self._readers[slot] = self._active
        scores = self._lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(scores, (num_scores, self.vocab_size))

    def _activate(self, name: str | None) -> None:
        if name == self._active:
            return
        given = [self._adapters[name]] if name is not None else []
        pointers = (ctypes.c_void_p * 1)(*given)
        scales = (ctypes.c_float * 1)(self._scales[name] if name is not None else 1.0)
        self._lib.llama_set_adapters_lora(self._context, pointers, len(given), scales)
        self._active = name

    def _forget(self, slot: int, position: int) -> None:
        # Also where nothing is known to be held: a call that failed may have left something.
        forgotten = self._lib.llama_memory_seq_rm(self._memory, slot, position, -1)
        assert forgotten, "this model's cache cannot go back"
        self._held[slot] = min(self._held[slot], position)


def kv_bytes(config: Mapping[str, Any], context_tokens: int, num_slots: int) -> int:
    """Return how much memory the caches of all slots take, beside the weights.

    Args:
        config: The base model's config.json.
        context_tokens: What one slot holds.
        num_slots: How many answers are under way at once.
    """
    num_heads = config["num_attention_heads"]
    num_kv_heads = config.get("num_key_value_heads") or num_heads
    head_dim = config.get("head_dim") or config["hidden_size"] // num_heads
    values = 2 * config["num_hidden_layers"] * num_kv_heads * head_dim
    return int(2 * values * _rounded(context_tokens) * num_slots)


def max_context_tokens(config: Mapping[str, Any]) -> int:
    """Return how long a slot may be at most, for llama.cpp to read it as the reference does.

    It takes the angles for long texts (LongRoPE) as soon as a slot could hold one, the reference
    only once a text is long. And most families' windows it does not know.

    Args:
        config: The base model's config.json.
    """
    longest = int(config.get("max_position_embeddings") or 4096)
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if "longrope" in (scaling.get("rope_type"), scaling.get("type")):
        key = "original_max_position_embeddings"
        longest = min(longest, int(config.get(key) or scaling.get(key) or longest))
    window = config.get("sliding_window")
    is_known = config.get("model_type") in _KNOWN_WINDOWS
    if window and config.get("use_sliding_window", True) and not is_known:
        longest = min(longest, int(window))
    return longest


def _rounded(tokens: int) -> int:
    return -(-tokens // _PAGE_TOKENS) * _PAGE_TOKENS
