"""Writes down which blocks of examples hold which four bytes, for app/datasets/search.py."""

import zlib
from collections.abc import Iterator

import numpy as np

from app.datasets.doctor.rows import Row
from app.datasets.search_bits import BLOCK_EXAMPLES, HASH_FACTOR, NUM_BUCKETS, NUM_BYTES

_BUCKETS_AT_ONCE = 1024


class Bits:
    """One row of bits for each block of neighbouring examples, turned round at the end."""

    def __init__(self, num_examples: int) -> None:
        self._bits = np.zeros((num_examples // BLOCK_EXAMPLES + 1, NUM_BUCKETS // 8), np.uint8)
        self._block = 0
        self._texts: list[str] = []

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            block = row.index // BLOCK_EXAMPLES
            if block != self._block:
                self._close()
                self._block = block
            self._texts.append(row.folded)
            if row.system:
                self._texts.append(row.system.casefold())

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Yield each bucket that any block has, with a bit for each block, lowest first, packed."""
        self._close()
        num_blocks = max(self._block + 1, 1)
        for start in range(0, NUM_BUCKETS, _BUCKETS_AT_ONCE):
            part = self._bits[:num_blocks, start // 8 : (start + _BUCKETS_AT_ONCE) // 8]
            by_bucket = np.unpackbits(part, axis=1, bitorder="little").T
            packed = np.packbits(by_bucket, axis=1, bitorder="little")
            for bucket in np.flatnonzero(packed.any(axis=1)):
                yield start + int(bucket), zlib.compress(packed[bucket].tobytes(), 1)

    def _close(self) -> None:
        if not self._texts:
            return
        body = "\n".join(self._texts).encode()
        self._texts.clear()
        self._grow()
        if len(body) < NUM_BYTES:
            return
        one = np.frombuffer(body, np.uint8).astype(np.uint32)
        numbers = one[:-3] | one[1:-2] << np.uint32(8) | one[2:-1] << np.uint32(16)
        numbers |= one[3:] << np.uint32(24)
        numbers *= np.uint32(HASH_FACTOR)
        has = np.zeros(NUM_BUCKETS, bool)
        has[numbers >> np.uint32(16)] = True
        self._bits[self._block] = np.packbits(has, bitorder="little")

    def _grow(self) -> None:
        # After removals there are more places than examples.
        if self._block >= len(self._bits):
            more = np.zeros((self._block + 1 - len(self._bits) + 1000, NUM_BUCKETS // 8), np.uint8)
            self._bits = np.concatenate([self._bits, more])
