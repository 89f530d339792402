"""Ring for a worker: a Celery message that says "look at the queue", and nothing else.

It carries no job id and may be lost, doubled or late: PostgreSQL holds the truth, and the sweep
in every worker (worker/sweep.py) rings again for rows that wait.

What a worker's own threads wait for, PostgreSQL rings itself, at commit (`bell`, worker/bell.py).
"""

from functools import lru_cache
from typing import Literal, get_args

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import ColumnElement, func

from app.core import settings
from app.training import failpoints

Queue = Literal["gpu", "cpu"]
# A job is held from now on, so that sweeps look more often; a message is to leave.
Topic = Literal["held", "outbox"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
CHANNEL = "etude_work"

# Nothing is parked in Redis while a task runs: with early acknowledgement there is nothing to
# give back, and without the parking there is neither Lua nor a sweep of Celery's own.
BROKER_OPTIONS = {"ack_emulation": False, "global_keyprefix": "etude:"}
_TIMEOUT_SECONDS = 1

_log = structlog.get_logger()


def bell(topic: Topic) -> ColumnElement[None]:
    """Build what rings, once its transaction is committed, for the threads that wait for it."""
    return func.pg_notify(CHANNEL, topic)


def hint(queue: Queue, worker: str = "") -> bool:
    """Wake a worker of a queue, after the commit; best effort, never raises.

    Args:
        worker: Which one; else whoever is idle looks first, and may find nothing that it can do.

    Returns:
        Whether the broker took it. Where not, the sweep rings again once it can.
    """
    return ring(settings.get().redis_url, queue, worker)


def ring(url: str, queue: Queue, worker: str = "") -> bool:
    """Wake a worker of a queue through the broker at an address."""
    try:
        _sender(url).send_task(
            f"worker.tasks.look_{queue}", queue=worker or queue, retry=False, ignore_result=True
        )
    except (OperationalError, OSError) as error:
        # The row waits in PostgreSQL all the same; the sweep finds it within seconds.
        _log.warning("queue.hint_lost", queue=queue, error=str(error))
        return False
    failpoints.hit("hint.sent")
    return True


@lru_cache
def _sender(url: str) -> Celery:
    app = Celery("etude-hints", broker=url, set_as_current=False)
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
