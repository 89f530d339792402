"""Conversations with an adapter: asked, answered, kept for some days, deleted.

A conversation is its owner's alone. Where the site keeps none (`ETUDE_CONVERSATION_DAYS=0`) no row
is written, and the browser sends along what was said so far. Who writes an answer holds its attempt
number: after “Ask again” in another window an earlier writer's words find no row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session, selectinload

from app.adapters import feedback, registry
from app.core import audit, clock, settings
from app.core.errors import Conflict, Invalid, NotFound
from app.core.models import (
    Adapter,
    AdapterKind,
    Beside,
    Conversation,
    ConversationAnswer,
    ConversationTurn,
    DatasetVersion,
    Example,
    ExampleKind,
    Finish,
    Json,
    Split,
    User,
)
from app.datasets import adding, examples, nearest, parts, versions
from app.datasets.mapping import MAX_SYSTEM_LENGTH
from app.datasets.practised import Practised
from app.jobs import practice as practising
from app.training.answers import AnswerRequest, Limits

MAX_QUESTION_LENGTH = 20_000
MAX_BETTER_LENGTH = 20_000
MAX_TURNS = 200
# More than a page's reader wants; a model that does not find its end would go on and on.
MAX_ANSWER_TOKENS = 1024
MAX_CONTINUED_TOKENS = 256
# Words for a temperature, in the order of the page.
FREEDOMS = {"same": 0.0, "little": 0.7, "free": 1.0}
TUNED_LABEL, BASE_LABEL = "Your trained model", "Before training"
LOOKUP_LABEL, ALONE_LABEL = "Looked up in your data", "The starting model alone"
_BATCH = 20  # test rows that are read at once


@dataclass(frozen=True)
class Source:
    """The data that an adapter learned from, as far as a person may read it."""

    kind: ExampleKind
    instruction: str  # what the model was told before each question
    practice: DatasetVersion | None
    held_out: DatasetVersion | None
    held_out_split: Split | None  # none: all of that version was held out
    # Rows that it, or an adapter it was trained from, has practised all the same; none: none are.
    practised: Practised | None = None
    looks_up: bool = False  # each answer shows the rows that it is taken from

    @property
    def continues_text(self) -> bool:
        """Whether the model goes on with a text instead of answering."""
        return self.kind is ExampleKind.TEXT


@dataclass(frozen=True)
class Wish:
    """How a person wants to ask."""

    beside: Beside
    beside_adapter_id: int | None
    instruction: str
    temperature: float


@dataclass(frozen=True)
class Column:
    """One of the models that answer a question."""

    place: int
    label: str
    adapter_id: int | None  # none: the starting model

    @property
    def is_base(self) -> bool:
        return self.adapter_id is None


@dataclass(frozen=True)
class Exchange:
    """An earlier question, and what was answered: the adapter's id, or none, and its words."""

    question: str
    answers: tuple[tuple[int | None, str], ...]


@dataclass(frozen=True)
class Said:
    """An earlier question, and what one model answered."""

    question: str
    answer: str


@dataclass(frozen=True)
class HeldOut:
    """A test question with the right answer."""

    index: int
    question: str
    answer: str
    instruction: str | None  # the example's own system turn


def is_kept() -> bool:
    """Say whether this site keeps conversations."""
    return settings.get().conversation_days > 0


# --- the data behind an adapter --------------------------------------------------------------


def source(db: Session, user: User, adapter: Adapter) -> Source:
    """Return what is known of the data that an adapter learned from, or looks answers up in."""
    if not adapter.has_weights:
        return _without_weights(db, user, adapter)
    if adapter.job is None:
        return Source(ExampleKind.CHAT, "", None, None, None)
    trained_on = adapter.job.version
    practice = _readable(db, user, trained_on.id)
    mapping = versions.mapping_of(trained_on)
    kind = (practice and examples.kind(db, practice)) or (mapping and mapping.kind)
    held_out = practice
    split: Split | None = parts.test_split(trained_on)
    if adapter.job.validation_version_id is not None:
        held_out, split = _readable(db, user, adapter.job.validation_version_id), None
    # Of an adapter that was trained further, some rows of a test set are no test; nor are those of
    # a test set of its own that it has practised all the same.
    asks = adapter.lineage or adapter.job.validation_version_id is not None
    earlier = practising.known(db, adapter, most_rows=0) if asks else None
    if adapter.lineage and (earlier is None or not earlier.is_complete):
        held_out = None
    return Source(
        kind or ExampleKind.CHAT,
        instruction(db, user, adapter),
        practice,
        held_out,
        split,
        earlier.rows if earlier else None,
        looks_up=adapter.looks_up,
    )


def _without_weights(db: Session, user: User, adapter: Adapter) -> Source:
    assert adapter.lookup_version_id is not None
    version = _readable(db, user, adapter.lookup_version_id)
    split = parts.test_split(version) if version else None
    told = instruction(db, user, adapter)
    return Source(ExampleKind.CHAT, told, version, version, split, looks_up=adapter.looks_up)


def instruction(db: Session, user: User, adapter: Adapter) -> str:
    """Return what a model was told before each question, as far as a person may know."""
    version = adapter.job.version if adapter.job else adapter.lookup_version
    if version is None:
        return ""
    mapping = versions.mapping_of(version)
    if mapping and mapping.system.strip():
        return mapping.system.strip()
    practice = _readable(db, user, version.id)
    told = adding.instruction(db, practice) if practice else []
    return str(told[0]["content"] or "") if told else ""


def held_out(db: Session, known: Source, after: int, limit: int) -> list[HeldOut]:
    """Return the next test questions behind an index, each with its right answer."""
    if known.held_out is None or known.continues_text:
        return []
    found: list[HeldOut] = []
    while len(found) < limit:
        rows = examples.page(db, known.held_out, known.held_out_split, after=after, limit=_BATCH)
        found += [asked for row in rows if (asked := _held_out(known, row))]
        if len(rows) < _BATCH:
            break
        after = rows[-1].index
    return found[:limit]


def held_out_at(db: Session, known: Source, index: int) -> HeldOut | None:
    """Return one test question by the index of its example."""
    if known.held_out is None or known.continues_text:
        return None
    row = examples.get(db, known.held_out, index)
    if row is None or known.held_out_split not in (None, row.split):
        return None
    return _held_out(known, row)


def nearest_index(db: Session, known: Source, question: str) -> int | None:
    """Return which practice example's question is most like this one; not where rows are shown."""
    if known.practice is None or known.continues_text or known.looks_up:
        return None
    return nearest.find(db, known.practice, question)


def _readable(db: Session, user: User, version_id: int) -> DatasetVersion | None:
    try:
        return versions.get_version(db, user, version_id)
    except NotFound:
        return None


def _instruction_of(row: Example) -> str | None:
    first = row.messages[0] if row.messages else {}
    return str(first.get("content") or "") if first.get("role") == "system" else None


def _held_out(known: Source, row: Example) -> HeldOut | None:
    if known.practised is not None and row.messages in known.practised:
        return None
    question, answer = nearest.question_of(row.messages)
    if not question or not answer:
        return None
    return HeldOut(row.index, question, answer, _instruction_of(row))


# --- asking ----------------------------------------------------------------------------------


def check_question(question: str) -> str:
    """Return a question as it is asked.

    Raises:
        Invalid: it is empty or too long; with the field `question`.
    """
    question = question.replace("\r\n", "\n").replace("\0", "").strip()
    if not question:
        raise Invalid("Type a question first.", field="question")
    if len(question) > MAX_QUESTION_LENGTH:
        raise Invalid(
            f"A question may have at most {MAX_QUESTION_LENGTH:,} characters.", field="question"
        )
    return question


def check_instruction(instruction: str) -> str:
    """Return an instruction as it is given to the model.

    Raises:
        Invalid: it is too long; with the field `instruction`.
    """
    instruction = instruction.replace("\r\n", "\n").replace("\0", "").strip()
    if len(instruction) > MAX_SYSTEM_LENGTH:
        raise Invalid(
            f"The instruction may have at most {MAX_SYSTEM_LENGTH:,} characters.",
            field="instruction",
        )
    return instruction


def others(db: Session, user: User, adapter: Adapter) -> list[tuple[int, str]]:
    """Name the adapters that can answer beside this one, of the same starting model, by number."""
    query = registry.visible(user).where(
        Adapter.base_model_id == adapter.base_model_id, Adapter.id != adapter.id
    )
    named = query.with_only_columns(Adapter.id, Adapter.name).order_by(Adapter.id.desc())
    return [(number, name) for number, name in db.execute(named)]


def labels(adapter: Adapter | None) -> tuple[str, str]:
    """Return how an adapter, or one that was deleted, and its starting model are called."""
    if adapter is None or adapter.has_weights:
        return TUNED_LABEL, BASE_LABEL
    return LOOKUP_LABEL if adapter.is_lookup else ALONE_LABEL, ALONE_LABEL


def columns(db: Session, user: User, adapter: Adapter, wish: Wish) -> list[Column]:
    """Return who answers, the adapter first.

    Raises:
        Invalid: the other adapter is gone, or is for another starting model; field `beside`.
    """
    own_label, base_label = labels(adapter)
    chosen = [Column(0, own_label, adapter.id)]
    # Beside the starting model alone, the same would say the same.
    if wish.beside is Beside.BASE and adapter.kind is not AdapterKind.ALONE:
        chosen.append(Column(1, base_label, None))
    elif wish.beside is Beside.ADAPTER:
        query = registry.visible(user).where(
            Adapter.id == wish.beside_adapter_id,
            Adapter.base_model_id == adapter.base_model_id,
        )
        other = db.scalars(query).one_or_none()
        if other is None:
            raise Invalid(
                "The trained model beside it is no longer there; choose another one.",
                field="beside",
            )
        chosen.append(Column(1, other.name, other.id))
    return chosen


def add_turn(
    db: Session,
    user: User,
    adapter: Adapter,
    conversation: Conversation | None,
    wish: Wish,
    question: str,
    chosen: Sequence[Column],
    *,
    example_index: int | None = None,
    nearest_index: int | None = None,
) -> ConversationTurn:
    """Keep a question, in a new conversation where none is given; its answers are open.

    Raises:
        Conflict: the conversation is as long as one may be.
    """
    if conversation is None:
        conversation = Conversation(owner_id=user.id, adapter_id=adapter.id)
        db.add(conversation)
        conversation.turns = []
    elif len(conversation.turns) >= MAX_TURNS:
        raise Conflict("This conversation is very long; start a new one.")
    is_new = conversation.id is None
    conversation.beside = wish.beside
    conversation.beside_adapter_id = wish.beside_adapter_id
    conversation.instruction = wish.instruction
    conversation.temperature = wish.temperature
    conversation.updated_at = func.now()
    turn = ConversationTurn(
        question=question,
        example_index=example_index,
        nearest_index=nearest_index,
        answers=[
            ConversationAnswer(
                place=column.place,
                is_base=column.is_base,
                adapter_id=column.adapter_id,
                label=column.label,
            )
            for column in chosen
        ],
    )
    conversation.turns.append(turn)
    db.flush()
    if is_new:
        audit.record(
            db, user, "conversation.begin", f"conversation {conversation.id}", adapter=adapter.id
        )
    return turn


def request_for(
    adapter: Adapter,
    user: User,
    known: Source,
    column: Column,
    question: str,
    said: Sequence[Said],
    instruction: str,
    temperature: float,
) -> AnswerRequest:
    """Write down what one model is asked."""
    messages: list[dict[str, Any]]
    if known.continues_text:
        messages = [{"role": "text", "content": question}]
    else:
        messages = [{"role": "system", "content": instruction}] if instruction else []
        for earlier in said:
            messages.append({"role": "user", "content": earlier.question})
            messages.append({"role": "assistant", "content": earlier.answer})
        messages.append({"role": "user", "content": question})
    limit = MAX_CONTINUED_TOKENS if known.continues_text else MAX_ANSWER_TOKENS
    return AnswerRequest(
        base_model_id=adapter.base_model_id,
        adapter_id=column.adapter_id,
        account=f"user-{user.id}",
        messages=messages,
        limits=Limits(max_new_tokens=limit, temperature=temperature),
    )


# --- what is kept ----------------------------------------------------------------------------


def get(db: Session, user: User, adapter: Adapter, conversation_id: int) -> Conversation:
    """Return a conversation of one's own with an adapter, with all that was said.

    Raises:
        NotFound: there is none, it is over its time, or it is somebody else's.
    """
    found = db.scalars(
        select(Conversation)
        .where(
            Conversation.id == conversation_id,
            Conversation.owner_id == user.id,
            Conversation.adapter_id == adapter.id,
            Conversation.updated_at > _oldest(),
        )
        .options(selectinload(Conversation.turns).selectinload(ConversationTurn.answers))
    ).one_or_none()
    if found is None:
        raise NotFound("This conversation does not exist, or it has been deleted.")
    return found


def list_own(
    db: Session, user: User, adapter: Adapter, limit: int
) -> list[tuple[Conversation, str]]:
    """Return one's newest conversations with an adapter, each with its first question."""
    first = (
        select(ConversationTurn.question)
        .where(ConversationTurn.conversation_id == Conversation.id)
        .order_by(ConversationTurn.id)
        .limit(1)
        .scalar_subquery()
    )
    rows = db.execute(
        select(Conversation, first)
        .where(
            Conversation.owner_id == user.id,
            Conversation.adapter_id == adapter.id,
            Conversation.updated_at > _oldest(),
        )
        .order_by(Conversation.updated_at.desc(), Conversation.id.desc())
        .limit(limit)
    )
    return [(conversation, question or "") for conversation, question in rows]


def exchanges(conversation: Conversation, before: ConversationTurn) -> list[Exchange]:
    """Return what was asked and answered before a turn."""
    return [
        Exchange(turn.question, tuple((one.adapter_id, one.text) for one in turn.answers))
        for turn in conversation.turns
        if turn.id < before.id
    ]


def said_before(earlier: Sequence[Exchange], column: Column) -> list[Said]:
    """Return what was said so far as one model is told it: with its own answers where it gave any.

    Where another one stood in its place, the conversation went on from the adapter's answer.
    """
    said = []
    for exchange in earlier:
        given = exchange.answers
        own = given[column.place] if column.place < len(given) else (None, "")
        if own[0] != column.adapter_id or not own[1]:
            own = given[0] if given else (None, "")
        if own[1]:
            said.append(Said(exchange.question, own[1]))
    return said


def answer_of(
    db: Session, user: User, adapter: Adapter, answer_id: int
) -> tuple[Conversation, ConversationTurn, ConversationAnswer]:
    """Return an answer in a conversation of one's own.

    Raises:
        NotFound: as for `get`.
    """
    owner = db.execute(
        select(ConversationTurn.conversation_id, ConversationTurn.id)
        .join(ConversationAnswer, ConversationAnswer.turn_id == ConversationTurn.id)
        .where(ConversationAnswer.id == answer_id)
    ).one_or_none()
    conversation = get(db, user, adapter, owner.conversation_id if owner else 0)
    turn = next(turn for turn in conversation.turns if owner and turn.id == owner.id)
    return conversation, turn, next(one for one in turn.answers if one.id == answer_id)


def open_answer(
    db: Session, answer: ConversationAnswer, sources: Sequence[Json] | None = None
) -> int:
    """Begin to write an answer, from its start; returns the attempt that may write it.

    Args:
        sources: The rows of the data that it is shown; none: it looks nothing up.
    """
    attempt = db.scalars(
        update(ConversationAnswer)
        .where(ConversationAnswer.id == answer.id)
        .values(
            attempt=ConversationAnswer.attempt + 1,
            text="",
            finish=None,
            reason=None,
            seconds=None,
            num_tokens=None,
            sources=None if sources is None else list(sources),
            thumb=None,
            better=None,
            judged_at=None,
        )
        .returning(ConversationAnswer.attempt)
        .execution_options(synchronize_session=False)
    ).one()
    db.expire(answer)
    feedback.withdraw(db, [answer.id])
    return attempt


def keep(
    db: Session,
    answer_id: int,
    attempt: int,
    text: str,
    *,
    finish: Finish | None = None,
    reason: str | None = None,
    seconds: float | None = None,
    num_tokens: int | None = None,
) -> bool:
    """Keep what an answer says so far, or how it ended; says whether it may be written still."""
    written = db.scalars(
        update(ConversationAnswer)
        .where(
            ConversationAnswer.id == answer_id,
            ConversationAnswer.attempt == attempt,
            ConversationAnswer.finish.is_(None),
        )
        # PostgreSQL's text knows no NUL, and a model may say anything.
        .values(
            text=text.replace("\0", "\ufffd"),
            finish=finish,
            reason=reason,
            seconds=seconds,
            num_tokens=num_tokens,
        )
        .returning(ConversationAnswer.turn_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if written is None:
        return False
    if finish is Finish.FAILED and not text:
        _forget_unanswered(db, written)
    return True


def _forget_unanswered(db: Session, turn_id: int) -> None:
    """Drop a question that nobody could answer: it stands in the page's box again."""
    # Both columns may fail at once: the second one to come here sees that the first one has.
    db.execute(select(ConversationTurn.id).where(ConversationTurn.id == turn_id).with_for_update())
    is_open = exists().where(
        ConversationAnswer.turn_id == turn_id,
        (ConversationAnswer.text != "") | ConversationAnswer.finish.is_distinct_from(Finish.FAILED),
    )
    turn = db.get(ConversationTurn, turn_id, populate_existing=True)
    if turn is None or db.scalar(select(is_open)):
        return
    conversation_id = turn.conversation_id
    db.execute(delete_rows(ConversationTurn).where(ConversationTurn.id == turn_id))
    db.execute(
        delete_rows(Conversation).where(
            Conversation.id == conversation_id,
            ~exists().where(ConversationTurn.conversation_id == conversation_id),
        )
    )


def judge(
    db: Session, user: User, answer: ConversationAnswer, thumb: int | None, better: str | None
) -> None:
    """Keep what a person thinks of an answer, and give it to those who improve the adapter.

    What was said before is taken back.

    Raises:
        Invalid: the better answer is too long; with the field `better`.
        Conflict: the answer is being written.
    """
    # Two windows may judge at once.
    db.refresh(answer, with_for_update={"of": ConversationAnswer})
    if answer.finish is None and not answer.text:
        raise Conflict("Wait until the answer is there.")
    better = (better or "").replace("\r\n", "\n").replace("\0", "").strip() or None
    if better and len(better) > MAX_BETTER_LENGTH:
        raise Invalid(
            f"An answer may have at most {MAX_BETTER_LENGTH:,} characters.", field="better"
        )
    answer.thumb, answer.better = thumb, better
    answer.judged_at = func.now() if thumb or better else None
    db.flush()
    feedback.collect(db, user, answer)
    audit.record(db, user, "answer.judge", f"answer {answer.id}")


def delete(db: Session, user: User, conversation: Conversation) -> None:
    """Delete a conversation and all that was said in it."""
    subject, adapter_id = f"conversation {conversation.id}", conversation.adapter_id
    feedback.withdraw_conversation(db, conversation.id)
    db.execute(delete_rows(Conversation).where(Conversation.id == conversation.id))
    audit.record(db, user, "conversation.delete", subject, adapter=adapter_id)


def forget_old(db: Session) -> int:
    """Delete conversations whose last question is longer ago than the site keeps them."""
    deleted = db.execute(
        delete_rows(Conversation)
        .where(Conversation.updated_at <= _oldest())
        .returning(Conversation.id)
    )
    return len(deleted.all())


def _oldest() -> Any:
    # Of the database's clock, as the column is.
    return clock.NOW - timedelta(days=settings.get().conversation_days)
