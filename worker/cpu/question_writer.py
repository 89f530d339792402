"""`python -m worker.cpu.question_writer`: a starting model goes on from some prompts, on the CPU.

The child of worker/cpu/questions.py, and beside the import the only one outside the trainer that
loads torch. It reads a WriterRequest from standard input, one JSON line, and writes {"said":
[[text, …], …]} for each batch in its order, or {"error": "a sentence"}. Standard input staying open
is its licence to live. It has no network, no credentials and no GPU, and a low priority: beside a
training job it takes little of what that has.

Dimensions: B prompts, R = B times the tries, L longest prompt, V vocabulary.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from app.training import isolation, manifests
from app.training.chat import ChatError, ChatFormat
from worker.cpu.model_conversion import die_with_parent

# Enough to say it in different ways, not enough to lose the thread.
_TEMPERATURE, _TOP_P = 0.7, 0.9
_QUESTION_MARKS = ("?", "？", "؟")


class Batch(BaseModel):
    """Prompts that the model goes on from side by side, and the seed of what it says."""

    seed: int
    prompts: list[str]


class WriterRequest(BaseModel):
    """With which model to go on from what."""

    model: Path
    manifest_sha256: str
    dtype: str  # torch's name for it
    before: list[dict[str, str]]  # the conversation that each prompt goes on
    batches: list[Batch]
    num_tries: int
    max_new_tokens: int


def main() -> None:
    line = sys.stdin.readline()
    isolation.leave_network()  # before the first thread
    os.nice(10)
    threading.Thread(target=die_with_parent, daemon=True).start()
    request = WriterRequest.model_validate_json(line)
    try:
        _verify(request)
        chat = ChatFormat.load(request.model)
        model = load(request.model, request.dtype)
        for batch in request.batches:
            said = say(
                model, chat, request.before, batch, request.num_tries, request.max_new_tokens
            )
            _tell(said=said)
    except MemoryError:
        _tell(error="This machine has too little memory for this model; choose a smaller one.")
    except (ValueError, OSError, ChatError) as error:
        _tell(
            error=f"This model cannot be used ({str(error).splitlines()[0]}); choose another one, "
            "or ask your administrator to import it again."
        )


def load(folder: Path, dtype: str) -> Any:
    """Load a model's verified files, to go on from prompts with."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # Only the plain code caps attention's scores.
    capped = getattr(config, "attn_logit_softcapping", None)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        attn_implementation="eager" if capped else "sdpa",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    return model.eval()


def say(
    model: Any,
    chat: ChatFormat,
    before: list[dict[str, str]],
    batch: Batch,
    num_tries: int,
    max_new_tokens: int,
) -> list[list[str]]:
    """Let a model go on from each prompt some times, up to its first question mark.

    The same batch brings the same words. A prompt is read once, whatever the number of tries.
    """
    import torch
    from transformers import DynamicCache

    encoded = [
        chat.encode_prompt([*before, {"role": "user", "content": prompt}])
        for prompt in batch.prompts
    ]
    longest = max(map(len, encoded))
    # Padded on the left, so that all rows go on at the same place.
    token_ids_BL = torch.tensor([[0] * (longest - len(ids)) + ids for ids in encoded])
    mask_BL = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in encoded])
    cache = DynamicCache(config=model.config)
    draw = torch.Generator().manual_seed(batch.seed)
    said: list[list[int]] = [[] for _ in range(len(encoded) * num_tries)]
    is_over = [False] * len(said)
    with torch.inference_mode():
        scores_BV = _next(model, token_ids_BL, mask_BL, cache)
        cache.batch_repeat_interleave(num_tries)
        scores_RV = scores_BV.repeat_interleave(num_tries, 0)
        mask_RL = mask_BL.repeat_interleave(num_tries, 0)
        for _ in range(max_new_tokens):
            drawn_R1 = _draw(scores_RV, draw)
            for row, token_id in enumerate(drawn_R1[:, 0].tolist()):
                is_over[row] = is_over[row] or token_id in chat.end_token_ids
                if not is_over[row]:
                    said[row].append(token_id)
                    word = chat.tokenizer.decode([token_id])
                    is_over[row] = any(mark in word for mark in _QUESTION_MARKS)
            if all(is_over):
                break
            mask_RL = torch.cat([mask_RL, mask_RL.new_ones(len(said), 1)], dim=1)
            scores_RV = _next(model, drawn_R1, mask_RL, cache)
    texts = [chat.decode(ids) for ids in said]
    return [texts[start : start + num_tries] for start in range(0, len(texts), num_tries)]


def _next(model: Any, token_ids: Any, mask: Any, cache: Any) -> Any:
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -token_ids.shape[1] :]
    output = model(
        input_ids=token_ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1].float()


def _draw(scores_RV: Any, draw: Any) -> Any:
    """Draw a word for each row among the likeliest that make up `_TOP_P` together."""
    shares_RV, ids_RV = (scores_RV / _TEMPERATURE).softmax(-1).sort(descending=True)
    # The likeliest always stays, whatever its share.
    shares_RV[(shares_RV.cumsum(-1) - shares_RV) > _TOP_P] = 0
    return ids_RV.gather(1, shares_RV.multinomial(1, generator=draw))


def _verify(request: WriterRequest) -> None:
    if manifests.verify_manifest(request.model) != request.manifest_sha256:
        raise ValueError("its files are not those that were imported")


def _tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
