"""How soon and how fast a model answers on a GPU, one chat and many; JSON last.

    python -m bench.gpu_ask [--device cuda:0] [--shape 8b] [--chats 1,32] [--results FOLDER]

A model of a Llama shape with random weights in the real engine, half of the chats with an adapter.
A step has to read all weights but the embedding that is looked up, the adapters and what the chats
hold: those bytes over the memory's bandwidth, measured in the same run, are the least that it can
take, and its `share_of_bandwidth` is how near it came. `--device cpu --shape tiny` tries the same
code where there is no GPU.
"""

import argparse
import datetime
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench import comparison
from bench.arms import shapes
from worker.inference.engine import READ_TOKENS, Chunk
from worker.inference.slot_cache import ATTENTION
from worker.inference.torch_engine import TorchEngine

_PROMPT_TOKENS = 512
_RANK = 16
_ROUNDS = 5
_ADAPTER = "tuned"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--shape", default="8b")
    parser.add_argument("--chats", default="1,32")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--results", type=Path, help="a folder for the JSON")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.chats.split(",")]
    resident = "fp32" if arguments.device == "cpu" else "bf16"
    model = shapes.random_model(arguments.shape, resident, arguments.device, ATTENTION)
    context = _PROMPT_TOKENS + arguments.tokens
    engine = TorchEngine(model.eval(), max(counts), context)
    with tempfile.TemporaryDirectory(prefix="etude-ask") as scratch:
        _write_adapter(Path(scratch), model)
        engine.add_adapter(_ADAPTER, Path(scratch))
    bandwidth = _bandwidth(engine.device)
    found = {str(count): _measure(engine, count, arguments.tokens, bandwidth) for count in counts}
    steps = engine.steps
    body = {
        "command": "python -m bench.gpu_ask",
        "kind": "ask-gpu",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine() | comparison.gpu(arguments.device),
        "torch": torch.__version__,
        "shape": arguments.shape,
        "prompt_tokens": _PROMPT_TOKENS,
        "answer_tokens": arguments.tokens,
        "bandwidth_bytes_per_second": bandwidth,
        "uses_flash_attention": engine.cache.uses_flash,
        "plays_recorded_steps": steps is not None and steps.num_played > 0,
        "peak_bytes": torch.cuda.max_memory_allocated() if resident == "bf16" else None,
        "chats": found,
        "target": {"first_token_seconds": 0.2, "share": 0.6},
    }
    if arguments.results:
        path = arguments.results / f"ask-gpu-{body['date']}.json"
        path.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(body))


def _measure(
    engine: TorchEngine, num_chats: int, num_tokens: int, bandwidth: float
) -> dict[str, float]:
    """Read a prompt in each slot, then let all go on side by side with the likeliest word."""
    adapters = [_ADAPTER if slot % 2 == 0 else None for slot in range(num_chats)]
    generator = torch.Generator().manual_seed(0)

    def read(slot: int) -> int:
        ids = torch.randint(engine.vocab_size, (_PROMPT_TOKENS,), generator=generator).tolist()
        for at in range(0, _PROMPT_TOKENS, READ_TOKENS):
            piece = ids[at : at + READ_TOKENS]
            [scores] = engine.forward([Chunk(slot, at, piece, adapters[slot])])
        return int(scores[-1].argmax())

    def answer(last: list[int], count: int) -> list[int]:
        for position in range(_PROMPT_TOKENS, _PROMPT_TOKENS + count):
            found = engine.forward(
                [Chunk(s, position, [last[s]], adapters[s]) for s in range(num_chats)]
            )
            last = [int(scores[-1].argmax()) for scores in found]
        return last

    last = [read(slot) for slot in range(num_chats)]
    answer(last, 3)  # kernels are compiled, and steps recorded
    firsts = [_seconds(lambda: read(0)) for _ in range(_ROUNDS)]
    rounds = [_seconds(lambda: answer(last, num_tokens)) for _ in range(_ROUNDS)]
    seconds = statistics.median(rounds) / num_tokens
    held = num_chats * (_PROMPT_TOKENS + num_tokens / 2)
    least = (_weight_bytes(engine) + held * _token_bytes(engine)) / bandwidth
    return {
        "first_token_seconds": statistics.median(firsts),
        "tokens_per_second": num_chats / seconds,
        "step_seconds": seconds,
        "least_step_seconds": least,
        "share_of_bandwidth": least / seconds,
    }


def _seconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()  # scores are on this side at its end
    return time.perf_counter() - began


def _bandwidth(device: torch.device) -> float:
    """Return how many bytes a second a large copy moves, reading and writing."""
    size = 2**31 if device.type == "cuda" else 2**28
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(5):
            target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize()

    copy()
    return 2 * 5 * size / min(_seconds(copy) for _ in range(_ROUNDS))


def _weight_bytes(engine: TorchEngine) -> int:
    """Count what each step reads whoever asks: weights, head and adapter."""
    model = engine.model
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tensors = [p for p in model.parameters() if p is not embedding.weight or p is head.weight]
    for part in engine.adapters.loaded[_ADAPTER].values():
        tensors += [part.a_RI, part.b_OR]
    return sum(x.numel() * x.element_size() for x in tensors)


def _token_bytes(engine: TorchEngine) -> float:
    return engine.cache.num_bytes / (engine.cache.num_slots * engine.cache.held_tokens)


def _write_adapter(folder: Path, model: Any) -> None:
    """Write an adapter on all linear layers as PEFT does."""
    from safetensors.torch import save_file
    from torch import nn

    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings():
            for letter, size in (
                ("A", (_RANK, module.in_features)),
                ("B", (module.out_features, _RANK)),
            ):
                values = 0.02 * torch.randn(size, generator=generator)
                tensors[f"base_model.model.{name}.lora_{letter}.weight"] = values
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": _RANK, "lora_alpha": _RANK, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
