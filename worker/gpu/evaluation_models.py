"""A starting model and its adapter, in a child of the worker that evaluates them.

On a processor llama.cpp answers, on a GPU transformers; the GPU's lock is held for as long as a
child lives. An adapter that llama.cpp takes only worked into the model stands in a second child.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.adapters.answering import WantedAdapter, WantedBase
from app.core import settings
from app.training import failpoints
from app.training.answers import AnswerRequest, Event
from app.training.plan.machine import this_cpu
from worker import identity
from worker.answering import batches, conversion, sharing
from worker.answering.batches import BatchChild
from worker.answering.child import ChildFailed
from worker.answering.sharing import ON_CPU, Place
from worker.gpu import trainer_process
from worker.inference import commands, gguf_files
from worker.inference.slots import kv_bytes
from worker.leased import LeaseHolder, Unfinished

_log = structlog.get_logger()

_SLOTS = {"cpu": (8, 4, 2, 1), "cuda": (32, 16, 8, 4, 2, 1)}
# Of one slot: for examples of the usual length, and for longer ones.
_CONTEXT_TOKENS, _LONG_CONTEXT_TOKENS = 2048, 4096
_USUAL_LENGTH_TOKENS = 1024
# Of what a model takes in 16 bits: 8 and a scale for each 32 weights, or 32 bits on a processor.
_Q8, _FLOAT32 = 17 / 32, 2.0
_CACHE_DTYPE = {"llama.cpp": "float16", "transformers": "float32"}
# Beside weights and caches: the interpreter and its libraries, and what is computed on the way.
_SPARE_BYTES = {"llama.cpp": 500 * 1024**2, "transformers": 1500 * 1024**2}
# Answering leaves a GPU within 5 s of hearing that it is wanted.
_LOCK_SECONDS = 12.0


class DeviceHeld(Exception):
    """Another process computes on the device."""


@dataclass(frozen=True)
class Ask:
    """What is asked, and whether the adapter is to answer."""

    is_tuned: bool
    request: AnswerRequest


class Models:
    """From `with` to the end of it: device, engine and files are chosen, children come and go."""

    def __init__(
        self,
        holder: LeaseHolder,
        base: WantedBase,
        adapter: WantedAdapter | None,
        max_length_tokens: int,
    ) -> None:
        """
        Args:
            adapter: None: nobody asks it.
            max_length_tokens: Of the examples; 0: nobody has said.
        """
        self._holder, self._base, self._adapter = holder, base, adapter
        self._is_long = max_length_tokens > _USUAL_LENGTH_TOKENS
        self.place = ON_CPU
        self._num_slots = 1
        self._is_merged = False
        self._lock: int | None = None
        self._number = 0
        # False: the starting model, with the adapter beside it; True: with it worked in.
        self._children: dict[bool, BatchChild] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Models":
        try:
            self._settle()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self._unlock()

    @property
    def context_tokens(self) -> int:
        """What a slot holds. The same in each attempt: what is looked up depends on it."""
        wished = _LONG_CONTEXT_TOKENS if self._is_long else _CONTEXT_TOKENS
        return min(wished, sharing.longest(self.place, self._base.config))

    @property
    def pids(self) -> list[int]:
        """The children's process ids."""
        return [child.child.pid for child in self._children.values()]

    def open(self) -> None:
        """Have the models in memory.

        Raises:
            ChildFailed: one cannot be loaded.
            batches.Ended: a child ended meanwhile.
            LeaseLost, Draining: the work must not go on.
        """
        if self._children:
            return
        try:
            for is_merged in (False, True) if self._is_merged else (False,):
                self._children[is_merged] = self._stack.enter_context(self._start(is_merged))
            for is_merged, child in self._children.items():
                # Listening ends the child where the lease is lost meanwhile.
                for _ in self._holder.hear(child.child, self._opened(child, is_merged)):
                    pass
        except BaseException:
            self.close()
            raise
        failpoints.hit("evaluate.models_open")

    def close(self) -> None:
        """End the children."""
        self._children = {}
        self._stack.close()

    def ask(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Event]]:
        """Ask a batch, and yield what is said with the number of what was asked.

        Raises:
            batches.Ended: a child ended before all was said.
            LeaseLost, Draining: the work must not go on.
        """
        for is_merged, child in self._children.items():
            first = self._number
            self._number += len(asks)
            asked = [
                commands.Ask(
                    id=first + number,
                    adapter=self._name(one, is_merged),
                    request=one.request,
                )
                for number, one in enumerate(asks)
                if (self._is_merged and one.is_tuned) == is_merged
            ]
            afresh = self.place.engine == "transformers"
            heard = child.ask(asked, afresh=afresh) if asked else iter(())
            for number, event in self._holder.hear(child.child, heard):
                yield number - first, event

    def _name(self, one: Ask, is_merged: bool) -> str | None:
        return str(self._adapter.id) if one.is_tuned and self._adapter and not is_merged else None

    def _opened(self, child: BatchChild, is_merged: bool) -> Iterator[None]:
        child.open()
        yield
        if self._adapter is not None and not self._is_merged and not is_merged:
            path = self._adapter.folder
            if self.place.engine == "llama.cpp":
                path = conversion.adapter_file(self._base, self._adapter)
            child.add_adapter(str(self._adapter.id), path)
        yield

    def _start(self, is_merged: bool) -> BatchChild:
        gguf: Path | None = None
        if self.place.engine == "llama.cpp":
            gguf = conversion.base_file(self._base)
            if is_merged and self._adapter is not None:
                gguf = conversion.merged_file(self._base, self._adapter)
        return BatchChild(
            commands.Open(
                engine=self.place.engine,
                base=self._base.folder,
                manifest_sha256=self._base.manifest_sha256,
                cache_dir=settings.get().cache_dir,
                gguf=gguf,
                adapters=[self._adapter.folder] if self._adapter is not None else [],
                device="cpu" if self.place.physical is None else "cuda:0",  # it is shown one alone
                num_threads=_num_threads() if self.place.physical is None else 1,
                num_slots=self._num_slots,
                context_tokens=self.context_tokens,
            ),
            physical_device=self.place.physical,
            locks=() if self._lock is None else (self._lock,),
        )

    # --- where, and with what

    def _settle(self) -> None:
        """Choose device and engine, and have its files on the disk.

        Raises:
            ChildFailed, batches.Ended: a file cannot be made.
            DeviceHeld: the GPU is not free.
            Unfinished: this machine has not the memory.
            LeaseLost, Draining: the work must not go on.
        """
        if not identity.on_cpu():
            device, physical = identity.devices()[0], identity.physical_devices()[0]
            self.place = Place("transformers", device, physical)
            self._take(physical)
            if self._fits():
                return
            self._unlock()
        self.place = ON_CPU
        if gguf_files.is_installed():
            if self._adapter is not None:
                self._is_merged = conversion.must_merge(self._adapter)
            self._require_memory()
            if self._has_files():
                return
        self.place, self._is_merged = Place("transformers", "cpu"), False
        self._require_memory()

    def _has_files(self) -> bool:
        """Have llama.cpp's forms made; a model that it does not know is asked as it is."""
        base, adapter = self._base, self._adapter
        try:
            self._make(None, conversion.base_file(base))
            if adapter is not None and self._is_merged:
                self._make(adapter, conversion.merged_file(base, adapter))
            elif adapter is not None:
                self._make(adapter, conversion.adapter_file(base, adapter))
        except ChildFailed as error:
            if error.is_passing:  # a full disk is no reason to compute four times as long
                raise
            _log.warning("evaluation.without_llama_cpp", model=base.name, reason=str(error))
            return False
        return True

    def _make(self, adapter: WantedAdapter | None, target: Path) -> None:
        batches.make_file(self._holder, self._base, adapter, target)
        if not conversion.is_made(self._base, target):
            raise ChildFailed(
                f"Preparing {self._base.label} for answering broke off, perhaps because the "
                "machine ran out of memory or disk.",
                is_passing=True,
            )

    def _fits(self) -> bool:
        free = sharing.free_bytes(self.place)
        for num_slots in _SLOTS[self.place.kind]:
            if self._needed(num_slots) <= free:
                self._num_slots = num_slots
                return True
        return False

    def _require_memory(self) -> None:
        if not self._fits():
            needed, free = self._needed(1), sharing.free_bytes(self.place)
            raise Unfinished(
                f"{self._base.label} needs about {needed / 1e9:.1f} GB of memory to answer here, "
                f"and {free / 1e9:.1f} GB are free; start it again when less is running."
            )

    def _needed(self, num_slots: int) -> int:
        engine, is_gpu = self.place.engine, self.place.physical is not None
        share = 1.0 if is_gpu else _Q8 if engine == "llama.cpp" else _FLOAT32
        needed = _SPARE_BYTES[engine] + int(self._base.size_bytes * share)
        if self._base.config:
            dtype = "float16" if is_gpu else _CACHE_DTYPE[engine]
            needed += kv_bytes(self._base.config, self.context_tokens, num_slots, dtype)
        return 2 * needed if self._is_merged else needed

    def _take(self, physical: str) -> None:
        """Take the GPU, as a trainer does.

        Raises:
            DeviceHeld: somebody else has it.
            LeaseLost, Draining: the work must not go on.
        """
        self._lock = trainer_process.open_lock(f"gpu-{physical}")
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            self._holder.check()
            if time.monotonic() > deadline:
                raise DeviceHeld
            time.sleep(0.1)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _num_threads() -> int:
    """Leave a core to pages, database and answers.

    Threads wait for one another at each layer: where one has no core, all stand still. On two
    crowded cores (2026-11-30) eight answers took 80 s with one thread, and over 200 s with two.
    """
    return max(1, this_cpu().num_cores - 1)
