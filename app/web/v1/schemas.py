"""What /v1 takes and gives: OpenAI's field names; ours begin with `x_` (docs/api.md)."""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

from app.core.models import Arm, EvaluationStatus, JudgingStatus
from app.datasets.mapping import MAX_WORDS, Hidden, Merged, Separators
from app.datasets.mapping import Options as QuizOptions
from app.datasets.readers.chats import (
    DEFAULT_PAUSE_MINUTES,
    MAX_PAUSE_MINUTES,
    MIN_PAUSE_MINUTES,
)
from app.datasets.readers.headers import MAX_HEADER_ROW
from app.datasets.readers.inspections import MAX_CHOSEN_FILES, FileChoices
from app.datasets.turns import TurnRole
from app.evaluation.verdict import Difference
from app.jobs.practice import ChosenBy

JobState = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


def unix(at: datetime) -> int:
    """Return whole Unix seconds, as OpenAI writes times."""
    return int(at.timestamp())


def _storable(value: str) -> str:
    # JSON can say both, and PostgreSQL can hold neither.
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("it contains a character that is no text (NUL, or half of a pair)")
    return value


def _whole(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticKnownError("int_type")
    return None if value == "auto" else value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return None if value == "auto" else value


def fold(suffix: str) -> str | None:
    """Write a wanted name's end in the letters that a model's name may have; None: it has none.

    Accents go (`Größe` is `grosse`), and what has no such letter becomes a hyphen.
    """
    plain = unicodedata.normalize("NFKD", suffix.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9._]+", "-", plain).strip("-._") or None


Text = Annotated[str, AfterValidator(_storable)]
Key = Annotated[Text, Field(min_length=1, max_length=64)]
Value = Annotated[Text, Field(max_length=512)]
Metadata = Annotated[dict[Key, Value], Field(max_length=16)]
Suffix = Annotated[Text, Field(max_length=64)]
# None stands for "auto": Etude's preset decides.
AutoInt = Annotated[int | None, BeforeValidator(_whole)]
AutoFloat = Annotated[float | None, BeforeValidator(_number)]


class _Request(BaseModel):
    # A setting that nobody reads must not look as if it had been heard.
    model_config = ConfigDict(extra="forbid")


class Hyperparameters(_Request):
    n_epochs: AutoInt = None
    batch_size: AutoInt = None
    learning_rate_multiplier: AutoFloat = None


class DpoHyperparameters(Hyperparameters):
    beta: AutoFloat = None


class Supervised(_Request):
    hyperparameters: Hyperparameters | None = None


class Dpo(_Request):
    hyperparameters: DpoHyperparameters | None = None


class Method(_Request):
    type: str
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    # Named so that it can be refused by name.
    reinforcement: Any = None


class Options(BaseModel):
    """`x_etude`: a preset, a name, and any setting of app.training.config.TrainConfig."""

    model_config = ConfigDict(extra="allow")

    preset: Literal["quick", "balanced", "thorough"] = "balanced"
    name: Annotated[Text, Field(min_length=1, max_length=120)] | None = None
    dry_run: Annotated[bool, Field(strict=True)] | None = None


class Privacy(_Request):
    """`x_privacy`: what the token's owner decides about personal details in the data."""

    decision: Literal["replace", "blank", "leave_out", "keep"]
    reason: Annotated[Text, Field(max_length=500)] = ""


class CreateJob(_Request):
    model: Text
    training_file: Text
    validation_file: Text | None = None
    suffix: Suffix | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1), BeforeValidator(_whole)] | None = None
    metadata: Metadata | None = None
    integrations: list[Any] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    x_etude: Options | None = None
    x_privacy: Privacy | None = None


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    error: ErrorBody


class Deleted(BaseModel):
    id: str
    object: str
    deleted: Literal[True] = True


class FilePrivacy(BaseModel):
    """Where a file stands at the privacy gate: counts by kind, never what was found."""

    status: str
    found: dict[str, int] | None
    # What was done, by kind and decision; of a version that came of one: what was kept in it.
    done: dict[str, dict[str, int]] | None
    page: str


class File(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None
    x_dataset_id: int | None
    x_version_id: int | None
    x_num_train: int | None  # rows to practise
    x_num_check: int | None  # to check; 0 in versions from before, whose test rows choose, too
    x_num_test: int | None
    x_num_validation: int | None  # as stored: those to check, or of two parts those to test
    x_left_out: dict[str, Any] | None
    # Sentences: how the file was read, why rows were left out, what was passed over in the others.
    x_notes: list[str] | None
    x_privacy: FilePrivacy | None


class CreateUpload(_Request):
    bytes: Annotated[int, Field(strict=True, ge=1)]
    filename: Annotated[Text, Field(min_length=1, max_length=255)]
    mime_type: Text  # what a file is, its contents say
    purpose: Text
    # Named so that it can be refused by name.
    expires_after: Any = None


# What was chosen for single files of a ZIP, and what words for roles or for speakers mean.
ChosenFiles = Annotated[dict[Text, FileChoices], Field(max_length=MAX_CHOSEN_FILES)]
Meanings = Annotated[dict[Text, TurnRole], Field(max_length=MAX_WORDS)]


class CompleteUpload(_Request):
    part_ids: Annotated[list[Text], Field(min_length=1, max_length=10_000)]
    md5: Annotated[Text, Field(pattern=r"^[0-9A-Fa-f]{32}$")] | None = None
    x_privacy: Privacy | None = None
    # How a sheet is read, as for POST /files.
    x_header_row: Annotated[int, Field(strict=True, ge=0, le=MAX_HEADER_ROW)] | None = None
    x_hidden: Hidden = "leave_out"
    x_merged: Merged = "fill"
    x_separators: Separators | None = None
    x_options: QuizOptions = "leave_out"
    x_pause_minutes: Annotated[
        int, Field(strict=True, ge=MIN_PAUSE_MINUTES, le=MAX_PAUSE_MINUTES)
    ] = DEFAULT_PAUSE_MINUTES
    x_files: ChosenFiles = {}
    x_roles: Meanings = {}
    x_speakers: Meanings = {}
    x_placeholders: bool = False
    x_continued: bool | None = None


class Upload(BaseModel):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: File | None


class UploadPart(BaseModel):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class JobError(BaseModel):
    code: str
    message: str
    param: str | None = None


class SettledHyperparameters(BaseModel):
    n_epochs: int | float
    batch_size: int
    learning_rate_multiplier: float


class SettledSupervised(BaseModel):
    hyperparameters: SettledHyperparameters


class SettledDpoHyperparameters(SettledHyperparameters):
    beta: float


class SettledDpo(BaseModel):
    hyperparameters: SettledDpoHyperparameters


class SettledMethod(BaseModel):
    type: Literal["supervised", "dpo"]
    supervised: SettledSupervised | None = None
    dpo: SettledDpo | None = None


class FineTuningJob(BaseModel):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    training_file: str
    validation_file: str | None
    result_files: list[str]
    status: JobState
    error: JobError | None
    hyperparameters: SettledHyperparameters
    method: SettledMethod
    trained_tokens: int | None
    seed: int
    metadata: dict[str, str] | None
    integrations: list[Any]
    x_state: str
    x_name: str
    x_job_id: int
    x_step: int
    x_total_steps: int | None
    x_position: int | None
    x_why: str | None  # it waits, as a sentence
    x_base_model: str
    x_started_from: list[str]  # tuned models, the nearest first
    x_rows: dict[str, int]  # how many it practises, checks on and is tested on
    # By use: examples that are too long, their tokens that are lost, and answers among these; null
    # before training begins.
    x_cut: dict[str, dict[str, int]] | None
    x_chosen_by: ChosenBy  # by which rows it chooses its step; by practised ones none
    x_settings: dict[str, Any]
    x_metrics: dict[str, Any] | None


class Estimate(BaseModel):
    """What a job would take, and when; null where nobody can say yet, and `why` says why."""

    seconds: float | None = None  # training alone
    num_steps: int | None = None
    num_tokens: int | None = None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None  # on each device
    fits: Literal["yes", "tight", "no"] | None = None
    device: str | None = None
    num_devices: int | None = None
    reasons: list[str] | None = None  # how it would train, and what slows it down
    position: int | None = None  # in the queue; 1 is next
    # The earliest and the latest, in Unix seconds.
    starts: tuple[int, int] | None = None
    ends: tuple[int, int] | None = None
    why: str  # it would wait
    notes: list[str] = []  # what the starting model does not take of the data; sentences


class PlannedJob(FineTuningJob):
    """What `x_etude.dry_run` answers: the job that was not made."""

    id: None = None  # type: ignore[assignment]
    x_job_id: None = None  # type: ignore[assignment]
    x_estimate: Estimate


class JobEvent(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class CheckpointMetrics(BaseModel):
    step: int
    train_loss: float | None = None
    valid_loss: float | None = None
    full_valid_loss: float | None = None


class JobCheckpoint(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: CheckpointMetrics
    x_exists: bool  # its files still lie on this server's disk


class Count(BaseModel):
    """How many answers got which mark; `unsure` waits for a person, and counts as not right."""

    right: int
    partly: int
    wrong: int
    unsure: int
    num: int


class JudgeShown(BaseModel):
    """A larger model that marked answers: its marks stand beside those of rules and people."""

    model: str
    status: JudgingStatus
    reason: str | None = Field(description="Why it failed.")
    num: int = Field(description="Answers that it read, over all arms.")
    unclear: int = Field(description="Of these, replies that were no mark.")
    counting: int = Field(description="Its marks that count.")
    compared: int = Field(description="Answers that a person marked as well.")
    agreed: int = Field(description="Of these, with the same mark.")


class EvaluationShown(Count):
    """How many answers of a model are right, beside those of others on the same questions."""

    id: str
    object: str = "x_evaluation"
    created_at: int
    finished_at: int | None
    status: EvaluationStatus
    model: str
    verdict: str | None = Field(description="The standing; null until all is counted.")
    summary: str = Field(description="The same as sentences.")
    reason: str | None = Field(description="Why it failed.")
    num_answered: int
    num_questions: int
    arms: dict[Arm, Count]
    practice: Count | None
    unanswerable: Count | None = Field(description="Of those, `wrong` were answers made up.")
    general: dict[Arm, Count] = Field(description="General questions, before and after training.")
    site: dict[Arm, Count] = Field(description="The same of the department's own list.")
    right_between: tuple[float, float] | None
    wrong_between: tuple[float, float] | None
    than_base: Difference | None
    than_lookup: Difference | None
    num_by_people: int
    judge: JudgeShown | None = Field(description="The newest larger model that marked answers.")


class ImportShown(BaseModel):
    """How far the import of a starting model is."""

    doing: str
    done_bytes: int | None
    whole_bytes: int | None


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    x_kind: Literal["base", "adapter", "lookup", "untrained"]
    x_label: str
    x_status: str
    x_reason: str | None
    x_import: ImportShown | None = None
    x_base_model: str | None
    x_started_from: list[str]  # tuned models, the nearest first
    x_job: str | None
    x_adapter_id: int | None
    # What it was told before each question, and how many of its answers are right; a list of models
    # says neither.
    x_instruction: str | None = None
    x_evaluation: EvaluationShown | None = None
    x_lookup: str | None = None  # the file whose rows it puts before each question
    x_metrics: dict[str, Any] | None
