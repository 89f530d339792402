"""Ask an adapter a list of questions: a sheet up, its column chosen, the answers down."""

import re
import tempfile
from collections.abc import Iterator
from typing import IO, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.adapters import question_lists as lists
from app.adapters import question_sheets, sharing
from app.adapters import registry as adapters
from app.core import settings, wakeup
from app.core.errors import AppError, Conflict, Invalid, NotFound
from app.core.models import Adapter, QuestionList, User
from app.datasets import uploads
from app.web import stepper
from app.web.adapters import list_page
from app.web.dependencies import CurrentUser, Db
from app.web.forms import QuestionListForm
from app.web.multipart import Received, received
from app.web.render import page

router = APIRouter()

_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_FORMATS = {"xlsx": _XLSX, "csv": "text/csv; charset=utf-8"}
_PIECE_BYTES = 256 * 1024


@router.get("/adapters/{adapter_id}/lists")
def show_new(db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Show the form for a sheet, and one's lists to this adapter."""
    return _new_page(db, user, adapter_id)


@router.post("/adapters/{adapter_id}/lists")
async def upload(request: Request, db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Take a sheet; a worker reads it."""
    # Ends the transaction that the session was looked up in: an upload may take a while.
    await run_in_threadpool(db.commit)
    try:
        await run_in_threadpool(_require_asking, db, user, adapter_id)
        async with received(request, max_bytes=lists.MAX_SHEET_BYTES) as form:
            row_id = await run_in_threadpool(_keep, db, user, adapter_id, form)
    except AppError as error:
        await run_in_threadpool(db.rollback)
        return await run_in_threadpool(_new_page, db, user, adapter_id, error)
    return RedirectResponse(f"/lists/{row_id}", status_code=303)


@router.get("/lists")
def show_own(db: Db, user: CurrentUser) -> Response:
    """Show all of one's lists."""
    return page("adapters/lists.html", user, page=list_page.new_page(db, user, None))


@router.get("/lists/{list_id}")
def show(db: Db, user: CurrentUser, list_id: int) -> Response:
    """Show a list of one's own as it stands."""
    return _show(db, user, lists.get(db, user, list_id))


@router.post("/lists/{list_id}/start")
def start(
    db: Db, user: CurrentUser, list_id: int, form: Annotated[QuestionListForm, Form()]
) -> Response:
    """Have the questions of the chosen column answered."""
    row = lists.get(db, user, list_id)
    try:
        if form.beside not in ("base", "nobody"):
            raise Invalid("Choose who answers beside it.", field="beside")
        lists.start(
            db,
            user,
            row,
            column=list_page.column_from(form),
            beside_base=form.beside == "base",
            instruction=form.instruction,
        )
    except AppError as error:
        db.rollback()
        return _show(db, user, row, form=form, error=error)
    db.commit()
    wakeup.hint("cpu")
    return _to(row)


@router.post("/lists/{list_id}/cancel")
def cancel(db: Db, user: CurrentUser, list_id: int) -> Response:
    """Stop a list; the answers that there are stay."""
    row = lists.get(db, user, list_id)
    try:
        lists.cancel(db, user, row)
    except AppError as error:
        db.rollback()
        return _show(db, user, row, error=error)
    db.commit()
    return _to(row)


@router.post("/lists/{list_id}/continue")
def go_on(db: Db, user: CurrentUser, list_id: int) -> Response:
    """Go on where a list ended."""
    row = lists.get(db, user, list_id)
    try:
        lists.go_on(db, user, row)
    except AppError as error:
        db.rollback()
        return _show(db, user, row, error=error)
    db.commit()
    wakeup.hint("cpu")
    return _to(row)


@router.post("/lists/{list_id}/delete")
def delete(db: Db, user: CurrentUser, list_id: int) -> Response:
    """Delete a list with its questions and answers."""
    row = lists.get(db, user, list_id)
    adapter_id = row.adapter_id
    lists.delete(db, user, row)
    db.commit()
    back = f"/adapters/{adapter_id}/lists" if adapter_id else "/lists"
    return RedirectResponse(back, status_code=303)


@router.get("/lists/{list_id}/download")
def download(db: Db, user: CurrentUser, list_id: int, form: str = "xlsx") -> Response:
    """Hand the sheet over with the answers that there are."""
    row = lists.get(db, user, list_id)
    if form not in _FORMATS:
        raise NotFound("A list can be downloaded as XLSX or as CSV.")
    if not row.num_rows:
        raise Conflict("This sheet could not be read, so there is nothing to download.")
    # Written whole before the first byte goes: what fails is an error and no broken file.
    run_dir = settings.get().run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=run_dir)  # noqa: SIM115 - closed once it was sent
    try:
        headings, rows = lists.headings(db, row), lists.cells(db, row)
        if form == "xlsx":
            question_sheets.write_xlsx(file, headings, rows)
        else:
            file.writelines(line.encode() for line in question_sheets.csv_lines(headings, rows))
        name = re.sub(r"\.\w{1,8}$", "", row.filename) + f" with answers.{form}"
        lists.downloaded(db, user, row, form)
        db.commit()
        size = file.tell() if form == "csv" else file.seek(0, 2)
    except BaseException:
        file.close()
        raise
    headers = {
        "Content-Disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}",
        "Content-Length": str(size),
    }
    return StreamingResponse(_pieces(file), media_type=_FORMATS[form], headers=headers)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _require_asking(db: Session, user: User, adapter_id: int) -> None:
    sharing.require_asking(user, adapters.get(db, user, adapter_id))
    db.commit()


def _keep(db: Session, user: User, adapter_id: int, form: Received) -> int:
    if form.file.size_bytes == 0 and form.filename == "file":
        raise Invalid("Choose a file first.", field="file")
    uploads.check_filename(form.filename)
    lists.require_sheet_size(form.file.size_bytes)
    adapter = adapters.get(db, user, adapter_id)
    row = lists.create(db, user, adapter, form.filename, form.file.read())
    row_id = row.id
    db.commit()
    wakeup.hint("cpu")
    return row_id


def _new_page(db: Session, user: User, adapter_id: int, error: AppError | None = None) -> Response:
    adapter = adapters.get(db, user, adapter_id)
    sharing.require_asking(user, adapter)
    shown = list_page.new_page(db, user, adapter, error)
    way = stepper.of_adapter(db, adapter, "Use")
    status = error.status if error else 200
    return page("adapters/lists.html", user, status=status, page=shown, stepper=way)


def _show(
    db: Session,
    user: User,
    row: QuestionList,
    form: QuestionListForm | None = None,
    error: AppError | None = None,
) -> Response:
    shown = list_page.list_page(db, user, row, form, error)
    asked = db.get(Adapter, row.adapter_id) if row.adapter_id else None
    way = stepper.of_adapter(db, asked, "Use") if asked and asked.binned_at is None else None
    status = error.status if error else 200
    return page("adapters/list_show.html", user, status=status, page=shown, stepper=way)


def _to(row: QuestionList) -> RedirectResponse:
    return RedirectResponse(f"/lists/{row.id}", status_code=303)
