"""`etude answer`: the process that is asked, and that holds the models' children; never torch.

Web finds its address and its secret in a leased row and streams from it. What is asked and answered
passes through here and stays nowhere. docs/life-of-an-answer.md follows an answer on its way.
"""

import asyncio
import hmac
import json
import logging
import os
import secrets
import signal
import socket
from contextlib import suppress

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from app.adapters import answering
from app.adapters.answering import FINAL, READ_BYTES, LineTooLong, read_line
from app.core import beats, db, leases, logs, outbound, settings, walls
from app.machines import safeguards
from app.training import failpoints
from app.training.answers import REQUEST, Event
from worker import identity
from worker.answering.asked import Asked, Refusal
from worker.answering.desk import Desk

# Whoever connects has said what it wants by then.
_HELLO_SECONDS = 5.0
_MAX_SECRET_BYTES = 1024
_MAX_REQUEST_BYTES = 8 * 1024**2
# What may lie unread before we wait for the reader, here and in the kernel each.
_UNREAD_BYTES = 256 * 1024
_STOPPING = "Answering is being restarted; please ask again in a few seconds."

_log = structlog.get_logger()


class Answering:
    """One listening process, from claim to release of its row."""

    def __init__(self) -> None:
        self.settings = settings.get()
        self.secret = secrets.token_urlsafe(32)
        self.desk = Desk()
        self._asked: set[Asked] = set()
        self._talks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Answer until told to stop, or until another process of this name has the row."""
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, self._stop.set)
        server = await asyncio.start_server(
            self._talk, self.settings.answer_host, self.settings.answer_port, limit=READ_BYTES
        )
        port = server.sockets[0].getsockname()[1]
        address = f"{self.settings.answer_address or self.settings.answer_host}:{port}"
        self.hold = await self._claim(address)
        _log.info("answering", address=address, attempt=self.hold.attempt)
        renewing = asyncio.create_task(self._renew())
        watching = asyncio.create_task(self._watch())
        try:
            await self._stop.wait()
        finally:
            server.close()
            for task in (renewing, watching):
                task.cancel()
            for asked in list(self._asked):
                asked.tell(Refusal(_STOPPING, retry_seconds=5).event)
            if self._talks:
                await asyncio.wait(self._talks, timeout=1)
            await self.desk.close()
            with suppress(SQLAlchemyError, leases.LeaseLost):
                await asyncio.to_thread(self._release)

    # --- the row

    async def _claim(self, address: str) -> answering.Hold:
        while True:
            try:
                return await asyncio.to_thread(self._try_claim, address)
            except SQLAlchemyError as error:
                _log.warning("answering.database_away", error=type(error).__name__)
            if self._stop.is_set():
                raise SystemExit(0)
            await asyncio.sleep(self.settings.watch_seconds)

    def _try_claim(self, address: str) -> answering.Hold:
        with db.session() as session:
            hold = answering.claim(session, identity.worker_id(), address, self.secret)
            failpoints.commit(session, "answer.claim")
            return hold

    async def _renew(self) -> None:
        """Say that we live, at each heartbeat and whenever something has changed."""
        said_at, said = float("-inf"), None
        loop = asyncio.get_running_loop()
        while True:
            state = self.desk.state()
            if state != said or loop.time() - said_at > self.settings.heartbeat_seconds:
                try:
                    await asyncio.to_thread(self._try_renew, state)
                    said_at, said = loop.time(), state
                except leases.LeaseLost:
                    _log.warning("answering.replaced", why="another process of this name runs")
                    self._stop.set()
                    return
                except Exception as error:
                    # Whatever it was: without its row nobody would find us again.
                    _log.warning("answering.not_renewed", error=type(error).__name__)
            await asyncio.sleep(min(self.settings.watch_seconds, self.settings.heartbeat_seconds))

    def _try_renew(self, state: answering.AnswererState) -> None:
        with db.session() as session:
            answering.renew(session, self.hold, state)
            safeguards.record(session, self.hold.worker_id)
            session.commit()
        beats.tell()

    def _release(self) -> None:
        with db.session() as session:
            answering.release(session, self.hold)
            session.commit()

    async def _watch(self) -> None:
        while True:
            try:
                await self.desk.watch()
            except SQLAlchemyError as error:
                _log.warning("answering.database_away", error=type(error).__name__)
            except Exception:
                _log.exception("answering.watch_failed")
            await self._until_due()

    async def _until_due(self) -> None:
        if not self.desk.is_idle:
            await asyncio.sleep(self.settings.watch_seconds)
            return
        self.desk.news.clear()
        idle_seconds = max(self.settings.watch_seconds, self.settings.sweep_seconds)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.desk.news.wait(), idle_seconds)

    # --- one connection

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            with suppress(OSError):  # it has gone; that is how it says "stop"
                await self._answer(reader, writer)
        finally:
            self._talks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                if not self._is_welcome(await read_line(reader, _MAX_SECRET_BYTES)):
                    return
                line = await read_line(reader, _MAX_REQUEST_BYTES)
        except LineTooLong:
            writer.write(_line(Refusal("This is too long for any model.", status=413).event))
            return
        except (TimeoutError, EOFError):
            return
        try:
            asked = Asked(REQUEST.validate_json(line))
        except ValidationError:
            writer.write(_line(Refusal("This is not a request.", status=400).event))
            return
        _bound(writer)
        self._asked.add(asked)
        serving = asyncio.create_task(self.desk.serve(asked))
        # Whoever has asked says no more: what comes is the end.
        leaving = asyncio.create_task(reader.read(1))
        telling = asyncio.create_task(self._tell(asked, writer))
        try:
            await asyncio.wait((leaving, telling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._asked.discard(asked)
            for each in (serving, leaving, telling):
                each.cancel()
            await asyncio.gather(serving, leaving, telling, return_exceptions=True)

    async def _tell(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        """Write down what is said until the last event, or until nobody reads it any more."""
        is_over = False
        while not is_over:
            event = await asked.outbox.get()
            is_over = event.kind in FINAL
            writer.write(_line(event))
            try:
                async with asyncio.timeout(self.settings.answer_reader_seconds):
                    await writer.drain()
            except TimeoutError:
                _log.info("answering.reader_stands_still")
                writer.transport.abort()
                return

    def _is_welcome(self, line: bytes) -> bool:
        try:
            said = json.loads(line)["secret"]
            return hmac.compare_digest(str(said).encode(), self.secret.encode())
        except (ValueError, KeyError, TypeError):
            return False


def _line(event: Event) -> bytes:
    return event.model_dump_json().encode() + b"\n"


def _bound(writer: asyncio.StreamWriter) -> None:
    writer.transport.set_write_buffer_limits(high=_UNREAD_BYTES)
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD_BYTES)


def main() -> None:
    chosen = settings.get()
    logs.configure(chosen.log_level, chosen.log_format)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells each request
    os.environ.setdefault("ETUDE_WORKER_ID", f"answer-0@{identity.host()}")
    outbound.watch()
    settings.tell_unknown()
    walls.tell()
    asyncio.run(Answering().run())


if __name__ == "__main__":
    main()
