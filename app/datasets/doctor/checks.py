"""Checks of versions: asked for when one is ready, done by the cpu worker, read by the pages."""

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core import clock, leases
from app.core.db import read_once
from app.core.models import (
    CheckStatus,
    DatasetCheck,
    DatasetVersion,
    Finding,
    Severity,
    VersionStatus,
)
from app.core.sentences import counted
from app.datasets.doctor import kinds
from app.datasets.doctor.kinds import KINDS
from app.datasets.doctor.report import Report

_ORDER = {severity: position for position, severity in enumerate(Severity)}
_KIND_ORDER = {kind: position for position, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Said:
    """A finding in words."""

    kind: str
    severity: Severity
    count: int
    title: str
    short: str  # beside one example
    reason: str


def want(db: Session, version: DatasetVersion) -> None:
    """Ask for a check of a version that is ready; call queue.hint("cpu") after the commit.

    Each version is checked in full: a corrected row may repeat any other. That takes a worker no
    longer than reading the file did, and nobody waits for it. Whoever corrects forty rows in an
    afternoon makes forty versions: of those that were replaced before their turn came, none is.
    """
    db.flush()
    if version.base_version_id is not None:
        db.execute(
            delete(DatasetCheck).where(
                DatasetCheck.version_id == version.base_version_id,
                DatasetCheck.status == CheckStatus.WAITING,
            )
        )
    db.execute(
        insert(DatasetCheck)
        .values(version_id=version.id, status=CheckStatus.WAITING)
        .on_conflict_do_nothing(index_elements=["version_id"])
    )


def again(db: Session, version: DatasetVersion) -> None:
    """Ask anew, where a check failed or was passed over."""
    check = of(db, version)
    if check is None and version.status is VersionStatus.READY:
        want(db, version)
    elif check is not None and check.status is CheckStatus.FAILED:
        check.status, check.reason, check.strikes = CheckStatus.WAITING, None, 0
        db.flush()


@read_once
def of(db: Session, version: DatasetVersion) -> DatasetCheck | None:
    """Return the check of a version, if one was asked for."""
    return db.scalars(
        select(DatasetCheck).where(DatasetCheck.version_id == version.id)
    ).one_or_none()


def report_of(check: DatasetCheck | None) -> Report | None:
    """Return what the doctor says of all examples together, once it has."""
    if check is None or check.status is not CheckStatus.DONE:
        return None
    return Report.model_validate(check.report)


def findings(db: Session, version: DatasetVersion) -> list[Said]:
    """Return what was found in a version, the worst first."""
    rows = db.scalars(select(Finding).where(Finding.version_id == version.id))
    said = [_said(row) for row in rows if row.kind in KINDS]
    return sorted(said, key=lambda one: (_ORDER[one.severity], _KIND_ORDER[one.kind]))


def get(db: Session, version: DatasetVersion, kind: str) -> Said | None:
    """Return one finding of a version."""
    row = db.get(Finding, (version.id, kind))
    return None if row is None or row.kind not in KINDS else _said(row)


def verdict(findings: list[Said]) -> str:
    """Say in a sentence or two whether the data is fit to learn from."""
    bad = sum(one.severity is Severity.BAD for one in findings)
    rest = len(findings) - bad
    if not findings:
        return "Looks good. Nothing stands out."
    if not bad:
        return counted(
            rest, "Looks good. One thing to look at.", "Looks good. {n} things to look at."
        )
    to_fix = counted(
        bad,
        "Not ready for training yet: one thing to fix first.",
        "Not ready for training yet: {n} things to fix first.",
    )
    if not rest:
        return to_fix
    to_see = counted(rest, "One more is worth a look.", "{n} more are worth a look.")
    return f"{to_fix} {to_see}"


def publish(
    db: Session,
    lease: leases.Lease,
    version: DatasetVersion,
    findings: list[Finding],
    report: Report,
    by_length: bytes,
) -> None:
    """Keep what a check found, and end it, in one transaction with what else it wrote.

    Raises:
        LeaseLost: another worker may have the check by now; roll back.
    """
    db.execute(delete(Finding).where(Finding.version_id == version.id))
    db.add_all(findings)
    db.flush()
    leases.release(
        db,
        lease,
        CheckStatus.DONE,
        report=report.model_dump(),
        by_length=by_length,
        reason=None,
        checked_at=clock.NOW,
    )


def _said(row: Finding) -> Said:
    title = KINDS[row.kind].title(row.count)
    short = KINDS[row.kind].short
    reason = kinds.reason(row.kind, row.detail)
    return Said(row.kind, row.severity, row.count, title, short, reason)
