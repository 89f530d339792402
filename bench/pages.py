"""How long pages take, by themselves or beside another checkout or other settings; JSON last.

    python -m bench.pages [--rounds 30] [--jobs 1000] [--datasets 200] [--visits 3] [--short]
    python -m bench.pages --against FOLDER [--rounds 200]
    python -m bench.pages --with ETUDE_NAME=VALUE [--rounds 200]

The first asks for every page of a house with a row of everything and so many jobs and datasets, and
then visits them in Chromium (pages_seen.py); --short takes few rows and rounds, and writes no file.

FOLDER is another checkout, e.g. of `git worktree add FOLDER COMMIT`; without it both sides are this
one, and what differs is what --with sets for the second. Each side is a web of its own with a
database of its own and the same rows. Every page is asked for once a side and round, the sides in
turns, so that what else the machine does falls on both. Beside the wall's clock stands the time of
the processor that the web and its children took for a page: that is what a change costs on a
machine that others use, too.
"""

import argparse
import http.client
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WARM_ROUNDS = 5
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
        found = [pid for pid in _below(self.process.pid) if _is_web(pid)]
        family = {child for pid in found for child in (pid, *_below(pid))}
        ticks = sum(sum(map(int, _stat(pid)[11:13])) for pid in family)
        return 1000 * ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = _options()
    changed = dict(each.split("=", 1) for each in options.changed)
    rows = {"BENCH_JOBS": str(options.jobs), "BENCH_DATASETS": str(options.datasets)}
    if not changed and options.against is None:
        _by_themselves(options, rows)
        return
    sides = [
        _start("here", ROOT, rows),
        _start("other", Path(options.against or ROOT).resolve(), rows | changed),
    ]
    try:
        result = measure(sides, options.rounds or 200)
    finally:
        for side in sides:
            side.process.communicate()
    for page, row in result["pages"].items():
        ratio = row["here_ms"] / result["pages"][EMPTY_PAGE]["here_ms"]
        print(
            f"{page:28} {row['here_ms']:7.1f} ms here {row['other_ms']:7.1f} ms other, "
            f"{ratio:4.1f} times an empty page"
        )
    print(json.dumps(result))


def _by_themselves(options: argparse.Namespace, rows: dict[str, str]) -> None:
    """Hold every page against the aims; ends with 1 where one is over."""
    from bench import pages_seen

    if options.short:
        rows |= {"BENCH_JOBS": "60", "BENCH_DATASETS": "20"}
    rounds = options.rounds or (5 if options.short else 30)
    loads = [pages_seen.load()]
    side = _start("here", ROOT, rows | {"BENCH_EVERYTHING": "1"})
    try:
        side.pages = side.whole_pages()
        measured = measure([side], rounds)["pages"]
        own_ms = {page: row["here_ms"] for page, row in measured.items()}
        visits = 1 if options.short else options.visits
        result = pages_seen.see(side, own_ms, visits=visits, looks=not options.short)
    finally:
        side.process.communicate()
    loads.append(pages_seen.load())
    pages_seen.told(result)
    if not options.short:
        print(pages_seen.write(result, rounds, loads))
    print(json.dumps(result))
    sys.exit(1 if result["over"] or result["axe"] else 0)


def measure(sides: list[Side], rounds: int) -> dict[str, Any]:
    """Ask for all pages in turns."""
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    work: dict[str, float] = dict.fromkeys([side.name for side in sides], 0.0)
    pages = sides[0].pages
    for number in range(-WARM_ROUNDS, rounds):
        for turn, place in enumerate(range(len(pages))):
            # Who is first changes from page to page, and from round to round.
            for side in sides if (number + turn) % 2 else reversed(sides):
                before = side.processor_ms()
                milliseconds = side.ask(side.pages[place])
                if number >= 0:
                    took[side.name, pages[place]].append(milliseconds)
                    work[side.name] += side.processor_ms() - before
    return {
        "rounds": rounds,
        "processor_ms_a_page": {
            name: round(spent / rounds / len(pages), 2) for name, spent in work.items()
        },
        "median_ms": {
            side.name: round(
                statistics.median(itertools.chain(*(took[side.name, page] for page in pages))), 2
            )
            for side in sides
        },
        "pages": {
            page: {
                f"{side.name}_ms": round(statistics.median(took[side.name, page]), 2)
                for side in sides
            }
            for page in pages
        },
    }


def _start(name: str, folder: Path, environment: dict[str, str]) -> Side:
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


def _below(pid: int) -> list[int]:
    try:
        children = [int(each) for each in _children(pid)]
    except OSError:  # it has ended
        return []
    return [each for child in children for each in (child, *_below(child))]


def _children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task")
    return [each for task in tasks.iterdir() for each in (task / "children").read_text().split()]


def _is_web(pid: int) -> bool:
    try:
        return b"uvicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--against", metavar="FOLDER")
    parser.add_argument("--with", action="append", default=[], dest="changed", metavar="NAME=VALUE")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--datasets", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
