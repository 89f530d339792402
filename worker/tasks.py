"""What a hint starts: look at the queue, and go on while there is work.

A hint names nothing. One too many finds nothing; one that is lost is rung again by the sweep.
"""

import structlog
from sqlalchemy.exc import DBAPIError

from worker import identity, model_import, reading, supervisor, sweep
from worker.celery_app import app

_log = structlog.get_logger()


@app.task(name="worker.tasks.look_gpu")  # type: ignore[untyped-decorator]
def look_gpu() -> None:
    """Train the jobs in line, one after another."""
    with sweep.busy():
        try:
            while not identity.is_draining() and supervisor.run_one():
                pass
        except DBAPIError as error:
            _log.warning("database.away", error=str(error.orig).strip())


@app.task(name="worker.tasks.look_cpu")  # type: ignore[untyped-decorator]
def look_cpu() -> None:
    """Read uploads and import models until none waits."""
    me = identity.worker_id()
    with sweep.busy():
        try:
            while not identity.is_draining() and (
                reading.read_next(me) or model_import.import_next(me)
            ):
                pass
        except DBAPIError as error:
            _log.warning("database.away", error=str(error.orig).strip())
