"""What the end of a trainer means: its exit code as a stable word, a sentence and a decision."""

import errno
import signal
from dataclasses import dataclass, replace
from typing import Literal

from app.core import plain_errors
from app.core.shared_storage import StorageAway
from app.training.events import (
    EXIT_CHECKPOINT,
    EXIT_CONFIG,
    EXIT_CUT_OFF,
    EXIT_DATASET,
    EXIT_DEVICE,
    EXIT_DISK_FULL,
    EXIT_DONE,
    EXIT_HELD,
    EXIT_MODEL,
    EXIT_NOT_FINITE,
    EXIT_ORPHANED,
    EXIT_OUT_OF_MEMORY,
    EXIT_STOPPED,
    FailedEvent,
)

# Why we ended a trainer ourselves.
Kill = Literal["cancel", "stall", "drain", "db", "lingers"]
_DISK_FULL_SECONDS = 600.0
_AWAY_SECONDS = 60.0
_DISK_ERRORS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE})

# Said only where the trainer itself left no better sentence.
_FAILURES = {
    EXIT_DATASET: (
        "dataset_invalid",
        "These examples cannot be used for training; check the data.",
    ),
    EXIT_CONFIG: ("config_invalid", "These settings do not work together; change them."),
    EXIT_OUT_OF_MEMORY: (
        "out_of_memory",
        "The machine has too little memory for this; shorten the longest example, or choose a "
        "smaller starting model.",
    ),
    EXIT_NOT_FINITE: (
        "loss_not_finite",
        "The loss grew to infinity; try again with a smaller learning rate.",
    ),
    EXIT_MODEL: ("model_invalid", "The starting model's files are damaged; import it again."),
}


@dataclass(frozen=True)
class Interruption:
    """Why an attempt ended before the job did, and what follows from it."""

    outcome: str
    why: str
    strike: bool  # whether the job itself may be to blame
    delay_seconds: float = 0.0


DISK_FULL = Interruption(
    "disk_full",
    "The disk is full; free some space. It tries again in ten minutes.",
    strike=False,
    delay_seconds=_DISK_FULL_SECONDS,
)


def no_room(needed_bytes: int, free_bytes: int) -> Interruption:
    """Say that a job's files would fill the disk before it has begun to write them."""
    why = (
        f"It needs {_megabytes(needed_bytes)} of free disk space and there are "
        f"{_megabytes(free_bytes)}; free some space. It tries again in ten minutes."
    )
    return replace(DISK_FULL, why=why)


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"


CUT_OFF = Interruption("cut_off", "The database could not be reached.", strike=False)
BROKEN_OFF = Interruption(
    "broken_off", "The worker met an unknown error; its log says more.", strike=True
)
_KILLED: dict[Kill, Interruption] = {
    "stall": Interruption("stalled", "Training made no progress for too long.", strike=True),
    "drain": Interruption("stopped", "The machine was needed for something else.", strike=False),
    "db": CUT_OFF,
}
_INTERRUPTIONS = {
    EXIT_STOPPED: Interruption("stopped", "Training stopped and saved a checkpoint.", strike=False),
    EXIT_CUT_OFF: CUT_OFF,
    EXIT_DISK_FULL: DISK_FULL,
    # It is gone by then, and there are only so many: no strike.
    EXIT_CHECKPOINT: Interruption(
        "checkpoint_unusable", "Its newest checkpoint could not be used.", strike=False
    ),
    EXIT_HELD: Interruption(
        "folder_held",
        "A trainer from an earlier attempt is still running and cannot be ended; that machine may "
        "need a restart.",
        strike=False,
        delay_seconds=60.0,
    ),
    EXIT_DEVICE: Interruption("device_error", "The GPU reported an error.", strike=True),
    EXIT_ORPHANED: Interruption("orphaned", "The trainer lost its supervisor.", strike=True),
    EXIT_DONE: Interruption("trainer_lost", "The trainer ended without a result.", strike=True),
    -signal.SIGKILL: Interruption(
        "trainer_lost",
        "The trainer was killed, perhaps because the machine ran out of memory.",
        strike=True,
    ),
}
ELSEWHERE = Interruption(
    "files_elsewhere",
    "Its starting model, or the adapter that it starts from, is neither on this machine nor in the "
    "shared storage; run “etude storage share” where it was imported.",
    strike=False,
    delay_seconds=_AWAY_SECONDS,
)
GARBLED = Interruption("garbled", "The trainer reported something unreadable.", strike=True)
UNKILLABLE = Interruption("unkillable", "Its trainer hangs and cannot be ended.", strike=False)
DEVICE_BUSY = Interruption(
    "device_busy", "Another program is using the GPU.", strike=False, delay_seconds=15.0
)


def failure(exit_code: int, said: FailedEvent | None) -> tuple[str, str]:
    """Return the stable word and the sentence for an end that would only come again."""
    return (said.code, plain_errors.cleaned(said.message)) if said else _FAILURES[exit_code]


def interruption(exit_code: int, killed: Kill | None) -> Interruption:
    """Say what an end means after which the job can be tried again."""
    # Our kill may come a moment after the trainer's own end, which then says it better.
    if killed is not None and killed in _KILLED and exit_code == -signal.SIGKILL:
        return _KILLED[killed]
    if exit_code in _INTERRUPTIONS:
        return _INTERRUPTIONS[exit_code]
    if exit_code < 0:
        why = f"The trainer was ended by {signal.Signals(-exit_code).name}."
    else:
        why = f"The trainer ended unexpectedly (exit code {exit_code}); its log says more."
    return Interruption("trainer_lost", why, strike=True)


def of_disk(error: Exception) -> Interruption | None:
    """Say what it means that our own files cannot be written; None for any other error."""
    if isinstance(error, StorageAway):
        return Interruption(
            "storage_away",
            f"{error.message} It tries again in a minute.",
            strike=False,
            delay_seconds=_AWAY_SECONDS,
        )
    if isinstance(error, FileNotFoundError):
        return ELSEWHERE
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    if error.errno in _DISK_ERRORS:
        return Interruption(
            "disk_error",
            f"The data directory cannot be written ({plain_errors.words(error)}); check the disk "
            "and who owns the folder. It tries again in ten minutes.",
            strike=False,
            delay_seconds=_DISK_FULL_SECONDS,
        )
    return None


def damaged(why: str) -> Interruption:
    """Say that files of the shared storage are not what was put there."""
    return Interruption("storage_damaged", why, strike=True)


def not_published(error: Exception) -> Interruption:
    """Say what it means that a finished job's files could not be kept."""
    if ending := of_disk(error):
        return ending
    if isinstance(error, OSError):
        why = f"The trained model could not be saved: {plain_errors.words(error)}."
    else:
        why = "The trained model's files were incomplete."
    return Interruption("not_published", why, strike=True)
