"""A house whose questions the starter model answers: real web, real `etude answer`, real child.

Model and GGUF are made once a machine, in bench/.cache; an adapter's GGUF each house makes anew.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from sqlalchemy.orm import Session

from app.adapters import answering
from app.adapters.answering import AnswererState
from app.core import db as database
from app.core import settings, storage
from app.core.models import Adapter, BaseModel, User
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from app.people import auth
from app.training import manifests
from bench import ask as bench_ask
from bench import workload
from tests import factories, patience
from tests.app.web.jobs.test_event_stream import free_port, start_web
from tests.conftest import own_database
from tests.up import command_line
from tests.worker.answering.asking import AnswerProcess

Files = dict[str, Any]


@dataclass
class RealHouse:
    """What a test of this house gets at."""

    db: Session
    data_dir: Path
    address: str
    web: subprocess.Popen[bytes]
    answerer: AnswerProcess
    model: BaseModel
    adapter: Adapter
    user: User

    @property
    def gguf_dir(self) -> Path:
        return self.data_dir / "cache" / "gguf"

    def token(self, user: User | None = None) -> str:
        secret = auth.create_token(self.db, user or self.user, "tests")
        self.db.commit()
        return secret

    def client(self, user: User | None = None) -> OpenAI:
        """A client that does not repeat what fails."""
        return OpenAI(base_url=f"{self.address}/v1", api_key=self.token(user), max_retries=0)

    def async_client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.address}/v1", api_key=self.token(), max_retries=0)

    def state(self) -> AnswererState:
        self.db.rollback()
        return answering.state(self.db)[0]

    def num_running(self) -> int:
        return sum(model.num_running for model in self.state().models)

    def wait_for(self, look: Callable[[], object], seconds: float = 30) -> None:
        deadline = time.monotonic() + patience.seconds(seconds)
        while not look():
            assert time.monotonic() < deadline, f"{self.state()}\n{self.answerer.log.read_text()}"
            time.sleep(0.02)

    def children(self) -> list[int]:
        """The processes that hold a model."""
        return self.below("worker.inference")

    def below(self, module: str) -> list[int]:
        path = Path(f"/proc/{self.answerer.pid}/task/{self.answerer.pid}/children")
        pids = map(int, path.read_text().split())
        return [pid for pid in pids if command_line(pid).split()[-1:] == [module]]

    def fresh_child(self) -> None:
        """End the answering process; the next question meets one that has read nothing yet."""
        self.answerer.end()
        self.answerer.start()

    def add_adapter(self) -> Adapter:
        """Another adapter of the same words, for a test that deletes or withdraws it."""
        return _adapter(self.db, Path(bench_ask.prepare()["adapter_folder"]), self.user)


FACT = "Name the capital of France and say one thing about it."


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def ask(api: OpenAI, house: RealHouse, text: str = FACT, **given: Any) -> Any:
    body = {"model": house.model.name, "messages": user(text), "temperature": 0, "max_tokens": 24}
    return api.chat.completions.create(**{**body, **given})


def words(completion: Any) -> str:
    text: str = completion.choices[0].message.content
    return text


@contextmanager
def real_house(
    postgres: Postgres, valkey: Valkey, folder: Path, **environment: str
) -> Iterator[RealHouse]:
    """Start one on a database of its own."""
    files = bench_ask.prepare()
    given = {
        "ETUDE_DATA_DIR": str(folder / "var"),
        "ETUDE_DEVICE": "cpu",
        "ETUDE_WATCH_SECONDS": "0.2",
        "ETUDE_HEARTBEAT_SECONDS": "0.2",
        "ETUDE_ANSWER_QUEUE": "64",
        "REDIS_URL": valkey.url,
        **environment,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        with own_database(postgres, patch), database.session() as db:
            settings.get.cache_clear()
            user, model = factories.make_user(db), _starter(db, files)
            adapter = _adapter(db, Path(files["adapter_folder"]), user)
            answerer = AnswerProcess(db, folder)
            port = free_port()
            web = start_web(port)
            answerer.start()
            try:
                yield RealHouse(
                    db,
                    folder / "var",
                    f"http://127.0.0.1:{port}",
                    web,
                    answerer,
                    model,
                    adapter,
                    user,
                )
            finally:
                answerer.end()
                web.terminate()
                web.wait(patience.seconds(20))
                print(answerer.log.read_text()[-20_000:])
        settings.get.cache_clear()


def _starter(db: Session, files: Files) -> BaseModel:
    """The starter model, with its GGUF as an earlier question left it."""
    chosen = settings.get()
    chosen.models_dir.mkdir(parents=True)
    source = Path(files["base"])
    (chosen.models_dir / "starter").symlink_to(source)
    model = factories.make_base_model(db, name=workload.MODEL_NAME, folder="starter")
    model.manifest_sha256 = files["manifest_sha256"]
    model.config = json.loads((source / "config.json").read_text())
    model.size_bytes = sum(path.stat().st_size for path in source.iterdir())
    db.commit()
    link_gguf(files)
    return model


def link_gguf(files: Files) -> None:
    """Put the model's GGUF and what was found of it where `etude answer` looks."""
    folder = settings.get().cache_dir / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (Path(files["gguf"]), Path(files["gguf"]).with_suffix(".json")):
        os.symlink(path, folder / path.name)


def _adapter(db: Session, source: Path, user: User) -> Adapter:
    adapter = factories.make_adapter(db, user=user)
    folder = storage.path(str(adapter.storage_key))
    shutil.rmtree(folder)
    shutil.copytree(source, folder)
    adapter.manifest_sha256 = manifests.read_manifest(folder)[1]
    adapter.public_name = f"ft:{workload.MODEL_NAME}:ward::{adapter.id:08d}"
    db.commit()
    return adapter
