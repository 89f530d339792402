"""The Celery application: it only wakes workers, so its every reliability feature is off.

Who works on what is decided in PostgreSQL (app/jobs, app/leases). `etude worker` starts this with
`--pool prefork --concurrency 1 --without-gossip --without-mingle --without-heartbeat`.
"""

from typing import Any

from celery import Celery
from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from app.core import db, logs, outbound, settings, wakeup, walls
from worker import identity, sweep
from worker.bell import Bell
from worker.cpu import outbox
from worker.gpu import trainer_process

app = Celery("etude", broker=settings.get().redis_url, include=["worker.tasks"])
app.conf.update(
    # Acknowledged before it starts: late acknowledgement runs a task again after a lost connection
    # or an hour, while the first still trains. A hint that is lost is rung again by the sweep.
    task_acks_late=False,
    task_ignore_result=True,
    # A task from the broker can be nothing but a name and JSON.
    task_serializer="json",
    accept_content=["json"],
    broker_transport_options={
        **wakeup.BROKER_OPTIONS,
        # For how long one question to the broker waits for a hint; a hint ends it at once.
        "polling_interval": 5,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "health_check_interval": 25,
    },
    # The broker may come later than we, or go away for as long as it likes.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # No effect with early acknowledgement; stated, because leaving it out warns at every loss.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_concurrency=1,
    # No hint is hoarded by a busy worker while another is idle.
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    # Cancelling, drain and liveness are columns in PostgreSQL.
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    # A slow or crowded machine needs longer than 4 s to start the pool's child; it would be killed
    # and started over and over.
    worker_proc_alive_timeout=60.0,
    # The pool's child holds no model; a fresh one now and then, but not amid a burst of hints.
    worker_max_tasks_per_child=1000,
    timezone="UTC",
)


# Rings in the pool's child alone: the main process forks and has no thread.
_bell = Bell()


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: Any) -> None:
    logs.configure(settings.get().log_level, settings.get().log_format)


@worker_init.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    """In the main process."""
    outbound.watch()  # here, so that the pool's child counts on the same board
    settings.tell_unknown()
    walls.tell()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _drain(**_: Any) -> None:
    """In the main process: Celery waits for the task, so ask its supervisor to save its place."""
    identity.drain()


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _begin_child(**_: Any) -> None:
    """In the pool's child: connections are never shared with the process it was forked from."""
    db.engine().dispose(close=False)
    # The thread lives here and not in the main process: that one forks, and a fork beside a
    # running thread may copy a lock that nobody will ever release.
    queue_name: wakeup.Queue = "gpu" if "gpu" in app.amqp.queues.consume_from else "cpu"
    _bell.start()
    sweep.start(queue_name, _bell)
    if queue_name == "gpu":
        trainer_process.keep_warm()
    else:
        outbox.start(_bell)


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _end_child(**_: Any) -> None:
    sweep.stop()
    outbox.stop()
    _bell.stop()
    trainer_process.let_go()
    if identity.is_draining():
        sweep.say_goodbye()
