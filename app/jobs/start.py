"""The adapter that a job starts from: whether it may, what it takes over, what came before it."""

import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import storage
from app.core.errors import Conflict, Invalid, NotFound
from app.core.models import Adapter, BaseModel, Job, Json, User
from app.training import manifests
from app.training.config import INHERITED, Targets, TrainConfig

_IN_FILE = {
    "lora_rank": "r",
    "lora_alpha": "lora_alpha",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}
# Names of layers that do not say themselves that they are attention's.
_OF_ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj"})


def inherited(adapter: Adapter) -> dict[str, Any]:
    """Return the settings that a job which starts from an adapter takes over.

    Raises:
        Invalid: it has no weights, or its files cannot be read.
    """
    if adapter.storage_key is None:
        raise Invalid(
            f"“{adapter.name}” has learned nothing, so it cannot be trained further; start from "
            "its starting model.",
            field="start_adapter_id",
        )
    path = storage.folder(adapter.storage_key, adapter.manifest_sha256) / "adapter_config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        found = {ours: said[theirs] for ours, theirs in _IN_FILE.items()}
        known = adapter.job.config.get("lora_targets") if adapter.job else None
        found["lora_targets"] = known or _targets(said["target_modules"])
        # As the trainer will see them, so that a damaged file is told of here.
        checked = TrainConfig.model_validate(found)
        return {name: getattr(checked, name) for name in INHERITED}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"The files of the trained model “{adapter.name}” cannot be read, so nothing can "
            "start from "
            "it; restore them from a backup.",
            field="start_adapter_id",
        ) from error


def _targets(modules: list[str]) -> Targets:
    names = set(modules)
    of_attention = {
        name for name in names if "attn" in name or "attention" in name or name in _OF_ATTENTION
    }
    if not of_attention:
        return "feed_forward"
    return "attention" if of_attention == names else "all"


def require(
    db: Session, user: User, adapter: Adapter, base_model: BaseModel, config: TrainConfig
) -> list[Json]:
    """Check that a job may start from an adapter, and keep the adapter from being deleted.

    Returns:
        The lineage of what the job will make.

    Raises:
        NotFound: the adapter was deleted, or is another department's.
        Invalid: it is in the bin or of another starting model, or the settings are not its own.
    """
    found = db.scalars(
        select(Adapter)
        .where(Adapter.id == adapter.id, Adapter.department_id == user.department_id)
        # Whoever deletes it waits, and then sees the job.
        .with_for_update(read=True, key_share=True, of=Adapter)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise NotFound(
            "There is no such trained model to start from; it may have been deleted.",
            field="start_adapter_id",
        )
    if found.binned_at is not None:
        raise Invalid(_in_the_bin(found), field="start_adapter_id")
    kept = inherited(found)
    _require_same_base(found, base_model)
    for name, value in kept.items():
        if getattr(config, name) != value:
            title = TrainConfig.model_fields[name].title
            raise Invalid(
                f"“{title}” is {value} in the trained model “{found.name}” and stays so in a job "
                "that "
                "starts from it; leave this setting as it is.",
                field=name,
            )
    return lineage(found)


def _require_same_base(adapter: Adapter, base_model: BaseModel) -> None:
    assert adapter.storage_key is not None
    try:
        folder = storage.folder(adapter.storage_key, adapter.manifest_sha256)
        made_on = manifests.read_extra(folder)["base_model"]["sha256"]
    except (ValueError, KeyError, TypeError):
        made_on = None
    if made_on is None or made_on != base_model.manifest_sha256:
        raise Invalid(
            f"The trained model “{adapter.name}” was not trained on the weights of "
            f"{base_model.label} "
            "that are here now, so it cannot be trained further on them; choose the starting model "
            f"that it was made for, {adapter.base_model.label}, as it was then.",
            field="base_model_id",
        )


def lineage(adapter: Adapter) -> list[Json]:
    """Name an adapter and all that it came from, the nearest first."""
    entry = {
        "adapter_id": adapter.id,
        "name": adapter.name,
        "public_name": adapter.public_name,
        "manifest_sha256": adapter.manifest_sha256,
    }
    return [entry, *adapter.lineage]


def of_job(job: Job) -> Adapter | None:
    """Return the adapter that a job starts from; None where it begins with a fresh one.

    Raises:
        Conflict: that adapter was deleted, or is in the bin.
    """
    if job.start_adapter is not None and job.start_adapter.binned_at is not None:
        raise Conflict(_in_the_bin(job.start_adapter))
    if job.lineage and job.start_adapter is None:
        raise Conflict(
            f"The trained model “{job.lineage[0]['name']}”, from which this job starts, was "
            "deleted; "
            "start a new job from another trained model or from the starting model alone."
        )
    return job.start_adapter


def _in_the_bin(adapter: Adapter) -> str:
    return (
        f"The trained model “{adapter.name}”, from which this job starts, is in the bin; restore "
        "it there, or start from another one."
    )
