"""Tiny merged models of the families that people train, each with its own kind of tokenizer.

Rows of 256 are what each of llama.cpp's kinds can divide. Tokenizers are trained on a few sentences
and cut text as the families' own do: merged bytes after GPT-2's, Llama 3's, Qwen's or SmolLM's
rules, or SentencePiece's pieces with bytes for what is rare.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import AutoConfig, AutoModelForCausalLM

from tests.worker.inference import tiny_models
from tests.worker.trainer.conftest import TEMPLATES

CORPUS = [
    "The nurse looks after the patient on the ward at night.",
    "Wo finde ich die Station 3? Im 2. Stock, gleich rechts.",
    "Take 500 mg of it twice a day, after a meal; it's safe for most people.",
    "What does the contract say about the notice period? Three months.",
    "Explain to a child why the sky is blue, in one sentence.",
    "def add(a, b):\n    return a + b\n",
    "  - first point\n  - second point\n\n\nThat is all.",
    "Zwölf Äpfel kosten 3,60 €; wie viel kosten 100? – 30 €.",
] * 4
QUESTIONS = [
    f"{question} {how}{end}"
    for question in ("Explain why the sky is blue", "Wo finde ich Station 3")
    for how in ("in one sentence", "to a child", "as a list", "with 12 examples", "it's for me")
    for end in (".", "?\n\nThanks 😀")
]
_LLAMA_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_CUT = _LLAMA_CUT.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN_CUT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_HEADERS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
_GEMMA = ("<start_of_turn>", "<end_of_turn>")
_PHI = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_INST: tuple[str, ...] = (
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
)
_INST += ("[TOOL_RESULTS]", "[/TOOL_RESULTS]")
# Rows for words that nobody has, as many models have them.
_PADDED = 64


@dataclass(frozen=True)
class Tokenizing:
    """A tokenizer, and SentencePiece's own file where it was made of one."""

    tokenizer: Tokenizer
    pieces: bytes | None = None


@dataclass(frozen=True)
class Family:
    """A kind of model with a tokenizer and a template of its own."""

    config: dict[str, Any]
    make: Callable[[], Tokenizing]
    template: str
    bos: str | None
    eos: str
    kind: str = "llama"  # of its tokenizer, as GGUF has it
    pre: str = "default"
    adds_bos: bool = True
    turn: str = ""  # what ends a turn, if not the end of the text

    @property
    def turn_end(self) -> str:
        return self.turn or self.eos


def byte_level(
    cut: str | None, special: Sequence[str], *, digits: bool = False, whole_words: bool = False
) -> Callable[[], Tokenizing]:
    """Return a maker of a tokenizer that merges bytes."""

    def make() -> Tokenizing:
        tokenizer = Tokenizer(models.BPE(ignore_merges=whole_words))
        steps: list[Any] = []
        if digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        if cut is not None:
            steps.append(pre_tokenizers.Split(Regex(cut), behavior="isolated"))
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut is None))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
        tokenizer.decoder = decoders.ByteLevel()
        trainer = BpeTrainer(
            vocab_size=500,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
            special_tokens=list(special),
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
        return Tokenizing(tokenizer)

    return make


def pieces(
    control: Sequence[str] = (),
    *,
    names: tuple[str, str, str] = ("<unk>", "<s>", "</s>"),
    has_prefix: bool = True,
    stripping: Sequence[str] = (),
) -> Callable[[], Tokenizing]:
    """Return a maker of SentencePiece's tokenizer, and of what transformers makes of it.

    Args:
        control: Words of the template's that are pieces.
        names: Of the unknown piece, the beginning and the end.
        has_prefix: Whether a space is put before a text.
        stripping: Words that are added behind the pieces, and drop the spaces behind them.
    """

    def make() -> Tokenizing:
        file = io.BytesIO()
        unknown, begin, end = names
        SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=file,
            model_type="bpe",
            vocab_size=560,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=has_prefix,
            allow_whitespace_only_pieces=True,
            control_symbols=list(control),
            unk_piece=unknown,
            bos_piece=begin,
            eos_piece=end,
            minloglevel=2,
        )
        processor = SentencePieceProcessor(model_proto=file.getvalue())
        vocabulary = {processor.IdToPiece(i): i for i in range(processor.GetPieceSize())}
        tokenizer = Tokenizer(
            models.BPE(
                vocabulary,
                _merges(processor, vocabulary),
                unk_token=unknown,
                byte_fallback=True,
                fuse_unk=True,
            )
        )
        spaces = normalizers.Replace(" ", "▁")
        tokenizer.normalizer = (
            normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if has_prefix else spaces
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        special = [*names, *control]
        tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
        tokenizer.add_special_tokens(
            [AddedToken(text, rstrip=text != "<|endoftext|>", special=True) for text in stripping]
        )
        return Tokenizing(tokenizer, file.getvalue())

    return make


def _merges(processor: SentencePieceProcessor, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return what can be merged, the best first, as transformers derives it from the scores."""
    found = []
    for piece, token_id in vocabulary.items():
        if processor.IsControl(token_id) or processor.IsByte(token_id):
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((processor.GetScore(token_id), len(left), len(right), left, right))
    found.sort(key=lambda each: each[:3], reverse=True)
    return [(left, right) for *_, left, right in found]


def _shape(family: str, **more: Any) -> dict[str, Any]:
    shape = tiny_models._SHAPE | tiny_models.FAMILIES[family] | {"model_type": family} | more
    return {key: value for key, value in shape.items() if not key.endswith("_token_id")}


def _llama3(template: str, **more: Any) -> Family:
    make = byte_level(_LLAMA_CUT, (*_HEADERS, "<|eot_id|>"), whole_words=True)
    return Family(
        _shape("llama", **more),
        make,
        template,
        "<|begin_of_text|>",
        "<|eot_id|>",
        "gpt2",
        "llama-bpe",
    )


def _chatml(
    config: str, template: str, *, pre: str = "qwen2", bos: str | None = None, **cut: bool
) -> Family:
    make = byte_level(None if cut else _QWEN_CUT, _CHATML, **cut)
    return Family(_shape(config), make, template, bos, "<|im_end|>", "gpt2", pre, adds_bos=False)


def _gemma(config: str, template: str) -> Family:
    make = pieces(_GEMMA, names=("<unk>", "<bos>", "<eos>"), has_prefix=False)
    return Family(_shape(config), make, template, "<bos>", "<eos>", turn="<end_of_turn>")


_LONG_LLAMA = {
    **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 64,
}
_MISTRAL = Family(
    _shape("mistral", tie_word_embeddings=False), pieces(_INST), "mistral", "<s>", "</s>"
)
FAMILIES: dict[str, Family] = {
    "llama3": _llama3("llama3"),
    "llama3.1": _llama3("llama3_1", rope_parameters=_LONG_LLAMA),
    "smollm2": _chatml("llama", "smollm2", pre="smollm", bos="<|im_start|>", digits=True),
    "qwen2": _chatml("qwen2", "smollm2"),
    "qwen2.5": _chatml("qwen2", "qwen2_5"),
    "qwen3": _chatml("qwen3", "qwen3"),
    "mistral": _MISTRAL,
    "mistral-nemo": replace(
        _MISTRAL,
        config=_shape("mistral"),
        make=byte_level(_TEKKEN_CUT, ("<unk>", "<s>", "</s>", *_INST), whole_words=True),
        kind="gpt2",
        pre="tekken",
    ),
    "gemma2": _gemma("gemma2", "gemma"),
    "gemma3": _gemma("gemma3_text", "gemma3"),
    "phi3": Family(
        *(_shape("phi3"), pieces(stripping=_PHI), "phi3", "<s>", "<|endoftext|>"),
        adds_bos=False,
        turn="<|end|>",
    ),
}
# Angles for long texts, as Phi-3's 128k and Gemma 3's larger models have them.
_LONG_PHI = {
    **{"rope_type": "longrope", "rope_theta": 10_000.0},
    "short_factor": [1.0 + number / 64 for number in range(32)],
    "long_factor": [2.0 + number / 8 for number in range(32)],
    "original_max_position_embeddings": 256,
}
_LONG_GEMMA = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}
FAMILIES |= {
    "phi3-long": replace(FAMILIES["phi3"], config=_shape("phi3", rope_parameters=_LONG_PHI)),
    "gemma3-long": replace(
        FAMILIES["gemma3"], config=_shape("gemma3_text", rope_parameters=_LONG_GEMMA)
    ),
}


def make_base(folder: Path, name: str) -> None:
    """Write a random model in 16 bits, with its tokenizer, as the import keeps them."""
    family = FAMILIES[name]
    folder.mkdir(parents=True)
    made = family.make()
    size = -(-made.tokenizer.get_vocab_size() // 64) * 64 + _PADDED
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        **family.config
        | {"vocab_size": size, "pad_token_id": None}
        | {"bos_token_id": family.bos and made.tokenizer.token_to_id(family.bos)}
        | {"eos_token_id": made.tokenizer.token_to_id(family.eos)}
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name or parameter_name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
        if name == "qwen3":  # else a merge into 16 bits moves 2.1 % of its likeliest tokens
            model.get_input_embeddings().weight *= 1.5
        if not config.tie_word_embeddings:
            # Or no token would be likelier than others by more than eight bits can tell.
            model.get_input_embeddings().weight *= 4
            model.lm_head.weight.copy_(model.get_input_embeddings().weight.roll(7, 0))
    model.bfloat16().save_pretrained(folder)
    made.tokenizer.save(str(folder / "tokenizer.json"))
    words = {"eos_token": family.eos} | ({"bos_token": family.bos} if family.bos else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    template = (TEMPLATES / f"{family.template}.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template)
    if made.pieces is not None:
        (folder / "tokenizer.model").write_bytes(made.pieces)
    (folder / "LICENSE").write_text('The licence of "this" model.\n')


def make_adapter(folder: Path, base: Path, **changes: Any) -> None:
    """Write a random adapter of a model as PEFT does."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"} | changes
    peft = get_peft_model(
        tiny_models.reference(base), LoraConfig(task_type="CAUSAL_LM", **settings)
    )
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.05 * torch.randn_like(parameter))
    peft.save_pretrained(str(folder))


def merge(folder: Path, base: Path, adapter: Path) -> None:
    """Write a model with its adapter worked into it, in 16 bits."""
    model = PeftModel.from_pretrained(tiny_models.reference(base), adapter)
    model.merge_and_unload(safe_merge=True).bfloat16().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "LICENSE"):
        (folder / name).write_bytes((base / name).read_bytes())
    if (base / "tokenizer.model").exists():
        (folder / "tokenizer.model").write_bytes((base / "tokenizer.model").read_bytes())
