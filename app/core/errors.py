"""What a user can do wrong, or meet: each kind with its HTTP status. Messages say what to do."""

from collections.abc import Sequence
from types import TracebackType


class AppError(Exception):
    """A sentence for the person who sees it: what happened, where, and what to do.

    Args:
        message: The sentence.
        field: The form field or API parameter that it is about, if one.
        code: A short stable word for programs.
        others: What is wrong besides, each with its own field (Problems).
    """

    status = 400
    code = "invalid_request"
    retry_seconds: int | None = None  # when the same request may succeed
    # Where a person who has only this sentence before them goes on: the button's words, and a page.
    way_on = ("Go to the start page", "/")

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        code: str | None = None,
        others: "Sequence[AppError]" = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.code = code or type(self).code
        self.others = tuple(others)

    @property
    def all(self) -> "list[AppError]":
        """Return each thing that is wrong, this one first."""
        return [self, *self.others]

    def at(self, field: str) -> str:
        """Return the sentence that belongs beside a field; empty: nothing is wrong with it."""
        return next((each.message for each in self.all if each.field == field), "")

    @property
    def headers(self) -> dict[str, str]:
        """Say to programs when to come back."""
        return {"Retry-After": str(self.retry_seconds)} if self.retry_seconds else {}


class Invalid(AppError):
    """The request cannot be carried out as it stands; shown beside the field."""

    status = 422


class Problems:
    """Gathers what is wrong with a form, so that all of it is said at once.

    problems = Problems()
    with problems:
        share = share_from(form)
    with problems:
        seed = seed_from(form)
    problems.check()  # share and seed are there from here on
    """

    def __init__(self) -> None:
        self.found: list[AppError] = []

    def add(self, message: str, field: str) -> None:
        self.found.append(Invalid(message, field=field))

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Invalid):
            return False
        self.found += error.all
        return True

    def check(self) -> None:
        """Go on if nothing is wrong.

        Raises:
            Invalid: all that is, the first of it as its own message.
        """
        if self.found:
            first, *others = self.found
            raise Invalid(first.message, field=first.field, code=first.code, others=others)


class NotSignedIn(AppError):
    status = 401
    code = "not_signed_in"


class Forbidden(AppError):
    status = 403
    code = "forbidden"


class NotFound(AppError):
    """Also what a stranger gets for rows of another department: their existence is not told."""

    status = 404
    code = "not_found"


class InBin(NotFound):
    """It was deleted, and may be had back."""

    way_on = ("Open the bin", "/bin")


class Conflict(AppError):
    """The thing has changed meanwhile, or is in use."""

    status = 409
    code = "conflict"


class TooLarge(AppError):
    status = 413
    code = "too_large"


class TooMany(AppError):
    status = 429
    code = "rate_limit_exceeded"
    retry_seconds = 30


class Unavailable(AppError):
    """What we depend on does not answer just now; the same request may succeed in a moment."""

    status = 503
    code = "unavailable"
    retry_seconds = 5


class DiskFull(AppError):
    """There is no room for what was to be kept; only an administrator can change that."""

    status = 507
    code = "disk_full"
