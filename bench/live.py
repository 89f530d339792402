"""How long a point takes from the trainer's line to the screen: p50 and p95; JSON last.

    python -m bench.live [NUMBER OF STEPS] [SECONDS A STEP]

Real PostgreSQL, Valkey, Celery worker, supervisor, web process and Chromium; only the trainer is
the tests' stand-in, which writes the same lines without a model. A point counts as on the screen
in the frame after the one that drew it.
"""

import datetime
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
TARGET_MS = 250
WATCH = """() => {
  const page = document.querySelector("[data-job-stream]");
  const card = document.querySelector("[data-loss-chart]");
  let waiting = [];
  page.addEventListener("job:metric", ({ detail }) => {
    if ("loss" in detail.values) waiting.push([detail.step, Date.parse(detail.at)]);
  });
  card.addEventListener("chart:drawn", () => {
    const drawn = waiting;
    waiting = [];
    requestAnimationFrame(() => {
      window.report(drawn.map(([step, at]) => [step, Date.now() - at]));
    });
  });
}"""


def main() -> None:
    num_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.2
    with tempfile.TemporaryDirectory(prefix="etude-l") as folder, ExitStack() as stack:
        Path(folder).chmod(0o711)
        address = stack.enter_context(etude(Path(folder)))
        cookie, job_id = make_job(f"steps={num_steps} pause={seconds} every=25")
        result = watch(address, cookie, job_id, num_steps)
    from bench import comparison, report

    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    body = {
        "command": "make bench-live",
        "kind": "live",
        "date": date,
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        **result,
    }
    if len(sys.argv) == 1:  # a short trial is no result
        path = ROOT / "bench" / "results" / f"live-{date}.json"
        path.write_text(json.dumps(body, indent=1) + "\n")
        report.write()
    print(json.dumps(result))
    sys.exit(0 if result["p95_ms"] <= TARGET_MS and not result["num_lost"] else 1)


@contextmanager
def etude(
    folder: Path, trainer: str = "tests.worker.stand_in_trainer", queues: tuple[str, ...] = ("gpu",)
) -> "Iterator[str]":
    """Start servers, web and workers below a folder; gives the web's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "ETUDE_DATA_DIR": str(folder),
        "ETUDE_DEVICE": "cpu",
        "ETUDE_PORT": str(port),
        "ETUDE_SWEEP_SECONDS": "1",
        "ETUDE_TRAINER_MODULE": trainer,
        "PYTHONPATH": str(ROOT),
    }
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from app.core import db, migrations, settings
    from app.ops.embedded.postgres import Postgres
    from app.ops.embedded.valkey import Valkey

    postgres, valkey = Postgres(settings.load()), Valkey(settings.load())
    processes: list[subprocess.Popen[bytes]] = []
    try:
        postgres.start()
        valkey.start()
        os.environ |= {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
        settings.get.cache_clear()
        db.forget()  # that of another one of this process
        migrations.upgrade(db.engine())
        uvicorn = ["uvicorn", "app.main:create_lasting_app", "--factory", "--log-level", "warning"]
        workers = [
            ["worker.answer"] if name == "answer" else ["app.cli", "worker", name]
            for name in queues
        ]
        for command in ([*uvicorn, "--port", str(port)], *workers):
            with (folder / f"{command[-1]}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log)
                )
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(60)
        valkey.stop()
        postgres.stop()


def make_job(name: str) -> tuple[str, int]:
    """Make a person and a job; gives the person's session and the job's id."""
    from app.core import db, wakeup
    from app.people import auth
    from tests import factories

    with db.session() as session:
        user = factories.make_user(session)
        job = factories.make_job(session, user=user)
        job.name = name
        secret = auth.open_session(session, user)
        session.commit()
        wakeup.hint("gpu")
        return secret, job.id


def watch(address: str, cookie: str, job_id: int, num_steps: int) -> dict[str, float | int]:
    """Look at the job's page in Chromium until every step is on the screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        context = browser.new_context(locale="en-US", viewport={"width": 1200, "height": 1200})
        context.add_cookies([{"name": "etude_session", "value": cookie, "url": address}])
        page = context.new_page()
        found: dict[int, float] = {}

        def report(points: list[tuple[int, float]]) -> None:
            found.update(points)

        # A page is loaded anew when its job begins or ends; what it saw is told at once.
        page.expose_function("report", report)
        page.add_init_script(
            f"document.addEventListener('DOMContentLoaded', {WATCH}, {{once: true}})"
        )
        _open(page, f"{address}/jobs/{job_id}")
        deadline = time.monotonic() + 600
        while page.get_attribute("[data-job-stream]", "data-is-final") is None:
            assert time.monotonic() < deadline, "the job did not end in time"
            page.wait_for_timeout(200)
        on_screen = int(page.get_attribute("[data-loss-chart]", "data-num-points") or 0)
        browser.close()
    # The first points may come with the page; those that were not live are not counted.
    times = sorted(found.values())
    return {
        "num_points": len(times),
        # Step 0 has a point too: the test questions before training.
        "num_lost": num_steps + 1 - on_screen,
        "p50_ms": round(statistics.median(times), 1),
        "p95_ms": round(times[int(len(times) * 0.95)], 1),
        "max_ms": round(times[-1], 1),
        "target_p95_ms": TARGET_MS,
    }


def _open(page: object, address: str) -> None:
    from playwright.sync_api import Error, Page

    assert isinstance(page, Page)
    for _ in range(300):
        try:
            page.goto(address)
        except Error:
            time.sleep(0.1)  # the web process is still starting
        else:
            return


if __name__ == "__main__":
    main()
