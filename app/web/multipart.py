"""A multipart form with one file, taken in as it arrives: the memory holds a megabyte at most."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.core import storage
from app.core.errors import AppError
from app.datasets import uploads, versions
from app.datasets.uploads import Incoming

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 4096
MAX_FIELDS = 20
_FLUSH_BYTES = 1024**2
# Room for the form's other fields and its boundaries beside the file.
_FORM_BYTES = 64 * 1024


class BadForm(AppError):
    """The body is no form that can be read, or it lacks its file."""

    status = 400
    code = "invalid_form"


@dataclass
class Received:
    """A form whose file lies whole on the disk; the sender's file name is only for showing."""

    fields: dict[str, str]
    filename: str
    file: Incoming

    def keep(self) -> storage.Stored:
        """Move the file into the storage."""
        return self.file.keep()


@asynccontextmanager
async def received(
    request: Request, field: str = "file", max_bytes: int | None = None
) -> AsyncIterator[Received]:
    """Take in a multipart form; what is not kept is removed in the end.

    Args:
        field: The form's field with the file.
        max_bytes: What the file may have at most, where that is less than ETUDE_MAX_UPLOAD_BYTES.

    Raises:
        TooLarge: the file is larger than that.
        DiskFull: there is no room for it.
        BadForm: the body is no such form, has no file, or ends too early.
    """
    declared = request.headers.get("content-length", "0")
    expected = int(declared) if declared.isdigit() else 0
    uploads.require_size(expected - _FORM_BYTES, field, max_bytes)
    form = _Form(_boundary(request), field)
    file = await asyncio.to_thread(Incoming, field, max_bytes, expected)
    try:
        await _take_in(request, form, file)
        if form.filename is None:
            raise BadForm(f"Missing required parameter: {field}.", field=field, code="missing")
        yield Received(form.fields, versions.clean_filename(form.filename), file)
    finally:
        file.forget()


async def _take_in(request: Request, form: "_Form", file: Incoming) -> None:
    try:
        async for chunk in request.stream():
            form.feed(chunk)
            file.require_room_for(len(form.pending))
            if len(form.pending) >= _FLUSH_BYTES:
                # In a thread: a slow disk must not hold up everybody's event streams.
                await asyncio.to_thread(file.write, form.take())
        form.finish()
    except FormParserError as error:
        raise BadForm(f"The form cannot be read: {error}.") from None
    except ClientDisconnect:
        raise BadForm("The upload was broken off.", code="broken_off") from None
    await asyncio.to_thread(file.write, form.take())


class _Form:
    """The parser's callbacks: small fields are kept, the bytes of the file wait in `pending`."""

    def __init__(self, boundary: bytes, field: str) -> None:
        self._field = field
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
            if self._name != self._field or self.filename is not None:
                raise FormParserError(f"it needs exactly one file, in the field `{self._field}`")
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
        raise BadForm("Send the file as multipart/form-data with its fields and a file.")
    return options[b"boundary"]


def _text(data: bytes) -> str:
    try:
        return data.decode().replace("\0", "")
    except UnicodeDecodeError:
        raise FormParserError("its names and fields have to be UTF-8") from None
