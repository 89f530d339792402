"""A GGUF file's head is read as far as it has come, and is believed in nothing."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from app.base_models.gguf_head import num_weights
from app.base_models.wanted_files import growth


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-Q4_0.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_token_list([f"word{number}" for number in range(500)])
    writer.add_token_scores([0.5] * 500)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    # 32 weights of four bits are 18 bytes.
    packed = np.zeros((8, 18 * 2), dtype=np.uint8)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=GGMLQuantizationType.Q4_0)
    writer.add_tensor("output_norm.weight", np.zeros(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_its_weights_are_counted_before_the_rest_has_come(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    assert num_weights(file) == 8 * 64 + 64
    coming = tmp_path / "0.part"
    for size in (0, 3, 24, 1000):
        coming.write_bytes(whole[:size])
        assert num_weights(coming) is None
    coming.write_bytes(whole[: len(whole) - 300])
    assert num_weights(coming) == 8 * 64 + 64


@pytest.mark.parametrize(
    "head",
    [
        b"GGUF" + struct.pack("<IQQ", 3, 10**9, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 10**9),
        b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 2**63) + b"x" * 100,
        b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 1, 1, b"k", 99) + b"x" * 100,
        b"PK34" + bytes(100),
    ],
)
def test_a_head_that_no_model_has_says_nothing(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "0.part"
    path.write_bytes(head)
    assert num_weights(path) is None


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("Qwen3-0.6B-Q4_K_M.gguf", 4),
        ("model.Q8_0.gguf", 2),
        ("a model (q2).gguf", 8),
        ("m-IQ3_XS.gguf", 16 / 3),
        ("m-BF16.gguf", 1),
        ("m-f32.gguf", 1),
        ("Qwen3.gguf", 4),
        ("model-00001-of-00002.safetensors", 1),
    ],
)
def test_until_then_its_name_says_how_large_its_copy_can_be(name: str, times: float) -> None:
    assert growth(name) == times
