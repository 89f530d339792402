"""What the start page shows: my next step, what waits for me, my work and models, then others'.

A piece of work is a dataset with what came of it, a line each, as the stepper on its pages has it.
Everything is read in a handful of queries, however much a department has: each takes a few rows
of each kind.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Subquery,
    and_,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager, joinedload

from app.adapters import registry as adapters
from app.adapters import sharing
from app.adapters import states as adapter_states
from app.base_models import registry as base_models
from app.base_models import states as model_states
from app.core.models import (
    Adapter,
    Dataset,
    DatasetVersion,
    Evaluation,
    Job,
    JobStatus,
    PrivacyReview,
    Role,
    User,
)
from app.core.status_words import StatusWord
from app.datasets import states as data_states
from app.datasets import versions
from app.evaluation import reading, votes
from app.evaluation import states as result_states
from app.jobs import progress, queue_view, requests
from app.jobs import states as job_states
from app.people.auth import can_edit
from app.web.stepper import Name

# Of each kind so many lines; the lists have the rest.
_NUM_LINES = 6
_MINE_WAITING, _MINE, _OTHERS_WAITING = range(3)
# Who asks, in questions that are put together once for everybody.
_USER = bindparam("user_id", type_=Integer)
_DEPARTMENT = bindparam("department_id", type_=Integer)
STEPS: tuple[Name, ...] = ("Data", "Check", "Personal details", "Train", "Result", "Use")
_AT_THE_GATE = (
    data_states.State.SEARCHING,
    data_states.State.UNDECIDED,
    data_states.State.CHANGING,
    data_states.State.SEARCH_FAILED,
    data_states.State.NOT_SEARCHED,
    data_states.State.REPLACED,
)
# How urgent a step is; the last waits for a person, and comes after all that goes on without it.
_DECIDE, _FAILED, _TRAIN, _LATER, _USE, _AGAIN = range(6)
_WAITS = (_DECIDE, _FAILED, _TRAIN, _AGAIN)
# What a person is asked to do about data, by how it stands.
_ASKS = {
    data_states.State.COLUMNS: (
        "“{name}” has been read. Say which column is the question and which is the answer."
    ),
    data_states.State.TOO_FEW: "“{name}” has too few rows to train on.",
    data_states.State.UNDECIDED: (
        "Personal details were found in “{name}”. Decide what becomes of them before training."
    ),
    data_states.State.FAILED: "“{name}” could not be used. See what is wrong with it.",
    data_states.State.SEARCH_FAILED: "The search for personal details in “{name}” failed.",
    data_states.State.NOT_SEARCHED: "“{name}” has to be searched for personal details.",
}
_RANKS = {data_states.State.FAILED: _FAILED, data_states.State.TOO_FEW: _AGAIN}
_ADD = (
    "Add a spreadsheet of questions and answers, and train a language model on it. "
    "Your data stays on your own machines."
)
# How urgent it is that the result of a trained model waits for a person; not below: it does not.
_RESULTS = {
    result_states.State.TO_CHECK: _FAILED,
    result_states.State.NOT_FOR_USE: _FAILED,
    result_states.State.FAILED: _FAILED,
    result_states.State.CANCELLED: _TRAIN,
    result_states.State.COUNTING: _LATER,
    result_states.State.NONE: _LATER,
}


@dataclass(frozen=True)
class NextStep:
    """One thing to do: a sentence, the button's words, and where it leads."""

    sentence: str
    button: str
    address: str
    rank: int = 0  # smaller is more urgent


@dataclass(frozen=True)
class Work:
    """A piece of work: how far it is, how that step stands, and where one goes on with it."""

    name: str
    step: Name
    standing: StatusWord
    address: str
    note: str = ""
    bar: tuple[int, int | None] | None = None  # of training that goes on: step, and of how many
    next_step: NextStep | None = None

    @property
    def number(self) -> int:
        """Which of the six steps, counted from 1."""
        return STEPS.index(self.step) + 1


@dataclass(frozen=True)
class FirstRun:
    """What somebody sees who has nothing yet: whether a starting model is here to begin with."""

    model: str  # its name; empty: there is none
    is_here: bool  # else it is being imported
    is_admin: bool


@dataclass(frozen=True)
class HomePage:
    """home/show.html."""

    next_step: NextStep | None  # nothing for people who only look
    waiting: list[NextStep]  # what else waits for this person
    work: list[Work]  # one's own, the newest first
    models: list[tuple[Adapter, adapter_states.Standing]]  # one's own
    running: list[tuple[Job, job_states.Standing]]  # colleagues'
    their_models: list[tuple[Adapter, adapter_states.Standing]]
    their_data: list[tuple[DatasetVersion, data_states.Standing]]  # that waits for them
    first_run: FirstRun | None
    can_edit: bool
    released: list[Adapter]  # what people who only look may ask

    @property
    def is_busy(self) -> bool:
        """Whether something goes on that changes from moment to moment."""
        return bool(self.running) or any(one.bar is not None for one in self.work)


@dataclass(frozen=True)
class _Made:
    """The newest job of some data, and what came of it."""

    job: Job
    adapter: Adapter | None
    evaluation: Evaluation | None


def home_page(db: Session, user: User) -> HomePage:
    """Gather how things stand at a glance."""
    data = _data(db, user)
    own = [row for row in data if row[0] != _OTHERS_WAITING]
    made, running = _jobs(db, user, [version.dataset_id for _, version, _ in own])
    work = [
        _work(db, version, standing, made.get(version.dataset_id)) for _, version, standing in own
    ]
    models, their_models = _models(db, user)
    asked = [one.next_step for one in work if one.next_step is not None]
    asked += _decisions(user, data) + _votes(db, user)
    asked.sort(key=lambda step: step.rank)
    editor = can_edit(user)
    if editor and not asked:
        asked = [NextStep(_ADD, "Add data", "/datasets/new")]
    is_new = editor and not work and not models
    return HomePage(
        next_step=asked[0] if editor else None,
        waiting=[step for step in asked[1 if editor else 0 :] if step.rank in _WAITS],
        work=work[:_NUM_LINES],
        models=models,
        running=running,
        their_models=their_models,
        their_data=[(version, how) for rank, version, how in data if rank == _OTHERS_WAITING],
        first_run=_first_run(db, user) if is_new else None,
        can_edit=editor,
        released=[] if editor else sharing.released(db, user),
    )


def _data(db: Session, user: User) -> list[tuple[int, DatasetVersion, data_states.Standing]]:
    """Return one's own data, what waits first, and then others' that waits for them."""
    found = db.execute(_data_of(data_states.where(set(data_states.STEPS))), _asker(user))
    return [
        (part, version, data_states.standing(version, review)) for part, version, review in found
    ]


def _asker(user: User) -> dict[str, int]:
    return {_USER.key: user.id, _DEPARTMENT.key: user.department_id}


@cache  # here and below: to put a question together takes longer than to ask it
def _data_of(waits: ColumnElement[bool]) -> Select[int, DatasetVersion, PrivacyReview]:
    is_mine = Dataset.owner_id == _USER
    few = _few(
        versions.newest(_DEPARTMENT),
        DatasetVersion.id,
        {
            _MINE_WAITING: and_(is_mine, waits),
            _MINE: and_(is_mine, ~waits),
            _OTHERS_WAITING: and_(~is_mine, waits),
        },
    )
    return (
        select(few.c.part, DatasetVersion, PrivacyReview)
        .join(DatasetVersion, DatasetVersion.id == few.c.id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .outerjoin(PrivacyReview, PrivacyReview.version_id == DatasetVersion.id)
        .options(
            contains_eager(DatasetVersion.dataset).joinedload(Dataset.owner),
            joinedload(DatasetVersion.file),
        )
        .order_by(few.c.part, DatasetVersion.id.desc())
    )


def _jobs(
    db: Session, user: User, dataset_ids: list[int]
) -> tuple[dict[int, _Made], list[tuple[Job, job_states.Standing]]]:
    """Return of some data its newest job, and what colleagues train just now."""
    found = db.execute(_jobs_of(), _asker(user) | {"dataset_ids": dataset_ids})
    made: dict[int, _Made] = {}
    theirs: list[tuple[Job, job_states.Standing]] = []
    for job, dataset_id, adapter, evaluation in found:
        if dataset_id in dataset_ids:
            made.setdefault(dataset_id, _Made(job, adapter, evaluation))
        elif job.owner_id != user.id and len(theirs) < _NUM_LINES:
            theirs.append((job, job_states.of(job)))
    return made, theirs


@cache
def _jobs_of() -> Select[Job, int, Adapter, Evaluation]:
    of_data = DatasetVersion.dataset_id.in_(bindparam("dataset_ids", expanding=True))
    newest = (
        select(func.max(Job.id))
        .join(DatasetVersion, DatasetVersion.id == Job.version_id)
        .where(of_data, Job.binned_at.is_(None))
        .group_by(DatasetVersion.dataset_id)
    )
    # Written out: a plan for any status could not take the index of those that run.
    is_running = Job.status == literal(JobStatus.RUNNING, Job.status.type, literal_execute=True)
    running = select(Job.id).where(Job.department_id == _DEPARTMENT, is_running)
    return (
        select(Job, DatasetVersion.dataset_id, Adapter, Evaluation)
        .join(DatasetVersion, DatasetVersion.id == Job.version_id)
        .outerjoin(Adapter, and_(Adapter.job_id == Job.id, Adapter.binned_at.is_(None)))
        .outerjoin(Evaluation, Evaluation.id == reading.judged_by(Adapter.id))
        .where(Job.department_id == _DEPARTMENT, Job.id.in_(union_all(newest, running)))
        .options(*requests.BARE, joinedload(Job.owner))
        # What trains just now says more of a piece of work than what was made last.
        .order_by(is_running.desc(), Job.id.desc())
    )


def _models(
    db: Session, user: User
) -> tuple[
    list[tuple[Adapter, adapter_states.Standing]], list[tuple[Adapter, adapter_states.Standing]]
]:
    """Return the newest adapters: one's own, and colleagues'."""
    found = db.execute(_models_of(), _asker(user))
    rows = [(part, (adapter, adapter_states.of(adapter))) for part, adapter in found]
    return [row for part, row in rows if part == _MINE], [
        row for part, row in rows if part != _MINE
    ]


@cache
def _models_of() -> Select[int, Adapter]:
    is_mine = Adapter.owner_id == _USER
    listed = adapters.listed_in(_DEPARTMENT)
    few = _few(listed, Adapter.id, {_MINE: is_mine, _OTHERS_WAITING: ~is_mine})
    return (
        select(few.c.part, Adapter)
        .join(Adapter, Adapter.id == few.c.id)
        .order_by(Adapter.id.desc())
    )


def _few(
    rows: Select[*tuple[Any, ...]],
    key: InstrumentedAttribute[int],
    parts: dict[int, ColumnElement[bool]],
) -> Subquery:
    """Select the newest few of each part, so that an index finds them however many there are."""
    each = [
        rows.where(is_in_it)
        .with_only_columns(key.label("id"), literal(part).label("part"))
        .order_by(key.desc())
        # Not as a parameter: PostgreSQL keeps a plan for all values only where none is much dearer.
        .limit(literal_column(str(_NUM_LINES)))
        .subquery()
        for part, is_in_it in parts.items()
    ]
    # Not the limited ones themselves: SQLAlchemy cannot join others to a union of those.
    return union_all(*(select(one) for one in each)).subquery()


def _work(
    db: Session, version: DatasetVersion, standing: data_states.Standing, made: _Made | None
) -> Work:
    """Say how far a piece of work is."""
    name = version.dataset.name
    word = StatusWord(standing.word, standing.dot)
    address = f"/versions/{version.id}{standing.step.below if standing.step else ''}"
    if standing.state is not data_states.State.READY:
        step: Name = "Personal details" if standing.state in _AT_THE_GATE else "Data"
        return Work(name, step, word, address, next_step=_ask(version, standing))
    train = f"/jobs/new?version={version.id}"
    if made is None:
        ready = f"“{name}” is ready: train a model on it."
        todo = NextStep(ready, "Train a model", train, _TRAIN)
        return Work(name, "Train", StatusWord("Not started", "wait"), address, next_step=todo)
    return _trained(db, name, made, train)


def _ask(version: DatasetVersion, standing: data_states.Standing) -> NextStep | None:
    said = _ASKS.get(standing.state)
    if said is None or standing.step is None:
        return None
    rank = _RANKS.get(standing.state, _DECIDE)
    address = standing.step.at(version.id)
    return NextStep(said.format(name=version.dataset.name), standing.step.words, address, rank)


def _trained(db: Session, name: str, made: _Made, train: str) -> Work:
    """Say the same of data that a job has learned from, or is to."""
    job, adapter = made.job, made.adapter
    stands = job_states.of(job)
    word, address = StatusWord(stands.word, stands.dot), f"/jobs/{job.id}"
    if stands.state is job_states.State.FAILED:
        todo = NextStep(f"Training on “{name}” failed.", "See why", address, _FAILED)
        return Work(name, "Train", word, address, next_step=todo)
    if stands.state is job_states.State.CANCELLED:
        todo = NextStep(f"Training on “{name}” was cancelled.", "Train again", train, _LATER)
        return Work(name, "Train", word, address, next_step=todo)
    if not stands.is_over:
        note = _how_it_goes(db, job, stands)
        bar = (job.step, job.total_steps) if stands.is_moving else None
        todo = NextStep(_sentence(name, stands), "See how it goes", address, _LATER)
        return Work(name, "Train", word, address, note, bar, todo)
    if adapter is None:
        return Work(name, "Train", word, address, "its model was deleted")
    address = f"/adapters/{adapter.id}"
    result, how = result_states.of(made.evaluation), adapter_states.of(adapter)
    # What was withdrawn is used by nobody, however good it is.
    if result.state in _RESULTS and how.state is not adapter_states.State.WITHDRAWN:
        step = result.step or result_states.Step("Evaluate it", address)
        said = result_states.sentence(made.evaluation, adapter.name)
        is_released = how.state is adapter_states.State.RELEASED  # not ready, and with a reason
        rank = _LATER if is_released and not result.may_use else _RESULTS[result.state]
        todo = NextStep(said, step.words, step.address, rank)
        at = f"/evaluations/{made.evaluation.id}" if made.evaluation else address
        word = StatusWord(result.word, result.dot)
        note = result.note if result.state is result_states.State.NOT_FOR_USE else ""
        return Work(name, "Result", word, at, note, next_step=todo)
    ask = None
    if "ask" in how.may:
        said = f"“{adapter.name}” is trained. Ask it something."
        ask = NextStep(said, "Ask it", f"{address}/ask", _USE)
    return Work(name, "Use", StatusWord(how.word, how.dot), address, next_step=ask)


def _sentence(name: str, stands: job_states.Standing) -> str:
    said = f"“{name}”: {stands.word.lower()}"
    return f"{said}; {stands.promise}." if stands.promise else f"{said}."


def _how_it_goes(db: Session, job: Job, stands: job_states.Standing) -> str:
    if stands.is_moving:
        left = progress.figures(db, job)["texts"]["time_left"]
        total = f" of {job.total_steps:,}" if job.total_steps else ""
        return f"step {job.step:,}{total}" + (f", {left} left" if left != "—" else "")
    if stands.state is job_states.State.WAITING:
        return progress.why_it_waits(job, queue_view.outlook(db))
    return ""


def _decisions(
    user: User, data: list[tuple[int, DatasetVersion, data_states.Standing]]
) -> list[NextStep]:
    """Return what a lead has to decide about colleagues' data."""
    if user.role not in (Role.LEAD, Role.ADMIN):
        return []
    steps = [
        _ask(version, how)
        for part, version, how in data
        if part == _OTHERS_WAITING and how.state is data_states.State.UNDECIDED
    ]
    return [step for step in steps if step is not None]


def _votes(db: Session, user: User) -> list[NextStep]:
    said = "A colleague asks which of two answers is better. It takes two minutes."
    rounds = votes.open_rounds(db, user)
    return [NextStep(said, "Vote", f"/votes/{one.id}", _TRAIN) for one in rounds]


def _first_run(db: Session, user: User) -> FirstRun:
    """Say whether there is a starting model to begin with."""
    known = [(model, model_states.of(model)) for model in base_models.list_models(db)]
    here = [model.label for model, how in known if how.state is model_states.State.READY]
    coming = [model.label for model, how in known if how.is_coming]
    model = next(iter(here or coming), "")
    return FirstRun(model, bool(here), user.role is Role.ADMIN)
