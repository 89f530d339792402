"""The cpu worker's part of the dataset doctor: a version's examples to a child, its findings back.

    waiting -> checking -> done, under a lease (app/leases.py)

The examples are copied to a file without a name, which the child (app/datasets/doctor) reads as
often as it likes; it knows no database. What it found is kept in one transaction.
"""

import base64
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app import base_models, db, leases, settings
from app.datasets import examples, search
from app.datasets.doctor import checks
from app.datasets.doctor.kinds import KINDS
from app.datasets.doctor.order import Order
from app.datasets.doctor.report import Report
from app.leases import Lease, LeaseLost
from app.models import (
    CheckStatus,
    DatasetCheck,
    DatasetVersion,
    Example,
    Finding,
    ModelStatus,
    SearchBits,
    Severity,
)
from app.train_config import PRESETS
from worker import identity

log = structlog.get_logger()

_WATCH_SECONDS = 0.5


class _BrokeOff(Exception):
    """The child did not come to an end; the message is a sentence for a person."""


class _Draining(Exception):
    """This worker is to end: another may begin anew."""


def check_next(worker_id: str) -> bool:
    """Check the oldest version that waits for it.

    Returns:
        Whether there was one; ask again until there is none.
    """
    with db.session() as session:
        leases.take_back(session, leases.CHECKS, worker_id)
        lease = leases.claim(session, leases.CHECKS, worker_id)
        session.commit()
        if lease is None:
            return False
        check = session.get(DatasetCheck, lease.id)
        version = session.get(DatasetVersion, check.version_id) if check else None
    if version is None:
        return True
    log.info("checking", version=version.id, attempt=lease.attempt)
    try:
        with _Child(lease, version) as child:
            _keep(lease, version, child)
    except LeaseLost:
        log.warning("lease_lost", version=version.id, attempt=lease.attempt)
    except _Draining:
        _release(lease, lease.came_from)
    except (_BrokeOff, OSError) as error:
        log.warning("check_failed", version=version.id, error=str(error))
        reason = (
            str(error)
            if isinstance(error, _BrokeOff)
            else f"The worker could not write to its disk ({error.strerror or error}); ask your "
            "administrator to look at it."
        )
        _release(lease, CheckStatus.FAILED, reason=reason)
    return True


def _release(lease: Lease, status: StrEnum, **values: Any) -> None:
    with db.session() as session:
        try:
            leases.release(session, lease, status, **values)
        except LeaseLost:
            return
        session.commit()


def _keep(lease: Lease, version: DatasetVersion, child: "_Child") -> None:
    total = version.num_train + version.num_validation
    found: list[Finding] = []
    said: dict[str, Any] = {}
    messages = child.messages()
    # The findings come first. The transaction begins behind them: it is not to last for minutes.
    for message in messages:
        if "finding" not in message:
            messages = chain([message], messages)
            break
        found.append(_finding(version, message["finding"], total))
    with db.session() as session:
        session.execute(delete(SearchBits).where(SearchBits.version_id == version.id))
        connection: Any = session.connection().connection.driver_connection
        columns = "version_id, bucket, blocks"
        with connection.cursor().copy(f"COPY search_bits ({columns}) FROM STDIN") as copy:
            for message in messages:
                if "bits" in message:
                    bucket, blocks = message["bits"]
                    copy.write_row((version.id, int(bucket), bytes.fromhex(blocks)))
                else:
                    said |= message
        report = Report.model_validate(said["end"])
        checks.publish(session, lease, version, found, report, base64.b64decode(said["by_length"]))
        session.commit()


def _finding(version: DatasetVersion, said: dict[str, Any], total: int) -> Finding:
    rows = base64.b64decode(said["rows"])
    partners = said["partners"]
    count = len(rows) // 4
    kind = KINDS[said["kind"]]
    of = version.num_validation if said["kind"] == "leak" else total
    severity = kind.severity(count / max(of, 1)) if rows else Severity.WARN
    return Finding(
        version_id=version.id,
        kind=said["kind"],
        severity=severity,
        count=count,
        rows=rows,
        partners=None if partners is None else base64.b64decode(partners),
        detail=said["detail"],
    )


class _Child:
    """The process that looks at the examples, and the thread that renews the lease meanwhile."""

    def __init__(self, lease: Lease, version: DatasetVersion) -> None:
        self._lease = lease
        self._version = version
        self._progress: dict[str, Any] = {"rows": 0}
        self._end = threading.Event()
        self._lost = False
        self._late = False
        self._drains = False
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._beat, name="checking-lease", daemon=True)

    def __enter__(self) -> "_Child":
        self._thread.start()
        self._errors = tempfile.TemporaryFile("w+b")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
        self._thread.join()
        self._errors.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what the process says, without its progress, until it has ended well.

        Raises:
            LeaseLost: another worker may have the check by now.
            _BrokeOff: it ended otherwise.
        """
        run_dir = settings.get().run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        # A file without a name: it goes with this process, however that ends.
        with tempfile.TemporaryFile("w+b", dir=run_dir) as file:
            with db.session() as session:
                examples.copy_out(session, self._version, file)
                order = _order(session, self._version, file)
            file.flush()
            file.seek(0)
            yield from self._run(file, order)

    def _run(self, file: IO[bytes], order: Order) -> Iterator[dict[str, Any]]:
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "app.datasets.doctor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=[file.fileno()],
            cwd=Path(__file__).resolve().parent.parent,
            # No credentials: who reads strangers' rows needs none. Threads of a mathematics library
            # would each take address space, and there are few cores.
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONUTF8": "1",
                "LANG": "C.UTF-8",
                "OPENBLAS_NUM_THREADS": "1",
                "RAYON_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
            text=True,
            encoding="utf-8",
            # A terminal's Ctrl-C is for the worker, which then ends this.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin as stdin:
            stdin.write(order.model_dump_json() + "\n")
        has_ended = False
        for line in process.stdout:
            message = json.loads(line)
            if "rows" in message:
                self._progress = message
                continue
            has_ended = "end" in message
            yield message
        process.wait()
        if self._lost:
            raise LeaseLost(f"check {self._lease.id}, attempt {self._lease.attempt}")
        if self._drains:
            raise _Draining
        if not has_ended or process.returncode != 0:
            raise _BrokeOff(self._how_it_broke_off(process.returncode))

    def _how_it_broke_off(self, code: int) -> str:
        self._errors.seek(0)
        tail = self._errors.read()[-2000:].decode(errors="replace")
        log.error("doctor_broke_off", code=code, tail=tail)
        if self._late or code == -signal.SIGXCPU:
            minutes = settings.get().reader_timeout_seconds / 60
            return f"Checking these examples took longer than {minutes:,.0f} minutes."
        return (
            f"Checking these examples broke off (code {code}), most likely for want of memory; "
            "they can be used all the same."
        )

    def _beat(self) -> None:
        timeout = settings.get().reader_timeout_seconds
        deadline = time.monotonic() + timeout
        beat_at = time.monotonic()
        while not self._end.wait(_WATCH_SECONDS):
            now = time.monotonic()
            self._late = self._late or now >= deadline
            self._drains = identity.is_draining(self._lease.worker_id)
            if self._process is not None and (self._late or self._drains):
                self._process.kill()
            if now - beat_at >= settings.get().heartbeat_seconds:
                beat_at = now
                self._renew()

    def _renew(self) -> None:
        try:
            with db.session() as session:
                leases.renew(session, self._lease, self._progress)
                session.commit()
        except LeaseLost:
            self._lost = True
            if self._process is not None:
                self._process.kill()
            self._end.set()
        except Exception:
            # The database may be away for a moment; the fence holds whatever happens meanwhile.
            log.exception("lease_not_renewed", check=self._lease.id)


def _order(session: Session, version: DatasetVersion, file: IO[bytes]) -> Order:
    values = settings.get()
    models = [
        model
        for model in base_models.list_models(session)
        if model.status is ModelStatus.READY and model.folder
    ]
    return Order(
        file=file.fileno(),
        num_examples=version.num_train + version.num_validation,
        parent=os.getpid(),
        model_folder=str(base_models.folder(models[0])) if models else None,
        limit_tokens=PRESETS["balanced"].config.max_length_tokens,
        writes_bits=_writes_bits(session, version),
        memory_bytes=values.reader_memory_bytes,
        cpu_seconds=math.ceil(values.reader_timeout_seconds),
    )


def _writes_bits(session: Session, version: DatasetVersion) -> bool:
    """Say whether the version is to have search bits of its own."""
    if version.num_train + version.num_validation < search.MIN_INDEXED:
        return False
    layers = examples.layers(version)
    below = session.scalar(
        select(func.max(SearchBits.version_id)).where(
            SearchBits.version_id.in_(layers), SearchBits.version_id != version.id
        )
    )
    if below is None:
        return True
    changed = session.scalar(
        select(func.count())
        .select_from(Example)
        .where(Example.version_id.in_([layer for layer in layers if layer > below]))
    )
    return (changed or 0) > search.MAX_UNINDEXED_CHANGES
