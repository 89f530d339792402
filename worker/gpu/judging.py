"""The gpu worker's part of a judging: answers to a larger model, its marks back.

    waiting -> judging -> done, under a lease (app/core/leases.py)

It runs between two jobs, as evaluations do, and meets what they meet. A block of marks is kept in
the transaction that renews the lease; whoever goes on after a crash begins with the block that was
being judged. Each reply is held to a JSON schema, at temperature 0; what still cannot be read, as
from an engine that was cut off, is no mark.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from app.adapters import answering
from app.adapters.answering import WantedBase
from app.core import db, leases
from app.core.errors import AppError
from app.core.leases import Lease
from app.core.models import Json, Judging
from app.evaluation import judging
from app.evaluation.judging import Judged, Open
from app.jobs import protocol
from app.training import failpoints
from app.training.answers import AnswerRequest, Limits, Piece, Refused
from worker import identity
from worker.answering import batches
from worker.gpu import between_jobs
from worker.gpu.evaluation_models import Ask, Models
from worker.leased import Draining, LeaseHolder, Unfinished

_log = structlog.get_logger()

# {"mark": "partly"} and room for a tokenizer that spells it out.
MAX_NEW_TOKENS = 24
# Three texts, each of some pages, and what is said about them: as a long example.
_LENGTH_TOKENS = 2048


def judge_next(worker_id: str) -> bool:
    """Do the judging that has waited longest, on this worker's device.

    Returns:
        Whether something was done; ask again until nothing is.
    """
    return between_jobs.do_next(
        leases.JUDGINGS,
        worker_id,
        _fetch,
        _carry,
        name="judging",
        given_up=judging.given_up,
    )


@dataclass(frozen=True)
class _Work:
    """The judge; nothing in it is bound to a session."""

    base: WantedBase | None
    problem: str = ""


def _fetch(session: Session, lease: Lease) -> _Work | None:
    row = session.get(Judging, lease.id, populate_existing=True)
    if row is None:
        return None
    try:
        return _Work(answering.wanted_base(row.base_model))
    except AppError as error:
        return _Work(None, error.message)


def _carry(holder: LeaseHolder, work: _Work) -> None:
    failpoints.hit("judge.claimed")
    _Attempt(holder, work).carry()


class _Attempt:
    """One attempt at a judging."""

    def __init__(self, holder: LeaseHolder, work: _Work) -> None:
        self._holder, self._work = holder, work
        self._num_done, self._seconds = 0, 0.0  # of this attempt

    def carry(self) -> None:
        """Have the answers judged, and end."""
        if self._work.base is None:
            raise Unfinished(self._work.problem)
        lease = self._holder.lease
        if self._next():
            with between_jobs.having(self._work.base):
                self._judge_all(self._work.base)
        with db.session() as session:
            judging.finish(session, lease)
            failpoints.commit(session, "judge.finish")

    def _judge_all(self, base: WantedBase) -> None:
        lease = self._holder.lease
        with Models(self._holder, base, None, _LENGTH_TOKENS) as models:
            with db.session() as session:
                judging.begin(session, lease, models.place.engine)
                session.commit()
            num_deaths = 0
            while answers := self._next():
                try:
                    models.open()
                    began_at = time.monotonic()
                    judged = self._judge(models, answers)
                except batches.Ended as error:
                    models.close()
                    num_deaths += 1
                    _log.warning("judging.child_ended", judging=lease.id, code=error.code)
                    if num_deaths >= between_jobs.MAX_DEATHS:
                        raise
                else:
                    num_deaths = 0
                    self._keep(judged, time.monotonic() - began_at)

    def _next(self) -> list[Open]:
        self._holder.check()
        with db.session() as session:
            if protocol.is_out(session, identity.me()):
                raise Draining
            return judging.next_answers(session, self._holder.lease)

    def _judge(self, models: Models, answers: Sequence[Open]) -> list[Judged]:
        """Have a block judged.

        Raises:
            batches.Ended: the child ended meanwhile, or its device failed.
        """
        said = [""] * len(answers)
        failpoints.hit("judge.asked")
        for number, event in models.ask([_ask(one) for one in answers]):
            match event:
                case Piece(text=text):
                    said[number] += text
                case Refused(status=status) if status >= 500:
                    raise batches.Ended(0)
                case Refused(message=message):
                    # Too long for it, or a schema that its engine cannot keep to: no mark.
                    _log.warning("judging.refused", judging=self._holder.lease.id, why=message)
                    said[number] = ""
        failpoints.hit("judge.answered")
        return [Judged(one, judging.mark_in(text)) for one, text in zip(answers, said, strict=True)]

    def _keep(self, judged: Sequence[Judged], seconds: float) -> None:
        self._num_done += len(judged)
        self._seconds += seconds
        lease = self._holder.lease
        with db.session() as session:
            row = judging.held(session, lease)
            left = (row.num_answers or 0) - row.num_judged - len(judged)
            progress: Json = {
                "done": row.num_judged + len(judged),
                "of": row.num_answers,
                "seconds_left": round(
                    min(
                        left * self._seconds / self._num_done,
                        max(0.0, row.budget_seconds - row.spent_seconds - seconds),
                    ),
                    1,
                ),
            }
            judging.keep(session, lease, judged, seconds, progress)
            failpoints.commit(session, "judge.keep")
        self._holder.tell(progress)


def _ask(one: Open) -> Ask:
    request = AnswerRequest(
        base_model_id=0,  # there is one alone
        account="judging",
        messages=one.messages,
        limits=Limits(max_new_tokens=MAX_NEW_TOKENS, json_schema=judging.SCHEMA),
    )
    return Ask(is_tuned=False, request=request)
