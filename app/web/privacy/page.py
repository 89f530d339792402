"""What the page of the privacy gate shows: what was found, in its context, and what may be done."""

from dataclasses import dataclass, field
from typing import get_args

from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import AppError, Invalid
from app.core.models import (
    DatasetVersion,
    PrivacyPattern,
    PrivacyReview,
    ReviewStatus,
    Role,
    User,
)
from app.datasets import examples, states
from app.datasets.privacy import reviews, texts
from app.datasets.privacy.findings import WORDS, Kind
from app.datasets.privacy.reviews import Action, Decision

# Values of a kind that are shown and may be decided one by one; the rest goes with its kind.
NUM_SHOWN_VALUES = 50
NUM_SHOWN_PLACES = 3
_CONTEXT = 45
# What points to one person alone comes first.
_DANGER = (
    Kind.NATIONAL_ID,
    Kind.RECORD,
    Kind.IBAN,
    Kind.CARD,
    Kind.STUDENT_ID,
    Kind.BIRTH_DATE,
    Kind.ADDRESS,
    Kind.PHONE,
    Kind.EMAIL,
    Kind.NAME,
    Kind.OTHER,
    Kind.IP,
)
# A name in so many examples is seldom a patient's or a pupil's.
_OFTEN_SHARE, _OFTEN_EXAMPLES = 0.02, 20
ACTIONS = (
    ("replace", "Replace with a stand-in"),
    ("blank", "Blank out"),
    ("leave_out", "Leave these examples out"),
    ("keep", "Keep"),
)
_DONE_WORDS: dict[Action, str] = {
    "replace": "Replaced with stand-ins: {found}.",
    "blank": "Blanked out: {found}.",
    "leave_out": "Left out with their examples: {found}.",
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

    # What one button does with everything; None where each was chosen.
    all_of_it: str | None = "replace"
    kinds: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def read(cls, sent: dict[str, str]) -> "PrivacyForm":
        """Take the known fields out of a sent form."""
        return cls(
            all_of_it=None if (do := sent.get("do", "replace")) == "chosen" else do,
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
        if self.all_of_it == "keep":
            raise Invalid("Keep details kind by kind below, with your reason.", field="reason")
        chosen = {*self.kinds.values(), *self.values.values(), self.all_of_it or "replace"}
        if not chosen <= set(get_args(Action)):
            raise Invalid(
                "Choose whether to replace, blank out, leave out or keep.", field="reason"
            )
        if self.all_of_it:
            return Decision.model_validate({"default": self.all_of_it})
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
    kept_words: str  # of what was kept and stands in it
    num_taken_out: int  # of what stood in the version that it was made from
    is_busy: bool
    following: DatasetVersion | None  # in which the details are replaced

    @property
    def status(self) -> str:
        """The review's status; "none" where nobody asked for one."""
        return self.review.status.value if self.review else "none"


@dataclass(frozen=True)
class Place:
    """Where a value stands, and what stands around it."""

    index: int  # of the example
    before: str
    value: str
    after: str


@dataclass(frozen=True)
class FoundValue:
    """One value with its first places, and what a form calls it."""

    key: str
    number: int  # how often it was found
    num_examples: int
    places: list[Place]
    is_often: bool  # in so many examples that it is hardly one person's

    @property
    def value(self) -> str:
        return self.places[0].value


@dataclass(frozen=True)
class FoundKind:
    """What was found of one kind: the most frequent values, and how much of it they are."""

    kind: str
    stand_in: str  # of the first value
    words: str
    number: int
    shown: list[FoundValue]
    has_more: bool

    @property
    def num_shown(self) -> int:
        """How many of the findings are of the shown values."""
        return sum(value.number for value in self.shown)


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
    kept: list[FoundKind]  # what was kept and stands in the version


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
    review, before = reviews.around(db, version.id)
    is_decided = review is not None and review.status is ReviewStatus.DECIDED
    return Gate(
        mode=mode,
        review=review,
        is_open=states.standing(version, review).may_learn,
        found_words=reviews.list_counts(review.found) if review and review.found else "",
        kept_words=reviews.list_counts(kept)
        if is_decided and (kept := reviews.counts_of(_done(db, version, review), "keep"))
        else "",
        num_taken_out=reviews.num_taken_out(before) if is_decided else 0,
        is_busy=is_busy(review),
        following=db.get(DatasetVersion, review.result_version_id)
        if review and review.result_version_id
        else None,
    )


def gate_page(db: Session, user: User, version: DatasetVersion, form: PrivacyForm) -> GatePage:
    """Return what the gate's page shows."""
    gate = gate_of(db, version)
    found = gate.review.found or {} if gate.status == "undecided" and gate.review else {}
    done = _done(db, version, gate.review)
    kept = reviews.counts_of(done, "keep") if gate.status == "decided" else {}
    return GatePage(
        gate=gate,
        is_admin=user.role is Role.ADMIN,
        form=form,
        kinds=_kinds(db, version, found),
        actions=ACTIONS,
        num_examples=version.num_rows,
        done=[
            words.format(found=reviews.list_counts(counts))
            for action, words in _DONE_WORDS.items()
            if (counts := reviews.counts_of(done, action))
        ],
        kept=_kinds(db, version, kept),
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


def _done(db: Session, version: DatasetVersion, review: PrivacyReview | None) -> reviews.Done:
    if review is None:
        return {}
    if review.done is not None:
        return review.done
    # Decided before the record was kept value by value.
    if review.status is ReviewStatus.DECIDED:
        return {kind: {"keep": number} for kind, number in (review.found or {}).items()}
    if review.decision is None:
        return {}
    return reviews.done_by(db, version, Decision.model_validate(review.decision))


def _kinds(db: Session, version: DatasetVersion, counts: dict[str, int]) -> list[FoundKind]:
    """Return what was found, the most dangerous kind first."""
    in_order = sorted(counts, key=lambda kind: _DANGER.index(Kind(kind)))
    return [_found(db, version, Kind(kind), counts[kind]) for kind in in_order]


def _found(db: Session, version: DatasetVersion, kind: Kind, number: int) -> FoundKind:
    rows = reviews.values(db, version, kind, NUM_SHOWN_VALUES + 1)
    more = len(rows) > NUM_SHOWN_VALUES
    rows = rows[:NUM_SHOWN_VALUES]
    places = _places(db, version, [row.key for row in rows])
    one, many = WORDS[kind]
    return FoundKind(
        kind=kind.value,
        stand_in=f"[{one[0].upper()}{one[1:]} 1]",
        words=one if number == 1 else many,
        number=number,
        shown=[
            FoundValue(
                key=row.key,
                number=row.number,
                num_examples=row.num_examples,
                places=places[row.key],
                is_often=kind is Kind.NAME
                and row.num_examples >= max(_OFTEN_EXAMPLES, _OFTEN_SHARE * version.num_rows),
            )
            for row in rows
            if places.get(row.key)
        ],
        has_more=more,
    )


def _places(db: Session, version: DatasetVersion, keys: list[str]) -> dict[str, list[Place]]:
    findings = reviews.places(db, version, keys, NUM_SHOWN_PLACES)
    said = {
        row.index: texts.read(row.messages + (row.tools or []))
        for row in examples.at(db, version, sorted({each.index for each in findings}))
    }
    places: dict[str, list[Place]] = {}
    for each in findings:
        if each.index not in said:
            continue
        text, start, end = said[each.index][each.text], each.start, each.end
        places.setdefault(each.key, []).append(
            Place(
                index=each.index,
                before=("…" if start > _CONTEXT else "") + text[max(0, start - _CONTEXT) : start],
                value=text[start:end],
                after=text[end : end + _CONTEXT] + ("…" if end + _CONTEXT < len(text) else ""),
            )
        )
    return places
