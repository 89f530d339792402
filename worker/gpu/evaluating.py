"""The gpu worker's part of an evaluation: test questions to a model, marked answers back.

    waiting -> evaluating -> done, under a lease (app/core/leases.py)

It runs on the worker's device between two jobs. A block of questions is asked of all arms at once;
what was said is marked and kept in the transaction that renews the lease, so whoever goes on after
a crash begins with that block, and at temperature 0 gets the same answers. The models stand in
children; where one ends, they are started anew, and after three ends in a row the evaluation ends
with a sentence. It never fails its job, and never keeps the worker from the next one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from app.adapters import answering
from app.adapters.answering import WantedAdapter, WantedBase
from app.core import db, leases
from app.core.confined.chat import ConfinedChat
from app.core.errors import AppError
from app.core.leases import Lease
from app.core.models import (
    Arm,
    DatasetVersion,
    Evaluation,
    Finish,
    Json,
    Mark,
    Part,
)
from app.datasets import examples
from app.evaluation import arms as asking
from app.evaluation import evaluations, hints, marks, own_questions, retrieval
from app.evaluation.evaluations import Far, Kept, Question
from app.jobs import protocol
from app.training import failpoints
from app.training.answers import AnswerRequest, Ended, Event, Limits, Piece, Refused
from app.training.chat import ChatError
from worker import identity
from worker.answering import batches, conversion
from worker.gpu import between_jobs
from worker.gpu.evaluation_models import Ask, Models
from worker.leased import Draining, LeaseHolder, Unfinished

_log = structlog.get_logger()

# An answer may be twice as long as nearly all right ones; what goes on and on is cut.
_NEARLY_ALL, _TIMES = 0.95, 2
_LEAST_NEW_TOKENS, _MOST_NEW_TOKENS = 64, 512
_COUNTED_AT_ONCE = 100
_DOES_NOT_KNOW = marks.Marked(Mark.RIGHT, "it says that it does not know")
_MADE_UP = marks.Marked(Mark.WRONG, "it makes something up")
_TOO_LONG = "the question is too long for the model"
_NOTHING_ALIKE = "No practice row has a word of this question."


def evaluate_next(worker_id: str) -> bool:
    """Do the evaluation that has waited longest, on this worker's device.

    Returns:
        Whether something was done; ask again until nothing is.
    """
    return between_jobs.do_next(
        leases.EVALUATIONS,
        worker_id,
        _fetch,
        _evaluate,
        name="evaluation",
        given_up=evaluations.given_up,
    )


@dataclass(frozen=True)
class _Work:
    """What an evaluation needs; nothing in it is bound to a session."""

    base: WantedBase | None
    adapter: WantedAdapter | None
    max_length_tokens: int
    problem: str = ""


def _fetch(session: Session, lease: Lease) -> _Work | None:
    row = session.get(Evaluation, lease.id, populate_existing=True)
    if row is None:
        return None
    adapter = None if row.adapter is None else answering.wanted_adapter(row.adapter)
    job = None if row.adapter is None else row.adapter.job
    most = 0 if job is None else int(job.config.get("max_length_tokens") or 0)
    try:
        return _Work(answering.wanted_base(row.base_model), adapter, most)
    except AppError as error:
        return _Work(None, adapter, most, error.message)


def _evaluate(holder: LeaseHolder, work: _Work) -> None:
    failpoints.hit("evaluate.claimed")
    _Attempt(holder, work).carry()


class _Attempt:
    """One attempt at an evaluation."""

    def __init__(self, holder: LeaseHolder, work: _Work) -> None:
        self._holder, self._work = holder, work
        self._arms: list[Arm] = []
        self._version: DatasetVersion | None = None  # whose practice rows are looked up
        self._num_done, self._seconds = 0, 0.0  # test questions of this attempt

    def carry(self) -> None:
        """Draw the questions, have them answered and marked, and end."""
        lease = self._holder.lease
        with db.session() as session:
            evaluations.draw(session, lease, self._holder.check)
            session.commit()
            row = evaluations.held(session, lease)
            self._arms = [Arm(arm) for arm in row.arms]
            self._version = row.practice_version
            is_enough = evaluations.far(session, row).is_enough
        if self._arms and not is_enough:
            if self._work.base is None:
                raise Unfinished(self._work.problem)
            with between_jobs.having(self._work.base):
                self._answer_all(self._work.base)
        with db.session() as session:
            hints.look(session, evaluations.held(session, lease), self._holder.check)
            session.commit()
        with db.session() as session:
            evaluations.finish(session, lease)
            failpoints.commit(session, "evaluate.finish")

    def _answer_all(self, base: WantedBase) -> None:
        work, lease = self._work, self._holder.lease
        self._read(base)
        adapter = work.adapter if any(arm in asking.TUNED for arm in self._arms) else None
        if adapter is not None:
            conversion.verify(adapter)
        with Models(self._holder, base, adapter, work.max_length_tokens) as models:
            with db.session() as session:
                evaluations.begin(session, lease, models.place.engine)
                session.commit()
            num_deaths = 0
            while questions := self._next():
                try:
                    models.open()
                    began_at = time.monotonic()
                    kept = self._answer(models, questions)
                except batches.Ended as error:
                    models.close()
                    num_deaths += 1
                    _log.warning("evaluation.child_ended", evaluation=lease.id, code=error.code)
                    if num_deaths >= between_jobs.MAX_DEATHS:
                        raise
                else:
                    num_deaths = 0
                    self._keep(questions, kept, time.monotonic() - began_at)

    def _read(self, base: WantedBase) -> None:
        """Read what every question needs: the model's words, and the rows to look up.

        Raises:
            Unfinished: the model's words cannot be read.
        """
        try:
            self._chat = ConfinedChat(base.folder, base.manifest_sha256)
            self._chat.check()
        except ChatError as error:
            raise Unfinished(
                f"{base.label} cannot be asked: {str(error).splitlines()[0]}"
            ) from None
        with db.session() as session:
            row = evaluations.held(session, self._holder.lease)
            answers = [asking.words_of(each) for each in evaluations.references(session, row)]
            self._limit = longest_answer(self._num_tokens(answers))
            self._rows = retrieval.PracticeRows(iter(()), 0)
            if self._version is not None and set(self._arms) & {Arm.NEAREST, *asking.LOOKING_UP}:
                splits = evaluations.practised_splits(row)
                self._rows = retrieval.PracticeRows.read(session, self._version, splits)

    def _next(self) -> list[Question]:
        """Return the next block of questions.

        Raises:
            LeaseLost: it was cancelled, or its adapter or data was deleted.
            Draining: this worker is to end, or may go on with nothing.
            Unanswerable: it is not to go on.
        """
        self._holder.check()
        with db.session() as session:
            if protocol.is_out(session, identity.me()):
                raise Draining
            return evaluations.next_questions(session, self._holder.lease)

    # --- one block

    def _answer(self, models: Models, questions: Sequence[Question]) -> list[Kept]:
        """Have a block answered by every arm that is to.

        Raises:
            batches.Ended: a child ended meanwhile, or its device failed.
        """
        with db.session() as session:
            # One arm after the other: an engine that holds one adapter at a time changes it least.
            answers = [
                self._answer_of(session, models, question, arm)
                for arm in self._arms
                for question in questions
                if arm in question.arms
            ]
        failpoints.hit("evaluate.asked")
        asked = [each for each in answers if each.messages]
        for number, event in models.ask([self._ask(each) for each in asked]):
            asked[number].take(event)
        failpoints.hit("evaluate.answered")
        return [each.kept() for each in answers]

    def _answer_of(
        self, session: Session, models: Models, question: Question, arm: Arm
    ) -> "_Answer":
        rows: list[asking.Row] = []
        note: list[Json] = []
        if arm is Arm.NEAREST or arm in asking.LOOKING_UP:
            rows = self._looked_up(session, question)
            note = [{"note": self._rows.note}] if self._rows.note else []
            note += [] if rows else [{"note": _NOTHING_ALIKE}]
        if arm is Arm.NEAREST:
            nearest: list[Json] = [{"index": row.index} for row in rows[:1]]
            text = rows[0].answer if rows else ""
            return _Answer(question, arm, [], nearest + note, text, Finish.STOP)

        def fits(messages: Sequence[Json]) -> bool:
            most = models.context_tokens // 2
            try:
                return self._chat.num_prompt_tokens(messages, question.tools) <= most
            except ChatError:  # what answers says why
                return True

        asked = asking.asked(arm, question.before, rows, fits)
        sources = None if asked.sources is None else asked.sources + note
        return _Answer(question, arm, asked.messages, sources)

    def _looked_up(self, session: Session, question: Question) -> list[asking.Row]:
        if self._version is None:
            return []
        words = asking.question_of(question.before)
        indices = self._rows.nearest(words, asking.NUM_LOOKED_UP)
        found = {row.index: row for row in examples.at(session, self._version, indices)}
        return [
            asking.Row(index, *retrieval.row_of(found[index].messages))
            for index in indices
            if index in found
        ]

    def _ask(self, answer: "_Answer") -> Ask:
        request = AnswerRequest(
            base_model_id=0,  # there is one alone
            account="evaluation",
            messages=answer.messages,
            tools=answer.question.tools,
            limits=Limits(max_new_tokens=self._limit),
        )
        return Ask(answer.arm in asking.TUNED, request)

    def _num_tokens(self, texts: Sequence[str]) -> list[int]:
        counts: list[int] = []
        for begin in range(0, len(texts), _COUNTED_AT_ONCE):
            counts += self._chat.num_tokens(texts[begin : begin + _COUNTED_AT_ONCE])
        return counts

    def _keep(self, questions: Sequence[Question], kept: Sequence[Kept], seconds: float) -> None:
        num_new = sum(question.part is Part.TEST for question in questions)
        self._num_done += num_new
        self._seconds += seconds
        lease = self._holder.lease
        with db.session() as session:
            stands = evaluations.far(session, evaluations.held(session, lease))
            after = Far(
                stands.num_answered + num_new,
                stands.num_drawn,
                stands.spent_seconds + seconds,
                stands.budget_seconds,
            )
            progress = told(after, self._seconds / max(1, self._num_done))
            evaluations.keep(session, lease, kept, num_new, seconds, progress)
            failpoints.commit(session, "evaluate.keep")
        self._holder.tell(progress)  # else its beat would say again what was told before


@dataclass
class _Answer:
    """One question to one arm, and what it says."""

    question: Question
    arm: Arm
    messages: list[Json]  # empty: no model is asked
    sources: list[Json] | None
    text: str = ""
    finish: Finish = Finish.BROKEN_OFF
    problem: str = ""

    def take(self, event: Event) -> None:
        """Take what was said.

        Raises:
            batches.Ended: the engine failed, as where a GPU is lost.
        """
        match event:
            case Piece(text=text):
                self.text += text
            case Ended(reason=reason):
                self.finish = Finish(reason)
            case Refused(status=status) if status >= 500:
                raise batches.Ended(0)
            case Refused(code="context_length_exceeded"):
                self.text, self.finish, self.problem = "", Finish.FAILED, _TOO_LONG
            case Refused(message=message):
                self.text, self.finish, self.problem = "", Finish.FAILED, message

    def kept(self) -> Kept:
        """Mark it by the rules."""
        one = self.question
        if self.problem:
            found = marks.Marked(Mark.WRONG, self.problem)
        elif one.part is Part.UNANSWERABLE:
            found = _MADE_UP
            if own_questions.says_it_does_not_know(self.text):
                found = _DOES_NOT_KNOW
        else:
            was_cut = self.finish is Finish.LENGTH
            found = marks.mark_example(
                one.before, one.reference, self.text, tools=one.tools, was_cut=was_cut
            )
        return Kept(
            position=one.position,
            arm=self.arm,
            text=self.text,
            finish=self.finish,
            sources=self.sources,
            mark=found.mark,
            why=found.why,
            about=getattr(found, "about", None),
        )


def longest_answer(num_tokens: Sequence[int]) -> int:
    """Return how many tokens an answer may have, by those of the right answers."""
    ordered = sorted(num_tokens) or [0]
    usual = ordered[min(len(ordered) - 1, int(_NEARLY_ALL * len(ordered)))]
    return min(max(_TIMES * usual, _LEAST_NEW_TOKENS), _MOST_NEW_TOKENS)


def told(stands: Far, seconds_each: float) -> Json:
    """Say how far an evaluation is, for its page.

    Args:
        seconds_each: What a test question took so far.
    """
    left = max(0.0, stands.budget_seconds - stands.spent_seconds)
    fitting = int(left / seconds_each) if seconds_each > 0 else stands.num_drawn
    least = min(evaluations.LEAST_QUESTIONS, stands.num_drawn)
    of = min(stands.num_drawn, max(least, stands.num_answered + fitting))
    seconds = (of - stands.num_answered) * seconds_each
    return {"done": stands.num_answered, "of": of, "seconds_left": round(seconds, 1)}
