"""`x_etude.lookup` of /v1/chat/completions: which rows are looked up, and how they are told."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters.asking import Asked
from app.core.errors import AppError, NotFound
from app.core.models import DatasetVersion, User, VersionStatus
from app.datasets import stored_files
from app.evaluation import lookups
from app.evaluation.lookups import Looked
from app.training.answers import AnswerRequest
from app.web.v1.chat_schemas import ChatSource, CreateChatCompletion
from app.web.v1.errors import BadRequest

_FIELD = "x_etude.lookup"


def looked_up(
    db: Session, user: User, body: CreateChatCompletion, asked: Asked, request: AnswerRequest
) -> Looked:
    """Put rows before the last question where the program asks for that, or the model does so.

    Raises:
        NotFound: there is no such file, or it is another department's; param `x_etude.lookup`.
        BadRequest: nothing can be looked up in it, or no file is named.
    """
    wanted = body.x_etude.lookup if body.x_etude else None
    if wanted is None or wanted is False:
        return lookups.look_up(db, asked.adapter, request)
    if request.messages[0]["role"] == "text":
        raise BadRequest(
            f"{_FIELD}: this model learned plain text and goes on with a text; there is nothing "
            "to look up.",
            field=_FIELD,
        )
    version = _own(asked) if wanted is True else _of_file(db, user, str(wanted))
    try:
        lookups.require_lookable(db, user, version)
    except NotFound:
        raise _no_file(str(wanted)) from None
    except AppError as error:
        raise BadRequest(f"{_FIELD}: {error.message}", field=_FIELD) from None
    return lookups.with_rows(db, version, asked.base, request)


def sources(db: Session, looked: Looked) -> list[ChatSource] | None:
    """Return the rows that stand in a prompt; None where nothing is looked up."""
    if looked.sources is None:
        return None
    return [
        ChatSource(
            file=one.version.file.public_id,
            index=one.row.index,
            question=one.question,
            answer=one.answer,
        )
        for one in lookups.sources(db, looked.sources)
    ]


def _own(asked: Asked) -> DatasetVersion:
    """Return the rows that a model has of its own."""
    adapter = asked.adapter
    version = adapter and (adapter.lookup_version or (adapter.job and adapter.job.version))
    if not version:
        raise BadRequest(
            f"{_FIELD}: {asked.name} has no data of its own here; name a file, as GET /v1/files "
            "lists them.",
            field=_FIELD,
        )
    return version


def _of_file(db: Session, user: User, public_id: str) -> DatasetVersion:
    """Return the newest version of a file that is ready."""
    try:
        file = stored_files.get(db, user, public_id)
    except NotFound:
        raise _no_file(public_id) from None
    version = db.scalars(
        select(DatasetVersion)
        .where(DatasetVersion.file_id == file.id, DatasetVersion.status == VersionStatus.READY)
        .order_by(DatasetVersion.id.desc())
        .limit(1)
    ).first()
    if version is None:
        raise BadRequest(
            f"{_FIELD}: {public_id} is not ready to look anything up in; GET /v1/files/{public_id} "
            "says how far it is.",
            field=_FIELD,
        )
    return version


def _no_file(public_id: str) -> NotFound:
    return NotFound(
        f"{_FIELD}: there is no file {public_id!r} here; GET /v1/files lists those that are.",
        field=_FIELD,
    )
