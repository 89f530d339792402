"""The cpu worker's part of making up questions: passages to a child with torch, pairs back.

    waiting -> asking -> done, under a lease (app/core/leases.py)

What a few passages brought is kept in the transaction that renews the lease, with the number of
passages that are behind it: whoever goes on after a crash begins there, and nothing is half-made.
The model runs on the CPU and never on a GPU, so it takes none from a job (docs/decisions/0017).
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

import structlog
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core import db, leases
from app.core.child import BrokeOff, Child
from app.core.errors import Conflict
from app.core.leases import Lease
from app.core.models import Asking, AskingStatus, Json
from app.datasets.questions import asking as ask
from app.datasets.questions import runs
from app.datasets.questions.asking import QuestionRequest
from app.datasets.questions.passages import Passage
from app.training.plan.machine import this_cpu
from worker.cpu import leased, model_import, question_writer
from worker.cpu.leased import LeaseHolder, Unfinished

log = structlog.get_logger()

# Answers that the model is asked about side by side: so much is lost at most when all breaks off.
_BATCH_ANSWERS = 8
# Besides the weights: torch itself, and what is computed on the way.
_SPARE_BYTES = 1500 * 1024**2
_TIMEOUT_SECONDS = 24 * 3600
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
    with _child(asking, batches) as child:
        for batch, said in zip(batches, holder.hear(child, _said(child)), strict=True):
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


def _child(asking: Asking, batches: list[_Batch]) -> Child:
    model = asking.base_model
    cpu = this_cpu()
    dtype, weights = ("bfloat16", 1) if cpu.has_bfloat16 else ("float32", 2)
    needed = weights * (model.size_bytes or 0) + _SPARE_BYTES
    if cpu.free_bytes < needed:
        raise Unfinished(
            f"{model.label} needs about {needed / 1e9:.1f} GB of memory here, and "
            f"{cpu.free_bytes / 1e9:.1f} GB are free; choose a smaller model, or try again when no "
            "job is running."
        )
    try:
        folder = base_models.folder(model)
    except Conflict as error:
        raise Unfinished(error.message) from None
    request = question_writer.WriterRequest(
        model=folder,
        manifest_sha256=model.manifest_sha256 or "",
        dtype=dtype,
        before=ask.told_before(),
        batches=[
            question_writer.Batch(
                seed=batch.seed, prompts=[each.words for _, each in batch.requests]
            )
            for batch in batches
        ],
        num_tries=ask.NUM_TRIES,
        max_new_tokens=ask.MAX_NEW_TOKENS,
    )
    return Child(
        "worker.cpu.question_writer",
        request.model_dump_json(),
        timeout_seconds=_TIMEOUT_SECONDS,
        environment=model_import.environment("folder"),
    )


def _said(child: Child) -> Iterator[list[list[str]]]:
    """Yield what the child says of each batch.

    Raises:
        Unfinished: it cannot go on.
    """
    try:
        for line in child.lines():
            if not line.startswith(b"{"):  # libraries print, too
                continue
            message: Json = json.loads(line)
            if "error" in message:
                raise Unfinished(message["error"])
            yield message["said"]
    except BrokeOff as error:
        # The end of what it printed may hold words of the document.
        log.error("question_writer_broke_off", code=error.code)  # noqa: TRY400
        raise Unfinished(
            "Making up questions took longer than a day and was stopped."
            if error.is_late
            else f"Making up questions broke off (code {error.code}), perhaps because the machine "
            "ran out of memory; choose a smaller model, or try again when no job is running."
        ) from None
