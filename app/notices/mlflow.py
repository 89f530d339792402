"""A job's figures and settings in the house's own MLflow, where ETUDE_MLFLOW_URL names one.

One message of the outbox a job, written when it is claimed first. It is due again and again while
the job goes on, and each time brings what is new since: the trainer, which has no network, waits
for nobody, and what a server did not take it is told later. Only figures and settings go there
(app/core/job_settings.py): ids in place of names, and nothing of the data.

Everything may be told twice and stands there once: a run is found by its tag, and points, settings
and ends that MLflow has already it keeps as they are.

https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import job_settings, settings
from app.core.models import Job, JobStatus, Json, Metric
from app.notices.connections import Connection, Refused, connected
from app.notices.outbox import Message, Progress

_API = "/api/2.0/mlflow"
_JOB_TAG = "etude.job"
# MLflow takes 1,000 entries in one request, settings and tags among them.
_MAX_POINTS, _MAX_PARAMS = 800, 100
# A setting's value; servers before 2.0 take 250 characters.
_MAX_VALUE = 250
_MAX_ANSWER_BYTES = 64 * 1024
# While a job goes on, this is how far behind MLflow may be.
_EVERY_SECONDS = 15.0
_STATUSES = {
    JobStatus.QUEUED: "SCHEDULED",
    JobStatus.RUNNING: "RUNNING",
    JobStatus.SUCCEEDED: "FINISHED",
    JobStatus.FAILED: "FAILED",
    JobStatus.CANCELLED: "KILLED",
}


@dataclass(frozen=True)
class News:
    """What MLflow is to hear of a job next."""

    job_id: int
    public_id: str
    status: JobStatus
    started_at: datetime
    finished_at: datetime | None
    error_code: str | None
    told: dict[str, str]  # its settings
    points: list[Json]  # as MLflow wants them, in their order
    up_to: int  # the number of the last of them
    has_more: bool


def read(db: Session, message: Message) -> News | None:
    """Read what is new of a message's job; None: the job was deleted."""
    job = db.get(Job, message.job_id)
    if job is None:
        return None
    told_up_to = int(message.content.get("told_up_to", 0))
    rows = db.execute(
        select(Metric.seq, Metric.step, Metric.name, Metric.value, Metric.at)
        .where(Metric.job_id == job.id, Metric.seq > told_up_to)
        .order_by(Metric.seq, Metric.name)
        .limit(_MAX_POINTS + 1)
    ).all()
    has_more = len(rows) > _MAX_POINTS
    if has_more:
        # The points of one event share its number and go together.
        rows = [row for row in rows if row.seq != rows[-1].seq]
    return News(
        job_id=job.id,
        public_id=job.public_id,
        status=job.status,
        started_at=job.started_at or job.created_at,
        finished_at=job.finished_at,
        error_code=job.error_code,
        told=job_settings.plain(job),
        points=[_point(row.name, row.value, row.step, row.at) for row in rows],
        up_to=rows[-1].seq if rows else told_up_to,
        has_more=has_more,
    )


def send(message: Message, news: News) -> Progress:
    """Tell MLflow what is new.

    Returns:
        What to remember of it, and when to go on.

    Raises:
        Refused: the server did not take it, or took too long.
        OSError, http.client.HTTPException: it could not be reached.
    """
    chosen = settings.get()
    content = dict(message.content)
    figures = content.get("figures")
    is_over = news.status.is_final and not news.has_more
    state = [news.status.value, news.error_code, bool(figures)]
    if content.get("run_id") and not news.points and content.get("state") == state:
        return Progress({}, is_over=is_over, seconds=_EVERY_SECONDS)
    with connected(chosen.mlflow_url, "mlflow", chosen.webhook_seconds) as connection:
        server = _Server(connection)
        run_id = content.get("run_id") or _run(server, chosen.mlflow_experiment, news)
        points = [*news.points, *_evaluation(figures, news)]
        try:
            known = server.post(
                "runs/log-batch",
                run_id=run_id,
                metrics=points,
                params=[] if content.get("run_id") else _params(news.told),
                tags=[_tag("etude.error", news.error_code)] if news.error_code else [],
            )
        except Refused:
            if _was_deleted(server, run_id):
                return Progress({}, is_over=True)  # somebody there did not want it
            raise
        if known is None:
            # Its database was made anew: everything is told once more, as a new run.
            return Progress({"run_id": None, "told_up_to": 0, "state": None}, is_over=False)
        if not news.has_more:
            server.post("runs/update", run_id=run_id, status=_STATUSES[news.status], **_end(news))
    told = {"run_id": run_id, "told_up_to": news.up_to, "state": None if news.has_more else state}
    return Progress(told, is_over=is_over, seconds=0.0 if news.has_more else _EVERY_SECONDS)


class _Server:
    """MLflow's REST interface over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._headers = {"Content-Type": "application/json", "User-Agent": "Etude"} | _credentials()

    def post(self, what: str, **body: Any) -> Json | None:
        return self._ask("POST", what, json.dumps(body).encode())

    def get(self, what: str, **query: str) -> Json | None:
        return self._ask("GET", f"{what}?{urlencode(query)}", None)

    def _ask(self, method: Literal["GET", "POST"], what: str, body: bytes | None) -> Json | None:
        """Return what the server says; None where it knows nothing of what was named."""
        answer = self._connection.ask(
            method, self._headers, body, target=f"{_API}/{what}", max_bytes=_MAX_ANSWER_BYTES
        )
        try:
            said = json.loads(answer.body or b"{}")
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise Refused(f"it answered {answer.status}, and not as MLflow does")
        if 200 <= answer.status < 300:
            return said
        if said.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            return None
        why = " ".join(str(said.get("message", "")).split())[:200]
        raise Refused(f"it answered {answer.status}{': ' if why else ''}{why}")


def _run(server: _Server, experiment: str, news: News) -> str:
    """Find a job's run, or make it: an answer that said which it is may have been lost."""
    found = server.get("experiments/get-by-name", experiment_name=experiment)
    if found is None:
        made = server.post("experiments/create", name=experiment) or {}
        experiment_id = str(made["experiment_id"])
    else:
        experiment_id = str(found["experiment"]["experiment_id"])
    runs = server.post(
        "runs/search",
        experiment_ids=[experiment_id],
        filter=f"tags.`{_JOB_TAG}` = '{news.public_id}'",
        max_results=1,
    )
    if runs and runs.get("runs"):
        return str(runs["runs"][0]["info"]["run_id"])
    tags = [
        _tag(_JOB_TAG, news.public_id),
        _tag("mlflow.source.name", "Etude"),
        _tag("mlflow.source.type", "JOB"),
    ]
    if settings.get().public_url:
        link = f"{settings.get().public_url.rstrip('/')}/jobs/{news.job_id}"
        tags.append(_tag("etude.link", link))
    begun = server.post(
        "runs/create",
        experiment_id=experiment_id,
        run_name=f"job {news.job_id}",
        start_time=_milliseconds(news.started_at),
        tags=tags,
    )
    if begun is None:
        raise Refused(f"it knows the experiment {experiment} by name alone")
    return str(begun["run"]["info"]["run_id"])


def _was_deleted(server: _Server, run_id: str) -> bool:
    found = server.get("runs/get", run_id=run_id)
    return found is not None and found["run"]["info"].get("lifecycle_stage") == "deleted"


def _evaluation(figures: Json | None, news: News) -> list[Json]:
    at = news.finished_at or news.started_at
    return [_point(name, value, 0, at) for name, value in (figures or {}).items()]


def _params(told: dict[str, str]) -> list[Json]:
    return [
        {"key": name, "value": value[:_MAX_VALUE]}
        for name, value in list(told.items())[:_MAX_PARAMS]
        if value
    ]


def _end(news: News) -> Json:
    return {"end_time": _milliseconds(news.finished_at)} if news.finished_at else {}


def _point(name: str, value: float, step: int, at: datetime) -> Json:
    return {"key": name, "value": value, "step": step, "timestamp": _milliseconds(at)}


def _tag(key: str, value: str) -> Json:
    return {"key": key, "value": value}


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _credentials() -> dict[str, str]:
    chosen = settings.get()
    if chosen.mlflow_token:
        return {"Authorization": f"Bearer {chosen.mlflow_token}"}
    if chosen.mlflow_user:
        both = f"{chosen.mlflow_user}:{chosen.mlflow_password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(both).decode()}"}
    return {}
