"""The examples of a version: list, one of them, what the doctor says, comparing, downloading."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from sqlalchemy.orm import Session

from app.core import audit, wakeup
from app.core import db as database
from app.core.errors import AppError, Conflict, Invalid, NotFound
from app.core.models import DatasetVersion, Example, Split, User, VersionStatus
from app.datasets import changes, downloads, examples, versions
from app.datasets.changes import Change
from app.datasets.doctor import checks, fixes
from app.web.datasets import page as dataset_page
from app.web.dependencies import CurrentUser, Db
from app.web.examples import page as examples_page
from app.web.forms import ExampleForm, FixForm, SelectionForm
from app.web.render import version_page

router = APIRouter(prefix="/versions/{version_id}")

# What a ticked selection can be asked for: the split it moves to, or none: it is left out.
_ACTIONS: dict[str, Split | None] = {"remove": None, **{split.value: split for split in Split}}
_FORMATS = {
    "jsonl": (downloads.jsonl, "application/jsonl"),
    "csv": (downloads.csv_lines, "text/csv; charset=utf-8"),
}


@router.get("/examples")
def list_examples(
    db: Db,
    user: CurrentUser,
    version_id: int,
    q: str = "",
    split: str = "",
    finding: str = "",
    order: str = "",
    start: str = "",
    before: str = "",
    made: bool = False,
) -> Response:
    """Show a page of examples that fit, from a place on or the one before it."""
    version = _ready(db, user, version_id)
    wish = examples_page.wish_from(q, split, finding, order)
    end = _number(before) if before else None
    shown = examples_page.list_page(db, version, wish, _number(start), made, end)
    return version_page("examples/list.html", user, version, shown)


@router.post("/examples")
def change_selected(
    db: Db, user: CurrentUser, version_id: int, form: Annotated[SelectionForm, Form()]
) -> Response:
    """Move ticked examples to another set, or leave them out; the latter asks once."""
    version = _ready(db, user, version_id)
    try:
        chosen = examples_page.selected(db, version, form.index)
        if form.action not in _ACTIONS:
            raise Invalid("Choose what to do with the selected examples.")
        split = _ACTIONS[form.action]
        if split is None and not form.sure:
            versions.require_editor(user)
            asked = examples_page.leave_out_page(chosen)
            return version_page("examples/leave_out.html", user, version, asked, here="Check")
        made = changes.derive(
            db,
            user,
            version,
            (Change(row.index, split=split, is_removed=split is None) for row in chosen),
            "changed by hand",
        )
    except AppError as error:
        db.rollback()
        wish = examples_page.wish_from("", "", "", "")
        shown = examples_page.list_page(db, version, wish, 0, made=False)
        return version_page("examples/list.html", user, version, shown, error)
    return _made(db, made, chosen[0].index)


@router.get("/examples/{index}")
def show_example(
    db: Db, user: CurrentUser, version_id: int, index: int, model: str = "", length: str = ""
) -> Response:
    """Show one example, as it can be changed and as a starting model sees it."""
    version = _ready(db, user, version_id)
    example = _example(db, version, index)
    return _example_page(db, user, version, example, model=model, length=length)


@router.post("/examples/{index}")
def change_example(
    db: Db,
    user: CurrentUser,
    version_id: int,
    index: int,
    form: Annotated[ExampleForm, Form()],
) -> Response:
    """Change one example, in a new version."""
    version = _ready(db, user, version_id)
    example = _example(db, version, index)
    try:
        change = examples_page.change_from(example, form)
        made = changes.derive(db, user, version, [change], "changed by hand")
    except AppError as error:
        db.rollback()
        return _example_page(db, user, version, example, form=form, error=error)
    return _made(db, made, index)


@router.get("/findings/{kind}")
def show_finding(db: Db, user: CurrentUser, version_id: int, kind: str, fix: str = "") -> Response:
    """Show what the doctor found of one kind, and what putting it right would change."""
    version = _ready(db, user, version_id)
    return _finding_page(db, user, version, kind, fix)


@router.post("/findings/{kind}")
def put_right(
    db: Db, user: CurrentUser, version_id: int, kind: str, form: Annotated[FixForm, Form()]
) -> Response:
    """Put a finding right, in a new version."""
    version = _ready(db, user, version_id)
    try:
        made = fixes.apply(db, user, version, kind, form.fix)
    except AppError as error:
        db.rollback()
        return _finding_page(db, user, version, kind, form.fix, error)
    db.commit()
    wakeup.hint("cpu")
    there = f"/versions/{made.id}?made=1" if made else f"/versions/{version.id}/check"
    return RedirectResponse(there, status_code=303)


@router.get("/fix")
def show_fix(db: Db, user: CurrentUser, version_id: int) -> Response:
    """Show how far a worker is with putting something right."""
    version = _ready(db, user, version_id)
    shown = examples_page.fix_page(db, version)
    return version_page("examples/fix.html", user, version, shown, here="Check")


@router.post("/check")
def check_again(db: Db, user: CurrentUser, version_id: int) -> Response:
    """Ask the doctor to look at a version that was not checked."""
    version = _ready(db, user, version_id)
    versions.require_editor(user)
    checks.again(db, version)
    db.commit()
    wakeup.hint("cpu")
    return RedirectResponse(f"/versions/{version.id}/check", status_code=303)


@router.get("/compare")
def compare(
    db: Db, user: CurrentUser, version_id: int, base: str = "", start: str = ""
) -> Response:
    """Show what differs from another version of the dataset; the one it came from, at first."""
    version = _ready(db, user, version_id)
    other_id = _number(base) or version.base_version_id or version.id
    other = versions.get_version(db, user, other_id)
    if other.dataset_id != version.dataset_id or other.status is not VersionStatus.READY:
        raise NotFound("This dataset has no such version to compare with.")
    shown = examples_page.compare_page(db, version, other, _number(start))
    return version_page("examples/compare.html", user, version, shown)


@router.get("/download")
def download(
    db: Db, user: CurrentUser, version_id: int, form: str = "jsonl", split: str = ""
) -> Response:
    """Hand a version's examples over as a file."""
    version = _ready(db, user, version_id)
    if form not in _FORMATS:
        raise NotFound("Examples can be downloaded as JSONL or as CSV.")
    lines, media_type = _FORMATS[form]
    chosen = Split(split) if split in list(Split) else None
    subject = f"dataset version {version.id}"
    audit.record(db, user, "dataset.download", subject, format=form, split=split if chosen else "")
    db.commit()

    def body() -> Iterator[str]:
        # The request's own session ends before its body does.
        with database.reading() as session:
            there = session.get(DatasetVersion, version_id)
            assert there is not None
            yield from lines(session, there, chosen)

    name = f"etude-{version.dataset_id}-version-{version.number}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(body(), media_type=media_type, headers=headers)


def _ready(db: Session, user: User, version_id: int) -> DatasetVersion:
    version = versions.get_version(db, user, version_id)
    if version.status is not VersionStatus.READY:
        raise Conflict("This version has no examples yet; wait until it is ready.")
    return version


def _example(db: Session, version: DatasetVersion, index: int) -> Example:
    example = examples.get(db, version, index) if 0 <= index < 2**31 else None
    if example is None:
        raise NotFound("This example is not in this version.")
    return example


def _number(typed: str) -> int:
    return int(typed) if typed.isdecimal() and len(typed) < 10 else 0


def _made(db: Session, version: DatasetVersion, index: int) -> Response:
    db.commit()
    wakeup.hint("cpu")  # the doctor looks at the new version
    address = f"/versions/{version.id}/examples?start={index}&made=1"
    return RedirectResponse(address, status_code=303)


def _example_page(
    db: Session,
    user: User,
    version: DatasetVersion,
    example: Example,
    *,
    model: str = "",
    length: str = "",
    form: ExampleForm | None = None,
    error: AppError | None = None,
) -> Response:
    shown = examples_page.example_page(
        db,
        version,
        example,
        _number(model) or None,
        _number(length) or dataset_page.DEFAULT_LENGTH,
        form,
    )
    return version_page("examples/show.html", user, version, shown, error)


def _finding_page(
    db: Session,
    user: User,
    version: DatasetVersion,
    kind: str,
    fix: str,
    error: AppError | None = None,
) -> Response:
    said = checks.get(db, version, kind)
    if said is None:
        raise NotFound("The doctor found nothing of this kind in this version.")
    shown = examples_page.finding_page(db, version, said, fix)
    return version_page("examples/finding.html", user, version, shown, error)
