"""What to do when memory runs out, and how much of it a job takes."""

import gc
import re
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from app.training.chat import Encoded
from app.training.plan.machine import this_cpu
from worker.trainer import failures, model, optimizers
from worker.trainer.group import StartAgain
from worker.trainer.state import TrainingState

_SMALLEST_MICRO_BATCH = 64
# Of torch on the CPU, of C++, and of oneDNN, which multiplies in bfloat16 and has no clearer words.
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|bad_alloc|"
    r"could not (create a primitive(?! descriptor)|create a memory object|execute a primitive)"
)
_T = TypeVar("_T")
RandomState = tuple[Tensor, Tensor | None]  # of the CPU, and of the job's GPU


def within(state: TrainingState, examples: Sequence[Encoded], operation: Callable[[], _T]) -> _T:
    """Do something from where gradients are empty; where memory runs out, again with less.

    Args:
        state: Its progress tells afterwards with how little memory it worked.
        examples: That the operation works on.
        operation: Leaves nothing but gradients behind when it fails.

    Raises:
        Failure: even the least is too much.
        StartAgain: the processes of a split model have to begin anew.
    """
    random = random_state(state.model.device)
    while True:
        ran_out = False
        try:
            result = operation()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            ran_out = True
        # Outside the except block, whose exception holds on to the tensors.
        is_split = state.plan.strategy == "fsdp"  # then the others wait within a layer
        if not (ran_out and is_split) and not state.group.any(ran_out):
            return result
        state.optimizer.zero_grad()
        use_less(state, max(len(example.token_ids) for example in examples))
        if is_split:
            now = state.progress
            raise StartAgain(now.micro_batch_tokens, now.checkpointing, now.optimizer)
        set_random_state(state.model.device, random)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        _OUT_OF_MEMORY.search(str(error)) is not None
    )


def use_less(state: TrainingState, longest: int) -> None:
    """Take the next measure that saves memory and leaves what is learned the same.

    Args:
        state: Whose progress and optimizer change.
        longest: Tokens of the longest example, which stays in one piece.

    Raises:
        Failure: there is none left.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if state.limit_anew is not None:
        state.limit_anew()
    progress = state.progress
    if progress.micro_batch_tokens // 2 >= max(longest, _SMALLEST_MICRO_BATCH):
        progress.micro_batch_tokens //= 2
        message = (
            "Memory ran out: from here on "
            f"{progress.micro_batch_tokens} tokens at once instead of twice as many. "
            "What is learned stays the same."
        )
    elif progress.micro_batch_tokens > _SMALLEST_MICRO_BATCH and not progress.checkpointing:
        progress.micro_batch_tokens = _SMALLEST_MICRO_BATCH
        message = "Memory ran out: from here on one example at a time."
    elif not progress.checkpointing:
        progress.checkpointing = True
        model.enable_checkpointing(state.model.peft.get_base_model())
        message = "Memory ran out: intermediate results are computed twice from here on."
    elif state.model.device.type == "cuda" and "paged" not in progress.optimizer:
        progress.optimizer, state.optimizer = optimizers.paged(
            state.optimizer, progress.optimizer, state.config.weight_decay
        )
        message = (
            "Memory ran out: from here on the optimizer's memory moves out of the GPU where "
            "something else needs the room."
        )
    else:
        raise failures.out_of_memory()
    state.note("warn", message)


@contextmanager
def limited(state: TrainingState, free_bytes: int | None) -> Iterator[None]:
    """Have torch raise on the CPU where the kernel, which promises too much, would kill later.

    Args:
        state: The job; one on a GPU needs no limit.
        free_bytes: What may be taken; None is what the system has.
    """
    if state.model.device.type != "cpu":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    uses_mkldnn = torch.backends.mkldnn.enabled

    def limit() -> None:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        used = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmData")) * 1024
        free = this_cpu().free_bytes if free_bytes is None else free_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (used + free, before[1]))

    limit()
    # What a failed try has freed stays in the heap, where only torch's tensors find it again;
    # oneDNN maps memory of its own.
    state.limit_anew = limit
    try:
        yield
    finally:
        state.limit_anew = None
        torch.backends.mkldnn.enabled = uses_mkldnn  # torch gives it up for good where it fails
        resource.setrlimit(resource.RLIMIT_DATA, before)


def random_state(device: torch.device) -> RandomState:
    """Return where the random numbers of the CPU and of the job's GPU stand."""
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def set_random_state(device: torch.device, random: RandomState) -> None:
    """Put back what `random_state` returned."""
    torch.set_rng_state(random[0])
    if random[1] is not None:
        torch.cuda.set_rng_state(random[1], device)


def peak_bytes(device: torch.device) -> int:
    """Return the most memory in use so far: the GPU's, or this process's own."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
