"""What transformers and PEFT find of given words. Nothing of Etude is imported here.

    python worker/exporting/plain.py < request.json

so that it runs as it stands where Etude was never installed, also beside transformers 4.57. The
request: {"model": a folder, "adapter": a folder or null, "rows": [[token id, …], …], "starts":
[first judged position, …], "texts": [text, …], "question": a question}. The answer, one JSON line:
{"scores": [[likeliest, logprobs], …], "tokens": …} (see `scores` and `tokens`). Where the request
has "num_said", also {"said": [[token id, …], …]}: what follows each row's question (see `go_on`).

Everything is computed in float32. Of a large model the weights stay in the 16 bits of their files,
and each layer's are widened as it is reached: it needs no more memory than its files and a layer. A
small one is widened once, which is several times faster where a token is said after the other.

Dimensions: B rows, T tokens, N judged positions, D hidden, V vocabulary.
"""

import json
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_HALVES = (torch.bfloat16, torch.float16)
# What goes through a model at once: its tokens, padded, and its scores.
_BATCH_TOKENS, _BATCH_SCORES = 2048, 2**25
_HEAD_ROWS = 32768
# A model that takes no more than this in 32 bits is kept so.
SMALL_BYTES = 2**30
# After so many words who is done leaves the batch.
_ROUND_TOKENS = 8
# What is kept of all that was read, for the rows that are gone on with side by side.
CACHE_BYTES = 2**29


def load(
    model_folder: str, adapter_folder: str | None = None, small_bytes: int = SMALL_BYTES
) -> Any:
    """Load a model, and an adapter on top, as anybody would."""
    from transformers import AutoModelForCausalLM

    size = sum(path.stat().st_size for path in Path(model_folder).glob("*.safetensors"))
    model: Any = AutoModelForCausalLM.from_pretrained(
        model_folder,
        dtype=torch.float32 if 2 * size <= small_bytes else "auto",
        attn_implementation="eager",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    if adapter_folder is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter_folder, local_files_only=True)
    return _in_float32(model.eval())


def scores(
    model: Any, rows: Sequence[Sequence[int]], starts: Sequence[int]
) -> list[tuple[list[int], list[float]]]:
    """Read each row alone, and say what the model finds of its tokens from a position on.

    Args:
        model: As `load` returns it.
        rows: Token ids.
        starts: Of each row the first position that is judged, at least 1.

    Returns:
        Of each row, for each judged position: the likeliest token there, and the log-probability
        (nats) of the token that stands there.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]
    found: dict[int, tuple[list[int], list[float]]] = {}
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    while order:
        batch = [order.pop()]  # the longest that is left says how wide the batch is
        width, num_scored = len(rows[batch[0]]), len(rows[batch[0]]) - starts[batch[0]]
        while order and (len(batch) + 1) * width <= _BATCH_TOKENS:
            more = len(rows[order[-1]]) - starts[order[-1]]
            if (num_scored + more) * vocabulary > _BATCH_SCORES:
                break
            batch.append(order.pop())
            num_scored += more
        for index, one in zip(batch, _batch_scores(model, rows, starts, batch), strict=True):
            found[index] = one
    return [found[index] for index in range(len(rows))]


def go_on(
    model: Any,
    rows: Sequence[Sequence[int]],
    ends: Collection[int],
    num_tokens: int,
    tell: Callable[[float], object] = lambda _: None,
    cache_bytes: int = CACHE_BYTES,
) -> list[list[int]]:
    """Let a model say its likeliest words after each row.

    Args:
        model: As `load` returns it.
        rows: Token ids.
        ends: Ids at which it is done.
        num_tokens: How many it says at most.
        tell: Hears how far it is, from 0 to 1.
        cache_bytes: What may be kept of what was read; rows that are too many take turns.

    Returns:
        Of each row what was said, up to an end and with it.
    """
    from transformers import GenerationConfig, StoppingCriteriaList

    batches = _side_by_side(model, rows, num_tokens, cache_bytes)
    num_done = num_said = 0
    found: dict[int, list[int]] = {}

    def hear(ids_BT: Tensor, _: Any, **__: Any) -> Tensor:
        nonlocal num_said
        num_said += 1
        tell((num_done + min(1, num_said / num_tokens)) / len(batches))
        return torch.zeros(len(ids_BT), dtype=torch.bool)

    for batch in batches:
        num_said = 0
        width = max(len(rows[index]) for index in batch)
        lacking = [width - len(rows[index]) for index in batch]
        ids_BT = torch.tensor(
            [[0] * few + list(rows[index]) for few, index in zip(lacking, batch, strict=True)]
        )
        seen_BT = torch.tensor([[0] * few + [1] * (width - few) for few in lacking])
        left, cache = list(batch), None
        while left:
            # Else a model's own wishes would mix in, e.g. that it should not repeat itself.
            model.generation_config = GenerationConfig(
                do_sample=False,
                max_new_tokens=min(_ROUND_TOKENS, num_tokens + width - ids_BT.shape[1]),
                eos_token_id=sorted(ends) or None,
                pad_token_id=0,
            )
            with torch.inference_mode():
                said = model.generate(
                    input_ids=ids_BT,
                    attention_mask=seen_BT,
                    past_key_values=cache,
                    stopping_criteria=StoppingCriteriaList([hear]),
                    return_dict_in_generate=True,
                )
            going = []
            for place, ids in enumerate(said.sequences[:, width:].tolist()):
                end = next((at + 1 for at, token in enumerate(ids) if token in ends), 0)
                found[left[place]] = ids[: end or len(ids)]
                if not end and len(ids) < num_tokens:
                    going.append(place)
            # Who is done makes room: most answers are short, and the longest one holds up all.
            kept = torch.tensor(going, dtype=torch.long)
            left = [left[place] for place in going]
            ids_BT = said.sequences[kept]
            seen_BT = nn.functional.pad(
                seen_BT[kept], (0, ids_BT.shape[1] - seen_BT.shape[1]), value=1
            )
            cache = said.past_key_values
            if hasattr(cache, "batch_select_indices"):
                cache.batch_select_indices(kept)
            else:  # read anew
                cache = None
        num_done += 1
    return [found[index] for index in range(len(rows))]


def end_ids(folder: str) -> list[int]:
    """Say at which ids an answer is over, by a folder's settings."""
    from transformers import GenerationConfig

    said = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    return [said] if isinstance(said, int) else list(said or [])


def tokens(folder: str, texts: Sequence[str], question: str) -> dict[str, Any]:
    """Say how a folder's tokenizer and settings are understood.

    Returns:
        {"ids": token ids of each text, "asked": those of a question in the chat template,
        "template": the chat template, "ends": ids that end an answer, "bos": the id that begins a
        text, or None}
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    asked: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=True
    )
    return {
        "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
        "asked": list(asked if isinstance(asked, list) else asked["input_ids"]),
        "template": tokenizer.chat_template,
        "ends": end_ids(folder),
        "bos": tokenizer.bos_token_id,
    }


def _batch_scores(
    model: Any, rows: Sequence[Sequence[int]], starts: Sequence[int], batch: list[int]
) -> list[tuple[list[int], list[float]]]:
    width = max(len(rows[index]) for index in batch)
    # Padded behind their end, where no judged position looks.
    ids_BT = torch.tensor([[*rows[i], *([0] * (width - len(rows[i])))] for i in batch])
    places = [(b, t) for b, i in enumerate(batch) for t in range(starts[i] - 1, len(rows[i]) - 1)]
    wanted_N = torch.tensor([token for i in batch for token in rows[i][starts[i] :]])
    b_N, t_N = (torch.tensor(each) for each in zip(*places, strict=True))

    def gather(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:  # noqa: ARG001
        return (given[0][b_N, t_N][None],)

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(gather)
    try:
        with torch.inference_mode():
            logits_NV = model(input_ids=ids_BT, use_cache=False).logits[0].float()
            likeliest_N = logits_NV.argmax(-1)
            chosen_N = logits_NV.gather(-1, wanted_N[:, None])[:, 0]
            logprobs_N = chosen_N - logits_NV.logsumexp(-1)
    finally:
        hook.remove()
    sizes = [len(rows[index]) - starts[index] for index in batch]
    return [
        (ids.tolist(), values.tolist())
        for ids, values in zip(likeliest_N.split(sizes), logprobs_N.split(sizes), strict=True)
    ]


def _side_by_side(
    model: Any, rows: Sequence[Sequence[int]], num_tokens: int, cache_bytes: int
) -> list[list[int]]:
    """Sort rows into batches whose memory of what was read is not too large."""
    config = model.config
    num_heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    num_kept = getattr(config, "num_key_value_heads", None) or num_heads
    token_bytes = 2 * 4 * config.num_hidden_layers * num_kept * size
    batches: list[list[int]] = []
    width = 0
    for index in sorted(range(len(rows)), key=lambda index: -len(rows[index])):
        if not batches or (len(batches[-1]) + 1) * width * token_bytes > cache_bytes:
            batches.append([])
            width = len(rows[index]) + num_tokens
        batches[-1].append(index)
    return batches


def _in_float32(model: Any) -> Any:
    """Have each layer of a model compute in float32, whatever its weights are kept in."""
    head = model.get_output_embeddings()
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if p.dtype in _HALVES]
        if not own:
            continue
        if module is head and type(module) is nn.Linear:
            module.forward = _wide_head(module)  # type: ignore[method-assign,assignment]
        elif isinstance(module, nn.Embedding):
            _widen_rows(module)
        else:
            _widen(module, own)
    return model


def _widen(module: nn.Module, own: list[nn.Parameter]) -> None:
    kept: list[Tensor] = []

    def before(*_: Any) -> None:
        for parameter in own:
            kept.append(parameter.data)
            parameter.data = parameter.data.float()

    def after(*_: Any) -> None:
        for parameter, narrow in zip(own, kept, strict=True):
            parameter.data = narrow
        kept.clear()

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)


def _widen_rows(module: nn.Embedding) -> None:
    """Widen of an embedding only the rows that are looked up; others may be as many as a model."""
    kept: list[Tensor] = []
    module.padding_idx = None  # it only changes gradients
    scale = getattr(module, "scalar_embed_scale", None)
    if scale is not None:  # Gemma 3's, which was rounded as the weights are
        module.embed_scale = torch.tensor(scale)

    def before(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        used, places = given[0].unique(return_inverse=True)
        kept.append(module.weight.data)
        module.weight.data = module.weight.data[used].float()
        return (places, *given[1:])

    def after(*_: Any) -> None:
        module.weight.data = kept.pop()

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)


def _wide_head(head: nn.Linear) -> Callable[[Tensor], Tensor]:
    """Return a forward pass that widens a part of the vocabulary after the other."""

    def forward(hidden: Tensor) -> Tensor:
        parts = [
            nn.functional.linear(hidden, rows.float()) for rows in head.weight.split(_HEAD_ROWS)
        ]
        logits = torch.cat(parts, -1)
        return logits if head.bias is None else logits + head.bias.float()

    return forward


def main() -> None:
    asked = json.load(sys.stdin)
    model = load(asked["model"], asked.get("adapter"))
    folder = asked.get("adapter") or asked["model"]
    answer: dict[str, Any] = {
        "scores": scores(model, asked["rows"], asked["starts"]),
        "tokens": tokens(folder, asked["texts"], asked["question"]),
    }
    if "num_said" in asked:
        cut = zip(asked["rows"], asked["starts"], strict=True)
        questions = [row[:start] for row, start in cut]
        answer["said"] = go_on(model, questions, end_ids(folder), asked["num_said"])
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
