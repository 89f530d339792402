"""Ask a released adapter on a plain page: a box, an answer word by word, a word to its owner.

There is nothing to choose here: the model is told what it was trained with, nothing answers beside
it, and what was said so far is with the browser alone.
"""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlalchemy.orm import Session

from app.adapters import conversations, sharing
from app.adapters import registry as adapters
from app.adapters.conversations import Column
from app.core.errors import AppError, Invalid
from app.core.models import Adapter, User
from app.datasets.privacy import typed
from app.evaluation import lookups
from app.web.adapters import ask_page, plain_page
from app.web.adapters.answer_proof import Question
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
from app.web.forms import AskForm, LookForm, ReportForm
from app.web.render import fragment, page

router = APIRouter(prefix="/ask/{adapter_id}")
_COLUMN = 0  # nobody answers beside it


@router.get("")
def show(db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Show the box."""
    adapter = _adapter(db, user, adapter_id)
    return page("adapters/plain.html", user, page=plain_page.plain_page(db, user, adapter))


@router.post("")
async def ask(request: Request, adapter_id: int, form: Annotated[AskForm, Form()]) -> Response:
    """Ask a question; a script fetches the answer, a plain browser waits for it."""
    if is_script(request):
        turn = await aside(request, lambda db, user: _begin(db, user, adapter_id, form))
        return fragment(
            "adapters/ask_turn.html",
            "turn",
            adapter_id=adapter_id,
            turn=turn,
            can_judge=False,
            reports_to=f"/ask/{adapter_id}/report",
        )
    try:
        plan, history, question = await aside(
            request, lambda db, user: _plan(db, user, adapter_id, form)
        )
        (spoken,) = await all_answers([plan], gone(request))
        if spoken.reason and not spoken.text:
            raise Invalid(spoken.reason)
    except AppError as error:
        refused = error  # Python takes the name away
        return await aside(request, lambda db, user: _refused(db, user, adapter_id, form, refused))

    def shown(db: Session, user: User) -> Response:
        adapter = _adapter(db, user, adapter_id)
        answer = HistoryAnswer(
            label=adapter.name,
            adapter=adapter.id,
            text=spoken.text,
            finish=spoken.finish,
            sources=list(plan.sources or ()),
            sources_note=plan.sources_note,
            proof=spoken.proof,
        )
        said = [*history, HistoryTurn(question=question, answers=[answer])]
        plain = plain_page.plain_page(db, user, adapter, history=said)
        return page("adapters/plain.html", user, page=plain)

    return await aside(request, shown)


@router.post("/answer")
async def answer(request: Request, adapter_id: int, form: Annotated[AskForm, Form()]) -> Response:
    """Write an answer, as an event stream."""
    plan, _, _ = await aside(request, lambda db, user: _plan(db, user, adapter_id, form))
    return as_stream(request.app.state.hub, plan)


@router.post("/look")
def look(db: Db, user: CurrentUser, adapter_id: int, form: Annotated[LookForm, Form()]) -> Response:
    """Say whether what is being typed points to a person; the text is neither kept nor logged."""
    _adapter(db, user, adapter_id)
    return JSONResponse({"sentence": typed.sentence(db, form.text)})


@router.post("/report")
def report(
    request: Request,
    db: Db,
    user: CurrentUser,
    adapter_id: int,
    form: Annotated[ReportForm, Form()],
) -> Response:
    """Show an answer to the adapter's owner."""
    adapter = _adapter(db, user, adapter_id)
    error = None
    try:
        if not Question(adapter.id, user.id, form.question).is_answer(form.answer, form.proof):
            raise Invalid(
                "These are not the words that the model said, so they cannot be reported. Ask "
                "again and report the new answer."
            )
        sharing.report(
            db, user, adapter, question=form.question, answer=form.answer, note=form.note
        )
        db.commit()
    except AppError as wrong:
        db.rollback()
        if is_script(request):
            raise
        error = wrong
    if is_script(request):
        owner = plain_page.owner_name(db, adapter)
        return PlainTextResponse(f"Reported. {owner} sees this question and answer now.")
    history: list[HistoryTurn] = []
    with suppress(AppError):
        history = ask_page.history_from(AskForm(history=form.history))
    shown = plain_page.plain_page(
        db, user, adapter, history=history, is_reported=error is None, error=error
    )
    return page("adapters/plain.html", user, status=error.status if error else 200, page=shown)


def _adapter(db: Session, user: User, adapter_id: int) -> Adapter:
    adapter = adapters.get(db, user, adapter_id)
    sharing.require_asking(user, adapter)
    return adapter


def _begin(db: Session, user: User, adapter_id: int, form: AskForm) -> TurnView:
    """Look whether a question may be asked, before a place for its answer is shown."""
    adapter = _adapter(db, user, adapter_id)
    question = conversations.check_question(form.question)
    ask_page.history_from(form)
    answerer(db, adapter)
    sharing.require_left(db, user, adapter)
    return plain_page.begun_turn(adapter, question)


def _plan(
    db: Session, user: User, adapter_id: int, form: AskForm
) -> tuple[Plan, list[HistoryTurn], str]:
    adapter = _adapter(db, user, adapter_id)
    question = conversations.check_question(form.question)
    history = ask_page.history_from(form)
    known = conversations.source(db, user, adapter)
    column = Column(_COLUMN, adapter.name, adapter.id)
    found = answerer(db, adapter)
    request = conversations.request_for(
        adapter,
        user,
        known,
        column,
        question,
        conversations.said_before(ask_page.as_exchanges(history), column),
        known.instruction,
        conversations.FREEDOMS["same"],
    )
    looked = looked_up(db, adapter.id, request)
    kept = count(db, user, adapter.id, question)
    plan = Plan(
        found,
        looked.request,
        _COLUMN,
        kept_question=kept,
        sources=shown_sources(db, looked),
        sources_note=lookups.note(looked.sources),
        signs=Question(adapter.id, user.id, question),
    )
    db.commit()
    return plan, history, question


def _refused(db: Session, user: User, adapter_id: int, form: AskForm, error: AppError) -> Response:
    """Show the page as it was, with the question in its box and what was wrong."""
    adapter = _adapter(db, user, adapter_id)
    history: list[HistoryTurn] = []
    with suppress(AppError):
        history = ask_page.history_from(form)
    shown = plain_page.plain_page(
        db, user, adapter, history=history, question=form.question, error=error
    )
    return page("adapters/plain.html", user, status=error.status, page=shown)
