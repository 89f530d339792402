"""What a gpu worker does on its device between two jobs: leased rows that ask models.

Evaluations and judgings: whatever one meets, it ends with a sentence for a person or waits again,
and never keeps the worker from the next job.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.adapters.answering import WantedBase
from app.base_models import copies
from app.core import db, disk, plain_errors
from app.core.errors import AppError
from app.core.leases import Lease, LeaseLost, Rules
from app.core.models import Worker, WorkerState
from app.evaluation.evaluations import Unanswerable
from app.jobs import protocol
from worker import identity, leased
from worker.answering import batches
from worker.answering.child import ChildFailed
from worker.gpu.evaluation_models import DeviceHeld
from worker.leased import Draining, LeaseHolder, Unfinished

_log = structlog.get_logger()
_T = TypeVar("_T")

# So many ends of a child in a row, and the work ends with a sentence.
MAX_DEATHS = 3
# For so long a device that is held by something else is let alone, while jobs go on.
_HELD_SECONDS = 30.0


class _Device:
    """What this process has seen of its device."""

    held_until = float("-inf")  # something else computes on it; jobs go on beside that


@contextmanager
def having(base: WantedBase) -> Iterator[None]:
    """Have a starting model's files on this machine, from `with` to the end of it.

    Raises:
        Unfinished: they cannot be had.
        StorageAway, shared_storage.Damaged: they cannot be fetched.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(copies.in_use(base.folder, base.manifest_sha256, base.size_bytes))
        except FileNotFoundError:
            raise Unfinished(f"{base.label} is not in the shared storage.") from None
        except disk.NoRoom as error:
            raise Unfinished(
                f"{base.label} needs {error.needed_bytes / 1e9:,.1f} GB on this machine's disk, "
                f"and {error.free_bytes / 1e9:,.1f} GB are free for it; start it again when less "
                "is running."
            ) from None
        yield


def do_next(
    rules: Rules,
    worker_id: str,
    fetch: Callable[[Session, Lease], _T | None],
    carry: Callable[[LeaseHolder, _T], None],
    *,
    name: str,
    given_up: Callable[[Session, Sequence[int]], object],
) -> bool:
    """Do what has waited longest of a kind, on this worker's device.

    Args:
        carry: Carries one attempt to its end; it may raise whatever asking models may.
        name: What the row is called in the log.
        given_up: As for `leased.run`.

    Returns:
        Whether something was done; ask again until nothing is.
    """
    if time.monotonic() < _Device.held_until or not _may_begin():
        return False
    before = _Device.held_until

    def work(holder: LeaseHolder, fetched: _T) -> None:
        _log.info("between_jobs", **{name: holder.lease.id}, attempt=holder.lease.attempt)
        _to_its_end(lambda: carry(holder, fetched), holder.lease, name)

    had_work = leased.run(rules, worker_id, fetch, work, name=name, given_up=given_up)
    return had_work and _Device.held_until == before


def _may_begin() -> bool:
    """Say whether this worker may take one; one with several devices leaves it to narrower ones."""
    me = identity.me()
    with db.session() as session:
        if protocol.is_out(session, me):
            return False
        if len(me.devices) == 1:
            return True
        others = session.scalars(
            select(Worker).where(
                Worker.queue == "gpu", Worker.host == me.host, Worker.state == WorkerState.ACTIVE
            )
        )
        return not any(set(other.devices) < set(me.devices) for other in others)


def _to_its_end(carry: Callable[[], None], lease: Lease, name: str) -> None:
    """Carry one attempt to its end, whatever it meets.

    Raises:
        LeaseLost, Draining, Unfinished: it came to no result.
    """
    try:
        carry()
    except (LeaseLost, Draining, Unfinished):
        raise
    except DeviceHeld:
        _Device.held_until = time.monotonic() + _HELD_SECONDS
        raise Draining from None
    except (Unanswerable, ChildFailed) as error:
        raise Unfinished(str(error)) from None
    except AppError as error:
        raise Unfinished(error.message) from None
    except batches.Ended as error:
        raise _broke_off(error.code) from None
    except OSError as error:
        _log.exception("between_jobs.disk", **{name: lease.id})
        raise Unfinished(
            f"This machine could not read or write a file ({plain_errors.words(error)}); "
            "ask your administrator to look at its disk, and then start it again."
        ) from None
    except Exception as error:
        if isinstance(error, DBAPIError) and db.is_away(error):
            raise
        # Whatever it was: the row stays held, and the next look takes it back with a strike.
        _log.exception("between_jobs.broken_off", **{name: lease.id})


def _broke_off(code: int) -> Unfinished:
    return Unfinished(
        f"The model that answers broke off again and again (code {code}), perhaps because the "
        "machine ran out of memory or lost its graphics card; start it again when less is running."
    )
