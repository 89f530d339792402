"""What the page of the privacy gate shows: what was found, in its context, and what may be done."""

from dataclasses import dataclass, field
from typing import Any, get_args

from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import Invalid
from app.core.models import (
    DatasetVersion,
    PrivacyFinding,
    PrivacyReview,
    ReviewStatus,
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
_BUSY = (
    ReviewStatus.WAITING,
    ReviewStatus.SCANNING,
    ReviewStatus.REQUESTED,
    ReviewStatus.REPLACING,
)


@dataclass
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
            raise Invalid("Choose to replace, blank or keep.", field="reason")
        return Decision.model_validate(
            {"kinds": self.kinds, "values": self.values, "reason": self.reason}
        )


def is_busy(review: PrivacyReview | None) -> bool:
    """Say whether a worker has it, or is about to."""
    return review is not None and review.status in _BUSY


def summary(db: Session, version: DatasetVersion) -> dict[str, Any]:
    """Return what a version's own page says about the gate."""
    mode = settings.get().privacy_gate
    review = reviews.of(db, version.id)
    return {
        "gate": mode,
        "review": review,
        "gate_is_open": mode != "required"
        or (review is not None and review.status is ReviewStatus.DECIDED),
        "found_words": reviews.sentence(review.found) if review and review.found else "",
        "is_busy": is_busy(review),
        "following": db.get(DatasetVersion, review.result_version_id)
        if review and review.result_version_id
        else None,
    }


def context(db: Session, version: DatasetVersion, form: PrivacyForm) -> dict[str, Any]:
    """Return what the gate's page shows."""
    shown = summary(db, version)
    review = shown["review"]
    kinds = []
    if review is not None and review.status is ReviewStatus.UNDECIDED:
        kinds = [
            {
                "kind": kind,
                "one": WORDS[Kind(kind)][0],
                "words": WORDS[Kind(kind)][number != 1],
                "number": number,
                **_values(db, version, Kind(kind)),
            }
            for kind, number in sorted(review.found.items(), key=lambda item: -item[1])
        ]
    return {
        **shown,
        "kinds": kinds,
        "actions": ACTIONS,
        "form": form,
        "num_examples": version.num_train + version.num_validation,
        "done": _done(review),
    }


def _done(review: PrivacyReview | None) -> str:
    if review is None or review.decision is None or not review.found:
        return ""
    decision = Decision.model_validate(review.decision)
    words = {"replace": "replaced by stand-ins", "blank": "blanked", "keep": "kept"}
    parts = []
    for action in ("replace", "blank", "keep"):
        counts = {
            kind: number
            for kind, number in review.found.items()
            if decision.kinds.get(Kind(kind), decision.default) == action
        }
        if counts:
            parts.append(f"{reviews.sentence(counts)} {words[action]}")
    return ", ".join(parts)


def _values(db: Session, version: DatasetVersion, kind: Kind) -> dict[str, Any]:
    rows = reviews.values(db, version, kind, NUM_SHOWN_VALUES + 1)
    more = len(rows) > NUM_SHOWN_VALUES
    rows = rows[:NUM_SHOWN_VALUES]
    indices = sorted({row.index for row in rows})
    found: dict[tuple[int, str], PrivacyFinding] = {}
    for finding in reversed(reviews.at(db, version, indices)):
        found[finding.index, finding.key] = finding
    messages = {
        row.index: texts.read(row.messages + (row.tools or []))
        for row in examples.at(db, version, indices)
    }
    values = []
    for row in rows:
        place = found.get((row.index, row.key))
        if place is None or row.index not in messages:
            continue
        text = messages[row.index][place.text]
        start, end = place.start, place.end
        values.append(
            {
                "key": row.key,
                "number": row.number,
                "before": ("…" if start > _CONTEXT else "")
                + text[max(0, start - _CONTEXT) : start],
                "value": text[start:end],
                "after": text[end : end + _CONTEXT] + ("…" if end + _CONTEXT < len(text) else ""),
                "index": row.index,
            }
        )
    return {"values": values, "has_more": more}
