"""Datasets: the list, a new one, and a version's page from its columns to its examples."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.core import storage, wakeup
from app.core.errors import AppError, Invalid, NotFound, Problems
from app.core.models import DatasetVersion, User, VersionStatus
from app.datasets import deletion, uploads, versions
from app.datasets.privacy.reviews import Decision
from app.web.datasets import page as dataset_page
from app.web.datasets import ready
from app.web.datasets.list_page import list_page
from app.web.datasets.page import NewPage
from app.web.dependencies import CurrentUser, Db
from app.web.forms import MappingForm, NameForm, ReadAsForm, row_number
from app.web.multipart import Received, received
from app.web.render import ROOT, page, version_page

router = APIRouter()

# What a newcomer may try: the file in examples/, and what the dataset is called.
SAMPLES = {
    "clinic": ("clinic-faq.csv", "Clinic questions (sample)"),
    "school": ("school-exercises.xlsx", "School exercises (sample)"),
}
SAMPLE_REASON = (
    "A sample that comes with Etude: its people are invented, or stand in history books."
)


@router.get("/datasets")
def list_datasets(db: Db, user: CurrentUser, request: Request) -> Response:
    """Show the department's datasets, the newest first, or as the address asks."""
    return page("datasets/list.html", user, list_page(db, user, request.query_params))


@router.get("/datasets/new")
def show_new(user: CurrentUser) -> Response:
    """Ask for a file."""
    uploads.require_uploader(user)
    return _new_page(user)


@router.post("/datasets/upload")
async def upload(request: Request, db: Db, user: CurrentUser) -> Response:
    """Take a whole file from a plain form; browsers with JavaScript send it to /uploads."""
    # Ends the transaction that the session was looked up in: an upload may take an hour.
    await run_in_threadpool(db.commit)
    name = ""
    try:
        uploads.require_uploader(user)
        async with received(request) as form:
            name = form.fields.get("name", "")
            version = await run_in_threadpool(_keep, db, user, form, name)
    except AppError as error:
        await run_in_threadpool(db.rollback)
        return await run_in_threadpool(_new_page, user, name, error)
    return _to(version)


def _keep(db: Session, user: User, form: Received, name: str) -> DatasetVersion:
    if form.file.size_bytes == 0 and form.filename == "file":
        raise Invalid("Choose a file first.", field="file")
    uploads.check_filename(form.filename)
    return uploads.add_dataset(db, user, form.keep(), form.filename, name)


@router.post("/datasets/sample/{sample}")
def add_sample(db: Db, user: CurrentUser, sample: str) -> Response:
    """Add one of Etude's own samples, as if the person had uploaded it."""
    uploads.require_uploader(user)
    if sample not in SAMPLES:
        raise NotFound("There is no such sample.")
    filename, name = SAMPLES[sample]
    with (ROOT / "examples" / filename).open("rb") as file:
        stored = storage.put("uploads", iter(lambda: file.read(1024**2), b""))
    # Ours, and invented: nobody has to decide about it.
    decision = Decision(default="keep", reason=SAMPLE_REASON)
    version = uploads.add_dataset(db, user, stored, filename, name, decision=decision, is_ours=True)
    return _to(version)


@router.get("/datasets/sample/{sample}")
def download_sample(user: CurrentUser, sample: str) -> Response:  # noqa: ARG001 - the way in
    """Hand a sample over as a file, as a pattern for one's own."""
    if sample not in SAMPLES:
        raise NotFound("There is no such sample.")
    filename = SAMPLES[sample][0]
    return FileResponse(ROOT / "examples" / filename, filename=filename)


@router.get("/datasets/{dataset_id}")
def show_dataset(db: Db, user: CurrentUser, dataset_id: int) -> Response:
    """Lead to the newest version."""
    return _to(versions.get_dataset(db, user, dataset_id).versions[-1])


@router.post("/datasets/{dataset_id}/rename")
def rename(
    db: Db, user: CurrentUser, dataset_id: int, form: Annotated[NameForm, Form()]
) -> Response:
    """Give a dataset another name."""
    dataset = versions.get_dataset(db, user, dataset_id)
    version = dataset.versions[-1]
    try:
        versions.rename(db, user, dataset, form.name)
    except AppError as error:
        db.rollback()
        return _version_page(db, user, version, error=error, typed_name=form.name)
    db.commit()
    return RedirectResponse(f"/versions/{version.id}/file", status_code=303)


@router.post("/datasets/{dataset_id}/delete")
def delete(db: Db, user: CurrentUser, dataset_id: int) -> Response:
    """Delete a dataset with its file and examples."""
    dataset = versions.get_dataset(db, user, dataset_id)
    version = dataset.versions[-1]
    try:
        deletion.delete_dataset(db, user, dataset)
    except AppError as error:
        db.rollback()
        return _version_page(db, user, version, error=error)
    db.commit()
    wakeup.hint("cpu")  # the worker removes the bytes
    return RedirectResponse("/datasets?erased=1", status_code=303)


@router.get("/versions/{version_id}")
def show_version(
    db: Db,
    user: CurrentUser,
    version_id: int,
    *,
    change: bool = False,
    watching: bool = False,
    model: str = "",
    split: str = "",
    example: str = "1",
    made: bool = False,
) -> Response:
    """Show a version as it stands: being read, its columns, its examples, or what went wrong."""
    version = versions.get_version(db, user, version_id)
    if watching and not dataset_page.is_busy(version):
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return _version_page(
        db,
        user,
        version,
        change=change,
        model_id=row_number(model),
        split=split,
        position=int(example) if example.isdecimal() and len(example) < 10 else 1,
        made=made,
    )


@router.get("/versions/{version_id}/check")
def show_check(db: Db, user: CurrentUser, version_id: int, model: str = "") -> Response:
    """Show what the check found, and how long the examples are."""
    version = versions.get_version(db, user, version_id)
    if version.status is not VersionStatus.READY:
        return _to(version)
    shown = ready.check_tab(db, user, version, model_id=row_number(model))
    db.commit()  # token lengths that were counted for this page
    return version_page("datasets/check.html", user, version, shown, here="Check")


@router.get("/versions/{version_id}/train")
def show_before_training(db: Db, user: CurrentUser, version_id: int) -> Response:
    """Show whether training is needed, whether the data is enough, and what it went into."""
    version = versions.get_version(db, user, version_id)
    if version.status is not VersionStatus.READY:
        return _to(version)
    shown = ready.train_tab(db, user, version)
    return version_page("datasets/train.html", user, version, shown, here="Train")


@router.get("/versions/{version_id}/file")
def show_file(db: Db, user: CurrentUser, version_id: int) -> Response:
    """Show the file's versions, downloads, and what can be done with all of it."""
    version = versions.get_version(db, user, version_id)
    if version.status is not VersionStatus.READY:
        return _to(version)
    shown = ready.file_tab(db, user, version, dataset_page.housekeeping(db, version))
    return version_page("datasets/file.html", user, version, shown, tab="File and versions")


@router.post("/versions/{version_id}/preview")
def preview(
    db: Db, user: CurrentUser, version_id: int, form: Annotated[MappingForm, Form()]
) -> Response:
    """Show what the chosen columns would make of the first rows; changes nothing."""
    version = versions.get_version(db, user, version_id)
    return _version_page(db, user, version, form=form, change=True)


@router.post("/versions/{version_id}/confirm")
def confirm(
    db: Db, user: CurrentUser, version_id: int, form: Annotated[MappingForm, Form()]
) -> Response:
    """Settle the columns; the cpu queue makes the examples."""
    version = versions.get_version(db, user, version_id)
    problems = Problems()
    try:
        with problems:
            mapping = dataset_page.mapping_from(form)
        with problems:
            share = dataset_page.share_from(form)
        with problems:
            seed = dataset_page.seed_from(form)
        problems.check()
        built = versions.confirm(db, user, version, mapping, share, seed=seed)
    except AppError as error:
        db.rollback()
        return _version_page(db, user, version, form=form, change=True, error=error)
    db.commit()
    wakeup.hint("cpu")
    return _to(built)


@router.post("/versions/{version_id}/read-again")
def read_again(
    db: Db, user: CurrentUser, version_id: int, form: Annotated[ReadAsForm, Form()]
) -> Response:
    """Read the file anew, with another encoding, delimiter, sheet or header."""
    version = versions.get_version(db, user, version_id)
    try:
        versions.read_again(db, user, version, dataset_page.read_as_from(form))
    except AppError as error:
        db.rollback()
        return _version_page(db, user, version, error=error, typed_read_as=form)
    db.commit()
    wakeup.hint("cpu")
    return _to(version)


def _new_page(user: User, name: str = "", error: AppError | None = None) -> Response:
    status = error.status if error else 200
    return page("datasets/new.html", user, NewPage(name, error), status=status)


def _version_page(
    db: Session,
    user: User,
    version: DatasetVersion,
    *,
    form: MappingForm | None = None,
    change: bool = False,
    error: AppError | None = None,
    model_id: int | None = None,
    split: str = "",
    position: int = 1,
    made: bool = False,
    typed_name: str | None = None,
    typed_read_as: ReadAsForm | None = None,
) -> Response:
    kept = dataset_page.housekeeping(db, version, typed_name)
    is_asked = version.status is VersionStatus.MAPPING or (
        change and version.status in (VersionStatus.READY, VersionStatus.FAILED)
    )
    if is_asked and version.inspection and version.mapping:
        columns = dataset_page.columns_page(version, kept, form, typed_read_as)
        return version_page("datasets/columns.html", user, version, columns, error)
    if version.status is VersionStatus.READY:
        if error is not None:  # of its name, or of deleting it
            file = ready.file_tab(db, user, version, kept)
            return version_page(
                "datasets/file.html", user, version, file, error, tab="File and versions"
            )
        overview = ready.overview_tab(
            db, user, version, kept, model_id=model_id, split=split, position=position, made=made
        )
        db.commit()  # token lengths that were counted for this page
        return version_page("datasets/overview.html", user, version, overview, tab="Overview")
    busy = dataset_page.busy_page(db, version, kept)
    return version_page("datasets/show.html", user, version, busy, error)


def _to(version: DatasetVersion) -> Response:
    return RedirectResponse(f"/versions/{version.id}", status_code=303)
