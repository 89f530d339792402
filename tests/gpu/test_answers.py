"""On a GPU: what the engine answers in bfloat16 is what float32 says, within rounding.

The same likeliest word at 98 % of positions, and mean losses within 0.02. Random weights find many
words as likely as the likeliest, so one that is less than 0.25 nats behind it counts as the same.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from tests.gpu.conftest import DEVICE
from worker.inference.engine import READ_TOKENS, Chunk
from worker.inference.slot_cache import ATTENTION
from worker.inference.torch_engine import TorchEngine

needs_cuda = pytest.mark.skipif(DEVICE == "cpu", reason="What is tried here is CUDA's alone.")
_SHAPE: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    # Else so small a model finds all words equally likely, and rounding chooses.
    "initializer_range": 0.1,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
    "tie_word_embeddings": False,  # else the likeliest word is the last one
}
_WINDOWS: dict[str, Any] = {
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "query_pre_attn_scalar": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 64},
    "gemma2": _WINDOWS,
    "gemma3_text": _WINDOWS,
}
_LENGTHS = [300, 40, 129, 511]
_NUM_SAID = 32


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_in_16_bits_keep_the_bound(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **_SHAPE | FAMILIES[family])
    config._attn_implementation = "eager"
    exact: Any = rounded(AutoModelForCausalLM.from_config(config), torch.bfloat16)
    rounded(exact, torch.float32)
    narrow = copy.deepcopy(config)
    narrow._attn_implementation = ATTENTION
    model: Any = AutoModelForCausalLM.from_config(narrow)
    model.load_state_dict(exact.state_dict())
    dtype = torch.float32 if DEVICE == "cpu" else torch.bfloat16
    engine = TorchEngine(rounded(model, dtype).to(DEVICE), 4, 700)
    factors = write_adapter(tmp_path, exact)
    engine.add_adapter("tuned", tmp_path)
    if DEVICE != "cpu":
        assert engine.cache.uses_flash
    texts = [torch.randint(1, 4096, (n + _NUM_SAID,)).tolist() for n in _LENGTHS]
    names: list[str | None] = ["tuned", None, "tuned", None]
    found = answers(engine, texts, names)
    if engine.steps is not None:
        assert engine.steps.num_played > _NUM_SAID
        assert all(step.graph is not None for step in engine.steps._steps.values())
    engine.steps = None
    unrecorded = answers(engine, texts, names)
    engine.close()
    wanted: dict[str | None, list[Tensor]] = {None: scores(exact.to(DEVICE), texts)}
    with torch.no_grad():
        for layer, product in factors.items():
            exact.get_submodule(layer).weight += product.to(DEVICE)
    wanted["tuned"] = scores(exact, texts)
    for said in (found, unrecorded):
        same, losses, others = [], [], []
        for number, name in enumerate(names):
            right = wanted[name][number]
            labels = right.argmax(-1)
            behind = right.max(-1).values - right.gather(1, said[number].argmax(-1)[:, None])[:, 0]
            same.append(behind < 0.25)
            losses.append(nn.functional.cross_entropy(said[number], labels, reduction="none"))
            others.append(nn.functional.cross_entropy(right, labels, reduction="none"))
        assert torch.cat(same).float().mean() >= 0.98
        assert abs(torch.cat(losses).mean() - torch.cat(others).mean()) <= 0.02


@needs_cuda
def test_a_piece_is_read_the_same_whatever_was_there_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **_SHAPE)
    config._attn_implementation = ATTENTION
    model = rounded(AutoModelForCausalLM.from_config(config), torch.bfloat16)
    engine = TorchEngine(model.to(DEVICE), 2, 700)
    first, second = (torch.randint(1, 4096, (320,)).tolist() for _ in range(2))
    second[:128] = first[:128]
    answers(engine, [first], [None])
    for at in range(128, 320, READ_TOKENS):
        [again] = engine.forward([Chunk(0, at, second[at : at + READ_TOKENS], None)])
    for at in range(0, 320, READ_TOKENS):
        [fresh] = engine.forward([Chunk(1, at, second[at : at + READ_TOKENS], None)])
    assert (again == fresh).all()


def rounded(model: Any, dtype: torch.dtype) -> Any:
    """Change a model's weights as loading does; the angles of its positions stay in float32."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.data = parameter.data.to(dtype)
    return model.eval()


def answers(engine: TorchEngine, texts: list[list[int]], names: list[str | None]) -> list[Tensor]:
    """Read all but the last tokens in pieces, then these side by side (each N, V, float32)."""
    for slot, text in enumerate(texts):
        for at in range(0, len(text) - _NUM_SAID, READ_TOKENS):
            piece = text[at : min(at + READ_TOKENS, len(text) - _NUM_SAID)]
            engine.forward([Chunk(slot, at, piece, names[slot])])
    found: list[list[Tensor]] = [[] for _ in texts]
    for step in range(-_NUM_SAID, 0):
        chunks = [
            Chunk(slot, len(text) + step, [text[step]], names[slot])
            for slot, text in enumerate(texts)
        ]
        for slot, each in enumerate(engine.forward(chunks)):
            found[slot].append(torch.from_numpy(each[0].copy()))
    return [torch.stack(each) for each in found]


@torch.inference_mode()
def scores(model: Any, texts: list[list[int]]) -> list[Tensor]:
    """What transformers says after each of the last tokens, text by text."""
    return [
        model(input_ids=torch.tensor([text], device=DEVICE)).logits[0, -_NUM_SAID:].float().cpu()
        for text in texts
    ]


def write_adapter(folder: Path, model: Any) -> dict[str, Tensor]:
    """Write an adapter as PEFT does, and return what it adds to each weight."""
    tensors: dict[str, Tensor] = {}
    products: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings():
            a, b = torch.randn(8, module.in_features), torch.randn(module.out_features, 8)
            a, b = (0.05 * a).bfloat16().float(), (0.05 * b).bfloat16().float()
            tensors |= {
                f"base_model.model.{name}.lora_{x}.weight": y for x, y in (("A", a), ("B", b))
            }
            products[name] = b @ a
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return products
