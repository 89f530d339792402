"""Resumable uploads by the tus protocol 1.0 (creation, termination), as tus-js-client speaks it.

Written by hand, because tuspyserver 4.4.3 takes in a piece's bytes before it asks who sends them,
waits for its lock on the event loop, believes `X-Forwarded-Host`, and lets any POST become a DELETE
by a header. Here the owner is checked before the first byte of every request.
"""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from app.core import db as database
from app.core.errors import Invalid, NotSignedIn, TooLarge
from app.core.models import User
from app.datasets import uploads
from app.datasets.uploads import Upload
from app.people import auth

TUS_VERSION = "1.0.0"
_WRITE_BYTES = 1024**2


def _speaks_tus(tus_resumable: Annotated[str, Header()] = "") -> None:
    if tus_resumable != TUS_VERSION:
        raise Invalid("This address takes uploads by tus 1.0.0 only.", code="tus_version")


router = APIRouter(prefix="/uploads", dependencies=[Depends(_speaks_tus)])


@router.post("")
def start(
    user: auth.CurrentUser,
    upload_length: Annotated[int, Header()],
    upload_metadata: Annotated[str, Header()] = "",
) -> Response:
    """Make an upload and say where its pieces go."""
    metadata = _metadata(upload_metadata)
    upload = uploads.start(
        user, metadata.get("filename", ""), metadata.get("name", ""), upload_length
    )
    return _reply(201, Location=f"/uploads/{upload.id}")


@router.head("/{upload_id}")
def look(user: auth.CurrentUser, upload_id: str) -> Response:
    """Say how much has come, so that a browser knows where to go on."""
    upload = uploads.get(user, upload_id)
    return _reply(
        200, **{"Upload-Offset": str(upload.offset), "Upload-Length": str(upload.size_bytes)}
    )


@router.delete("/{upload_id}")
def cancel(user: auth.CurrentUser, upload_id: str) -> Response:
    """Forget an upload."""
    uploads.cancel(uploads.get(user, upload_id))
    return _reply(204)


@router.patch("/{upload_id}")
async def write(
    request: Request,
    upload_id: str,
    upload_offset: Annotated[int, Header()],
    content_type: Annotated[str, Header()] = "",
) -> Response:
    """Append a piece; the last one makes the dataset, and the answer says where it is."""
    if content_type != "application/offset+octet-stream":
        raise Invalid("A piece is sent as application/offset+octet-stream.")
    cookie = auth.cookie_of(request)
    upload = await run_in_threadpool(_owned, cookie, upload_id)
    offset = await _append(request, upload, upload_offset)
    headers = {"Upload-Offset": str(offset)}
    if offset == upload.size_bytes:
        version_id = await run_in_threadpool(_make_dataset, cookie, upload)
        headers["X-Etude-Location"] = f"/versions/{version_id}"
    return _reply(204, **headers)


async def _append(request: Request, upload: Upload, offset: int) -> int:
    # Not in a thread for its lock: it never waits. Writes do go to one, a disk may be slow.
    with uploads.writing(upload, offset) as file:
        pending = bytearray()
        try:
            async for chunk in request.stream():
                if offset + len(pending) + len(chunk) > upload.size_bytes:
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


def _owned(cookie: str, upload_id: str) -> Upload:
    with database.session() as db:
        return uploads.get(_signed_in(db, cookie), upload_id)


def _make_dataset(cookie: str, upload: Upload) -> int:
    with database.session() as db:
        user = _signed_in(db, cookie)
        stored = uploads.finish(upload)
        return uploads.add_dataset(db, user, stored, upload.filename, upload.name).id


def _signed_in(db: Session, cookie: str) -> User:
    user = auth.user_of_session(db, cookie, is_use=True)
    if user is None:
        raise NotSignedIn("Please sign in first.")
    return user


def _metadata(header: str) -> dict[str, str]:
    """Read tus's metadata: `key base64, key base64`."""
    metadata = {}
    for pair in filter(None, header.split(",")):
        key, _, value = pair.strip().partition(" ")
        try:
            metadata[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Invalid(f"The upload's metadata cannot be read at {key!r}.") from None
    return metadata


def _reply(status: int, **headers: str) -> Response:
    return Response(status_code=status, headers={"Tus-Resumable": TUS_VERSION, **headers})
