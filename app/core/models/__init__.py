"""Tables and their enums, a file a noun; columns and what follows from a row.

Every row of people's work carries its department. Statuses are written by one module each:
`jobs/fence.py` and its neighbours for jobs, `datasets/versions.py` for versions,
`base_models/registry.py` for base models.

All names are re-exported, here alone in `app`: a relationship finds its class only once every table
is loaded, and Alembic compares all of them.
"""

from app.core.models.audit import AuditEvent
from app.core.models.base import Base, Json, Leased, public_id
from app.core.models.base_models import BaseModel, ModelStatus
from app.core.models.datasets import Dataset, DatasetVersion, StoredFile, VersionStatus
from app.core.models.doctor import CheckStatus, DatasetCheck, Finding, FixRun, FixStatus, Severity
from app.core.models.examples import Example, ExampleKind, SearchBits, Split
from app.core.models.jobs import (
    Adapter,
    Attempt,
    Checkpoint,
    Desired,
    Job,
    JobEvent,
    JobStatus,
    Metric,
)
from app.core.models.machines import QuarantinedDevice, Worker, WorkerState
from app.core.models.notices import Channel, Notice, NoticeKind, Outgoing, Webhook
from app.core.models.people import (
    ApiToken,
    Department,
    Role,
    SetupLink,
    SignInFailure,
    User,
    WebSession,
)
from app.core.models.privacy import PrivacyFinding, PrivacyPattern, PrivacyReview, ReviewStatus
from app.core.models.questions import Asking, AskingStatus, ProposedPair, Verdict
from app.core.models.queue import DeviceUse, QueueRule

__all__ = [
    "Adapter",
    "ApiToken",
    "Asking",
    "AskingStatus",
    "Attempt",
    "AuditEvent",
    "Base",
    "BaseModel",
    "Channel",
    "CheckStatus",
    "Checkpoint",
    "Dataset",
    "DatasetCheck",
    "DatasetVersion",
    "Department",
    "Desired",
    "DeviceUse",
    "Example",
    "ExampleKind",
    "Finding",
    "FixRun",
    "FixStatus",
    "Job",
    "JobEvent",
    "JobStatus",
    "Json",
    "Leased",
    "Metric",
    "ModelStatus",
    "Notice",
    "NoticeKind",
    "Outgoing",
    "PrivacyFinding",
    "PrivacyPattern",
    "PrivacyReview",
    "ProposedPair",
    "QuarantinedDevice",
    "QueueRule",
    "ReviewStatus",
    "Role",
    "SearchBits",
    "SetupLink",
    "Severity",
    "SignInFailure",
    "Split",
    "StoredFile",
    "User",
    "Verdict",
    "VersionStatus",
    "WebSession",
    "Webhook",
    "Worker",
    "WorkerState",
    "public_id",
]
