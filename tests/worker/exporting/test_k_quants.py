"""q4_k_m is llama.cpp's recipe, and its bytes are llama.cpp's own."""

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.exporting.k_quants import GgufNote, OtherKind, Recipe, _quantized
from worker.inference import llama_abi

# Of 30 layers, worked out by hand from llama.cpp's rule: the first and last eighth, and each third
# of those between, counted from the end of the first.
MORE_OF_30 = [*range(3), 5, 8, 11, 14, 17, 20, 23, *range(26, 30)]
NUMBERS = {"Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}  # GGML's
PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def names_of(num_layers: int, parts: tuple[str, ...] = PARTS) -> list[str]:
    layers = [f"blk.{layer}.{part}.weight" for layer in range(num_layers) for part in parts]
    return ["token_embd.weight", *layers]


def test_the_recipe_gives_some_layers_more_bits() -> None:
    recipe = Recipe(names_of(30), num_layers=30)
    for part in PARTS:
        more = [
            layer
            for layer in range(30)
            if recipe.kind_of(f"blk.{layer}.{part}.weight", 512, "q4_k_m") == "Q6_K"
        ]
        assert more == (MORE_OF_30 if part in ("attn_v", "ffn_down") else []), part
        assert recipe.kind_of(f"blk.3.{part}.weight", 512, "q4_k_m") == "Q4_K"


def test_the_words_have_more_bits_where_they_are_the_scores_as_well() -> None:
    assert Recipe(names_of(4), 4).kind_of("token_embd.weight", 512, "q4_k_m") == "Q6_K"
    untied = Recipe([*names_of(4), "output.weight"], 4)
    assert untied.kind_of("token_embd.weight", 512, "q4_k_m") == "Q4_K"
    assert untied.kind_of("output.weight", 512, "q4_k_m") == "Q6_K"


def test_a_matrix_of_q_k_and_v_is_treated_as_one_of_v() -> None:
    recipe = Recipe(names_of(32, ("attn_qkv", "attn_output", "ffn_up", "ffn_down")), 32)
    kinds = [recipe.kind_of(f"blk.{n}.attn_qkv.weight", 512, "q4_k_m") for n in range(32)]
    assert kinds[:7] == ["Q6_K"] * 4 + ["Q4_K", "Q4_K", "Q6_K"]
    assert kinds[26:] == ["Q4_K", *["Q6_K"] * 5]


def test_rows_that_cannot_be_divided_get_eight_bits() -> None:
    recipe = Recipe(names_of(4), 4)
    assert recipe.kind_of("blk.3.ffn_up.weight", 576, "q4_k_m") == "Q8_0"
    assert recipe.kind_of("token_embd.weight", 576, "q4_k_m") == "Q8_0"
    assert recipe.kind_of("blk.3.ffn_up.weight", 100, "q4_k_m") == "F16"
    assert recipe.kind_of("blk.3.ffn_up.weight", 100, "q8_0") == "F16"
    note = GgufNote("q4_k_m", 29, [OtherKind("blk.3.ffn_up.weight", "Q8_0")])
    assert note.sentence.startswith("1 of 29 weight matrices are stored in 8 bits (Q8_0) because")
    both = GgufNote("q4_k_m", 29, [OtherKind("a", "F16"), *[OtherKind("b", "Q8_0")] * 4])
    assert both.sentence.startswith(
        "4 of 29 weight matrices are stored in 8 bits (Q8_0) and 1 in 16 bits (F16) because"
    )
    assert GgufNote("q4_k_m", 29, []).sentence == ""


def test_the_largest_models_values_get_five_bits() -> None:
    recipe = Recipe(names_of(80), 80, is_70b=True)
    assert recipe.kind_of("blk.10.attn_v.weight", 8192, "q4_k_m") == "Q5_K"
    assert recipe.kind_of("blk.0.attn_v.weight", 8192, "q4_k_m") == "Q6_K"


@pytest.mark.parametrize("kind", NUMBERS)
def test_rows_are_llama_cpps_to_the_byte(kind: str) -> None:
    draw = np.random.default_rng(0)
    rows = (0.05 * draw.standard_normal((6, 512))).astype(np.float16)
    rows[0] = 0
    rows[1, 100:] = 0
    [found] = _quantized(rows, kind)
    assert found.tobytes() == llama_cpps(rows, kind)


def llama_cpps(rows: NDArray[np.float16], kind: str) -> bytes:
    lib = llama_abi.load()
    quantize = lib.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    exact = np.ascontiguousarray(rows, np.float32)
    out = np.zeros(exact.nbytes, np.uint8)
    size = quantize(
        NUMBERS[kind], exact.ctypes.data, out.ctypes.data, 0, len(exact), exact.shape[1], None
    )
    return out[:size].tobytes()
