"""What the card “Take it along” and the page “How to use it” show."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.adapters import exports, programs
from app.adapters.programs import Program
from app.core import settings
from app.core.models import (
    Adapter,
    Export,
    ExportForm,
    ExportStatus,
    Json,
    Quantization,
    User,
)
from app.core.sentences import losses
from app.core.status_words import Dot
from app.people.auth import can_edit

_STATES: dict[ExportStatus, tuple[str, Dot]] = {
    ExportStatus.WAITING: ("Waiting", "wait"),
    ExportStatus.MAKING: ("Being made", "live"),
    ExportStatus.READY: ("Ready", "good"),
    ExportStatus.FAILED: ("Not offered", "bad"),
    ExportStatus.CANCELLED: ("Cancelled", "wait"),
    ExportStatus.GONE: ("Deleted after its time", "wait"),
}
_ANYBODY, _SERVERS = "For your own computer", "For servers, and for people who program"
_MAKE = {
    None: "Make it",
    ExportStatus.FAILED: "Try again",
    ExportStatus.CANCELLED: "Make it",
    ExportStatus.GONE: "Make it again",
}


@dataclass(frozen=True)
class ChoiceView:
    """One form in one quantization, and how it stands."""

    quantization: Quantization
    words: str
    expected_bytes: int
    row: Export | None
    state: str
    dot: Dot
    doing: str  # what is being done just now
    share: float | None  # of the way, from 0 to 1
    agreement: list[str]
    make_words: str  # of the button; empty: there is nothing to press
    may_cancel: bool


@dataclass(frozen=True)
class FormView:
    form: ExportForm
    name: str
    about: str
    why_not: str  # empty: it can be had
    choices: list[ChoiceView]

    @property
    def asked_for(self) -> list[ChoiceView]:
        """Those that somebody has asked for, whatever became of them."""
        return [choice for choice in self.choices if choice.row is not None]

    @property
    def untried(self) -> list[ChoiceView]:
        """Those that can be asked for by one button, the usual one first."""
        return [choice for choice in self.choices if choice.row is None and not self.why_not]


@dataclass(frozen=True)
class TakeAlong:
    """All forms of an adapter."""

    groups: list[tuple[str, list[FormView]]]  # by whose programs take them, in words
    is_going: bool  # something is under way, so the card looks again by itself
    kept_days: int

    @property
    def forms(self) -> list[FormView]:
        return [form for _, forms in self.groups for form in forms]


@dataclass(frozen=True)
class UsePage:
    adapter: Adapter
    programs: list[Program]
    chosen: Program
    ready: list[Export]  # forms of the chosen program that are ready to be downloaded
    error: str = ""


def take_along(db: Session, user: User, adapter: Adapter) -> TakeAlong | None:
    """Gather the card; None where there is nothing to take along."""
    if not adapter.has_weights:
        return None
    newest = exports.newest_of(db, adapter)
    groups: list[tuple[str, list[FormView]]] = [(_ANYBODY, []), (_SERVERS, [])]
    for form in exports.FORMS.values():
        view = FormView(
            form=form.form,
            name=form.name,
            about=form.about,
            why_not=exports.why_not(adapter, form.form),
            choices=[
                _choice(user, adapter, form.form, each, newest.get((form.form, each)))
                for each in form.quantizations
            ],
        )
        groups[form.is_for_servers][1].append(view)
    is_going = any(row.status in exports.OPEN for row in newest.values())
    return TakeAlong(groups, is_going, exports.KEPT_DAYS)


def use_page(db: Session, adapter: Adapter, key: str) -> UsePage:
    """Gather the page of one program; an unknown one shows the first."""
    ready = [
        row
        for row in exports.newest_of(db, adapter).values()
        if row.status is ExportStatus.READY and not exports.why_not(adapter, row.form)
    ]
    # Commands name what there is; where there are several, the usual one.
    taken = {row.form: row.quantization for row in sorted(ready, key=_place, reverse=True)}
    address = settings.get().public_url or settings.get().local_address
    found = programs.of(adapter, address, taken)
    chosen = next((program for program in found if program.key == key), found[0])
    return UsePage(adapter, found, chosen, [row for row in ready if row.form in chosen.forms])


def _place(row: Export) -> int:
    return exports.FORMS[row.form].quantizations.index(row.quantization)


def _choice(
    user: User,
    adapter: Adapter,
    form: ExportForm,
    quantization: Quantization,
    row: Export | None,
) -> ChoiceView:
    state, dot = _STATES[row.status] if row is not None else ("", "wait")
    said: Json = (row.progress if row is not None else None) or {}
    return ChoiceView(
        quantization=quantization,
        words=exports.QUANTIZATION_WORDS[quantization],
        expected_bytes=exports.expected_bytes(adapter, form, quantization),
        row=row,
        state=state,
        dot=dot,
        doing=_sentence(str(said.get("doing") or "waiting for its turn")),
        share=said.get("share"),
        agreement=sentences(row.agreement) if row is not None else [],
        make_words=_MAKE.get(row.status if row else None, "") if can_edit(user) else "",
        may_cancel=row is not None and row.status in exports.OPEN and exports.may_cancel(user, row),
    )


def _sentence(doing: str) -> str:
    return f"{doing[:1].upper()}{doing[1:]}."


def sentences(agreement: Sequence[Json]) -> list[str]:
    """Say how near an export is to the reference, one sentence for each time it was opened."""
    return [
        f"Opened by {each['program']} ({exports.QUANTIZATION_WORDS[each['quantization']]}): "
        f"{each['same_share'] * 100:.1f} % of the likeliest words are the same, "
        f"{losses(each['loss'], each['reference_loss'])}, over {each['num_positions']:,} words of "
        f"{each['num_rows']} {each['rows']}.{_endings(each)}"
        for each in agreement
    ]


def _endings(each: Json) -> str:
    said = each.get("endings")  # none before 2026-12, nor on the way to another form
    if not said:
        return ""
    return (
        f" {said['num_ended']} of {said['num_asked']} answers come to an end by themselves within "
        f"{said['max_tokens']} words; as it was trained, {said['reference_ended']} do."
    )
