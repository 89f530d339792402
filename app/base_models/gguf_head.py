"""What the head of a GGUF file says, while the rest of it may still be coming.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from pathlib import Path
from typing import Any

# The largest heads, with a vocabulary of 262,000 words, have half of it.
MAX_BYTES = 32 * 1024**2
_MAX_KEYS, _MAX_TENSORS, _MAX_DIMENSIONS = 10_000, 20_000, 8
_FORMATS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "B",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9


def num_weights(path: Path) -> int | None:
    """Count the weights that a file's head lists.

    Returns:
        Their number; None where the head has not come whole, or cannot be read.
    """
    with path.open("rb") as file:
        head = _Head(file.read(MAX_BYTES))
    try:
        return head.num_weights()
    except (struct.error, ValueError, OverflowError):
        return None


class _Head:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def num_weights(self) -> int:
        magic, version, num_tensors, num_keys = (self._take(kind) for kind in ("4s", "I", "Q", "Q"))
        if magic != b"GGUF" or version < 2:
            raise ValueError("no GGUF file of today")
        if num_tensors > _MAX_TENSORS or num_keys > _MAX_KEYS:
            raise ValueError("more than any model has")
        for _ in range(num_keys):
            self._skip_string()
            self._skip_value(self._take("I"))
        return sum(self._size_of_tensor() for _ in range(num_tensors))

    def _size_of_tensor(self) -> int:
        self._skip_string()
        num_dimensions = self._take("I")
        if num_dimensions > _MAX_DIMENSIONS:
            raise ValueError("more dimensions than any tensor has")
        size = 1
        for _ in range(num_dimensions):
            size *= self._take("Q")
        self._take("I")  # its type
        self._take("Q")  # where it begins
        return size

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip_string()
        elif kind != _ARRAY:
            self._take(_FORMATS.get(kind, "x"))
        else:
            kind, number = self._take("I"), self._take("Q")
            if kind == _STRING:
                for _ in range(number):
                    self._skip_string()
            elif kind in _FORMATS:
                self._at += number * struct.calcsize(f"<{_FORMATS[kind]}")
            else:
                raise ValueError("an array of what nobody knows")

    def _skip_string(self) -> None:
        length = self._take("Q")
        self._at += length

    def _take(self, kind: str) -> Any:
        form = f"<{kind}"
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value
