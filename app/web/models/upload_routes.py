"""A starting model from an administrator's browser: its files, each by tus (app/web/tus.py)."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field

from app.base_models import uploads
from app.base_models.uploads import ModelUpload, Part
from app.base_models.wanted_files import Offered
from app.core import db as database
from app.core import wakeup
from app.core.errors import NotFound, NotSignedIn
from app.people import auth
from app.web import tus
from app.web.dependencies import CurrentUser, Db, cookie_of

router = APIRouter(prefix="/models/uploads")

# A repository's folder has a few dozen.
_MAX_OFFERED = 5000


class Chosen(BaseModel):
    """What somebody chose on their own computer: names and sizes, no bytes yet."""

    name: str = Field(max_length=200)
    files: list[Offered] = Field(max_length=_MAX_OFFERED)


@router.post("")
def start(db: Db, user: CurrentUser, chosen: Chosen) -> JSONResponse:
    """Judge a list of files, and say where the bytes of those that are wanted go."""
    upload = uploads.start(db, user, chosen.name.strip(), chosen.files)
    return JSONResponse(_listed(upload), status_code=201)


@router.head("/{upload_id}/{number}", dependencies=[tus.SPEAKS_TUS])
def look(user: CurrentUser, upload_id: str, number: int) -> Response:
    """Say how much of a file has come."""
    part = uploads.part(user, upload_id, number)
    return tus.progress(part.path.stat().st_size, part.size_bytes)


@router.patch("/{upload_id}/{number}", dependencies=[tus.SPEAKS_TUS])
async def write(
    request: Request,
    upload_id: str,
    number: str,  # read once it is known who asks
    upload_offset: Annotated[int, Header()],
    content_type: Annotated[str, Header()] = "",
) -> Response:
    """Append a piece to a file."""
    tus.require_piece(content_type)
    cookie = cookie_of(request)

    def place() -> Part:
        # A session of its own that is over before the first byte: a piece may take minutes.
        with database.reading() as db:
            user = auth.user_of_session(db, cookie, is_use=True)
            if user is None:
                raise NotSignedIn("Please sign in first.")
            if not (number.isascii() and number.isdecimal() and len(number) < 5):
                raise NotFound("This upload has no such file.")
            part = uploads.part(user, upload_id, int(number))
        part.require_kind()  # what was refused does not grow
        uploads.reckon(upload_id, int(number))
        return part

    part = await run_in_threadpool(place)
    offset = await tus.append(request, part.path, part.size_bytes, upload_offset)
    await run_in_threadpool(part.require_kind)
    await run_in_threadpool(uploads.reckon, upload_id, int(number))
    return tus.reply(204, **{"Upload-Offset": str(offset)})


@router.post("/{upload_id}/finish")
def finish(db: Db, user: CurrentUser, upload_id: str) -> JSONResponse:
    """Register the model, now that all of it is here; a worker imports it."""
    model = uploads.finish(db, user, uploads.get(user, upload_id))
    db.commit()
    wakeup.hint("cpu")
    return JSONResponse({"location": f"/models#model-{model.id}"})


@router.post("/{upload_id}/cancel")
def cancel(user: CurrentUser, upload_id: str) -> RedirectResponse:
    """Forget an upload and its bytes."""
    uploads.forget(uploads.get(user, upload_id).id)
    return RedirectResponse("/models", status_code=303)


def _listed(upload: ModelUpload) -> dict[str, object]:
    files = [
        {
            "path": file.chosen.path,
            "size_bytes": file.chosen.size_bytes,
            "url": f"/models/uploads/{upload.id}/{number}",
        }
        for number, file in enumerate(upload.files)
    ]
    return {"id": upload.id, "received_bytes": upload.received_bytes, "files": files}
