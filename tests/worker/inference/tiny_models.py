"""Tiny models of every family that Etude takes, with adapters, as llama.cpp wants their shapes.

Weights are larger than a new model's: with those of 0.02 all tokens are as good as equally likely,
and rounding decides which is the likeliest.
"""

import json
import random
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from app.training.manifests import write_manifest
from tests.worker.trainer.conftest import SMOLLM2_TEMPLATE, tokenizer_json

VOCABULARY = 320
# Rows of 256 are what each of llama.cpp's forms can divide.
_SHAPE: dict[str, Any] = {
    **{"vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 512},
    **{"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"max_position_embeddings": 512, "tie_word_embeddings": True, "initializer_range": 0.04},
    **{"pad_token_id": 0, "bos_token_id": 257, "eos_token_id": 258},
}
_GEMMA = {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 16}
# Windows are shorter than what is read, caps low enough to be felt.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"head_dim": 64, "sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 64},
    "gemma": {"head_dim": 64, "initializer_range": 0.1},
    "gemma2": _GEMMA | {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
    "gemma3_text": _GEMMA | {"num_hidden_layers": 6},
    "phi3": {"tie_word_embeddings": False},
    "smollm3": {"use_sliding_window": False},
    "granite": {
        **{"logits_scaling": 0.5, "residual_multiplier": 0.8, "embedding_multiplier": 1.2},
        "attention_multiplier": 0.2,
    },
    "olmo2": {"tie_word_embeddings": False},
}


def make_base(folder: Path, family: str, **changes: Any) -> str:
    """Write a random model as the import does; returns the hash of its manifest."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **_SHAPE | FAMILIES[family] | changes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):  # else all ones and zeros
                parameter.add_(0.2 * torch.randn_like(parameter))
        if not config.tie_word_embeddings:
            # Or no token would be likelier than others by more than eight bits can tell.
            model.get_input_embeddings().weight *= 2
            model.lm_head.weight.copy_(model.get_input_embeddings().weight.roll(7, 0))
    model.bfloat16().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    words = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    (folder / "chat_template.jinja").write_text(SMOLLM2_TEMPLATE)
    return write_manifest(folder)


def make_adapter(folder: Path, base: Path, *, strength: float = 0.05, **changes: Any) -> str:
    """Write a random adapter of a base model as PEFT does; returns the hash of its manifest."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"} | changes
    config = LoraConfig(task_type="CAUSAL_LM", **settings)
    peft = get_peft_model(reference(base), config)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name or "lora_A" in name:
                parameter.copy_(strength * torch.randn_like(parameter))
            elif "lora_magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    peft.save_pretrained(str(folder))
    return write_manifest(folder)


def reference(base: Path, adapter: Path | None = None) -> Any:
    """What every engine is measured by."""
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def prompts(num: int = 20, length: int = 40) -> list[list[int]]:
    """Different ids of a random model's vocabulary, as long as a short question."""
    draw = random.Random(0)
    return [[draw.randrange(256) for _ in range(length + index)] for index in range(num)]
