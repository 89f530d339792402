"""A stranger's model folder: how large it is, and which numbers it names.

Whatever is refused is refused before anything of it is used: a million layers take a day to lay
out.
"""

import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.base_models.folders import ModelFolder
from app.base_models.wanted_files import MAX_HEADER_BYTES

MAX_JSON_BYTES = 50 * 1024**2
_MAX_TENSORS, _MAX_GGUF_KEYS = 20_000, 10_000
_COPIED_BYTES = 2**26
# Many times what the largest open models have.
_MOST = {
    "num_hidden_layers": 1_000,
    "hidden_size": 131_072,
    "intermediate_size": 1_048_576,
    "num_attention_heads": 4_096,
    "num_key_value_heads": 4_096,
    "head_dim": 8_192,
    "vocab_size": 1_000_000,
    "max_position_embeddings": 100_000_000,
}
_MOST_OF_ANY, _MOST_IN_A_LIST = 10**12, 10_000
# What GGUF calls the same, behind the name of the architecture.
_GGUF_NAMES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
}


class Unusable(Exception):
    """The model cannot be imported; a sentence that says why and what to do."""


def copy(
    origin: ModelFolder,
    name: str,
    folder: Path,
    max_bytes: int | None = None,
    told: Callable[[int], object] = lambda _: None,
) -> None:
    """Copy a file of a stranger's folder.

    Args:
        told: Called with the bytes of each piece, once it is copied.

    Raises:
        Outside: it is none of its own.
        Unusable: it is larger than that.
    """
    with origin.opened(name) as source, (folder / name).open("xb") as copied:
        _require_size(name, os.fstat(source.fileno()).st_size, max_bytes)
        offset = 0
        while sent := os.sendfile(copied.fileno(), source.fileno(), offset, _COPIED_BYTES):
            offset += sent
            told(sent)


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a file that was copied.

    Raises:
        Unusable: it is not there, too large, or holds none.
    """
    try:
        with path.open("rb") as file:
            _require_size(path.name, os.fstat(file.fileno()).st_size, MAX_JSON_BYTES)
            content = json.loads(file.read())
    except FileNotFoundError:
        raise Unusable(f"The model's folder has no {path.name}.") from None
    except (ValueError, RecursionError) as error:
        line = f" (look at line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Unusable(f"{path.name} is not valid JSON{line}.") from None
    if not isinstance(content, dict):
        raise Unusable(f"{path.name} does not hold an object.")
    return content


def head(origin: ModelFolder, name: str, num_bytes: int) -> bytes:
    """Return the first bytes of a file of a stranger's folder."""
    with origin.opened(name) as file:
        return file.read(num_bytes)


def require_bounds(config: dict[str, Any]) -> None:
    """Refuse a config.json whose numbers no model has.

    Raises:
        Unusable: naming the first of them.
    """
    for name, most in _MOST.items():
        value = config.get(name)
        if value is not None and not (_is_whole(value) and 1 <= value <= most):
            raise Unusable(
                f"config.json says that {name} is {_shown(value)}, and at most {most:,} can be "
                "right; get the original files."
            )
    for name, value in config.items():
        if not _is_bounded(value):
            raise Unusable(
                f"config.json says something of {name} that cannot be right "
                f"({_shown(value)}); get the original files."
            )


def require_tensors(origin: ModelFolder, name: str, num_before: int = 0) -> int:
    """Count the tensors of a safetensors file by its head.

    Returns:
        How many there are, with those of the files before.

    Raises:
        Unusable: the head is damaged or has more than a model needs.
    """
    with origin.opened(name) as file:
        length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        if length > min(MAX_HEADER_BYTES, size):
            raise Unusable(f"{name} is damaged: its list of weights is longer than it may be.")
        try:
            names = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise Unusable(f"{name} is damaged: its list of weights is not JSON.") from None
    number = num_before + (len(names) if isinstance(names, dict) else 0)
    if number > _MAX_TENSORS:
        raise Unusable(f"The model's files hold more than {_MAX_TENSORS:,} weights; get others.")
    return number


def require_gguf_counts(origin: ModelFolder, name: str) -> None:
    """Look at the head of a GGUF file, before a reader of it counts as far as it says.

    Raises:
        Unusable: no model has so many keys or tensors.
    """
    start = head(origin, name, 24)
    if len(start) < 24:
        raise Unusable(f"{name} is damaged: it ends within its head.")
    _, _, num_tensors, num_keys = struct.unpack("<4sIQQ", start)
    if num_tensors > _MAX_TENSORS or num_keys > _MAX_GGUF_KEYS:
        raise Unusable(
            f"{name} says that it holds {num_tensors:,} tensors and {num_keys:,} keys, which "
            "no model does; get the original file."
        )


def config_of_gguf(reader: Any) -> dict[str, Any]:
    """Return the sizes that a GGUF file names, by what config.json calls them."""

    def value(key: str) -> Any:
        field = reader.get_field(key)
        return field.contents() if field is not None else None

    architecture = value("general.architecture")
    found: dict[str, Any] = {}
    for ending, name in _GGUF_NAMES.items():
        said = value(f"{architecture}.{ending}")
        if said is not None:
            found[name] = max(said) if isinstance(said, list) and said else said
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_bounded(value: Any) -> bool:
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= _MOST_OF_ANY
    if isinstance(value, list):
        return len(value) <= _MOST_IN_A_LIST and all(map(_is_bounded, value))
    if isinstance(value, dict):
        return len(value) <= _MOST_IN_A_LIST and all(map(_is_bounded, value.values()))
    return True


def _shown(value: Any) -> str:
    return f"{value:,}" if _is_whole(value) and abs(value) < 10**15 else f"{value!r:.20}"


def _require_size(name: str, size_bytes: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size_bytes > max_bytes:
        raise Unusable(f"{name} is unreasonably large; choose another copy of the model.")
