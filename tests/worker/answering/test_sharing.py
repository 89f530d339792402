"""How much room a model gets, and by which rule a machine is shared."""

from pathlib import Path
from typing import Any

import pytest

from app.adapters.answering import Training, Use, Wanted, WantedBase
from worker.answering import sharing
from worker.answering.sharing import ON_CPU, Place

GIB = 1024**3
# The starter model: 30 layers of 3 heads of 64 for keys, and for values, of 2 bytes each.
STARTER: dict[str, Any] = {
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "max_position_embeddings": 8192,
}
PER_TOKEN = 2 * 30 * 3 * 64 * 2
WEIGHTS = 145_000_000
ENGINE = 300 * 1024**2
SPARE = 256 * 1024**2


def test_the_cache_of_a_token_is_its_keys_and_values() -> None:
    assert sharing.cache_bytes(STARTER) * 2 == PER_TOKEN
    # As many heads as for questions where it says nothing, and a width of its own where it does.
    assert sharing.cache_bytes(
        {"num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    ) == (2 * 2 * 4 * 8)


@pytest.mark.parametrize(("slots", "context"), [(8, 4096), (8, 2048), (4, 2048), (2, 2048)])
def test_a_model_gets_as_many_chats_as_fit_into_half_of_what_is_free(
    slots: int, context: int
) -> None:
    taken = WEIGHTS + slots * context * PER_TOKEN + ENGINE
    found = sharing.size(ON_CPU, WEIGHTS, STARTER, 2 * taken + SPARE)
    assert found == sharing.Size(slots, context, taken)
    smaller = sharing.size(ON_CPU, WEIGHTS, STARTER, 2 * taken + SPARE - 2)
    assert smaller is not None
    assert smaller.num_bytes < taken


@pytest.mark.parametrize("context", [4096, 2048, 1024, 512])
def test_a_single_chat_may_take_all_that_is_free(context: int) -> None:
    weights = 4 * GIB
    taken = weights + context * PER_TOKEN + ENGINE
    found = sharing.size(ON_CPU, weights, STARTER, taken + SPARE)
    assert found == sharing.Size(1, context, taken)


def test_what_does_not_fit_is_said_with_numbers() -> None:
    least = sharing.least_bytes(ON_CPU, 16 * GIB, STARTER)
    assert sharing.size(ON_CPU, 16 * GIB, STARTER, least) is not None
    assert sharing.size(ON_CPU, 16 * GIB, STARTER, least - 1) is None


def test_a_short_context_is_not_stretched() -> None:
    found = sharing.size(ON_CPU, WEIGHTS, STARTER | {"max_position_embeddings": 256}, 8 * GIB)
    assert found is not None
    assert found.context_tokens == 256


def test_no_slot_is_longer_than_its_engine_reads_right() -> None:
    """llama.cpp knows no window of Phi-3's, and neither engine angles that change with length."""
    windowed = STARTER | {"model_type": "phi3", "sliding_window": 2047}
    turning = STARTER | {
        "rope_scaling": {"type": "longrope"},
        "original_max_position_embeddings": 1024,
    }
    on_gpu = Place("transformers", "cuda:0", "0")
    for place, config, tokens in (
        (ON_CPU, windowed, 2047),
        (on_gpu, windowed, 4096),
        (ON_CPU, turning, 1024),
        (on_gpu, turning, 1024),
    ):
        found = sharing.size(place, WEIGHTS, config, 64 * GIB)
        assert found is not None
        assert found.context_tokens == tokens


def test_a_gpu_holds_more_chats() -> None:
    place = Place("transformers", "cuda:0", "0")
    found = sharing.size(place, WEIGHTS, STARTER, 20 * GIB)
    assert found is not None
    assert found.num_slots == 32


def test_the_rule_says_who_has_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_DEVICE", "cuda:0,cuda:1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices = sharing.Devices()
    assert devices.physical == {"cuda:0": "0", "cuda:1": "1"}
    assert "on the graphics card" in devices.rule(Use())
    one = Training(1, ("cuda:0",))
    assert devices.rule(Use((one,))) == devices.rule(Use())
    assert devices.in_the_way(Use((one,))) == []
    both = Use((one, Training(2, ("cuda:1",))))
    assert devices.rule(both).startswith("{jobs} training on the graphics card")
    assert devices.in_the_way(both) == [1, 2]
    out = Use(quarantined=frozenset({"cuda:0", "cuda:1"}))
    assert devices.rule(out).startswith("An administrator has taken the graphics card out of use.")
    monkeypatch.setenv("ETUDE_DEVICE", "cpu")
    devices = sharing.Devices()
    assert "{jobs} training on this machine's processor" in devices.rule(Use((one,)))
    assert devices.in_the_way(Use((one,))) == [1]


def test_what_is_too_large_says_when_training_ends() -> None:
    base = WantedBase(1, "house/tiny", "Tiny", Path(), "", 0, {})
    use = Use((Training(1, ("cpu",)),))
    for running, end, words in (
        (Use(), "", "; use a smaller model."),
        (use, "", "; ask again when the training on this machine has ended."),
        (use, "about 14:10", "has ended (expected: about 14:10)."),
    ):
        said = sharing.too_large(Wanted(base, None), 2 * 10**9, 10**9, running, end)
        assert said.endswith(words)


def test_a_gpu_is_taken_once_and_let_go(monkeypatch: pytest.MonkeyPatch, data_dir: object) -> None:
    monkeypatch.setenv("ETUDE_DEVICE", "cuda:0,cuda:1")
    mine, other = sharing.Devices(), sharing.Devices()
    place = mine.take(Use())
    assert place == Place("transformers", "cuda:0", "0")
    assert mine.take(Use()) == place  # another model, on the same one
    assert other.take(Use()) == Place("transformers", "cuda:1", "1")
    assert sharing.Devices().take(Use()) is None
    assert mine.take(Use((Training(1, ("cuda:0",)),))) is None
    mine.let_go(set())
    assert other.is_one_free(Use())
    out = Use(quarantined=frozenset({"cuda:0", "cuda:1"}))
    assert not other.is_one_free(out)
    assert sharing.Devices().take(Use()) == place
