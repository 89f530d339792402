"""What it takes to take the starter model along, proof included, and what others notice of it.

    python -m bench.exports [--forms adapter,merged] [--quiet-seconds 45] [--keep FOLDER]

A real trainer teaches the starter model a little, on all layers. A real worker makes every form of
that, one after the other: seconds from asking to being offered, processor time of its children, and
the most memory that one of them held. Then a trainer learns while somebody opens the pages of
`make bench-queue`, in the same way, by turns without an export and beside one that is being made:
what it does to both is a ratio within one run, so that other programs on the machine fall on either
side. JSON last, and in bench/results/.
"""

import argparse
import datetime
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import comparison, crowd, live, processor, start, workload

if TYPE_CHECKING:
    from app.core.models import Export, Job

ROOT = Path(__file__).resolve().parents[1]
# What issue 26 asks for, of the starter model on two cores.
ADAPTER_FORMS = {"adapter": ("as_trained",), "vllm": ("as_trained",), "gguf": ("f16",)}
MERGED_FORMS = {
    "merged": ("bf16",), "gguf-merged": ("f16", "q8_0", "q4_k_m"), "ollama": ("q8_0",),
}  # fmt: skip
TARGETS = {"adapter_seconds": 60, "merged_seconds": 180, "memory_beside_weights_gb": 2.0}
BESIDE = ("merged", "bf16")
_NUM_ROUNDS = 3
_NUM_STEPS = 24


@dataclass
class Children:
    """What the exporting children of this machine's bench take, looked at ten times a second."""

    peak_bytes: int = 0
    milliseconds: dict[int, float] = field(default_factory=dict)

    @contextmanager
    def watched(self) -> "Iterator[Children]":
        end = threading.Event()
        thread = threading.Thread(target=self._watch, args=(end,))
        thread.start()
        try:
            yield self
        finally:
            end.set()
            thread.join()

    def _watch(self, end: threading.Event) -> None:
        while not end.wait(0.1):
            for pid in processor.tree(os.getpid()):
                if "worker.exporting" in processor.command(pid):
                    self.milliseconds[pid] = processor.milliseconds([pid])
                    self.peak_bytes = max(self.peak_bytes, _most_held(pid))


def main() -> None:
    options = _options()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    os.environ["ETUDE_PRIVACY_GATE"] = "off"  # the clinic is invented
    body: dict[str, Any] = {
        "command": "make bench-exports",
        "kind": "exports-cpu",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "model": workload.MODEL_NAME,
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory(prefix="etude-x") as folder, ExitStack() as stack:
        Path(folder).chmod(0o711)
        queues = ("gpu", "cpu")
        address = stack.enter_context(live.etude(Path(folder), "worker.trainer", queues))
        cookie, version_id = start.prepare()
        adapter_id = _train(version_id)
        body["forms"] = _each_form(adapter_id, options.forms, options.keep)
        body["load_amid"] = os.getloadavg()[0]
        body["beside"] = _beside(address, cookie, version_id, adapter_id, options.quiet_seconds)
    body["load_after"] = os.getloadavg()[0]
    body["targets"] = TARGETS
    body["missed"] = _missed(body["forms"])
    if options.forms is None:  # a trial is no result
        path = ROOT / "bench" / "results" / f"exports-cpu-{body['date']}.json"
        path.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(body))
    sys.exit(1 if body["missed"] else 0)


def _train(version_id: int) -> int:
    """Have a real trainer teach the starter model a little of the clinic; gives the adapter's id.

    Its answers come to an end where it learned to, so what is counted of them says something.
    """
    from sqlalchemy import select

    from app.core import db, wakeup
    from app.core.models import Adapter, DatasetVersion, JobStatus
    from app.training.config import TrainConfig
    from tests import factories

    with db.session() as session:
        version = session.get_one(DatasetVersion, version_id)
        job = factories.make_job(
            session,
            user=version.dataset.owner,
            version=version,
            base_model=_starter(session),
            config=TrainConfig(num_steps=_NUM_STEPS, batch_size=8, num_evaluations=1),
        )
        session.commit()
        wakeup.hint("gpu")
        _until(session, job, lambda: job.status.is_final)
        assert job.status is JobStatus.SUCCEEDED, job.reason
        return session.scalars(select(Adapter.id).where(Adapter.job_id == job.id)).one()


def _each_form(
    adapter_id: int, only: list[str] | None, keep: Path | None
) -> dict[str, dict[str, Any]]:
    found = {}
    for form, quantizations in (ADAPTER_FORMS | MERGED_FORMS).items():
        for quantization in quantizations:
            if only is None or form in only:
                found[f"{form} {quantization}"] = _make(adapter_id, form, quantization, keep)
    return found


def _make(adapter_id: int, form: str, quantization: str, keep: Path | None) -> dict[str, Any]:
    """Have one made and proved, and say what it took."""
    before = os.getloadavg()[0]
    began = time.monotonic()
    with Children().watched() as children:
        row = _asked(adapter_id, form, quantization, keep)
    took = time.monotonic() - began
    found = {
        "seconds": round(took, 1),
        "processor_seconds": round(sum(children.milliseconds.values()) / 1000, 1),
        "peak_gb": round(children.peak_bytes / 1e9, 2),
        "weights_gb": round(2 * row["num_parameters"] / 1e9, 2),
        "load_before": before,
        "agreement": row["agreement"],
    }
    print(f"{form} {quantization}: {json.dumps(found)}", file=sys.stderr, flush=True)
    return found


def _asked(
    adapter_id: int, form: str, quantization: str, keep: Path | None = None
) -> dict[str, Any]:
    from app.adapters import exports
    from app.core import db, storage, wakeup
    from app.core.models import Adapter, ExportForm, ExportStatus, Quantization, User

    with db.session() as session:
        adapter = session.get(Adapter, adapter_id)
        assert adapter is not None
        owner = session.get_one(User, adapter.owner_id)
        row = exports.request(session, owner, adapter, ExportForm(form), Quantization(quantization))
        session.commit()
        wakeup.hint("cpu")
        _until(session, row, lambda: row.status not in exports.OPEN)
        assert row.status is ExportStatus.READY, row.reason
        if keep is not None:
            shutil.copyfile(storage.path(str(row.storage_key)), keep / str(row.filename))
        keys = exports.forget(session, [row])  # the next time it is made anew
        session.commit()
        for key in keys:
            storage.delete(key)
        return {
            "agreement": row.agreement,
            "num_parameters": adapter.base_model.num_parameters,
        }


def _until(session: Any, row: "Export | Job", is_over: Callable[[], bool]) -> None:
    until = time.monotonic() + 1800
    while not is_over():
        assert time.monotonic() < until, row.status
        time.sleep(0.1)
        session.rollback()
        session.refresh(row)


# --- beside it --------------------------------------------------------------------------------


def _beside(
    address: str, cookie: str, version_id: int, adapter_id: int, seconds: float
) -> dict[str, Any]:
    """Take the trainer's speed and the time of pages without an export and beside one, in turn."""
    job_id = _begin_training(version_id)
    # Those of `make bench-queue`, the page of the job that trains among them.
    pages = [f"/jobs/{job_id}" if page == "/jobs/1" else page for page in crowd.PAGES]
    without, beside = [], []
    try:
        for _ in range(_NUM_ROUNDS):
            without.append(_phase(address, cookie, pages, job_id, seconds, None))
            beside.append(_phase(address, cookie, pages, job_id, seconds, adapter_id))
        without.append(_phase(address, cookie, pages, job_id, seconds, None))
    finally:
        _cancel(job_id)
    found = {"without": _together(without), "beside": _together(beside)}
    return found | {
        "rounds": {"without": [_figures(each) for each in without],
                   "beside": [_figures(each) for each in beside]},
        "trainer_ratio": _ratio(found, "tokens_per_second"),
        "page_p95_ratio": _ratio(found, "page_p95_ms"),
    }  # fmt: skip


@dataclass
class Phase:
    """What was seen while an export was made, or while none was."""

    seconds: float
    num_steps: int
    num_tokens: float
    pages_ms: list[float]
    load: float


def _together(phases: list[Phase]) -> dict[str, Any]:
    """Return the figures of several phases as those of one."""
    return _figures(
        Phase(
            sum(each.seconds for each in phases),
            sum(each.num_steps for each in phases),
            sum(each.num_tokens for each in phases),
            [took for each in phases for took in each.pages_ms],
            statistics.mean(each.load for each in phases),
        )
    )


def _figures(phase: Phase) -> dict[str, Any]:
    return {
        "seconds": round(phase.seconds, 1),
        "steps": phase.num_steps,
        "tokens_per_second": round(phase.num_tokens / phase.seconds, 1),
        "pages": len(phase.pages_ms),
        "page_p50_ms": round(statistics.median(phase.pages_ms), 1),
        "page_p95_ms": round(statistics.quantiles(phase.pages_ms, n=20, method="inclusive")[-1], 1),
        "load": round(phase.load, 1),
    }


def _ratio(found: dict[str, dict[str, Any]], figure: str) -> float:
    beside, without = found["beside"][figure], found["without"][figure]
    return round(float(beside) / float(without), 2)


def _phase(
    address: str,
    cookie: str,
    pages: list[str],
    job_id: int,
    seconds: float,
    adapter_id: int | None,
) -> Phase:
    """Open pages for so long, or as long as an export takes, and count what was learned then."""
    from app.core import clock, db

    with db.session() as session:
        began_at = clock.read(session)
    end = threading.Event()
    failed: list[BaseException] = []

    def export() -> None:
        try:
            assert adapter_id is not None
            _asked(adapter_id, *BESIDE)
        except BaseException as error:
            failed.append(error)
        finally:
            end.set()

    began = time.monotonic()
    if adapter_id is not None:
        threading.Thread(target=export, daemon=True).start()
    pages_ms: list[float] = []
    while not end.is_set() and (adapter_id is not None or time.monotonic() - began < seconds):
        # One page after the other, as there: what is open at once is no matter of an export.
        page = pages[len(pages_ms) % len(pages)]
        took = crowd.open_page(address, page, cookie)
        assert took is not None, page
        pages_ms.append(took)
        time.sleep(crowd.LOOK_SECONDS)
    if failed:
        raise failed[0]
    with db.session() as session:
        ended_at = clock.read(session)
        tokens, num_steps = _learned(session, job_id, began_at, ended_at)
    lasted = time.monotonic() - began
    found = Phase(lasted, num_steps, tokens, pages_ms, os.getloadavg()[0])
    print(json.dumps(_figures(found)), file=sys.stderr, flush=True)
    return found


def _learned(session: Any, job_id: int, since: Any, until: Any) -> tuple[float, int]:
    """Return the tokens of the steps that a trainer wrote down in a time, and how many steps."""
    from sqlalchemy import select

    from app.core.models import Metric

    wanted = select(Metric.value).where(
        Metric.job_id == job_id, Metric.name == "num_tokens", Metric.at > since, Metric.at <= until
    )
    values = list(session.scalars(wanted))
    return sum(values), len(values)


def _begin_training(version_id: int) -> int:
    """Start a job that lasts, and wait until it has learned something."""
    from sqlalchemy import func, select

    from app.core import db, wakeup
    from app.core.models import DatasetVersion, Metric
    from app.training.config import TrainConfig
    from tests import factories

    with db.session() as session:
        version = session.get(DatasetVersion, version_id)
        assert version is not None
        config = TrainConfig(num_epochs=50, num_evaluations=1)
        job = factories.make_job(
            session,
            user=version.dataset.owner,
            version=version,
            base_model=_starter(session),
            config=config,
        )
        session.commit()
        wakeup.hint("gpu")
        until = time.monotonic() + 600
        wanted = select(func.count()).where(Metric.job_id == job.id, Metric.name == "loss")
        while (session.scalar(wanted) or 0) < 3:
            session.rollback()
            session.refresh(job)
            assert time.monotonic() < until and not job.status.is_final, job.status
            time.sleep(0.5)
        return job.id


def _cancel(job_id: int) -> None:
    from app.core import db
    from app.core.models import Job
    from app.jobs import requests

    with db.session() as session:
        job = session.get(Job, job_id)
        assert job is not None
        requests.cancel(session, job.owner, job)
        session.commit()


def _starter(session: Any) -> Any:
    from sqlalchemy import select

    from app.core.models import BaseModel

    return session.scalars(select(BaseModel).where(BaseModel.name == workload.MODEL_NAME)).one()


def _missed(forms: dict[str, dict[str, Any]]) -> list[str]:
    missed = []
    for name, found in forms.items():
        kind = "adapter" if name.split()[0] in ADAPTER_FORMS else "merged"
        if found["seconds"] > TARGETS[f"{kind}_seconds"]:
            missed.append(f"{name}: {found['seconds']} s")
        if found["peak_gb"] > found["weights_gb"] + TARGETS["memory_beside_weights_gb"]:
            missed.append(f"{name}: {found['peak_gb']} GB")
    return missed


def _most_held(pid: int) -> int:
    """Return the most memory that a process has held so far."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.exports")
    parser.add_argument("--forms", type=lambda said: said.split(","), help="only these; no result")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy each zip to it")
    parser.add_argument("--quiet-seconds", type=float, default=45, help="of each time without one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
