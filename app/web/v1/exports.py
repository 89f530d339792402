"""/v1/x_exports: a tuned model in the forms that other programs open. Not in OpenAI's API."""

from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.adapters import exports
from app.adapters import registry as adapters
from app.core import wakeup
from app.core.models import Export, ExportForm, ExportStatus, Quantization
from app.web.dependencies import Db, TokenUser
from app.web.v1 import errors, transport
from app.web.v1.schemas import unix

router = transport.router("/x_exports")


class CreateExport(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: Annotated[str, Field(max_length=500, description="A tuned model, `ft:…`.")]
    format: ExportForm
    quantization: Quantization | None = Field(
        default=None, description="Without it: the format's usual one."
    )


class ExportEndings(BaseModel):
    """How many answers to held-out questions came to an end by themselves, said greedily."""

    num_asked: int
    num_ended: int
    reference_ended: int
    max_tokens: int = Field(description="Of an answer; what is not over by then has no end.")


class ExportAgreement(BaseModel):
    """What a foreign program found of the held-out answers, beside the reference."""

    program: str
    quantization: Quantization
    same_share: float = Field(description="Positions with the same likeliest token, from 0 to 1.")
    loss: float | None = Field(description="None: it is no number, as weights overflow.")
    reference_loss: float | None
    num_positions: int
    num_rows: int
    rows: str = Field(description="Which rows they were.")
    bound: dict[str, float] | None = Field(description="None: shown without one.")
    endings: ExportEndings | None = Field(default=None, description="None: they were not counted.")


class ExportShown(BaseModel):
    """One form of a tuned model."""

    id: str
    object: Literal["x_export"] = "x_export"
    created_at: int
    finished_at: int | None
    kept_until: int | None
    status: ExportStatus
    model: str
    format: ExportForm
    quantization: Quantization
    filename: str
    expected_bytes: int
    bytes: int | None
    sha256: str | None
    progress: dict[str, Any] | None
    reason: str | None = Field(description="Why it is not offered.")
    agreement: list[ExportAgreement]
    notes: list[str]


class ExportList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ExportShown]
    has_more: bool = False


@router.post("")
def create_export(db: Db, user: TokenUser, body: CreateExport) -> ExportShown:
    """Have a tuned model made in a form; one that is there already is returned."""
    adapter = adapters.by_public_name(db, user, body.model)
    made = exports.request(db, user, adapter, body.format, body.quantization)
    db.commit()
    wakeup.hint("cpu")
    return _show(db, made)


@router.get("")
def list_exports(db: Db, user: TokenUser, model: str) -> ExportList:
    """List a tuned model's exports, the newest first."""
    adapter = adapters.by_public_name(db, user, model)
    return ExportList(data=[_show(db, row) for row in exports.list_of(db, adapter)])


@router.get("/{export_id}")
def retrieve_export(db: Db, user: TokenUser, export_id: str) -> ExportShown:
    """Say how far an export is, and how near it is to the adapter as it was trained."""
    return _show(db, exports.by_public_id(db, user, export_id))


@router.post("/{export_id}/cancel")
def cancel_export(db: Db, user: TokenUser, export_id: str) -> ExportShown:
    """Stop one that waits or is being made."""
    row = exports.by_public_id(db, user, export_id)
    with errors.refusing_the_state():
        exports.cancel(db, user, row)
    db.commit()
    return _show(db, row)


@router.get("/{export_id}/content")
def export_content(request: Request, export_id: str, db: Db, user: TokenUser) -> Response:
    """Send the zip of an export that is ready."""
    row = exports.by_public_id(db, user, export_id)
    path = exports.archive(db, user, row)
    content = FileResponse(
        path,
        media_type="application/zip",
        filename=row.filename,
        stat_result=path.stat(),
    )
    if transport.is_head(request):  # nothing is taken home, so nothing of it is written down
        return Response(headers=content.headers)
    db.commit()
    return content


def _show(db: Session, row: Export) -> ExportShown:
    db.refresh(row)
    return ExportShown(
        id=row.public_id,
        created_at=unix(row.created_at),
        finished_at=unix(row.finished_at) if row.finished_at else None,
        kept_until=unix(row.kept_until) if row.kept_until else None,
        status=row.status,
        model=row.adapter.public_name,
        format=row.form,
        quantization=row.quantization,
        filename=row.filename,
        expected_bytes=exports.expected_bytes(row.adapter, row.form, row.quantization),
        bytes=row.size_bytes,
        sha256=row.sha256,
        progress=row.progress,
        reason=row.reason,
        agreement=[ExportAgreement(**each) for each in row.agreement],
        notes=row.notes,
    )
