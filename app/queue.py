"""Ring for a worker: a Celery message that says "look at the queue", and nothing else.

It carries no job id and may be lost, doubled or late: PostgreSQL holds the truth, and the sweep
in every worker (worker/sweep.py) rings again for rows that wait.
"""

from functools import lru_cache
from typing import Literal

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from app import settings

Queue = Literal["gpu", "cpu"]

# Nothing is parked in Redis while a task runs: with early acknowledgement there is nothing to
# give back, and without the parking there is neither Lua nor a sweep of Celery's own.
BROKER_OPTIONS = {"ack_emulation": False, "global_keyprefix": "etude:"}
_TIMEOUT_SECONDS = 1

_log = structlog.get_logger()


def hint(queue: Queue) -> bool:
    """Wake a worker of a queue, after the commit; best effort, never raises.

    Returns:
        Whether the broker took it. Where not, the sweep rings again once it can.
    """
    try:
        _sender().send_task(
            f"worker.tasks.look_{queue}", queue=queue, retry=False, ignore_result=True
        )
    except (OperationalError, OSError) as error:
        # The row waits in PostgreSQL all the same; the sweep finds it within seconds.
        _log.warning("queue.hint_lost", queue=queue, error=str(error))
        return False
    return True


@lru_cache
def _sender() -> Celery:
    app = Celery("etude-hints", broker=settings.get().redis_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        broker_pool_acquire_timeout=_TIMEOUT_SECONDS,
        broker_connection_timeout=_TIMEOUT_SECONDS,
        broker_transport_options={
            **BROKER_OPTIONS,
            "socket_timeout": _TIMEOUT_SECONDS,
            "socket_connect_timeout": _TIMEOUT_SECONDS,
            # kombu would try for ever before it gives the request back.
            "max_retries": 0,
            "interval_start": 0,
        },
    )
    return app
