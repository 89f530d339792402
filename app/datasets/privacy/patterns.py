"""The site's own patterns: added and removed by administrators, for all departments."""

from sqlalchemy.orm import Session

from app.core import audit
from app.core.confined import patterns as confined
from app.core.confined.patterns import Verdict
from app.core.errors import Invalid, NotFound, Problems
from app.core.models import PrivacyPattern, Role, User
from app.datasets.privacy.findings import Kind
from app.people.auth import require_role

MAX_PATTERN = 300
MAX_NAME = 80
_REFUSED = {
    Verdict.MATCHES_NOTHING: "This pattern also matches an empty text; make it stricter.",
    Verdict.SLOW: "This pattern takes too long on a page of text; avoid a repetition inside a "
    "repetition, such as (a+)+.",
    Verdict.TOO_LARGE: "This pattern takes more memory or time than a pattern may; let each part "
    "repeat at most a few hundred times.",
}


def add(db: Session, user: User, name: str, kind: str, pattern: str, sample: str) -> PrivacyPattern:
    """Add a pattern that finds its sample, and is quick on texts that hold nothing.

    Raises:
        Forbidden: the person is no administrator.
        Invalid: with the field that is wrong.
        Unavailable: too many people ask for such things just now.
    """
    require_role(user, Role.ADMIN)
    name, pattern = " ".join(name.split()), pattern.strip()
    problems = Problems()
    if not name or len(name) > MAX_NAME:
        problems.add(f"Give it a name of at most {MAX_NAME} characters.", "name")
    if kind not in list(Kind):
        problems.add("Choose what it finds.", "kind")
    if not sample.strip():
        problems.add("Write an invented example that the pattern finds.", "sample")
    with problems:
        _check_pattern(pattern, sample)
    problems.check()
    row = PrivacyPattern(name=name, kind=kind, pattern=pattern)
    db.add(row)
    db.flush()
    audit.record(db, user, "privacy.pattern.add", f"pattern {row.id}", kind=kind)
    return row


def _check_pattern(pattern: str, sample: str) -> None:
    if not pattern or len(pattern) > MAX_PATTERN:
        raise Invalid(f"Write a pattern of at most {MAX_PATTERN} characters.", field="pattern")
    trial = confined.attempt(pattern, sample)
    if trial.verdict is Verdict.NO_PATTERN:
        raise Invalid(f"This is not a regular expression: {trial.problem}.", field="pattern")
    if trial.verdict in _REFUSED:
        raise Invalid(_REFUSED[trial.verdict], field="pattern")
    if trial.verdict is Verdict.MISSES_SAMPLE and sample.strip():
        raise Invalid("The pattern does not find this example.", field="sample")


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
