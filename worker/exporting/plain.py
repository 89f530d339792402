"""What transformers and PEFT find of given words. Nothing of Etude is imported here.

    python worker/exporting/plain.py < request.json

so that it runs as it stands where Etude was never installed, also beside transformers 4.57. The
request: {"model": a folder, "adapter": a folder or null, "rows": [[token id, …], …], "starts":
[first judged position, …], "texts": [text, …], "question": a question}. The answer, one JSON line:
{"scores": [[likeliest, logprobs], …], "tokens": …} (see `scores` and `tokens`).

Weights stay in the 16 bits of their files, and everything is computed in float32: each layer's
weights are widened as it is reached. So a model needs no more memory than its files and a layer.

Dimensions: B rows, T tokens, N judged positions, D hidden, V vocabulary.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_HALVES = (torch.bfloat16, torch.float16)
# What goes through a model at once: its tokens, padded, and its scores.
_BATCH_TOKENS, _BATCH_SCORES = 2048, 2**25
_HEAD_ROWS = 32768


def load(model_folder: str, adapter_folder: str | None = None) -> Any:
    """Load a model, and an adapter on top, as anybody would."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        model_folder,
        dtype="auto",
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


def tokens(folder: str, texts: Sequence[str], question: str) -> dict[str, Any]:
    """Say how a folder's tokenizer and settings are understood.

    Returns:
        {"ids": token ids of each text, "asked": those of a question in the chat template,
        "template": the chat template, "ends": ids that end an answer, "bos": the id that begins a
        text, or None}
    """
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    asked: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=True
    )
    ends = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    return {
        "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
        "asked": list(asked if isinstance(asked, list) else asked["input_ids"]),
        "template": tokenizer.chat_template,
        "ends": [ends] if isinstance(ends, int) else list(ends or []),
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
    answer = {
        "scores": scores(model, asked["rows"], asked["starts"]),
        "tokens": tokens(asked.get("adapter") or asked["model"], asked["texts"], asked["question"]),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
