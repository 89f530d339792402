"""Finding words among a million examples without reading them.

The doctor writes, for each block of neighbouring examples, which four bytes follow each other
anywhere in its texts: a bit for each block under each of 65,536 numbers (SearchBits). Words are
then looked for only in blocks that have all of their bytes; what stands there is compared letter by
letter, so the bits may promise too much and never too little. An index of PostgreSQL's own over the
texts (pg_trgm) would be larger than the texts and take longer than reading the file:
docs/decisions/0014.

A derived version has bits of its own where much changed, else those of the version below it; the
blocks in which something changed since are then looked at in any case.
"""

import re
import zlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Example, SearchBits
from app.datasets import examples
from app.datasets.search_bits import BLOCK_EXAMPLES, HASH_FACTOR, NUM_BYTES

# Versions below this size have no bits: looking at all of them is quick.
MIN_INDEXED = 5_000
# A derived version gets bits of its own once so many of its examples differ from those below.
MAX_UNINDEXED_CHANGES = 2_000
MAX_WORDS = 12


def bucket(four: bytes) -> int:
    """Return the number of four bytes in a row; app/datasets/doctor/bits.py does so for arrays."""
    return (int.from_bytes(four, "little") * HASH_FACTOR & 0xFFFFFFFF) >> 16


def terms(typed: str) -> list[str]:
    """Cut what was typed into words and “quoted phrases”, as they are compared: without case."""
    typed_parts = re.findall(r'"([^"]+)"|“([^”]+)”|„([^“”]+)[“”]|(\S+)', typed)
    folded = ("".join(parts).casefold().strip('"“”„') for parts in typed_parts)
    return [term for term in dict.fromkeys(folded) if term.strip()][:MAX_WORDS]


def matches(messages: Sequence[Any], wanted: Sequence[str]) -> bool:
    """Say whether an example holds all the terms, in any of its turns."""
    folded = text_of(messages)
    return all(term in folded for term in wanted)


def text_of(messages: Sequence[Any]) -> str:
    """Return all that stands in an example, as it is compared and as its bits are made."""
    parts = []
    for message in messages:
        for key in ("content", "rejected"):
            value = message.get(key)
            if isinstance(value, str):
                parts.append(value)
    return "\n".join(parts).casefold()


class Blocks:
    """The blocks in which all terms may stand, as the bits of a number; none: every block."""

    def __init__(self, bits: int | None = None) -> None:
        self._bits = bits

    def has(self, index: int) -> bool:
        """Say whether the example with this index may hold the terms."""
        return self._bits is None or bool(self._bits >> index // BLOCK_EXAMPLES & 1)

    def following(self, block: int, end: int) -> int:
        """Return the next such block from this one on, or `end`."""
        if self._bits is None:
            return min(block, end)
        rest = self._bits >> block
        return min(block + (rest & -rest).bit_length() - 1, end) if rest else end

    def preceding(self, block: int) -> int:
        """Return the last such block before this one, or -1."""
        if self._bits is None:
            return block - 1
        return (self._bits & (1 << block) - 1).bit_length() - 1


def blocks(db: Session, version: DatasetVersion, wanted: Sequence[str]) -> Blocks:
    """Return the blocks of a version in which all the terms may stand."""
    numbers = {
        bucket(body[start : start + NUM_BYTES])
        for body in (term.encode() for term in wanted)
        for start in range(len(body) - NUM_BYTES + 1)
    }
    if not numbers:
        return Blocks()
    layers = examples.layers(version)
    indexed = db.scalar(
        select(func.max(SearchBits.version_id)).where(SearchBits.version_id.in_(layers))
    )
    if indexed is None:
        return Blocks()
    kept = db.scalars(
        select(SearchBits.blocks).where(
            SearchBits.version_id == indexed, SearchBits.bucket.in_(numbers)
        )
    ).all()
    bits = 0 if len(kept) < len(numbers) else -1
    for row in kept:
        bits &= int.from_bytes(zlib.decompress(row), "little")
    above = [layer for layer in layers if layer > indexed]
    if above:
        changed = (
            select(Example.index // BLOCK_EXAMPLES).where(Example.version_id.in_(above)).distinct()
        )
        for block in db.scalars(changed):
            bits |= 1 << int(block)
    return Blocks(bits)
