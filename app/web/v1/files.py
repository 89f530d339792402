"""/v1/files: training files in, results out."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import ValidationError
from sqlalchemy import asc, desc
from sqlalchemy.orm import Session

from app.adapters import files as adapter_files
from app.core.db import Db
from app.core.errors import Forbidden, NotFound
from app.core.models import (
    DatasetVersion,
    PrivacyReview,
    StoredFile,
    User,
    VersionStatus,
)
from app.datasets import parts, statuses, stored_files, uploads, versions
from app.datasets.privacy import reviews
from app.people import auth
from app.people.auth import TokenUser
from app.web.multipart import Received, received
from app.web.v1 import creation, retries
from app.web.v1.errors import BadRequest, sentence, unsupported
from app.web.v1.paging import After, Limit10000, Page, page, unknown_after
from app.web.v1.schemas import Deleted, File, FilePrivacy, Privacy, unix

router = APIRouter(prefix="/files")
PURPOSE = "fine-tune"


def described_form(**fields: dict[str, Any]) -> dict[str, Any]:
    """Describe a form that a route reads by itself."""
    schema = {"type": "object", "properties": fields}
    return {"requestBody": {"content": {"multipart/form-data": {"schema": schema}}}}


BYTES = {"type": "string", "format": "binary"}


@router.post("", openapi_extra=described_form(purpose={"const": PURPOSE}, file=BYTES, x_privacy={}))
async def create_file(request: Request, db: Db, user: TokenUser) -> File:
    """Keep a training file; reading it goes to the cpu queue."""
    # Ends the transaction that the token was looked up in: an upload may take an hour.
    await run_in_threadpool(db.commit)
    if not auth.can_edit(user):
        raise Forbidden("You may look at files, but not add any.")
    async with received(request) as form:
        return await run_in_threadpool(_keep, request, db, user, form)


def _keep(request: Request, db: Session, user: User, form: Received) -> File:
    _check(form)
    decision = creation.privacy(_privacy(form))
    retries.serialize(db, user, form.filename, form.file.sha256)
    if retries.is_retry(request):
        earlier = stored_files.just_sent(db, user, form.filename, form.file.sha256, retries.WINDOW)
        if earlier is not None:
            return show(db, earlier)
    name = form.filename.rpartition(".")[0][: versions.MAX_NAME_LENGTH]
    version = uploads.add_dataset(
        db, user, form.keep(), form.filename, name, auto_confirm=True, decision=decision
    )
    return show(db, version.file)


def _check(form: Received) -> None:
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise BadRequest("Missing required parameter: purpose.", field="purpose", code="missing")
    if purpose != PURPOSE:
        raise unsupported(f"purpose: only {PURPOSE!r} is taken here, not {purpose!r}.", "purpose")
    if any(name.startswith("expires_after") for name in form.fields):
        raise no_expiry()


def no_expiry() -> BadRequest:
    """Make the error for a wish that, taken and not kept, would be worse than a no."""
    return unsupported(
        "expires_after: files do not expire here; delete the file when you are done.",
        "expires_after",
    )


def _privacy(form: Received) -> Privacy | None:
    """Read x_privacy: JSON in one field, or, as OpenAI's client sends it, a field for each key."""
    sent: Any = {
        name.removeprefix("x_privacy[").removesuffix("]"): value
        for name, value in form.fields.items()
        if name.startswith("x_privacy[")
    }
    if "x_privacy" in form.fields:
        try:
            sent = json.loads(form.fields["x_privacy"])
        except ValueError:
            raise BadRequest("x_privacy: it is no JSON object.", field="x_privacy") from None
    if not sent:
        return None
    try:
        return Privacy.model_validate(sent)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(["x_privacy", *map(str, problem["loc"])])
        raise BadRequest(f"{field}: {sentence(problem)}.", field=field) from None


@router.get("")
def list_files(
    *,
    db: Db,
    user: TokenUser,
    after: After = None,
    limit: Limit10000 = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[File]:
    """List the department's files, newest first."""
    query = stored_files.visible(user)
    if purpose is not None:
        query = query.where(StoredFile.purpose == purpose)
    if after is not None:
        try:
            last = stored_files.get(db, user, after)
        except NotFound:
            raise unknown_after(after) from None
        query = query.where(StoredFile.id < last.id if order == "desc" else StoredFile.id > last.id)
    by_id = desc(StoredFile.id) if order == "desc" else asc(StoredFile.id)
    rows = db.scalars(query.order_by(by_id).limit(limit + 1)).all()
    by_file = stored_files.versions_of(db, rows)
    gates = reviews.of_many(db, [version.id for version in by_file.values()])
    return page(
        rows,
        limit,
        lambda row: _file(row, by_file.get(row.id), gates),
        lambda row: row.public_id,
    )


@router.get("/{file_id}")
def retrieve_file(file_id: str, db: Db, user: TokenUser) -> File:
    """Say how far a file has been read."""
    return show(db, stored_files.get(db, user, file_id))


@router.get("/{file_id}/content")
def file_content(file_id: str, db: Db, user: TokenUser) -> FileResponse:
    """Send a file's bytes as they are."""
    file = stored_files.get(db, user, file_id)
    path = adapter_files.open_path(db, user, file)
    db.commit()
    return FileResponse(path, media_type="application/octet-stream", filename=file.filename)


@router.delete("/{file_id}")
def delete_file(file_id: str, db: Db, user: TokenUser) -> Deleted:
    """Delete a training file and the dataset that was read from it."""
    adapter_files.delete(db, user, stored_files.get(db, user, file_id))
    db.commit()
    return Deleted(id=file_id, object="file")


def show(db: Session, file: StoredFile) -> File:
    """Build OpenAI's File."""
    version = stored_files.version_of(db, file)
    return _file(file, version, reviews.of_many(db, [version.id]) if version else {})


def _file(
    file: StoredFile, version: DatasetVersion | None, gates: dict[int, PrivacyReview]
) -> File:
    status: Literal["uploaded", "processed", "error"] = "processed"
    details = None
    if version is not None and version.status is VersionStatus.FAILED:
        status, details = "error", version.reason
    elif version is not None and version.status is not VersionStatus.READY:
        status, details = "uploaded", statuses.SENTENCES[version.status]
    return File(
        id=file.public_id,
        bytes=file.size_bytes,
        created_at=unix(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
        status=status,
        status_details=details,
        x_dataset_id=version.dataset_id if version else None,
        x_version_id=version.id if version else None,
        x_num_train=version.num_train if version else None,
        x_num_check=parts.num_check(version) if version else None,
        x_num_test=parts.num_test(version) if version else None,
        x_num_validation=version.num_validation if version else None,
        x_left_out=version.left_out if version else None,
        x_privacy=_gate(version, gates.get(version.id)) if version else None,
    )


def _gate(version: DatasetVersion, review: PrivacyReview | None) -> FilePrivacy:
    return FilePrivacy(
        status=review.status.value if review else "none",
        found=review.found if review else None,
        done=review.done if review else None,
        page=f"/versions/{version.id}/privacy",
    )
