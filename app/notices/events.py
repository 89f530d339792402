"""Writes what is to be told, in the operation's transaction: told if and only if it happened."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from app.core import clock, settings, wakeup
from app.core.models import (
    Adapter,
    Asking,
    AskingStatus,
    Channel,
    DatasetVersion,
    Evaluation,
    EvaluationStatus,
    Job,
    JobStatus,
    Json,
    Notice,
    NoticeKind,
    Outgoing,
    QuestionList,
    Role,
    User,
    Webhook,
    Worker,
)

WORDS = {
    NoticeKind.JOB_SUCCEEDED: "One of my jobs has finished",
    NoticeKind.JOB_FAILED: "One of my jobs has failed",
    NoticeKind.JOB_CANCELLED: "Somebody else cancelled one of my jobs",
    NoticeKind.DECISION_NEEDED: "My data needs a decision about personal details",
    NoticeKind.ANSWER_REPORTED: "A colleague reported an answer of one of my models",
    NoticeKind.QUESTIONS_READY: "Questions that a model wrote or answered for me are ready",
    NoticeKind.MACHINE_ILL: "A machine has a problem (administrators)",
    NoticeKind.NOT_DELIVERED: "A notice could not be delivered (administrators)",
}
# What only administrators are told.
FOR_ADMINISTRATORS = frozenset({NoticeKind.MACHINE_ILL, NoticeKind.NOT_DELIVERED})
# Jobs go by the names that OpenAI's webhooks have, so that its clients know them.
_EVENTS = {
    NoticeKind.JOB_SUCCEEDED: "fine_tuning.job.succeeded",
    NoticeKind.JOB_FAILED: "fine_tuning.job.failed",
    NoticeKind.DECISION_NEEDED: "etude.decision.needed",
    NoticeKind.MACHINE_ILL: "etude.machine.ill",
}
_MAX_NAME = 80


def job_started(db: Session, job_id: int) -> None:
    """Have the house's MLflow, if there is one, told of a job from now on; once is enough."""
    if not settings.get().mlflow_url:
        return
    row = {"channel": Channel.MLFLOW, "job_id": job_id, "content": {}}
    db.execute(insert(Outgoing).values(row).on_conflict_do_nothing(index_elements=["job_id"]))
    db.execute(select(wakeup.bell("outbox")))


def job_ended(db: Session, job_id: int, result: str = "", counts: Json | None = None) -> None:
    """Tell a job's owner that it is finished or has failed; why, stands on its page alone.

    Args:
        result: How many of its answers are right, in a few words; no row of the data.
        counts: The same for programs.
    """
    job = db.execute(
        select(Job.status, Job.public_id, Job.name, Job.owner_id).where(Job.id == job_id)
    ).one()
    if job.status is JobStatus.SUCCEEDED:
        kind, title = NoticeKind.JOB_SUCCEEDED, f"“{_short(job.name)}” has finished"
        title += f": {result}" if result else ""
    elif job.status is JobStatus.FAILED:
        kind, title = NoticeKind.JOB_FAILED, f"“{_short(job.name)}” has failed"
    else:
        return
    key, link = f"job {job_id} {job.status.value}", f"/jobs/{job_id}"
    _tell(db, [db.get_one(User, job.owner_id)], kind, key, title, link)
    about = {"id": job.public_id} | ({"x_evaluation": counts} if counts else {})
    _call(db, kind, key, about, link)
    if counts:
        _add_figures(db, job_id, counts)


def _add_figures(db: Session, job_id: int, counts: Json) -> None:
    """Have MLflow told how many answers are right, where it was told of the job."""
    figures = {
        f"evaluation/{name}": value for name, value in counts.items() if isinstance(value, int)
    }
    told = Outgoing.content.concat(cast({"figures": figures}, JSONB))
    db.execute(
        update(Outgoing)
        .where(Outgoing.job_id == job_id)
        .values(content=told, sent_at=None, send_after=clock.NOW)
    )


def job_cancelled(db: Session, job: Job, by: User, why: str) -> None:
    """Tell a job's owner that somebody else cancelled it: who, and why where that was said."""
    title = f"{by.name or by.email} cancelled “{_short(job.name)}”"
    title += f": “{why}”" if why else ""
    key, link = f"job {job.id} cancelled", f"/jobs/{job.id}"
    _tell(db, [db.get_one(User, job.owner_id)], NoticeKind.JOB_CANCELLED, key, title, link)


def evaluations_go(db: Session, *conditions: ColumnElement[bool]) -> None:
    """Tell of jobs whose evaluation is about to be deleted: nobody waits for it any more.

    Args:
        conditions: Which evaluations, beside those that are over.
    """
    open_ones = select(Adapter.job_id).join(Evaluation, Evaluation.adapter_id == Adapter.id)
    going = open_ones.where(
        Evaluation.follows_job,
        Evaluation.status.in_((EvaluationStatus.WAITING, EvaluationStatus.EVALUATING)),
        Adapter.job_id.is_not(None),
        *conditions,
    )
    for job_id in db.scalars(going).all():
        if job_id is not None:
            job_ended(db, job_id)


def decision_needed(db: Session, version: DatasetVersion) -> None:
    """Tell the data's owner and the department's leads that the privacy gate waits for somebody."""
    title = f"“{_short(version.dataset.name)}” needs a decision about personal details"
    link = f"/versions/{version.id}/privacy"
    leads = select(User).where(
        User.department_id == version.dataset.department_id, User.role == Role.LEAD
    )
    people = {user.id: user for user in (version.dataset.owner, *db.scalars(leads))}
    kind, key = NoticeKind.DECISION_NEEDED, _undecided(version)
    _tell(db, people.values(), kind, key, title, link)
    _call(db, kind, key, {"version": version.id}, link)


def decision_made(db: Session, version: DatasetVersion) -> None:
    """Leave nobody with the news that a version waits which waits no more."""
    waits = [Notice.key == _undecided(version), Notice.read_at.is_(None)]
    db.execute(update(Notice).where(*waits).values(read_at=func.now()))


def questions_ready(db: Session, asking: Asking) -> None:
    """Tell who asked for questions that they are there, or that making them up has failed."""
    version = db.get_one(DatasetVersion, asking.version_id)
    name = _short(version.dataset.name)
    if asking.status is AskingStatus.FAILED:
        title = f"Questions about “{name}” could not be written"
    elif asking.num_pairs == 0:
        title = f"The model wrote no questions about “{name}”"
    else:
        title = (
            f"1 question about “{name}” is ready to review"
            if asking.num_pairs == 1
            else f"{asking.num_pairs:,} questions about “{name}” are ready to review"
        )
    key, link = f"asking {asking.id} over", f"/versions/{version.id}/questions"
    _tell(db, [db.get_one(User, asking.owner_id)], NoticeKind.QUESTIONS_READY, key, title, link)


def list_answered(db: Session, row: QuestionList) -> None:
    """Tell who uploaded a list of questions that its answers are there."""
    title = f"Your list “{_short(row.filename)}” has its answers"
    key, link = f"question list {row.id} answered", f"/lists/{row.id}"
    _tell(db, [db.get_one(User, row.owner_id)], NoticeKind.QUESTIONS_READY, key, title, link)


def answer_reported(db: Session, adapter: Adapter, report_id: int) -> None:
    """Tell an adapter's owner that a colleague reported an answer; what it was, its page says."""
    title = f"A colleague reported an answer of “{_short(adapter.name)}”"
    key, link = f"answer report {report_id}", f"/adapters/{adapter.id}/sharing"
    owner = db.get_one(User, adapter.owner_id)
    _tell(db, [owner], NoticeKind.ANSWER_REPORTED, key, title, link)


def machine_unhealthy(db: Session, key: str, sentence: str, **about: str) -> None:
    """Tell the administrators about a machine, once for each key.

    Args:
        key: Names the occasion, e.g. a worker and when it was heard of last.
        sentence: What is the matter, without a full stop.
        about: What programs are told besides, e.g. worker="gpu-0@host".
    """
    kind = NoticeKind.MACHINE_ILL
    _tell(db, _administrators(db), kind, key, sentence, "/queue")
    _call(db, kind, key, dict(about), "/queue")


def silent_workers(db: Session) -> None:
    """Tell of workers that have not been heard of for longer than a lease; each silence once."""
    silence = timedelta(seconds=settings.get().lease_seconds)
    rows = db.execute(
        select(Worker.id, Worker.last_seen).where(
            Worker.last_seen < clock.NOW - silence,
            # Who was told to end needs nobody.
            ~func.coalesce(Worker.readings["has_left"].as_boolean(), False),
        )
    ).all()
    for worker_id, last_seen in rows:
        key = f"worker {worker_id} silent {last_seen:%Y-%m-%dT%H:%M:%S}"
        sentence = f"The worker {worker_id} has stopped responding"
        machine_unhealthy(db, key, sentence, worker=worker_id, problem="silent")


def not_delivered(db: Session, message: Outgoing) -> None:
    """Tell the administrators that a notice was given up; on the page alone: no circles."""
    key = f"outgoing {message.public_id}"
    title = {
        Channel.MAIL: "An e-mail could not be delivered",
        Channel.WEBHOOK: "A webhook could not be delivered",
        Channel.MLFLOW: "A job's figures could not be sent to MLflow; Etude goes on trying",
    }[message.channel]
    _tell(db, _administrators(db), NoticeKind.NOT_DELIVERED, key, title, "/webhooks", mails=False)


def _administrators(db: Session) -> list[User]:
    return list(db.scalars(select(User).where(User.role == Role.ADMIN)))


def _tell(
    db: Session,
    people: Iterable[User],
    kind: NoticeKind,
    key: str,
    title: str,
    link: str,
    *,
    mails: bool = True,
) -> None:
    """Write a notice for each who has not had it, with its mail."""
    for user in people:
        if user.is_service or user.disabled_at is not None:
            continue  # programs are told by webhook
        new = db.scalar(
            insert(Notice)
            .values(user_id=user.id, kind=kind, key=key, title=title, link=link)
            .on_conflict_do_nothing(index_elements=["user_id", "key"])
            .returning(Notice.id)
        )
        if new is not None and mails and settings.get().smtp_host and wants_mail(user, kind):
            content = {"title": title, "link": link}
            db.add(Outgoing(channel=Channel.MAIL, user_id=user.id, content=content))
            db.execute(select(wakeup.bell("outbox")))
    db.flush()


def _undecided(version: DatasetVersion) -> str:
    return f"version {version.id} undecided"


def wants_mail(user: User, kind: NoticeKind) -> bool:
    """Say whether a person wants a kind of notice by mail; all of them until they choose."""
    return user.mail_kinds is None or kind.value in user.mail_kinds


def _call(db: Session, kind: NoticeKind, key: str, about: Json, link: str) -> None:
    content = {
        "object": "event",
        "type": _EVENTS[kind],
        "created_at": int(datetime.now(UTC).timestamp()),
        "data": about | {"link": link},
    }
    for webhook_id in db.scalars(select(Webhook.id)):
        row = {"channel": Channel.WEBHOOK, "webhook_id": webhook_id, "content": content, "key": key}
        db.execute(
            insert(Outgoing)
            .values(row)
            .on_conflict_do_nothing(index_elements=["webhook_id", "key"])
        )
        db.execute(select(wakeup.bell("outbox")))


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
