"""The transformers engine says what transformers and PEFT say, in any company.

Tiny random models of each family in float32; the reference is transformers' own forward and PEFT's
own adapter, on whole texts. Rounding alone may differ, by 1e-4.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from app.training.manifests import read_manifest, write_manifest
from tests.worker.trainer.test_architectures import PACKED, PADDED, SHAPE
from worker.cpu.model_conversion import SUPPORTED_TYPES
from worker.inference import layers, slot_cache
from worker.inference.engine import READ_TOKENS, Chunk, Engine, EngineError
from worker.inference.slots import kv_bytes, longest_context
from worker.inference.steps import Steps
from worker.inference.torch_engine import TorchEngine

FAMILIES: dict[str, dict[str, Any]] = {
    **PACKED,
    "granite": PADDED["granite"],
    "gemma": {"head_dim": 16},
    "olmo2": {},
}
IN_EVERY_RUN = "gemma2"  # caps, windows and offsets: all there is
Scores = NDArray[np.float32]


def cases(only: str = IN_EVERY_RUN) -> Callable[..., Any]:
    """Run a test on a model of each family, all but one only in `make test-long`."""
    marked = [
        pytest.param(name, id=name, marks=[] if name == only else [pytest.mark.long])
        for name in FAMILIES
    ]
    return pytest.mark.parametrize("family", marked)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def family() -> str:
    return IN_EVERY_RUN


@pytest.fixture
def base(family: str, tmp_path: Path) -> Path:
    return make_base(tmp_path / "model", family)


@pytest.fixture
def engine(base: Path) -> Iterator[TorchEngine]:
    opened = open_engine(base)
    yield opened
    opened.close()


def make_base(folder: Path, family: str) -> Path:
    """A folder with a tiny random model in 16 bits, as the import leaves it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SHAPE | FAMILIES[family])
    AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(folder)
    write_manifest(folder)
    return folder


def make_adapter(folder: Path, base: Path, seed: int, **config: Any) -> Path:
    """PEFT's folder with an adapter that is felt."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wanted: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
    }
    torch.manual_seed(seed)
    model = get_peft_model(plain, LoraConfig(**wanted | config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
            if "magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    model.save_pretrained(str(folder))
    return folder


def open_engine(base: Path, **options: Any) -> TorchEngine:
    known = {"num_slots": 4, "context_tokens": 300}
    return TorchEngine.open(base, read_manifest(base)[1], **known | options)


def text(seed: int, length: int) -> list[int]:
    numbers: list[int] = np.random.default_rng(seed).integers(1, 256, length).tolist()
    return numbers


def expected(base: Path, adapter: Path | None, token_ids: list[int]) -> Scores:
    """Scores after each token by transformers and PEFT alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.inference_mode():
        scores: Scores = model.eval()(input_ids=torch.tensor([token_ids])).logits[0].numpy()
    return scores


def read(
    engine: Engine,
    token_ids: Sequence[int],
    slot: int = 0,
    adapter: str | None = None,
    begin: int = 0,
) -> Scores:
    """Read a text from a position on in pieces, and return the scores after each token."""
    found = []
    for at in range(begin, len(token_ids), READ_TOKENS):
        piece = token_ids[at : at + READ_TOKENS]
        [scores] = engine.forward([Chunk(slot, at, piece, adapter, all_scores=True)])
        found.append(scores.copy())
    return np.concatenate(found)


def go_on(
    engine: TorchEngine, texts: dict[int, tuple[str | None, list[int]]], begins: dict[int, int]
) -> dict[int, list[Scores]]:
    """Read on in each slot, one token a call, all slots side by side as long as they have one."""
    found: dict[int, list[Scores]] = {slot: [] for slot in texts}
    at = dict(begins)
    while chunks := [
        Chunk(slot, at[slot], [token_ids[at[slot]]], adapter)
        for slot, (adapter, token_ids) in texts.items()
        if at[slot] < len(token_ids)
    ]:
        for chunk, scores in zip(chunks, engine.forward(chunks), strict=True):
            assert scores.shape == (1, engine.vocab_size)
            found[chunk.slot].append(scores[0].copy())
            at[chunk.slot] += 1
    return found


def test_each_family_that_can_be_imported_is_tried() -> None:
    assert FAMILIES.keys() == set(SUPPORTED_TYPES)


@cases()
def test_scores_are_those_of_transformers_and_peft(
    engine: TorchEngine, base: Path, tmp_path: Path
) -> None:
    tuned = make_adapter(tmp_path / "tuned", base, seed=1)
    engine.add_adapter("tuned", tuned)
    token_ids = text(0, 150)
    for name, adapter in ((None, None), ("tuned", tuned)):
        wanted = expected(base, adapter, token_ids)
        np.testing.assert_allclose(read(engine, token_ids, 1, name), wanted, atol=1e-4)
    plain, changed = (read(engine, token_ids, 1, name) for name in (None, "tuned"))
    assert np.abs(plain - changed).max() > 0.1


@cases()
def test_in_company_each_is_answered_as_alone(
    engine: TorchEngine, base: Path, tmp_path: Path
) -> None:
    """Base and two adapters of different ranks, at different lengths, in one batch."""
    one = make_adapter(tmp_path / "one", base, 1, r=4)
    joint = ["qkv_proj", "o_proj"] if "phi3" in str(engine.model.config) else ["q_proj", "o_proj"]
    two = make_adapter(tmp_path / "two", base, 2, r=16, target_modules=joint)
    engine.add_adapter("one", one)
    engine.add_adapter("two", two)
    folders: dict[str | None, Path | None] = {None: None, "one": one, "two": two}
    texts = {
        3: ("one", text(0, 120)), 0: (None, text(1, 37)), 2: ("two", text(2, 75)),
        1: ("one", text(3, 20)),
    }  # fmt: skip
    begins = {slot: len(token_ids) - 12 for slot, (_, token_ids) in texts.items()}
    for slot, (adapter, token_ids) in texts.items():
        read(engine, token_ids[: begins[slot]], slot, adapter)
    found = go_on(engine, texts, begins)
    for slot, (adapter, token_ids) in texts.items():
        wanted = expected(base, folders[adapter], token_ids)[begins[slot] :]
        np.testing.assert_allclose(np.stack(found[slot]), wanted, atol=1e-4)


@cases()
def test_rows_of_fixed_shapes_say_the_same(engine: TorchEngine, base: Path, tmp_path: Path) -> None:
    """What a GPU records and plays, with the trainer's layers, tried without either."""
    layers.shorten(engine.model, torch.float32)
    engine.steps = Steps(engine.model, engine.cache, engine.adapters, is_recorded=False)
    one, two = make_adapter(tmp_path / "one", base, 1), make_adapter(tmp_path / "two", base, 2, r=9)
    folders: dict[str | None, Path | None] = {None: None, "one": one, "two": two}
    engine.add_adapter("one", one)
    texts: dict[int, tuple[str | None, list[int]]] = {
        2: ("one", text(0, 100)), 0: (None, text(1, 37)), 3: ("two", text(2, engine.context_tokens))
    }  # fmt: skip
    begins = {}
    for slot, (adapter, token_ids) in texts.items():
        begins[slot] = len(token_ids) - 5
        if adapter == "two":
            engine.add_adapter("two", two)
        for at in range(0, begins[slot], READ_TOKENS):
            piece = token_ids[at : min(at + READ_TOKENS, begins[slot])]
            [scores] = engine.forward([Chunk(slot, at, piece, adapter)])
        wanted = expected(base, folders[adapter], token_ids)[begins[slot] - 1]
        np.testing.assert_allclose(scores[0], wanted, atol=1e-4)
    assert engine.steps.num_played == 2 + 1 + 5
    found = go_on(engine, texts, begins)
    assert engine.steps.num_played == 2 + 1 + 5 + 5
    for slot, (adapter, token_ids) in texts.items():
        wanted = expected(base, folders[adapter], token_ids)[begins[slot] :]
        np.testing.assert_allclose(np.stack(found[slot]), wanted, atol=1e-4)
    with pytest.raises(EngineError, match="not loaded here any more"):
        engine.forward([Chunk(0, 0, [1], "three")])


@pytest.mark.parametrize("family", ["mistral"])
@pytest.mark.parametrize("is_fixed", [False, True], ids=["any", "fixed"])
def test_pages_are_told_as_flash_attention_documents_them(
    engine: TorchEngine, base: Path, monkeypatch: pytest.MonkeyPatch, is_fixed: bool
) -> None:
    """The kernel itself runs on a GPU alone (tests/gpu/test_answers.py)."""
    monkeypatch.setattr(slot_cache, "varlen_attn", documented_varlen_attn)
    engine.cache.uses_flash = True
    if is_fixed:
        engine.steps = Steps(engine.model, engine.cache, engine.adapters, is_recorded=False)
    texts: dict[int, tuple[str | None, list[int]]] = {
        3: (None, text(0, 120)), 1: (None, text(1, 37)), 2: (None, text(2, 75))
    }  # fmt: skip
    begins = {slot: len(token_ids) - 3 for slot, (_, token_ids) in texts.items()}
    for slot, (_, token_ids) in texts.items():
        for at in range(0, begins[slot], READ_TOKENS):
            piece = token_ids[at : min(at + READ_TOKENS, begins[slot])]
            engine.forward([Chunk(slot, at, piece, None)])
    found = go_on(engine, texts, begins)
    for slot, (_, token_ids) in texts.items():
        wanted = expected(base, None, token_ids)[begins[slot] :]
        np.testing.assert_allclose(np.stack(found[slot]), wanted, atol=1e-4)


def documented_varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: Tensor,
    block_table: Tensor,
) -> Tensor:
    """What torch.nn.attention.varlen promises, row by row and in float32."""
    assert {x.dtype for x in (cu_seq_q, cu_seq_k, seqused_k, block_table)} == {torch.int32}
    assert len(cu_seq_q) == len(cu_seq_k) == len(seqused_k) + 1 == len(block_table) + 1
    assert enable_gqa and window_size[1] == 0
    assert key.is_contiguous() and key.shape[1] % 256 == 0
    results = []
    edges = cu_seq_q.tolist()
    for row, (begin, end) in enumerate(itertools.pairwise(edges)):
        used = int(seqused_k[row])
        assert end - begin <= max_q
        assert used <= max_k
        k, v = (x[block_table[row].long()].flatten(0, 1)[:used] for x in (key, value))
        groups = query.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(groups, 1).transpose(0, 1) for x in (k, v))
        distance = torch.arange(used - (end - begin), used)[:, None] - torch.arange(used)
        seen = distance >= 0
        if window_size[0] >= 0:
            seen &= distance <= window_size[0]
        q = query[begin:end].transpose(0, 1)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)
        results.append(y.transpose(0, 1))
    return torch.cat(results)


@cases()
def test_a_slot_cut_back_goes_on_as_if_nothing_had_been_there(engine: TorchEngine) -> None:
    """Behind windows, too; what was cached is what is read anew, bit for bit."""
    first, second = text(0, 200), text(1, 200)
    shared = 2 * READ_TOKENS
    second[:shared] = first[:shared]
    read(engine, first, 1)
    go_on(engine, {1: (None, first + text(2, 20))}, {1: len(first)})
    again = read(engine, second, 1, begin=shared)
    fresh = read(engine, second, 2)
    assert np.array_equal(again, fresh[shared:])
    [cut] = engine.forward([Chunk(1, 70, [second[70]], None)])
    np.testing.assert_allclose(cut[0], fresh[70], atol=1e-4)


def test_chunks_of_any_lengths_side_by_side(engine: TorchEngine, base: Path) -> None:
    texts = {0: text(0, 5), 3: text(1, 40), 1: text(2, 5), 2: [7]}
    chunks = [Chunk(slot, 0, ids, None, all_scores=slot != 3) for slot, ids in texts.items()]
    found = engine.forward(chunks)
    assert [len(scores) for scores in found] == [5, 1, 5, 1]
    for chunk, scores in zip(chunks, found, strict=True):
        wanted = expected(base, None, list(chunk.token_ids))[-len(scores) :]
        np.testing.assert_allclose(scores, wanted, atol=1e-4)
        assert scores.dtype == np.float32


@pytest.mark.parametrize("family", ["llama"])
@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True, "r": 9},
        {"use_dora": True},
        {"alpha_pattern": {"q_proj": 64}, "rank_pattern": {"layers.1.self_attn.o_proj": 2}},
    ],
    ids=["rslora", "dora", "patterns"],
)
def test_other_kinds_of_adapters_alone_and_mixed(
    engine: TorchEngine, base: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    other = make_adapter(tmp_path / "other", base, 1, **config)
    plain = make_adapter(tmp_path / "plain", base, 2, r=8, target_modules=["q_proj", "down_proj"])
    engine.add_adapter("other", other)
    engine.add_adapter("plain", plain)
    token_ids = text(0, 30)
    wanted = {
        name: expected(base, folder, token_ids)
        for name, folder in ((None, None), ("other", other), ("plain", plain))
    }
    np.testing.assert_allclose(read(engine, token_ids, 0, "other"), wanted["other"], atol=1e-4)
    names = dict(enumerate(wanted))
    found = go_on(engine, {n: (names[n], token_ids) for n in names}, dict.fromkeys(names, 0))
    for number, name in names.items():
        np.testing.assert_allclose(np.stack(found[number]), wanted[name], atol=1e-4)


@pytest.mark.parametrize("family", ["qwen2"])
def test_dora_leaves_biases_alone(engine: TorchEngine, base: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        for name, parameter in engine.model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    engine.model.save_pretrained(base)
    other = make_adapter(tmp_path / "other", base, 1, use_dora=True)
    engine.add_adapter("other", other)
    token_ids = text(0, 30)
    wanted = expected(base, other, token_ids)
    np.testing.assert_allclose(read(engine, token_ids, 0, "other"), wanted, atol=1e-4)
    found = go_on(engine, {0: ("other", token_ids), 1: (None, token_ids)}, {0: 0, 1: 0})
    np.testing.assert_allclose(np.stack(found[0]), wanted, atol=1e-4)
    np.testing.assert_allclose(np.stack(found[1]), expected(base, None, token_ids), atol=1e-4)


def test_of_an_adapter_replaced_or_removed_nothing_is_left(
    engine: TorchEngine, base: Path, tmp_path: Path
) -> None:
    one, two = (make_adapter(tmp_path / str(seed), base, seed) for seed in (1, 2))
    token_ids = text(0, 20)
    engine.add_adapter("tuned", one)
    read(engine, token_ids, 0, "tuned")
    engine.add_adapter("tuned", two)
    found = read(engine, token_ids, 0, "tuned")
    np.testing.assert_allclose(found, expected(base, two, token_ids), atol=1e-4)
    engine.remove_adapter("tuned")
    with pytest.raises(EngineError, match="not loaded here any more"):
        read(engine, token_ids, 0, "tuned")
    found = read(engine, token_ids, 0)
    np.testing.assert_allclose(found, expected(base, None, token_ids), atol=1e-4)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("adapter_config.json", {"peft_type": "IA3"}, "kind that is not known here"),
        ("adapter_config.json", {"modules_to_save": ["lm_head"]}, "kind that is not known here"),
        ("adapter_config.json", {"use_dora": True}, "missing or have another shape"),
        ("adapter_model.safetensors", None, "are damaged"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_in_words(
    engine: TorchEngine, base: Path, tmp_path: Path, file: str, changes: Any, words: str
) -> None:
    folder = make_adapter(tmp_path / "tuned", base, 1)
    path = folder / file
    if changes is None:
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(EngineError, match=words):
        engine.add_adapter("tuned", folder)
    assert engine.adapters.loaded == {}


def test_an_adapter_of_another_model_is_refused(engine: TorchEngine, tmp_path: Path) -> None:
    deeper = tmp_path / "deeper"
    torch.manual_seed(0)
    for number, (changes, words) in enumerate(
        (({"num_hidden_layers": 3}, "has no"), ({"intermediate_size": 64}, "another shape"))
    ):
        config = AutoConfig.for_model("gemma2", **SHAPE | FAMILIES["gemma2"] | changes | (
            {"layer_types": None} if "num_hidden_layers" in changes else {}
        ))  # fmt: skip
        AutoModelForCausalLM.from_config(config).save_pretrained(deeper / str(number))
        adapter = make_adapter(tmp_path / str(number), deeper / str(number), 1)
        with pytest.raises(EngineError, match=words):
            engine.add_adapter("foreign", adapter)


def test_files_that_changed_are_not_opened(base: Path) -> None:
    with pytest.raises(EngineError, match="import the model again"):
        TorchEngine.open(base, "0" * 64)
    (base / "config.json").write_text("{}")
    with pytest.raises(EngineError, match="have changed"):
        open_engine(base)


@cases()
def test_the_memory_of_the_slots_is_what_the_parent_counts(engine: TorchEngine, base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    assert engine.cache.num_bytes == kv_bytes(config, 300, 4, "float32")


def test_no_slot_is_longer_than_what_the_model_reads(base: Path) -> None:
    opened = open_engine(base, context_tokens=100_000, num_slots=1)
    assert opened.context_tokens == SHAPE["max_position_embeddings"]
    opened.close()
    # From there on the keys of all tokens would have had other angles.
    phi = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
    assert longest_context(phi | {"rope_scaling": {"type": "longrope"}}) == 4096


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(4, 0, [1], None),
        Chunk(0, 1, [1], None),
        Chunk(0, 0, [], None),
        Chunk(0, 0, [320], None),
        Chunk(0, 0, [1] * 301, None),
    ],
    ids=["slot", "gap", "nothing", "token", "length"],
)
def test_what_would_end_a_gpus_process_is_refused_before(engine: TorchEngine, chunk: Chunk) -> None:
    with pytest.raises(ValueError, match=r"slot|token"):
        engine.forward([chunk])


def test_memory_running_out_is_a_sentence(base: Path) -> None:
    with pytest.raises(EngineError, match="does not fit into the memory"):
        open_engine(base, num_slots=2**40)
