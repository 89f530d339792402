"""The server's half of tus 1.0, as tus-js-client speaks it: pieces that survive a break.

Written by hand, because tuspyserver 4.4.3 takes in a piece's bytes before it asks who sends them,
waits for its lock on the event loop, believes `X-Forwarded-Host`, and lets any POST become a DELETE
by a header. Whoever serves pieces asks who sends them before the first byte of every request.
"""

import base64
import binascii
import errno
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.core import pieces
from app.core.errors import DiskFull, Invalid, TooLarge

VERSION = "1.0.0"
_PIECE_TYPE = "application/offset+octet-stream"
_WRITE_BYTES = 1024**2
_FULL = "The server's disk is full; make room on it and continue: what has arrived is kept."


def _speaks_tus(tus_resumable: Annotated[str, Header()] = "") -> None:
    if tus_resumable != VERSION:
        raise Invalid("This address takes uploads by tus 1.0.0 only.", code="tus_version")


SPEAKS_TUS = Depends(_speaks_tus)


def require_piece(content_type: str) -> None:
    """Refuse what is not sent as a piece.

    Raises:
        Invalid: it is of another type.
    """
    if content_type != _PIECE_TYPE:
        raise Invalid(f"A piece is sent as {_PIECE_TYPE}.")


async def append(request: Request, path: Path, size_bytes: int, offset: int) -> int:
    """Write a request's body to a file that has so many bytes, and at most that size.

    Returns:
        How many bytes the file has now: fewer than were sent where the sender went away.

    Raises:
        TooLarge: more came than were announced.
        Conflict, NotFound: as pieces.writing.
        DiskFull: the disk has no room left; what has come is kept.
    """
    try:
        return await _append(request, path, size_bytes, offset)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(_FULL) from None
        raise


async def _append(request: Request, path: Path, size_bytes: int, offset: int) -> int:
    # Not in a thread for its lock: it never waits. Writes do go to one, a disk may be slow.
    with pieces.writing(path, offset) as file:
        pending = bytearray()
        try:
            async for chunk in request.stream():
                if offset + len(pending) + len(chunk) > size_bytes:
                    raise TooLarge("More bytes came than were announced; start the upload again.")
                pending += chunk
                if len(pending) >= _WRITE_BYTES:
                    await run_in_threadpool(file.write, bytes(pending))
                    offset += len(pending)
                    pending.clear()
        except ClientDisconnect:
            pass  # what has come is kept: the next piece goes on from there
        await run_in_threadpool(file.write, bytes(pending))
        return offset + len(pending)


def metadata(header: str) -> dict[str, str]:
    """Read tus's metadata: `key base64, key base64`."""
    found = {}
    for pair in filter(None, header.split(",")):
        key, _, value = pair.strip().partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Invalid(f"The upload's metadata cannot be read at {key!r}.") from None
    return found


def reply(status: int, **headers: str) -> Response:
    """Answer as tus wants it."""
    return Response(status_code=status, headers={"Tus-Resumable": VERSION, **headers})


def progress(offset: int, size_bytes: int) -> Response:
    """Say how much has come, so that a browser knows where to go on."""
    headers = {"Upload-Offset": str(offset), "Upload-Length": str(size_bytes)}
    return reply(200, **headers)
