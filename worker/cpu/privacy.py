"""The cpu worker's part of the privacy gate: the scan, then the replacing; each under a lease.

    waiting -> scanning -> undecided, or at once what was decided beforehand
    requested -> replacing -> replaced, and a derived version that may be learned from

The texts go to a child process (app/datasets/privacy/__main__.py) that has no credentials. What was
found is written to no log: places and counts only.
"""

import json
import math
import os
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import IO, Any

import structlog
from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.core import db, leases, settings
from app.core.child import BrokeOff, Child
from app.core.errors import AppError
from app.core.leases import Lease
from app.core.models import (
    DatasetVersion,
    Example,
    PrivacyFinding,
    PrivacyReview,
    ReviewStatus,
)
from app.core.sentences import counted
from app.datasets import changes, examples
from app.datasets.changes import Change
from app.datasets.privacy import reviews, texts
from app.datasets.privacy.findings import Kind
from app.datasets.privacy.request import ScanRequest
from app.datasets.privacy.reviews import Action, Decision
from app.datasets.privacy.stand_ins import StandIns
from app.jobs import inputs
from worker import leased
from worker.cpu import spool
from worker.leased import LeaseHolder, Unfinished

log = structlog.get_logger()
_BATCH = 500
_WHY: dict[Action, str] = {
    "replace": "{found} replaced by stand-ins",
    "blank": "{found} blanked",
}


def review_next(worker_id: str) -> bool:
    """Take the oldest review that waits for a worker one step further.

    Returns:
        Whether there was one; ask again until there is none.
    """
    return leased.run(leases.PRIVACY, worker_id, _fetch, _review, name="review")


def _fetch(session: Session, lease: Lease) -> DatasetVersion | None:
    review = session.get(PrivacyReview, lease.id)
    return session.get(DatasetVersion, review.version_id) if review else None


def _review(holder: LeaseHolder, version: DatasetVersion) -> None:
    lease = holder.lease
    log.info("privacy", version=version.id, attempt=lease.attempt, status=lease.status.value)
    try:
        if lease.status is ReviewStatus.SCANNING:
            _scan(holder, version)
        else:
            _replace(holder, version)
    except AppError as error:
        raise Unfinished(str(error)) from error


# --- scanning ------------------------------------------------------------------------------


def _scan(holder: LeaseHolder, version: DatasetVersion) -> None:
    with spool.nameless() as file:
        with _child(version) as child:
            for hits in holder.hear(child, _hits(child, holder)):
                file.write(json.dumps(hits).encode() + b"\n")
        file.seek(0)
        _publish(holder.lease, version, file)


def _publish(lease: Lease, version: DatasetVersion, file: IO[bytes]) -> None:
    # One transaction: all findings and the status that says so, or none of it.
    with db.session() as session:
        session.execute(delete(PrivacyFinding).where(PrivacyFinding.version_id == version.id))
        _store(session, version.id, file)
        review = session.get_one(PrivacyReview, lease.id)
        values = reviews.after_scan(session, session.get_one(DatasetVersion, version.id), review)
        leases.release(session, lease, values.pop("status"), reason=None, **values)
        inputs.fail_hopeless(session)  # who waited for this search hears of it with its result
        session.commit()


def _store(session: Session, version_id: int, file: IO[bytes]) -> None:
    connection: Any = session.connection().connection.driver_connection
    columns = 'version_id, index, text, start, "end", kind, key'
    with connection.cursor().copy(f"COPY privacy_finding ({columns}) FROM STDIN") as copy:
        for line in file:
            index, hits = json.loads(line)
            for text, start, end, kind, key in hits:
                copy.write_row((version_id, index, text, start, end, kind, key))


def _child(version: DatasetVersion) -> Child:
    values = settings.get()
    with db.session() as session:
        patterns = [(each.kind, each.pattern) for each in reviews.patterns(session)]
    request = ScanRequest(
        parent=os.getpid(),
        memory_bytes=values.reader_memory_bytes,
        cpu_seconds=math.ceil(values.privacy_timeout_seconds),
        patterns=patterns,
        recognizer=values.privacy_recognizer,
    )
    return Child(
        "app.datasets.privacy",
        request.model_dump_json(),
        ends=['{"end"'],
        timeout_seconds=values.privacy_timeout_seconds,
        # A site's own model may lie on the path.
        environment={"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        feed=partial(_texts, version),
    )


def _texts(version: DatasetVersion) -> Iterator[bytes]:
    """Yield the version's own rows, as the scanning process wants them."""
    with db.session() as session:
        for batch in examples.own(session, version):
            for row in batch:
                line = [row["index"], texts.read(row["messages"] + (row["tools"] or []))]
                yield json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _hits(child: Child, holder: LeaseHolder) -> Iterator[list[Any]]:
    """Yield what was found, an example each, until the child has ended well.

    Raises:
        Unfinished: it ended early.
    """
    try:
        for line in child.lines():
            message = json.loads(line)
            if isinstance(message, list):
                yield message
            elif "examples" in message:
                holder.tell(message)
            elif message["given_up"]:
                log.warning("privacy.pattern_too_slow", texts=message["given_up"])
    except BrokeOff as error:
        raise Unfinished(_how_it_broke_off(error)) from None


def _how_it_broke_off(error: BrokeOff) -> str:
    # The trace alone, which names our own lines: the last one may hold a text.
    lines = error.tail.splitlines()
    trace = [line.strip() for line in lines if line.lstrip().startswith("File ")]
    log.error("privacy.broke_off", code=error.code, trace=trace[-3:])
    if error.is_late:
        return (
            "Looking for personal details took longer than "
            f"{settings.get().privacy_timeout_seconds / 60:,.0f} minutes; split the data into "
            "smaller files, or ask your administrator to raise ETUDE_PRIVACY_TIMEOUT_SECONDS."
        )
    return (
        f"Looking for personal details broke off (code {error.code}); start it again, or ask your "
        "administrator to look at the worker's log."
    )


# --- replacing -----------------------------------------------------------------------------


def _replace(holder: LeaseHolder, version: DatasetVersion) -> None:
    with db.session() as session, db.session() as reading:
        review = session.get_one(PrivacyReview, holder.lease.id)
        base = session.get_one(DatasetVersion, version.id)
        user = review.decided_by
        assert user is not None
        decision = Decision.model_validate(review.decision)
        used = _used(session, base)
        stand_ins = StandIns(used, _names(reading, base, decision))
        why = _why(session, base, decision)
        with spool.nameless() as still_there:
            made = _changes(reading, base, decision, stand_ins, holder, still_there)
            following = changes.derive(session, user, base, made, why, patience_seconds=None)
            still_there.seek(0)
            _store(session, following.id, still_there)
        done = reviews.of(session, following.id)
        if done is None:
            done = PrivacyReview(version_id=following.id)
            session.add(done)
        done.status = ReviewStatus.DECIDED
        # What was kept is listed as kept in the version that follows, too.
        done.done = reviews.standing(session, following)
        done.found, done.num_examples = reviews.counts_of(done.done, "keep"), 0
        done.decision, done.decided_by_id = review.decision, user.id
        done.decided_at, done.stand_ins = review.decided_at, stand_ins.used
        session.flush()
        inputs.use_instead(session, base.id, following.id, is_stated=review.is_stated)
        values = {"reason": None, "result_version_id": following.id}
        leases.release(session, holder.lease, ReviewStatus.REPLACED, **values)
        session.commit()


def _changes(
    reading: Session,
    base: DatasetVersion,
    decision: Decision,
    stand_ins: StandIns,
    holder: LeaseHolder,
    still_there: IO[bytes],
) -> Iterator[Change]:
    """Yield what becomes of each example, and write down where what is kept stands afterwards."""
    num_changed = 0
    for example, findings in _findings_by_example(reading, base):
        num_changed += 1
        if num_changed % _BATCH == 0:
            holder.tell({"examples": num_changed})
            holder.check()
        actions = [decision.action(finding.kind, finding.key) for finding in findings]
        if "leave_out" in actions:
            yield Change(example.index, is_removed=True)
            continue
        if set(actions) == {"keep"}:
            continue
        said = _said(example)
        written, kept = _rewritten(texts.read(said), findings, actions, stand_ins)
        if kept:
            still_there.write(json.dumps([example.index, kept]).encode() + b"\n")
        changed = texts.write(said, written)
        num_turns = len(example.messages)
        tools = changed[num_turns:] if example.tools else None
        yield Change(example.index, changed[:num_turns], tools=tools)


def _rewritten(
    whole: list[str], findings: list[PrivacyFinding], actions: list[Action], stand_ins: StandIns
) -> tuple[list[str], list[tuple[int, int, int, str, str]]]:
    """Return an example's texts without what goes, and where in them the rest of it stands."""
    parts: list[list[str]] = [[] for _ in whole]
    taken = [0 for _ in whole]  # how much of each text is in its parts
    lengths = [0 for _ in whole]
    kept = []

    def put(at: int, piece: str) -> None:
        parts[at].append(piece)
        lengths[at] += len(piece)

    for finding, action in zip(findings, actions, strict=True):
        at, text = finding.text, whole[finding.text]
        value = text[finding.start : finding.end]
        put(at, text[taken[at] : finding.start])
        if action == "keep":
            start = lengths[at]
            kept.append((at, start, start + len(value), finding.kind, finding.key))
            put(at, value)
        else:
            # Numbers are given out in reading order.
            put(at, stand_ins.of(Kind(finding.kind), value) if action == "replace" else "___")
        taken[at] = finding.end
    for at, text in enumerate(whole):
        put(at, text[taken[at] :])
    return ["".join(each) for each in parts], kept


def _said(example: Example) -> list[Any]:
    """Return all that is in an example: its turns, and the tools that it offers."""
    return example.messages + (example.tools or [])


def _findings_by_example(
    reading: Session, base: DatasetVersion
) -> Iterator[tuple[Example, list[PrivacyFinding]]]:
    """Yield each example that holds findings, with them in order of their places."""
    version = reading.get_one(DatasetVersion, base.id)
    after = -1
    while batch := reviews.indices(reading, version, after, _BATCH):
        rows = {row.index: row for row in examples.at(reading, version, batch)}
        in_order = reviews.at(reading, version, batch)
        for index, findings in groupby(in_order, key=lambda finding: finding.index):
            if index in rows:
                yield rows[index], list(findings)
        reading.expunge_all()
        version = reading.get_one(DatasetVersion, base.id)
        after = batch[-1]


def _names(reading: Session, base: DatasetVersion, decision: Decision) -> set[str]:
    names = set()
    for example, findings in _findings_by_example(reading, base):
        whole = texts.read(_said(example))
        for finding in findings:
            if (
                finding.kind == Kind.NAME.value
                and decision.action(finding.kind, finding.key) == "replace"
            ):
                names.add(whole[finding.text][finding.start : finding.end])
    return names


def _used(session: Session, base: DatasetVersion) -> dict[str, int]:
    used: dict[str, int] = {}
    for layer in examples.layers(base):
        review = reviews.of(session, layer)
        for kind, number in (review.stand_ins or {}).items() if review else ():
            used[kind] = max(number, used.get(kind, 0))
    return used


def _why(session: Session, base: DatasetVersion, decision: Decision) -> str:
    done = reviews.done_by(session, base, decision)
    said = [
        words.format(found=reviews.list_counts(counts))
        for action, words in _WHY.items()
        if (counts := reviews.counts_of(done, action))
    ]
    if num_rows := reviews.rows_left_out(session, base, decision):
        said.append(counted(num_rows, "1 example left out", "{n} examples left out"))
    return ", ".join(said)
