"""Questions of the rows that check, answered as before the first step and by the tuned model.

Dimensions: B rows of the batch, L longest prompt.
"""

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from app.training.chat import ChatFormat
from app.training.events import Sample
from app.training.plan.shape import most_tokens
from worker.trainer import memory
from worker.trainer.data import Question
from worker.trainer.group import ALONE, Group
from worker.trainer.layers.attention import ATTENTION
from worker.trainer.model import Model
from worker.trainer.state import TrainingState

MAX_NEW_TOKENS = 64


def answer_questions(state: TrainingState) -> list[Sample]:
    """Answer a few questions; what was learned is not lost where memory runs out."""
    length = most_tokens(state.config, state.model.peft.config.to_dict())
    if state.plan.strategy == "fsdp":  # all parts are needed, and nobody may leave
        return answer(state.model, state.chat, state.data.questions, length, state.group)
    if not state.group.is_first:
        return []
    try:
        return answer(state.model, state.chat, state.data.questions, length)
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
    state.note(
        "warn",
        "The questions to show were not answered: memory ran out. What was learned is whole.",
    )
    return []


@torch.no_grad()
def answer(
    model: Model,
    chat: ChatFormat,
    questions: Sequence[Question],
    max_length_tokens: int,
    group: Group = ALONE,
) -> list[Sample]:
    """Answer each question twice, word by word the likeliest: as before the first step, and now.

    Processes that each hold a part of the model do it together, as a group.
    """
    if not questions:
        return []
    prompts = [chat.encode_prompt(q.prompt, q.tools)[-max_length_tokens:] for q in questions]
    num = len(questions)
    was_training = model.peft.training
    model.peft.eval()
    try:
        if model.packed:
            answers = _answer_together(model, prompts, chat.end_token_ids, group)
        else:
            with model.at_start():
                answers = [_generate_alone(model, p, chat.end_token_ids, group) for p in prompts]
            answers += [_generate_alone(model, p, chat.end_token_ids, group) for p in prompts]
    finally:
        model.peft.train(was_training)
    return [
        Sample(
            question=question.text,
            reference=question.reference,
            # PostgreSQL's JSON takes no NUL, which a small model may well say.
            base=chat.decode(base).replace("\0", ""),
            tuned=chat.decode(tuned).replace("\0", ""),
            is_base_cut=len(base) == MAX_NEW_TOKENS,
            is_tuned_cut=len(tuned) == MAX_NEW_TOKENS,
        )
        for question, base, tuned in zip(questions, answers[:num], answers[num:], strict=True)
    ]


def _answer_together(
    model: Model, prompts: list[list[int]], ends: frozenset[int], group: Group
) -> list[list[int]]:
    """Answer without and with the adapter: a word costs one reading of the weights for all.

    Where training began with another adapter, each of the two answers all of them by itself.
    """
    config, num = model.peft.config, len(prompts)
    # No packed row is in flight here. Only the plain code caps attention's scores.
    capped = getattr(config, "attn_logit_softcapping", None)
    config._attn_implementation = "eager" if capped else "sdpa"
    try:
        if model.start is not None:
            with model.at_start():
                before = _generate(model, prompts, ends, group)
            return before + _generate(model, prompts, ends, group)
        mask_B = torch.tensor([0.0] * num + [1.0] * num, device=model.device)
        model.adapter_rows.mask_B11 = mask_B.to(model.head.weight.dtype)[:, None, None]
        return _generate(model, prompts * 2, ends, group)
    finally:
        model.adapter_rows.mask_B11 = None
        config._attn_implementation = ATTENTION


def _generate_alone(
    model: Model, prompt: list[int], ends: frozenset[int], group: Group
) -> list[int]:
    """Answer one question by reading all of it anew for each word, which any model can do."""
    answer: list[int] = []
    while len(answer) < MAX_NEW_TOKENS:
        token_ids_BL = torch.tensor([prompt + answer], device=model.device)
        token_id = int(group.same(model.scores(token_ids_BL)[0, -1].argmax()))
        if token_id in ends:
            break
        answer.append(token_id)
    return answer


def _generate(
    model: Model, prompts: list[list[int]], ends: frozenset[int], group: Group
) -> list[list[int]]:
    longest = max(map(len, prompts))
    device = model.device
    # Padded on the left, so that all rows answer at the same position.
    token_ids_BL = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=device)
    mask_BL = torch.tensor(
        [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device
    )
    answers: list[list[int]] = [[] for _ in prompts]
    is_over = [False] * len(prompts)
    cache = DynamicCache(config=model.peft.config)
    for _ in range(MAX_NEW_TOKENS):
        positions = (mask_BL.cumsum(1) - 1).clamp(min=0)[:, -token_ids_BL.shape[1] :]
        output = model.decoder(
            input_ids=token_ids_BL,
            attention_mask=mask_BL,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        best_B = group.same(model.head(output.last_hidden_state[:, -1]).argmax(dim=1))
        for row, token_id in enumerate(best_B.tolist()):
            is_over[row] = is_over[row] or token_id in ends
            if not is_over[row]:
                answers[row].append(token_id)
        if all(is_over):
            break
        token_ids_BL = best_B[:, None]
        mask_BL = torch.cat([mask_BL, mask_BL.new_ones(len(prompts), 1)], dim=1)
    return answers
