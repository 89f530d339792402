"""What the start page shows: what trains, what is next, and the one thing to do."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.adapters import sharing
from app.core.models import Adapter, Dataset, Job, JobStatus, User, VersionStatus
from app.datasets import versions
from app.evaluation import votes
from app.jobs import progress, queue_view, requests
from app.people.auth import can_edit

_NUM_NEXT = 5
_NUM_ADAPTERS = 3


@dataclass(frozen=True)
class NextStep:
    """The one thing to do: a sentence, the button's words, and where it leads."""

    sentence: str
    button: str
    address: str


@dataclass(frozen=True)
class HomePage:
    next_step: NextStep | None  # nothing for people who only look
    running: list[tuple[Job, dict[str, str]]]  # with its figures in words
    next_in_queue: list[tuple[Job, str]]  # with why it waits
    num_more: int
    unfinished: list[Dataset]
    adapters: list[Adapter]
    can_ask: bool
    released: list[Adapter]  # what people who only look may ask
    num_votes: int  # blind votes in which a person has questions left
    vote_address: str  # of the newest one; empty: there is none


def home_page(db: Session, user: User) -> HomePage:
    """Gather how things stand at a glance."""
    running = requests.list_jobs(db, user, statuses=(JobStatus.RUNNING,))
    datasets = versions.list_datasets(db, user)
    made = adapters.list_adapters(db, user)
    outlook = queue_view.outlook(db)
    rounds = votes.open_rounds(db, user)
    waiting, num_more = requests.next_in_queue(db, user, outlook, _NUM_NEXT)
    return HomePage(
        next_step=_next_step(user, datasets, has_trained=bool(running or waiting or made)),
        running=[(job, progress.figures(db, job)["texts"]) for job in running],
        next_in_queue=[(job, progress.why_it_waits(job, outlook)) for job in waiting],
        num_more=num_more,
        unfinished=[dataset for dataset in datasets if _needs_someone(dataset)],
        adapters=made[:_NUM_ADAPTERS],
        can_ask=can_edit(user),
        released=[] if can_edit(user) else sharing.released(db, user),
        num_votes=len(rounds),
        vote_address=f"/votes/{rounds[0].id}" if rounds else "",
    )


def _needs_someone(dataset: Dataset) -> bool:
    return dataset.versions[-1].status in (VersionStatus.MAPPING, VersionStatus.FAILED)


def _next_step(user: User, datasets: list[Dataset], *, has_trained: bool) -> NextStep | None:
    if not can_edit(user):
        return None
    newest = [dataset.versions[-1] for dataset in datasets]
    for version in newest:
        if version.status is VersionStatus.MAPPING:
            sentence = (
                f"“{version.dataset.name}” has been read. "
                "Say which column is the question and which is the answer."
            )
            return NextStep(sentence, "Check the columns", f"/versions/{version.id}")
    for version in newest:
        if version.status is VersionStatus.READY:
            sentence = (
                "Train a model on your examples."
                if has_trained
                else f"“{version.dataset.name}” is ready: train a model on it."
            )
            return NextStep(sentence, "New job", f"/jobs/new?version={version.id}")
    return NextStep(
        "Add a spreadsheet of questions and answers, and train a language model on it. "
        "Nothing leaves this machine.",
        "Add data",
        "/datasets/new",
    )
