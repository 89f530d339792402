"""One side of bench.pages: a web of a checkout with a database and rows of its own."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import processor

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 120
# It shows nothing but what every page has: others are measured by it.
EMPTY_PAGE = "/notices"
# What a side runs in its own checkout: servers, a web, a person with data and a job.
SIDE = """
import json, os, sys, tempfile
from pathlib import Path
sys.path.insert(0, os.getcwd())
with tempfile.TemporaryDirectory(prefix="etude-p") as folder:
    Path(folder).chmod(0o711)
    from bench.live import etude
    with etude(Path(folder), queues=()) as address:
        from app.core import db
        from app.core.models import JobStatus, Role
        from app.people import auth
        from tests import factories
        with db.session() as session:
            if "BENCH_EVERYTHING" in os.environ:
                from tests.security.full_house import addresses, furnish
                user = furnish(session)
                every = addresses(session)
            else:
                user, every = factories.make_user(session, role=Role.ADMIN), []
            version = factories.make_dataset_version(session, user=user, num_train=400)
            others = factories.make_user(session)
            for number in range(int(os.environ["BENCH_DATASETS"])):
                owner = others if number % 2 else user
                factories.make_dataset_version(session, user=owner, name=f"Data {number}")
            for number in range(int(os.environ["BENCH_JOBS"])):
                owner = others if number % 2 else user
                made = factories.make_job(session, user=owner, version=version,
                                          name=f"Try {number}", status=JobStatus.SUCCEEDED)
                if number % 10 == 0:
                    factories.make_adapter(session, job=made)
            job = factories.make_job(session, user=user, version=version)
            secret = auth.open_session(session, user)
            session.commit()
            pages = ["/notices", "/", "/datasets", f"/versions/{version.id}",
                     f"/versions/{version.id}/examples", "/jobs", "/jobs/new", f"/jobs/{job.id}",
                     "/adapters", "/models", "/queue", "/account"]
        print(json.dumps({"address": address, "cookie": f"{auth.COOKIE}={secret}", "pages": pages,
                          "every": every}), flush=True)
        sys.stdin.read()
"""


@dataclass
class Side:
    """A web that is asked for pages, signed in."""

    name: str
    process: "subprocess.Popen[str]"
    address: str
    cookie: str
    pages: list[str]
    every: list[str]  # addresses of all pages and downloads; empty: not asked for

    def whole_pages(self) -> list[str]:
        """Return one address of each kind that is answered with a whole page."""
        kinds = {re.sub(r"\d+", "N", path): path for path in reversed([*self.pages, *self.every])}
        return [EMPTY_PAGE, *(path for path in kinds.values() if self._is_whole(path))]

    def _is_whole(self, path: str) -> bool:
        with closing(self._connection()) as connection:
            connection.request("GET", path, headers={"Cookie": self.cookie, "Accept": "text/html"})
            answer = connection.getresponse()
            is_html = "text/html" in (answer.getheader("content-type") or "")
            is_page = is_html and answer.status == http.client.OK and b"<html" in answer.read(200)
        return is_page and path != EMPTY_PAGE

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)

    def ask(self, page: str) -> float:
        """Return how many milliseconds a page takes."""
        began = time.monotonic()
        with closing(self._connection()) as connection:
            connection.request("GET", page, headers={"Cookie": self.cookie, "Accept": "text/html"})
            answer = connection.getresponse()
            answer.read()
        if answer.status != http.client.OK:
            raise SystemExit(f"{self.name}: {page} is answered with {answer.status}.")
        return 1000 * (time.monotonic() - began)

    def processor_ms(self) -> float:
        """Return what the web and its children have taken of the processor so far."""
        everyone = processor.tree(self.process.pid)
        webs = [pid for pid in everyone if "uvicorn" in processor.command(pid)]
        return processor.milliseconds({child for pid in webs for child in processor.tree(pid)})


def start(name: str, folder: Path, environment: dict[str, str]) -> Side:
    """Start a checkout's web with its rows, and wait until it answers."""
    process = subprocess.Popen(
        [sys.executable, "-c", SIDE],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        raise SystemExit(f"The web of {folder} does not start.")
    side = Side(name, process, **json.loads(said))
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with suppress(ConnectionError):
            side.ask("/healthz")
            return side
        time.sleep(0.2)
    raise SystemExit(f"The web of {folder} does not answer.")
