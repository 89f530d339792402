"""How large exports will be, said before they are made, beside what such files measure."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.adapters import exports, gguf_sizes
from app.core.models import ExportForm, Quantization
from tests.factories import make_adapter

Q = Quantization
STARTER: dict[str, Any] = {
    **{"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30},
    **{"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152},
    "tie_word_embeddings": True,
}
LLAMA_8B: dict[str, Any] = {
    **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
    **{"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
    "tie_word_embeddings": False,
}
NUM_STARTER, NUM_LLAMA = 134_515_008, 8_030_261_248


@pytest.mark.parametrize(
    ("config", "num", "quantization", "measured_bytes"),
    [
        (STARTER, NUM_STARTER, Q.F16, 271e6),
        (STARTER, NUM_STARTER, Q.Q8_0, 144e6),  # docs/exports-gguf.md
        (STARTER, NUM_STARTER, Q.Q4_K_M, 134e6),  # rows of 576 cannot be cut into 256
        (LLAMA_8B, NUM_LLAMA, Q.Q4_K_M, 4.92e9),  # as Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf
        (LLAMA_8B, NUM_LLAMA, Q.Q8_0, 8.54e9),
    ],
)
def test_a_gguf_file_is_as_large_as_its_rows_allow(
    config: dict[str, Any], num: int, quantization: Quantization, measured_bytes: float
) -> None:
    said = num * gguf_sizes.bytes_per_weight(config, num, quantization)
    assert said == pytest.approx(measured_bytes, rel=0.02)


def test_rows_that_fit_no_block_stay_in_16_bits() -> None:
    odd = STARTER | {"hidden_size": 540, "intermediate_size": 1500, "vocab_size": 540}
    for quantization in (Q.Q8_0, Q.Q4_K_M):
        assert gguf_sizes.bytes_per_weight(odd, 10**6, quantization) == 2.0


def test_a_starting_model_of_32_bits_takes_its_own_room(db: Session) -> None:
    adapter = make_adapter(db)
    base = adapter.base_model
    base.num_parameters, base.size_bytes = 10**9, 4 * 10**9
    assert exports.expected_bytes(adapter, ExportForm.VLLM, Q.AS_TRAINED) >= 4 * 10**9
    assert exports.disk_bytes(adapter, ExportForm.VLLM, Q.AS_TRAINED) >= 8 * 10**9
    assert exports.memory_bytes(adapter) == 4 * 10**9 + 2 * 1024**3
    # What is merged is written in 16 bits.
    assert exports.expected_bytes(adapter, ExportForm.MERGED, Q.BF16) < 2.1 * 10**9


def test_the_disk_held_is_enough_for_what_a_small_model_takes_in_four_bits(db: Session) -> None:
    """Merged, 16 bits as GGUF, the file itself, and its zip, all at once."""
    adapter = make_adapter(db)
    adapter.base_model.config, adapter.base_model.num_parameters = STARTER, NUM_STARTER
    held = exports.disk_bytes(adapter, ExportForm.GGUF_MERGED, Q.Q4_K_M)
    assert held >= 269e6 + 271e6 + 134e6 + 134e6
