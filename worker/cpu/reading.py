"""The cpu worker's part of a dataset: a file's columns, then its examples; each under a lease.

    uploaded -> inspecting -> mapping (or confirmed, where the API's mapping is sure)
    confirmed -> building -> ready

The file is parsed in a child process (app/datasets/readers/reader.py) that knows no database.
"""

import math
import os
from array import array
from typing import IO, Any, Literal, NamedTuple

import structlog
from sqlalchemy.orm import Session

from app.core import clock, db, leases, plain_errors, settings, storage
from app.core.leases import Lease
from app.core.models import DatasetVersion, VersionStatus
from app.core.sentences import counted
from app.datasets import deletion, examples, parts, versions
from app.datasets.doctor import checks
from app.datasets.notes import Note
from app.datasets.privacy import reviews
from app.datasets.readers.inspections import ReadAs
from app.datasets.readers.process import ReaderProcess, seconds_for
from app.datasets.readers.reader import ReaderRequest
from app.datasets.readers.unreadable import Unreadable
from worker import leased
from worker.cpu import spool
from worker.leased import LeaseHolder, Unfinished

log = structlog.get_logger()


def read_next(worker_id: str) -> bool:
    """Take the oldest version that waits for the cpu queue one step further.

    Returns:
        Whether there was one; ask again until there is none.
    """
    return leased.run(
        leases.VERSIONS, worker_id, _fetch, _read, name="version", tidy=deletion.purge
    )


def _fetch(session: Session, lease: Lease) -> DatasetVersion | None:
    return session.get(DatasetVersion, lease.id)


def _read(holder: LeaseHolder, version: DatasetVersion) -> None:
    lease = holder.lease
    log.info("reading", version=version.id, attempt=lease.attempt, status=lease.status.value)
    try:
        if lease.status is VersionStatus.INSPECTING:
            _inspect(holder, version)
        else:
            _build(holder, version)
    except Unreadable as error:
        raise Unfinished(str(error)) from error
    except OSError as error:
        log.exception("reading_failed", version=version.id)
        raise Unfinished(
            f"The worker could not read the file ({plain_errors.words(error)}); "
            "ask your administrator to look at the disk of this machine."
        ) from error


def _inspect(holder: LeaseHolder, version: DatasetVersion) -> None:
    answer: dict[str, Any] = {}
    with _reader(holder.lease, version) as reader:
        for message in holder.hear(reader, reader.messages(holder.tell)):
            assert isinstance(message, dict)
            answer = message
    inspection = answer["inspection"]
    status, reason = VersionStatus.MAPPING, None
    if version.auto_confirm and inspection["is_sure"]:
        status = VersionStatus.CONFIRMED
    elif version.auto_confirm:
        status = VersionStatus.FAILED
        reason = (
            f"Only a person can say how a document is used. {inspection['why']} Confirm it on the "
            "Data page, or send pairs as JSONL."
            if inspection["way"]
            else f"It is not plain what this file's columns mean. {inspection['why']} Name them "
            "“messages”, or “prompt” and “completion”, or confirm the columns on the Data page."
        )
    with db.session() as session:
        leases.release(
            session,
            holder.lease,
            status,
            reason=reason,
            inspection=inspection,
            mapping=answer["mapping"],
        )
        session.commit()


def _build(holder: LeaseHolder, version: DatasetVersion) -> None:
    ranks, left_out, notes = array("Q"), examples.LeftOutRows(), list[Note]()
    with spool.nameless() as file, _reader(holder.lease, version) as reader:
        for message in holder.hear(reader, reader.messages(holder.tell)):
            if isinstance(message, bytes):
                ranks.append(int(message[: message.index(b"\t")]))
                file.write(message)
            elif "left_out" in message:
                left_out.add(*message["left_out"])
            elif "notes" in message:
                notes = [Note.model_validate(note) for note in message["notes"]]
        _refuse_too_few(len(ranks), left_out, version)
        file.seek(0)
        holder.tell({"rows": len(ranks), "phase": "writing"})
        _publish(holder.lease, version, ranks, _Read(left_out, notes), file)


class _Read(NamedTuple):
    left_out: examples.LeftOutRows
    notes: list[Note]


def _publish(
    lease: Lease,
    version: DatasetVersion,
    ranks: "array[int]",
    read: _Read,
    file: IO[bytes],
) -> None:
    drawn = parts.draw(ranks, version.validation_share)
    inspection = versions.inspection_of(version)
    assert inspection is not None
    inspection.left_out_rows = read.left_out.first_rows
    inspection.left_out_words = read.left_out.words
    inspection.notes = read.notes
    # One transaction: all examples and the status that says so, or none of it.
    with db.session() as session:
        written = examples.write(session, version, file, drawn)
        leases.release(
            session,
            lease,
            VersionStatus.READY,
            num_train=written.num_train,
            num_validation=written.num_validation,
            num_test=written.num_test,
            examples_sha256=written.sha256,
            left_out=read.left_out.counts,
            inspection=inspection.model_dump(mode="json"),
            token_lengths=None,
            model_fits=None,
            reason=None,
            ready_at=clock.NOW,
        )
        reviews.begin(session, version.id)
        checks.want(session, version)
        session.commit()


def _refuse_too_few(
    num_examples: int, left_out: examples.LeftOutRows, version: DatasetVersion
) -> None:
    wanted = settings.get().min_examples
    if num_examples >= wanted:
        return
    inspection = versions.inspection_of(version)
    if inspection is not None and inspection.way == "text" and num_examples > 0:
        made = counted(
            num_examples,
            "This document makes only 1 piece of text.",
            "This document makes only {n} pieces of text.",
        )
        raise Unreadable(
            f"{made} Training needs at least {wanted}: choose the columns again and make the "
            f"pieces shorter than {inspection.chunk_tokens} tokens, or upload a longer document."
        )
    sentences = [
        counted(
            num_examples,
            "This file makes only 1 example.",
            "This file makes only {n} examples.",
        )
        if num_examples
        else "This file makes no examples."
    ]
    if left_out.counts:
        reason, rows = max(left_out.counts.items(), key=lambda item: item[1])
        words = left_out.words.get(reason)
        sentences.append(f"{examples.rows_that(reason, rows, words)}.")
    sentences.append(
        f"Training needs at least {wanted}: add more questions with answers and upload the file "
        "again, or choose other columns."
    )
    raise Unreadable(" ".join(sentences))


def _reader(lease: Lease, version: DatasetVersion) -> ReaderProcess:
    values = settings.get()
    inspection = versions.inspection_of(version)
    read_as = ReadAs.model_validate(version.read_as or {})
    if inspection is not None:
        read_as = inspection.read_as(read_as)
    is_inspecting = lease.status is VersionStatus.INSPECTING
    task: Literal["inspect", "build"] = "inspect" if is_inspecting else "build"
    path = storage.file(version.file.storage_key, version.file.sha256)
    request = ReaderRequest(
        task=task,
        path=path,
        parent=os.getpid(),
        read_as=read_as,
        mapping=None if is_inspecting else versions.mapping_of(version),
        seed=version.split_seed,
        memory_bytes=values.reader_memory_bytes,
        cpu_seconds=math.ceil(seconds_for(task, path)),
    )
    return ReaderProcess(request)
