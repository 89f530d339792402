"""What the page of the privacy gate shows: what was found, in its context, and what may be done."""

from dataclasses import dataclass, field
from typing import get_args

from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import AppError, Invalid
from app.core.models import (
    DatasetVersion,
    PrivacyFinding,
    PrivacyPattern,
    PrivacyReview,
    ReviewStatus,
    Role,
    User,
)
from app.datasets import examples
from app.datasets.privacy import reviews, texts
from app.datasets.privacy.findings import WORDS, Kind
from app.datasets.privacy.reviews import Action, Decision

# Values of a kind that are shown and may be decided one by one; the rest goes with its kind.
NUM_SHOWN_VALUES = 50
_CONTEXT = 45
ACTIONS = (
    ("replace", "Replace with a stand-in"),
    ("blank", "Blank out"),
    ("keep", "Keep"),
)
_DONE_WORDS = {
    "replace": "Replaced with stand-ins: {found}.",
    "blank": "Blanked out: {found}.",
    "keep": "Kept: {found}.",
}
_BUSY = (
    ReviewStatus.WAITING,
    ReviewStatus.SCANNING,
    ReviewStatus.REQUESTED,
    ReviewStatus.REPLACING,
)


@dataclass(frozen=True)
class PrivacyForm:
    """What a browser sent, kept as it was."""

    does_all: bool = True
    kinds: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def read(cls, sent: dict[str, str]) -> "PrivacyForm":
        """Take the known fields out of a sent form."""
        return cls(
            does_all=sent.get("do") != "chosen",
            kinds={kind: sent[f"kind-{kind}"] for kind in Kind if sent.get(f"kind-{kind}")},
            values={
                name.removeprefix("value-"): action
                for name, action in sent.items()
                if name.startswith("value-") and action
            },
            reason=sent.get("reason", "").strip(),
        )

    def decision(self) -> Decision:
        """Return what was decided.

        Raises:
            Invalid: an action is none of ours.
        """
        if self.does_all:
            return Decision()
        if not {*self.kinds.values(), *self.values.values()} <= set(get_args(Action)):
            raise Invalid("Choose whether to replace, blank out or keep.", field="reason")
        return Decision.model_validate(
            {"kinds": self.kinds, "values": self.values, "reason": self.reason}
        )


@dataclass(frozen=True)
class PatternForm:
    """A pattern as it was typed."""

    name: str = ""
    kind: str = Kind.STUDENT_ID
    pattern: str = ""
    sample: str = ""


@dataclass(frozen=True)
class Gate:
    """How far the privacy gate of a version is; each of its pages says so."""

    mode: str  # required, warn or off
    review: PrivacyReview | None
    is_open: bool  # a model may learn from the version
    found_words: str
    is_busy: bool
    following: DatasetVersion | None  # in which the details are replaced

    @property
    def status(self) -> str:
        """The review's status; "none" where nobody asked for one."""
        return self.review.status.value if self.review else "none"


@dataclass(frozen=True)
class FoundValue:
    """One value in its context, and what a form calls it."""

    key: str
    number: int  # how often it was found
    before: str
    value: str
    after: str


@dataclass(frozen=True)
class FoundKind:
    """What was found of one kind: the most frequent values, and whether there are others."""

    kind: str
    stand_in: str  # of the first value
    words: str
    number: int
    shown: list[FoundValue]
    has_more: bool


@dataclass(frozen=True)
class GatePage:
    """privacy/show.html: what was found and what may be done, or what was."""

    gate: Gate
    is_admin: bool
    form: PrivacyForm
    kinds: list[FoundKind]
    actions: tuple[tuple[str, str], ...]
    num_examples: int
    done: list[str]  # what was decided, a sentence each


@dataclass(frozen=True)
class PatternsPage:
    """privacy/patterns.html: the site's own patterns, and a form for one more."""

    patterns: list[PrivacyPattern]
    kinds: list[tuple[str, str]]
    words: dict[str, str]  # what each kind is called
    typed: PatternForm
    error: AppError | None


def is_busy(review: PrivacyReview | None) -> bool:
    """Say whether a worker has it, or is about to."""
    return review is not None and review.status in _BUSY


def gate_of(db: Session, version: DatasetVersion) -> Gate:
    """Return what a version's own page says about the gate."""
    mode = settings.get().privacy_gate
    review = reviews.of(db, version.id)
    is_decided = review is not None and review.status is ReviewStatus.DECIDED
    return Gate(
        mode=mode,
        review=review,
        is_open=mode != "required" or is_decided,
        found_words=reviews.list_counts(review.found) if review and review.found else "",
        is_busy=is_busy(review),
        following=db.get(DatasetVersion, review.result_version_id)
        if review and review.result_version_id
        else None,
    )


def gate_page(db: Session, user: User, version: DatasetVersion, form: PrivacyForm) -> GatePage:
    """Return what the gate's page shows."""
    gate = gate_of(db, version)
    kinds = []
    if gate.review is not None and gate.review.status is ReviewStatus.UNDECIDED:
        counts = sorted((gate.review.found or {}).items(), key=lambda item: -item[1])
        kinds = [_found(db, version, Kind(kind), number) for kind, number in counts]
    return GatePage(
        gate=gate,
        is_admin=user.role is Role.ADMIN,
        form=form,
        kinds=kinds,
        actions=ACTIONS,
        num_examples=version.num_rows,
        done=_done(gate.review),
    )


def patterns_page(
    db: Session, typed: PatternForm | None = None, error: AppError | None = None
) -> PatternsPage:
    """Return what the page of the site's own patterns shows."""
    words = {kind.value: one for kind, (one, _) in WORDS.items()}
    return PatternsPage(
        patterns=reviews.patterns(db),
        kinds=list(words.items()),
        words=words,
        typed=typed or PatternForm(),
        error=error,
    )


def _done(review: PrivacyReview | None) -> list[str]:
    if review is None or review.decision is None or not review.found:
        return []
    decision = Decision.model_validate(review.decision)
    said = []
    for action, words in _DONE_WORDS.items():
        counts = {
            kind: number
            for kind, number in review.found.items()
            if decision.kinds.get(Kind(kind), decision.default) == action
        }
        if counts:
            said.append(words.format(found=reviews.list_counts(counts)))
    return said


def _found(db: Session, version: DatasetVersion, kind: Kind, number: int) -> FoundKind:
    rows = reviews.values(db, version, kind, NUM_SHOWN_VALUES + 1)
    more = len(rows) > NUM_SHOWN_VALUES
    rows = rows[:NUM_SHOWN_VALUES]
    indices = sorted({row.index for row in rows})
    first: dict[tuple[int, str], PrivacyFinding] = {}
    for each in reversed(reviews.at(db, version, indices)):
        first[each.index, each.key] = each
    messages = {
        row.index: texts.read(row.messages + (row.tools or []))
        for row in examples.at(db, version, indices)
    }
    values = []
    for row in rows:
        finding = first.get((row.index, row.key))
        if finding is None or row.index not in messages:
            continue
        text = messages[row.index][finding.text]
        start, end = finding.start, finding.end
        values.append(
            FoundValue(
                key=row.key,
                number=row.number,
                before=("…" if start > _CONTEXT else "") + text[max(0, start - _CONTEXT) : start],
                value=text[start:end],
                after=text[end : end + _CONTEXT] + ("…" if end + _CONTEXT < len(text) else ""),
            )
        )
    one, many = WORDS[kind]
    stand_in = f"[{one[0].upper()}{one[1:]} 1]"
    return FoundKind(kind.value, stand_in, one if number == 1 else many, number, values, more)
