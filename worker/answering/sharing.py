"""How answering shares the machine with training: which device, how many threads, how much memory.

A GPU is training's: answering takes it while no job holds it, and leaves within seconds of a claim.
Whoever computes there holds the GPU's lock file, a trainer as well as a child that answers. On a
processor one thread answers, a little behind a trainer in rank (worker/answering/child.py), whose
threads keep a core each (worker/trainer/threads.py).
"""

import fcntl
import os
from dataclasses import dataclass
from typing import Any

from app.adapters.answering import Use, Wanted
from app.training.plan.machine import free_memory
from worker import identity
from worker.gpu import trainer_process
from worker.inference.commands import EngineName
from worker.inference.llama_cpp import max_context_tokens
from worker.inference.slots import longest_context

MIB = 1024**2
# A slot holds a chat: how many of them, and how long each may be.
_SLOTS = {"cpu": (8, 4, 2, 1), "cuda": (32, 16, 8, 4, 2, 1)}
_CONTEXT_TOKENS = (4096, 2048)
_SHORT_TOKENS = (1024, 512)  # of one chat, where there is hardly room for it
# Of a processor's memory, which training needs as well; only a single chat may take more.
_MOST_SHARE = {"cpu": 0.5, "cuda": 1.0}
# Beside weights and caches: the interpreter and its libraries, and what is computed on the way.
_ENGINE_BYTES = {"llama.cpp": 300 * MIB, "transformers": 1500 * MIB}
# What other processes of the machine may ask for in the next moment.
_SPARE_BYTES = 256 * MIB
_CACHE_VALUE_BYTES = 2  # of both engines' caches


@dataclass(frozen=True)
class Place:
    """Where a model computes, and with which engine."""

    engine: EngineName
    device: str  # as Etude names it: "cpu", "cuda:0"
    physical: str | None = None  # a GPU's name for the driver
    is_fallback: bool = False  # it would be on a GPU if training did not have that

    @property
    def kind(self) -> str:
        return self.device.partition(":")[0]


@dataclass(frozen=True)
class Size:
    """What a model is given room for, and what that takes."""

    num_slots: int
    context_tokens: int  # of one slot
    num_bytes: int


ON_CPU = Place("llama.cpp", "cpu")


def size(place: Place, weights_bytes: int, config: dict[str, Any], free_bytes: int) -> Size | None:
    """Choose how many chats of which length a model is loaded for; None: it does not fit at all.

    Args:
        weights_bytes: Of the file that is loaded.
        config: The model's config.json.
    """
    most = longest(place, config)
    wishes = [(slots, tokens) for slots in _SLOTS[place.kind] for tokens in _CONTEXT_TOKENS]
    share = (free_bytes - _SPARE_BYTES) * _MOST_SHARE[place.kind]
    last = [(1, tokens) for tokens in (*_CONTEXT_TOKENS, *_SHORT_TOKENS)]
    for limit, several in ((share, wishes), (free_bytes - _SPARE_BYTES, last)):
        for slots, tokens in several:
            taken = _bytes(place, weights_bytes, config, slots, min(tokens, most))
            if taken <= limit:
                return Size(slots, min(tokens, most), taken)
    return None


def _bytes(
    place: Place, weights_bytes: int, config: dict[str, Any], num_slots: int, num_tokens: int
) -> int:
    cache = num_slots * num_tokens * cache_bytes(config) * _CACHE_VALUE_BYTES
    return weights_bytes + cache + _ENGINE_BYTES[place.engine]


def longest(place: Place, config: dict[str, Any]) -> int:
    """Return up to how many tokens an engine reads a model's texts as the model was made to."""
    if place.engine == "llama.cpp":
        return max_context_tokens(config)
    return longest_context(config) or _CONTEXT_TOKENS[0]


def least_bytes(place: Place, weights_bytes: int, config: dict[str, Any]) -> int:
    """Return what a model takes at the very least."""
    num_tokens = min(_SHORT_TOKENS[-1], longest(place, config))
    return _bytes(place, weights_bytes, config, 1, num_tokens) + _SPARE_BYTES


def cache_bytes(config: dict[str, Any]) -> int:
    """Return how many values a model keeps of each token it has read: keys and values."""
    num_heads = int(config.get("num_attention_heads") or 1)
    num_kv_heads = int(config.get("num_key_value_heads") or num_heads)
    head = int(config.get("head_dim") or int(config.get("hidden_size") or 64) // num_heads)
    return 2 * int(config.get("num_hidden_layers") or 1) * num_kv_heads * head


def free_bytes(place: Place) -> int:
    """Return the memory that is free where a model is to compute."""
    if place.physical is None:
        return free_memory()
    device = identity.ask_driver([place.physical])
    return 0 if device is None else device.free_bytes


class Devices:
    """The GPUs of this machine that answering may use while no job does."""

    def __init__(self) -> None:
        names = [] if identity.on_cpu() else list(identity.devices())
        self.physical = dict(zip(names, identity.physical_devices(), strict=False))
        self._locks: dict[str, int] = {}

    def take(self, use: Use) -> Place | None:
        """Take a GPU that no job computes on, if there is one; `let_go` frees it."""
        for name, physical in self.physical.items():
            if name in held(use):
                continue
            if name not in self._locks:
                handle = trainer_process.open_lock(f"gpu-{physical}")
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(handle)
                    continue
                self._locks[name] = handle
            return Place("transformers", name, physical)
        return None

    def handles(self, place: Place) -> tuple[int, ...]:
        """Return what a child on a device is to inherit: one lock, which all of them hold."""
        return (os.dup(self._locks[place.device]),) if place.device in self._locks else ()

    def let_go(self, used: set[str]) -> None:
        """Free the GPUs on which nothing of ours computes any longer."""
        for name in self._locks.keys() - used:
            os.close(self._locks.pop(name))

    def is_one_free(self, use: Use) -> bool:
        """Say whether a GPU could be had."""
        before = set(self._locks)
        taken = self.take(use)
        self.let_go(before)
        return taken is not None

    def rule(self, use: Use) -> str:
        """Say how this machine is shared just now; the page names {jobs}, those in its way."""
        if not self.physical:
            if use.trained:
                return (
                    "{jobs} training on this machine's processor. Questions are answered "
                    "beside it, with one thread; while an answer comes, training goes on at about "
                    "half its speed."
                )
            return "Questions are answered on this machine's processor, with one thread."
        if self.in_the_way(use):
            return (
                "{jobs} training on the graphics card, which training has first. Meanwhile models "
                "that fit into memory answer on the processor with one thread, more slowly."
            )
        if held(use) >= set(self.physical):
            return (
                "Test questions are being answered on the graphics card. Meanwhile models that fit "
                "into memory answer on the processor with one thread, more slowly."
                if use.evaluated
                else "An administrator has taken the graphics card out of use. Meanwhile models "
                "that fit into memory answer on the processor with one thread, more slowly."
            )
        return (
            "Questions are answered on the graphics card. As soon as a job begins to train there, "
            "they move to the processor."
        )

    def in_the_way(self, use: Use) -> list[int]:
        """Return the jobs without which answering would have another place."""
        if self.physical and not held(use) >= set(self.physical):
            return []
        return [job.job_id for job in use.trained]


def held(use: Use) -> set[str]:
    """Return the devices that are not for answering."""
    trained = {device for job in use.trained for device in job.devices}
    return trained | use.quarantined | use.evaluated


def too_large(wanted: Wanted, needed_bytes: int, free: int, use: Use, end: str) -> str:
    """Say why a model cannot be brought into memory, and when it may be.

    Args:
        end: When the training of `use` is expected to end, in words; empty: unknown.
    """
    when = "use a smaller model"
    if use.trained:
        when = "ask again when the training on this machine has ended"
        when += f" (expected: {end})" if end else ""
    return (
        f"{wanted.base.label} needs about {needed_bytes / 1e9:.1f} GB of memory to answer here, "
        f"and {free / 1e9:.1f} GB are free; {when}."
    )
