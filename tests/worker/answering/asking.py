"""`etude answer` for tests: started as `etude up` starts it, and asked as the web asks it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import aclosing, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.adapters import answering
from app.adapters.answering import Found
from app.core import settings, storage
from app.core.errors import Unavailable
from app.core.models import Adapter, Answerer, BaseModel
from app.training import manifests
from app.training.answers import AnswerRequest, Event, Limits, Request
from tests import patience, warm
from tests.factories import first_user, make_base_model
from tests.worker.conftest import ROOT, wait_for

_number = count(1)
STAND_IN = {
    "ETUDE_ANSWER_MODULE": "tests.worker.stand_in_answerer",
    "ETUDE_ANSWER_CONVERT_MODULE": "tests.worker.stand_in_converter",
    "PYTHONPATH": str(ROOT),
}


class AnswerProcess:
    """One `etude answer`, as `etude up` starts it."""

    def __init__(self, db: Session, folder: Path, **environment: str) -> None:
        self.db = db
        self.environment = {"ETUDE_WORKER_ID": "answer-0@test", "ETUDE_DEVICE": "cpu"} | environment
        self.log = folder / "answer.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self) -> Found:
        """Start it, again should it end at once, until its row says where it listens."""
        before = self.secret()
        self._spawn()

        def is_there() -> bool:
            if self.has_ended():
                self._spawn()
            return self.secret() not in ("", before)

        wait_for(self.db, is_there)
        return self.found()

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self.process = warm.Popen(
                [sys.executable, "-m", "worker.answer"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | self.environment,
                start_new_session=True,
            )
            self._all.append(self.process)

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def found(self) -> Found:
        return answering.find(self.db)

    def alive(self) -> Found | None:
        with suppress(Unavailable, OperationalError):
            self.db.rollback()
            return self.found()
        return None

    def secret(self) -> str:
        found = self.alive()
        return found.secret if found is not None else ""

    def lease(self) -> datetime | None:
        """Until when its row is held; moved at each renewal."""
        self.db.rollback()
        return self.db.scalar(select(Answerer.lease_until))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def end(self) -> None:
        for process in self._all:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def a_model(
    db: Session, orders: str = "", data_dir: Path | None = None, **columns: Any
) -> BaseModel:
    """A starting model of whose files the stand-in wants nothing but its orders."""
    name = f"tiny{next(_number)}"
    folder = (data_dir or settings.get().data_dir) / "models" / name
    folder.mkdir(parents=True)
    (folder / "orders").write_text(orders)
    model = make_base_model(db, name=f"house/{name}", folder=name, **columns)
    # In front: a file's name for llama.cpp holds the first letters.
    model.manifest_sha256 = f"{model.id:04d}" + manifests.file_sha256(folder / "orders")[4:]
    db.commit()
    return model


def an_adapter(
    db: Session, model: BaseModel, data_dir: Path | None = None, **config: Any
) -> Adapter:
    user = first_user(db)
    key = storage.new_key("adapters")
    folder = (data_dir or settings.get().data_dir) / "storage" / key
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(16))
    (folder / "adapter_config.json").write_text(json.dumps(config))
    adapter = Adapter(
        department_id=user.department_id,
        owner_id=user.id,
        base_model_id=model.id,
        name="Ward",
        public_name=f"ft:{key}",
        storage_key=key,
        manifest_sha256=manifests.write_manifest(folder),
        size_bytes=16,
        metrics={},
        samples=[],
    )
    db.add(adapter)
    db.commit()
    return adapter


def journal(model: BaseModel, data_dir: Path | None = None) -> list[str]:
    """What the stand-ins wrote down, without their process ids."""
    lines = _journal(model, data_dir)
    return [line.partition(" ")[2] if line[0].isdigit() else line for line in lines]


def child_pids(model: BaseModel, data_dir: Path | None = None) -> list[int]:
    """The processes that have opened a model, one after the other."""
    return [int(line.split()[0]) for line in _journal(model, data_dir) if " open " in line]


def _journal(model: BaseModel, data_dir: Path | None) -> list[str]:
    path = (data_dir or settings.get().data_dir) / "models" / str(model.folder) / "journal"
    return path.read_text().splitlines() if path.exists() else []


def question(
    model: BaseModel, orders: str = "", adapter: Adapter | None = None, account: str = "ada"
) -> AnswerRequest:
    return AnswerRequest(
        base_model_id=model.id,
        adapter_id=None if adapter is None else adapter.id,
        account=account,
        messages=[{"role": "user", "content": orders or "words=3"}],
        limits=Limits(),
    )


async def hear(
    found: Found, request: Request, num_events: int = 10_000, into: list[Event] | None = None
) -> list[Event]:
    """Ask and listen to the end, or for so many events."""
    heard: list[Event] = [] if into is None else into
    async with asyncio.timeout(patience.seconds(60)):
        async with aclosing(answering.ask(found.address, found.secret, request)) as events:
            async for event in events:
                heard.append(event)
                if len(heard) >= num_events:
                    break
    return heard


def ask(found: Found, request: Request) -> list[Event]:
    return asyncio.run(hear(found, request))


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if event.kind == "piece")
