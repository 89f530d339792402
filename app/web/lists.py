"""A list as its address asks for it: whose, which, found by a word, in which order, which page.

All of it stands in the address, so that it can be kept, sent and asked for again by a page that
refreshes itself; the form that makes it is a plain GET form. What an address cannot mean is left
out: an old link shows the list, not an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, func
from sqlalchemy.orm import Session

from app.core.models import User

PAGE_ROWS = 50
MAX_SEARCH = 100
# So few can be looked over without a form above them.
_NUM_WITHOUT_FORM = 5
_MAX_PAGE = 100_000


class Sort(NamedTuple):
    """An order: its words, and what it is by."""

    words: str
    by: tuple[SQLColumnExpression[Any], ...]


class Show(NamedTuple):
    """A part of a list: its words, and which rows are in it."""

    words: str
    where: ColumnElement[bool]


@dataclass(frozen=True)
class Kind:
    """What can be asked of one noun's list.

    Attributes:
        path: The address of the list.
        key: The number of its rows, by which the newest come first where nothing else decides.
        names: What is searched, e.g. the name.
        sorts: The orders, by their word in the address; the first is the usual one.
        shows: The parts that can be shown alone, by their word in the address.
        owner: Whose a row is; none: it is nobody's own.
    """

    path: str
    key: SQLColumnExpression[int]
    names: tuple[SQLColumnExpression[str], ...]
    sorts: Mapping[str, Sort]
    shows: Mapping[str, Show]
    owner: SQLColumnExpression[int] | None = None


class Query(Protocol):
    """The fields of an address."""

    def get(self, key: str, default: str, /) -> str: ...


@dataclass(frozen=True)
class Listing:
    """What an address asks for, and what was found of it."""

    kind: Kind
    search: str
    show: str  # empty: everything
    sort: str
    is_mine: bool
    page: int  # counted from 1
    num: int = 0  # rows on all pages
    is_empty: bool = False  # there is nothing at all, whatever is asked for

    @property
    def is_narrowed(self) -> bool:
        """Whether rows may be left out."""
        return bool(self.search or self.show or self.is_mine)

    @property
    def has_form(self) -> bool:
        """Whether there is so much that it has to be looked through."""
        return self.num > _NUM_WITHOUT_FORM or self.is_narrowed

    @property
    def first(self) -> int:
        """Which row this page begins with, counted from 1."""
        return (self.page - 1) * PAGE_ROWS + 1

    @property
    def last(self) -> int:
        """Which row it ends with."""
        return min(self.num, self.page * PAGE_ROWS)

    @property
    def before(self) -> str:
        """The address of the page before this one; empty: there is none."""
        return self.address(page=self.page - 1) if self.page > 1 else ""

    @property
    def after(self) -> str:
        """The address of the page after this one; empty: there is none."""
        return self.address(page=self.page + 1) if self.last < self.num else ""

    def address(self, *, page: int = 1) -> str:
        """Return the address of a page of the same."""
        usual = next(iter(self.kind.sorts))
        asked = {
            "q": self.search,
            "show": self.show,
            "sort": self.sort if self.sort != usual else "",
            "mine": "1" if self.is_mine else "",
            "page": str(page) if page > 1 else "",
        }
        said = urlencode({name: value for name, value in asked.items() if value})
        return f"{self.kind.path}?{said}" if said else self.kind.path


def asked(kind: Kind, query: Query) -> Listing:
    """Read what an address asks for."""
    page, search = query.get("page", ""), " ".join(query.get("q", "").split())
    show, sort = query.get("show", ""), query.get("sort", "")
    return Listing(
        kind=kind,
        search="" if "\0" in search else search[:MAX_SEARCH],
        show=show if show in kind.shows else "",
        sort=sort if sort in kind.sorts else next(iter(kind.sorts)),
        is_mine=kind.owner is not None and query.get("mine", "") == "1",
        page=max(1, int(page)) if page.isascii() and page.isdecimal() and len(page) < 6 else 1,
    )


def pick(
    db: Session, user: User, everything: Select[*tuple[Any, ...]], listing: Listing
) -> tuple[list[int], Listing]:
    """Return a page's rows by their numbers, in order, and the listing with how many there are.

    Args:
        everything: What the person may see, with all that the kind's columns need joined to it.
    """
    kind = listing.kind
    found = everything
    if listing.is_mine and kind.owner is not None:
        found = found.where(kind.owner == user.id)
    if listing.show:
        found = found.where(kind.shows[listing.show].where)
    for word in listing.search.split():
        hits = [name.icontains(word, autoescape=True) for name in kind.names]
        found = found.where(_either(hits))
    order = (*kind.sorts[listing.sort].by, kind.key.desc())
    paged = (
        found.with_only_columns(kind.key, func.count().over())
        .order_by(None)
        .order_by(*order)
        .limit(PAGE_ROWS)
    )
    rows = db.execute(paged.offset((listing.page - 1) * PAGE_ROWS)).all()
    if not rows and listing.page > 1:  # what was on that page is gone
        return pick(db, user, everything, replace(listing, page=1))
    num = rows[0][1] if rows else 0
    is_empty = not rows and not listing.is_narrowed
    return [row[0] for row in rows], replace(listing, num=num, is_empty=is_empty)


def _either(conditions: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    first, *others = conditions
    for other in others:
        first = first | other
    return first
