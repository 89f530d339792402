"""The site's own patterns: added and removed by administrators, for all departments."""

import regex
from sqlalchemy.orm import Session

from app.core import audit
from app.core.errors import Invalid, NotFound
from app.core.models import PrivacyPattern, Role, User
from app.datasets.privacy.findings import Kind
from app.people.auth import require_role

MAX_PATTERN = 300
MAX_NAME = 80
# A pattern has to answer on this at once: where it does not, it would not on people's texts.
_TRIAL = "".join(
    f"Patient {n} aaaaaaaaaaaaaaaaaaaa 0000000000000000 -----------. " for n in range(40)
)
_TRIAL_SECONDS = 0.2


def add(db: Session, user: User, name: str, kind: str, pattern: str, sample: str) -> PrivacyPattern:
    """Add a pattern that finds its sample, and is quick on texts that hold nothing.

    Raises:
        Forbidden: the person is no administrator.
        Invalid: with the field that is wrong.
    """
    require_role(user, Role.ADMIN)
    name, pattern = " ".join(name.split()), pattern.strip()
    if not name or len(name) > MAX_NAME:
        raise Invalid(f"Give it a name of at most {MAX_NAME} characters.", field="name")
    if kind not in list(Kind):
        raise Invalid("Choose what it finds.", field="kind")
    if not pattern or len(pattern) > MAX_PATTERN:
        raise Invalid(f"Write a pattern of at most {MAX_PATTERN} characters.", field="pattern")
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise Invalid(f"This is not a regular expression: {error}.", field="pattern") from None
    if compiled.search("") is not None:
        raise Invalid("This pattern also matches an empty text; make it stricter.", field="pattern")
    try:
        compiled.search(_TRIAL, timeout=_TRIAL_SECONDS)
        found = compiled.search(sample, timeout=_TRIAL_SECONDS)
    except TimeoutError:
        raise Invalid(
            "This pattern takes too long on a page of text; avoid a repetition inside a "
            "repetition, such as (a+)+.",
            field="pattern",
        ) from None
    if found is None:
        raise Invalid("The pattern does not find this example.", field="sample")
    row = PrivacyPattern(name=name, kind=kind, pattern=pattern)
    db.add(row)
    db.flush()
    audit.record(db, user, "privacy.pattern.add", f"pattern {row.id}", kind=kind)
    return row


def delete(db: Session, user: User, pattern_id: int) -> None:
    """Take a pattern away; what it found stays found.

    Raises:
        Forbidden: the person is no administrator.
        NotFound: there is none.
    """
    require_role(user, Role.ADMIN)
    row = db.get(PrivacyPattern, pattern_id)
    if row is None:
        raise NotFound("This pattern does not exist, or it has been deleted.")
    db.delete(row)
    db.flush()
    audit.record(db, user, "privacy.pattern.delete", f"pattern {pattern_id}", kind=row.kind)
