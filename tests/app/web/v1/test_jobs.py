"""/v1/fine_tuning/jobs with the official client: created once, listed, steered."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import (
    BaseModel,
    DatasetVersion,
    ExampleKind,
    Job,
    ModelStatus,
    Role,
    User,
    VersionStatus,
    Worker,
)
from app.core.models.base import Base
from app.jobs import protocol
from app.training.plan.machine import DeviceInfo
from tests import factories
from tests.app.datasets.test_lengths import byte_model
from tests.app.web.v1.conftest import connect
from tests.app.web.v1.test_files import upload, version_of

AGAIN = {"x-stainless-retry-count": "1"}
WORKER = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1, 1, ("cpu",))


@pytest.fixture
def model(db: Session) -> BaseModel:
    return factories.make_base_model(db, name="house/tiny")


@pytest.fixture
def version(db: Session, user: User) -> DatasetVersion:
    return factories.make_dataset_version(db, user=user)


def create(api: OpenAI, version: DatasetVersion, **given: Any) -> FineTuningJob:
    given = {"model": "house/tiny", "training_file": version.file.public_id, **given}
    return api.fine_tuning.jobs.create(**given)


def state(job: FineTuningJob) -> object:
    assert job.model_extra is not None
    return job.model_extra["x_state"]


def rows(db: Session) -> list[Job]:
    db.expire_all()
    return list(db.scalars(select(Job).order_by(Job.id)))


def test_a_job_is_queued_with_the_presets_numbers(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    job = create(api, version, suffix="ward-7", seed=5, metadata={"ward": "7"})
    assert (job.object, job.status, state(job)) == ("fine_tuning.job", "queued", "waiting")
    assert (job.model, job.training_file) == ("house/tiny", version.file.public_id)
    assert job.hyperparameters.n_epochs == 6  # Balanced
    assert job.hyperparameters.batch_size == 16
    assert job.hyperparameters.learning_rate_multiplier == 1
    assert (job.seed, job.metadata, job.result_files) == (5, {"ward": "7"}, [])
    assert job.fine_tuned_model is None
    [row] = rows(db)
    assert (row.public_id, row.suffix, row.name) == (job.id, "ward-7", "ward-7")
    assert row.config["seed"] == 5
    assert api.fine_tuning.jobs.retrieve(job.id) == job


def test_numbers_are_taken_from_where_openai_puts_them(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    numbers = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    method = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    job = create(api, version, method=method, hyperparameters={"n_epochs": 9})
    assert job.method is not None
    assert job.method.supervised is not None
    settled = job.method.supervised.hyperparameters
    assert settled is not None
    assert (settled.n_epochs, settled.batch_size, settled.learning_rate_multiplier) == (2, 16, 0.5)
    legacy = create(api, version, hyperparameters={"n_epochs": 9})
    assert legacy.hyperparameters.n_epochs == 9
    first, second = rows(db)
    assert (first.config["num_epochs"], first.config["learning_rate"]) == (2, 2.5e-4)
    assert second.config["num_epochs"] == 9


def test_our_own_settings_ride_in_one_field(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    ours = {"preset": "quick", "name": "First try", "lora_rank": 4, "num_epochs": 1.5}
    job = create(api, version, extra_body={"x_etude": ours})
    assert job.hyperparameters.n_epochs == 1.5
    assert job.hyperparameters.learning_rate_multiplier == 2  # Quick's
    [row] = rows(db)
    assert (row.name, row.config["lora_rank"], row.config["learning_rate"]) == (
        "First try",
        4,
        1e-3,
    )


def test_preferences_are_learned_where_the_data_has_pairs(
    api: OpenAI, db: Session, user: User, model: BaseModel
) -> None:
    pairs = factories.make_dataset_version(db, user=user, kind=ExampleKind.PREFERENCE)
    numbers = {"n_epochs": 2, "learning_rate_multiplier": 2, "beta": 0.2}
    job = create(api, pairs, method={"type": "dpo", "dpo": {"hyperparameters": numbers}})
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.type == "dpo"
    assert job.method.dpo.hyperparameters.beta == 0.2
    assert job.method.dpo.hyperparameters.learning_rate_multiplier == 2
    plain = create(api, pairs)
    assert plain.method is not None
    assert plain.method.type == "supervised"
    first, second = rows(db)
    kept = [first.config[name] for name in ("objective", "dpo_beta", "learning_rate", "num_epochs")]
    assert kept == ["dpo", 0.2, 1e-4, 2]  # a tenth of what answers are learned with, twice
    assert second.config["objective"] == "supervised"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"method": {"type": "supervised", "dpo": {}}}, "method", "unsupported"),
    ({"method": {"type": "dpo"}}, "method", "invalid_request"),  # this data has no pairs
    ({"extra_body": {"x_etude": {"objective": "dpo"}}}, "x_etude.objective", "invalid_request"),
    ({"extra_body": {"x_etude": {"name": "  "}}}, "x_etude.name", "invalid_request"),
    ({"method": {"type": "reinforcement"}}, "method.type", "unsupported"),
    (
        {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]},
        "integrations",
        "unsupported",
    ),
    ({"training_file": "file-0123"}, "training_file", "invalid_file"),
    ({"validation_file": "file-0123"}, "validation_file", "invalid_file"),
    ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs", "invalid_value"),
    ({"hyperparameters": {"n_epochs": 1000}}, "hyperparameters.n_epochs", "invalid_value"),
    ({"extra_body": {"x_etude": {"lora_rnak": 8}}}, "x_etude.lora_rnak", "unknown_parameter"),
    ({"extra_body": {"x_etude": {"lora_rank": 0}}}, "x_etude.lora_rank", "invalid_value"),
    ({"extra_body": {"x_lora": {"r": 8}}}, "x_lora", "unknown_parameter"),
    ({"extra_body": {"x_etude": {"lora_rank": True}}}, "x_etude.lora_rank", "invalid_value"),
    (
        {"extra_body": {"x_etude": {"learning_rate": False}}},
        "x_etude.learning_rate",
        "invalid_value",
    ),
    ({"hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs", "invalid_value"),
    ({"hyperparameters": {"batch_size": False}}, "hyperparameters.batch_size", "invalid_value"),
    (
        {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": True}}}},
        "method.dpo.hyperparameters.beta",
        "invalid_value",
    ),
    ({"seed": True}, "seed", "invalid_value"),
    ({"suffix": "a" * 65}, "suffix", "invalid_value"),
    ({"suffix": "a\0"}, "suffix", "invalid_value"),
    ({"metadata": {"a": "\0"}}, "metadata.a", "invalid_value"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "metadata", "invalid_value"),
    ({"seed": -1}, "seed", "invalid_value"),
]


def test_what_cannot_be_done_is_refused_by_name(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    for given, param, code in REFUSED:
        with pytest.raises(openai.BadRequestError) as raised:
            create(api, version, **given)
        assert (raised.value.param, raised.value.code) == (param, code), given
    assert rows(db) == []


def test_a_limit_is_said_in_the_callers_own_unit(
    api: OpenAI, model: BaseModel, version: DatasetVersion
) -> None:
    def refusal(**given: Any) -> str:
        with pytest.raises(openai.BadRequestError) as raised:
            create(api, version, **given)
        return str((raised.value.body or {})["message"])  # type: ignore[index]

    multiplier = {"learning_rate_multiplier": 21}
    # At most 0.01 a step; 5e-4 is proposed for this model.
    assert refusal(hyperparameters=multiplier) == (
        "hyperparameters.learning_rate_multiplier: it has to be at most 20."
    )
    assert refusal(method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 1e6}}}).startswith(
        "method.dpo.hyperparameters.beta: it has to be at most "
    )
    assert refusal(suffix="a" * 65) == "suffix: it may have at most 64 characters."
    name = {"x_etude": {"name": "a" * 121}}
    assert refusal(extra_body=name) == "x_etude.name: it may have at most 120 characters."
    assert refusal(metadata={"ward": "7" * 513}) == (
        "metadata.ward: it may have at most 512 characters."
    )
    many = {str(number): "x" for number in range(17)}
    assert refusal(metadata=many) == "metadata: give at most 16."


def test_data_is_named_by_the_field_it_came_in(
    api: OpenAI, db: Session, user: User, model: BaseModel, version: DatasetVersion
) -> None:
    undecided = factories.make_dataset_version(db, user=user, decided=False).file.public_id
    for given, param in (
        ({"training_file": undecided}, "training_file"),
        ({"validation_file": undecided}, "validation_file"),
    ):
        with pytest.raises(openai.ConflictError) as raised:
            create(api, version, **given)
        assert (raised.value.param, raised.value.code) == (param, "privacy_undecided")


@pytest.mark.parametrize(
    ("suffix", "folded"),
    [
        ("Größe 7", "grosse-7"),
        ("Été: crème/brûlée", "ete-creme-brulee"),
        ("Ward_7.b", "ward_7.b"),
        ("  W7 ", "w7"),
        ("医療", None),
        ("-", None),
    ],
)
def test_a_suffix_in_other_letters_is_folded(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion, suffix: str, folded: str
) -> None:
    job = create(api, version, suffix=suffix)
    [row] = rows(db)
    assert row.suffix == folded
    # Where people read it, it stands as it was sent.
    assert row.name == suffix.strip()
    assert job.status == "queued"


def test_an_unknown_model_is_a_404_with_openais_code(
    api: OpenAI, db: Session, version: DatasetVersion
) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        create(api, version)
    assert (raised.value.param, raised.value.code) == ("model", "model_not_found")


def test_data_that_could_not_be_read_is_refused_with_its_reason(
    api: OpenAI, db: Session, user: User, model: BaseModel
) -> None:
    broken = factories.make_dataset_version(
        db, user=user, status=VersionStatus.FAILED, reason="Line 3 has no answer."
    )
    with pytest.raises(openai.BadRequestError, match="Line 3 has no answer"):
        create(api, broken)
    unsure = factories.make_dataset_version(db, user=user, status=VersionStatus.MAPPING)
    with pytest.raises(openai.BadRequestError, match="confirm the columns"):
        create(api, unsure)


def test_a_job_waits_for_its_file_to_be_read(api: OpenAI, db: Session, model: BaseModel) -> None:
    file_id = upload(api)
    job = api.fine_tuning.jobs.create(model="house/tiny", training_file=file_id)
    assert (job.status, state(job)) == ("validating_files", "validating_files")
    assert protocol.claim(db, WORKER) is None
    db.rollback()
    version = version_of(db, file_id)
    version.status = VersionStatus.READY
    db.commit()
    assert protocol.claim(db, WORKER) is None, "its personal details are not looked for yet"
    assert api.fine_tuning.jobs.retrieve(job.id).status == "validating_files"
    factories.pass_gate(db, version)
    assert api.fine_tuning.jobs.retrieve(job.id).status == "queued"
    assert protocol.claim(db, WORKER) is not None
    db.commit()
    assert api.fine_tuning.jobs.retrieve(job.id).status == "running"


def test_a_job_waits_for_its_validation_file_too(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    file_id = upload(api)
    job = create(api, version, validation_file=file_id)
    assert (job.status, job.validation_file) == ("validating_files", file_id)
    assert protocol.claim(db, WORKER) is None


def test_a_job_is_not_tested_on_what_it_practised(
    api: OpenAI, model: BaseModel, version: DatasetVersion
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        create(api, version, validation_file=version.file.public_id)
    assert raised.value.param == "validation_file"


# --- the same request twice ----------------------------------------------------------------


def test_a_repeated_create_gives_the_first_job(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    first = create(api, version, suffix="a")
    assert create(api, version, suffix="a", extra_headers=AGAIN).id == first.id
    assert create(api, version, suffix="b", extra_headers=AGAIN).id != first.id
    # Not a repeat: somebody wants the same once more.
    assert create(api, version, suffix="a").id != first.id
    assert len(rows(db)) == 3


def test_the_client_itself_repeats_after_a_lost_answer(
    db: Session, address: str, user: User, model: BaseModel, version: DatasetVersion
) -> None:
    class LosesTheFirstAnswer(httpx2.HTTPTransport):
        num_sent = 0

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            response = super().handle_request(request)
            self.num_sent += 1
            if self.num_sent == 1:
                response.close()
                raise httpx2.ReadError("the cable was pulled")
            return response

    transport = LosesTheFirstAnswer()
    with connect(db, address, user) as plain:
        client = OpenAI(
            base_url=plain.base_url,
            api_key=plain.api_key,
            http_client=httpx2.Client(transport=transport),
        )
    with client:
        job = create(client, version)
    assert transport.num_sent == 2
    assert [row.public_id for row in rows(db)] == [job.id]


def test_an_idempotency_key_stands_for_one_request(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    keyed = {"Idempotency-Key": "monday"}
    first = create(api, version, extra_headers=keyed)
    assert create(api, version, extra_headers=keyed).id == first.id
    with pytest.raises(openai.BadRequestError) as raised:
        create(api, version, suffix="other", extra_headers=keyed)
    assert raised.value.code == "idempotency_key_reused"
    assert len(rows(db)) == 1


def test_equal_requests_at_the_same_moment_make_one_job(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    file_id = version.file.public_id

    def create_keyed(_: int) -> str:
        return api.fine_tuning.jobs.create(
            model="house/tiny", training_file=file_id, extra_headers={"Idempotency-Key": "tuesday"}
        ).id

    with ThreadPoolExecutor(max_workers=6) as pool:
        made = set(pool.map(create_keyed, range(6)))
    assert len(made) == 1
    assert len(rows(db)) == 1


def test_a_repeat_finds_nothing_of_another_account(
    api: OpenAI, address: str, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    first = create(api, version)
    with connect(db, address, factories.make_user(db)) as colleague:
        assert create(colleague, version, extra_headers=AGAIN).id != first.id


# --- looking and steering ------------------------------------------------------------------


def test_lists_page_by_themselves_newest_first(
    api: OpenAI, model: BaseModel, version: DatasetVersion
) -> None:
    made = [create(api, version).id for _ in range(5)]
    assert [job.id for job in api.fine_tuning.jobs.list(limit=2)] == made[::-1]
    with pytest.raises(openai.BadRequestError) as raised:
        api.fine_tuning.jobs.list(after="ftjob-0123")
    assert raised.value.param == "after"


def test_lists_filter_by_metadata(api: OpenAI, model: BaseModel, version: DatasetVersion) -> None:
    plain = create(api, version).id
    seven = create(api, version, metadata={"ward": "7", "by": "ada & bea"}).id
    eight = create(api, version, metadata={"ward": "8", "by": "ada & bea"}).id
    listed = api.fine_tuning.jobs.list
    assert [job.id for job in listed(metadata={"ward": "7"})] == [seven]
    assert [job.id for job in listed(metadata={"by": "ada & bea"})] == [eight, seven]
    assert [job.id for job in listed(metadata={"by": "ada & bea", "ward": "8"})] == [eight]
    assert [job.id for job in listed(extra_query={"metadata": "null"})] == [plain]


def test_a_waiting_job_is_paused_resumed_and_cancelled(
    api: OpenAI, model: BaseModel, version: DatasetVersion
) -> None:
    job = create(api, version)
    paused = api.fine_tuning.jobs.pause(job.id)
    assert (paused.status, state(paused)) == ("queued", "paused")
    assert getattr(paused, "x_why", "").startswith("Paused by ")
    resumed = api.fine_tuning.jobs.resume(job.id)
    assert (resumed.status, state(resumed)) == ("queued", "waiting")
    cancelled = api.fine_tuning.jobs.cancel(job.id)
    assert (cancelled.status, cancelled.finished_at is None) == ("cancelled", False)
    deeds = api.fine_tuning.jobs
    for deed in (deeds.cancel, deeds.pause, deeds.resume):
        with pytest.raises(openai.BadRequestError, match="already ended") as raised:
            deed(job.id)
        assert raised.value.code == "invalid_state"


def test_a_running_job_is_asked_to_stop(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    job = create(api, version)
    assert protocol.claim(db, WORKER) is not None
    db.commit()
    asked = api.fine_tuning.jobs.cancel(job.id)
    assert (asked.status, state(asked)) == ("running", "cancelling")


def test_a_failed_job_says_why(
    api: OpenAI, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    job = create(api, version)
    claim = protocol.claim(db, WORKER)
    assert claim is not None
    protocol.fail(db, claim, code="out_of_memory", reason="The GPU's memory is too small.")
    db.commit()
    failed = api.fine_tuning.jobs.retrieve(job.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "out_of_memory"
    assert failed.error.message == "The GPU's memory is too small."


def test_jobs_belong_to_a_department(
    api: OpenAI, address: str, db: Session, model: BaseModel, version: DatasetVersion
) -> None:
    job = create(api, version)
    stranger = factories.make_user(db, department=factories.make_department(db))
    with connect(db, address, stranger) as theirs:
        assert list(theirs.fine_tuning.jobs.list()) == []
        deeds = theirs.fine_tuning.jobs
        for deed in (deeds.retrieve, deeds.cancel, deeds.pause, deeds.list_events):
            with pytest.raises(openai.NotFoundError):
                deed(job.id)
        with pytest.raises(openai.NotFoundError):
            deeds.checkpoints.list(job.id)
        with pytest.raises(openai.BadRequestError) as raised:
            create(theirs, version)
        assert raised.value.param == "training_file"
    assert api.fine_tuning.jobs.retrieve(job.id).status == "queued"


def test_a_viewer_starts_nothing(
    address: str, db: Session, user: User, model: BaseModel, version: DatasetVersion
) -> None:
    with connect(db, address, factories.make_user(db, role=Role.VIEWER)) as viewer:
        with pytest.raises(openai.PermissionDeniedError):
            create(viewer, version)
        assert list(viewer.fine_tuning.jobs.list()) == []


def test_a_model_that_could_not_be_imported_is_refused(
    api: OpenAI, db: Session, version: DatasetVersion
) -> None:
    factories.make_base_model(
        db, name="house/tiny", status=ModelStatus.FAILED, reason="Not safetensors."
    )
    with pytest.raises(openai.BadRequestError, match="Not safetensors") as raised:
        create(api, version)
    assert raised.value.param == "model"


# --- a job that is not made ------------------------------------------------------------------


def everything(db: Session) -> dict[str, list[Any]]:
    """All rows of all tables, and all files; what is read with a token is the same each time."""
    db.expire_all()
    rows: dict[str, list[Any]] = {
        table.name: [tuple(row) for row in db.execute(select(table).order_by(*table.primary_key))]
        for table in Base.metadata.sorted_tables
    }
    folder = settings.get().data_dir
    rows["files"] = sorted(
        (str(path), path.stat().st_size) for path in folder.rglob("*") if path.is_file()
    )
    return rows


def add_worker(db: Session) -> None:
    hardware = DeviceInfo(name="Old Faithful", free_bytes=8 * 1024**3).model_dump()
    db.add(
        Worker(
            id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=["cpu"], version="1",
            hardware=hardware, readings={"devices": [{"device": "cpu", "kind": "cpu", "load": 5}]},
        )
    )  # fmt: skip
    db.commit()


def test_a_dry_run_says_what_a_job_would_take_and_stores_nothing(
    api: OpenAI, db: Session, user: User, version: DatasetVersion
) -> None:
    model = byte_model(db)
    model.config = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 320,
        "num_attention_heads": 4, "intermediate_size": 128,
    }  # fmt: skip
    model.num_parameters = 150_000
    add_worker(db)
    plan = {"seconds": 600, "tokens_per_second": 100, "peak_bytes": 10**9}
    waiting = factories.make_job(db, user=user, version=version, base_model=model, plan=plan)
    held_out = factories.make_dataset_version(db, user=user)
    api.models.list()  # the token is used, and knows it
    before = everything(db)
    given: dict[str, Any] = {
        "model": model.name,
        "suffix": "ward-7",
        "metadata": {"ward": "7"},
        "validation_file": held_out.file.public_id,
        "extra_headers": {"Idempotency-Key": "once"},
    }
    ours = {"preset": "quick", "lora_rank": 4}
    planned = create(api, version, **given, extra_body={"x_etude": {**ours, "dry_run": True}})
    assert everything(db) == before
    assert planned.id is None
    assert (planned.object, planned.status) == ("fine_tuning.job", "queued")
    assert planned.model_extra is not None
    extra = planned.model_extra
    assert (extra["x_job_id"], extra["x_position"]) == (None, 2)
    assert extra["x_settings"]["lora_rank"] == 4
    estimate = extra["x_estimate"]
    assert estimate["seconds"] > 0
    assert estimate["num_steps"] > 0
    assert 0 < estimate["memory_bytes"] < 8 * 1024**3
    assert (estimate["fits"], estimate["device"]) == ("yes", "Old Faithful")
    assert any("just now 5 at once want" in reason for reason in estimate["reasons"])
    assert (estimate["position"], estimate["why"]) == (2, "One job is ahead of it.")
    earliest, latest = estimate["ends"]
    assert estimate["starts"][0] <= earliest <= latest
    # The real one is as it was said, and the queue remembers no other.
    real = create(api, version, **given, extra_body={"x_etude": ours})
    assert real.hyperparameters == planned.hyperparameters
    assert real.model_extra is not None
    assert real.model_extra["x_position"] == 2
    assert "x_estimate" not in real.model_extra
    assert [row.id for row in rows(db)] == [waiting.id, rows(db)[-1].id]


def test_a_dry_run_is_refused_as_the_job_would_be(
    api: OpenAI, db: Session, user: User, model: BaseModel, version: DatasetVersion
) -> None:
    dry = {"x_etude": {"dry_run": True}}
    undecided = factories.make_dataset_version(db, user=user, decided=False)
    before = everything(db)
    with pytest.raises(openai.ConflictError) as conflict:
        create(api, undecided, extra_body=dry)
    assert conflict.value.code == "privacy_undecided"
    with pytest.raises(openai.NotFoundError):
        create(api, version, model="house/none", extra_body=dry)
    for wrong, param in (("yes", "dry_run"), (1, "dry_run")):
        with pytest.raises(openai.BadRequestError) as raised:
            create(api, version, extra_body={"x_etude": {param: wrong}})
        assert raised.value.param == f"x_etude.{param}"
    after = everything(db)
    for each in (before, after):
        each.pop("api_token")  # when it was used
    assert after == before


def test_a_dry_run_on_data_that_is_still_read_says_so(
    api: OpenAI, db: Session, user: User, model: BaseModel
) -> None:
    coming = factories.make_dataset_version(db, user=user, status=VersionStatus.UPLOADED)
    planned = create(api, coming, extra_body={"x_etude": {"dry_run": True}})
    assert planned.status == "validating_files"
    assert planned.model_extra is not None
    estimate = planned.model_extra["x_estimate"]
    assert (estimate["seconds"], estimate["fits"]) == (None, None)
    assert estimate["why"] == "Its data is being read."
    assert rows(db) == []
