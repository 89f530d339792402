"""The cpu worker's part of making up questions: passages to a model, pairs back.

    waiting -> asking -> done, under a lease (app/core/leases.py)

What a few passages brought is kept in the transaction that renews the lease, with the number of
passages that are behind it: whoever goes on after a crash begins there, and nothing is half-made.
The model runs on the CPU and never on a GPU, so it takes none from a job (docs/decisions/0017).
"""

from collections.abc import Iterator
from typing import NamedTuple

import structlog
from sqlalchemy.orm import Session

from app.core import db, leases
from app.core.leases import Lease
from app.core.models import Asking, AskingStatus, Json
from app.datasets.questions import asking as ask
from app.datasets.questions import runs
from app.datasets.questions.asking import QuestionRequest
from app.datasets.questions.passages import Passage
from worker import leased
from worker.cpu import question_model
from worker.cpu.question_model import Writer
from worker.leased import LeaseHolder, Unfinished

log = structlog.get_logger()

# Answers that the model is asked about side by side: so much is lost at most when all breaks off.
_BATCH_ANSWERS = 8
_SEEDS_APART = 1_000_003


class _Batch(NamedTuple):
    """Answers to be asked about together, and how many passages are behind it afterwards."""

    requests: list[tuple[int, QuestionRequest]]  # with the index of the text
    seed: int
    behind: int


class _Plan(NamedTuple):
    """What is still to be asked, and what was asked before."""

    asking: Asking
    batches: list[_Batch]
    asked: set[str]
    num_passages: int


def ask_next(worker_id: str) -> bool:
    """Make up the questions that were asked for first.

    Returns:
        Whether there was something to do; ask again until there is nothing.
    """
    return leased.run(leases.ASKINGS, worker_id, _fetch, _ask, name="asking")


def _fetch(session: Session, lease: Lease) -> _Plan | None:
    asking = session.get(Asking, lease.id, populate_existing=True)
    if asking is None:
        return None
    passages = runs.quoted(session, asking)
    asked, answered = runs.known(session, asking.version_id)
    batches = list(_batches(asking, passages, answered))
    return _Plan(asking, batches, {ask.key(each) for each in asked}, len(passages))


def _ask(holder: LeaseHolder, plan: _Plan) -> None:
    lease = holder.lease
    log.info("asking", asking=lease.id, attempt=lease.attempt, behind=plan.asking.num_passages)
    holder.tell({"of": plan.num_passages})
    status, reason = AskingStatus.DONE, None
    try:
        if plan.batches:
            _ask_batches(holder, plan)
    except Unfinished as error:
        log.warning("asking_failed", asking=lease.id, error=str(error))
        status, reason = AskingStatus.FAILED, str(error)
    with db.session() as session:
        runs.finish(session, lease, status, reason)
        session.commit()


def _batches(
    asking: Asking, passages: list[tuple[int, Passage]], answered: set[str]
) -> Iterator[_Batch]:
    """Yield what is still to be asked, whole passages at a time."""
    position = asking.num_passages
    while position < len(passages):
        requests: list[tuple[int, QuestionRequest]] = []
        seed = asking.seed * _SEEDS_APART + position
        while position < len(passages) and len(requests) < _BATCH_ANSWERS:
            index, passage = passages[position]
            requests += [
                (index, QuestionRequest(passage, a)) for a in passage.answers if a not in answered
            ]
            position += 1
        if requests:
            yield _Batch(requests, seed, position)


def _ask_batches(holder: LeaseHolder, plan: _Plan) -> None:
    """Let a child ask, and keep what is good of each batch as it comes.

    Raises:
        LeaseLost, Draining, Unfinished: it is to stop, or cannot go on.
    """
    asking, batches = plan.asking, plan.batches
    progress: Json = {"of": batches[-1].behind}
    before = ask.told_before()
    asked = [
        question_model.Batch(
            batch.seed,
            [[*before, {"role": "user", "content": each.words}] for _, each in batch.requests],
        )
        for batch in batches
    ]
    opening = question_model.prepare(holder, asking.base_model)
    with Writer(opening, ask.NUM_TRIES, ask.MAX_NEW_TOKENS) as writer:
        heard = holder.hear(writer.child, writer.say(asked))
        for batch, said in zip(batches, heard, strict=True):
            pairs: list[Json] = []
            refused: dict[str, int] = dict(asking.refused)
            for (index, request), tries in zip(batch.requests, said, strict=True):
                if asking.num_pairs + len(pairs) >= asking.max_pairs:
                    break
                question, reason = ask.choose(request, tries, plan.asked)
                if reason:
                    refused[reason] = refused.get(reason, 0) + 1
                else:
                    pairs.append(_pair(index, request, question))
            asking.num_pairs += len(pairs)
            asking.refused = refused
            with db.session() as session:
                runs.keep(session, holder.lease, asking, batch.behind, pairs, progress)
                session.commit()
            if asking.num_pairs >= asking.max_pairs:
                break


def _pair(index: int, request: QuestionRequest, question: str) -> Json:
    return {
        "example_index": index,
        "heading": request.passage.heading,
        "passage": request.passage.text,
        "answer": request.answer,
        "question": question,
    }
