"""What the page of starting models shows."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters import answer_speed
from app.base_models import catalog, states, uploads
from app.base_models import registry as base_models
from app.base_models.uploads import ModelUpload
from app.core import settings
from app.core.models import Adapter, BaseModel, ModelStatus, Role, User
from app.jobs import model_proposals, plans
from app.jobs.model_proposals import Offer, Proposal
from app.training.plan.machine import DeviceInfo
from app.web import lists
from app.web.models import needs as needs_line
from app.web.models.needs import NeedsLine


@dataclass(frozen=True)
class OfferLine:
    """A model of the catalogue, in words."""

    offer: Offer
    needs: NeedsLine
    facts: list[str]

    @property
    def is_too_large(self) -> bool:
        """To be trained here within a day."""
        plan = self.offer.plan
        return plan is not None and (plan.fits == "no" or plan.seconds > 86400)


@dataclass(frozen=True)
class ModelLine:
    """A model that is here, or on its way."""

    model: BaseModel
    standing: states.Standing
    progress: states.Progress | None  # of its import
    needs: NeedsLine | None  # None until it is imported
    num_adapters: int  # made with it, of all departments
    has_its_files: bool  # False: what was uploaded is no longer here to be imported again


@dataclass(frozen=True)
class ModelsPage:
    """models/list.html: a page of the starting models that are here, and what could be.

    Times are those of `model_proposals.THOUSAND_ROWS`.
    """

    listing: lists.Listing
    models: list[ModelLine]
    uploads: list[ModelUpload]  # under way
    is_admin: bool
    may_download: bool
    typed: dict[str, str]  # into a form that was refused, by field
    errors: dict[str, str]  # by field
    others: list[OfferLine]  # of the catalogue, without those that are here
    num_too_large: int  # of them, or they would take longer than a day
    proposal: Proposal | None  # among them and those that are here
    proposed: BaseModel | None  # the model of the proposal, where it is here


_LIST = lists.Kind(
    path="/models",
    key=BaseModel.id,
    names=(BaseModel.label, BaseModel.name),
    sorts={
        "oldest": lists.Sort("Order of adding", (BaseModel.id,)),
        "newest": lists.Sort("Newest first", (BaseModel.id.desc(),)),
        "name": lists.Sort("Name", (func.lower(BaseModel.label),)),
        "size": lists.Sort("Smallest first", (BaseModel.num_parameters,)),
    },
    shows={
        "ready": lists.Show("Ready", BaseModel.status == ModelStatus.READY),
        "coming": lists.Show(
            "Being imported", BaseModel.status.in_((ModelStatus.WAITING, ModelStatus.IMPORTING))
        ),
        "failed": lists.Show("Not imported", BaseModel.status == ModelStatus.FAILED),
    },
)


def models_page(
    db: Session,
    user: User,
    query: lists.Query,
    typed: dict[str, str] | None,
    errors: dict[str, str] | None,
) -> ModelsPage:
    """Gather the starting models that an address asks for, and whether training them fits here."""
    devices = plans.devices(db)
    models = base_models.list_models(db)
    ids, listing = lists.pick(db, user, base_models.kept(), lists.asked(_LIST, query))
    by_id = {model.id: model for model in models}
    shown = [by_id[each] for each in ids if each in by_id]
    used = _num_adapters(db)
    ready = frozenset(model.name for model in models if model.status is ModelStatus.READY)
    measured = answer_speed.measured(db)
    found = model_proposals.offers(catalog.entries(), ready, devices, measured=measured)
    proposal = model_proposals.propose(found, None)
    names = {model.name for model in models}
    others = [_line(offer) for offer in found if offer.entry.name not in names]
    return ModelsPage(
        listing=listing,
        models=[
            ModelLine(
                model,
                states.of(model),
                states.progress(model),
                _needs(model, devices, measured),
                used.get(model.id, 0),
                has_its_files=base_models.has_its_files(model),
            )
            for model in shown
        ],
        uploads=uploads.under_way(user),
        is_admin=user.role is Role.ADMIN,
        may_download=settings.get().hub_downloads,
        typed=typed or {},
        errors=errors or {},
        others=others,
        num_too_large=sum(line.is_too_large for line in others),
        proposal=proposal,
        proposed=next(
            (
                model
                for model in models
                if proposal and proposal.offer.is_here and model.name == proposal.offer.entry.name
            ),
            None,
        ),
    )


def _needs(
    model: BaseModel, devices: list[DeviceInfo], measured: list[tuple[int, float]]
) -> NeedsLine | None:
    if model.config is None or not model.num_parameters:
        return None
    idle = model_proposals.quiet(devices)
    return needs_line.in_words(
        model_proposals.needs(model.config, model.num_parameters, idle, measured=measured)
    )


def _num_adapters(db: Session) -> dict[int, int]:
    """Count the adapters of each starting model, by its id."""
    query = select(Adapter.base_model_id, func.count()).where(Adapter.binned_at.is_(None))
    rows = db.execute(query.group_by(Adapter.base_model_id))
    return dict(rows.all())


def _line(offer: Offer) -> OfferLine:
    return OfferLine(
        offer=offer,
        needs=needs_line.in_words(offer.needs),
        facts=[_languages(offer), offer.entry.size],
    )


def _languages(offer: Offer) -> str:
    entry = offer.entry
    if entry.languages == ["en"]:
        return "English"
    number = entry.num_languages or len(entry.languages)
    return f"{number} languages" if number else "languages not stated"
