"""The catalogue: its figures add up, and nothing in it is a guess."""

import re

import pytest

from app.base_models import catalog
from app.base_models.catalog import Entry
from app.base_models.registry import STARTER_NAME
from app.training.plan.shape import PACKED_MODELS


def _count(entry: Entry) -> int:
    """Count the weights of a model of this shape, with its family's layers."""
    config, kind = entry.config, entry.config["model_type"]
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    query = config["num_attention_heads"] * config["head_dim"]
    key = config["num_key_value_heads"] * config["head_dim"]
    norms = hidden * (4 if kind.startswith("gemma") else 2)
    if kind in ("qwen3", "gemma3_text"):
        norms += 2 * config["head_dim"]
    biases = query + 2 * key if kind == "qwen2" else 0
    layer = 2 * hidden * (query + key) + 3 * hidden * config["intermediate_size"] + norms + biases
    embeddings = hidden * config["vocab_size"] * (1 if config["tie_word_embeddings"] else 2)
    total: int = layers * layer + embeddings + hidden
    return total


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.label)
def test_an_entry_adds_up(entry: Entry) -> None:
    assert _count(entry) == entry.parameters
    assert entry.config["model_type"] in PACKED_MODELS, "a family that is not proved"
    assert re.fullmatch("[0-9a-f]{40}|", entry.revision)
    assert all(re.fullmatch("[a-z]{2}", language) for language in entry.languages)
    assert entry.licence and entry.terms.endswith(".") and entry.use.endswith(".")
    assert 0.1e9 < entry.parameters < 15e9


def test_it_has_what_houses_ask_for() -> None:
    found = catalog.entries()
    assert len(found) >= 15
    assert len({entry.name for entry in found}) == len(found)
    assert catalog.by_name(STARTER_NAME) == found[0]
    assert catalog.by_name("nobody/nothing") is None
    families = {entry.config["model_type"] for entry in found}
    assert {"llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3"} <= families
    for wanted in ("Europe", "medicine"):
        assert any(wanted in entry.use for entry in found)
    qwen = catalog.by_name("Qwen/Qwen3-4B")
    assert qwen is not None and qwen.speaks("nl")
    assert not found[0].speaks("de")


def test_a_size_that_nobody_could_look_up_is_about() -> None:
    small, starter = catalog.by_name("Qwen/Qwen3-0.6B"), catalog.entries()[0]
    assert small is not None
    assert (small.size, starter.size) == ("1.5 GB", "about 269.0 MB")
    for entry in catalog.entries():
        if entry.weights_bytes:
            assert 1.98 * entry.parameters < entry.weights_bytes < 2.6 * entry.parameters
            assert any("/tree/" in source for source in entry.sources)
