"""What a hint starts: look at the queue, and go on while there is work.

A hint names nothing. One too many finds nothing; one that is lost is rung again by the sweep.
"""

import threading

import structlog
from sqlalchemy.exc import DBAPIError

from app import queue
from worker import identity, model_import, privacy, reading, supervisor, sweep, trainer_process
from worker.celery_app import app

# How soon an upload is noticed while a model is being imported.
_LOOK_SECONDS = 0.5

_log = structlog.get_logger()


@app.task(name="worker.tasks.look_gpu")  # type: ignore[untyped-decorator]
def look_gpu() -> None:
    """Train the jobs in line, one after another."""
    with sweep.busy():
        try:
            while not identity.is_draining() and supervisor.run_one():
                pass
            if not identity.is_draining():
                trainer_process.keep_warm()
        except DBAPIError as error:
            _log.warning("database.away", error=str(error.orig).strip())


@app.task(name="worker.tasks.look_cpu")  # type: ignore[untyped-decorator]
def look_cpu() -> None:
    """Read uploads, look for personal details and import models until nothing waits."""
    me = identity.worker_id()
    importing = _Importing(me)
    with sweep.busy():
        try:
            while not identity.is_draining():
                importing.go_on()
                if _next(me):
                    queue.hint("gpu")  # a job may have waited for this data
                elif not importing.wait(_LOOK_SECONDS):
                    break
        except DBAPIError as error:
            _log.warning("database.away", error=str(error.orig).strip())
        finally:
            importing.finish()


def _next(worker_id: str) -> bool:
    # A file that somebody waits for goes before the search for names, which takes longer.
    return reading.read_next(worker_id) or privacy.look_next(worker_id)


class _Importing:
    """Imports models beside the reading, one at a time: the work is done by a child process."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._thread: threading.Thread | None = None
        self._found_none = False

    def go_on(self) -> None:
        """Begin the next import unless one is going on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._import_one, name="import")
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait a moment for the import; says whether there is, or may be, more to do."""
        assert self._thread is not None
        self._thread.join(seconds)
        if self._thread.is_alive():
            return True
        self._thread = None
        return not self._found_none

    def finish(self) -> None:
        """Wait for the import; where this worker is to end, it gives its model back first."""
        if self._thread is not None:
            self._thread.join()

    def _import_one(self) -> None:
        self._found_none = True
        try:
            self._found_none = not model_import.import_next(self._worker_id)
            if not self._found_none:
                queue.hint("gpu")  # a job may have waited for this model
        except DBAPIError as error:
            _log.warning("database.away", error=str(error.orig).strip())
