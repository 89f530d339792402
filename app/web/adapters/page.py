"""What the pages of adapters show."""

from dataclasses import dataclass
from typing import Any

from app.adapters import registry as adapters
from app.core.models import Adapter, Json, StoredFile, User
from app.people.auth import can_edit
from app.training import manifests


@dataclass(frozen=True)
class ListPage:
    adapters: list[Adapter]  # the newest first


@dataclass(frozen=True)
class AdapterPage:
    """One adapter: its numbers, its answers beside the starting model's, its files."""

    adapter: Adapter
    verdict: str
    archive: StoredFile | None
    files: dict[str, Any]  # of the zip, by name, as its manifest has them
    can_edit: bool
    typed: str | None  # a name that was refused, as typed
    error: str


def adapter_page(
    user: User, adapter: Adapter, *, typed: str | None = None, error: str = ""
) -> AdapterPage:
    """Gather what an adapter's page shows; `typed` and `error` are of a name that was refused."""
    archive = adapter.archive_file
    return AdapterPage(
        adapter=adapter,
        verdict=verdict(adapter.metrics),
        archive=archive if archive and archive.deleted_at is None else None,
        files=manifests.read_manifest(adapters.folder(adapter))[0],
        can_edit=can_edit(user),
        typed=typed,
        error=error,
    )


def verdict(metrics: Json) -> str:
    """Say what the numbers of a finished job mean, and what they do not."""
    if metrics["validation_loss_after"] >= metrics["validation_loss_before"]:
        return (
            "It does no better on the test questions than the starting model. More examples, or "
            "examples closer to the test questions, may help."
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
