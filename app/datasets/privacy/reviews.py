"""The gate: a version's review from the scan to the decision; the only writer of its status.

People decide here (decide, state), workers carry out (worker/cpu/privacy.py), jobs ask (check).
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Mapped, Session, aliased, object_session

from app import notices
from app.core import audit, clock, settings
from app.core.db import read_once
from app.core.errors import Conflict, Invalid
from app.core.models import (
    DatasetVersion,
    Example,
    PrivacyFinding,
    PrivacyPattern,
    PrivacyReview,
    ReviewStatus,
    User,
    VersionStatus,
)
from app.core.sentences import counted, listed
from app.datasets import examples, states, versions
from app.datasets.privacy.findings import WORDS, Kind
from app.datasets.privacy.stand_ins import key_of

Action = Literal["replace", "blank", "leave_out", "keep"]
# By kind and by action, how many findings.
Done = dict[str, dict[str, int]]
MIN_REASON = 8
MAX_REASON = 500
MAX_SAID = 3
UNDECIDED = "privacy_undecided"
PENDING = states.PENDING

# What a job that waits for the search does not get past.
HOPELESS = (ReviewStatus.UNDECIDED, ReviewStatus.FAILED)


class Decision(BaseModel):
    """What is done with findings: of one value, else of its kind, else of all."""

    model_config = ConfigDict(extra="forbid")

    default: Action = "replace"
    kinds: dict[Kind, Action] = {}
    values: dict[str, Action] = Field(default={}, max_length=20_000)
    # Why something is kept; asked for as soon as anything is.
    reason: str = ""

    def action(self, kind: str, key: str) -> Action:
        """Return what is done with one finding."""
        return self.values.get(key) or self.kinds.get(Kind(kind)) or self.default

    @property
    def keeps(self) -> bool:
        return "keep" in (self.default, *self.kinds.values(), *self.values.values())

    @property
    def changes(self) -> bool:
        actions = {self.default, *self.kinds.values(), *self.values.values()}
        return bool(actions - {"keep"})


def of(db: Session, version_id: int) -> PrivacyReview | None:
    """Return a version's review, if there is one."""
    return db.scalars(
        select(PrivacyReview).where(PrivacyReview.version_id == version_id)
    ).one_or_none()


@read_once
def around(db: Session, version_id: int) -> tuple[PrivacyReview | None, PrivacyReview | None]:
    """Return a version's review, and that of the version from which it was made by a decision."""
    both = or_(
        PrivacyReview.version_id == version_id, PrivacyReview.result_version_id == version_id
    )
    found = list(db.scalars(select(PrivacyReview).where(both)))
    own = next((each for each in found if each.version_id == version_id), None)
    return own, next((each for each in found if each is not own), None)


def num_taken_out(before: PrivacyReview | None) -> int:
    """Count the details that a version lacks since a decision: it was made from one that had them.

    A decision alone says nothing of that: one made beforehand stands where nothing was found, too.

    Args:
        before: The review of the version from which it was made (`around`).
    """
    by_actions = ((before.done if before else None) or {}).values()
    return sum(n for each in by_actions for action, n in each.items() if action != "keep")


def of_many(db: Session, version_ids: Sequence[int]) -> dict[int, PrivacyReview]:
    """Return the reviews of some versions, by version id."""
    rows = db.scalars(select(PrivacyReview).where(PrivacyReview.version_id.in_(version_ids)))
    return {review.version_id: review for review in rows}


def begin(db: Session, version_id: int) -> None:
    """Have a version that is now ready looked through; a cpu worker does it."""
    review = of(db, version_id)
    if review is not None:
        if review.status is ReviewStatus.STATED:
            review.status = ReviewStatus.WAITING
            db.flush()
    elif settings.get().privacy_gate != "off":
        db.add(PrivacyReview(version_id=version_id, status=ReviewStatus.WAITING))
        db.flush()


def scan_again(db: Session, user: User, version: DatasetVersion) -> None:
    """Look through a version once more, e.g. after a failure or with a new pattern.

    Raises:
        Conflict: it is not ready, or is being looked through or changed just now.
    """
    versions.require_editor(user)
    if version.status is not VersionStatus.READY:
        raise Conflict("This version is not ready yet; wait until its examples are made.")
    review = _locked(db, version)
    if review is None:
        db.add(PrivacyReview(version_id=version.id, status=ReviewStatus.WAITING))
        db.flush()
        return
    if review.status not in (ReviewStatus.FAILED, ReviewStatus.UNDECIDED, ReviewStatus.DECIDED):
        raise Conflict("This version is being searched right now, or was replaced.")
    review.status, review.strikes, review.reason = ReviewStatus.WAITING, 0, None
    review.decision, review.decided_by_id, review.decided_at = None, None, None
    review.is_stated = False
    db.flush()


def check(
    db: Session, version: DatasetVersion, *, may_wait: bool = False, field: str = "version_id"
) -> bool:
    """Let a version pass that may be learned from.

    Args:
        may_wait: So may one of which nobody can say that yet; who learns from it waits for that.
        field: What names the version, for what is wrong with it.

    Returns:
        Whether it has to be waited for.

    Raises:
        Conflict: nobody has decided about it yet; with the code `privacy_undecided`.
    """
    review = of(db, version.id)
    if states.passes_gate(review):
        return False
    standing = states.standing(version, review)
    if review is not None and review.result_version_id is not None:
        following = db.get_one(DatasetVersion, review.result_version_id)
        raise Conflict(
            f"The personal details in this version were taken out in version "
            f"{following.number}; choose that one.",
            field=field,
            code=UNDECIDED,
        )
    # It is searched as soon as it is read (`begin`).
    is_coming = (
        version.status is not VersionStatus.READY if review is None else review.status in PENDING
    )
    if may_wait and is_coming:
        return True
    page = f"See the page /versions/{version.id}/privacy."
    raise Conflict(f"{standing.why_not} {page}", field=field, code=UNDECIDED)


def found_sentence(version: DatasetVersion, found: dict[str, int]) -> str:
    """Say what stands in the way of a job that waited for this version's search."""
    number = sum(found.values())
    details = "1 personal detail was" if number == 1 else f"{number:,} personal details were"
    return (
        f"{details} found in “{version.dataset.name}”, version {version.number}: "
        f"{list_counts(found)}. Decide about them on the page /versions/{version.id}/privacy, or "
        "send x_privacy with the job; then make it again."
    )


def pending(db: Session, version_ids: Sequence[int]) -> dict[int, bool]:
    """Return which of these are not through yet, and whether of each it was decided beforehand."""
    rows = db.execute(
        select(PrivacyReview.version_id, PrivacyReview.is_stated).where(
            PrivacyReview.version_id.in_(version_ids), PrivacyReview.status.in_(PENDING)
        )
    )
    return {row.version_id: row.is_stated for row in rows}


def settled(
    version_id: Any, awaits_scan: ColumnElement[bool] | Mapped[bool] | None = None
) -> ColumnElement[bool]:
    """Say, in a query, that nothing is still to be done about a version before it is learned from.

    Args:
        awaits_scan: Whether the job in question waits for the search as well (Job.awaits_scan); a
            decision made beforehand is waited for by all.
    """
    is_held = and_(PrivacyReview.is_stated, PrivacyReview.status.in_(PENDING))
    if awaits_scan is not None:
        is_held |= and_(awaits_scan, PrivacyReview.status.in_((*PENDING, *HOPELESS)))
    return ~exists().where(PrivacyReview.version_id == version_id, is_held)


# --- deciding ------------------------------------------------------------------------------


def decide(db: Session, user: User, version: DatasetVersion, decision: Decision) -> PrivacyReview:
    """Settle what happens to what was found; whatever changes the rows is a worker's.

    Raises:
        Forbidden: viewers look only.
        Invalid: something is kept without a reason, or too few rows would be left; with the field
            `reason`.
        Conflict: it is not looked through yet, or decided already.
    """
    versions.require_editor(user)
    _check_reason(decision)
    review = _locked(db, version)
    if review is None or review.status is not ReviewStatus.UNDECIDED:
        raise Conflict("This version is not waiting for a decision; reload the page.")
    _check_what_is_left(db, version, decision)
    _settle(db, user, version, review, decision)
    return review


def state(
    db: Session, user: User, version: DatasetVersion, decision: Decision, *, is_ours: bool = False
) -> None:
    """Decide before the findings are seen: a program's owner, or we about our own sample.

    What is decided already stays decided.

    Args:
        is_ours: Etude decided, about a sample of its own; `user` only asked for that.

    Raises:
        Forbidden, Invalid: as for decide.
    """
    versions.require_editor(user)
    _check_reason(decision)
    review = _locked(db, version)
    if review is not None and review.status is ReviewStatus.UNDECIDED:
        review.is_stated = True  # what is made of it now follows the decision
        _settle(db, user, version, review, decision)
        return
    if review is not None and (review.status not in PENDING or review.is_stated):
        return
    if review is None:
        is_ready = version.status is VersionStatus.READY
        status = ReviewStatus.WAITING if is_ready else ReviewStatus.STATED
        review = PrivacyReview(version_id=version.id, status=status)
        db.add(review)
    review.is_stated = True
    _sign(review, None if is_ours else user, decision)
    db.flush()
    audit.record(
        db,
        user,
        "privacy.state",
        f"dataset version {version.id}",
        decision=decision.default,
        reason=_masked(db, version, decision.reason),
    )


def after_scan(db: Session, version: DatasetVersion, review: PrivacyReview) -> dict[str, Any]:
    """Return what a review becomes once its findings stand in the table; the caller releases."""
    counts = count(db, version)
    values: dict[str, Any] = {"found": counts, "num_examples": num_examples(db, version)}
    subject = f"dataset version {version.id}"
    if not counts:
        audit.record(db, review.decided_by, "privacy.clear", subject, found={})
        # What was kept in an earlier version and still stands here is not forgotten.
        clear = {"status": ReviewStatus.DECIDED, "decided_at": clock.NOW, "done": kept(db, version)}
        return values | clear
    if review.decision is None:
        notices.decision_needed(db, version)
        return values | {"status": ReviewStatus.UNDECIDED}
    decision = Decision.model_validate(review.decision)
    done = _record(db, review.decided_by, version, decision, counts)
    status = ReviewStatus.REQUESTED if decision.changes else ReviewStatus.DECIDED
    return values | {"status": status, "done": _with_earlier(done, kept(db, version))}


def _settle(
    db: Session, user: User, version: DatasetVersion, review: PrivacyReview, decision: Decision
) -> None:
    _sign(review, user, decision)
    done = _record(db, user, version, decision, review.found or {})
    actions = {action for by_action in done.values() for action in by_action}
    review.done = _with_earlier(done, kept(db, version))
    review.status = ReviewStatus.REQUESTED if actions - {"keep"} else ReviewStatus.DECIDED
    db.flush()
    notices.decision_made(db, version)


def _sign(review: PrivacyReview, user: User | None, decision: Decision) -> None:
    review.decision = decision.model_dump(mode="json")
    review.decided_by_id = None if user is None else user.id
    review.decided_at = clock.NOW


def _record(
    db: Session,
    user: User | None,
    version: DatasetVersion,
    decision: Decision,
    counts: dict[str, int],
) -> Done:
    done = done_by(db, version, decision)
    audit.record(
        db,
        user,
        "privacy.decide",
        f"dataset version {version.id}",
        found=counts,
        done=done,
        reason=_masked(db, version, decision.reason),
    )
    return done


def _with_earlier(done: Done, earlier: Done) -> Done:
    whole = {kind: dict(by_action) for kind, by_action in done.items()}
    for kind, by_action in earlier.items():
        mine = whole.setdefault(kind, {})
        mine["keep"] = mine.get("keep", 0) + by_action["keep"]
    return whole


def done_by(db: Session, version: DatasetVersion, decision: Decision) -> Done:
    """Count what a decision does with the open findings, value by value.

    A row that is left out for one of them takes all its others along, whatever was chosen for them.
    """
    done: Done = {}
    going = _rows_going(db, version, decision)
    goes = PrivacyFinding.index.in_(going) if going is not None else false()
    rows = _open(
        version, PrivacyFinding.kind, PrivacyFinding.key, goes.label("goes"), func.count()
    ).group_by(PrivacyFinding.kind, PrivacyFinding.key, "goes")
    for kind, key, is_gone, number in db.execute(rows):
        by_action = done.setdefault(kind, {})
        action = "leave_out" if is_gone else decision.action(kind, key)
        by_action[action] = by_action.get(action, 0) + number
    return {kind: done[kind] for kind in Kind if kind in done}


def _check_what_is_left(db: Session, version: DatasetVersion, decision: Decision) -> None:
    going = rows_left_out(db, version, decision)
    if not going:
        return
    left, wanted = version.num_rows - going, settings.get().min_examples
    if left < wanted:
        raise Invalid(
            f"Leaving out {counted(going, '1 example', '{n} examples')} would leave "
            f"{counted(left, '1', '{n}')}, and training needs at least {wanted}; replace or blank "
            "out some of the details.",
            field="reason",
        )


def rows_left_out(db: Session, version: DatasetVersion, decision: Decision) -> int:
    """Count the examples that a decision leaves out."""
    going = _rows_going(db, version, decision)
    if going is None:
        return 0
    return db.scalars(select(func.count()).select_from(going.subquery())).one()


def _rows_going(db: Session, version: DatasetVersion, decision: Decision) -> Any:
    """Select the examples that a decision leaves out, each once; None: it leaves none out."""
    values = [each for each in _keys(db, version) if decision.action(*each) == "leave_out"]
    if not values:
        return None
    is_one = tuple_(PrivacyFinding.kind, PrivacyFinding.key).in_(values)
    return _open(version, PrivacyFinding.index).where(is_one).distinct()


def _check_reason(decision: Decision) -> None:
    if not decision.keeps:
        return
    length = len(decision.reason.strip())
    if length < MIN_REASON:
        raise Invalid(
            "To keep personal details, write a sentence on why that is right, for the record.",
            field="reason",
        )
    if length > MAX_REASON:
        raise Invalid(f"Use at most {MAX_REASON} characters.", field="reason")


def _masked(db: Session, version: DatasetVersion, reason: str) -> str:
    """Return a reason without what was found: that must not stand in the audit log."""
    words = reason.split()
    spans = [
        (start, end, kind, key_of(kind, " ".join(words[start:end]).strip(".,;:!?()“”\"'")))
        for start in range(len(words))
        for end in range(start + 1, min(start + 5, len(words)) + 1)
        for kind in Kind
    ]
    layers = examples.layers(version)
    known = set(
        db.scalars(
            select(PrivacyFinding.key).where(
                PrivacyFinding.version_id.in_(layers),
                PrivacyFinding.key.in_({key for *_, key in spans}),
            )
        )
    )
    taken: set[int] = set()
    for start, end, kind, key in sorted(spans, key=lambda span: span[0] - span[1]):
        if key in known and not taken & set(range(start, end)):
            taken |= set(range(start, end))
            words[start:end] = [f"[{WORDS[kind][0]}]"] + [""] * (end - start - 1)
    return " ".join(word for word in words if word)


def _locked(db: Session, version: DatasetVersion) -> PrivacyReview | None:
    versions.lock(db, version)
    return db.scalars(
        select(PrivacyReview)
        .where(PrivacyReview.version_id == version.id)
        .with_for_update(of=PrivacyReview)
        .execution_options(populate_existing=True)
    ).one_or_none()


# --- findings ------------------------------------------------------------------------------


def _open(version: DatasetVersion, *columns: Any) -> Any:
    """Select of the findings that nobody has decided about: of rows that count in this version."""
    return _of_layers(version, open_layers(version), *columns)


def _standing(version: DatasetVersion, *columns: Any) -> Any:
    """Select of all findings in rows that count in this version, decided about or not."""
    return _of_layers(version, examples.layers(version), *columns)


def _of_layers(version: DatasetVersion, layers: list[int], *columns: Any) -> Any:
    if layers == [version.id]:  # its own rows: none is newer
        return select(*columns).where(PrivacyFinding.version_id == version.id)
    newer = select(Example.index).where(
        Example.version_id.in_(examples.layers(version)),
        Example.version_id > PrivacyFinding.version_id,
        Example.index == PrivacyFinding.index,
    )
    return select(*columns).where(
        PrivacyFinding.version_id.in_(layers), ~newer.correlate(PrivacyFinding).exists()
    )


def open_layers(version: DatasetVersion) -> list[int]:
    """Return the layers down to the first that was decided: its findings are settled."""
    db = object_session(version)
    assert db is not None
    ids = examples.layers(version)
    decided = set(
        db.scalars(
            select(PrivacyReview.version_id).where(
                PrivacyReview.version_id.in_(ids[1:]),
                PrivacyReview.status == ReviewStatus.DECIDED,
            )
        )
    )
    kept = ids[:1]
    for layer in ids[1:]:
        if layer in decided:
            break
        kept.append(layer)
    return kept


def count(db: Session, version: DatasetVersion) -> dict[str, int]:
    """Count the open findings by kind."""
    query = _open(version, PrivacyFinding.kind, func.count()).group_by(PrivacyFinding.kind)
    rows = dict(db.execute(query).all())
    return {kind.value: rows[kind.value] for kind in Kind if kind.value in rows}


def kept(db: Session, version: DatasetVersion) -> Done:
    """Count, by kind, what was kept in an earlier version and still stands in this one."""
    still_open = open_layers(version)
    layers = [layer for layer in examples.layers(version) if layer not in still_open]
    return _kept(db, _of_layers(version, layers, PrivacyFinding.kind, func.count()))


def standing(db: Session, version: DatasetVersion) -> Done:
    """Count, by kind, what stands in a version that was made by a decision: it was kept."""
    return _kept(db, _standing(version, PrivacyFinding.kind, func.count()))


def _kept(db: Session, query: Any) -> Done:
    rows = db.execute(query.group_by(PrivacyFinding.kind))
    return {kind: {"keep": number} for kind, number in rows}


def num_examples(db: Session, version: DatasetVersion) -> int:
    """Count the examples that hold an open finding."""
    query = _open(version, PrivacyFinding.index).distinct().subquery()
    return db.scalars(select(func.count()).select_from(query)).one()


def values(db: Session, version: DatasetVersion, kind: Kind, limit: int) -> list[Any]:
    """Return the most frequent values of a kind: key, how often, and where one of each stands.

    Of a version that was decided about: the values that were kept in it.
    """
    first_index = func.min(PrivacyFinding.index)
    number_of_rows = func.count(PrivacyFinding.index.distinct())
    query = (
        _shown(
            db,
            version,
            PrivacyFinding.key,
            func.count().label("number"),
            number_of_rows.label("num_examples"),
            first_index.label("index"),
        )
        .where(PrivacyFinding.kind == kind.value)
        .group_by(PrivacyFinding.key)
        .order_by(func.count().desc(), first_index)
        .limit(limit)
    )
    return list(db.execute(query).all())


def places(
    db: Session, version: DatasetVersion, keys: Sequence[str], limit: int
) -> list[PrivacyFinding]:
    """Return the first findings of each of these values, at most `limit` of each, in order."""
    order = (PrivacyFinding.index, PrivacyFinding.text, PrivacyFinding.start)
    # One place an example: a second sentence of the same row tells less.
    of_row = func.row_number().over(
        partition_by=(PrivacyFinding.key, PrivacyFinding.index), order_by=order[1:]
    )
    first = _shown(db, version, PrivacyFinding, of_row.label("of_row")).where(
        PrivacyFinding.key.in_(keys)
    )
    inner = first.subquery()
    finding = aliased(PrivacyFinding, inner)
    nth = func.row_number().over(
        partition_by=inner.c.key, order_by=(inner.c.index, inner.c.text, inner.c.start)
    )
    ranked = select(finding, nth.label("nth")).where(inner.c.of_row == 1).subquery()
    chosen = aliased(PrivacyFinding, ranked)
    query = select(chosen).where(ranked.c.nth <= limit)
    return list(db.scalars(query.order_by(ranked.c.index, ranked.c.text, ranked.c.start)))


def at(db: Session, version: DatasetVersion, indices: Sequence[int]) -> list[PrivacyFinding]:
    """Return the open findings of some examples, in order."""
    query = _open(version, PrivacyFinding).where(PrivacyFinding.index.in_(indices))
    order = (PrivacyFinding.index, PrivacyFinding.text, PrivacyFinding.start)
    return list(db.scalars(query.order_by(*order)))


def _shown(db: Session, version: DatasetVersion, *columns: Any) -> Any:
    review = of(db, version.id)
    is_decided = review is not None and review.status is ReviewStatus.DECIDED
    return (_standing if is_decided else _open)(version, *columns)


def indices(db: Session, version: DatasetVersion, after: int, limit: int) -> list[int]:
    """Return the next examples that hold an open finding."""
    query = _open(version, PrivacyFinding.index).where(PrivacyFinding.index > after).distinct()
    return list(db.scalars(query.order_by(PrivacyFinding.index).limit(limit)))


def _keys(db: Session, version: DatasetVersion) -> list[tuple[str, str]]:
    query = _open(version, PrivacyFinding.kind, PrivacyFinding.key).distinct()
    return [(kind, key) for kind, key in db.execute(query)]


def forget(db: Session, version_ids: Sequence[int]) -> None:
    """Remove the findings of versions that are deleted; the counts stay with the reviews."""
    db.execute(delete(PrivacyFinding).where(PrivacyFinding.version_id.in_(version_ids)))
    db.execute(
        update(PrivacyReview)
        .where(
            PrivacyReview.version_id.in_(version_ids),
            PrivacyReview.status.in_((*PENDING, ReviewStatus.UNDECIDED)),
        )
        .values(
            status=ReviewStatus.FAILED,
            reason="The dataset was deleted.",
            worker_id=None,
            lease_until=None,
            progress=None,
        )
    )


def patterns(db: Session) -> list[PrivacyPattern]:
    """Return the site's own patterns."""
    return list(db.scalars(select(PrivacyPattern).order_by(PrivacyPattern.name)))


def counts_of(done: Done, action: Action) -> dict[str, int]:
    """Return, by kind, how many findings an action was taken with."""
    return {kind: by_action[action] for kind, by_action in done.items() if by_action.get(action)}


def list_counts(counts: dict[str, int]) -> str:
    """List e.g. “14 names and 3 phone numbers”; kinds beyond a few are summed up."""
    largest = sorted(counts.items(), key=lambda item: -item[1])
    rest = sum(number for _, number in largest[MAX_SAID:]) if len(largest) > MAX_SAID + 1 else 0
    said = largest[:MAX_SAID] if rest else largest
    parts = [f"{number:,} {WORDS[Kind(kind)][number != 1]}" for kind, number in said]
    if rest:
        parts.append(f"{rest:,} other details")
    return listed(parts)
