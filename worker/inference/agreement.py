"""Whether llama.cpp finds a model's words as likely as the reference does.

The reference is transformers in float32 on the registry's weights; an adapter is PEFT's own there.
A q and a k whose rows were not turned, or a wrong angle, still speak fluently: only numbers tell.

Dimensions: R positions, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.inference.engine import READ_TOKENS, Chunk, Engine
from worker.inference.gguf_files import Agreement, Form

NUM_ANSWER_TOKENS = 32
_REASONS = ("in one sentence", "to a child", "as a list", "with an example", "in formal words")
_QUESTIONS = (
    *("Explain why the sky is blue", "Say how to make tea"),
    *("Describe what a nurse does", "Tell what a contract is"),
)
# Twenty of them; which is no matter, as long as a model has something to say.
PROMPTS = tuple(f"{question} {how}." for question in _QUESTIONS for how in _REASONS)


@dataclass(frozen=True)
class Answer:
    """A prompt with an answer, and what the reference finds of each of the answer's tokens."""

    prompt_ids: list[int]
    answer_ids: list[int]
    likeliest: list[int]  # in its place
    logprobs: list[float]


def reference_answers(
    model: Any, prompts: Sequence[Sequence[int]], num_tokens: int = NUM_ANSWER_TOKENS
) -> list[Answer]:
    """Let transformers' model answer prompts with its likeliest words, and keep its numbers.

    Args:
        model: In float32, on the CPU.
        prompts: Token ids.
        num_tokens: How long an answer is; what a model would end earlier goes on.
    """
    import torch

    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(ids)) + list(ids) for ids in prompts])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    with torch.inference_mode():
        said = model.generate(
            input_ids=padded,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            pad_token_id=0,
        )[:, longest:].tolist()
    return [judged(model, ids, answer) for ids, answer in zip(prompts, said, strict=True)]


def judged(model: Any, prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> Answer:
    """Return what transformers' model finds of an answer, read alone."""
    import torch

    ids = torch.tensor([[*prompt_ids, *answer_ids]])
    with torch.inference_mode():
        logits_RV = model(input_ids=ids).logits[0, len(prompt_ids) - 1 : -1].float()
        logprobs_RV = logits_RV.log_softmax(-1)
    likeliest, logprobs = _of(logprobs_RV.numpy(), answer_ids)
    return Answer(list(prompt_ids), list(answer_ids), likeliest, logprobs)


def compare(
    engine: Engine, answers: Sequence[Answer], form: Form, adapter: str | None = None
) -> Agreement:
    """Hold an engine's numbers against the reference's, in the engine's first slot."""
    num_positions = num_same = 0
    loss = reference_loss = 0.0
    for answer in answers:
        scores_RV = _scores(engine, answer, adapter)
        highest_R1 = scores_RV.max(-1, keepdims=True)
        logprobs_RV = scores_RV - highest_R1
        logprobs_RV -= np.log(np.exp(logprobs_RV).sum(-1, keepdims=True))
        likeliest, logprobs = _of(logprobs_RV, answer.answer_ids)
        num_positions += len(likeliest)
        num_same += sum(a == b for a, b in zip(likeliest, answer.likeliest, strict=True))
        loss -= sum(logprobs)
        reference_loss -= sum(answer.logprobs)
    return Agreement(
        form=form,
        is_checked=True,
        num_positions=num_positions,
        same_share=num_same / num_positions,
        loss_difference=(loss - reference_loss) / num_positions,
    )


def _scores(engine: Engine, answer: Answer, adapter: str | None) -> NDArray[np.float32]:
    """Read a prompt with its answer as the generation does, and return the answer's scores."""
    ids = [*answer.prompt_ids, *answer.answer_ids][:-1]
    pieces = []
    for start in range(0, len(ids), READ_TOKENS):
        chunk = Chunk(0, start, ids[start : start + READ_TOKENS], adapter, all_scores=True)
        pieces.append(engine.forward([chunk])[0].copy())
    return np.concatenate(pieces)[len(answer.prompt_ids) - 1 :]


def _of(
    logprobs_RV: NDArray[np.float32], answer_ids: Sequence[int]
) -> tuple[list[int], list[float]]:
    chosen_R = logprobs_RV[np.arange(len(answer_ids)), np.asarray(answer_ids)]
    return logprobs_RV.argmax(-1).tolist(), chosen_R.tolist()
