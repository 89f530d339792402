"""Resumable uploads of data by tus (app/web/tus.py): creation, pieces, termination."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.core import db as database
from app.core.errors import NotSignedIn
from app.core.models import User
from app.datasets import uploads
from app.datasets.uploads import Upload
from app.people import auth
from app.web import tus
from app.web.dependencies import CurrentUser, cookie_of

router = APIRouter(prefix="/uploads", dependencies=[tus.SPEAKS_TUS])


@router.post("")
def start(
    user: CurrentUser,
    upload_length: Annotated[int, Header()],
    upload_metadata: Annotated[str, Header()] = "",
) -> Response:
    """Make an upload and say where its pieces go."""
    metadata = tus.metadata(upload_metadata)
    upload = uploads.start(
        user, metadata.get("filename", ""), metadata.get("name", ""), upload_length
    )
    return tus.reply(201, Location=f"/uploads/{upload.id}")


@router.head("/{upload_id}")
def look(user: CurrentUser, upload_id: str) -> Response:
    """Say how much has come."""
    upload = uploads.get(user, upload_id)
    return tus.progress(upload.offset, upload.size_bytes)


@router.delete("/{upload_id}")
def cancel(user: CurrentUser, upload_id: str) -> Response:
    """Forget an upload."""
    uploads.cancel(uploads.get(user, upload_id))
    return tus.reply(204)


@router.patch("/{upload_id}")
async def write(
    request: Request,
    upload_id: str,
    upload_offset: Annotated[int, Header()],
    content_type: Annotated[str, Header()] = "",
) -> Response:
    """Append a piece; the last one makes the dataset, and the answer says where it is."""
    tus.require_piece(content_type)
    cookie = cookie_of(request)
    upload = await run_in_threadpool(_owned, cookie, upload_id)
    offset = await tus.append(request, upload.data, upload.size_bytes, upload_offset)
    headers = {"Upload-Offset": str(offset)}
    if offset == upload.size_bytes:
        version_id = await run_in_threadpool(_make_dataset, cookie, upload)
        headers["X-Etude-Location"] = f"/versions/{version_id}"
    return tus.reply(204, **headers)


def _owned(cookie: str, upload_id: str) -> Upload:
    with database.reading() as db:
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
