"""What both pages on which an adapter is asked share: who asks, how often, and who answers."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.adapters import answering, sharing
from app.adapters import registry as adapters
from app.core import db as database
from app.core.errors import NotSignedIn, Unavailable
from app.core.models import Adapter, User
from app.evaluation import lookups
from app.evaluation.lookups import Looked
from app.people import auth
from app.training.answers import AnswerRequest
from app.web.adapters import ask_page
from app.web.adapters.ask_page import ShownSource
from app.web.dependencies import cookie_of
from app.web.streams import Hub

T = TypeVar("T")


async def aside(request: Request, work: Callable[[Session, User], T]) -> T:
    """Do some work as who asks; no connection of the database is held while words come."""
    cookie = cookie_of(request)

    def run() -> T:
        with database.session() as session:
            user = auth.user_of_session(session, cookie, is_use=True)
            if user is None:
                raise NotSignedIn("Please sign in first.")
            return work(session, user)

    return await run_in_threadpool(run)


def count(db: Session, user: User, adapter_id: int | None, question: str) -> str | None:
    """Count a question to an adapter; returns it where the adapter's owner keeps what is asked.

    Raises:
        NotFound, Forbidden: the person may not ask this adapter.
        TooMany: they have asked as often as its owner allows.
    """
    if adapter_id is None:
        return None
    adapter = adapters.get(db, user, adapter_id)
    sharing.require_asking(user, adapter)
    sharing.count_use(db, user, adapter)
    return question if sharing.keeps(adapter) else None


def looked_up(db: Session, adapter_id: int | None, request: AnswerRequest) -> Looked:
    """Put rows of the data before a question where that model looks answers up."""
    adapter = db.get(Adapter, adapter_id) if adapter_id is not None else None
    return lookups.look_up(db, adapter, request)


def shown_sources(db: Session, looked: Looked) -> list[ShownSource] | None:
    """Show the rows that an answer will be taken from; None where nothing is looked up."""
    return None if looked.sources is None else ask_page.sources(db, looked.sources)


def answerer(db: Session, adapter: Adapter) -> answering.Found:
    """Find a process that answers; what is wrong is said to somebody who runs none."""
    try:
        return answering.find(db, adapter.base_model_id)
    except Unavailable as error:
        raise Unavailable(ask_page.NOBODY_ANSWERS, code=error.code) from None


def is_script(request: Request) -> bool:
    return "x-script" in request.headers


def gone(request: Request) -> Callable[[], Awaitable[bool]]:
    hub: Hub = request.app.state.hub

    async def is_gone() -> bool:
        return hub.is_closing or await request.is_disconnected()

    return is_gone
