"""What the page “Ask” shows: the conversation, the box, and how the next question is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from app.adapters import answering, conversations, sharing
from app.adapters.conversations import Column, Exchange, HeldOut, Source, Wish
from app.core import settings
from app.core.errors import AppError, Invalid
from app.core.models import (
    Adapter,
    AdapterKind,
    Beside,
    Conversation,
    ConversationAnswer,
    ConversationTurn,
    DatasetVersion,
    Example,
    Finish,
    Json,
    User,
)
from app.core.sentences import counted
from app.datasets import examples, nearest, versions
from app.evaluation import arms, lookups, reading
from app.web.evaluation import page as evaluation_pages
from app.web.evaluation.page import Box
from app.web.forms import AskForm

NUM_TESTS = 4
NUM_EARLIER = 20
_SHOWN_CHARACTERS = 90
FREEDOM_WORDS = {
    "same": "Not at all: always the same",
    "little": "A little",
    "free": "More",
}
NOBODY_ANSWERS = (
    "Nothing is running that could answer just now. It may be starting; if it stays like this, "
    "please tell your administrator."
)
_NOTES = {
    Finish.STOP: "",
    Finish.LENGTH: "Stopped here, because it was getting very long.",
    Finish.BROKEN_OFF: "This answer was interrupted.",
    Finish.FAILED: "This answer was interrupted.",
    None: "This answer was interrupted.",
}


class ShownSource(BaseModel):
    """A row of the data that an answer was taken from."""

    model_config = ConfigDict(extra="forbid")
    version: int
    index: int
    name: str
    question: str
    answer: str

    @property
    def address(self) -> str:
        return f"/versions/{self.version}/examples/{self.index}"


class HistoryAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str = Field(max_length=300)
    adapter: int | None
    text: str
    finish: Finish | None = None
    sources: list[ShownSource] = Field(default_factory=list, max_length=arms.NUM_LOOKED_UP)
    sources_note: str = ""
    proof: str = Field(default="", max_length=64)  # that the model said so, for a report


class HistoryTurn(BaseModel):
    """A question that nothing is kept of: the browser has it, and sends it along."""

    model_config = ConfigDict(extra="forbid")
    question: str
    example: int | None = None
    answers: list[HistoryAnswer] = Field(max_length=2)


_HISTORY = TypeAdapter(list[HistoryTurn])


@dataclass(frozen=True)
class AnswerView:
    """One model's answer, or the place where it is being written."""

    id: int | None  # none: it is not kept
    place: int
    adapter_id: int | None
    label: str
    text: str
    finish: str  # a Finish, or "open"
    note: str
    seconds: str
    thumb: int | None
    better: str
    sources: Sequence[ShownSource] = ()  # where it looks answers up: the rows, the best first
    sources_note: str = ""
    proof: str = ""


@dataclass(frozen=True)
class RowView:
    """A row of the data, to be read beside an answer."""

    name: str
    address: str
    question: str
    answer: str


@dataclass(frozen=True)
class TurnView:
    id: int | None
    question: str
    is_test: bool
    example: int | None
    answers: list[AnswerView]
    right: str  # the right answer to a test question, where it is still there
    nearest: RowView | None


@dataclass(frozen=True)
class Earlier:
    """An earlier conversation."""

    conversation: Conversation
    first: str


@dataclass(frozen=True)
class AskPage:
    adapter: Adapter
    judged: Box | None
    can_judge: bool
    continues_text: bool
    turns: list[TurnView]
    conversation: Conversation | None
    history: str  # JSON; empty where conversations are kept
    # The box and the choices, as they were left.
    form: AskForm
    beside: list[tuple[str, str]]
    freedoms: list[tuple[str, str]]
    tests: list[HeldOut]
    tests_from: int | None  # where the next test questions begin; none: there are no others
    earlier: list[Earlier]
    keeps: str  # what is kept, in a sentence
    rule: str  # how asking and training share the machine
    uncompared: str  # that nobody knows how near its answers are to the original's; or empty
    unavailable: str  # why nothing can be asked now
    error: AppError | None


# --- reading what a browser sent --------------------------------------------------------------


def wish_from(form: AskForm) -> Wish:
    """Return how somebody wants to ask.

    Raises:
        Invalid: a choice that is none, or an instruction that is too long; with its field.
    """
    instruction = conversations.check_instruction(form.instruction)
    if form.freedom not in conversations.FREEDOMS:
        raise Invalid("Choose how much the answers may vary.", field="freedom")
    temperature = conversations.FREEDOMS[form.freedom]
    kind, _, number = form.beside.partition("-")
    if kind == "adapter" and number.isascii() and number.isdigit() and len(number) < 10:
        return Wish(Beside.ADAPTER, int(number), instruction, temperature)
    if form.beside not in (Beside.BASE.value, Beside.NOBODY.value):
        raise Invalid("Choose what to compare it with.", field="beside")
    return Wish(Beside(form.beside), None, instruction, temperature)


def history_from(form: AskForm) -> list[HistoryTurn]:
    """Return what was said so far, where the browser alone has it.

    Raises:
        Invalid: it cannot be read, or is too long.
    """
    if not form.history:
        return []
    try:
        turns = _HISTORY.validate_json(form.history)
    except ValidationError:
        raise Invalid("What was said so far cannot be read; start a new conversation.") from None
    if len(turns) > conversations.MAX_TURNS:
        raise Invalid("This conversation is very long; start a new one.")
    return turns


def as_exchanges(turns: Sequence[HistoryTurn]) -> list[Exchange]:
    """Return such turns as what was asked and answered."""
    return [
        Exchange(turn.question, tuple((one.adapter, one.text) for one in turn.answers))
        for turn in turns
    ]


def as_history(turns: Sequence[HistoryTurn]) -> str:
    """Write turns down for the browser."""
    return _HISTORY.dump_json(list(turns)).decode()


# --- the page ---------------------------------------------------------------------------------


def ask_page(
    db: Session,
    user: User,
    adapter: Adapter,
    known: Source,
    *,
    conversation: Conversation | None = None,
    history: Sequence[HistoryTurn] = (),
    form: AskForm | None = None,
    tests_after: int = -1,
    error: AppError | None = None,
) -> AskPage:
    """Gather the page; `form` and `error` are of a question that could not be asked."""
    stands = answering.state(db)
    is_kept = conversations.is_kept()
    turns = (
        [turn_view(db, known, turn) for turn in conversation.turns]
        if conversation
        else [_history_view(db, known, turn) for turn in history]
    )
    tests = conversations.held_out(db, known, tests_after, NUM_TESTS + 1)
    return AskPage(
        adapter=adapter,
        judged=evaluation_pages.box(reading.of_adapter(db, adapter.id), reading.arm_of(adapter)),
        can_judge=is_kept,
        continues_text=known.continues_text,
        turns=turns,
        conversation=conversation,
        history="" if is_kept else as_history(history),
        form=form or _form_of(db, conversation, known),
        beside=beside_options(db, user, adapter),
        freedoms=list(FREEDOM_WORDS.items()),
        tests=tests[:NUM_TESTS],
        # After the last ones, the first ones again.
        tests_from=tests[NUM_TESTS - 1].index
        if len(tests) > NUM_TESTS
        else (-1 if tests_after >= 0 else None),
        earlier=[
            Earlier(one, _shortened(first))
            for one, first in conversations.list_own(db, user, adapter, NUM_EARLIER)
            if conversation is None or one.id != conversation.id
        ],
        keeps=keeps(adapter),
        rule=answering.rules(db, user, stands),
        uncompared=uncompared(adapter, stands),
        unavailable=unavailable(stands),
        error=error,
    )


def uncompared(adapter: Adapter, stands: Sequence[answering.AnswererState]) -> str:
    """Say that a model's answers were never held against the original's; empty where they were."""
    if not any(adapter.base_model_id in one.uncompared for one in stands):
        return ""
    return (
        f"{adapter.base_model.label} answers in a smaller form here, which was not compared with "
        "the original, because this machine has too little memory for that."
    )


def keeps(adapter: Adapter) -> str:
    """Say what is kept of a conversation."""
    if not sharing.keeps(adapter):
        return own_keeps()
    return counted(
        max(1, round(settings.get().conversation_days)),
        "Your conversation is kept for 1 day. The model's owner keeps questions and answers as "
        "well, without your name.",
        "Your conversation is kept for {n} days. The model's owner keeps questions and answers as "
        "well, without your name.",
    )


def own_keeps() -> str:
    """Say how long a person's own is kept."""
    days = settings.get().conversation_days
    if not days:
        return "Nothing is kept: this conversation ends with this page."
    whole = round(days)
    if whole < 1:
        return "Kept for less than a day, for you alone."
    return counted(whole, "Kept for 1 day, for you alone.", "Kept for {n} days, for you alone.")


def beside_options(db: Session, user: User, adapter: Adapter) -> list[tuple[str, str]]:
    """List who may answer beside an adapter, as options of a form."""
    base = (Beside.BASE.value, f"{conversations.labels(adapter)[1]} ({adapter.base_model.label})")
    others = [
        (f"adapter-{number}", name) for number, name in conversations.others(db, user, adapter)
    ]
    nobody = (Beside.NOBODY.value, "Nothing")
    if adapter.kind is AdapterKind.ALONE:  # the starting model would say the same again
        return [nobody, *others]
    return [base, *others, nobody]


def turn_view(db: Session, known: Source, turn: ConversationTurn) -> TurnView:
    """Show a question that is kept, and its answers."""
    test = _test(db, known, turn.example_index)
    return TurnView(
        id=turn.id,
        question=turn.question,
        is_test=turn.example_index is not None,
        example=turn.example_index,
        answers=[answer_view(db, answer) for answer in turn.answers],
        right=test.answer if test else "",
        nearest=row_view(db, known, turn.nearest_index),
    )


def answer_view(db: Session, answer: ConversationAnswer) -> AnswerView:
    """Show an answer as it is kept; one that nobody is writing any more has broken off."""
    return AnswerView(
        id=answer.id,
        place=answer.place,
        adapter_id=answer.adapter_id,
        label=answer.label,
        text=answer.text,
        finish=(answer.finish or Finish.BROKEN_OFF).value,
        note=note_of(answer.finish, answer.text, answer.reason),
        seconds=seconds_words(answer.seconds),
        thumb=answer.thumb,
        better=answer.better or "",
        sources=sources(db, answer.sources),
        sources_note=lookups.note(answer.sources),
    )


def sources(db: Session, kept: Sequence[Json] | None) -> list[ShownSource]:
    """Show the rows that an answer was taken from, as far as they are still there."""
    return [
        ShownSource(
            version=one.version.id,
            index=one.row.index,
            name=_row_name(one.version, one.row),
            question=one.question,
            answer=one.answer,
        )
        for one in lookups.sources(db, kept)
    ]


def begun_view(
    db: Session,
    known: Source,
    turn_id: int | None,
    question: str,
    columns: Sequence[Column],
    ids: Sequence[int | None],
    test: HeldOut | None,
    nearest_index: int | None,
) -> TurnView:
    """Show a question that was just asked; its answers are to be written."""
    return TurnView(
        id=turn_id,
        question=question,
        is_test=test is not None,
        example=test.index if test else None,
        answers=[
            AnswerView(
                id=answer_id,
                place=column.place,
                adapter_id=column.adapter_id,
                label=column.label,
                text="",
                finish="open",
                note="",
                seconds="",
                thumb=None,
                better="",
            )
            for column, answer_id in zip(columns, ids, strict=True)
        ],
        right=test.answer if test else "",
        nearest=row_view(db, known, nearest_index),
    )


def row_view(db: Session, known: Source, index: int | None) -> RowView | None:
    """Show a row of the practice set, where it is still there."""
    if index is None or known.practice is None:
        return None
    row = examples.get(db, known.practice, index)
    if row is None:
        return None
    question, answer = nearest.question_of(row.messages)
    address = f"/versions/{known.practice.id}/examples/{index}"
    return RowView(_row_name(known.practice, row), address, question, answer)


def note_of(finish: Finish | None, text: str, reason: str | None) -> str:
    """Say in a sentence how an answer ended; empty where there is nothing to say."""
    if finish is Finish.STOP and not text.strip():
        return "It gave no answer."
    return reason or _NOTES[finish]


def seconds_words(seconds: float | None) -> str:
    """Write how long an answer took once its turn had come: written in 1.2 s."""
    if seconds is None:
        return ""
    took = f"{seconds:.1f} s" if seconds < 59.95 else f"{round(seconds / 60)} min"
    return f"written in {took}"


def waiting_words(place: int, doing: str, column: int) -> str:
    """Say why there are no words yet."""
    if place and column:
        return "Waiting for its turn."  # what is before it may be one's own first answer
    if place:
        return counted(
            place, "One question is ahead of yours.", "{n} questions are ahead of yours."
        )
    if doing:
        return f"Getting ready: {doing}."
    return "Reading your question."


def unavailable(stands: Sequence[answering.AnswererState]) -> str:
    """Say why nothing can be asked now; empty where something can."""
    if stands and all(one.problem for one in stands):
        return stands[0].problem
    if not stands:
        return f"{NOBODY_ANSWERS} This page tries again by itself."
    return ""


def _form_of(db: Session, conversation: Conversation | None, known: Source) -> AskForm:
    if conversation is None:
        return AskForm(instruction=known.instruction)
    beside = conversation.beside.value
    if conversation.beside is Beside.ADAPTER:
        number = conversation.beside_adapter_id
        other = db.get(Adapter, number) if number else None
        is_there = other is not None and other.binned_at is None
        beside = f"adapter-{number}" if is_there else Beside.BASE.value
    freedom = min(
        conversations.FREEDOMS,
        key=lambda name: abs(conversations.FREEDOMS[name] - conversation.temperature),
    )
    return AskForm(beside=beside, freedom=freedom, instruction=conversation.instruction)


def _history_view(db: Session, known: Source, turn: HistoryTurn) -> TurnView:
    test = _test(db, known, turn.example)
    index = conversations.nearest_index(db, known, turn.question)
    view = bare_view(turn)
    return replace(view, right=test.answer if test else "", nearest=row_view(db, known, index))


def bare_view(turn: HistoryTurn) -> TurnView:
    """Show a question that nothing is kept of, without what stands in the data."""
    return TurnView(
        id=None,
        question=turn.question,
        is_test=turn.example is not None,
        example=turn.example,
        answers=[
            AnswerView(
                id=None,
                place=place,
                adapter_id=one.adapter,
                label=one.label,
                text=one.text,
                finish=(one.finish or Finish.BROKEN_OFF).value,
                note=note_of(one.finish, one.text, None),
                seconds="",
                thumb=None,
                better="",
                sources=one.sources,
                sources_note=one.sources_note,
                proof=one.proof,
            )
            for place, one in enumerate(turn.answers)
        ],
        right="",
        nearest=None,
    )


def _test(db: Session, known: Source, index: int | None) -> HeldOut | None:
    return None if index is None else conversations.held_out_at(db, known, index)


def _row_name(version: DatasetVersion, row: Example) -> str:
    number = (row.flags or {}).get("row")
    inspection = versions.inspection_of(version)
    word = inspection.place if inspection else "row"
    return f"{word} {number:,}" if isinstance(number, int) else f"example {row.index + 1:,}"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS].rstrip() + "…"
