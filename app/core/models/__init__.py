"""Tables and their enums, a file a noun; columns and what follows from a row.

Every row of people's work carries its department. Statuses are written by one module each:
`jobs/fence.py` and its neighbours for jobs, `datasets/versions.py` for versions,
`base_models/registry.py` for base models.

All names are re-exported, here alone in `app`: a relationship finds its class only once every table
is loaded, and Alembic compares all of them.
"""

from app.core.kinds import ExampleKind, Severity
from app.core.models.answering import Answerer
from app.core.models.audit import AuditEvent
from app.core.models.base import Base, Binned, Json, Leased, public_id
from app.core.models.base_models import BaseModel, ModelStatus
from app.core.models.conversations import (
    Beside,
    Conversation,
    ConversationAnswer,
    ConversationTurn,
    Finish,
)
from app.core.models.datasets import Dataset, DatasetVersion, StoredFile, VersionStatus
from app.core.models.doctor import CheckStatus, DatasetCheck, Finding, FixRun, FixStatus
from app.core.models.evaluations import (
    Arm,
    Evaluation,
    EvaluationAnswer,
    EvaluationQuestion,
    EvaluationStatus,
    GeneralQuestion,
    Judging,
    JudgingStatus,
    LearningCurve,
    Mark,
    Part,
    Standing,
)
from app.core.models.examples import Example, SearchBits, Split
from app.core.models.exports import Export, ExportForm, ExportStatus, Quantization
from app.core.models.feedback import Feedback
from app.core.models.jobs import (
    Adapter,
    AdapterKind,
    Attempt,
    Checkpoint,
    Desired,
    Job,
    JobEvent,
    JobStatus,
    Metric,
    PractisedRows,
)
from app.core.models.machines import (
    MachineJoin,
    OutboundCount,
    QuarantinedDevice,
    Worker,
    WorkerState,
)
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
from app.core.models.question_lists import ListStatus, QuestionAnswer, QuestionList
from app.core.models.questions import Asking, AskingStatus, ProposedPair, Verdict
from app.core.models.queue import DeviceUse, QueueRule
from app.core.models.sharing import AdapterUse, AnswerReport, KeptQuestion, Release
from app.core.models.votes import Choice, Vote, VotePair, VoteRound

__all__ = [
    "Adapter",
    "AdapterKind",
    "AdapterUse",
    "AnswerReport",
    "Answerer",
    "ApiToken",
    "Arm",
    "Asking",
    "AskingStatus",
    "Attempt",
    "AuditEvent",
    "Base",
    "BaseModel",
    "Beside",
    "Binned",
    "Channel",
    "CheckStatus",
    "Checkpoint",
    "Choice",
    "Conversation",
    "ConversationAnswer",
    "ConversationTurn",
    "Dataset",
    "DatasetCheck",
    "DatasetVersion",
    "Department",
    "Desired",
    "DeviceUse",
    "Evaluation",
    "EvaluationAnswer",
    "EvaluationQuestion",
    "EvaluationStatus",
    "Example",
    "ExampleKind",
    "Export",
    "ExportForm",
    "ExportStatus",
    "Feedback",
    "Finding",
    "Finish",
    "FixRun",
    "FixStatus",
    "GeneralQuestion",
    "Job",
    "JobEvent",
    "JobStatus",
    "Json",
    "Judging",
    "JudgingStatus",
    "KeptQuestion",
    "LearningCurve",
    "Leased",
    "ListStatus",
    "MachineJoin",
    "Mark",
    "Metric",
    "ModelStatus",
    "Notice",
    "NoticeKind",
    "OutboundCount",
    "Outgoing",
    "Part",
    "PractisedRows",
    "PrivacyFinding",
    "PrivacyPattern",
    "PrivacyReview",
    "ProposedPair",
    "Quantization",
    "QuarantinedDevice",
    "QuestionAnswer",
    "QuestionList",
    "QueueRule",
    "Release",
    "ReviewStatus",
    "Role",
    "SearchBits",
    "SetupLink",
    "Severity",
    "SignInFailure",
    "Split",
    "Standing",
    "StoredFile",
    "User",
    "Verdict",
    "VersionStatus",
    "Vote",
    "VotePair",
    "VoteRound",
    "WebSession",
    "Webhook",
    "Worker",
    "WorkerState",
    "public_id",
]
