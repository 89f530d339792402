"""A job's curves and settings as an event file, for TensorBoard and what reads the same files.

An event file is a row of TFRecords: the length of a record (8 bytes), its masked CRC32C, the record
and its masked CRC32C, all little-endian. Each record is an `Event` of tensorflow/core/util/
event.proto. We write its few fields by hand, since the library that does it would bring a gigabyte
along. https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import job_settings
from app.core.models import Job, Metric

# The reversed polynomial of Castagnoli, and what TFRecord adds to a checksum that is rotated.
_CASTAGNOLI, _MASK_DELTA = 0x82F63B78, 0xA282EAD8
_32_BITS = 0xFFFFFFFF
# Protocol Buffers' kinds of fields: https://protobuf.dev/programming-guides/encoding
_VARINT, _64_BIT, _BYTES, _32_BIT = 0, 1, 2, 5
_DT_STRING = 7
SETTINGS_TAG = "settings/text_summary"


def filename(job: Job) -> str:
    """Name the file as TensorBoard's own writers do; it looks for `tfevents` in it."""
    begun = job.started_at or job.created_at
    return f"events.out.tfevents.{int(begun.timestamp())}.etude-job-{job.id}"


def event_file(db: Session, job: Job) -> Iterator[bytes]:
    """Yield the file record by record: the version, the settings, then each step's figures.

    It has figures and settings alone, nothing of the data.
    """
    begun = job.started_at or job.created_at
    yield _record(_double(1, _seconds(begun)) + _text(3, "brain.Event:2"))
    yield _record(_event(begun, 0, _settings(job_settings.plain(job))))
    points = (
        select(Metric.step, Metric.name, Metric.value, Metric.at)
        .where(Metric.job_id == job.id)
        .order_by(Metric.step, Metric.at, Metric.name)
        .execution_options(yield_per=1000)
    )
    for (step, at), figures in groupby(db.execute(points), key=lambda row: (row.step, row.at)):
        summary = b"".join(
            # A float of 32 bits, as all of TensorBoard's scalars.
            _message(1, _text(1, row.name) + _field(2, _32_BIT) + struct.pack("<f", row.value))
            for row in figures
        )
        yield _record(_event(at, step, summary))


def crc32c(data: bytes) -> int:
    """Return the checksum of RFC 3720, appendix B.4."""
    table, crc = _table(), _32_BITS
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ _32_BITS


@cache
def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
        table.append(crc)
    return table


def _masked(data: bytes) -> bytes:
    # Rotated and moved on, so that the checksum of data that holds checksums is no weaker one.
    crc = crc32c(data)
    rotated = crc >> 15 | crc << 17 & _32_BITS
    return struct.pack("<I", (rotated + _MASK_DELTA) & _32_BITS)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _event(at: datetime, step: int, summary: bytes) -> bytes:
    return _double(1, _seconds(at)) + _field(2, _VARINT) + _varint(step) + _message(5, summary)


def _settings(told: Mapping[str, str]) -> bytes:
    """Write settings as a table in Markdown, which the plugin `text` shows."""
    lines = ["| setting | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in told.items()]
    metadata = _message(1, _text(1, "text"))
    tensor = (
        _field(1, _VARINT) + _varint(_DT_STRING) + _message(2, b"") + _text(8, "\n".join(lines))
    )
    return _message(1, _text(1, SETTINGS_TAG) + _message(9, metadata) + _message(8, tensor))


def _seconds(at: datetime) -> float:
    return at.astimezone(UTC).timestamp()


def _double(number: int, value: float) -> bytes:
    return _field(number, _64_BIT) + struct.pack("<d", value)


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _message(number: int, content: bytes) -> bytes:
    return _field(number, _BYTES) + _varint(len(content)) + content


def _field(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    """Write seven bits a byte, the lowest first; the highest bit says that more follow."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
