"""/v1/files: training files in, results out."""

import json
from typing import Annotated, Any, Literal, get_args

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import asc, desc
from sqlalchemy.orm import Session

from app.adapters import files as adapter_files
from app.core.errors import Forbidden, NotFound
from app.core.models import (
    DatasetVersion,
    PrivacyReview,
    StoredFile,
    User,
    VersionStatus,
)
from app.core.sentences import listed
from app.datasets import examples, parts, states, stored_files, uploads, versions
from app.datasets.mapping import MAX_WORDS, Hidden, Merged, Options, Separators
from app.datasets.privacy import reviews
from app.datasets.readers.chats import MAX_PAUSE_MINUTES, MIN_PAUSE_MINUTES
from app.datasets.readers.headers import MAX_HEADER_ROW
from app.datasets.readers.inspections import FileChoices, ReadAs
from app.datasets.turns import TurnRole
from app.evaluation import cards
from app.people import auth
from app.web.dependencies import Db, TokenUser
from app.web.multipart import Received, received
from app.web.v1 import creation, retries, transport
from app.web.v1.errors import BadRequest, sentence, unsupported
from app.web.v1.paging import After, Limit10000, Page, page, unknown_after
from app.web.v1.schemas import (
    ChosenFiles,
    Deleted,
    File,
    FilePrivacy,
    Meanings,
    Privacy,
    unix,
)

router = transport.router("/files")
PURPOSE = "fine-tune"


def described_form(**fields: dict[str, Any]) -> dict[str, Any]:
    """Describe a form that a route reads by itself."""
    schema = {"type": "object", "properties": fields}
    return {"requestBody": {"content": {"multipart/form-data": {"schema": schema}}}}


_FILES: TypeAdapter[ChosenFiles] = TypeAdapter(ChosenFiles)
_MEANINGS: TypeAdapter[Meanings] = TypeAdapter(Meanings)
BYTES = {"type": "string", "format": "binary"}


@router.post(
    "",
    openapi_extra=described_form(
        purpose={"const": PURPOSE},
        file=BYTES,
        x_privacy={},
        x_header_row={},
        x_hidden={},
        x_merged={},
        x_separators={},
        x_options={},
        x_pause_minutes={},
        x_files={},
        x_roles={},
        x_speakers={},
        x_placeholders={},
        x_continued={},
    ),
)
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
    read_as = ReadAs(
        **_reading(form),
        files=_files(form),
        roles=_meanings(form, "x_roles"),
        speakers=_meanings(form, "x_speakers"),
        placeholders=form.fields.get("x_placeholders", "").casefold() in ("1", "true"),
        continued=_yes_or_no(form, "x_continued"),
    )
    retries.serialize(db, user, form.filename, form.file.sha256)
    if retries.is_retry(request):
        earlier = stored_files.just_sent(db, user, form.filename, form.file.sha256, retries.WINDOW)
        if earlier is not None:
            return show(db, earlier)
    name = form.filename.rpartition(".")[0][: versions.MAX_NAME_LENGTH]
    version = uploads.add_dataset(
        db,
        user,
        form.keep(),
        form.filename,
        name,
        auto_confirm=True,
        decision=decision,
        read_as=read_as,
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


def _yes_or_no(form: Received, name: str) -> bool | None:
    said = form.fields.get(name, "").strip().casefold()
    if said and said not in ("1", "true", "0", "false"):
        raise BadRequest(f"{name}: give true or false.", field=name)
    return said in ("1", "true") if said else None


def _reading(form: Received) -> dict[str, Any]:
    """Read how a file is to be read: x_header_row, x_hidden, x_merged, x_options and so on."""
    said: dict[str, Any] = {}
    if row := form.fields.get("x_header_row", "").strip():
        if not (row.isdecimal() and len(row) < 6 and int(row) <= MAX_HEADER_ROW):
            raise BadRequest(
                f"x_header_row: give the number of the row with the column names, at most "
                f"{MAX_HEADER_ROW}, or 0 where there are none.",
                field="x_header_row",
            )
        said["header_row"] = int(row)
    if pause := form.fields.get("x_pause_minutes", "").strip():
        if not (pause.isdecimal() and MIN_PAUSE_MINUTES <= int(pause[:9]) <= MAX_PAUSE_MINUTES):
            raise BadRequest(
                f"x_pause_minutes: give a number from {MIN_PAUSE_MINUTES} to {MAX_PAUSE_MINUTES}.",
                field="x_pause_minutes",
            )
        said["pause_minutes"] = int(pause)
    for name, choices in (
        ("hidden", get_args(Hidden)),
        ("merged", get_args(Merged)),
        ("separators", get_args(Separators)),
        ("options", get_args(Options)),
    ):
        if chosen := form.fields.get(f"x_{name}"):
            if chosen not in choices:
                either = listed([f"“{choice}”" for choice in choices], "{most} or {last}")
                raise BadRequest(f"x_{name}: give {either}.", field=f"x_{name}")
            said[name] = chosen
    return said


def _privacy(form: Received) -> Privacy | None:
    sent = _object(form, "x_privacy")
    if not sent:
        return None
    try:
        return Privacy.model_validate(sent)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(["x_privacy", *map(str, problem["loc"])])
        raise BadRequest(f"{field}: {sentence(problem)}.", field=field) from None


def _object(form: Received, field: str) -> Any:
    """Read JSON in one field, or, as OpenAI's client sends an object, a field for each key."""
    sent: Any = {
        name.removeprefix(f"{field}[").removesuffix("]"): value
        for name, value in form.fields.items()
        if name.startswith(f"{field}[")
    }
    if field in form.fields:
        try:
            sent = json.loads(form.fields[field])
        except ValueError:
            raise BadRequest(f"{field}: it is no JSON object.", field=field) from None
    return sent


def _files(form: Received) -> dict[str, FileChoices]:
    """Read what was chosen for single files of a ZIP: {"a.gift": {"options": "letters"}}."""
    sent = _object(form, "x_files")
    if "x_files" not in form.fields:  # OpenAI's client names each value: x_files[a.gift][options]
        said = dict[str, dict[str, str]]()
        for key, value in sent.items():
            name, _, choice = key.rpartition("][")
            said.setdefault(name, {})[choice] = value
        sent = said
    try:
        return _FILES.validate_python(sent)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(["x_files", *map(str, problem["loc"])])
        raise BadRequest(f"{field}: {sentence(problem)}.", field="x_files") from None


def _meanings(form: Received, field: str) -> dict[str, TurnRole]:
    """Read what words for roles or for speakers mean: {"teacher": "assistant"}."""
    try:
        return _MEANINGS.validate_python(_object(form, field))
    except ValidationError:
        raise BadRequest(
            f"{field}: give an object of at most {MAX_WORDS} words, each with one of "
            f"{', '.join(TurnRole)}.",
            field=field,
        ) from None


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
def file_content(request: Request, file_id: str, db: Db, user: TokenUser) -> Response:
    """Send a file's bytes as they are."""
    file = stored_files.get(db, user, file_id)
    if (adapter := adapter_files.zipped_in(db, file)) is not None:
        cards.renew(db, adapter)
    path = adapter_files.open_path(db, user, file)
    content = FileResponse(
        path,
        media_type="application/octet-stream",
        filename=file.filename,
        stat_result=path.stat(),
    )
    if transport.is_head(request):  # nothing is taken home, so nothing of it is written down
        return Response(headers=content.headers)
    db.commit()
    return content


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
    status: states.InV1 = "processed"
    details = None
    if version is not None:
        standing = states.standing(version, gates.get(version.id))
        status, details = standing.in_v1, standing.details
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
        x_notes=_notes(version) if version else None,
        x_privacy=_gate(version, gates.get(version.id)) if version else None,
    )


def _notes(version: DatasetVersion) -> list[str]:
    inspection = versions.inspection_of(version)
    read = inspection.warnings if inspection is not None else []
    if version.status is not VersionStatus.READY:
        return read
    return [*read, *examples.left_out_sentences(version), *examples.note_sentences(version)]


def _gate(version: DatasetVersion, review: PrivacyReview | None) -> FilePrivacy:
    return FilePrivacy(
        status=review.status.value if review else "none",
        found=review.found if review else None,
        done=review.done if review else None,
        page=f"/versions/{version.id}/privacy",
    )
