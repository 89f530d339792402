"""The cpu worker's part of a list of questions: its sheet read, then its rows asked one by one.

    uploaded -> reading -> choosing
    waiting -> answering -> done

Each under a lease (app/core/leases.py). A row's answers are kept in the transaction that renews the
lease, so whoever goes on after a crash begins with the row that was being asked. One row is asked
at a time, of the adapter and of the starting model: people who chat find most slots free. Where
nobody answers, the list waits and tries again, longer each time; that costs no strike.
"""

import asyncio
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters import answering, conversations
from app.adapters import question_lists as lists
from app.adapters.conversations import Source
from app.adapters.question_lists import Blank, Question
from app.core import db, leases, plain_errors, settings
from app.core.errors import AppError, TooMany, Unavailable
from app.core.leases import Lease
from app.core.models import Adapter, ExampleKind, Finish, Json, QuestionList, User
from app.core.sentences import counted
from app.datasets.readers.process import ReaderProcess, seconds_for
from app.datasets.readers.reader import ReaderRequest
from app.datasets.readers.sheets import Sheet
from app.datasets.readers.unreadable import Unreadable
from app.evaluation import lookups
from app.training import isolation
from app.training.answers import AnswerRequest, Refused
from worker import leased
from worker.leased import LeaseHolder, Unfinished

log = structlog.get_logger()

_LOOK_SECONDS = 0.1
_FIRST_WAIT_SECONDS, _MAX_WAIT_SECONDS = 1.0, 60.0
# After so long another list that waits has its turn.
_TURN_SECONDS = 60.0
# A question that broke the answer off so often, after it was read, gets a sentence.
_MAX_BROKEN = 3
# Of so many rows the time is told that is left.
_NUM_TIMED = 20


# --- the sheet -------------------------------------------------------------------------------


def read_next(worker_id: str) -> bool:
    """Read the sheet that has waited longest.

    Returns:
        Whether there was something to do; ask again until there is nothing.
    """
    return leased.run(leases.SHEETS, worker_id, _fetch_sheet, _read, name="question_list")


def _fetch_sheet(session: Session, lease: Lease) -> bytes | None:
    return session.scalar(select(QuestionList.sheet).where(QuestionList.id == lease.id))


def _read(holder: LeaseHolder, data: bytes) -> None:
    values = settings.get()
    values.run_dir.mkdir(parents=True, exist_ok=True)
    isolation.let_in(values.run_dir)
    try:
        # In memory's place: the reader opens it by its name.
        with tempfile.NamedTemporaryFile(dir=values.run_dir, prefix="sheet-") as file:
            file.write(data)
            file.flush()
            isolation.let_in(Path(file.name))
            sheet = _sheet(holder, Path(file.name))
    except Unreadable as error:
        raise Unfinished(str(error)) from error
    except OSError as error:
        log.exception("sheet_not_read", question_list=holder.lease.id)
        raise Unfinished(
            f"The worker could not read the file ({plain_errors.words(error)}); "
            "ask your administrator to look at the disk of this machine."
        ) from error
    with db.session() as session:
        lists.fill(session, holder.lease, sheet)
        session.commit()


def _sheet(holder: LeaseHolder, path: Path) -> Sheet:
    values = settings.get()
    request = ReaderRequest(
        task="sheet",
        path=path,
        parent=os.getpid(),
        max_rows=values.list_rows,
        memory_bytes=values.reader_memory_bytes,
        cpu_seconds=math.ceil(seconds_for("sheet", path)),
    )
    said: Json = {}
    with ReaderProcess(request) as reader:
        for message in holder.hear(reader, reader.messages()):
            assert isinstance(message, dict)
            said = message
    return Sheet.model_validate(said["sheet"])


# --- its questions ---------------------------------------------------------------------------


@dataclass
class _Work:
    """A list that is being answered."""

    row: QuestionList
    known: Source
    began_at: float = field(default_factory=time.monotonic)
    # When a row was last done: nobody answers for so long.
    got_on_at: float = field(default_factory=time.monotonic)
    num_waits: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_NUM_TIMED))


@dataclass
class _Said:
    """What one model said to one question."""

    text: str = ""
    finish: Finish | None = None
    has_begun: bool = False
    refused: Refused | None = None


def answer_next(worker_id: str) -> bool:
    """Have the questions answered of the list whose turn it is.

    Returns:
        Whether there was something to do; ask again until there is nothing.
    """
    return leased.run(leases.QUESTION_LISTS, worker_id, _fetch, _answer, name="question_list")


def _fetch(session: Session, lease: Lease) -> _Work | None:
    row = session.get(QuestionList, lease.id, populate_existing=True)
    if row is None:
        return None
    adapter = session.get(Adapter, row.adapter_id) if row.adapter_id else None
    owner = session.get_one(User, row.owner_id)
    # Without its adapter it fails at its first question, with a sentence.
    known = conversations.source(session, owner, adapter) if adapter else None
    return _Work(row, known or Source(ExampleKind.CHAT, "", None, None, None))


def _answer(holder: LeaseHolder, work: _Work) -> None:
    log.info("answering", question_list=holder.lease.id, attempt=holder.lease.attempt)
    num_broken = 0
    said: list[_Said] = []
    while True:
        holder.check()
        is_long = time.monotonic() - work.began_at > _TURN_SECONDS
        if is_long and not work.num_waits and _has_given_way(holder):
            return
        try:
            asked = _next(holder, work, is_new=not said)
        except Unavailable as error:
            _wait(holder, work, error.message, error.retry_seconds)
            continue
        if asked is None:
            return
        if isinstance(asked, Blank):
            _keep_blank(holder, work, asked)
            continue
        began_at = time.monotonic()
        # What one of the two has said already is not asked again.
        said = asyncio.run(_ask(holder, asked, said))
        broken = next((one.refused for one in said if _may_be_tried_again(one)), None)
        if broken is not None:
            num_broken += any(one.has_begun for one in said if _may_be_tried_again(one))
            if num_broken < _MAX_BROKEN:
                _wait(holder, work, broken.message, broken.retry_after_seconds)
                continue
        work.seconds.append(time.monotonic() - began_at)
        _keep(holder, work, asked, said)
        num_broken, said = 0, []


def _next(holder: LeaseHolder, work: _Work, *, is_new: bool) -> Question | Blank | None:
    """Return what is to be asked next; where nothing is, the list is done.

    Raises:
        Unavailable: nobody answers at the moment.
        Unfinished: it may not be asked any more.
        LeaseLost: it was stopped or deleted, or another worker may have it.
    """
    with db.session() as session:
        try:
            asked = lists.next_question(session, holder.lease, work.known, is_new=is_new)
            if asked is None:
                lists.finish(session, holder.lease)
            elif isinstance(asked, Question):
                asked = _looked_up(session, asked)
        except Unavailable:
            raise
        except TooMany as error:
            raise Unfinished(f"{error.message} The list can then be continued.") from None
        except AppError as error:
            raise Unfinished(error.message) from None
        session.commit()
    return asked


def _looked_up(session: Session, asked: Question) -> Question:
    """Put rows of the data before a question where a model looks answers up."""
    looked = [
        lookups.look_up(
            session,
            session.get(Adapter, request.adapter_id) if request.adapter_id else None,
            request,
        )
        for request in asked.requests
    ]
    sources = [one for one in looked[0].sources or () if "index" in one]
    return replace(asked, requests=[one.request for one in looked], sources=sources)


async def _ask(holder: LeaseHolder, asked: Question, before: Sequence[_Said]) -> list[_Said]:
    """Ask all who are to answer, side by side, except who has answered before.

    Raises:
        LeaseLost, Draining: it must not go on; the answers end where they are.
    """
    before = before or [_Said() for _ in asked.requests]
    tasks = [
        asyncio.create_task(_listen(asked.found, request, one))
        for request, one in zip(asked.requests, before, strict=True)
    ]
    try:
        while True:
            _, pending = await asyncio.wait(tasks, timeout=_LOOK_SECONDS)
            if not pending:
                return [task.result() for task in tasks]
            holder.check()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(found: answering.Found, request: AnswerRequest, before: _Said) -> _Said:
    if before.finish is not None or (before.refused and not _may_be_tried_again(before)):
        return before
    said = _Said()
    async with aclosing(answering.ask(found.address, found.secret, request)) as events:
        async for event in events:
            match event.kind:
                case "begun":
                    said.has_begun = True
                case "piece":
                    said.text += event.text
                case "ended":
                    said.finish = Finish(event.reason)
                case "refused":
                    said.finish, said.refused = None, event
    return said


def _may_be_tried_again(said: _Said) -> bool:
    """Say whether an answer was refused for a reason that passes: a full queue, a restart."""
    return said.refused is not None and (said.refused.status == 429 or said.refused.status >= 500)


def _keep(holder: LeaseHolder, work: _Work, asked: Question, said: Sequence[_Said]) -> None:
    """Keep what was said to a question, or why nothing was.

    Raises:
        LeaseLost: it must not go on.
        Unfinished: the model is gone, so the next question would meet the same.
    """
    refused = next((one.refused for one in said if one.refused), None)
    if refused is not None and refused.status != 400 and not any(map(_may_be_tried_again, said)):
        raise Unfinished(refused.message)
    tuned, base = said[0], said[1] if len(said) > 1 else None
    finishes = [one.finish for one in said if one.finish]
    finish = Finish.LENGTH if Finish.LENGTH in finishes else Finish.STOP
    with db.session() as session:
        lists.keep(
            session,
            holder.lease,
            asked.index,
            _progress(work, asked.index + 1),
            question=asked.text,
            tuned=None if tuned.refused else tuned.text,
            base=base.text if base and not base.refused else None,
            sources=None if tuned.refused else asked.sources,
            finish=Finish.FAILED if refused else finish,
            error=refused.message if refused else None,
        )
        session.commit()
    _get_on(holder, work, asked.index + 1)


def _keep_blank(holder: LeaseHolder, work: _Work, blank: Blank) -> None:
    with db.session() as session:
        lists.keep(
            session,
            holder.lease,
            blank.index,
            _progress(work, blank.index + 1),
            finish=Finish.FAILED,
            error=blank.sentence,
        )
        session.commit()
    _get_on(holder, work, blank.index + 1)


def _get_on(holder: LeaseHolder, work: _Work, num_done: int) -> None:
    work.got_on_at, work.num_waits = time.monotonic(), 0
    holder.tell(_progress(work, num_done))  # else its beat would say again what was told before
    work.row.num_done = num_done


def _progress(work: _Work, num_done: int) -> Json:
    if not work.seconds:
        return {}
    a_row = sum(work.seconds) / len(work.seconds)
    return {"seconds_left": round(a_row * (work.row.num_rows - num_done), 1)}


def _wait(holder: LeaseHolder, work: _Work, sentence: str, seconds: float | None) -> None:
    """Wait a while before the next try, longer each time.

    Raises:
        Unfinished: nobody has answered for too long.
        LeaseLost, Draining: it must not go on.
    """
    patience = settings.get().list_patience_seconds
    wanted = max(_FIRST_WAIT_SECONDS * 2**work.num_waits, seconds or 0)
    work.num_waits += work.num_waits < 10
    until = time.monotonic() + min(wanted, _MAX_WAIT_SECONDS)
    if until - work.got_on_at > patience:
        minutes = round(patience / 60)
        waited = counted(minutes, "1 minute", "{n} minutes")
        raise Unfinished(
            f"No question could be answered for {waited}, so this list was stopped. What was said "
            f"last: {sentence}"
        )
    holder.tell({"waiting": sentence})
    while time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        holder.check()


def _has_given_way(holder: LeaseHolder) -> bool:
    """Hand the list back where another one waits; its turn comes again."""
    with db.session() as session:
        if not lists.others_wait(session, holder.lease):
            return False
        leases.release(session, holder.lease, holder.lease.came_from)
        session.commit()
    return True
