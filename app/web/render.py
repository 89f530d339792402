"""Pages and parts of pages from Jinja2 templates: page(), version_page() and fragment()."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined
from markupsafe import Markup
from sqlalchemy.orm import object_session

from app.core import site_time
from app.core.errors import AppError
from app.core.glossary import meaning_of
from app.core.models import DatasetVersion, User
from app.core.sentences import counted, size
from app.datasets import parts
from app.notices import inbox
from app.people import sessions
from app.people.auth import can_edit
from app.web import confirmations, stepper
from app.web.datasets import tabs
from app.web.help import places

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ROOT = Path(__file__).resolve().parents[2]
STATIC_DIR = ROOT / "static"


def page(
    template: str,
    user: User | None = None,
    content: "DataclassInstance | None" = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """Render a whole page.

    Args:
        template: Its file under templates/.
        user: Who is signed in, for the bar at the top.
        content: What the page shows; the template knows its fields by their names.
        status: The answer's HTTP status.
        headers: What goes with it.
        context: Further names for the template.
    """
    bell = _at_the_bell(user)
    known = (
        {field.name: getattr(content, field.name) for field in fields(content)} if content else {}
    )
    html = (
        environment()
        .get_template(template)
        .render(user=user, num_unread=bell, help_at=places.of(template), **known, **context)
    )
    return HTMLResponse(html, status_code=status, headers=headers)


def version_page(
    template: str,
    user: User,
    version: DatasetVersion,
    content: "DataclassInstance",
    error: AppError | None = None,
    *,
    here: stepper.Name = "Data",
    tab: tabs.Name | None = None,
) -> HTMLResponse:
    """Render a page about a version of data.

    Args:
        error: What was wrong with its form.
        here: The step of the work that the page belongs to.
        tab: Which of the version's tabs the page is; None: it is a step of its own.
    """
    db = object_session(version)
    return page(
        template,
        user,
        content,
        status=error.status if error else 200,
        version=version,
        dataset=version.dataset,
        can_edit=can_edit(user),
        error=error,
        stepper=stepper.of_version(db, version, here) if db is not None else None,
        tabs=tabs.of(version, tab) if tab else [],
    )


def _at_the_bell(user: User | None) -> int:
    """Return what the bell at the top speaks of; none on a page without a session."""
    db = object_session(user) if user is not None else None
    if db is None or user is None:
        return 0
    known = sessions.num_unread(db, user)
    return inbox.num_unread(db, user) if known is None else known


def fragment(
    template: str,
    block: str,
    user: User | None = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """Render one named block of a page, for htmx to swap in."""
    html = rendered(template, block, user=user, **context)
    return HTMLResponse(html, status_code=status, headers=headers)


def rendered(template: str, block: str, **context: Any) -> str:
    """Return the HTML of one named block of a page."""
    loaded = environment().get_template(template)
    return "".join(loaded.blocks[block](loaded.new_context(context)))


@lru_cache
def environment() -> Environment:
    """Return the templates' environment; macros of ui.html are known everywhere as `ui`."""
    env = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "number": number,
        "parameters": parameters,
        "size": size,
        "ago": ago,
        "moment": site_time.moment,
        "time_of_day": site_time.time_of_day,
        "visible": visible,
        "duration": duration,
        "counted": counted,
    }
    env.tests["none"] = _is_none
    env.globals["sets_of"] = parts.sets
    env.globals["has_three"] = parts.has_three
    env.globals["set_of"] = parts.name
    env.globals["TEST_CHOSE"] = parts.TEST_CHOSE
    env.globals["static"] = static
    env.globals["icon_paths"] = icon_paths
    env.globals["just_done"] = confirmations.take
    env.globals["meaning_of"] = meaning_of
    env.globals["ui"] = env.get_template("ui.html").module
    return env


@lru_cache
def icon_paths(name: str) -> Markup:
    """Return what a vendored icon draws, without its frame: `ui.icon` sets the size."""
    drawn = (STATIC_DIR / "vendor" / "lucide" / f"{name}.svg").read_text(encoding="utf-8")
    inside = drawn.partition("<svg")[2].partition(">")[2].rpartition("</svg>")[0]
    return Markup(" ".join(inside.split()))  # noqa: S704 - a file of our own


def _is_none(value: object) -> bool:
    """Tell None from a name that nobody defined: Jinja's own test takes that for something."""
    if isinstance(value, Undefined):
        str(value)  # raises, as every other use of it does
    return value is None


@lru_cache
def static(path: str) -> str:
    """Return a static file's address, which names its content: browsers may keep it for good."""
    digest = hashlib.sha256((STATIC_DIR / path).read_bytes()).hexdigest()[:12]
    return f"/static/{path}?v={digest}"


# --- words for numbers, times and other people's text --------------------------------------


def parameters(count: int) -> str:
    """A model's size as people say it: `135 million`, `1.7 billion`."""
    if count < 999_500_000:
        return f"{number(count / 1e6)} million"
    return f"{number(count / 1e9, 1)} billion"


def number(value: float, digits: int = 0) -> str:
    """Write 12345.6 as 12,346."""
    return f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Write a duration in the two units that matter: 3 min 20 s."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def ago(at: datetime) -> str:
    """Write how long ago a moment was; the exact time belongs into a <time> beside it."""
    seconds = (datetime.now(UTC) - at).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return counted(int(seconds // 60), "1 minute ago", "{n} minutes ago")
    if seconds < 86400:
        return counted(int(seconds // 3600), "1 hour ago", "{n} hours ago")
    return counted(int(seconds // 86400), "1 day ago", "{n} days ago")


_GLYPHS = (
    {code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)}
    | {0x7F: "␡"}
    | {
        code: f"⟨U+{code:04X}⟩"
        for code in (0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF, *range(0x202A, 0x202F))
    }
    | {code: f"⟨U+{code:04X}⟩" for code in range(0x2066, 0x206A)}
)


def visible(text: str) -> str:
    """Show control and direction marks in people's rows as signs: they could hide or turn text."""
    return text.translate(_GLYPHS)
