"""A house with a row of every noun that pages show, and the address of each of its pages."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import storage
from app.core.models import (
    AdapterUse,
    AnswerReport,
    ApiToken,
    Arm,
    Beside,
    Channel,
    Conversation,
    ConversationAnswer,
    ConversationTurn,
    ExampleKind,
    Export,
    ExportForm,
    ExportStatus,
    Feedback,
    Finish,
    KeptQuestion,
    LearningCurve,
    ListStatus,
    Notice,
    NoticeKind,
    OutboundCount,
    Outgoing,
    PrivacyPattern,
    Quantization,
    QuarantinedDevice,
    QuestionAnswer,
    QuestionList,
    Release,
    Role,
    User,
    VotePair,
    VoteRound,
    Webhook,
    Worker,
)
from app.machines.devices import DeviceReading, Readings
from app.main import PAGE_ROUTERS
from tests.factories import (
    make_adapter,
    make_asking,
    make_base_model,
    make_dataset_version,
    make_evaluation,
    make_job,
    make_user,
)


def furnish(db: Session) -> User:
    """Make the rows; returns the administrator who may see all of them."""
    admin = make_user(db, role=Role.ADMIN)
    make_user(db, role=Role.VIEWER)
    make_base_model(db)
    version = make_dataset_version(db, user=admin, num_train=40, num_validation=8, num_test=8)
    texts = make_dataset_version(db, user=admin, name="Rules", kind=ExampleKind.TEXT)
    make_asking(db, texts)
    make_job(db, user=admin, version=version, log_tail="the end of a log", reason="it is so")
    binned = make_adapter(db, user=admin, binned_at=datetime.now(UTC), binned_by_id=admin.id)
    assert binned.job is not None
    binned.job.binned_at = datetime.now(UTC)
    adapter = make_adapter(db, user=admin)
    adapter.release, adapter.keeps_questions = Release.RELEASED, True
    first, second = make_evaluation(db, adapter=adapter), make_evaluation(db, adapter=adapter)
    vote = VoteRound(
        department_id=admin.department_id,
        owner_id=admin.id,
        first_evaluation_id=first.id,
        first_arm=Arm.TUNED,
        second_evaluation_id=second.id,
        second_arm=Arm.TUNED,
    )
    talk = Conversation(
        owner_id=admin.id,
        adapter_id=adapter.id,
        beside=Beside.BASE,
        instruction="Be short.",
        temperature=0,
    )
    listed = QuestionList(
        department_id=admin.department_id,
        owner_id=admin.id,
        adapter_id=adapter.id,
        adapter_name="Ward",
        filename="questions.csv",
        status=ListStatus.DONE,
        columns=["question", "ward"],
        question_column=0,
        warnings=["A row was empty."],
        num_rows=1,
        num_done=1,
    )
    curve = LearningCurve(
        department_id=admin.department_id,
        owner_id=admin.id,
        version_id=version.id,
        base_model_id=adapter.base_model_id,
    )
    hook = Webhook(name="Ward", url="https://hooks.house.example/x", last_answer="200")
    taken = Export(
        department_id=admin.department_id,
        owner_id=admin.id,
        adapter_id=adapter.id,
        form=ExportForm.MERGED,
        quantization=Quantization.BF16,
        status=ExportStatus.READY,
        **_stored_export(),
    )
    db.add_all([vote, talk, listed, curve, hook, taken])
    db.flush()
    turn = ConversationTurn(conversation_id=talk.id, question="Where?")
    db.add(turn)
    db.flush()
    answer = ConversationAnswer(
        turn_id=turn.id,
        place=0,
        is_base=False,
        adapter_id=adapter.id,
        label="Ward",
        text="There.",
        finish=Finish.STOP,
        better="Here.",
        thumb=-1,
    )
    reading = DeviceReading(device="cpu", kind="cpu", name="A processor")
    db.add_all(
        [
            answer,
            VotePair(round_id=vote.id, number=0, first_position=0, second_position=0),
            QuestionAnswer(
                list_id=listed.id, index=0, cells=["Where?", "3"], question="Where?", tuned="There."
            ),
            KeptQuestion(adapter_id=adapter.id, question="Where?", answer="There."),
            AnswerReport(
                adapter_id=adapter.id,
                reporter_id=admin.id,
                question="Where?",
                answer="There.",
                note="wrong",
            ),
            AdapterUse(
                adapter_id=adapter.id, user_id=admin.id, day=datetime.now(UTC).date(), num_asked=1
            ),
            Feedback(
                adapter_id=adapter.id,
                author_id=admin.id,
                question="Where?",
                answer="There.",
                label="Ward",
                better="Here.",
                thumb=-1,
            ),
            ApiToken(user_id=admin.id, token_hash=b"1", prefix="etude-1", name="A program"),
            Notice(
                user_id=admin.id,
                kind=NoticeKind.JOB_FAILED,
                key="job 1 failed",
                title="A job failed",
                link="/jobs/1",
            ),
            Outgoing(
                channel=Channel.WEBHOOK,
                webhook_id=hook.id,
                content={"type": "etude.test"},
                last_error="no answer",
            ),
            PrivacyPattern(name="Ward number", kind="record", pattern="W[0-9]+"),
            QuarantinedDevice(host="here", device="cuda:0", reason="It is broken."),
            Worker(
                id="gpu-0@here",
                queue="gpu",
                host="here",
                boot_id="b",
                devices=["cpu"],
                version="1",
                readings=Readings(devices=[reading]).model_dump(),
            ),
            OutboundCount(process="web@here", allowed={"mail": 1}, unexpected={"x.example": 1}),
        ]
    )
    db.commit()
    return admin


def _stored_export() -> dict[str, Any]:
    """What a worker writes down of an export that is ready."""
    stored = storage.put("exports", [b"a zip"])
    return {
        "storage_key": stored.key,
        "size_bytes": stored.size_bytes,
        "sha256": stored.sha256,
        "filename": "ward-merged.zip",
        "kept_until": datetime.now(UTC) + timedelta(days=7),
        "notes": ["One row is kept in 8 bits."],
        "agreement": [
            {
                **{"program": "transformers 5", "quantization": "bf16", "num_rows": 8},
                **{"num_positions": 400, "same_share": 0.99, "loss": 2.01, "reference_loss": 2.0},
                **{"bound": {"same_share": 0.98, "loss": 0.02}, "rows": "test rows"},
            }
        ],
    }


def addresses(db: Session) -> list[str]:
    """Return the address of each page and each download, once for every row that it can be of."""
    patterns = [
        route.path  # type: ignore[attr-defined]
        for router in PAGE_ROUTERS
        for route in router.routes
        if "GET" in route.methods  # type: ignore[attr-defined]
    ]
    found = []
    for pattern in patterns:
        # The stream of a job does not end.
        if pattern.endswith("/events") or pattern == "/setup/{secret}":
            continue
        found += _filled(db, pattern)
    return found


# --- which row stands for which word of an address

_TABLES = {
    "dataset_id": "dataset",
    "version_id": "dataset_version",
    "job_id": "job",
    "adapter_id": "adapter",
    "evaluation_id": "evaluation",
    "conversation_id": "conversation",
    "list_id": "question_list",
    "notice_id": "notice",
    "round_id": "vote_round",
    "curve_id": "learning_curve",
    "export_id": "export",
}
_WORDS = {"index": ["0", "1"], "kind": ["duplicates"], "sample": ["clinic"], "secret": ["x"]}
_WORDS |= {"chapter": ["data", "settings", "glossary"], "picture": ["data.webp"]}


def _filled(db: Session, pattern: str) -> list[str]:
    made = [pattern]
    for name in re.findall(r"\{(\w+)\}", pattern):
        if name in _TABLES:
            there = " WHERE binned_at IS NULL" if _TABLES[name] in ("job", "adapter") else ""
            rows = db.execute(text(f"SELECT id FROM {_TABLES[name]}{there} ORDER BY id")).scalars()
            values = [str(row) for row in rows]
        else:
            values = _WORDS[name]
        assert values, f"nothing stands for {name}"
        made = [each.replace(f"{{{name}}}", value) for each in made for value in values]
    return made
