"""Tables and their enums, in the order of the way of the data; columns and what follows from a row.

Every row of people's work carries its department. Statuses are written by one module each:
`jobs.py` for jobs, `datasets/versions.py` for versions, `base_models.py` for base models.
"""

from __future__ import annotations

import secrets
from datetime import date, datetime, time
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Json = dict[str, Any]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        Json: JSONB,
        list[Any]: JSONB,
        datetime: DateTime(timezone=True),
    }


def _enum(kind: type[StrEnum]) -> Enum:
    # Text with a check, not a native type: a value can be added in a plain migration.
    return Enum(
        kind,
        native_enum=False,
        length=20,
        create_constraint=True,
        name=kind.__name__.lower(),
        values_callable=lambda members: [member.value for member in members],
    )


def public_id(prefix: str) -> str:
    """Make an id that may be shown to programs, e.g. `ftjob-…`; not a secret."""
    return f"{prefix}-{secrets.token_hex(12)}"


class Role(StrEnum):
    ADMIN = "admin"
    LEAD = "lead"
    MEMBER = "member"
    VIEWER = "viewer"


class VersionStatus(StrEnum):
    """A dataset version on its way from a file to examples.

    uploaded -> inspecting -> mapping -> confirmed -> building -> ready; failed from any of them.
    `inspecting` and `building` are held by a worker under a lease.
    """

    UPLOADED = "uploaded"
    INSPECTING = "inspecting"
    MAPPING = "mapping"  # waits for a person to confirm the columns
    CONFIRMED = "confirmed"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


class Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"


class ExampleKind(StrEnum):
    CHAT = "chat"
    PAIR = "pair"
    TEXT = "text"
    PREFERENCE = "preference"


class ReviewStatus(StrEnum):
    """A version's way through the privacy gate; `datasets/privacy/reviews.py` is the only writer.

    stated -> waiting -> scanning -> undecided -> decided, or requested -> replacing -> replaced;
    failed from any of them. `scanning` and `replacing` are held by a worker under a lease.
    """

    STATED = "stated"  # somebody decided before there were examples to look at
    WAITING = "waiting"
    SCANNING = "scanning"
    UNDECIDED = "undecided"  # waits for a person
    REQUESTED = "requested"  # decided: a worker has to replace or blank
    REPLACING = "replacing"
    DECIDED = "decided"  # may be learned from
    REPLACED = "replaced"  # another version takes its place
    FAILED = "failed"


class CheckStatus(StrEnum):
    """waiting -> checking -> done; or failed. `checking` is held by a worker under a lease."""

    WAITING = "waiting"
    CHECKING = "checking"
    DONE = "done"
    FAILED = "failed"


class FixStatus(StrEnum):
    """waiting -> working -> done; or failed. `working` is held by a worker under a lease."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


class Severity(StrEnum):
    """How much a finding matters, the worst first."""

    BAD = "bad"
    WARN = "warn"
    NOTE = "note"


class AskingStatus(StrEnum):
    """waiting -> asking -> done; cancelled or failed. `asking` is held by a worker under a lease.

    `datasets/questions/runs.py` is the only writer.
    """

    WAITING = "waiting"
    ASKING = "asking"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Verdict(StrEnum):
    """What a person says of a pair whose question a model made up."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class ModelStatus(StrEnum):
    WAITING = "waiting"
    IMPORTING = "importing"
    READY = "ready"
    FAILED = "failed"


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Desired(StrEnum):
    """What people want of a job; set at any time, never in a race with its status."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class WorkerState(StrEnum):
    ACTIVE = "active"
    DRAINING = "draining"


class NoticeKind(StrEnum):
    """What somebody is told; app/notices says to whom and in which words."""

    JOB_SUCCEEDED = "job_succeeded"
    JOB_FAILED = "job_failed"
    DECISION_NEEDED = "decision_needed"
    QUESTIONS_READY = "questions_ready"
    MACHINE_ILL = "machine_ill"
    NOT_DELIVERED = "not_delivered"


class Channel(StrEnum):
    MAIL = "mail"
    WEBHOOK = "webhook"


class Leased:
    """A row that one worker at a time may hold; the attempt number is the fence."""

    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    worker_id: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    strikes: Mapped[int] = mapped_column(default=0, server_default="0")
    # Why it failed, as a sentence for a person.
    reason: Mapped[str | None]
    # What the worker last said, e.g. {"rows": 12000}; shown while it works.
    progress: Mapped[Json | None]


class Department(Base):
    __tablename__ = "department"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Device-seconds that its jobs have had, fading by half each half-life, as of `used_at`
    # (app/jobs/scheduling.py); written by app/jobs/shares.py alone.
    used_seconds: Mapped[float] = mapped_column(default=0, server_default="0")
    used_at: Mapped[datetime] = mapped_column(server_default=func.now())


class User(Base):
    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    email: Mapped[str] = mapped_column(unique=True)  # lower case
    name: Mapped[str] = mapped_column(default="", server_default="")
    role: Mapped[Role] = mapped_column(_enum(Role))
    password_hash: Mapped[str | None]
    # A program's account: has tokens, never a password.
    is_service: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    disabled_at: Mapped[datetime | None]
    # Kinds of notices that also come by mail; none: every kind, until the person chooses.
    mail_kinds: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    department: Mapped[Department] = relationship(lazy="joined")


class WebSession(Base):
    """A browser that is signed in; the cookie's value is stored hashed."""

    __tablename__ = "web_session"
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    user: Mapped[User] = relationship(lazy="joined")


class ApiToken(Base):
    __tablename__ = "api_token"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    prefix: Mapped[str]  # the first characters, to tell tokens apart
    name: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    user: Mapped[User] = relationship(lazy="joined")


class SetupLink(Base):
    """A one-time link with which a person sets a password; the link's secret is stored hashed."""

    __tablename__ = "setup_link"
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SignInFailure(Base):
    """One failed sign-in; counted by account and by address to slow guessing down."""

    __tablename__ = "sign_in_failure"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(index=True)
    address: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class StoredFile(Base):
    """Raw bytes that somebody sent, or that Etude made for a program to fetch."""

    __tablename__ = "stored_file"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("file"))
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    filename: Mapped[str]  # as the sender called it; shown, never used as a path
    purpose: Mapped[str] = mapped_column(default="fine-tune", server_default="fine-tune")
    storage_key: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The bytes are gone from then on; the row stays so that jobs can name what they used.
    deleted_at: Mapped[datetime | None]


class Dataset(Base):
    __tablename__ = "dataset"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # File and examples are gone from then on; counts and hashes stay for the adapters' lineage.
    deleted_at: Mapped[datetime | None]
    owner: Mapped[User] = relationship()
    versions: Mapped[list[DatasetVersion]] = relationship(
        back_populates="dataset", order_by="DatasetVersion.number"
    )
    __table_args__ = (Index(None, "department_id", "created_at"),)


class DatasetVersion(Leased, Base):
    """A file read with a mapping, or a base plus what changed; immutable once ready."""

    __tablename__ = "dataset_version"
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    number: Mapped[int]
    base_version_id: Mapped[int | None] = mapped_column(ForeignKey("dataset_version.id"))
    # Ids of the versions whose rows it is read through, its own first, the one with all rows last;
    # none: it has all of its rows itself (app/datasets/examples.py).
    layers: Mapped[list[Any] | None] = mapped_column(JSONB)
    # What makes it differ from its base: {"why", "num_edited", "num_moved", "num_removed"}, or
    # {"why", "num_accepted"} where it holds questions that a model made up.
    changes: Mapped[Json | None]
    file_id: Mapped[int] = mapped_column(ForeignKey("stored_file.id"))
    status: Mapped[VersionStatus] = mapped_column(
        _enum(VersionStatus), default=VersionStatus.UPLOADED
    )
    # No person is there to ask (the API): a mapping that is sure is taken, another is an error.
    auto_confirm: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    # How a person says to read the file: readers.reading.ReadAs as JSON; none: by content.
    read_as: Mapped[Json | None]
    # What the reader found: readers.reading.Inspection as JSON.
    inspection: Mapped[Json | None]
    # Columns -> messages: app.datasets.mapping.Mapping as JSON; proposed, then confirmed.
    mapping: Mapped[Json | None]
    validation_share: Mapped[float] = mapped_column(default=0.1, server_default="0.1")
    split_seed: Mapped[int] = mapped_column(default=0, server_default="0")
    num_train: Mapped[int] = mapped_column(default=0, server_default="0")
    num_validation: Mapped[int] = mapped_column(default=0, server_default="0")
    # Rows that became no example, by reason: {"empty_answer": 12}.
    left_out: Mapped[Json | None]
    # Token lengths by base model id: app.training.plan.shape.LengthHistogram as JSON.
    token_lengths: Mapped[Json | None]
    # SHA-256 over the examples, in order: what a model card can name. Of a long derived version it
    # is known once a job has read all of it.
    examples_sha256: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]
    dataset: Mapped[Dataset] = relationship(back_populates="versions", lazy="joined")
    file: Mapped[StoredFile] = relationship(lazy="joined")
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        Index(None, "status"),
        CheckConstraint(
            "(status IN ('inspecting', 'building')) = (lease_until IS NOT NULL)", name="lease"
        ),
    )


class Example(Base):
    __tablename__ = "example"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    split: Mapped[Split] = mapped_column(_enum(Split))
    kind: Mapped[ExampleKind] = mapped_column(_enum(ExampleKind))
    # chat: [{"role", "content", "weight"?, "tool_calls"?, "tool_call_id"?, "name"?}, …];
    # text: [{"role": "text", "content"}]; preference: a chat whose last message, the better answer,
    # has the worse one beside it as "rejected".
    messages: Mapped[list[Any]] = mapped_column(JSONB)
    # What the model is told that it may call, as OpenAI writes it: [{"type", "function"}, …].
    tools: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    # Where it came from and what was noticed: {"row": 14}; of a question that a model made up
    # {"proposed": 7}, the pair's id.
    flags: Mapped[Json | None]
    # In a derived version: the base's example of this index is left out.
    is_removed: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    __table_args__ = (Index(None, "version_id", "split", "index"),)


class PrivacyReview(Leased, Base):
    """What was found in a version that points to people, and what was decided about it."""

    __tablename__ = "privacy_review"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), unique=True
    )
    status: Mapped[ReviewStatus] = mapped_column(_enum(ReviewStatus), default=ReviewStatus.WAITING)
    # How many findings of each kind: {"name": 14}; never what they say.
    found: Mapped[Json | None]
    num_examples: Mapped[int] = mapped_column(default=0, server_default="0")
    # app.datasets.privacy.reviews.Decision as JSON.
    decision: Mapped[Json | None]
    # Made before the findings were seen: by a program, or for a sample of ours.
    is_stated: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    decided_at: Mapped[datetime | None]
    # The version in which stand-ins stand.
    result_version_id: Mapped[int | None] = mapped_column(ForeignKey("dataset_version.id"))
    # The highest number given to a stand-in of each kind so far: {"name": 9}.
    stand_ins: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_by: Mapped[User | None] = relationship(lazy="joined")
    __table_args__ = (
        Index(None, "status"),
        CheckConstraint(
            "(status IN ('scanning', 'replacing')) = (lease_until IS NOT NULL)", name="lease"
        ),
    )


class PrivacyFinding(Base):
    """Where something that points to a person stands, not what it says."""

    __tablename__ = "privacy_finding"
    # The version that holds the example's row: a derived version has those of its own rows alone.
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    # Which of the example's texts (app/datasets/privacy/texts.py), and from where to where in it.
    text: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    end: Mapped[int]
    kind: Mapped[str]
    # Equal for equal values, so that they can be counted and shown once.
    key: Mapped[str]
    __table_args__ = (Index(None, "version_id", "kind", "key"),)


class PrivacyPattern(Base):
    """What an administrator wants found besides: a regular expression, for the whole house."""

    __tablename__ = "privacy_pattern"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    pattern: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DatasetCheck(Leased, Base):
    """The doctor's look at all examples of one version (app/datasets/doctor)."""

    __tablename__ = "dataset_check"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), unique=True
    )
    status: Mapped[CheckStatus] = mapped_column(_enum(CheckStatus), default=CheckStatus.WAITING)
    # app.datasets.doctor.report.Report as JSON: what is said of all examples; no text of theirs.
    report: Mapped[Json | None]
    # Indexes of the examples from the shortest to the longest, four bytes each.
    by_length: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    checked_at: Mapped[datetime | None]
    __table_args__ = (
        Index(None, "status"),
        CheckConstraint("(status = 'checking') = (lease_until IS NOT NULL)", name="lease"),
    )


class Finding(Base):
    """What the doctor found of one kind, and in which examples; their texts stay where they are."""

    __tablename__ = "finding"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str] = mapped_column(primary_key=True)  # a key of doctor.kinds.KINDS
    severity: Mapped[Severity] = mapped_column(_enum(Severity))
    count: Mapped[int]
    # Indexes of the examples in rising order, four bytes each; beside each, where there is one, the
    # index of the example that it repeats, contradicts or gives away.
    rows: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    partners: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    # Numbers for the sentence, e.g. {"median": 410}.
    detail: Mapped[Json]


class FixRun(Leased, Base):
    """A finding that a worker puts right in the next version: more than a browser waits for."""

    __tablename__ = "fix_run"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), index=True
    )
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    status: Mapped[FixStatus] = mapped_column(_enum(FixStatus), default=FixStatus.WAITING)
    kind: Mapped[str]  # a key of doctor.fixes.FIXES
    fix: Mapped[str]  # a key of that
    result_version_id: Mapped[int | None] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="SET NULL")
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    owner: Mapped[User] = relationship(lazy="joined")
    result: Mapped[DatasetVersion | None] = relationship(foreign_keys=[result_version_id])
    __table_args__ = (
        CheckConstraint("(status = 'working') = (lease_until IS NOT NULL)", name="lease"),
        # One at a time for each version.
        Index(
            "uq_fix_run_open",
            "version_id",
            unique=True,
            postgresql_where=text("status IN ('waiting', 'working')"),
        ),
    )


class SearchBits(Base):
    """Which blocks of a version's examples hold some four bytes (app/datasets/search.py)."""

    __tablename__ = "search_bits"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True
    )
    bucket: Mapped[int] = mapped_column(primary_key=True)
    blocks: Mapped[bytes] = mapped_column(LargeBinary)


class Asking(Leased, Base):
    """A starting model makes up questions to the texts of one version; people judge each pair."""

    __tablename__ = "asking"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), index=True
    )
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    status: Mapped[AskingStatus] = mapped_column(_enum(AskingStatus), default=AskingStatus.WAITING)
    # What was asked for: questions to one passage at most, and pairs in all at most.
    per_passage: Mapped[int]
    max_pairs: Mapped[int]
    seed: Mapped[int] = mapped_column(default=0, server_default="0")
    # How far it is: passages that are behind it, pairs that were proposed.
    num_passages: Mapped[int] = mapped_column(default=0, server_default="0")
    num_pairs: Mapped[int] = mapped_column(default=0, server_default="0")
    # Attempts at a question that were thrown away, by reason: {"no_question": 4}.
    refused: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    owner: Mapped[User] = relationship(lazy="joined")
    base_model: Mapped[BaseModel] = relationship(lazy="joined")
    __table_args__ = (
        CheckConstraint("(status = 'asking') = (lease_until IS NOT NULL)", name="lease"),
        # One at a time for each version.
        Index(
            "uq_asking_open",
            "version_id",
            unique=True,
            postgresql_where=text("status IN ('waiting', 'asking')"),
        ),
    )


class ProposedPair(Base):
    """A question that a model made up to words of a document, beside the passage they stand in."""

    __tablename__ = "proposed_pair"
    id: Mapped[int] = mapped_column(primary_key=True)
    asking_id: Mapped[int] = mapped_column(ForeignKey("asking.id", ondelete="CASCADE"), index=True)
    # The text of the version that the passage is quoted from.
    example_index: Mapped[int]
    heading: Mapped[str]
    passage: Mapped[str]
    # What stands in the passage word for word, until a person edits it.
    answer: Mapped[str]
    question: Mapped[str]
    verdict: Mapped[Verdict] = mapped_column(_enum(Verdict), default=Verdict.OPEN)
    is_edited: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    decided_at: Mapped[datetime | None]
    asking: Mapped[Asking] = relationship(lazy="joined")
    decided_by: Mapped[User | None] = relationship()


class BaseModel(Leased, Base):
    """A starting model in the registry; `folder` below models_dir holds verified safetensors."""

    __tablename__ = "base_model"
    id: Mapped[int] = mapped_column(primary_key=True)
    # e.g. "HuggingFaceTB/SmolLM2-135M-Instruct"; what /v1 calls a model.
    name: Mapped[str] = mapped_column(unique=True)
    label: Mapped[str]
    status: Mapped[ModelStatus] = mapped_column(_enum(ModelStatus), default=ModelStatus.WAITING)
    # Where an import reads from: {"kind": "folder" | "starter" | "hub", "path"?, "revision"?}.
    source: Mapped[Json]
    folder: Mapped[str | None]
    # SHA-256 of the MANIFEST.json that names every file.
    manifest_sha256: Mapped[str | None]
    licence: Mapped[str] = mapped_column(default="", server_default="")
    # Where the weights come from and what they are fit for, in a sentence or two.
    note: Mapped[str] = mapped_column(default="", server_default="")
    # The model's config.json, as checked at import.
    config: Mapped[Json | None]
    num_parameters: Mapped[int | None] = mapped_column(BigInteger)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("(status = 'importing') = (lease_until IS NOT NULL)", name="lease"),
    )


class Job(Leased, Base):
    """One request to fine-tune. `app/jobs.py` is the only writer of status and desired."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("ftjob"))
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str]
    version_id: Mapped[int] = mapped_column(ForeignKey("dataset_version.id"))
    # A version of its own for testing, where a program sent one (/v1 validation_file).
    validation_version_id: Mapped[int | None] = mapped_column(ForeignKey("dataset_version.id"))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    retry_of_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    # app.training.config.TrainConfig, frozen when the job was made.
    config: Mapped[Json]
    # app.training.plan.choose.Plan: what was predicted, shown beside what was measured.
    plan: Mapped[Json | None]
    measured: Mapped[Json | None]
    status: Mapped[JobStatus] = mapped_column(_enum(JobStatus), default=JobStatus.QUEUED)
    desired: Mapped[Desired] = mapped_column(_enum(Desired), default=Desired.RUN)
    # Who last asked to pause, resume or cancel it.
    desired_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    priority: Mapped[int] = mapped_column(default=0, server_default="0")  # smaller goes first
    # What its plan asks of a worker: memory of each device, and how many; none: nobody can say.
    needs_bytes: Mapped[int | None] = mapped_column(BigInteger)
    needs_devices: Mapped[int] = mapped_column(default=1, server_default="1")
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    # Step of the newest verified checkpoint; an attempt goes on from here.
    durable_step: Mapped[int] = mapped_column(default=0, server_default="0")
    # The last sequence number given to a metric or an event of this job.
    event_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # What the trainer is doing (TrainerPhase in docs/life-of-a-job.md) and where it stands.
    phase: Mapped[str | None]
    step: Mapped[int] = mapped_column(default=0, server_default="0")
    total_steps: Mapped[int | None]
    trained_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # A stable word for why it failed (out_of_memory, loss_not_finite, …) beside `reason`.
    error_code: Mapped[str | None]
    log_tail: Mapped[str | None]
    samples: Mapped[list[Any] | None] = mapped_column(JSONB)
    # /v1: the caller's own labels, the wanted name's end, and what was sent.
    labels: Mapped[Json | None]
    suffix: Mapped[str | None]
    api_request: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    owner: Mapped[User] = relationship(foreign_keys=[owner_id])
    version: Mapped[DatasetVersion] = relationship(foreign_keys=[version_id], lazy="joined")
    base_model: Mapped[BaseModel] = relationship(lazy="joined")
    adapter: Mapped[Adapter | None] = relationship(back_populates="job")
    __table_args__ = (
        CheckConstraint(
            "(status = 'running') = (worker_id IS NOT NULL AND lease_until IS NOT NULL)",
            name="lease",
        ),
        Index("ix_job_queued", "priority", "id", postgresql_where=text("status = 'queued'")),
        # A claim reads the first of each department, whatever waits behind it.
        Index(
            "ix_job_line",
            "department_id",
            "priority",
            "id",
            postgresql_where=text("status = 'queued'"),
        ),
        # From data or a model that failed to the jobs that wait for it.
        Index("ix_job_queued_version", "version_id", postgresql_where=text("status = 'queued'")),
        Index(
            "ix_job_queued_validation",
            "validation_version_id",
            postgresql_where=text("status = 'queued'"),
        ),
        Index("ix_job_queued_model", "base_model_id", postgresql_where=text("status = 'queued'")),
        Index("ix_job_running", "lease_until", postgresql_where=text("status = 'running'")),
        Index(None, "department_id", "created_at"),
    )


class Attempt(Base):
    """One worker's hold on a job, from claim to its end."""

    __tablename__ = "attempt"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str]
    host: Mapped[str]
    # With the trainer's process id and start time: lets a worker of this host prove it dead.
    boot_id: Mapped[str]
    supervisor_pid: Mapped[int]
    supervisor_started: Mapped[int] = mapped_column(BigInteger)
    devices: Mapped[list[Any]] = mapped_column(JSONB)  # e.g. ["cpu"]; may hold several GPUs
    resume_step: Mapped[int]
    spool_offset: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    exit_code: Mapped[int | None]
    # What its devices took so far, and whose counter says so ("gpu" or "cpu"); none: not measured.
    energy_joules: Mapped[float | None]
    energy_source: Mapped[str | None]
    __table_args__ = (
        # The last line of defence against two workers on one job.
        Index("uq_attempt_open", "job_id", unique=True, postgresql_where=text("ended_at IS NULL")),
    )


class Metric(Base):
    """One (step, name, value). `seq` orders a job's stream; rows of one step share it."""

    __tablename__ = "metric"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    attempt: Mapped[int]
    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]  # when the trainer wrote it
    __table_args__ = (Index(None, "job_id", "seq"),)


class JobEvent(Base):
    """A sentence about a job; `seq` is shared with its metrics."""

    __tablename__ = "job_event"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    level: Mapped[str]  # info, warn, error
    kind: Mapped[str]  # phase, resumed, evaluation, checkpoint, note, status
    message: Mapped[str]
    data: Mapped[Json | None]


class Checkpoint(Base):
    __tablename__ = "checkpoint"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("ftckpt"))
    attempt: Mapped[int]
    path: Mapped[str]  # below the job's JOB_DIR
    manifest_sha256: Mapped[str]
    metrics: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Adapter(Base):
    """What a job yields; only what this row points to is ever served."""

    __tablename__ = "adapter"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    job_id: Mapped[int | None] = mapped_column(
        ForeignKey("job.id", ondelete="SET NULL"), unique=True
    )
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    name: Mapped[str]
    # "ft:{base}:{organisation}:{suffix}:{short id}"; what /v1 calls the tuned model.
    public_name: Mapped[str] = mapped_column(unique=True)
    storage_key: Mapped[str]  # the folder; MANIFEST.json names its files
    manifest_sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # {"validation_loss_before", "validation_loss_after", "train_loss", "best_step", …}
    metrics: Mapped[Json]
    # [{"question", "reference", "base", "tuned"}, …]
    samples: Mapped[list[Any]] = mapped_column(JSONB)
    # The zip and the metrics CSV as files, for programs (/v1 result_files).
    archive_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    metrics_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    job: Mapped[Job | None] = relationship(back_populates="adapter")
    base_model: Mapped[BaseModel] = relationship(lazy="joined")
    archive_file: Mapped[StoredFile | None] = relationship(foreign_keys=[archive_file_id])
    metrics_file: Mapped[StoredFile | None] = relationship(foreign_keys=[metrics_file_id])


class Worker(Base):
    __tablename__ = "worker"
    id: Mapped[str] = mapped_column(primary_key=True)  # e.g. "gpu-0@host"
    queue: Mapped[str]  # gpu or cpu
    host: Mapped[str]
    boot_id: Mapped[str]
    devices: Mapped[list[Any]] = mapped_column(JSONB)
    # What its device can do: app.training.plan.machine.DeviceInfo as JSON; plans are made for it.
    hardware: Mapped[Json | None]
    state: Mapped[WorkerState] = mapped_column(_enum(WorkerState), default=WorkerState.ACTIVE)
    version: Mapped[str]
    # How its devices are just now: machines.devices.Readings as JSON.
    readings: Mapped[Json | None]
    last_seen: Mapped[datetime] = mapped_column(server_default=func.now())


class QuarantinedDevice(Base):
    """A device that no job gets until an administrator releases it."""

    __tablename__ = "quarantined_device"
    host: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)  # as a worker names it, e.g. "cuda:0"
    reason: Mapped[str]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    by: Mapped[User | None] = relationship()


class LineRule(Base):
    """What a department, or a person, may have of the machines; without a row: as much as it is."""

    __tablename__ = "line_rule"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int | None] = mapped_column(
        ForeignKey("department.id", ondelete="CASCADE"), unique=True
    )
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), unique=True
    )
    # Of two departments, one with twice the share gets twice the time when both wait.
    share: Mapped[float] = mapped_column(default=1, server_default="1")
    max_running: Mapped[int | None]
    max_queued: Mapped[int | None]
    month_hours: Mapped[float | None]  # of one device
    # From when to when its jobs may run, in the house's time zone; past midnight where the end is
    # the smaller one. On weekends all day, where that is allowed.
    opens: Mapped[time | None]
    closes: Mapped[time | None]
    weekends: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    __table_args__ = (
        CheckConstraint("(department_id IS NULL) <> (user_id IS NULL)", name="whose"),
        CheckConstraint("share > 0", name="share"),
        CheckConstraint("(opens IS NULL) = (closes IS NULL)", name="hours"),
    )


class DeviceUse(Base):
    """Device-seconds that a person's jobs have had in a month; app/jobs/shares.py writes it."""

    __tablename__ = "device_use"
    month: Mapped[date] = mapped_column(primary_key=True)  # its first day, in the house's time zone
    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True
    )
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"), primary_key=True)
    seconds: Mapped[float]


class AuditEvent(Base):
    """Who did what to which data; append-only (a trigger refuses anything else), hash-chained."""

    __tablename__ = "audit_event"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]  # e-mail, or "system"
    department_id: Mapped[int | None] = mapped_column(ForeignKey("department.id"))
    action: Mapped[str]  # e.g. "job.create"
    subject: Mapped[str]  # e.g. "job 7"
    detail: Mapped[Json]
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class Notice(Base):
    """One thing that one person is told; never with anything of what is in people's data."""

    __tablename__ = "notice"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    kind: Mapped[NoticeKind] = mapped_column(_enum(NoticeKind))
    # What it is about, e.g. "job 7 failed": the same is told to the same person once.
    key: Mapped[str]
    title: Mapped[str]
    link: Mapped[str]  # a path of ours
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    read_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("user_id", "key"),
        Index("ix_notice_unread", "user_id", postgresql_where=text("read_at IS NULL")),
    )


class Webhook(Base):
    """An address of the house's own that hears of what happens; its secret is derived, not kept."""

    __tablename__ = "webhook"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    url: Mapped[str]
    # Raised to give it another secret.
    generation: Mapped[int] = mapped_column(default=1, server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The last answer, for the page: "200", or what went wrong.
    last_answer: Mapped[str | None]
    last_at: Mapped[datetime | None]


class Outgoing(Base):
    """A mail or a call that is to leave, written in the transaction of the deed it tells of."""

    __tablename__ = "outgoing"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # The same at every try, so that a receiver can tell a repetition.
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("msg"))
    channel: Mapped[Channel] = mapped_column(_enum(Channel))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    webhook_id: Mapped[int | None] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"))
    # The same is told to the same webhook once.
    key: Mapped[str | None]
    # mail: {"title", "link"}; webhook: what is sent, but for the id.
    content: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    send_after: Mapped[datetime] = mapped_column(server_default=func.now())
    tries: Mapped[int] = mapped_column(default=0, server_default="0")
    last_error: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    gave_up_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("webhook_id", "key"),
        CheckConstraint("(user_id IS NULL) <> (webhook_id IS NULL)", name="whom"),
        Index(
            "ix_outgoing_due",
            "send_after",
            postgresql_where=text("sent_at IS NULL AND gave_up_at IS NULL"),
        ),
    )
