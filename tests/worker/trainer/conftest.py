"""A tiny random Llama with a byte tokenizer and SmolLM2's real template, and jobs on it.

Everything is float32 and one thread, so that numbers are the same on every machine.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pyarrow as pa
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from app.training.config import StartAdapter, TrainConfig, TrainerSpec
from app.training.manifests import read_manifest, write_manifest
from app.training.plan.choose import Plan
from app.training.plan.shape import num_steps
from worker.trainer import job
from worker.trainer.events import EventLog
from worker.trainer.state import TrainingState

TEMPLATES = Path(__file__).with_name("templates")
SMOLLM2_TEMPLATE = (TEMPLATES / "smollm2.jinja").read_text()
MODEL_NAME = "house/tiny"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="pin new golden losses")


SMOLLM2_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def tokenizer_json(special: Sequence[str] = SMOLLM2_SPECIAL) -> str:
    """One token a byte; the special tokens are SmolLM2's where no others are given."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    return str(tokenizer.to_str())


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    """Keep a test and its processes on one core, another than that of the test beside it.

    On a model as tiny as ours threads wait for each other longer than they compute.
    """
    cores = sorted(os.sched_getaffinity(0))
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {cores[mine % len(cores)]})
    torch.set_num_threads(1)
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="session")
def fork_server() -> Any:
    """A context of multiprocessing whose processes begin with torch loaded."""
    context = multiprocessing.get_context("forkserver")
    # In this order: the first one loads torch, and does once what libraries put off.
    names = ("forked", "pair", "test_interrupted")
    context.set_forkserver_preload([f"tests.worker.trainer.{name}" for name in names])
    return context


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the import makes them."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        # With the usual 0.02 so small a model cannot tell its tokens apart well enough to learn.
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": "<|im_start|>",
                "eos_token": "<|im_end|>",
                "pad_token": "<|im_end|>",
                "tokenizer_class": "PreTrainedTokenizerFast",
            }
        )
    )
    (folder / "chat_template.jinja").write_text(SMOLLM2_TEMPLATE)
    write_manifest(folder)
    return folder


def conversation(index: int) -> list[dict[str, Any]]:
    """Short talks of different lengths with a system turn of their own."""
    return [
        {"role": "system", "content": "S"},
        {"role": "user", "content": f"Where is room {index}?" + " please" * (index % 4)},
        {"role": "assistant", "content": f"Up the stairs, door {index * 7 % 10}."},
    ]


def make_job(
    folder: Path,
    model: Path,
    num_train: int = 24,
    num_validation: int = 4,
    messages: Callable[[int], list[dict[str, Any]]] = conversation,
    **config: Any,
) -> TrainerSpec:
    """Write a JOB_DIR as the supervisor does."""
    folder.mkdir(parents=True, exist_ok=True)
    num = num_train + num_validation
    table = pa.table(
        {
            "index": pa.array(range(num), pa.int32()),
            "split": ["train"] * num_train + ["validation"] * num_validation,
            "kind": ["chat"] * num,
            "messages": [json.dumps(messages(index)) for index in range(num)],
        }
    )
    with pa.ipc.new_file(str(folder / "examples.arrow"), table.schema) as writer:
        writer.write_table(table)
    settings: dict[str, Any] = {"batch_size": 4, "learning_rate": 5e-3, "lora_rank": 4} | config
    spec = TrainerSpec(
        job_id=1,
        attempt=1,
        job_name="rooms",
        config=TrainConfig(**settings),
        device="cpu",
        base_model_name=MODEL_NAME,
        base_model_dir=str(model),
        base_model_manifest_sha256=read_manifest(model)[1],
        checkpoint_share=1e6,  # at each evaluation, however little time lies between
    )
    (folder / "config.json").write_text(spec.model_dump_json())
    return spec


def make_plan(spec: TrainerSpec, num_train: int = 24, **changes: Any) -> Plan:
    """What the trainer is told: float32 weights with NF4's values, unless changed."""
    values: dict[str, Any] = {
        "micro_batch_tokens": 256,
        "resident": "fp32",
        "checkpointing": False,
        "optimizer": "adamw",
        "loss_chunk_tokens": 32,
        "num_steps": num_steps(num_train, spec.config),
        "peak_bytes": 0,
        "seconds": 0,
        "tokens_per_second": 0,
        "fits": "yes",
        "reasons": [],
    }
    return Plan(**values | changes)


def never() -> bool:
    return False


def make_state(
    folder: Path,
    spec: TrainerSpec,
    plan: Plan | None = None,
    asked_to_stop: Callable[[], bool] = never,
) -> TrainingState:
    """Load a job up to its first step."""
    log = EventLog(folder / "attempts" / str(spec.attempt) / "events.jsonl")
    state = job.prepare(folder, spec, log, asked_to_stop, plan or make_plan(spec))
    torch.set_num_threads(1)
    return state


def start_from(folder: Path) -> StartAdapter:
    """Begin with the adapter that a job made."""
    result = folder / "result"
    return StartAdapter(name="rooms", dir=str(result), manifest_sha256=read_manifest(result)[1])


def events(folder: Path, attempt: int = 1, kind: str | None = None) -> list[dict[str, Any]]:
    """Read what a trainer said."""
    lines = (folder / "attempts" / str(attempt) / "events.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    return [event for event in told if kind in (None, event["kind"])]


def losses(folder: Path, attempt: int = 1) -> list[float]:
    return [event["loss"] for event in events(folder, attempt, "step")]
