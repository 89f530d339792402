"""Checkpoints in the shared storage, so that another machine goes on where this one was lost.

Beside the training and never in its way: one thread puts the newest checkpoint that the database
knows of; those that came while it was busy are passed over. A storage that is away is tried again
until it is back. Nothing depends on it: without a copy another machine begins with an earlier one,
or anew.
"""

import shutil
import threading
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import shared_storage, storage
from app.core.models import Checkpoint, Job, JobStatus
from app.core.shared_storage import StorageAway
from app.training import manifests

KIND = "checkpoints"
# Of a job that ends at this moment, a copy may still be on its way.
_PURGE_AFTER_SECONDS = 3600

_log = structlog.get_logger()


def key(job_id: int, manifest_sha256: str) -> str:
    """Return a checkpoint's key. Two attempts may reach the same step with other numbers."""
    return f"{KIND}/{job_id}/{manifest_sha256}"


class Copies:
    """Puts the newest checkpoint of one attempt; its thread begins with the first."""

    def __init__(self, job_id: int, job_dir: Path, again_seconds: float = 10) -> None:
        """
        Args:
            again_seconds: After which a storage that was away is tried again.
        """
        self._job_id, self._job_dir = job_id, job_dir
        self._again_seconds = again_seconds
        self._is_away = False
        self._offered: tuple[str, str] | None = None
        self._last: str | None = None  # the key of the newest that is there
        self._news = threading.Condition()
        self._is_over = self._is_needed = False
        self._thread: threading.Thread | None = None

    def offer(self, path: str, manifest_sha256: str) -> None:
        """Have a checkpoint put when the one before is done; where machines share a storage.

        Args:
            path: Below the job's folder.
        """
        if shared_storage.get() is None:
            return
        with self._news:
            self._offered = path, manifest_sha256
            self._news.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="checkpoint copies", daemon=True)
            self._thread.start()

    def close(self, *, is_needed: bool) -> None:
        """Wait for the thread's end.

        Args:
            is_needed: Whether the checkpoint offered last is put before.
        """
        with self._news:
            self._is_over, self._is_needed = True, is_needed
            if not is_needed:
                self._offered = None
            self._news.notify()
        if self._thread is not None:
            self._thread.join()  # the one on its way is whole afterwards, or not there

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._offered is not None or self._is_over)
                if self._offered is None:
                    return
                taken, self._offered = self._offered, None
            try:
                self._put(*taken)
                self._is_away = False
            except StorageAway as error:
                if not self._is_away:  # a line for each time that it goes, not for each try
                    _log.warning("checkpoint.storage_away", job=self._job_id, error=str(error))
                self._is_away = True
                self._offer_again(taken)
            except (OSError, ValueError) as error:  # the trainer tidied up
                _log.warning("checkpoint.not_copied", job=self._job_id, error=str(error))

    def _offer_again(self, taken: tuple[str, str]) -> None:
        """Wait, and take what failed once more; a newer one goes before it, and an end ends it."""
        with self._news:
            if self._is_over:
                return
            self._news.wait_for(
                lambda: self._offered is not None or self._is_over, self._again_seconds
            )
            if self._offered is None and (not self._is_over or self._is_needed):
                self._offered = taken

    def _put(self, path: str, digest: str) -> None:
        this = key(self._job_id, digest)
        storage.share_folder(this, self._job_dir / path)
        _log.info("checkpoint.copied", job=self._job_id, path=path)
        before, self._last = self._last, this
        if before is not None and before != this:
            storage.delete(before)


def fetch(checkpoint: Checkpoint, target: Path) -> bool:
    """Bring a checkpoint's copy here; says whether it is whole at its place."""
    if shared_storage.get() is None:
        return False
    if target.exists():
        shutil.rmtree(target)  # it is not what its row says
    try:
        digest = checkpoint.manifest_sha256
        storage.fetch_folder(key(checkpoint.job_id, digest), digest, target)
        return manifests.verify_manifest(target) == digest
    except (OSError, ValueError) as error:
        _log.info("checkpoint.not_fetched", job=checkpoint.job_id, error=str(error))
        return False


def forget(job_id: int) -> None:
    """Remove all copies of a job that is over."""
    if shared_storage.get() is not None:
        storage.delete(f"{KIND}/{job_id}")


def purge(session: Session) -> None:
    """Remove the copies of jobs that are over, whichever machine was lost with them."""
    if shared_storage.get() is None:
        return
    found = {key.rpartition("/")[2]: key for key in storage.left_over(KIND, _PURGE_AFTER_SECONDS)}
    numbers = [int(name) for name in found if name.isdigit()]
    at_work = (JobStatus.QUEUED, JobStatus.RUNNING)
    kept = set(session.scalars(select(Job.id).where(Job.id.in_(numbers), Job.status.in_(at_work))))
    for number in set(numbers) - kept:
        storage.delete(found[str(number)])
