"""Help within Etude: chapters, search, glossary, how answers are marked, and `/v1`.

The chapters are the product's own documentation and hold nothing of anybody's: people who cannot
sign in read them as well. The reference lets its reader call, and is for people who are signed in.
"""

import hashlib
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from markupsafe import Markup

from app.core import glossary, settings
from app.core.errors import NotFound
from app.core.models import User
from app.evaluation import words
from app.people import auth
from app.web.dependencies import CurrentUser, Db, cookie_of
from app.web.help import markdown, search
from app.web.help.chapters import CHAPTERS, GLOSSARY, PARTS, PICTURES, Chapter
from app.web.render import fragment, page

router = APIRouter(prefix="/help")


def _reader(request: Request, db: Db) -> User | None:
    return auth.user_of_session(db, cookie_of(request))


Reader = Annotated[User | None, Depends(_reader)]


@router.get("")
def index(user: Reader) -> Response:
    """List the chapters."""
    return page("help/index.html", user, parts=PARTS, query="")


@router.get("/search")
def find(user: Reader, q: str = "") -> Response:
    """Show the sections that answer to some words."""
    query = q[: search.MAX_QUERY]
    return page("help/found.html", user, query=query, found=search.find(query))


@router.get("/glossary")
def show_glossary(user: Reader) -> Response:
    """Show every term with its meaning."""
    return page("help/glossary.html", user, terms=_terms(), query="")


@router.get("/panel/search")
def find_beside(q: str = "") -> Response:
    """Find for the panel that a page's question mark opens."""
    query = q[: search.MAX_QUERY]
    return fragment("help/panel.html", "found", query=query, found=search.find(query))


@router.get("/panel/{chapter}")
def beside(chapter: str, part: str = "") -> Response:
    """Show one part of a chapter within the page that somebody is on."""
    chosen = _chapter(chapter)
    if chapter == GLOSSARY:
        terms = [each for each in _terms() if part in ("", each[0])]
        return fragment("help/panel.html", "terms", chapter=chosen, terms=terms, part=part)
    shown = [(each, _within(each.html)) for each in markdown.part(chosen, part)]
    return fragment("help/panel.html", "part", chapter=chosen, sections=shown, part=part)


@router.get("/pictures/{picture}")
def picture(picture: str) -> Response:
    """Send a picture of the guides; there are no others below this address."""
    if picture not in {path.name for path in PICTURES.glob("*.webp")}:
        raise NotFound("There is no such picture.")
    headers = {"cache-control": "public, max-age=3600"}
    return FileResponse(PICTURES / picture, media_type="image/webp", headers=headers)


@router.get("/marks")
def marks(user: CurrentUser) -> Response:
    """Say how answers are marked, and what each verdict means."""
    values = settings.get()
    return page(
        "help/marks.html",
        user,
        verdicts=list(words.STANDINGS.values()),
        min_right=values.ready_min_right,
        max_wrong=values.ready_max_wrong,
    )


@router.get("/api")
def api_reference(user: CurrentUser) -> Response:
    """Show what `/v1` takes and gives, and let people try it."""
    return page("help/api.html", user)


@router.get("/api/openapi.json")
def api_description(request: Request, user: CurrentUser) -> Response:  # noqa: ARG001 - who asks
    """Send the description of `/v1` that the reference is drawn from."""
    api: FastAPI = request.app.state.v1
    described: dict[str, Any] = api.openapi()
    # Who sends is asked before FastAPI sees a request, so it knows of no token.
    tokens = {"token": {"type": "http", "scheme": "bearer"}}
    components = described.get("components", {}) | {"securitySchemes": tokens}
    answer = JSONResponse(described | {"components": components, "security": [{"token": []}]})
    # It is the same for everybody until the next version; a browser that has it asks after it.
    name = f'W/"{hashlib.sha256(answer.body).hexdigest()[:16]}"'
    kept = {"cache-control": "private, no-cache", "etag": name}
    if request.headers.get("if-none-match") == name:
        return Response(status_code=304, headers=kept)
    answer.headers.update(kept)
    return answer


@router.get("/{chapter}")
def show(user: Reader, chapter: str) -> Response:
    """Show a chapter."""
    chosen = _chapter(chapter)
    names = list(CHAPTERS.values())
    place = names.index(chosen)
    following = names[place + 1] if place + 1 < len(names) else None
    return page(
        "help/chapter.html",
        user,
        chapter=chosen,
        sections=markdown.sections(chosen),
        following=following,
        query="",
    )


def _chapter(name: str) -> Chapter:
    if name not in CHAPTERS:
        raise NotFound("There is no such chapter.")
    return CHAPTERS[name]


def _terms() -> list[tuple[str, glossary.Term]]:
    return [(markdown.term_anchor(word), term) for word, term in glossary.TERMS.items()]


def _within(html: Markup) -> Markup:
    """Let links to other chapters open in the panel: whoever reads there keeps their page."""
    links = re.compile(r'<a href="(/help/([a-z-]+)(?:#([\w-]+))?)"')
    return Markup(  # noqa: S704 - what was escaped stays so
        links.sub(
            lambda link: (
                f'<a href="{link[1]}" hx-get="/help/panel/{link[2]}?part={link[3] or ""}"'
                ' hx-target="#help-text"'
            ),
            str(html),
        )
    )
