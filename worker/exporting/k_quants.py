"""A GGUF file of 16 bits in fewer: q8_0, or q4_k_m by llama.cpp's recipe.

q4_k_m is a recipe and no kind: which matrices get four bits, and which five or six, is decided as
llama.cpp's own quantizer does (src/llama-quant.cpp, b10605, LLAMA_FTYPE_MOSTLY_Q4_K_M). One thing
is not: rows that cannot be cut into blocks of 256 get eight bits, where llama.cpp takes five or
eight. Rows are quantized by libgguf, whose bytes are llama.cpp's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worker.inference.gguf_writing import new_file, use_converter

Kind = Literal["q8_0", "q4_k_m"]
_K_BLOCK, _Q8_BLOCK = 256, 32
# As float32, so that a large vocabulary's matrix takes no more memory than a small one's.
_CHUNK_ELEMENTS = 16 * 1024**2
_FILE_TYPES: Mapping[Kind, str] = {"q8_0": "MOSTLY_Q8_0", "q4_k_m": "MOSTLY_Q4_K_M"}
_OURS = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")


@dataclass(frozen=True)
class OtherKind:
    """A matrix that has another kind than the file's name says."""

    tensor: str
    kind: str  # llama.cpp's name: "Q8_0" or "F16"


@dataclass(frozen=True)
class GgufNote:
    """What is to be said of a file beside its name."""

    kind: str
    num_matrices: int
    others: list[OtherKind]

    @property
    def sentence(self) -> str:
        """Return it in words for a person; empty where the name says all."""
        if not self.others:
            return ""
        eight = sum(other.kind == "Q8_0" for other in self.others)
        kept = [(eight, "8 bits (Q8_0)"), (len(self.others) - eight, "16 bits (F16)")]
        (first, bits), *more = [(num, bits) for num, bits in kept if num]
        return (
            f"{first} of {self.num_matrices} weight matrices are stored in {bits}"
            f"{''.join(f' and {num} in {others}' for num, others in more)} "
            f"because their rows cannot be divided as {self.kind} asks."
        )


def quantize_gguf(source: Path, out: Path, kind: Kind) -> GgufNote:
    """Write a GGUF file of 16 bits in another kind, with all that it says of itself.

    Args:
        source: What `write_merged_gguf` wrote in f16.
        out: The file to write; it is there whole or not at all.
        kind: Of its matrices; vectors stay as they are.

    Returns:
        Which matrices got another kind than that.
    """
    use_converter()
    import gguf

    reader: Any = gguf.GGUFReader(source)
    architecture = str(reader.get_field("general.architecture").contents())
    names = [tensor.name for tensor in reader.tensors if _is_matrix(tensor)]
    recipe = Recipe(names, _num_layers(reader, architecture), _is_70b(reader, architecture))
    wanted = {
        tensor.name: recipe.kind_of(tensor.name, int(tensor.shape[0]), kind)
        for tensor in reader.tensors
        if _is_matrix(tensor)
    }
    with new_file(out) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        _copy_fields(reader, writer)
        writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[kind]])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for tensor in reader.tensors:
            _describe(writer, tensor, wanted.get(tensor.name))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in reader.tensors:
            writer.write_tensor_data(_data(tensor, wanted.get(tensor.name)))
        writer.close()
    fallbacks = ("F16",) if kind == "q8_0" else ("Q8_0", "F16")
    others = [OtherKind(name, found) for name, found in wanted.items() if found in fallbacks]
    return GgufNote(kind=kind, num_matrices=len(wanted), others=others)


def count_matrices(file: Path) -> int:
    """Return how many of a GGUF file's tensors are matrices of weights."""
    use_converter()
    import gguf

    return sum(map(_is_matrix, gguf.GGUFReader(file).tensors))


class Recipe:
    """Which kind each matrix of a model gets."""

    def __init__(self, names: Sequence[str], num_layers: int, is_70b: bool = False) -> None:
        """Look at all matrices first: what one gets depends on which others there are.

        Args:
            names: Of all matrices, by llama.cpp's names.
            num_layers: How many layers the model has.
            is_70b: Whether it is one of those whose eight heads share a small matrix of values.
        """
        self.num_layers, self.is_70b = num_layers, is_70b
        self.is_tied = "output.weight" not in names
        # llama.cpp counts those that have such a matrix, and not all layers.
        values = [name for name in names if _part(name) in ("attn_v", "attn_qkv")]
        self._places = {name: place for place, name in enumerate(sorted(values, key=_layer))}

    def kind_of(self, name: str, row_length: int, kind: Kind) -> str:
        """Return a matrix's kind by its GGML name.

        Args:
            name: llama.cpp's.
            row_length: How many weights a row has.
            kind: Of the file.
        """
        wanted = "Q8_0" if kind == "q8_0" else self._k_kind(name)
        if wanted != "Q8_0" and row_length % _K_BLOCK:
            wanted = "Q8_0"
        return wanted if row_length % _Q8_BLOCK == 0 else "F16"

    def _k_kind(self, name: str) -> str:
        part = _part(name)
        if part == "output" or (part == "token_embd" and self.is_tied):
            return "Q6_K"
        if name in self._places:
            few = "Q5_K" if self.is_70b else "Q4_K"
            return "Q6_K" if _wants_more(self._places[name], len(self._places)) else few
        if part == "ffn_down" and _wants_more(_layer(name), self.num_layers):
            return "Q6_K"
        return "Q4_K"


def _wants_more(place: int, number: int) -> bool:
    """Say whether a layer is among the first, the last, or each third between."""
    eighth = number // 8
    return place < eighth or place >= 7 * number // 8 or (place - eighth) % 3 == 2


def _part(name: str) -> str:
    """Return which matrix of its layer, or of the model, a tensor is."""
    return name.removesuffix(".weight").rpartition(".")[2]


def _layer(name: str) -> int:
    return int(name.split(".")[1])


def _is_matrix(tensor: Any) -> bool:
    return len(tensor.shape) > 1 and tensor.name.endswith(".weight")


def _num_layers(reader: Any, architecture: str) -> int:
    return int(reader.get_field(f"{architecture}.block_count").contents())


def _is_70b(reader: Any, architecture: str) -> bool:
    heads = [
        reader.get_field(f"{architecture}.attention.{which}")
        for which in ("head_count", "head_count_kv")
    ]
    counts = [field.contents() if field else None for field in heads]
    is_known = architecture in ("llama", "qwen2") and _num_layers(reader, architecture) == 80
    return is_known and (architecture == "qwen2" or counts[0] != counts[1])


def _copy_fields(reader: Any, writer: Any) -> None:
    """Take over all that a file says of itself but what depends on its kind."""
    import gguf

    for field in reader.fields.values():
        if field.name.startswith(_OURS):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)


def _describe(writer: Any, tensor: Any, wanted: str | None) -> None:
    import gguf

    if wanted is None or wanted == "F16":
        data = tensor.data
        writer.add_tensor_info(
            tensor.name, data.shape, data.dtype, data.nbytes, raw_dtype=tensor.tensor_type
        )
        return
    kind = gguf.GGMLQuantizationType[wanted]
    shape = gguf.quant_shape_to_byte_shape(tensor.data.shape, kind)
    num_bytes = int(np.prod(shape))
    writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), num_bytes, raw_dtype=kind)


def _data(tensor: Any, wanted: str | None) -> NDArray[Any]:
    if wanted is None or wanted == "F16":
        data: NDArray[Any] = tensor.data
        return data
    return np.concatenate(list(_quantized(tensor.data, wanted)))


def _quantized(matrix: NDArray[Any], wanted: str) -> Iterator[NDArray[np.uint8]]:
    """Quantize a matrix of 16 bits, some rows at a time."""
    import libgguf

    kind = libgguf.GGMLQuantizationType[wanted]
    rows_each = max(1, _CHUNK_ELEMENTS // matrix.shape[-1])
    for start in range(0, len(matrix), rows_each):
        rows = np.ascontiguousarray(matrix[start : start + rows_each], dtype=np.float32)
        yield libgguf.quantize_rows(rows, kind)
