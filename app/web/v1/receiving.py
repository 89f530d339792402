"""A multipart upload, written to disk as it arrives: the memory holds a megabyte of it at most."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.core import settings, storage
from app.core.errors import TooLarge
from app.datasets import versions
from app.web.v1.errors import BadRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 4096
MAX_FIELDS = 20
_FLUSH_BYTES = 1024**2
# Room for the form's other fields and its boundaries beside the file.
_FORM_BYTES = 64 * 1024
# A killed web process leaves a half-written file behind; nobody can still be sending it after this.
_STALE_SECONDS = 24 * 3600


@dataclass
class Received:
    """A form whose file lies whole at `path`; the sender's file name is only for showing."""

    path: Path
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size_bytes: int = 0
    sha256: str = ""

    def keep(self) -> storage.Stored:
        """Move the file into the storage."""
        return storage.adopt("uploads", self.path, self.sha256)


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Received]:
    """Take in a multipart form; what is not kept is removed in the end.

    Raises:
        TooLarge: the file is larger than ETUDE_MAX_UPLOAD_BYTES.
        BadRequest: the body is no such form, has no file, or ends too early.
    """
    limit = settings.get().max_upload_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit + _FORM_BYTES:
        raise _too_large(limit)
    form = _Form(_boundary(request))
    folder = settings.get().storage_dir / "incoming"
    await asyncio.to_thread(_make_ready, folder)
    result = Received(folder / token_hex(16), fields=form.fields)
    try:
        with result.path.open("wb") as file:
            result.size_bytes, result.sha256 = await _write(request, form, file, limit)
        if form.filename is None:
            raise BadRequest("Missing required parameter: file.", field="file", code="missing")
        result.filename = versions.clean_filename(form.filename)
        yield result
    finally:
        result.path.unlink(missing_ok=True)


async def _write(
    request: Request, form: "_Form", file: BufferedWriter, limit: int
) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0

    def flush(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    try:
        async for chunk in request.stream():
            form.feed(chunk)
            if size + len(form.pending) > limit:
                raise _too_large(limit)
            if len(form.pending) >= _FLUSH_BYTES:
                size += len(form.pending)
                # In a thread: a slow disk must not hold up everybody's event streams.
                await asyncio.to_thread(flush, form.take())
        form.finish()
    except FormParserError as error:
        raise BadRequest(f"The form cannot be read: {error}.", code="invalid_form") from None
    except ClientDisconnect:
        raise BadRequest("The upload was broken off.", code="broken_off") from None
    size += len(form.pending)
    await asyncio.to_thread(flush, form.take())
    return size, digest.hexdigest()


class _Form:
    """The parser's callbacks: small fields are kept, the bytes of `file` wait in `pending`."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.pending = bytearray()
        self._header = [bytearray(), bytearray()]
        self._disposition = b""
        self._name = ""
        self._value = bytearray()
        self._is_file = False
        self._has_ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_body,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def take(self) -> bytes:
        data = bytes(self.pending)
        self.pending.clear()
        return data

    def finish(self) -> None:
        self._parser.finalize()
        if not self._has_ended:
            raise FormParserError("it ends before its last boundary")

    def _begin(self) -> None:
        self._disposition = b""
        self._value = bytearray()

    def _end_header(self) -> None:
        if bytes(self._header[0]).lower() == b"content-disposition":
            self._disposition = bytes(self._header[1])
        self._header = [bytearray(), bytearray()]

    def _begin_body(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = _text(options.get(b"name", b""))
        self._is_file = b"filename" in options
        if self._is_file:
            if self._name != "file" or self.filename is not None:
                raise FormParserError("it needs exactly one file, in the field `file`")
            self.filename = _text(options[b"filename"])
        elif len(self.fields) >= MAX_FIELDS:
            raise FormParserError(f"it has more than {MAX_FIELDS} fields")

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.pending += data[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise FormParserError(f"its field {self._name!r} is too long")

    def _end(self) -> None:
        if not self._is_file:
            self.fields[self._name] = _text(bytes(self._value))

    def _finish(self) -> None:
        self._has_ended = True


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise BadRequest(
            "Send the file as multipart/form-data with the fields `purpose` and `file`.",
            code="invalid_form",
        )
    return options[b"boundary"]


def _make_ready(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in os.scandir(folder):
        try:
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                Path(leftover).unlink()
        except FileNotFoundError:  # another upload ended meanwhile
            continue


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The file is larger than the {limit:,} bytes that this server takes. Split it, or ask "
        "your administrator to raise ETUDE_MAX_UPLOAD_BYTES.",
        field="file",
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").replace("\0", "")
