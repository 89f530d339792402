"""From pressing "Start training" to the first loss on the chart, with a warm worker; JSON last.

    python -m bench.start [ROUNDS]

Everything is real: servers, workers, trainer, starter model, the clinic's sample and Chromium.
Times are the browser's: from the click to the frame in which the page shows the job's first phase,
and to the one with the first training loss. The first round loads a starting model that has never
been packed to 4 bits, the others read the packed copy; both are reported.
"""

import datetime
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from bench import comparison, live, report, workload

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"phase_seconds": 1.0, "loss_seconds": 10.0}
PHASE_SHOWN = """() => {
  const word = document.querySelector("[data-figure=status]")?.textContent.trim();
  return ["Loading", "Preparing", "Training"].includes(word) && Date.now();
}"""
LOSS_SHOWN = """() => {
  const points = document.querySelector("[data-loss-chart]")?.dataset.numPoints;
  return Number(points) > 0 && Date.now();
}"""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    os.environ["ETUDE_PRIVACY_GATE"] = "off"  # the clinic is invented
    with tempfile.TemporaryDirectory(prefix="etude-s") as folder, ExitStack() as stack:
        Path(folder).chmod(0o711)
        queues = ("gpu", "cpu")
        address = stack.enter_context(live.etude(Path(folder), "worker.trainer", queues))
        cookie, version_id = prepare()
        found = _press(address, cookie, version_id, rounds)
    warm = found[1:] or found
    medians = {name: round(statistics.median(one[name] for one in warm), 2) for name in TARGETS}
    body = {
        "command": "make bench-start",
        "kind": "start-cpu",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "model": workload.MODEL_NAME,
        "first_round": found[0],
        "rounds": warm,
        "medians": medians,
        "targets": TARGETS,
    }
    path = ROOT / "bench" / "results" / f"start-cpu-{body['date']}.json"
    path.write_text(json.dumps(body, indent=1) + "\n")
    report.write()
    print(json.dumps({"first_round": found[0], "medians": medians, "targets": TARGETS}))
    sys.exit(0 if all(medians[name] <= most for name, most in TARGETS.items()) else 1)


def prepare() -> tuple[str, int]:
    """Make a person, the starter model and the clinic's data; gives session and version."""
    from app.core import db, settings, storage, wakeup
    from app.core.models import DatasetVersion, VersionStatus
    from app.datasets import versions
    from app.people import auth
    from app.training.manifests import verify_manifest
    from app.training.plan.shape import count_parameters
    from tests import factories

    source = workload.starter_model()
    models_dir = settings.get().models_dir
    models_dir.mkdir(parents=True, exist_ok=True)
    (models_dir / "starter").symlink_to(source)
    with db.session() as session:
        user = factories.make_user(session)
        model = factories.make_base_model(session, name=workload.MODEL_NAME, folder="starter")
        model.manifest_sha256 = verify_manifest(source)
        model.config = json.loads((source / "config.json").read_text())
        model.num_parameters = count_parameters(source)
        rows = (ROOT / "examples" / "clinic-faq.csv").read_bytes()
        stored = storage.put("uploads", iter([rows]))
        version = versions.add(session, user, stored, "clinic-faq.csv", auto_confirm=True)
        secret = auth.open_session(session, user)
        session.commit()
        wakeup.hint("cpu")
        _wait_for(session, version, lambda: version.status is VersionStatus.READY)
        assert isinstance(version, DatasetVersion)
        return secret, version.id


def _press(address: str, cookie: str, version_id: int, rounds: int) -> list[dict[str, Any]]:
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        context = browser.new_context(locale="en-US")
        context.add_cookies([{"name": "etude_session", "value": cookie, "url": address}])
        page = context.new_page()
        page.set_default_timeout(120_000)
        for turn in range(rounds):
            _wait_until_warm()
            page.goto(f"{address}/jobs/new?version={version_id}")
            page.get_by_text("Quick", exact=True).click()
            page.get_by_label("Job name").fill(f"Round {turn + 1}")
            page.wait_for_load_state("networkidle")
            pressed = page.evaluate("Date.now()")
            page.get_by_role("button", name="Start training").click()
            times = {}
            for name, shown in (("phase_seconds", PHASE_SHOWN), ("loss_seconds", LOSS_SHOWN)):
                times[name] = round((_when(page, shown) - pressed) / 1000, 2)
            found.append(times)
            print(f"round {turn + 1}: {times}", file=sys.stderr)
            _cancel()
        browser.close()
    return found


def _when(page: Any, shown: str) -> float:
    """Ask until something is shown; gives the browser's clock in milliseconds."""
    from playwright.sync_api import Error

    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        # The page loads anew when the job begins: an answer may be lost, and is asked for again.
        with suppress(Error):
            if at := page.evaluate(shown):
                return float(at)
        time.sleep(0.02)
    raise SystemExit(f"Not seen in time; the page says:\n{page.inner_text('main')}")


def _cancel() -> None:
    """End the job and see that it has ended."""
    from sqlalchemy import select

    from app.core import db
    from app.core.models import Job
    from app.jobs import requests

    with db.session() as session:
        job = session.scalars(select(Job).order_by(Job.id.desc()).limit(1)).one()
        requests.cancel(session, job.owner, job)
        session.commit()
        _wait_for(session, job, lambda: job.status.is_final)


def _wait_for(session: Any, row: Any, is_so: Any) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline, f"{row} did not get there in time"
        time.sleep(0.1)
        session.rollback()
        session.refresh(row)


def _wait_until_warm() -> None:
    """Wait for a trainer without a job that has come to rest: it has loaded torch by then."""
    ticks, quiet_since = None, time.monotonic()
    deadline = time.monotonic() + 180
    while time.monotonic() - quiet_since < 3:
        assert time.monotonic() < deadline, "no trainer came to rest"
        now = _trainer_ticks()
        if now is None or now != ticks:
            ticks, quiet_since = now, time.monotonic()
        time.sleep(0.25)


def _trainer_ticks() -> int | None:
    """Return the processor time, in clock ticks, of our only trainer; None where there is none."""
    from app.core import settings

    jobs_dir = settings.get().jobs_dir
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if b"worker.trainer" in line and (entry / "cwd").samefile(jobs_dir):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                return int(fields[11]) + int(fields[12])
    return None


if __name__ == "__main__":
    main()
