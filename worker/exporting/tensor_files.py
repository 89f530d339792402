"""A safetensors file read and written a tensor at a time: neither held whole nor mapped.

What is mapped counts as the process's memory, too, for as long as the file is open. The form: eight
bytes of a header's length, the header as JSON with each tensor's kind, shape and place, and then
the bytes (https://huggingface.co/docs/safetensors, "Format").
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import torch
from torch import Tensor

KINDS = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8},
    **{"BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
}
_PIECE_BYTES = 4 * 1024**2


@dataclass(frozen=True)
class Entry:
    """What a header says of a tensor."""

    name: str
    kind: str  # one of KINDS
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * KINDS[self.kind].itemsize


class Reader:
    """An open file, from `with` to the end of it."""

    def __init__(self, path: Path) -> None:
        """Raises: ValueError, KeyError: it is no such file."""
        self._file = path.open("rb")
        length = int.from_bytes(self._file.read(8), "little")
        header = json.loads(self._file.read(length))
        header.pop("__metadata__", None)
        self.entries = [
            Entry(name, said["dtype"], tuple(said["shape"])) for name, said in header.items()
        ]
        self._begins = {name: 8 + length + said["data_offsets"][0] for name, said in header.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def tensor(self, entry: Entry) -> Tensor:
        """Read a tensor into memory of its own."""
        data = torch.empty(entry.nbytes, dtype=torch.uint8)
        self._file.seek(self._begins[entry.name])
        if self._file.readinto(data.numpy().data) != entry.nbytes:
            raise ValueError(f"{entry.name} is not whole")
        return data.view(KINDS[entry.kind]).reshape(entry.shape)

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """Yield a tensor's bytes as they stand."""
        self._file.seek(self._begins[entry.name])
        left = entry.nbytes
        while left:
            piece = self._file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise ValueError(f"{entry.name} is not whole")
            left -= len(piece)
            yield piece


def ordered(entries: Sequence[Entry]) -> list[Entry]:
    """Put tensors in the order of a file: wider numbers first, so that each stands aligned."""
    return sorted(entries, key=lambda entry: (-KINDS[entry.kind].itemsize, entry.name))


def write_header(file: IO[bytes], entries: Sequence[Entry]) -> None:
    """Begin a file; each tensor's bytes follow, in the same order."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for entry in entries:
        end = begin + entry.nbytes
        said = {"dtype": entry.kind, "shape": entry.shape, "data_offsets": [begin, end]}
        header[entry.name], begin = said, end
    written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    written += b" " * (-len(written) % 8)
    file.write(len(written).to_bytes(8, "little") + written)


def write_tensor(file: IO[bytes], tensor: Tensor) -> None:
    """Write a tensor's bytes."""
    file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
