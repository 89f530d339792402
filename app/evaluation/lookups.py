"""Looking answers up: rows of a version before each question, as the arm LOOKUP has them.

What answers so is a row of `adapter` without weights, or a tuned one that has a version to look in.
The rows that stood in a prompt are told with the answer, by their places in the version.
"""

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import NamedTuple

from sqlalchemy import literal, select
from sqlalchemy.orm import Session

from app.adapters import lessons, registry, sharing
from app.base_models import registry as base_models
from app.core import audit
from app.core.confined.chat import ConfinedChat
from app.core.errors import Conflict, Forbidden, Invalid, Unavailable
from app.core.models import (
    Adapter,
    AdapterKind,
    Arm,
    BaseModel,
    Dataset,
    DatasetVersion,
    Evaluation,
    Example,
    ExampleKind,
    Json,
    ModelStatus,
    User,
    VersionStatus,
)
from app.datasets import examples, versions
from app.datasets.privacy import reviews
from app.evaluation import arms, retrieval
from app.evaluation.retrieval import PracticeRows
from app.people.auth import can_edit
from app.training.answers import AnswerRequest
from app.training.chat import ChatError
from app.training.plan.shape import context_tokens

NOTHING_ALIKE = "No row of your data is like this question."
_TOO_LARGE = 4096  # what answers gives a chat no more room than that
# A word of a template around each turn; and letters of a token where no tokenizer can be read.
_TOKENS_A_TURN, _BYTES_A_TOKEN = 8, 3
_MAX_INDEXES = 4
_NAMES = {
    AdapterKind.LOOKUP: "{data}, looked up",
    AdapterKind.ALONE: "{data}, without training",
}
_WORDS = {AdapterKind.LOOKUP: "lookup", AdapterKind.ALONE: "untrained"}  # in names for programs
_Key = tuple[int, datetime, str | None]


class Looked(NamedTuple):
    """What is asked, with the rows that stand in it; None: nothing is looked up."""

    request: AnswerRequest
    sources: list[Json] | None


@dataclass(frozen=True)
class Source:
    """A row that an answer was taken from, as it stands in the version."""

    version: DatasetVersion
    row: Example
    question: str
    answer: str


# --- asking ----------------------------------------------------------------------------------


def look_up(db: Session, adapter: Adapter | None, request: AnswerRequest) -> Looked:
    """Put rows before the question if this adapter, or none, is one that looks them up."""
    version = adapter.lookup_version if adapter is not None and adapter.looks_up else None
    if adapter is None or version is None or _is_text(request.messages):
        return Looked(request, None)
    return with_rows(db, version, adapter.base_model, request)


def with_rows(
    db: Session, version: DatasetVersion, base: BaseModel, request: AnswerRequest
) -> Looked:
    """Put the practice rows before the last question that are most alike to it.

    Up to four, as many as fit into half of what the model reads at once.
    """
    asked = [turn for turn in request.messages if turn["role"] == "user"]
    if not asked:
        return Looked(request, [])
    index = _index(db, version)
    alike = index.nearest(arms.question_of(asked[-1:]), arms.NUM_LOOKED_UP)
    found = {row.index: row for row in examples.at(db, version, alike)}
    rows = [
        arms.Row(place, *retrieval.row_of(found[place].messages))
        for place in alike
        if place in found
    ]
    most = min(context_tokens(base.config or {}) or _TOO_LARGE, _TOO_LARGE) // 2
    told = arms.asked(
        Arm.LOOKUP, request.messages, rows, lambda messages: _num_tokens(base, messages) <= most
    )
    sources: list[Json] = [
        {"version": version.id, **one} if "index" in one else one for one in told.sources or []
    ]
    if not rows:
        sources.append({"note": NOTHING_ALIKE})
    if index.note:
        sources.append({"note": index.note})
    return Looked(request.model_copy(update={"messages": told.messages}), sources)


def sources(db: Session, kept: Sequence[Json] | None) -> list[Source]:
    """Return the rows that an answer was taken from, as far as they are still there."""
    found: list[Source] = []
    for one in kept or ():
        if "index" not in one:
            continue
        version = db.get(DatasetVersion, one["version"])
        if version is None or version.dataset.deleted_at is not None:
            continue
        row = examples.get(db, version, one["index"])
        if row is not None:
            found.append(Source(version, row, *retrieval.row_of(row.messages)))
    return found


def note(kept: Sequence[Json] | None) -> str:
    """Return what there is to say of the rows, in sentences."""
    return " ".join(one["note"] for one in kept or () if "note" in one)


class _Indexes:
    """The newest few indexes, in memory: a version's rows never change once it is ready."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, PracticeRows] = OrderedDict()
        self._lock = Lock()
        self._making: dict[_Key, Lock] = {}

    def get(self, db: Session, version: DatasetVersion) -> PracticeRows:
        key = (version.id, version.created_at, version.examples_sha256)
        with self._lock:
            self._forget_deleted(db)
            making = self._making.setdefault(key, Lock())
        # A large version takes seconds: whoever asks another one does not wait for it.
        with making:
            with self._lock:
                found = self._kept.get(key)
            if found is None:
                found = PracticeRows.read(db, version)
            with self._lock:
                self._kept[key] = found
                self._kept.move_to_end(key)
                while len(self._kept) > _MAX_INDEXES:
                    self._kept.popitem(last=False)
                self._making.pop(key, None)
        return found

    def _forget_deleted(self, db: Session) -> None:
        """Drop the words of data that was deleted since."""
        ids = [key[0] for key in self._kept]
        if not ids:
            return
        there = set(
            db.scalars(
                select(DatasetVersion.id)
                .join(DatasetVersion.dataset)
                .where(DatasetVersion.id.in_(ids), Dataset.deleted_at.is_(None))
            )
        )
        for key in [key for key in self._kept if key[0] not in there]:
            del self._kept[key]


_indexes = _Indexes()


def _index(db: Session, version: DatasetVersion) -> PracticeRows:
    return _indexes.get(db, version)


def _is_text(messages: Sequence[Json]) -> bool:
    return any(turn["role"] == "text" for turn in messages)


def _num_tokens(base: BaseModel, messages: Sequence[Json]) -> int:
    said = [str(turn.get("content") or "") for turn in messages]
    chat = ConfinedChat(base_models.folder(base), base.manifest_sha256)
    try:
        counts = chat.num_tokens(said)
    except (ChatError, Unavailable):  # what answers says what is wrong with its files
        counts = [len(words.encode()) // _BYTES_A_TOKEN for words in said]
    return sum(counts) + _TOKENS_A_TURN * len(said)


# --- making one ------------------------------------------------------------------------------


def use(
    db: Session,
    user: User,
    version: DatasetVersion,
    base_model: BaseModel,
    *,
    name: str = "",
    kind: AdapterKind = AdapterKind.LOOKUP,
) -> Adapter:
    """Make what answers with rows of a version; it is asked and shared as an adapter is.

    One that the department has already is returned as it is.

    Args:
        kind: ALONE: the starting model answers without rows, told what the version's rows are told.

    Raises:
        Forbidden: the person may only look.
        NotFound: the data was deleted, or is another department's.
        Conflict: data or model are not ready.
        Invalid: the data is text to go on with, in which there is nothing to look up.
    """
    if not can_edit(user):
        raise Forbidden("You can look at this, but not have answers looked up.")
    require_lookable(db, user, version)
    if base_model.status is not ModelStatus.READY:
        raise Conflict(f"{base_model.label} is not ready; see the page “Models”.")
    # Of two who press the button at once, the second waits for this lock and sees the first's.
    db.refresh(version, with_for_update={"of": DatasetVersion})
    there = db.scalars(
        registry.visible(user)
        .where(
            Adapter.kind == kind,
            Adapter.lookup_version_id == version.id,
            Adapter.base_model_id == base_model.id,
        )
        .order_by(Adapter.id.desc())
        .limit(1)
    ).first()
    if there is not None:
        return there
    made = Adapter(
        department_id=user.department_id,
        owner_id=user.id,
        kind=kind,
        base_model_id=base_model.id,
        lookup_version_id=version.id,
        name=" ".join(name.split())[: registry.MAX_NAME_LENGTH]
        or _NAMES[kind].format(data=version.dataset.name)[: registry.MAX_NAME_LENGTH],
        public_name=registry.name_for_programs(
            user, base_model, _WORDS[kind], secrets.token_hex(4)
        ),
        size_bytes=0,
        metrics={},
        samples=[],
    )
    db.add(made)
    db.flush()
    audit.record(db, user, "adapter.look_up", f"adapter {made.id}", version=version.id)
    return made


def use_counted(
    db: Session, user: User, evaluation: Evaluation, kind: AdapterKind = AdapterKind.LOOKUP
) -> Adapter:
    """Make what an evaluation tried: its starting model, with rows of the same data or alone.

    Raises:
        Forbidden, NotFound, Conflict, Invalid: as for use.
    """
    if evaluation.practice_version is None:
        raise Conflict("This evaluation had no practice rows, so nothing was tried with them.")
    return use(db, user, evaluation.practice_version, evaluation.base_model, kind=kind)


def look_in(db: Session, user: User, adapter: Adapter, version: DatasetVersion | None) -> None:
    """Let an adapter look answers up in a version from now on; None: in nothing.

    Raises:
        Forbidden: the person does not decide who sees what it answers.
        NotFound, Conflict, Invalid: as for require_lookable.
        Conflict: it is one that has nothing else to answer from.
    """
    sharing.require_sharing(user, adapter)
    if adapter.kind is AdapterKind.ALONE:
        raise Conflict(
            "This model answers without looking anything up. To have answers looked up, use the "
            "result of “Check without training”."
        )
    if version is None and adapter.is_lookup:
        raise Conflict("It has nothing else to answer from; delete it instead.")
    if version is not None:
        require_lookable(db, user, version)
    adapter.lookup_version_id = version.id if version else None
    db.flush()
    db.refresh(adapter, ["lookup_version"])
    subject = f"adapter {adapter.id}"
    audit.record(db, user, "adapter.look_up", subject, version=adapter.lookup_version_id)


def newer_version(db: Session, adapter: Adapter) -> DatasetVersion | None:
    """Return the newest version of the data that an adapter looks in, if that is a newer one."""
    if adapter.lookup_version is None or not adapter.looks_up:
        return None
    newest = lessons.newest(db, adapter.lookup_version)
    return newest if newest.id != adapter.lookup_version_id else None


def require_lookable(db: Session, user: User, version: DatasetVersion) -> None:
    """Refuse a version in which nothing can be looked up.

    Raises:
        NotFound: it was deleted, or is another department's.
        Conflict: it is not ready.
        Invalid: it is text to go on with.
    """
    versions.get_version(db, user, version.id)
    is_settled = db.scalar(select(reviews.settled(literal(version.id))))
    if version.status is not VersionStatus.READY or not is_settled:
        raise Conflict("This version is not ready yet; wait until it has been read and checked.")
    if examples.kind(db, version) is ExampleKind.TEXT:
        raise Invalid("Plain text has no answers to look up.")
