"""Asking a model: where a process answers (`etude answer`), and the talk with it.

Its row is a lease by the database's clock. The connection is a line with the secret, a line with
the request, and then a line an event until the last one (app/training/answers.py). What is asked
and answered passes no table and no broker.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.adapters import registry, states
from app.base_models import registry as base_models
from app.base_models import states as model_states
from app.core import clock, outbound, settings
from app.core.db import HOLDING_SECONDS, limit_silence
from app.core.errors import AppError, NotFound, Unavailable
from app.core.leases import LeaseLost
from app.core.models import (
    Adapter,
    Answerer,
    Attempt,
    Evaluation,
    EvaluationStatus,
    Job,
    JobStatus,
    Json,
    ModelStatus,
    QuarantinedDevice,
    Release,
    User,
    Worker,
)
from app.core.models import BaseModel as StartingModel
from app.core.sentences import counted, listed
from app.jobs import moments, queue_view
from app.training.answers import EVENT, Event, Refused, Request

_CONNECT_SECONDS = 3.0
# A piece of a line that is read at once; a reader that does not read holds up the writer soon.
READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024**2
FINAL = ("done", "scores", "refused")
# A machine that vanishes says nothing: without these its silence would be waited for.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class LoadedModel(BaseModel):
    """A starting model that is in memory, or is being brought there."""

    base_model_id: int
    label: str
    engine: str
    device: str
    doing: str = ""  # what is being made ready; empty: it answers
    num_running: int = 0
    adapter_ids: list[int] = Field(default_factory=list)


class AnswererState(BaseModel):
    """How answering stands, for the page."""

    rule: str = ""  # how it shares the machine with training; {jobs} stands for those that train
    trained: list[int] = Field(default_factory=list)  # the jobs that have what it would answer on
    # Starting models that answer from a file that this machine could not compare with the original.
    uncompared: list[int] = Field(default_factory=list)
    num_waiting: int = 0
    max_waiting: int = 0
    models: list[LoadedModel] = Field(default_factory=list)
    problem: str = ""  # why it does not answer, in a sentence


@dataclass(frozen=True)
class Found:
    """A process that answers."""

    address: str
    secret: str


@dataclass(frozen=True)
class Hold:
    """A process's hold on its row; the attempt number is the fence."""

    worker_id: str
    attempt: int


def find(db: Session, base_model_id: int | None = None) -> Found:
    """Return a process that answers; of several the one that has the model in memory.

    Raises:
        Unavailable: none is alive.
    """
    rows = db.execute(
        select(Answerer.address, Answerer.secret, Answerer.state)
        .where(Answerer.lease_until > clock.NOW)
        .order_by(Answerer.id)
    ).all()

    def rank(state: Json) -> tuple[bool, int]:
        stands = AnswererState.model_validate(state)
        has_it = any(model.base_model_id == base_model_id for model in stands.models)
        return not has_it, stands.num_waiting

    if not rows:
        raise Unavailable(
            "No process answers questions at the moment; it may be starting. Please try again in a "
            "few seconds, or ask your administrator whether “etude answer” runs.",
            code="not_answering",
        )
    best = min(rows, key=lambda row: rank(row.state))
    return Found(best.address, best.secret)


def state(db: Session) -> list[AnswererState]:
    """Return how each living process that answers stands."""
    living = select(Answerer.state).where(Answerer.lease_until > clock.NOW).order_by(Answerer.id)
    return [AnswererState.model_validate(row) for row in db.scalars(living)]


def rules(db: Session, user: User, stands: Iterable[AnswererState]) -> str:
    """Say how answering shares its machines with training, and when that is expected to end.

    Jobs of other departments are not named.
    """
    said = dict.fromkeys(_rule(db, user, state) for state in stands)
    return " ".join(filter(None, said))


def _rule(db: Session, user: User, state: AnswererState) -> str:
    if not state.trained:
        return state.rule
    query = select(Job.name, Job.department_id).where(Job.id.in_(state.trained)).order_by(Job.id)
    jobs = db.execute(query).all()
    if not jobs:
        return ""  # deleted a moment ago
    names = [f"“{name}”" for name, department in jobs if department == user.department_id]
    num_others = len(jobs) - len(names)
    if num_others:
        others = "another department's job", "{n} jobs of other departments"
        names.append(counted(num_others, *others))
    who = f"{listed(names)} {'are' if len(jobs) > 1 else 'is'}"
    rule = state.rule.replace("{jobs}", who[0].upper() + who[1:], 1)
    end = expected_end(db, state.trained)
    return f"{rule} Expected end: {end}." if end else rule


def expected_end(db: Session, job_ids: Iterable[int]) -> str:
    """Say when the first of some running jobs ends, on the clock of the site; empty: unknown."""
    outlook = queue_view.outlook(db)
    times = [outlook.times[each] for each in job_ids if each in outlook.times]
    ends = {one.ends: one for one in times if one.ends}
    return moments.in_words(ends[min(ends)], outlook.now, starts=False) if ends else ""


def claim(db: Session, worker_id: str, address: str, secret: str) -> Hold:
    """Say where a process of this name listens from now on; an earlier one has lost its row."""
    values = {
        "host": socket.gethostname(),
        "address": address,
        "secret": secret,
        "state": AnswererState().model_dump(),
        "lease_until": _until(),
        "started_at": clock.NOW,
    }
    _limit_silence(db)
    attempt = db.execute(
        insert(Answerer)
        .values(worker_id=worker_id, **values)
        .on_conflict_do_update(
            index_elements=["worker_id"], set_=values | {"attempt": Answerer.attempt + 1}
        )
        .returning(Answerer.attempt)
    ).scalar_one()
    return Hold(worker_id, attempt)


def renew(db: Session, hold: Hold, state: AnswererState) -> None:
    """Hold on for another lease time and say how answering stands.

    Raises:
        LeaseLost: another process of this name has the row.
    """
    _write(db, hold, {"lease_until": _until(), "state": state.model_dump()})


def release(db: Session, hold: Hold) -> None:
    """Let go of the row at an end in order.

    Raises:
        LeaseLost: another process of this name has the row.
    """
    _write(db, hold, {"lease_until": None, "secret": ""})


@dataclass(frozen=True)
class WantedBase:
    """A starting model's verified files, as the database knows them."""

    id: int
    name: str
    label: str
    folder: Path
    manifest_sha256: str
    size_bytes: int
    config: Json


@dataclass(frozen=True)
class WantedAdapter:
    id: int
    public_name: str
    folder: Path
    manifest_sha256: str


@dataclass(frozen=True)
class Wanted:
    """What a request is to be answered with."""

    base: WantedBase
    adapter: WantedAdapter | None


def look_up(db: Session, request: Request) -> Wanted:
    """Return the files that a request is answered with; who may ask was checked by who sent it.

    Raises:
        NotFound: the model or the adapter is not there, or not of that model; or it was withdrawn.
        Unavailable: the model is still being imported.
        Conflict: its import failed.
    """
    base = db.get(StartingModel, request.base_model_id, populate_existing=True)
    if base is None:
        raise NotFound(
            "This model does not exist here; it may have been deleted.",
            field="model",
            code="model_not_found",
        )
    adapter = None
    if request.adapter_id is not None:
        adapter = db.get(Adapter, request.adapter_id, populate_existing=True)
        if adapter is None or adapter.base_model_id != base.id:
            raise NotFound(
                "This trained model does not exist here; it may have been deleted.",
                field="model",
                code="model_not_found",
            )
        states.require_askable(adapter)
    if model_states.of(base).is_coming:
        raise Unavailable(
            f"{base.label} is still being imported; ask it once that is done.", field="model"
        )
    return _wanted(base, adapter)


def _wanted(base: StartingModel, adapter: Adapter | None) -> Wanted:
    if adapter is None or not adapter.has_weights:
        return Wanted(wanted_base(base), None)
    return Wanted(wanted_base(base), wanted_adapter(adapter))


def likely(db: Session, limit: int = 50) -> list[Wanted]:
    """Return what will be asked soon: adapters that may be, the newest first, and their models."""
    rows = (
        select(Adapter)
        .join(StartingModel, StartingModel.id == Adapter.base_model_id)
        .where(
            Adapter.release != Release.WITHDRAWN,
            Adapter.binned_at.is_(None),
            StartingModel.status == ModelStatus.READY,
        )
        .order_by(Adapter.id.desc())
        .limit(limit)
    )
    adapters = list(db.scalars(rows))
    bases = {adapter.base_model_id: adapter.base_model for adapter in adapters}
    return [_wanted(base, None) for base in bases.values()] + [
        _wanted(adapter.base_model, adapter) for adapter in adapters if adapter.has_weights
    ]


def wanted_base(base: StartingModel) -> WantedBase:
    """Return a starting model's files.

    Raises:
        Conflict: it is not ready.
    """
    return WantedBase(
        base.id,
        base.name,
        base.label,
        base_models.folder(base),
        base.manifest_sha256 or "",
        base.size_bytes or 0,
        base.config or {},
    )


def wanted_adapter(adapter: Adapter) -> WantedAdapter:
    """Return an adapter's files."""
    assert adapter.manifest_sha256 is not None
    return WantedAdapter(
        adapter.id, adapter.public_name, registry.folder(adapter), adapter.manifest_sha256
    )


def ready_manifests(db: Session) -> dict[int, str]:
    """Return which files each starting model has that may be asked, by its id."""
    query = select(StartingModel.id, StartingModel.manifest_sha256)
    rows = db.execute(query.where(StartingModel.status == ModelStatus.READY))
    return {base_id: sha256 for base_id, sha256 in rows if sha256}


def gone(db: Session, adapter_ids: Iterable[int]) -> set[int]:
    """Return those of some adapters that may be asked no longer."""
    asked = set(adapter_ids)
    kept = select(Adapter.id).where(
        Adapter.id.in_(asked), Adapter.release != Release.WITHDRAWN, Adapter.binned_at.is_(None)
    )
    return asked - set(db.scalars(kept)) if asked else set()


@dataclass(frozen=True)
class Training:
    """A job that runs on a machine, and what it holds."""

    job_id: int
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Use:
    """What others do with a machine's devices."""

    trained: tuple[Training, ...] = ()
    quarantined: frozenset[str] = frozenset()
    evaluated: frozenset[str] = frozenset()  # GPUs on which an adapter answers test questions


def use_of(db: Session, host: str, boot_id: str) -> Use:
    """Return what of a machine is not for answering just now.

    Args:
        boot_id: The kernel's name for its start: containers of one machine have it in common, and
            a host name each.
    """
    rows = db.execute(
        select(Job.id, Attempt.devices)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .where(Job.status == JobStatus.RUNNING, Attempt.boot_id == boot_id)
        .order_by(Job.id)
    )
    trained = tuple(Training(row.id, tuple(row.devices)) for row in rows)
    beside = select(Worker.host).where(Worker.boot_id == boot_id)
    out = select(QuarantinedDevice.device).where(
        (QuarantinedDevice.host == host) | QuarantinedDevice.host.in_(beside)
    )
    evaluating = (
        select(Worker.devices)
        .join(Evaluation, Evaluation.worker_id == Worker.id)
        .where(Evaluation.status == EvaluationStatus.EVALUATING, Worker.boot_id == boot_id)
    )
    # An evaluation takes the first of a worker's devices.
    first = {devices[0] for devices in db.scalars(evaluating) if devices}
    return Use(trained, frozenset(db.scalars(out)), frozenset(first - {"cpu"}))


async def ask(address: str, secret: str, request: Request) -> AsyncGenerator[Event, None]:
    """Ask, and yield what is said until the last event; closed early, the answer ends there.

    What goes wrong on the way is an event as well: Refused with a sentence.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            with outbound.towards("answering", host.strip("[]")):
                reader, writer = await asyncio.open_connection(
                    host.strip("[]"), int(port), limit=READ_BYTES
                )
    except (OSError, ValueError, TimeoutError):
        yield _broken(
            "The process that answers questions does not respond; it may be starting again. "
            "Please try again in a few seconds."
        )
        return
    try:
        _keep_alive(writer)
        lines = (f'{{"secret": "{secret}"}}', request.model_dump_json())
        writer.writelines(line.encode() + b"\n" for line in lines)
        with suppress(ConnectionError):  # it may have said why before it closed
            await writer.drain()
        while True:
            try:
                line = await read_line(reader)
                event = EVENT.validate_json(line)
            except (OSError, EOFError, LineTooLong, ValidationError):
                yield _broken("The answer broke off; please ask again.")
                return
            yield event
            if event.kind in FINAL:
                return
    finally:
        # At once, whatever has not been sent: a closed connection means "stop" there.
        writer.transport.abort()


class LineTooLong(Exception):
    """More came than a line may hold."""


async def read_line(reader: asyncio.StreamReader, max_bytes: int = MAX_LINE_BYTES) -> bytes:
    """Read one line of a stream, longer than its buffer if need be.

    Raises:
        EOFError: the stream ended amid it.
        LineTooLong: it holds more than `max_bytes`.
    """
    line = b""
    while len(line) <= max_bytes:
        try:
            return line + await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            line += await reader.readexactly(error.consumed)
    raise LineTooLong


def refusal(error: AppError) -> Refused:
    """Say as an event what a request meets."""
    return Refused(
        status=error.status,
        code=error.code,
        message=error.message,
        param=error.field,
        retry_after_seconds=error.retry_seconds,
    )


def _broken(sentence: str) -> Refused:
    return Refused(status=503, code="unavailable", message=sentence, retry_after_seconds=5)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    line: socket.socket = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        line.setsockopt(socket.IPPROTO_TCP, option, value)


def _until() -> object:
    return clock.NOW + timedelta(seconds=settings.get().lease_seconds)


def _limit_silence(db: Session) -> None:
    """Have the row of a process that is held up amid its transaction let go of within seconds.

    The next one of its name waits for it.
    """
    limit_silence(db, min(HOLDING_SECONDS, settings.get().line_lock_seconds))


def _write(db: Session, hold: Hold, values: Json) -> None:
    _limit_silence(db)
    written = db.execute(
        update(Answerer)
        .where(Answerer.worker_id == hold.worker_id, Answerer.attempt == hold.attempt)
        .values(values)
        .returning(Answerer.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if written is None:
        raise LeaseLost(f"answerer {hold.worker_id}, attempt {hold.attempt}")
