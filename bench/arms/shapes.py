"""Llama shapes with random weights, made and quantized on the device, a layer at a time.

Throughput and memory do not depend on the weights' values, so models that are not at hand are
measured by their shape.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# hidden, intermediate, layers, heads, key/value heads, head width, vocabulary, tied embeddings
SHAPES: dict[str, tuple[int, int, int, int, int, int, int, bool]] = {
    "tiny": (64, 192, 2, 4, 2, 16, 512, True),
    "small": (1024, 3072, 4, 8, 4, 128, 8192, True),  # for tests: gigabytes of activations
    "untied": (1024, 3072, 4, 8, 4, 128, 8192, False),
    "135m": (576, 1536, 30, 9, 3, 64, 49152, True),  # SmolLM2's
    "1b": (2048, 8192, 16, 32, 8, 64, 128256, True),
    "3b": (3072, 8192, 28, 24, 8, 128, 128256, True),
    "8b": (4096, 14336, 32, 32, 8, 128, 128256, False),
}


def config(shape: str) -> Any:
    """Return the LlamaConfig of a shape; 1b, 3b and 8b are those of Llama 3.2 and 3.1."""
    from transformers import LlamaConfig

    hidden, wide, layers, heads, kv_heads, width, vocabulary, tied = SHAPES[shape]
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=width,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=None,
        eos_token_id=None,
    )


@torch.no_grad()
def random_model(shape: str, resident: str, device: str, attention: str) -> Any:
    """Build a frozen model: "nf4" packed weights, or "bf16"/"fp32" ones with NF4's values.

    Never holds more than one weight matrix unpacked beside the finished ones.
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from bitsandbytes.nn.modules import Linear4bit, Params4bit
    from transformers import AutoModelForCausalLM

    dtype = torch.float32 if resident == "fp32" else torch.bfloat16
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config(shape), dtype=dtype, attn_implementation=attention
        )
    head = model.get_output_embeddings()
    generator = torch.Generator(device).manual_seed(0)

    def draw(shape: torch.Size) -> Tensor:
        weights = torch.empty(shape, dtype=torch.bfloat16, device=device)
        return weights.normal_(0, 0.02, generator=generator)

    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and module is not head:
            packed, state = quantize_4bit(
                draw(module.weight.shape), compress_statistics=True, quant_type="nf4"
            )
            if resident != "nf4":
                unpacked = dequantize_4bit(packed, state).to(dtype)
                module.weight = nn.Parameter(unpacked, requires_grad=False)
                continue
            layer = Linear4bit(
                module.in_features,
                module.out_features,
                bias=False,
                compute_dtype=torch.bfloat16,
                compress_statistics=True,
                quant_type="nf4",
                device="meta",
            )
            layer.weight = Params4bit(
                packed,
                requires_grad=False,
                quant_state=state,
                compress_statistics=True,
                quant_type="nf4",
                module=layer,
                bnb_quantized=True,
            )
            layer.quant_state = state
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, layer)
        elif isinstance(module, nn.Embedding) or module is head:
            module.weight = nn.Parameter(draw(module.weight.shape).to(dtype), requires_grad=False)
        elif getattr(module, "weight", None) is not None:
            ones = torch.ones(module.weight.shape, dtype=dtype, device=device)
            module.weight = nn.Parameter(ones, requires_grad=False)
    model.tie_weights()
    # Inverse frequencies of the positions are buffers, made from the configuration alone.
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(device)
    left = [n for n, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta]
    assert not left, left
    if resident == "nf4":
        model.is_loaded_in_4bit = True  # by this PEFT and TRL know a 4-bit model
    return model


def save(folder: Path, shape: str, device: str) -> None:
    """Write a random model as the import does, with a tokenizer of bytes and a chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from app.training.manifests import write_manifest

    folder.mkdir(parents=True)
    random_model(shape, "bf16", device, "sdpa").save_pretrained(folder, max_shard_size="4GB")
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": special[1], "eos_token": special[2], "pad_token": special[2]}
    names["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    write_manifest(folder)


def num_parameters(shape: str) -> int:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config(shape))
    return sum(p.numel() for p in model.parameters())


def operations_per_token(shape: str, lengths: list[int], labelled_share: float = 1.0) -> float:
    """Count by the 4N rule: 2·2·(N_lin + N_head) + 3.5·2·S·d·L; causal attention is halved.

    Adapters and recomputation do not count. S is the mean length that a token sees, so long
    examples weigh by their tokens. A full head counts even where masked tokens leave it out,
    unless `labelled_share` says otherwise.
    """
    hidden, wide, layers, heads, kv_heads, width, vocabulary, _ = SHAPES[shape]
    linear = layers * (hidden * width * (2 * heads + 2 * kv_heads) + 3 * hidden * wide)
    seen = sum(n * n for n in lengths) / sum(lengths)
    attention = 3.5 * 2 * seen * heads * width * layers
    return 4.0 * (linear + labelled_share * hidden * vocabulary) + attention


def make_state(
    order: dict[str, Any], changes: dict[str, Any], asked_to_stop: Callable[[], bool]
) -> Any:
    """Make Etude's trainer for an arm's order."""
    from app.training.chat import Encoded
    from bench.arms import measure

    workload = measure.Examples(order["workload"])
    encoded = [Encoded(*pair, 0) for pair in zip(workload.token_ids, workload.labels, strict=True)]
    scratch, rate = Path(order["scratch"]), order["learning_rate"]
    state = state_on(
        order["shape"], order["device"], encoded, workload.step_size, scratch, changes, rate
    )
    state.asked_to_stop = asked_to_stop
    return state


def state_on(
    shape: str,
    device_name: str,
    examples: Sequence[Any],
    step_size: int,
    job_dir: Path,
    changes: dict[str, Any],
    learning_rate: float,
) -> Any:
    """Make Etude's trainer on a random model; all but the reading of files is its own code.

    Args:
        shape: One of SHAPES.
        device_name: "cpu" or "cuda:0".
        examples: app.training.chat.Encoded ones, in the order in which steps are to take them.
        step_size: Examples of a step.
        job_dir: Where events and checkpoints go.
        changes: What to change in the planner's plan.
        learning_rate: Of the first step; there is no warm-up.
    """
    from app.training.config import TrainConfig, TrainerSpec
    from app.training.plan import choose
    from app.training.plan.shape import Candidate
    from worker.trainer import data, job, model, optimizers
    from worker.trainer.checkpoint import Progress
    from worker.trainer.events import EventLog
    from worker.trainer.layers import attention
    from worker.trainer.state import TrainingState

    device = torch.device(device_name)
    longest = max(len(example.token_ids) for example in examples)
    settings = TrainConfig(
        num_epochs=1,
        batch_size=step_size,
        num_evaluations=1,
        warmup_share=0,
        learning_rate=learning_rate,
        max_length_tokens=max(1024, longest),
    )
    num = len(examples)
    order = [i for s in range(num // step_size) for i in data.step_examples(num, settings, s)]
    train: list[Any] = [None] * num
    for example, index in zip(examples, order, strict=True):
        train[index] = example
    dataset = data.Data(train, [], {}, {}, [])
    machine = job.describe_device(device)
    if device.type == "cpu":
        torch.set_num_threads(machine.num_cores)
    known = (
        config(shape).to_dict(),
        num_parameters(shape),
        dataset.histogram(),
        settings,
        machine,
    )
    plan = choose.plan(*known)
    if changes:
        fields = Candidate._fields
        candidate = Candidate(**{name: getattr(plan, name) for name in fields} | changes)
        plan = choose.plan(*known, candidate)
    base = random_model(shape, plan.resident, device_name, attention.ATTENTION)
    loaded = model.adapt(base, shape, plan, settings)
    spec = TrainerSpec(
        job_id=1, attempt=1, job_name="bench", config=settings, device=device_name,
        base_model_name=shape, base_model_dir="", base_model_manifest_sha256="",
    )  # fmt: skip
    nothing_to_read: Any = None
    return TrainingState(
        spec,
        job_dir,
        EventLog(job_dir / "attempts" / "1" / "events.jsonl"),
        plan,
        nothing_to_read,
        dataset,
        loaded,
        optimizers.make(plan.optimizer, list(loaded.adapter.values()), settings.weight_decay),
        Progress(
            micro_batch_tokens=plan.micro_batch_tokens,
            checkpointing=plan.checkpointing,
            optimizer=plan.optimizer,
        ),
        lambda: False,
    )
