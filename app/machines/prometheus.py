"""What `/metrics` tells Prometheus: the queue, the workers and their devices, and this web process.

Numbers of the site are read from PostgreSQL at each scrape, so every web process tells the same;
those of the web itself are counted where they arise, and added up where it has several processes.
No name of a person, job or dataset is a label.
"""

import hmac
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.core import clock, db, settings
from app.core.models import (
    Attempt,
    Channel,
    DatasetVersion,
    Desired,
    Job,
    JobStatus,
    Outgoing,
    PrivacyReview,
    ReviewStatus,
    Worker,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Names a folder where the web has several processes (app/ops/up.py); the library reads it as well.
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
_registry = CollectorRegistry(auto_describe=False)
_requests = Histogram(
    "etude_http_request_seconds",
    "Time to answer, by route.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=_registry,
)
_streams = Gauge(
    "etude_event_streams_open",
    "Pages that follow a job.",
    registry=_registry,
    multiprocess_mode="livesum",
)
# What a device may say (app/machines/devices.py), as a metric: name, help.
_READINGS = {
    "memory_used_bytes": ("etude_device_memory_used_bytes", "Memory in use."),
    "memory_total_bytes": ("etude_device_memory_total_bytes", "Memory there is."),
    "utilization_percent": ("etude_device_utilization_percent", "How busy it is."),
    "temperature_celsius": ("etude_device_temperature_celsius", "How warm it is."),
    "power_watts": ("etude_device_power_watts", "What it takes just now."),
    "ecc_errors": ("etude_device_ecc_errors", "Memory errors that could not be corrected."),
}


def answered(method: str, route: str, status: int, seconds: float) -> None:
    """Count one request of this process."""
    _requests.labels(method, route, f"{status // 100}xx").observe(seconds)


def stream_opened() -> None:
    _streams.inc()


def stream_closed() -> None:
    _streams.dec()


def may_read(authorization: str) -> bool:
    """Say whether a request may read the measurements; where no token is set, nobody may."""
    token = settings.get().metrics_token
    scheme, _, given = authorization.partition(" ")
    is_bearer = scheme.lower() == "bearer"
    return bool(token) and is_bearer and hmac.compare_digest(given.encode(), token.encode())


def render() -> bytes:
    """Write all measurements in Prometheus' text format."""
    shared = os.environ.get(_SHARED)
    if not shared:
        return generate_latest(_registry)
    # Whichever process is asked adds up what all of them have counted.
    _forget_streams_of_the_dead(Path(shared))
    counted = CollectorRegistry(auto_describe=False)
    MultiProcessCollector(counted)
    counted.register(_site)
    return generate_latest(counted)


def _forget_streams_of_the_dead(folder: Path) -> None:
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(int(pid), str(folder))


class _Site(Collector):
    """Reads the numbers of the site; where the database is away, says only that."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("etude_database_up", "Whether the database answers.")
        yield from _pool()
        try:
            with db.reading() as session:
                metrics = [*_queue(session), *_workers(session), *_rest(session)]
        except SQLAlchemyError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from metrics


_site = _Site()
_registry.register(_site)


def _queue(session: Session) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("etude_jobs", "Jobs by where they stand now.", labels=["state"])
    state = case(
        (Job.status == JobStatus.RUNNING, "running"),
        (Job.desired == Desired.PAUSE, "paused"),
        else_="waiting",
    )
    live = Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING))
    counts: dict[str, int] = dict.fromkeys(("running", "waiting", "paused"), 0)
    counts |= dict(session.execute(select(state, func.count()).where(live).group_by(state)).all())
    for name, number in counts.items():
        jobs.add_metric([name], number)
    yield jobs
    ended = CounterMetricFamily("etude_jobs_ended", "Jobs that are over, by how.", labels=["end"])
    over = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
    rows = session.execute(
        select(Job.status, func.count()).where(Job.status.in_(over)).group_by(Job.status)
    ).all()
    ends: dict[JobStatus, int] = dict.fromkeys(over, 0) | dict(rows)
    for status, number in ends.items():
        ended.add_metric([status.value], number)
    yield ended
    oldest = GaugeMetricFamily(
        "etude_oldest_waiting_seconds", "How long the job that waits longest has waited."
    )
    waited = func.extract("epoch", clock.NOW - func.min(Job.run_after))
    waiting = (Job.status == JobStatus.QUEUED, Job.desired == Desired.RUN)
    oldest.add_metric([], max(0.0, float(session.scalar(select(waited).where(*waiting)) or 0)))
    yield oldest
    total, number = session.execute(
        select(
            func.coalesce(func.sum(func.extract("epoch", Job.started_at - Job.created_at)), 0),
            func.count(),
        ).where(Job.started_at.is_not(None))
    ).one()
    begun = CounterMetricFamily("etude_jobs_begun", "Jobs that have begun.")
    begun.add_metric([], number)
    yield begun
    wait = CounterMetricFamily("etude_jobs_wait_seconds", "Time that jobs waited to begin, in all.")
    wait.add_metric([], float(total))
    yield wait
    attempts = CounterMetricFamily(
        "etude_attempts_ended",
        "Holds of workers on jobs that are over, by how.",
        labels=["outcome"],
    )
    for outcome, number in session.execute(
        select(Attempt.outcome, func.count())
        .where(Attempt.ended_at.is_not(None))
        .group_by(Attempt.outcome)
    ):
        attempts.add_metric([outcome or "unknown"], number)
    yield attempts


def _workers(session: Session) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        "etude_worker_heartbeat_age_seconds",
        "How long ago a worker was heard of.",
        labels=["worker", "queue", "state"],
    )
    cores = GaugeMetricFamily("etude_worker_cores", "Cores of its machine.", labels=["worker"])
    free = GaugeMetricFamily(
        "etude_worker_memory_free_bytes",
        "What a job could have of a device's memory when the worker started.",
        labels=["worker"],
    )
    said = {
        name: GaugeMetricFamily(metric, words, labels=["worker", "device"])
        for name, (metric, words) in _READINGS.items()
    }
    silence = func.extract("epoch", clock.NOW - Worker.last_seen)
    for worker, seconds in session.execute(select(Worker, silence)):
        age.add_metric([worker.id, worker.queue, worker.state.value], float(seconds))
        hardware = worker.hardware or {}
        if worker.queue == "gpu" and hardware:
            cores.add_metric([worker.id], hardware.get("num_cores", 0))
            free.add_metric([worker.id], hardware.get("free_bytes", 0))
        for name, device, value in readings(getattr(worker, "readings", None)):
            said[name].add_metric([worker.id, device], value)
    yield age
    yield cores
    yield free
    yield from said.values()


def readings(said: dict[str, Any] | None) -> Iterator[tuple[str, str, float]]:
    """List what a worker's devices said last: what, of which device, how much."""
    for device in (said or {}).get("devices", []):
        for name in _READINGS:
            if device.get(name) is not None:
                yield name, str(device.get("device", "")), float(device[name])


def _rest(session: Session) -> Iterator[Metric]:
    waits = GaugeMetricFamily(
        "etude_decisions_waiting", "Versions of data whose personal details nobody decided about."
    )
    undecided = select(func.count()).where(PrivacyReview.status == ReviewStatus.UNDECIDED)
    waits.add_metric([], session.scalars(undecided.select_from(PrivacyReview)).one())
    yield waits
    versions = GaugeMetricFamily("etude_versions", "Versions of data by status.", labels=["status"])
    for status, number in session.execute(
        select(DatasetVersion.status, func.count()).group_by(DatasetVersion.status)
    ):
        versions.add_metric([status.value], number)
    yield versions
    outgoing = GaugeMetricFamily(
        "etude_notices_undelivered",
        "Mails and calls that wait or were given up.",
        labels=["channel"],
    )
    unsent: dict[Channel, int] = dict.fromkeys(Channel, 0)
    unsent |= dict(
        session.execute(
            select(Outgoing.channel, func.count())
            .where(Outgoing.sent_at.is_(None))
            .group_by(Outgoing.channel)
        ).all()
    )
    for channel, number in unsent.items():
        outgoing.add_metric([channel.value], number)
    yield outgoing
    energy = CounterMetricFamily(
        "etude_energy_joules",
        "Energy that jobs have taken where it is measured.",
        labels=["source"],
    )
    for source, joules in session.execute(
        select(Attempt.energy_source, func.sum(Attempt.energy_joules))
        .where(Attempt.energy_joules.is_not(None))
        .group_by(Attempt.energy_source)
    ):
        energy.add_metric([source or "unknown"], joules or 0.0)
    yield energy


def _pool() -> Iterator[Metric]:
    pool = db.engine().pool
    gauge = GaugeMetricFamily(
        "etude_database_connections", "Connections of this web process.", labels=["state"]
    )
    if isinstance(pool, QueuePool):
        gauge.add_metric(["in_use"], pool.checkedout())
        gauge.add_metric(["idle"], pool.checkedin())
    yield gauge
