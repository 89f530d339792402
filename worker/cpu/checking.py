"""The cpu worker's part of the dataset doctor: a version's examples to a child, its findings back.

    waiting -> checking -> done, under a lease (app/core/leases.py)

The examples are copied to a file without a name, which the child (app/datasets/doctor) reads as
often as it likes; it knows no database. What it found is kept in one transaction.
"""

import base64
import json
import math
import os
from collections.abc import Iterator
from itertools import chain
from typing import IO, Any

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core import db, leases, plain_errors, settings
from app.core.child import BrokeOff, Child
from app.core.leases import Lease
from app.core.models import (
    DatasetCheck,
    DatasetVersion,
    Example,
    Finding,
    ModelStatus,
    SearchBits,
    Severity,
)
from app.datasets import examples, parts, search
from app.datasets.doctor import checks, process
from app.datasets.doctor.kinds import KINDS
from app.datasets.doctor.report import Report
from app.datasets.doctor.request import DoctorRequest
from app.training.config import PRESETS
from worker import leased
from worker.cpu import spool
from worker.leased import LeaseHolder, Unfinished

log = structlog.get_logger()


def check_next(worker_id: str) -> bool:
    """Check the oldest version that waits for it.

    Returns:
        Whether there was one; ask again until there is none.
    """
    return leased.run(leases.CHECKS, worker_id, _fetch, _check, name="check")


def _fetch(session: Session, lease: Lease) -> DatasetVersion | None:
    check = session.get(DatasetCheck, lease.id)
    return session.get(DatasetVersion, check.version_id) if check else None


def _check(holder: LeaseHolder, version: DatasetVersion) -> None:
    log.info("checking", version=version.id, attempt=holder.lease.attempt)
    try:
        _keep(holder, version)
    except (Unfinished, OSError) as error:
        log.warning("check_failed", version=version.id, error=str(error))
        if isinstance(error, Unfinished):
            raise
        raise Unfinished(
            f"The worker could not write to its disk ({plain_errors.words(error)}); ask your "
            "administrator to look at it."
        ) from error


def _keep(holder: LeaseHolder, version: DatasetVersion) -> None:
    total = version.num_rows
    findings: list[Finding] = []
    said: dict[str, Any] = {}
    messages = _messages(holder, version)
    # The findings come first. The transaction begins behind them: it is not to last for minutes.
    for message in messages:
        if "finding" not in message:
            messages = chain([message], messages)
            break
        findings.append(_finding(version, message["finding"], total))
    with db.session() as session:
        session.execute(delete(SearchBits).where(SearchBits.version_id == version.id))
        connection: Any = session.connection().connection.driver_connection
        columns = "version_id, bucket, blocks"
        with connection.cursor().copy(f"COPY search_bits ({columns}) FROM STDIN") as copy:
            for message in messages:
                if "bits" in message:
                    bucket, blocks = message["bits"]
                    copy.write_row((version.id, int(bucket), bytes.fromhex(blocks)))
                else:
                    said |= message
        report = Report.model_validate(said["end"])
        by_length = base64.b64decode(said["by_length"])
        checks.publish(session, holder.lease, version, findings, report, by_length)
        session.commit()


def _finding(version: DatasetVersion, said: dict[str, Any], total: int) -> Finding:
    rows = base64.b64decode(said["rows"])
    partners = said["partners"]
    count = len(rows) // 4
    kind = KINDS[said["kind"]]
    # What leaks is a share of what is kept from practice.
    of = total - version.num_train if said["kind"] == "leak" else total
    severity = kind.severity(count / max(of, 1)) if rows else Severity.WARN
    return Finding(
        version_id=version.id,
        kind=said["kind"],
        severity=severity,
        count=count,
        rows=rows,
        partners=None if partners is None else base64.b64decode(partners),
        detail=said["detail"],
    )


def _messages(holder: LeaseHolder, version: DatasetVersion) -> Iterator[dict[str, Any]]:
    """Let a child look at all examples; yields what it says, without its progress.

    Raises:
        Unfinished: it did not come to an end.
    """
    with spool.nameless() as file:
        with db.session() as session:
            examples.copy_out(session, version, file)
            request = _request(session, version, file)
        file.flush()
        file.seek(0)
        with process.start(request) as child:
            yield from holder.hear(child, _said(child, holder))


def _said(child: Child, holder: LeaseHolder) -> Iterator[dict[str, Any]]:
    try:
        for line in child.lines():
            message = json.loads(line)
            if "rows" in message:
                holder.tell(message)
            else:
                yield message
    except BrokeOff as error:
        raise Unfinished(_how_it_broke_off(error)) from None


def _how_it_broke_off(error: BrokeOff) -> str:
    log.error("doctor_broke_off", code=error.code, tail=error.tail[-2000:])
    if error.is_late:
        minutes = settings.get().reader_timeout_seconds / 60
        return f"Checking these examples took longer than {minutes:,.0f} minutes."
    return (
        f"Checking these examples broke off (code {error.code}), most likely for want of memory; "
        "they can be used all the same."
    )


def _request(session: Session, version: DatasetVersion, file: IO[bytes]) -> DoctorRequest:
    values = settings.get()
    models = [
        model
        for model in base_models.list_models(session)
        if model.status is ModelStatus.READY and model.folder
    ]
    return DoctorRequest(
        file=file.fileno(),
        num_examples=version.num_rows,
        has_three_parts=parts.has_three(version),
        parent=os.getpid(),
        model_folder=str(base_models.folder(models[0])) if models else None,
        limit_tokens=PRESETS["balanced"].config.max_length_tokens,
        writes_bits=_writes_bits(session, version),
        memory_bytes=values.reader_memory_bytes,
        cpu_seconds=math.ceil(values.reader_timeout_seconds),
    )


def _writes_bits(session: Session, version: DatasetVersion) -> bool:
    """Say whether the version is to have search bits of its own."""
    if version.num_rows < search.MIN_INDEXED:
        return False
    layers = examples.layers(version)
    below = session.scalar(
        select(func.max(SearchBits.version_id)).where(
            SearchBits.version_id.in_(layers), SearchBits.version_id != version.id
        )
    )
    if below is None:
        return True
    changed = session.scalar(
        select(func.count())
        .select_from(Example)
        .where(Example.version_id.in_([layer for layer in layers if layer > below]))
    )
    return (changed or 0) > search.MAX_UNINDEXED_CHANGES
