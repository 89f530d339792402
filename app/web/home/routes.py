"""Home: what runs, what is next, and the one thing to do."""

from fastapi import APIRouter, Response

from app.adapters import registry as adapters
from app.core.db import Db
from app.core.models import Dataset, JobStatus, User, VersionStatus
from app.datasets import versions
from app.jobs import progress, queue_view, requests
from app.people.auth import CurrentUser, can_edit
from app.web.render import page

router = APIRouter()

_NEXT_IN_LINE = 5


@router.get("/")
def show(db: Db, user: CurrentUser) -> Response:
    """Show how things stand at a glance."""
    running = requests.list_jobs(db, user, statuses=(JobStatus.RUNNING,))
    datasets = versions.list_datasets(db, user)
    made = adapters.list_adapters(db, user)
    line = queue_view.outlook(db)
    waiting, num_more = requests.next_in_queue(db, user, line, _NEXT_IN_LINE)
    return page(
        "home/show.html",
        user,
        running=[(job, progress.figures(db, job)) for job in running],
        next_in_line=[(job, progress.why_it_waits(job, line)) for job in waiting],
        num_more=num_more,
        unfinished=[dataset for dataset in datasets if _needs_someone(dataset)],
        adapters=made[:3],
        next_step=_next_step(user, datasets, has_taught=bool(running or waiting or made)),
    )


def _needs_someone(dataset: Dataset) -> bool:
    return dataset.versions[-1].status in (VersionStatus.MAPPING, VersionStatus.FAILED)


def _next_step(
    user: User, datasets: list[Dataset], *, has_taught: bool
) -> tuple[str, str, str] | None:
    """Choose the one thing to do: a sentence, the button's words, and where it leads."""
    if not can_edit(user):
        return None
    newest = [dataset.versions[-1] for dataset in datasets]
    for version in newest:
        if version.status is VersionStatus.MAPPING:
            name = version.dataset.name
            return (
                f"“{name}” has been read. Say which column is the question and which the answer.",
                "Confirm the columns",
                f"/versions/{version.id}",
            )
    for version in newest:
        if version.status is VersionStatus.READY:
            sentence = (
                "Teach a starting model with your examples."
                if has_taught
                else f"“{version.dataset.name}” is ready: teach a starting model with it."
            )
            return (sentence, "New job", f"/jobs/new?version={version.id}")
    return (
        "Bring a sheet of questions and answers, and teach a language model with it. "
        "Nothing leaves this machine.",
        "Add data",
        "/datasets/new",
    )
