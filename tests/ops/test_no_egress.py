"""Nothing leaves this machine: a whole Etude trains in a network that counts what is sent away.

Where the kernel makes no such network, these tests fail: a skip would say that nothing left.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import outbound, settings, storage
from app.core.models import JobStatus, OutboundCount, VersionStatus
from app.datasets import uploads
from app.training.config import TrainConfig
from app.training.manifests import verify_manifest
from tests import own_network, patience
from tests.factories import make_base_model, make_dataset_version, make_job
from tests.up import BARE, Etude, still_there
from tests.worker.conftest import wait_for
from tests.worker.trainer.conftest import tiny_model  # noqa: F401 - a fixture

QUICK = {
    "ETUDE_TRAINER_MODULE": "worker.trainer",
    "ETUDE_EVALUATE_AFTER_TRAINING": "false",
    "ETUDE_SWEEP_SECONDS": "0.5",
    "ETUDE_WATCH_SECONDS": "0.2",
    "ETUDE_HEARTBEAT_SECONDS": "1",
}
SHEET = b"question,answer\n" + b"".join(
    b"What is rule %d?,Rule %d says so.\n" % (n, n) for n in range(40)
)
# Each Python process of ours whose environment is read below, by words of its command line.
PROCESSES = ("app.cli web", "--queues gpu", "--queues cpu", "worker.answer", "worker.trainer")


class Alone(Etude):
    """In a network of its own."""

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "tests.own_network", *super()._command(*arguments)]

    def wait_until_ready(self) -> None:
        # Its web listens where we cannot reach it.
        assert self.process is not None
        deadline = time.monotonic() + patience.seconds(120)
        while "Etude is ready at" not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)


@pytest.fixture
def alone(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alone]:
    place = server_dir / "alone"
    place.mkdir()
    etude = Alone(place / "var", environment=BARE | QUICK)
    monkeypatch.setenv("ETUDE_DATA_DIR", str(etude.data_dir))
    settings.get.cache_clear()
    yield etude
    settings.get.cache_clear()
    if etude.process is not None:
        family = etude.processes()
        etude.end(signal.SIGTERM)
        assert still_there(family, 20) == {}


def test_the_network_of_these_tests_counts() -> None:
    """Else nothing would be proven below."""
    program = (
        "import os, socket\nfrom tests import own_network\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:\n"
        "    sock.sendto(b'x', ('192.0.2.1', 9))\n"
        "print(own_network.sent(os.getpid()))"
    )
    command = [sys.executable, "-m", "tests.own_network", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != own_network.REFUSED, f"NOTHING IS PROVEN HERE: {done.stderr}"
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # PEFT's own
def test_a_file_is_read_and_a_job_trained_and_no_packet_leaves(
    alone: Alone,
    tiny_model: Path,  # noqa: F811
) -> None:
    models = alone.data_dir / "models"
    models.mkdir(parents=True)
    (models / "tiny").symlink_to(tiny_model)
    alone.start()
    assert alone.process is not None
    config = TrainConfig(num_epochs=2, batch_size=2, num_evaluations=2, lora_rank=4)
    with alone.database() as db:
        model = make_base_model(db)
        model.manifest_sha256 = verify_manifest(tiny_model)
        db.commit()
        version = make_dataset_version(db, num_train=20, num_validation=4, num_test=6)
        job = make_job(db, base_model=model, config=config, version=version)
        stored = storage.put("uploads", [SHEET])
        uploaded = uploads.add_dataset(
            db, job.owner, stored, "rules.csv", "Rules", auto_confirm=True
        )
        wait_for(db, lambda: uploaded.status in (VersionStatus.READY, VersionStatus.FAILED), 120)
        assert uploaded.status is VersionStatus.READY, uploaded.reason
        wait_for(db, lambda: job.status is JobStatus.RUNNING, 120)
        quiet = {words: environment(alone.find(words)) for words in PROCESSES}
        wait_for(db, lambda: job.status.is_final, 240)
        assert job.status is JobStatus.SUCCEEDED, (job.reason, job.log_tail)
        # Each has told what it tried after the job was over.
        wait_for(db, lambda: len(told_since(db, job.finished_at)) == 4)
        counts = {row.process.partition("-")[0]: row for row in told_since(db, job.finished_at)}
    assert own_network.sent(alone.process.pid) == 0
    assert counts.keys() == {"web", "gpu", "cpu", "answer"}
    for row in counts.values():
        assert (row.allowed, row.unexpected) == ({}, {}), row.process
    for words, found in quiet.items():
        assert outbound.NO_TELEMETRY.items() <= found.items(), words


def told_since(db: Session, moment: datetime | None) -> list[OutboundCount]:
    assert moment is not None
    return list(db.scalars(select(OutboundCount).where(OutboundCount.seen_at > moment)))


def environment(pid: int) -> dict[str, str]:
    """Return what a real process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_what_libraries_read_of_it_is_off() -> None:
    """The names are those that the installed libraries know."""
    program = (
        "from huggingface_hub import constants\n"
        "assert constants.HF_HUB_DISABLE_TELEMETRY and constants.HF_HUB_OFFLINE\n"
        "from transformers.utils import hub\n"
        "assert hub.is_offline_mode()"
    )
    environment = {"PATH": os.environ["PATH"]} | outbound.NO_TELEMETRY
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
