"""What a hint starts: look at the queue, and go on while there is work.

A hint names nothing. One too many finds nothing; one that is lost is rung again by the sweep.
"""

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import DBAPIError

from app.core import wakeup
from worker import identity, sweep
from worker.celery_app import app
from worker.cpu import (
    checking,
    exporting,
    fixing,
    model_import,
    privacy,
    question_lists,
    questions,
    reading,
)
from worker.gpu import evaluating, judging, supervisor, trainer_process

# How soon an upload is noticed while a model is being imported.
_LOOK_SECONDS = 0.5

_log = structlog.get_logger()


@app.task(name="worker.tasks.look_gpu")  # type: ignore[untyped-decorator]
def look_gpu() -> None:
    """Train the jobs in the queue, one after another, and count right answers in between."""
    with sweep.busy():
        try:
            while not identity.is_draining() and (
                evaluating.evaluate_next(identity.worker_id())
                or judging.judge_next(identity.worker_id())
                or supervisor.run_one()
            ):
                structlog.contextvars.clear_contextvars()
            if not identity.is_draining():
                trainer_process.keep_warm()
        except DBAPIError as error:
            _log.warning("database.away", error=str(error.orig).strip())


@app.task(name="worker.tasks.look_cpu")  # type: ignore[untyped-decorator]
def look_cpu() -> None:
    """Read uploads, look for personal details, and what takes longer: models, checks and the like.

    No upload waits behind that: it goes on beside. Ends when nothing waits.
    """
    me = identity.worker_id()
    works = (
        model_import.import_next,
        checking.check_next,
        fixing.fix_next,
        questions.ask_next,
        question_lists.answer_next,
        exporting.export_next,
    )
    beside = [_Beside(do_next, me) for do_next in works]
    with sweep.busy():
        try:
            while not identity.is_draining():
                for each in beside:
                    each.go_on()
                if _next(me):
                    wakeup.hint("gpu")  # a job may have waited for this data
                    continue
                has_more = [each.wait(_LOOK_SECONDS) for each in beside]
                if not any(has_more):
                    break
        except DBAPIError as error:
            _log.warning("database.away", error=str(error.orig).strip())
        finally:
            for each in beside:
                each.finish()


def _next(worker_id: str) -> bool:
    # Files and sheets in turn, so that many of the one keep nobody waiting for the other. What
    # somebody waits for goes before the search for names, which takes longer.
    has_read = [read_next(worker_id) for read_next in (reading.read_next, question_lists.read_next)]
    return any(has_read) or privacy.review_next(worker_id)


class _Beside:
    """Does one kind of work beside the reading, one at a time: a child process does it."""

    def __init__(self, do_next: Callable[[str], bool], worker_id: str) -> None:
        self._do_next = do_next
        self._worker_id = worker_id
        self._thread: threading.Thread | None = None
        self._found_none = False

    def go_on(self) -> None:
        """Begin the next piece of work unless one is going on."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._do_one, name=self._do_next.__name__)
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait a moment for it; says whether there is, or may be, more to do."""
        assert self._thread is not None
        self._thread.join(seconds)
        if self._thread.is_alive():
            return True
        self._thread = None
        return not self._found_none

    def finish(self) -> None:
        """Wait for it; where this worker is to end, it gives its work back first."""
        if self._thread is not None:
            self._thread.join()

    def _do_one(self) -> None:
        self._found_none = True
        try:
            self._found_none = not self._do_next(self._worker_id)
            if not self._found_none:
                wakeup.hint("gpu")  # a job may have waited for this model
        except DBAPIError as error:
            _log.warning("database.away", error=str(error.orig).strip())
