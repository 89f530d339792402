"""What the planner says that a job adds to an idle trainer's memory, and what it adds, on the CPU.

`python -m bench.memory [NAME…]` measures a grid of random models, each in a process of its own, and
prints a line for each and one JSON object; the whole grid goes to bench/results and into
docs/performance.md. `python -m bench.memory '{"shape": …}'` measures one.
Memory does not depend on the weights' values, nor on what else the machine is doing.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from app.training.chat import Encoded
from app.training.config import TrainConfig, TrainerSpec
from app.training.manifests import write_manifest
from app.training.plan.choose import Plan, plan
from app.training.plan.machine import this_cpu
from app.training.plan.memory import idle_bytes
from app.training.plan.shape import Candidate, count_parameters
from bench import comparison, report
from worker.gpu.trainer_process import environment
from worker.trainer import data, job, loop, model, optimizers, runtime
from worker.trainer.checkpoint import Progress
from worker.trainer.events import EventLog
from worker.trainer.state import TrainingState

NUM_STEPS = 2


def _order(
    shape: dict[str, Any], length: int, batch_size: int, candidate: list[Any], **config: Any
) -> dict[str, Any]:
    return {
        "shape": shape,
        "length": length,
        "way": candidate,
        "config": {"batch_size": batch_size, "max_length_tokens": 8192, **config},
    }


_SMALL = {
    "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 1024,
}  # fmt: skip
_WIDE = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 6,
    "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 1024,
}  # fmt: skip
_SMOLLM2 = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    "tie_word_embeddings": True,
}  # fmt: skip
_MANY_WORDS = {"vocab_size": 128000, "tie_word_embeddings": True, "num_hidden_layers": 4}
# Each adds at least a gigabyte; the tests measure the first two, which are quick.
# candidate: weights, tokens at once, whether to compute twice.
GRID: dict[str, dict[str, Any]] = {
    "tall": _order(_SMALL | {"num_hidden_layers": 6}, 1024, 4, ["fp32", 4096, False]),
    "wide": _order(_WIDE | {"num_hidden_layers": 4}, 64, 8, ["fp32", 512, False]),
    "long": _order(_SMALL, 1024, 8, ["fp32", 8192, False]),
    "short": _order(_SMALL, 64, 128, ["fp32", 8192, False]),
    "middle": _order(_SMALL, 256, 32, ["fp32", 8192, False]),
    "twice": _order(_SMALL | {"num_hidden_layers": 24}, 1024, 8, ["fp32", 8192, True]),
    # As the planner does it: the chunk of logits depends on the vocabulary.
    "words": _order(_SMALL | _MANY_WORDS, 512, 8, ["fp32", 2048, False, "adamw", 174]),
    "packed": _order(_SMALL, 512, 8, ["nf4", 4096, False]),
    "halved": _order(_SMALL, 512, 8, ["bf16", 4096, False]),
    "rank": _order(_SMALL, 512, 8, ["fp32", 4096, False], lora_rank=128),
    "dora": _order(_SMALL, 512, 8, ["fp32", 4096, False], use_dora=True),
    "pairs": _order(_SMALL, 256, 8, ["fp32", 4096, False], objective="dpo"),
    "starter": _order(_SMOLLM2, 64, 16, ["fp32", 1024, False]),
}


def main(names: list[str]) -> None:
    """Measure the grid, or the named part of it."""
    results: dict[str, dict[str, Any]] = {}
    for name in names or GRID:
        result = results[name] = GRID[name] | measured(GRID[name])
        print(
            f"{name:8} said {result['predicted'] / 2**20:6.0f} MB, "
            f"grew by {result['measured'] / 2**20:6.0f} MB, "
            f"ratio {result['predicted'] / result['measured']:.2f}, "
            f"{result['step_milliseconds'] / 1000:.1f} s a step",
            flush=True,
        )
    if not names:
        body = {
            "command": "python -m bench.memory",
            "kind": "memory-cpu",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "revision": comparison.revision(),
            "machine": comparison.machine() | {"allocator": this_cpu().allocator},
            "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
            "shapes": results,
        }
        path = report.RESULTS / f"memory-cpu-{body['date']}.json"
        path.write_text(json.dumps(body, indent=1) + "\n")
        report.write()
    print(json.dumps(results))


def measured(order: dict[str, Any]) -> dict[str, int]:
    """Measure one shape in a process of its own: bytes, and a step's time."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory", json.dumps(order)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment() | runtime.ENVIRONMENT,
        cwd=Path(__file__).parents[1],
    )
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(order: dict[str, Any]) -> None:
    """Measure one shape in this process, which was started as a trainer is."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = make_model(folder / "model", order["shape"])
        job.warm_up()
        idle = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
        predicted, seconds = train(folder, config, order)
        grown = memory("VmHWM") - idle
    said = predicted.peak_bytes - idle_bytes("cpu")
    told = {"predicted": said, "measured": grown, "idle": idle}
    print(json.dumps(told | {"step_milliseconds": round(seconds * 1000)}))


def make_model(folder: Path, shape: dict[str, Any]) -> dict[str, Any]:
    """Write a random model in another process: making it would raise this one's memory."""
    code = (
        "import json, sys; from bench.memory import write_model; "
        "write_model(sys.argv[1], json.loads(sys.argv[2]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(folder), json.dumps(shape)],
        check=True,
        capture_output=True,
    )
    written: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return written


def write_model(folder: str, shape: dict[str, Any]) -> None:
    """Write a random Llama."""
    config = LlamaConfig(bos_token_id=None, eos_token_id=None, **shape)
    with torch.device("meta"):
        made = LlamaForCausalLM(config)
    made = made.to_empty(device="cpu").bfloat16()
    made.tie_weights()
    for parameter in made.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    made.save_pretrained(folder)
    write_manifest(Path(folder))


def train(folder: Path, config: dict[str, Any], order: dict[str, Any]) -> tuple[Plan, float]:
    """Do a few steps as the trainer does; returns its plan and the last one's seconds."""
    settings = TrainConfig.model_validate(order["config"])
    length = order["length"]
    tokens = [i % 50 for i in range(length)]
    labels = [-100] * (length // 2) + [1] * (length - length // 2)
    example = Encoded(tokens, labels, 0)
    if settings.objective == "dpo":  # a better and a worse answer, equally long
        example = Encoded(2 * tokens, 2 * labels, 0, num_better_tokens=length)
    examples = data.Data([example] * settings.batch_size * NUM_STEPS, [], {}, {}, [])
    machine = this_cpu().model_copy(update={"free_bytes": 2**40})
    base = folder / "model"
    chosen = plan(
        config,
        count_parameters(base),
        examples.histogram(),
        settings,
        machine,
        Candidate(*order["way"]),
    )
    loaded = model.load(base, "random", chosen, settings, torch.device("cpu"))
    spec = TrainerSpec(
        job_id=1, attempt=1, job_name="memory", config=settings, device="cpu",
        base_model_name="random", base_model_dir="", base_model_manifest_sha256="",
    )  # fmt: skip
    state = TrainingState(
        spec,
        folder,
        EventLog(folder / "attempts" / "1" / "events.jsonl"),
        chosen,
        None,  # type: ignore[arg-type]
        examples,
        loaded,
        optimizers.make(chosen.optimizer, list(loaded.adapter.values()), settings.weight_decay),
        Progress(
            micro_batch_tokens=chosen.micro_batch_tokens,
            checkpointing=chosen.checkpointing,
            optimizer=chosen.optimizer,
        ),
        lambda: False,
    )
    for _ in range(NUM_STEPS):
        began = time.perf_counter()
        assert loop.take_step(state, NUM_STEPS)
    return chosen, time.perf_counter() - began


def memory(field: str) -> int:
    """Return a field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        measure(json.loads(sys.argv[1]))
    else:
        main(sys.argv[1:])
