"""The six steps of a piece of work, from a file to its use: how far it is, and what is next.

Each page about the data, a job, an adapter or what it is worth shows them at its top, worked out
from the same rows, so that wherever somebody is, the next thing to do is one click away.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters import states as adapter_states
from app.core.kinds import Severity
from app.core.models import (
    Adapter,
    CheckStatus,
    DatasetVersion,
    Evaluation,
    Job,
    PrivacyReview,
    ReviewStatus,
)
from app.core.sentences import counted
from app.datasets import states
from app.datasets.doctor import checks
from app.datasets.privacy import reviews
from app.evaluation import reading
from app.evaluation import states as result_states
from app.evaluation.states import Result
from app.jobs import requests
from app.jobs import states as job_states

Name = Literal["Data", "Check", "Personal details", "Train", "Result", "Use"]
# done: nothing is left to do in it. next: a person or a machine is at it. wrong: it is held up.
State = Literal["done", "next", "wrong", "later"]

_RESULTS: dict[result_states.State, State] = {
    result_states.State.NONE: "next",
    result_states.State.COUNTING: "next",
    result_states.State.FAILED: "wrong",
    result_states.State.CANCELLED: "wrong",
    result_states.State.TO_CHECK: "next",
    result_states.State.NOT_FOR_USE: "wrong",
    result_states.State.COUNTED: "done",
}


@dataclass(frozen=True)
class Step:
    """One step: how it stands in a word or two, and the page where it is done."""

    name: Name
    state: State
    note: str = ""
    address: str = ""  # empty: there is no page for it yet
    figure: str = ""  # which of the page's figures keeps the note up to date; none: it stays


@dataclass(frozen=True)
class Stepper:
    """All six, and the one that a page belongs to."""

    steps: list[Step]
    here: Name

    @property
    def number(self) -> int:
        """Which of them, counted from 1."""
        return next(n for n, step in enumerate(self.steps, 1) if step.name == self.here)

    def step(self, name: Name) -> Step:
        """Return one of them."""
        return next(step for step in self.steps if step.name == name)

    def changed(self, changed: Step) -> "Stepper":
        """Return the same with another step of that name."""
        steps = [changed if step.name == changed.name else step for step in self.steps]
        return replace(self, steps=steps)


def of_version(db: Session, version: DatasetVersion, here: Name) -> Stepper:
    """Return the steps of data, and of the newest job that learned from it."""
    job = db.scalars(
        select(Job)
        .where(Job.version_id == version.id, Job.binned_at.is_(None))
        .options(*requests.BARE)
        .order_by(Job.id.desc())
        .limit(1)
    ).first()
    found = _stepper(db, here, version, job, job.adapter if job else None)
    if found.step("Data").state != "done":
        return found
    # The page that all jobs of this data have in common, not the newest one's.
    return found.changed(replace(found.step("Train"), address=f"/versions/{version.id}/train"))


def of_new_job(db: Session, version: DatasetVersion) -> Stepper:
    """Return the steps around a job that is being made, whatever others learned from its data."""
    return _stepper(db, "Train", version, None, None)


def of_job(db: Session, job: Job) -> Stepper:
    """Return the steps around a job, for its own page, whose stream says how it goes on."""
    found = _stepper(db, "Train", job.version, job, job.adapter)
    if job_states.of(job).is_over:
        return found
    return found.changed(replace(found.step("Train"), figure="status"))


def of_adapter(db: Session, adapter: Adapter, here: Name) -> Stepper | None:
    """Return the steps that led to an adapter; nothing where its job or its data is gone."""
    job = db.get(Job, adapter.job_id) if adapter.job_id else None
    number = job.version_id if job else adapter.lookup_version_id
    version = db.get(DatasetVersion, number) if number else None
    return _stepper(db, here, version, job, adapter) if version is not None else None


def of_evaluation(db: Session, evaluation: Evaluation) -> Stepper | None:
    """Return the steps around what an adapter, or a starting model alone, is worth."""
    adapter = db.get(Adapter, evaluation.adapter_id) if evaluation.adapter_id else None
    if adapter is not None:
        return of_adapter(db, adapter, "Result")
    version = db.get(DatasetVersion, evaluation.version_id)
    return of_version(db, version, "Result") if version is not None else None


def _stepper(
    db: Session, here: Name, version: DatasetVersion, job: Job | None, adapter: Adapter | None
) -> Stepper:
    review, before = reviews.around(db, version.id)
    standing = states.beside([version], {version.id: review} if review else {})[version.id]
    evaluation = reading.of_adapter(db, adapter.id) if adapter else None
    result = result_states.of(evaluation, reading.arm_of(adapter) if adapter else None)
    makers: list[Callable[[], Step]] = [
        lambda: _data(version, standing),
        lambda: _check(db, version, standing),
        lambda: _details(version, standing, review, before),
        lambda: _train(version, standing, job),
        lambda: _result(adapter, evaluation, result),
        lambda: _use(adapter, result),
    ]
    return Stepper([make() for make in makers], here)


def _data(version: DatasetVersion, standing: states.Standing) -> Step:
    address = f"/versions/{version.id}"
    name = f"{version.dataset.name}, version {version.number}"
    if standing.state in (states.State.TOO_FEW, states.State.FAILED, states.State.DELETED):
        return Step("Data", "wrong", standing.word.lower(), address)
    if standing.has_rows:
        return Step("Data", "done", name, address)
    # A word for each of the two things that a worker does: the page goes on without this line.
    is_built = standing.state in (states.State.CONFIRMED, states.State.BUILDING)
    note = "being made into examples" if is_built else standing.word.lower()
    note = "being read" if standing.is_busy and not is_built else note
    return Step("Data", "next", note, address)


def _check(db: Session, version: DatasetVersion, standing: states.Standing) -> Step:
    if not standing.has_rows:
        return Step("Check", "later")
    address = f"/versions/{version.id}/check"
    check = checks.of(db, version)
    if check is None:
        return Step("Check", "later", "not checked", address)
    if check.status is CheckStatus.FAILED:
        return Step("Check", "wrong", "could not be checked", address)
    if check.status is not CheckStatus.DONE:
        return Step("Check", "next", "being checked", address)
    found = checks.findings(db, version)
    if bad := sum(one.severity is Severity.BAD for one in found):
        note = counted(bad, "1 thing to fix first", "{n} things to fix first")
        return Step("Check", "wrong", note, address)
    note = counted(len(found), "1 thing to look at", "{n} things to look at")
    return Step("Check", "done", note if found else "nothing stands out", address)


def _details(
    version: DatasetVersion,
    standing: states.Standing,
    review: PrivacyReview | None,
    before: PrivacyReview | None,
) -> Step:
    """Say how the privacy gate stands, given the version's review and that which made it."""
    if not standing.has_rows:
        return Step("Personal details", "later")
    address = f"/versions/{version.id}/privacy"
    match standing.state:
        case states.State.SEARCHING:
            return Step("Personal details", "next", "being searched", address)
        case states.State.CHANGING:
            return Step("Personal details", "next", "being taken out", address)
        case states.State.UNDECIDED:
            return Step("Personal details", "next", "your decision is needed", address)
        case states.State.SEARCH_FAILED:
            return Step("Personal details", "wrong", "the search failed", address)
        case states.State.NOT_SEARCHED:
            return Step("Personal details", "next", "not searched yet", address)
        case states.State.REPLACED:
            return Step("Personal details", "done", "taken out in a newer version", address)
    if review is None or review.status is not ReviewStatus.DECIDED:
        return Step("Personal details", "done", "not searched", address)
    return Step("Personal details", "done", _decided(review, before), address)


def _decided(review: PrivacyReview, before: PrivacyReview | None) -> str:
    by_actions = (review.done or {}).values()
    kept = sum(by_action.get("keep", 0) for by_action in by_actions)
    taken_out = reviews.num_taken_out(before)
    said = [f"{taken_out:,} taken out"] * bool(taken_out) + [f"{kept:,} kept"] * bool(kept)
    return ", ".join(said) or "none found"


def _train(version: DatasetVersion, standing: states.Standing, job: Job | None) -> Step:
    if job is None:
        if standing.state is not states.State.READY:
            return Step("Train", "later")
        return Step("Train", "next", "not started", f"/jobs/new?version={version.id}")
    address = f"/jobs/{job.id}"
    stands = job_states.of(job)
    if stands.state is job_states.State.SUCCEEDED:
        return Step("Train", "done", job.name, address)
    held_up = (job_states.State.FAILED, job_states.State.CANCELLED)
    state: State = "wrong" if stands.state in held_up else "next"
    return Step("Train", state, stands.word.lower(), address)


def _result(adapter: Adapter | None, evaluation: Evaluation | None, result: Result) -> Step:
    if adapter is None or adapter.binned_at is not None:
        return Step("Result", "later")
    address = f"/evaluations/{evaluation.id}" if evaluation else f"/adapters/{adapter.id}"
    return Step("Result", _RESULTS[result.state], result.note, address)


def _use(adapter: Adapter | None, result: Result) -> Step:
    if adapter is None:
        return Step("Use", "later")
    address = f"/adapters/{adapter.id}"
    stands = adapter_states.of(adapter)
    if stands.state is adapter_states.State.IN_BIN:
        return Step("Use", "wrong", stands.word.lower(), "/bin")
    if "ask" not in stands.may:
        return Step("Use", "wrong", stands.word.lower(), address)
    is_released = stands.state is adapter_states.State.RELEASED
    if not result.may_use:
        # Whoever decided it gave a reason, and the result stays what it is.
        note = "released, though not ready" if is_released else "not ready to be used"
        return Step("Use", "wrong" if is_released else "later", note, address)
    if is_released:
        return Step("Use", "done", "released to colleagues", address)
    return Step("Use", "next", "ask, share, take along", address)
