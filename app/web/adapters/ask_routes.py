"""Ask an adapter: the page, a question, its answers word by word, what is said of them.

With JavaScript a question is kept first (or not), its part of the page comes back, and each answer
is then fetched as an event stream of its own. Without, the same address answers when all is said.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.adapters import answering, conversations, sharing
from app.adapters import registry as adapters
from app.adapters.conversations import Column, HeldOut, Source, Wish
from app.core.errors import AppError, Forbidden, Invalid
from app.core.models import Adapter, Conversation, User
from app.datasets.privacy import typed
from app.evaluation import lookups
from app.people.auth import can_edit
from app.web import stepper
from app.web.adapters import ask_page
from app.web.adapters.ask_door import (
    answerer,
    aside,
    count,
    gone,
    is_script,
    looked_up,
    shown_sources,
)
from app.web.adapters.ask_page import HistoryAnswer, HistoryTurn, TurnView
from app.web.adapters.ask_stream import Plan, all_answers, as_stream
from app.web.dependencies import CurrentUser, Db
from app.web.forms import AskForm, JudgeForm, LookForm, row_number
from app.web.render import fragment, page
from app.web.streams import Hub

T = TypeVar("T")
router = APIRouter(prefix="/adapters/{adapter_id}/ask")


@dataclass(frozen=True)
class _Asked:
    """A question that may be asked: by whom, of whom, after what."""

    adapter: Adapter
    known: Source
    conversation: Conversation | None
    history: list[HistoryTurn]
    wish: Wish
    columns: list[Column]
    question: str
    test: HeldOut | None
    found: answering.Found


@dataclass(frozen=True)
class _Begun:
    """A question that was asked, with what each model is asked."""

    conversation_id: int | None
    turn: TurnView
    plans: list[Plan]


@router.get("")
def show_new(db: Db, user: CurrentUser, adapter_id: int, tests: int = -1) -> Response:
    """Show the box for a new conversation."""
    return _show(db, user, adapter_id, None, tests)


@router.get("/{conversation_id}")
def show(
    db: Db, user: CurrentUser, adapter_id: int, conversation_id: int, tests: int = -1
) -> Response:
    """Show a conversation of one's own."""
    return _show(db, user, adapter_id, conversation_id, tests)


@router.post("")
async def ask(request: Request, adapter_id: int, form: Annotated[AskForm, Form()]) -> Response:
    """Ask a question; a script fetches the answers, a plain browser waits for them."""
    begun = await aside(request, lambda db, user: _begin(request, db, user, adapter_id, form))
    if isinstance(begun, Response):
        return begun
    if is_script(request):
        headers = {}
        if begun.conversation_id is not None:
            headers["X-Conversation"] = f"/adapters/{adapter_id}/ask/{begun.conversation_id}"
        return fragment(
            "adapters/ask_turn.html",
            "turn",
            headers=headers,
            adapter_id=adapter_id,
            turn=begun.turn,
            can_judge=begun.conversation_id is not None,
            reports_to="",
        )
    spoken = await all_answers(begun.plans, gone(request))
    # A question that nobody could answer is not kept: it stands in the box again, with the reason.
    if all(one.reason and not one.text for one in spoken):
        error = Invalid(str(spoken[0].reason))
        return await aside(request, lambda db, user: _refused(db, user, adapter_id, form, error))
    if begun.conversation_id is not None:
        address = f"/adapters/{adapter_id}/ask/{begun.conversation_id}"
        return RedirectResponse(f"{address}#turn-{begun.turn.id}", status_code=303)
    turn = HistoryTurn(
        question=begun.turn.question,
        example=begun.turn.example,
        answers=[
            HistoryAnswer(
                label=view.label,
                adapter=view.adapter_id,
                text=one.text,
                finish=one.finish,
                sources=list(plan.sources or ()),
                sources_note=plan.sources_note,
            )
            for view, plan, one in zip(begun.turn.answers, begun.plans, spoken, strict=True)
        ],
    )
    return await aside(request, lambda db, user: _show_history(db, user, adapter_id, form, turn))


@router.post("/answer")
async def answer(request: Request, adapter_id: int, form: Annotated[AskForm, Form()]) -> Response:
    """Write one answer, for the first time or again: as an event stream, or waited for."""
    hub: Hub = request.app.state.hub
    if form.answer:
        number = int(form.answer) if form.answer.isdecimal() and len(form.answer) < 10 else 0
        plan, conversation_id = await aside(
            request, lambda db, user: _plan_kept(db, user, adapter_id, number)
        )
    else:
        plan = await aside(request, lambda db, user: _plan_unkept(db, user, adapter_id, form))
        conversation_id = None
    if "text/event-stream" in request.headers.get("accept", ""):
        return as_stream(hub, plan)
    await all_answers([plan], gone(request))
    back = f"/adapters/{adapter_id}/ask" + (f"/{conversation_id}" if conversation_id else "")
    return RedirectResponse(back, status_code=303)


@router.post("/look")
def look(db: Db, user: CurrentUser, adapter_id: int, form: Annotated[LookForm, Form()]) -> Response:
    """Say whether what is being typed points to a person; the text is neither kept nor logged."""
    _require_asking(user, adapters.get(db, user, adapter_id))
    return JSONResponse({"sentence": typed.sentence(db, form.text)})


@router.post("/{conversation_id}/delete")
def delete(db: Db, user: CurrentUser, adapter_id: int, conversation_id: int) -> RedirectResponse:
    """Delete a conversation and all that was said in it."""
    adapter = adapters.get(db, user, adapter_id)
    conversations.delete(db, user, conversations.get(db, user, adapter, conversation_id))
    db.commit()
    return RedirectResponse(f"/adapters/{adapter_id}/ask", status_code=303)


@router.post("/answers/{answer_id}")
def judge(
    request: Request,
    db: Db,
    user: CurrentUser,
    adapter_id: int,
    answer_id: int,
    form: Annotated[JudgeForm, Form()],
) -> Response:
    """Keep what somebody thinks of an answer."""
    adapter = adapters.get(db, user, adapter_id)
    conversation, turn, judged = conversations.answer_of(db, user, adapter, answer_id)
    thumb, better = judged.thumb, judged.better
    if form.action == "better":
        better = form.better
    else:
        wanted = {"good": 1, "bad": -1}.get(form.action)
        thumb = None if thumb == wanted else wanted
    conversations.judge(db, user, judged, thumb, better)
    db.commit()
    db.refresh(judged)
    if "hx-request" in request.headers:
        view = ask_page.answer_view(db, judged)
        return fragment(
            "adapters/ask_turn.html", "answer", adapter_id=adapter_id, answer=view, can_judge=True
        )
    address = f"/adapters/{adapter_id}/ask/{conversation.id}#turn-{turn.id}"
    return RedirectResponse(address, status_code=303)


# --- in a thread of their own, each with a session that ends before anybody waits ----------------


def _show(
    db: Session, user: User, adapter_id: int, conversation_id: int | None, tests_after: int
) -> Response:
    adapter = adapters.get(db, user, adapter_id)
    sharing.require_asking(user, adapter)
    if not can_edit(user):
        return RedirectResponse(f"/ask/{adapter.id}", status_code=303)
    conversation = (
        conversations.get(db, user, adapter, conversation_id) if conversation_id else None
    )
    known = conversations.source(db, user, adapter)
    shown = ask_page.ask_page(
        db, user, adapter, known, conversation=conversation, tests_after=tests_after
    )
    return page(
        "adapters/ask.html", user, page=shown, stepper=stepper.of_adapter(db, adapter, "Use")
    )


def _begin(
    request: Request, db: Session, user: User, adapter_id: int, form: AskForm
) -> "_Begun | Response":
    """Keep a question and plan its answers; what is wrong comes back with what was typed."""
    _require_asking(user, adapters.get(db, user, adapter_id))
    try:
        asked = _asked(db, user, adapter_id, form)
        for column in asked.columns:
            if column.adapter_id is not None:
                sharing.require_left(db, user, adapters.get(db, user, column.adapter_id))
        nearest_index = conversations.nearest_index(db, asked.known, asked.question)
        if not conversations.is_kept():
            plans = []
            if not is_script(request):
                plans = [_plan(db, user, asked, column) for column in asked.columns]
            ids: list[int | None] = [None] * len(asked.columns)
            turn = ask_page.begun_view(
                db, asked.known, None, asked.question, asked.columns, ids, asked.test, nearest_index
            )
            db.commit()
            return _Begun(None, turn, plans)
        kept = conversations.add_turn(
            db,
            user,
            asked.adapter,
            asked.conversation,
            asked.wish,
            asked.question,
            asked.columns,
            example_index=asked.test.index if asked.test else None,
            nearest_index=nearest_index,
        )
        db.commit()
    except AppError as error:
        db.rollback()
        if is_script(request):
            raise
        return _refused(db, user, adapter_id, form, error)
    ids = [one.id for one in kept.answers]
    turn = ask_page.begun_view(
        db, asked.known, kept.id, asked.question, asked.columns, ids, asked.test, nearest_index
    )
    plans = []
    if not is_script(request):
        plans = [_plan_kept(db, user, adapter_id, one.id)[0] for one in kept.answers]
    return _Begun(kept.conversation_id, turn, plans)


def _asked(db: Session, user: User, adapter_id: int, form: AskForm) -> _Asked:
    adapter = adapters.get(db, user, adapter_id)
    _require_asking(user, adapter)
    known = conversations.source(db, user, adapter)
    conversation = None
    if form.conversation:
        number = row_number(form.conversation) or 0
        conversation = conversations.get(db, user, adapter, number)
    wish = ask_page.wish_from(form)
    test = None
    if form.example:
        number = int(form.example) if form.example.isdecimal() and len(form.example) < 10 else -1
        test = conversations.held_out_at(db, known, number)
        if test is None:
            raise Invalid("This test question is no longer there; choose another one.")
    return _Asked(
        adapter=adapter,
        known=known,
        conversation=conversation,
        history=[] if conversations.is_kept() else ask_page.history_from(form),
        wish=wish,
        columns=conversations.columns(db, user, adapter, wish),
        question=conversations.check_question(test.question if test else form.question),
        test=test,
        found=answerer(db, adapter),
    )


def _plan(db: Session, user: User, asked: _Asked, column: Column) -> Plan:
    earlier = [] if asked.test else ask_page.as_exchanges(asked.history)
    request = conversations.request_for(
        asked.adapter,
        user,
        asked.known,
        column,
        asked.question,
        conversations.said_before(earlier, column),
        _instruction(asked.test, asked.wish.instruction),
        asked.wish.temperature,
    )
    looked = looked_up(db, column.adapter_id, request)
    kept = count(db, user, column.adapter_id, asked.question)
    return Plan(
        asked.found,
        looked.request,
        column.place,
        kept_question=kept,
        sources=shown_sources(db, looked),
        sources_note=lookups.note(looked.sources),
    )


def _plan_unkept(db: Session, user: User, adapter_id: int, form: AskForm) -> Plan:
    asked = _asked(db, user, adapter_id, form)
    place = int(form.place) if form.place in ("0", "1") else 0
    if place >= len(asked.columns):
        raise Invalid("There is nothing to compare it with.")
    plan = _plan(db, user, asked, asked.columns[place])
    db.commit()
    return plan


def _plan_kept(db: Session, user: User, adapter_id: int, answer_id: int) -> tuple[Plan, int]:
    """Open an answer of one's own for writing, and plan it; returns its conversation's id, too."""
    adapter = adapters.get(db, user, adapter_id)
    _require_asking(user, adapter)
    conversation, turn, wanted = conversations.answer_of(db, user, adapter, answer_id)
    if wanted.adapter_id is None and not wanted.is_base:
        raise Invalid("The trained model that gave this answer was deleted.")
    known = conversations.source(db, user, adapter)
    test = None
    if turn.example_index is not None:
        test = conversations.held_out_at(db, known, turn.example_index)
    column = Column(wanted.place, wanted.label, wanted.adapter_id)
    earlier = [] if turn.example_index is not None else conversations.exchanges(conversation, turn)
    found = answerer(db, adapter)
    request = conversations.request_for(
        adapter,
        user,
        known,
        column,
        turn.question,
        conversations.said_before(earlier, column),
        _instruction(test, conversation.instruction),
        conversation.temperature,
    )
    looked = looked_up(db, wanted.adapter_id, request)
    kept = count(db, user, wanted.adapter_id, turn.question)
    attempt = conversations.open_answer(db, wanted, looked.sources)
    plan = Plan(
        found,
        looked.request,
        column.place,
        answer_id,
        attempt,
        kept,
        sources=shown_sources(db, looked),
        sources_note=lookups.note(looked.sources),
    )
    db.commit()
    return plan, conversation.id


def _require_asking(user: User, adapter: Adapter) -> None:
    """Refuse whoever may not ask here: who may only look has a page of their own."""
    sharing.require_asking(user, adapter)
    if not can_edit(user):
        raise Forbidden(f"Please ask “{adapter.name}” on its page for everybody: /ask/{adapter.id}")


def _instruction(test: HeldOut | None, instruction: str) -> str:
    """A test question is asked as it stands in the data, with the instruction it has there."""
    return instruction if test is None or test.instruction is None else test.instruction


def _refused(db: Session, user: User, adapter_id: int, form: AskForm, error: AppError) -> Response:
    """Show the page as it was, with the question in its box and what was wrong."""
    adapter = adapters.get(db, user, adapter_id)
    conversation = None
    with suppress(AppError):
        number = row_number(form.conversation) or 0
        conversation = conversations.get(db, user, adapter, number)
    history: list[HistoryTurn] = []
    if not conversations.is_kept():
        with suppress(AppError):
            history = ask_page.history_from(form)
    known = conversations.source(db, user, adapter)
    shown = ask_page.ask_page(
        db,
        user,
        adapter,
        known,
        conversation=conversation,
        history=history,
        form=form,
        error=error,
    )
    return page(
        "adapters/ask.html",
        user,
        status=error.status,
        page=shown,
        stepper=stepper.of_adapter(db, adapter, "Use"),
    )


def _show_history(
    db: Session, user: User, adapter_id: int, form: AskForm, turn: HistoryTurn
) -> Response:
    adapter = adapters.get(db, user, adapter_id)
    known = conversations.source(db, user, adapter)
    history = [*ask_page.history_from(form), turn]
    left = form.model_copy(update={"question": "", "example": ""})
    shown = ask_page.ask_page(db, user, adapter, known, history=history, form=left)
    return page(
        "adapters/ask.html", user, page=shown, stepper=stepper.of_adapter(db, adapter, "Use")
    )
