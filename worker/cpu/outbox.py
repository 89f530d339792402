"""Sends what is to leave, in a thread of the cpu worker beside its sweep.

A thread of its own: a mail server that does not answer must not keep the sweep from saying that
this worker lives.
"""

import http.client
import threading

import structlog
from sqlalchemy.exc import DBAPIError

from app.core import db, settings
from app.core.models import Channel
from app.notices import calls, mail, outbox

_log = structlog.get_logger()
_stopping = threading.Event()


def start() -> None:
    """Begin to send, in a thread of this process."""
    _stopping.clear()
    threading.Thread(target=_run, name="outbox", daemon=True).start()


def stop() -> None:
    """Let the thread end; what it holds is sent again by the next."""
    _stopping.set()


def send_due() -> int:
    """Send everything that is due; returns how many were tried."""
    num_tried = 0
    while not _stopping.is_set() and _send_one():
        num_tried += 1
    return num_tried


def _run() -> None:
    while not _stopping.wait(settings.get().watch_seconds):
        try:
            send_due()
        except DBAPIError as error:
            _log.warning("outbox.database_away", error=str(error.orig).strip())
        except Exception:
            _log.exception("outbox.failed")


def _send_one() -> bool:
    with db.session() as session:
        message = outbox.take(session)
        session.commit()
    if message is None:
        return False
    log = _log.bind(message=message.public_id, channel=message.channel.value, tries=message.tries)
    try:
        answer = (mail if message.channel is Channel.MAIL else calls).send(message)
    except (OSError, http.client.HTTPException, calls.Refused, ValueError) as error:
        log.warning("outbox.not_sent", error=type(error).__name__)
        with db.session() as session:
            outbox.failed(session, message, _words(error))
            session.commit()
    else:
        log.info("outbox.sent")
        with db.session() as session:
            outbox.sent(session, message, answer)
            session.commit()
    return True


def _words(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__
