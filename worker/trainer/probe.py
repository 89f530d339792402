"""Before the first step: do the longest examples fit into memory?"""

from app.training.chat import Encoded
from worker.trainer import failures, loop, memory, optimizers
from worker.trainer.state import TrainingState


def probe(state: TrainingState, steps: int = 2, free_bytes: int | None = None) -> None:
    """Do real steps on the longest examples: memory runs out now or not at all.

    A micro-batch filled with them takes as much as any. The rate is 0 and everything is put back,
    so that training goes on as if nothing had been.

    Args:
        state: At its start; a checkpoint is put in place afterwards.
        steps: In the second, all that lasts is there.
        free_bytes: What may be taken on a CPU; what the system has, unless given.

    Raises:
        Failure: on a GPU, not even the least fits.
    """
    state.enter("probing", "Trying the longest examples.")
    examples = _longest(state)
    device = state.model.device
    random = memory.random_state(device)
    with memory.limited(state, free_bytes):
        try:
            for _ in range(steps):
                loop.update(state, examples, rate=0.0)
        except failures.Failure:
            # On a CPU the limit is on what is promised, and a job may do with less than that.
            if device.type == "cuda":
                raise
    state.optimizer.zero_grad()
    optimizers.reset(state.optimizer)
    state.pairs.clear()
    memory.set_random_state(device, random)


def _longest(state: TrainingState) -> list[Encoded]:
    """Take as many of the longest examples as fill a micro-batch of each process."""
    wanted = state.progress.micro_batch_tokens * state.group.size
    chosen: list[Encoded] = []
    tokens = 0
    for example in sorted(state.data.train, key=lambda e: -len(e.token_ids)):
        if tokens >= wanted:
            break
        chosen.append(example)
        tokens += len(example.token_ids)
    return chosen
