"""What the start page shows: what trains, what is next, and the one thing to do."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.adapters import sharing
from app.adapters import states as adapter_states
from app.core.models import Adapter, DatasetVersion, Job, JobStatus, User
from app.datasets import states as data_states
from app.datasets import versions
from app.evaluation import votes
from app.jobs import progress, queue_view, requests, states
from app.people.auth import can_edit

_NUM_NEXT = 5
_NUM_ADAPTERS = 3


# What keeps data from being trained on, and a person can do at once.
_WAITS_FOR_YOU = {
    data_states.State.COLUMNS: (
        "“{name}” has been read. Say which column is the question and which is the answer."
    ),
    data_states.State.UNDECIDED: (
        "Personal details were found in “{name}”. Decide what becomes of them before training."
    ),
}


@dataclass(frozen=True)
class NextStep:
    """The one thing to do: a sentence, the button's words, and where it leads."""

    sentence: str
    button: str
    address: str


@dataclass(frozen=True)
class HomePage:
    next_step: NextStep | None  # nothing for people who only look
    running: list[tuple[Job, states.Standing, dict[str, str]]]  # with its figures in words
    next_in_queue: list[tuple[Job, str]]  # with why it waits
    num_more: int
    unfinished: list[tuple[DatasetVersion, data_states.Standing]]
    adapters: list[tuple[Adapter, adapter_states.Standing]]
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
    newest = [dataset.versions[-1] for dataset in datasets]
    known = data_states.of_many(db, newest)
    stands = [(version, known[version.id]) for version in newest]
    rounds = votes.open_rounds(db, user)
    waiting, num_more = requests.next_in_queue(db, user, outlook, _NUM_NEXT)
    return HomePage(
        next_step=_next_step(user, stands, has_trained=bool(running or waiting or made)),
        running=[(job, states.of(job), progress.figures(db, job)["texts"]) for job in running],
        next_in_queue=[(job, progress.why_it_waits(job, outlook)) for job in waiting],
        num_more=num_more,
        unfinished=[(version, how) for version, how in stands if how.needs_person],
        adapters=[(one, adapter_states.of(one)) for one in made[:_NUM_ADAPTERS]],
        can_ask=can_edit(user),
        released=[] if can_edit(user) else sharing.released(db, user),
        num_votes=len(rounds),
        vote_address=f"/votes/{rounds[0].id}" if rounds else "",
    )


def _next_step(
    user: User,
    stands: list[tuple[DatasetVersion, data_states.Standing]],
    *,
    has_trained: bool,
) -> NextStep | None:
    if not can_edit(user):
        return None
    for version, how in stands:
        said = _WAITS_FOR_YOU.get(how.state)
        if said is not None and how.step is not None:
            sentence = said.format(name=version.dataset.name)
            address = f"/versions/{version.id}{how.step.below}"
            return NextStep(sentence, how.step.words, address)
    for version, how in stands:
        if how.state is data_states.State.READY:
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
