"""The storage that machines share is away in mid-job: a bucket's server, and a folder to mount."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select

from app.core import settings
from app.core.models import Attempt, Job, JobStatus
from app.ops.embedded.postgres import Postgres
from app.training import manifests
from tests import patience, shared_stores
from tests.faults.conftest import opened
from tests.faults.house import House
from tests.faults.proxy import proxy
from worker.gpu import checkpoint_copies

LONG = "steps=60 every=10 pause=0.03"


class Storage:
    """One that can go and come back."""

    def __init__(
        self, environment: dict[str, str], go: Callable[[], object], come: Callable[[], object]
    ) -> None:
        self.environment, self.go, self.come = environment, go, come


@contextmanager
def folder(place: Path) -> Iterator[Storage]:
    mounted, gone = place / "mounted", place / "gone"
    mounted.mkdir()
    yield Storage(
        {"ETUDE_STORAGE": str(mounted)},
        lambda: shutil.move(mounted, gone),
        lambda: shutil.move(gone, mounted),
    )


@contextmanager
def bucket(place: Path) -> Iterator[Storage]:
    with shared_stores.s3_server() as address, proxy(int(address.rpartition(":")[2])) as cable:

        def come() -> None:
            cable.is_away = False

        at = shared_stores.bucket_settings(f"http://127.0.0.1:{cable.port}")
        yield Storage(at, cable.go_away, come)


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.long)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    with {"folder": folder, "bucket": bucket}[request.param](tmp_path) as made:
        yield made


def attempts_of(house: House, job: Job) -> list[Attempt]:
    house.db.expire_all()
    found = select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)
    return list(house.db.scalars(found))


@pytest.mark.long
def test_a_job_ends_well_though_the_storage_is_away_when_it_is_done(
    postgres: Postgres, storage: Storage
) -> None:
    with opened(postgres, with_worker=False, **storage.environment) as house:
        house.share_the_model()
        house.worker.start()
        web = house.start_web()
        job = house.make_job(LONG)
        house.wait_for(lambda: "event=checkpoint.copied" in house.log())
        storage.go()
        house.wait_for(lambda: job.attempt == 1 and job.status is JobStatus.QUEUED)
        # It trained to its end meanwhile, and waits for the storage alone.
        assert (job.step, job.strikes) == (60, 0)
        assert attempts_of(house, job)[0].outcome == "storage_away"
        assert job.run_after > job.created_at
        page = httpx2.get(
            f"{web.address}/jobs/{job.id}", headers=web.headers(), timeout=patience.seconds(30)
        )
        assert "It tries again in a minute." in page.text
        storage.come()
        job.run_after = job.created_at
        house.db.commit()
        house.ring()
        house.finish(job, attempts=2)
        assert attempts_of(house, job)[1].resume_step == 60
        # All of it: what comes later may be longer than the end that is shown.
        whole = house.worker.log.read_text(errors="replace")
        assert whole.count("event=checkpoint.storage_away") == 1


@pytest.mark.long
def test_a_minute_without_the_storage_in_mid_job_costs_nothing(
    postgres: Postgres, storage: Storage
) -> None:
    with opened(postgres, with_worker=False, **storage.environment) as house:
        house.share_the_model()
        house.worker.start()
        job = house.make_job(LONG)
        house.wait_for(lambda: "event=checkpoint.copied" in house.log())
        storage.go()
        house.wait_for(lambda: "event=checkpoint.storage_away" in house.log())
        house.until_step(job, 45)
        storage.come()
        house.finish(job, attempts=1)


def test_a_checkpoint_is_copied_once_the_storage_is_back(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest one that there is, and without a newer one to come."""
    with folder(tmp_path) as storage:
        monkeypatch.setenv("ETUDE_STORAGE", storage.environment["ETUDE_STORAGE"])
        settings.get.cache_clear()
        digests = {}
        for step in (10, 20):
            place = tmp_path / "job" / f"step-{step}"
            place.mkdir(parents=True)
            (place / "state.json").write_text(str(step))
            digests[step] = manifests.write_manifest(place)
        copies = checkpoint_copies.Copies(7, tmp_path / "job", again_seconds=0.05)
        storage.go()
        for step, digest in digests.items():
            copies.offer(f"step-{step}", digest)
        storage.come()
        there = tmp_path / "mounted" / "checkpoints" / "7" / digests[20] / manifests.NAME
        deadline = time.monotonic() + patience.seconds(20)
        while not there.exists():
            assert time.monotonic() < deadline, "it was not copied"
            time.sleep(0.01)
        copies.close(is_needed=False)
        assert [path.name for path in there.parent.parent.iterdir()] == [digests[20]]


@pytest.mark.parametrize("is_needed", [True, False])
def test_an_end_waits_for_no_storage(
    is_needed: bool, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_STORAGE", str(tmp_path / "not mounted"))
    settings.get.cache_clear()
    place = tmp_path / "job" / "step-1"
    place.mkdir(parents=True)
    (place / "state.json").write_text("1")
    copies = checkpoint_copies.Copies(7, tmp_path / "job", again_seconds=3600)
    copies.offer("step-1", manifests.write_manifest(place))
    copies.close(is_needed=is_needed)
