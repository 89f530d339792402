"""What the pages of adapters show."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from app.adapters import feedback, lineage, sharing, states
from app.adapters import registry as adapters
from app.core.errors import AppError
from app.core.models import (
    Adapter,
    AdapterKind,
    DatasetVersion,
    Release,
    User,
)
from app.evaluation import lookups, reading
from app.evaluation import verdict as counting
from app.jobs import practice
from app.people.auth import can_edit
from app.training import manifests
from app.web import gone, lists
from app.web.adapters import way_page
from app.web.adapters.export_page import TakeAlong, take_along
from app.web.evaluation import page as evaluation_pages
from app.web.evaluation.page import Box
from app.web.gone import Gone


@dataclass(frozen=True)
class ListPage:
    """adapters/list.html: a page of the department's adapters."""

    listing: lists.Listing
    adapters: list[tuple[Adapter, states.Standing, str]]  # at last how many answers are right
    gone: Gone | None
    num_left_to_curves: int  # adapters of learning curves, which stand on the curves' pages
    can_ask: bool
    can_ask_some: bool  # on their pages for everybody


_LIST = lists.Kind(
    path="/adapters",
    key=Adapter.id,
    names=(Adapter.name,),
    owner=Adapter.owner_id,
    sorts={
        "newest": lists.Sort("Newest first", (Adapter.id.desc(),)),
        "oldest": lists.Sort("Oldest first", (Adapter.id,)),
        "name": lists.Sort("Name", (func.lower(Adapter.name),)),
        "size": lists.Sort("Largest first", (Adapter.size_bytes.desc(),)),
    },
    shows={
        release.value: lists.Show(states.of_release(release).word, Adapter.release == release)
        for release in Release
    }
    | {
        "trained": lists.Show("Trained", Adapter.kind == AdapterKind.TUNED),
        "untrained": lists.Show("Without training", Adapter.kind != AdapterKind.TUNED),
    },
)


def list_page(db: Session, user: User, query: lists.Query) -> ListPage:
    """Gather the page of the list of adapters that an address asks for."""
    ids, listing = lists.pick(db, user, adapters.listed(user), lists.asked(_LIST, query))
    found = select(Adapter).where(Adapter.id.in_(ids)).options(selectinload(Adapter.archive_file))
    made = {adapter.id: adapter for adapter in db.scalars(found)} if ids else {}
    rows = [made[each] for each in ids if each in made]
    judged = {
        number: counting.num_right(evaluation)
        for number, evaluation in reading.of_adapters(db, ids).items()
    }
    return ListPage(
        listing=listing,
        adapters=[(each, states.of(each), judged.get(each.id, "")) for each in rows],
        gone=gone.adapter(db, user, query.get("binned", ""), query.get("erased", "")),
        num_left_to_curves=adapters.num_left_to_curves(db, user),
        can_ask=can_edit(user),
        can_ask_some=any(adapter.release is Release.RELEASED for adapter in rows),
    )


@dataclass(frozen=True)
class LookupCard:
    """Whether an adapter looks answers up, and what can be changed about that."""

    is_on: bool
    newer: DatasetVersion | None  # of the data that it looks in
    can_begin: bool


@dataclass(frozen=True)
class AdapterPage:
    """One adapter: its numbers, its answers beside the starting model's, its files."""

    adapter: Adapter
    verdict: str
    judged: Box | None  # how many answers are right
    asked: str  # what its losses were measured on: check, test or practice
    files: dict[str, Any]  # by name, as its manifest has them
    started_from: list[lineage.Ancestor]  # the nearest first; none: a fresh adapter
    trained_from: list[Adapter]  # what started from it
    can_edit: bool
    num_said: int  # what people said of its answers that is not data yet
    may_share: bool
    looking_up: LookupCard
    taking: TakeAlong | None  # the forms in which it can be taken along
    way: way_page.Graph | None  # from its file to its exports
    export_error: str  # why one of them could not be asked for
    is_released: bool
    standing: states.Standing
    typed: str | None  # a name that was refused, as typed
    error: str


def _asked(adapter: Adapter) -> str:
    """Say by what an adapter's losses were measured: check, test or practice questions."""
    return practice.chosen_by(adapter.job) if adapter.job else "test"


def adapter_page(
    db: Session,
    user: User,
    adapter: Adapter,
    *,
    typed: str | None = None,
    error: str = "",
    export_error: str = "",
) -> AdapterPage:
    """Gather what an adapter's page shows; `typed` and `error` are of a name that was refused."""
    judged = reading.of_adapter(db, adapter.id)
    sentence = ""
    if adapter.is_lookup:
        sentence = (
            "It answers with the rows of your data that are most like a question, and shows them. "
            "Nothing was trained."
        )
    elif not adapter.has_weights:
        sentence = "It answers as its starting model does by itself. Nothing was trained."
    elif not judged:
        sentence = verdict(adapter)
    started_from = lineage.ancestors(db, adapter.lineage)
    trained_from = lineage.descendants(db, adapter)
    taking = take_along(db, user, adapter)
    return AdapterPage(
        adapter=adapter,
        verdict=sentence,
        judged=evaluation_pages.box(judged, reading.arm_of(adapter)),
        asked=_asked(adapter) if adapter.has_weights else "",
        files=manifests.read_manifest(adapters.folder(adapter))[0] if adapter.has_weights else {},
        started_from=started_from,
        trained_from=trained_from,
        can_edit=can_edit(user),
        num_said=feedback.count(db, adapter) if can_edit(user) else 0,
        may_share=sharing.may_share(user, adapter),
        looking_up=LookupCard(
            is_on=adapter.looks_up,
            newer=lookups.newer_version(db, adapter),
            can_begin=_can_look_up(db, user, adapter),
        ),
        taking=taking,
        way=way_page.draw(adapter, started_from, trained_from, taking),
        export_error=export_error,
        is_released=adapter.release is Release.RELEASED,
        standing=states.of(adapter),
        typed=typed,
        error=error,
    )


def _can_look_up(db: Session, user: User, adapter: Adapter) -> bool:
    if adapter.lookup_version_id is not None or adapter.job is None:
        return False
    try:
        lookups.require_lookable(db, user, adapter.job.version)
    except AppError:
        return False
    return True


def verdict(adapter: Adapter) -> str:
    """Say what the numbers of a finished job mean, and what they do not."""
    metrics, asked = adapter.metrics, _asked(adapter)
    if asked == "practice":
        return (
            "Its loss was measured on what it practised, which says nothing about new questions: "
            "ask it some."
        )
    if metrics["validation_loss_after"] >= metrics["validation_loss_before"]:
        before = (
            "the trained model that it started from" if adapter.lineage else "the starting model"
        )
        return (
            f"It does no better on the {asked} questions than {before}. More examples, or "
            f"examples closer to the {asked} questions, may help."
        )
    share = metrics.get("preferred_share")
    if share is not None:
        return (
            f"It prefers the better of two answers to {share * 100:.0f}% of unseen questions. That "
            "does not say that the answers it writes are right: read them below."
        )
    return (
        "Its loss on unseen questions fell. That does not say that its answers are right: "
        "read them below."
    )
