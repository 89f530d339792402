"""OpenAI's list envelope, paged by key: `after` is the id of the last item seen, exclusive."""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Query
from pydantic import AfterValidator, BaseModel

from app.web.v1.errors import BadRequest

Row = TypeVar("Row")
Item = TypeVar("Item")

After = Annotated[str | None, Query(max_length=200)]


def _at_most(largest: int) -> AfterValidator:
    # Too many is a wish, of which there is more on the next page; none, or less, is a mistake.
    return AfterValidator(lambda limit: min(limit, largest))


Limit100 = Annotated[int, Query(ge=1), _at_most(100)]
Limit10000 = Annotated[int, Query(ge=1), _at_most(10_000)]


class Page(BaseModel, Generic[Item]):
    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


def page(
    rows: Sequence[Row], limit: int, show: Callable[[Row], Item], id_of: Callable[[Row], str]
) -> Page[Item]:
    """Make a page out of up to `limit + 1` rows; the one too many says that there is more."""
    shown = rows[:limit]
    return Page(
        data=[show(row) for row in shown],
        has_more=len(rows) > limit,
        first_id=id_of(shown[0]) if shown else None,
        last_id=id_of(shown[-1]) if shown else None,
    )


def unknown_after(after: str) -> BadRequest:
    """Make the error for a page that would start after something that is not in the list."""
    return BadRequest(
        f"after: there is no {after!r} in this list; pass the id of the last item you saw.",
        field="after",
    )
