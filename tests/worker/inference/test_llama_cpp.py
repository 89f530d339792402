"""What llama.cpp's slots hold is their own: bit for bit what each would say alone."""

import ctypes
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import patience
from tests.worker.inference import tiny_models
from tests.worker.inference.conftest import Family
from worker.inference import llama_abi
from worker.inference.engine import READ_TOKENS, Chunk, EngineError
from worker.inference.llama_cpp import Interrupted, LlamaCpp, kv_bytes, max_context_tokens

PROMPT, OTHER = tiny_models.prompts(2, length=100)
Scores = NDArray[np.float32]


def read(
    engine: LlamaCpp, ids: list[int], slot: int = 0, adapter: str | None = None, start: int = 0
) -> Scores:
    """Read a prompt in its pieces, from one of their beginnings on."""
    for position in range(start, len(ids), READ_TOKENS):
        piece = ids[position : position + READ_TOKENS]
        [scores_RV] = engine.forward([Chunk(slot, position, piece, adapter)])
    last_V: Scores = scores_RV[0].copy()
    return last_V


def say(engine: LlamaCpp, ids: list[int], num: int = 8, adapter: str | None = None) -> list[Scores]:
    """Go on with the likeliest tokens, and return the scores of each."""
    rows = [read(engine, ids, adapter=adapter)]
    for index in range(num):
        token = int(rows[-1].argmax())
        [scores_RV] = engine.forward([Chunk(0, len(ids) + index, [token], adapter)])
        rows.append(scores_RV[0].copy())
    return rows


@pytest.fixture
def engine(llama: Family) -> LlamaCpp:
    engine = LlamaCpp(llama.q8_0, num_slots=3, context_tokens=200)
    engine.add_adapter("tuned", llama.lora)
    return engine


def test_what_was_cached_changes_nothing(engine: LlamaCpp) -> None:
    alone = say(engine, PROMPT)
    cached = read(engine, PROMPT, start=READ_TOKENS)  # over what was said behind it
    assert np.array_equal(cached, alone[0])
    longer = read(engine, [*PROMPT[:READ_TOKENS], *OTHER], start=READ_TOKENS)
    afresh = read(engine, [*PROMPT[:READ_TOKENS], *OTHER])
    assert np.array_equal(longer, afresh)
    assert not np.array_equal(longer, alone[0])


def test_all_scores_are_those_of_each_token(engine: LlamaCpp) -> None:
    last = read(engine, PROMPT)
    [all_RV] = engine.forward([Chunk(1, 0, PROMPT, None, all_scores=True)])
    assert all_RV.shape == (len(PROMPT), tiny_models.VOCABULARY)
    assert np.array_equal(all_RV[-1], last)
    assert len({row.tobytes() for row in all_RV}) == len(PROMPT)


def test_slots_do_not_mix(engine: LlamaCpp) -> None:
    alone = [read(engine, PROMPT), read(engine, OTHER)]
    first = read(engine, PROMPT, slot=0)
    second = read(engine, OTHER, slot=2)
    assert np.array_equal(first, alone[0])
    assert np.array_equal(second, alone[1])
    # Side by side, in either order, each goes on with its own; the third begins meanwhile.
    expected = [engine.forward([Chunk(0, len(PROMPT), [5], None)])[0][0].copy()]
    expected += [engine.forward([Chunk(2, len(OTHER), [5], None)])[0][0].copy()]
    chunks = [Chunk(2, len(OTHER), [5], None), Chunk(0, len(PROMPT), [5], None)]
    other, mine, new = engine.forward([*chunks, Chunk(1, 0, [7], None)])
    for found, right in ((mine[0], expected[0]), (other[0], expected[1])):
        np.testing.assert_allclose(found, right, atol=0.02)
    begun = new[0].copy()
    np.testing.assert_allclose(begun, engine.forward([Chunk(1, 0, [7], None)])[0][0], atol=0.02)


@pytest.mark.parametrize("adapter", [None, "tuned"])
def test_company_changes_nothing(engine: LlamaCpp, adapter: str | None) -> None:
    """In Q8_0 products are sums of whole numbers, in whatever order a batch adds them up."""
    prompts = tiny_models.prompts(3, length=70)
    alone = []
    for slot, ids in enumerate(prompts):
        read(engine, ids, slot, adapter)
        [rows] = engine.forward([Chunk(slot, len(ids), [9], adapter)])
        alone.append(rows[0].copy())
    chunks = [Chunk(slot, len(ids), [9], adapter) for slot, ids in enumerate(prompts)]
    for found, expected in zip(engine.forward(chunks), alone, strict=True):
        np.testing.assert_allclose(found[0], expected, atol=0.05)


def test_adapters_do_not_mix(engine: LlamaCpp) -> None:
    plain, tuned = say(engine, PROMPT), say(engine, PROMPT, adapter="tuned")
    assert not np.allclose(plain[0], tuned[0], atol=0.1)
    # In turns, each in a slot of its own.
    for _ in range(2):
        assert np.array_equal(read(engine, PROMPT, slot=0), plain[0])
        assert np.array_equal(read(engine, PROMPT, slot=1, adapter="tuned"), tuned[0])
    with pytest.raises(AssertionError, match="one adapter"):
        engine.forward([Chunk(0, 0, [1], None), Chunk(1, 0, [1], "tuned")])
    with pytest.raises(AssertionError, match="began with"):
        engine.forward([Chunk(1, len(PROMPT), [1], None)])


def test_an_adapter_is_gone_once_it_is_removed(engine: LlamaCpp, llama: Family) -> None:
    tuned = read(engine, PROMPT, adapter="tuned")
    engine.remove_adapter("tuned")
    with pytest.raises(KeyError):
        engine.forward([Chunk(0, 0, [1], "tuned")])
    plain = read(engine, PROMPT)
    assert not np.allclose(plain, tuned, atol=0.1)
    engine.add_adapter("tuned", llama.lora)
    # What it had read before cannot be gone on with: that may have been another of this name.
    with pytest.raises(AssertionError):
        engine.forward([Chunk(0, len(PROMPT), [1], "tuned")])
    assert np.array_equal(read(engine, PROMPT, adapter="tuned"), tuned)


def test_a_stop_ends_what_is_being_read(engine: LlamaCpp) -> None:
    before = read(engine, PROMPT)
    ended: list[BaseException] = []
    running = threading.Event()

    def go_on() -> None:
        try:
            while True:
                read(engine, PROMPT, slot=1)
                running.set()
        except Interrupted as error:
            ended.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    assert running.wait(patience.seconds(30))
    engine.interrupt()
    thread.join(patience.seconds(1))
    assert not thread.is_alive()
    assert len(ended) == 1
    # It can be done again, and others' slots hold what they held.
    assert np.array_equal(read(engine, PROMPT, slot=1), before)
    assert np.array_equal(read(engine, PROMPT, start=READ_TOKENS), before)


def test_a_stop_is_felt_inside_of_a_piece(engine: LlamaCpp) -> None:
    """Not only between two: a piece of a large model takes seconds."""
    [scores_RV] = engine.forward([Chunk(0, 0, PROMPT[:READ_TOKENS], None)])
    before = scores_RV.copy()
    engine.interrupt()
    with pytest.raises(Interrupted):
        engine.forward([Chunk(0, 0, OTHER[:READ_TOKENS], None)])
    # llama.cpp's own memory, where the new scores would stand had it gone on to the end.
    assert np.array_equal(scores_RV, before)
    engine.forward([Chunk(0, 0, OTHER[:READ_TOKENS], None)])
    assert not np.array_equal(scores_RV, before)


def test_files_that_do_not_fit_are_refused(llama: Family, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(llama.f16.read_bytes()[:100_000])
    for file in (broken, tmp_path / "none.gguf"):
        with pytest.raises(EngineError, match="could not load"):
            LlamaCpp(file)
    engine = LlamaCpp(llama.f16, context_tokens=64)
    for file in (broken, llama.f16, tmp_path / "none.gguf"):
        with pytest.raises(EngineError, match="does not fit"):
            engine.add_adapter("odd", file)
    engine.close()


def test_another_build_is_not_used() -> None:
    """Its structures may lie otherwise: what it says of itself and its defaults tell."""
    lib = llama_abi.load()

    class Other:
        def __init__(self, **changes: object) -> None:
            self.changes = changes

        def __getattr__(self, name: str) -> object:
            return self.changes.get(name) or getattr(lib, name)

    def moved() -> llama_abi.ContextParams:
        """A field more before the truth values moves them, as the next version's may."""
        right = bytes(lib.llama_context_default_params())
        place = llama_abi.ContextParams.embeddings.offset
        wrong = right[:place] + bytes(8) + right[place:-8]
        return llama_abi.ContextParams.from_buffer_copy(wrong)

    def doubled() -> llama_abi.ModelParams:
        params: llama_abi.ModelParams = lib.llama_model_default_params()
        params.n_gpu_layers = 99
        return params

    llama_abi.check(Other())
    for change in (
        {"llama_version": lambda: b"0.7.0"},
        {"ggml_version": lambda: b"0.27.0"},
        {"llama_context_default_params": moved},
        {"llama_model_default_params": doubled},
    ):
        with pytest.raises(EngineError, match=f"install xllamacpp {llama_abi.VERSION}"):
            llama_abi.check(Other(**change))
    assert ctypes.sizeof(llama_abi.ModelParams) == 80
    assert ctypes.sizeof(llama_abi.ContextParams) == 168


def test_the_caches_memory_is_foretold() -> None:
    """By hand, for the starter model: 30 layers, 3 heads of 64, keys and values, 2 bytes each."""
    starter = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    config = starter | {"hidden_size": 576}
    assert kv_bytes(config, 1024, 4) == 30 * 3 * 64 * 2 * 2 * 1024 * 4
    assert kv_bytes(config, 1000, 1) == kv_bytes(config, 1024, 1)
    assert kv_bytes(config | {"head_dim": 128}, 1024, 1) == 2 * kv_bytes(config, 1024, 1)


def test_a_slot_is_no_longer_than_llama_cpp_reads_as_the_reference_does() -> None:
    limits = {"max_position_embeddings": 131072}
    assert max_context_tokens(limits | {"model_type": "qwen3"}) == 131072
    long_rope = {"rope_scaling": {"rope_type": "longrope"}} | limits
    assert max_context_tokens(long_rope | {"original_max_position_embeddings": 4096}) == 4096
    # These windows it does not know; those of Gemma it does.
    window = {"sliding_window": 4096} | limits
    assert max_context_tokens(window | {"model_type": "mistral"}) == 4096
    assert max_context_tokens(window | {"model_type": "phi3"}) == 4096
    assert max_context_tokens(window | {"model_type": "gemma3_text"}) == 131072
    unused = window | {"model_type": "qwen2", "use_sliding_window": False}
    assert max_context_tokens(unused) == 131072
