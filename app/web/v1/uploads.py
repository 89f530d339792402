"""/v1/uploads: a training file in parts, for programs that cannot send it at once."""

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.core.errors import AppError
from app.core.models import StoredFile, User
from app.datasets import part_uploads, stored_files, uploads, versions
from app.datasets.part_uploads import PartUpload
from app.datasets.readers.inspections import ReadAs
from app.web.dependencies import Db, TokenUser
from app.web.multipart import Received, received
from app.web.v1 import creation, files, transport
from app.web.v1.errors import BadRequest, unsupported
from app.web.v1.schemas import CompleteUpload, CreateUpload, Upload, UploadPart

router = transport.router("/uploads")


@router.post("")
def create_upload(user: TokenUser, body: CreateUpload) -> Upload:
    """Announce a file; it has to be completed within an hour."""
    if body.purpose != files.PURPOSE:
        raise unsupported(
            f"purpose: only {files.PURPOSE!r} is taken here, not {body.purpose!r}.", "purpose"
        )
    if body.expires_after is not None:
        raise files.no_expiry()
    return _show(part_uploads.start(user, body.filename, body.bytes))


@router.post("/{upload_id}/parts", openapi_extra=files.described_form(data=files.BYTES))
async def add_part(request: Request, db: Db, user: TokenUser, upload_id: str) -> UploadPart:
    """Keep a part, of at most 64 MB; parts may come side by side."""
    # Ends the transaction that the token was looked up in: a part may take minutes.
    await run_in_threadpool(db.commit)
    upload = await run_in_threadpool(part_uploads.get, user, upload_id)
    part_uploads.require_pending(upload)
    async with received(request, "data", part_uploads.MAX_PART_BYTES) as form:
        return await run_in_threadpool(_keep, upload, form)


def _keep(upload: PartUpload, form: Received) -> UploadPart:
    part = part_uploads.add_part(upload, form.file)
    return UploadPart(id=part.id, created_at=int(part.created_at), upload_id=upload.id)


@router.post("/{upload_id}/complete")
def complete_upload(db: Db, user: TokenUser, upload_id: str, body: CompleteUpload) -> Upload:
    """Join the parts in the order that is given; what comes out is a file as any other."""
    db.commit()  # as above: joining takes as long as the disk does
    upload = part_uploads.get(user, upload_id)
    decision = creation.privacy(body.x_privacy)
    with part_uploads.completing(upload, body.part_ids, body.md5) as (now, stored):
        if now.file_id is not None:  # the same request once more, whose answer was lost
            return _show(now, db, stored_files.get(db, user, now.file_id))
        if stored is None:
            file = _taken(db, user, now)
        else:
            name = now.filename.rpartition(".")[0][: versions.MAX_NAME_LENGTH]
            try:
                version = uploads.add_dataset(
                    db,
                    user,
                    stored,
                    now.filename,
                    name,
                    auto_confirm=True,
                    decision=decision,
                    read_as=ReadAs(
                        header_row=body.x_header_row,
                        hidden=body.x_hidden,
                        merged=body.x_merged,
                        separators=body.x_separators,
                        options=body.x_options,
                        pause_minutes=body.x_pause_minutes,
                        files=body.x_files,
                        roles=body.x_roles,
                        speakers=body.x_speakers,
                        placeholders=body.x_placeholders,
                        continued=body.x_continued,
                    ),
                )
            except AppError:
                part_uploads.give_up(now)  # its bytes are gone
                raise
            file = version.file
        part_uploads.finish(now, file.public_id)
        return _show(now, db, file)


def _taken(db: Session, user: User, upload: PartUpload) -> StoredFile:
    """Find the file of an upload whose process died before it could say what it had made."""
    file = None
    if upload.sha256 is not None:
        file = stored_files.just_sent(db, user, upload.filename, upload.sha256, part_uploads.LIFE)
    if file is None:
        part_uploads.give_up(upload)
        raise BadRequest("This upload was lost on the way; make a new one.", code="upload_over")
    return file


@router.post("/{upload_id}/cancel")
def cancel_upload(user: TokenUser, upload_id: str) -> Upload:
    """Forget an upload and its parts."""
    return _show(part_uploads.cancel(part_uploads.get(user, upload_id)))


def _show(upload: PartUpload, db: Session | None = None, file: StoredFile | None = None) -> Upload:
    return Upload(
        id=upload.id,
        bytes=upload.size_bytes,
        created_at=int(upload.created_at),
        expires_at=int(upload.expires_at),
        filename=upload.filename,
        purpose=files.PURPOSE,
        status=upload.status,
        file=files.show(db, file) if db is not None and file is not None else None,
    )
