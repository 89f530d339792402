"""What a job is called, what may be done with it, and what a page may promise about it.

`status` is where a job is and `desired` what people want of it; only both together say whether it
trains, waits or stands still. Pages, lists, the event stream, /v1 and the functions that change a
job all ask here, so that none of them offers what another refuses.
"""

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Literal

from sqlalchemy import ColumnElement, and_, false, or_

from app.core.errors import Conflict
from app.core.models import Desired, Job, JobStatus
from app.core.status_words import Dot, StatusWord


class State(StrEnum):
    """How a job stands, what people want of it included."""

    WAITING = "waiting"
    PAUSED = "paused"
    STARTING = "starting"
    LOADING = "loading"
    PREPARING = "preparing"
    TRAINING = "training"
    FINISHING = "finishing"
    SAVING = "saving"  # amid training, too
    PAUSING = "pausing"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


Operation = Literal["cancel", "delete", "move", "pause", "resume", "try again"]
Time = Literal["none", "left", "start"]
InV1 = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]

# By what the trainer says that it does (TrainerPhase in docs/life-of-a-job.md).
_PHASES = {
    "loading": State.LOADING,
    "preparing": State.PREPARING,
    "probing": State.PREPARING,
    "training": State.TRAINING,
    "evaluating": State.TRAINING,
    "sampling": State.FINISHING,
    "saving": State.SAVING,
}
_ENDED = {
    JobStatus.SUCCEEDED: State.SUCCEEDED,
    JobStatus.FAILED: State.FAILED,
    JobStatus.CANCELLED: State.CANCELLED,
}
WORDS = {
    State.WAITING: StatusWord("Waiting", "wait"),
    State.PAUSED: StatusWord("Paused", "warn"),
    State.STARTING: StatusWord("Starting", "live"),
    State.LOADING: StatusWord("Loading", "live"),
    State.PREPARING: StatusWord("Preparing", "live"),
    State.TRAINING: StatusWord("Training", "live"),
    State.FINISHING: StatusWord("Finishing", "live"),
    State.SAVING: StatusWord("Saving", "live"),
    State.PAUSING: StatusWord("Pausing", "warn"),
    State.STOPPING: StatusWord("Stopping", "live"),
    State.SUCCEEDED: StatusWord("Finished", "good"),
    State.FAILED: StatusWord("Failed", "bad"),
    State.CANCELLED: StatusWord("Cancelled", "wait"),
}
_OVER_IN_V1: dict[State, InV1] = {
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}
_MOVING = frozenset(
    {
        State.STARTING,
        State.LOADING,
        State.PREPARING,
        State.TRAINING,
        State.FINISHING,
        State.SAVING,
    }
)
_OVER = frozenset(_ENDED.values())
# What a list can show alone, by the word for it in an address.
GROUPS: dict[str, tuple[str, Set[State]]] = {
    "open": (
        "Waiting or training",
        _MOVING | {State.WAITING, State.PAUSED, State.PAUSING, State.STOPPING},
    ),
    "finished": ("Finished", {State.SUCCEEDED}),
    "failed": ("Failed", {State.FAILED}),
    "cancelled": ("Cancelled", {State.CANCELLED}),
}
_LIVE: Set[Operation] = {"cancel", "pause"}
_MAY: dict[State, Set[Operation]] = {
    State.WAITING: {"cancel", "pause", "move"},
    State.PAUSED: {"cancel", "resume", "move"},
    **dict.fromkeys(_MOVING, _LIVE),
    State.PAUSING: {"cancel", "resume"},
    State.STOPPING: set(),
    State.SUCCEEDED: {"delete"},
    State.FAILED: {"delete", "try again"},
    State.CANCELLED: {"delete", "try again"},
}
# How an attempt ended: what follows from it, and why, is in the job's log.
OUTCOMES = {
    "succeeded": "Finished",
    "cancelled": "Cancelled",
    "stopped": "Stopped in order, its place saved",
    "restored": "Taken up again after a backup was restored",
    "lost": "Its machine stopped answering",
    "worker_died": "The worker was ended",
    "cut_off": "The database could not be reached",
    "broken_off": "The worker met an unknown error",
    "trainer_lost": "The training program was ended",
    "orphaned": "The training program was ended",
    "unkillable": "The training program hung",
    "folder_held": "An earlier attempt had not ended",
    "garbled": "The training program said something unreadable",
    "stalled": "No progress for too long",
    "device_busy": "Another program used the GPU",
    "device_error": "The GPU reported an error",
    "device_failed": "No usable GPU",
    "disk_full": "The disk was full",
    "disk_error": "The disk could not be written to",
    "storage_away": "The shared storage did not answer",
    "storage_damaged": "Files of the shared storage were damaged",
    "files_elsewhere": "Its files were on another machine",
    "checkpoint_unusable": "A checkpoint could not be used",
    "not_published": "The trained model could not be saved",
    "dataset_invalid": "The data cannot be used",
    "config_invalid": "The settings do not work together",
    "model_rejected": "The starting model cannot be used",
    "model_invalid": "The starting model cannot be used",
    "adapter_rejected": "The trained model that it starts from cannot be used",
    "out_of_memory": "Too little memory",
    "loss_not_finite": "The loss was no number any more",
    "walls_missing": "This machine cannot wall the training off",
    "trainer_failed": "The training program met an unknown error",
}
_PROMISES: dict[State, str] = {
    State.WAITING: "you can close this page; the job stays in the queue",
    State.PAUSED: "it does not train until someone resumes it",
    **dict.fromkeys(_MOVING, "you can close this page; training continues"),
    State.PAUSING: "it saves what it has learned, then frees the machine",
    State.STOPPING: "the machine will be free in a few seconds",
    **dict.fromkeys(_OVER, ""),
}
_NOT_ENDED = "This job has not ended yet; cancel it first, then delete it."
_NOT_AGAIN = "Only a failed or cancelled job can be tried again. This one: {word}."
_NOT_QUEUED = "This job is no longer in the queue: {word}."
# Why one cannot, by operation: after the end, while it is being cancelled, and otherwise.
_REFUSALS: dict[Operation, tuple[str, str, str]] = {
    "cancel": (
        "This job has already ended, so it cannot be cancelled.",
        "This job is being cancelled already.",
        "",
    ),
    "pause": (
        "This job has already ended, so it cannot be paused.",
        "This job is being cancelled, so it can no longer be paused.",
        "This job is paused already.",
    ),
    "resume": (
        "This job has already ended, so it cannot be resumed.",
        "This job is being cancelled, so it can no longer be resumed.",
        "This job is not paused, so there is nothing to resume.",
    ),
    "delete": ("", _NOT_ENDED, _NOT_ENDED),
    "try again": (_NOT_AGAIN, _NOT_AGAIN, _NOT_AGAIN),
    "move": (_NOT_QUEUED, _NOT_QUEUED, _NOT_QUEUED),
}


@dataclass(frozen=True)
class Standing:
    """How one job stands.

    Attributes:
        state: Which of the states it is in.
        word: What that is called.
        dot: The colour before the word.
        promise: What a page says beside it of the time when nobody looks; may be empty.
        time: Which time can be said: how long is left, when it may start, or none.
        may: What can be done with it, by whom it is allowed (rights.py).
    """

    state: State
    word: str
    dot: Dot
    promise: str
    time: Time
    may: Set[Operation]

    @property
    def is_moving(self) -> bool:
        """Whether it gets on just now: a bar may move."""
        return self.state in _MOVING

    @property
    def is_over(self) -> bool:
        """Whether it never changes again."""
        return self.state in _OVER

    @property
    def kind(self) -> str:
        """What a page's buttons depend on: a page of another kind has to be loaded anew."""
        return "moving" if self.is_moving else self.state.value


def of(job: Job) -> Standing:
    """Say how a job stands."""
    state = state_of(job.status, job.desired, job.phase)
    time: Time = "start" if state is State.WAITING else "left" if state in _MOVING else "none"
    return Standing(state, *WORDS[state], _PROMISES[state], time, _MAY[state])


def state_of(status: JobStatus, desired: Desired, phase: str | None = None) -> State:
    """Say which state a status, a wish and what the trainer does amount to."""
    if status in _ENDED:
        return _ENDED[status]
    if status is JobStatus.QUEUED:
        return State.PAUSED if desired is Desired.PAUSE else State.WAITING
    if desired is Desired.CANCEL:
        return State.STOPPING
    if desired is Desired.PAUSE:
        return State.PAUSING
    return _PHASES.get(phase or "", State.STARTING)


def ended_as(outcome: str | None) -> str:
    """Say in a few words how an attempt ended; `outcome` is the stable word, None while it goes."""
    return OUTCOMES.get(outcome, "Training stopped by an error") if outcome else "In progress"


def where(wanted: Set[State]) -> ColumnElement[bool]:
    """Select the jobs in some states; what the trainer does just now tells none of them apart.

    Args:
        wanted: Of the states of a job that trains all, or STARTING for all of them.
    """
    stands = [
        and_(Job.status == status, Job.desired == desired)
        for status, desired in product(JobStatus, Desired)
        if state_of(status, desired) in wanted
    ]
    return or_(false(), *stands)


def require(job: Job, operation: Operation) -> None:
    """Refuse what cannot be done with a job as it stands.

    Raises:
        Conflict: with the sentence that says why.
    """
    standing = of(job)
    if operation in standing.may:
        return
    ended, stopping, otherwise = _REFUSALS[operation]
    sentence = otherwise
    if standing.is_over:
        sentence = ended
    elif standing.state is State.STOPPING:
        sentence = stopping
    raise Conflict(sentence.format(word=standing.word))


def in_v1(job: Job, is_data_coming: bool) -> tuple[InV1, str]:
    """Return OpenAI's word for a job, and our finer one beside it.

    Args:
        is_data_coming: What it learns from is not ready yet.
    """
    state = of(job).state
    if state in _OVER:
        return _OVER_IN_V1[state], state.value  # the words are the same
    if state is State.PAUSED:
        return "queued", "paused"
    if state is State.WAITING and is_data_coming:
        return "validating_files", "validating_files"
    if state is State.WAITING:
        return "queued", "waiting"
    if state is State.STOPPING:
        return "running", "cancelling"
    return "running", "pausing" if state is State.PAUSING else job.phase or "running"
