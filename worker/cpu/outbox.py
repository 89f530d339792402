"""Sends what is to leave, in threads of the cpu worker beside its sweep.

Threads of their own: a mail server that does not answer must not keep the sweep from saying that
this worker lives. One for each receiver that something waits for: a slow one keeps nobody else
waiting.
"""

import http.client
import threading
from collections.abc import Collection
from contextlib import suppress
from queue import Empty, SimpleQueue

import structlog
from sqlalchemy.exc import DBAPIError

from app.core import db, plain_errors, settings
from app.core.models import Channel
from app.notices import calls, mail, mlflow, outbox
from app.notices.connections import Refused
from app.notices.outbox import Message
from worker.bell import Bell

_log = structlog.get_logger()
_stopping = threading.Event()
# As many receivers may stand still before the next one waits.
_MAX_AT_ONCE = 64
_LOOK_SECONDS = 0.5


def start(bell: Bell) -> None:
    """Begin to send, in a thread of this process, whenever the bell rings and now and then."""
    _stopping.clear()
    threading.Thread(target=_run, args=(bell,), name="outbox", daemon=True).start()


def stop() -> None:
    """Let the thread end; what it holds is sent again by the next."""
    _stopping.set()


def send_due() -> int:
    """Send everything that is due; returns how many were tried."""
    num_tried = 0
    busy: set[str] = set()
    told: SimpleQueue[str] = SimpleQueue()
    while True:
        # One at a time to a receiver; what falls due meanwhile for others is not kept waiting.
        while len(busy) < _MAX_AT_ONCE and (message := _take(busy)):
            busy.add(message.receiver)
            threading.Thread(target=_tell, args=(message, told), name="outbox", daemon=True).start()
            num_tried += 1
        if not busy:
            return num_tried
        with suppress(Empty):
            busy.discard(told.get(timeout=_LOOK_SECONDS))


def _run(bell: Bell) -> None:
    while not _stopping.is_set():
        chosen = settings.get()
        # What is to be tried again falls due without a ring.
        bell.wait("outbox", chosen.sweep_seconds if bell.is_listening else chosen.watch_seconds)
        try:
            if _is_due():
                send_due()
        except DBAPIError as error:
            _log.warning("outbox.database_away", error=str(error.orig).strip())
        except Exception:
            _log.exception("outbox.failed")


def _is_due() -> bool:
    with db.watching() as session:
        return outbox.is_due(session)


def _take(busy: Collection[str]) -> Message | None:
    if _stopping.is_set():
        return None
    with db.session() as session:
        message = outbox.take(session, busy)
        session.commit()
    return message


def _tell(message: Message, told: "SimpleQueue[str]") -> None:
    try:
        _send(message)
    except DBAPIError as error:
        _log.warning("outbox.database_away", error=str(error.orig).strip())
    except Exception:
        _log.exception("outbox.failed")
    finally:
        told.put(message.receiver)


def _send(message: Message) -> None:
    log = _log.bind(message=message.public_id, channel=message.channel.value, tries=message.tries)
    try:
        if message.channel is Channel.MLFLOW:
            _tell_mlflow(message)
            return
        answer = (mail if message.channel is Channel.MAIL else calls).send(message)
    except (OSError, http.client.HTTPException, Refused, ValueError) as error:
        log.warning("outbox.not_sent", error=type(error).__name__)
        with db.session() as session:
            outbox.failed(session, message, plain_errors.words(error))
            session.commit()
    else:
        log.info("outbox.sent")
        with db.session() as session:
            outbox.sent(session, message, answer)
            session.commit()


def _tell_mlflow(message: Message) -> None:
    with db.session() as session:
        news = mlflow.read(session, message)
    if news is None:
        return  # its job was deleted, and the message with it
    progress = mlflow.send(message, news)
    with db.session() as session:
        outbox.went_on(session, message, progress)
        session.commit()
