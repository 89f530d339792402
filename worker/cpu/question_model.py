"""The model that makes up questions: with which engine, in how much memory, and what it is asked.

It speaks by `python -m worker.inference`, in a child of its own. The shared one of `etude answer`
is given slots and neighbours as they come; here the same batch is to bring the same words
(docs/decisions/0022), so nothing depends on this machine's memory or on who else asks.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import structlog

from app.adapters import answering
from app.adapters.answering import WantedBase
from app.core import settings
from app.core.child import Child
from app.core.errors import Conflict
from app.core.models import BaseModel
from app.training.answers import AnswerRequest, Event, Limits, Piece, Refused
from app.training.plan.machine import free_memory
from app.training.plan.shape import context_tokens
from worker.answering import batches, conversion
from worker.answering.batches import BatchChild, Ended
from worker.answering.child import ChildFailed
from worker.inference import commands, gguf_files
from worker.inference.slots import kv_bytes
from worker.leased import LeaseHolder, Unfinished

_log = structlog.get_logger()

_NUM_SLOTS = 8
# The longest prompt there can be, with what is said to it: four hundred signs of three tokens each.
_CONTEXT_TOKENS = 2048
# Enough to say it in different ways, not enough to lose the thread.
_TEMPERATURE, _TOP_P = 0.7, 0.9
_SEEDS_APART = 1000
_QUESTION_MARKS = ["?", "？", "؟"]

# Of what a model takes in 16 bits: 8 and a scale for each 32 weights, or 32 bits.
_WEIGHTS_SHARE = {"llama.cpp": 17 / 32, "transformers": 2}
_CACHE_DTYPE = {"llama.cpp": "float16", "transformers": "float32"}
# Beside weights and caches: the interpreter and its libraries, and what is computed on the way.
_SPARE_BYTES = {"llama.cpp": 500 * 1024**2, "transformers": 1500 * 1024**2}


class Batch(NamedTuple):
    """What is asked side by side, and the seed of what is said."""

    seed: int
    conversations: list[list[dict[str, str]]]


class Writer:
    """A child that says words, from `with` to the end of it.

    Args:
        opening: What `prepare` returned.
        num_tries: How often it goes on from each conversation.
        max_new_tokens: How long it may go on.
    """

    def __init__(self, opening: commands.Open, num_tries: int, max_new_tokens: int) -> None:
        self._opening, self._num_tries = opening, num_tries
        self._limits = Limits(
            max_new_tokens=max_new_tokens,
            temperature=_TEMPERATURE,
            top_p=_TOP_P,
            stop=_QUESTION_MARKS,
            keeps_stop=True,
        )
        self._batches = BatchChild(opening)

    @property
    def child(self) -> Child:
        return self._batches.child

    def __enter__(self) -> "Writer":
        self._batches.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._batches.__exit__()

    def say(self, asked: Iterable[Batch]) -> Iterator[list[list[str]]]:
        """Go on from one batch after the other, and yield what was said to each conversation.

        Raises:
            Unfinished: it cannot.
        """
        # Only llama.cpp computes the same whatever was read before, and beside whom.
        afresh = self._opening.engine == "transformers"
        try:
            self._batches.open()
            for batch in asked:
                said = [[""] * self._num_tries for _ in batch.conversations]
                for number, event in self._batches.ask(self._asked(batch), afresh=afresh):
                    _note(said[number], event)
                yield said
        except ChildFailed as error:
            raise Unfinished(f"{error} You can also choose another model.") from None
        except Ended as error:
            if error.is_late:
                raise Unfinished(
                    "Making up questions took longer than a day and was stopped."
                ) from None
            raise _broke_off(error.code) from None

    def _asked(self, batch: Batch) -> list[commands.Ask]:
        return [
            commands.Ask(
                id=number,
                adapter=None,
                request=AnswerRequest(
                    base_model_id=0,  # there is one alone
                    account="questions",
                    messages=messages,
                    num_answers=self._num_tries,
                    limits=self._limits.model_copy(
                        update={"seed": batch.seed * _SEEDS_APART + number}
                    ),
                ),
            )
            for number, messages in enumerate(batch.conversations)
        ]


def prepare(holder: LeaseHolder, model: BaseModel) -> commands.Open:
    """Choose the engine, and have its file on the disk: llama.cpp's is made at first use.

    A model that llama.cpp does not know, or to which it gives other words, is asked as it is.

    Raises:
        Unfinished: it does not fit into this machine's memory, or its files cannot be used.
        LeaseLost, Draining: the work must not go on.
    """
    try:
        base = answering.wanted_base(model)
    except Conflict as error:
        raise Unfinished(error.message) from None
    if gguf_files.is_installed():
        _require_memory(base, "llama.cpp")
        if _has_gguf(holder, base):
            return _opening(base, "llama.cpp")
    _require_memory(base, "transformers")
    return _opening(base, "transformers")


def _has_gguf(holder: LeaseHolder, base: WantedBase) -> bool:
    """Say whether llama.cpp has a form of a model that is as good; at first use it is made."""
    target = conversion.base_file(base)
    try:
        batches.make_file(holder, base, None, target)
        return conversion.is_made(base, target)
    except Ended as error:
        raise _broke_off(error.code) from None
    except ChildFailed as error:
        _log.warning("question_model.without_llama_cpp", model=base.name, reason=str(error))
        return False


def _opening(base: WantedBase, engine: commands.EngineName) -> commands.Open:
    return commands.Open(
        engine=engine,
        base=base.folder,
        manifest_sha256=base.manifest_sha256,
        cache_dir=settings.get().cache_dir,
        gguf=conversion.base_file(base) if engine == "llama.cpp" else None,
        num_slots=_NUM_SLOTS,
        context_tokens=_context_tokens(base),
    )


def _context_tokens(base: WantedBase) -> int:
    return min(_CONTEXT_TOKENS, context_tokens(base.config) or _CONTEXT_TOKENS)


def _require_memory(base: WantedBase, engine: commands.EngineName) -> None:
    """Raises: Unfinished: this machine has not the memory for a model just now."""
    dtype = _CACHE_DTYPE[engine]
    needed = _SPARE_BYTES[engine] + int(base.size_bytes * _WEIGHTS_SHARE[engine])
    if base.config:
        needed += kv_bytes(base.config, _context_tokens(base), _NUM_SLOTS, dtype)
    free = free_memory()
    if free < needed:
        raise Unfinished(
            f"{base.label} needs about {needed / 1e9:.1f} GB of memory here, and "
            f"{free / 1e9:.1f} GB are free; choose a smaller model, or try again when no "
            "job is running."
        )


def _note(tries: list[str], event: Event) -> None:
    """Take an event of one conversation.

    Raises:
        Unfinished: the model cannot answer it.
    """
    match event:
        case Piece(index=index, text=text):
            tries[index] += text
        case Refused(code="context_length_exceeded"):
            pass  # its words nobody can ask about: nothing was said
        case Refused(message=message):
            raise Unfinished(
                f"This model cannot be used ({message.removesuffix('.')}); choose another one, or "
                "ask your administrator to import it again."
            )


def _broke_off(code: int) -> Unfinished:
    return Unfinished(
        f"Making up questions broke off (code {code}), perhaps because the machine "
        "ran out of memory; choose a smaller model, or try again when no job is running."
    )
