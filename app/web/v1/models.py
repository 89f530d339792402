"""/v1/models: the starting models on offer, and the department's own adapters."""

from dataclasses import asdict
from typing import Literal

from sqlalchemy.orm import Session

from app.adapters import asking, conversations
from app.adapters import registry as adapters
from app.adapters import states as adapter_states
from app.base_models import registry as base_models
from app.base_models import states
from app.core.errors import Forbidden, NotFound
from app.core.models import Adapter, AdapterKind, BaseModel, ModelStatus, User
from app.web.dependencies import Db, TokenUser
from app.web.v1 import evaluations, transport
from app.web.v1.paging import Page, page
from app.web.v1.schemas import Deleted, ImportShown, Model, unix

router = transport.router("/models")
_KINDS: dict[AdapterKind, Literal["adapter", "lookup", "untrained"]] = {
    AdapterKind.TUNED: "adapter",
    AdapterKind.LOOKUP: "lookup",
    AdapterKind.ALONE: "untrained",
}


@router.get("")
def list_models(db: Db, user: TokenUser) -> Page[Model]:
    """List all that can be trained or fetched, in one page as OpenAI does."""
    shown = [
        _base(model) for model in base_models.list_models(db) if model.status is ModelStatus.READY
    ] + [_adapter(adapter) for adapter in adapters.list_adapters(db, user)]
    return page(shown, len(shown), lambda model: model, lambda model: model.id)


# Ids hold slashes, which OpenAI's client escapes and some proxies unescape again.
@router.get("/{model:path}")
def retrieve_model(model: str, db: Db, user: TokenUser) -> Model:
    """Return one model; a starting model also while it is being imported."""
    if model.startswith("ft:"):
        adapter = _find(db, user, model)
        told = ""  # to a text that is gone on with, nothing is said first
        if not asking.continues_text(db, adapter):
            told = conversations.instruction(db, user, adapter)
        judged = evaluations.of_model(db, adapter.id)
        return _adapter(adapter).model_copy(update={"x_instruction": told, "x_evaluation": judged})
    try:
        return _base(base_models.by_name(db, model))
    except NotFound:
        raise _not_found(model) from None


@router.delete("/{model:path}")
def delete_model(model: str, db: Db, user: TokenUser) -> Deleted:
    """Delete an adapter; starting models are an administrator's business."""
    if not model.startswith("ft:"):
        retrieve_model(model, db, user)
        raise Forbidden(
            f"{model} is a starting model; only adapters are deleted here.", field="model"
        )
    adapters.delete(db, user, _find(db, user, model))
    db.commit()
    return Deleted(id=model, object="model")


def _find(db: Session, user: User, public_name: str) -> Adapter:
    try:
        return adapters.by_public_name(db, user, public_name)
    except NotFound:
        raise _not_found(public_name) from None


def _not_found(name: str) -> NotFound:
    return NotFound(
        f"The model {name!r} does not exist here; GET /v1/models lists those that do.",
        field="model",
        code="model_not_found",
    )


def _base(model: BaseModel) -> Model:
    going = states.progress(model)
    return Model(
        id=model.name,
        created=unix(model.created_at),
        owned_by="etude",
        x_kind="base",
        x_label=model.label,
        x_status=model.status.value,
        x_reason=model.reason,
        x_import=ImportShown(**asdict(going)) if going else None,
        x_base_model=None,
        x_started_from=[],
        x_job=None,
        x_adapter_id=None,
        x_metrics=None,
    )


def _adapter(adapter: Adapter) -> Model:
    version = adapter.lookup_version
    return Model(
        id=adapter.public_name,
        created=unix(adapter.created_at),
        owned_by=f"org-{adapter.department_id}",
        x_kind=_KINDS[adapter.kind],
        x_label=adapter.name,
        x_status=adapter_states.in_v1(adapter),
        x_reason=None,
        x_base_model=adapter.base_model.name,
        x_started_from=[one["public_name"] for one in adapter.lineage],
        x_job=adapter.job.public_id if adapter.job else None,
        x_adapter_id=adapter.id,
        x_lookup=version.file.public_id if version is not None and adapter.looks_up else None,
        x_metrics=adapter.metrics or None,
    )
