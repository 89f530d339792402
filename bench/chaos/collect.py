"""From logs, rows, files and the web's own answers to the history that the checker reads."""

import csv
import hashlib
import io
import json
import tempfile
import zipfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from app.training import manifests
from bench.chaos import check, client, exporter

_KINDS = {"metric": "metric", "checkpoint": "checkpoint", "claim": "claim", "release": "release"}


def collect(url: str, api: client.Api, run: Path, storage: Path) -> check.History:
    """Gather what was seen; the house is up and nothing disturbs it any more.

    Args:
        url: The database.
        api: The web, for the bytes that it serves.
        run: The run's folder with its logs.
        storage: Where adapters lie.
    """
    history = check.History()
    for line in client.read(run / "client.jsonl"):
        if line["kind"] == "accepted":
            history.accepted.append(check.Accepted(line["key"], line["job"]))
        elif line["kind"] == "cancel":
            history.cancels.add(line["job"])
        elif line["kind"] == "over":
            history.ends[line["job"]] = line["status"]
    with psycopg.connect(url) as connection:
        for (number,) in connection.execute("SELECT max_running FROM line_rule"):
            history.max_running = number
        for (number,) in connection.execute(
            "SELECT count(*) FROM job_event WHERE data ? 'from_attempt'"
        ):
            history.taken_over = number
        names = _jobs(connection, history)
        _curves(connection, history, names)
        for row in connection.execute(
            "SELECT public_id, status, num_answered * jsonb_array_length(arms), "
            "(SELECT count(*) FROM evaluation_answer WHERE evaluation_id = e.id) "
            "FROM evaluation e ORDER BY id"
        ):
            history.evaluations.append(check.Evaluation(*row))
        _watched(run / "viewer.jsonl", history)
        _adapters(connection, history, names, api, storage)
        _exports(connection, history, api, storage)
        for kind, job, attempt in connection.execute(
            "SELECT kind, job_id, attempt FROM chaos.written ORDER BY number"
        ):
            history.writes.append(check.Write(_KINDS[kind], names[job], attempt))  # type: ignore[arg-type]
    _taken(run / "taker.jsonl", history)
    history.export_kills = sum(
        (line["what"], line["role"]) == ("kill", "exporter")
        for line in client.read(run / "disturbances.jsonl")
    )
    for line in client.read(run / "asker.jsonl"):
        if line["kind"] in ("answered", "silent"):
            text = line["said"] if line["kind"] == "answered" else None
            history.said.append(check.Said(line["model"], line["question"], text))
    for log in sorted((run / "history").glob("*.jsonl")):
        history.lines += _lines(log, names)
    for recipe, seen in json.loads((run / "references.json").read_text()).items():
        curves = {name: [(s, v) for s, v in points] for name, points in seen["curves"].items()}
        history.references[recipe] = check.Reference(curves, seen["weights_sha256"])
    return history


def reference(url: str, api: client.Api, storage: Path, job: str) -> dict[str, Any]:
    """Return what an undisturbed job yielded, as JSON."""
    history = check.History()
    with psycopg.connect(url) as connection:
        names = _jobs(connection, history, job)
        _curves(connection, history, names)
        _adapters(connection, history, names, api, storage)
    (found,) = history.jobs
    assert (found.status, found.attempt) == ("succeeded", 1), found
    return {"curves": found.curves, "weights_sha256": found.adapters[0].weights_sha256}


def _jobs(
    connection: psycopg.Connection, history: check.History, only: str | None = None
) -> dict[int, str]:
    names: dict[int, str] = {}
    jobs: dict[int, check.Job] = {}
    for number, public, name, status, attempt, key, desired in connection.execute(
        "SELECT id, public_id, name, status, attempt, api_request ->> 'idempotency_key', desired "
        "FROM job WHERE %(only)s::text IS NULL OR public_id = %(only)s ORDER BY id",
        {"only": only},
    ):
        names[number] = public
        jobs[number] = check.Job(
            public, name, status, attempt, key or "", is_paused=desired == "pause"
        )
    for number, attempt, worker, is_open in connection.execute(
        "SELECT job_id, number, worker_id, ended_at IS NULL FROM attempt ORDER BY job_id, number"
    ):
        if number in jobs:
            jobs[number].attempts.append(check.Attempt(attempt, worker, is_open))
    history.jobs = list(jobs.values())
    return names


def _curves(connection: psycopg.Connection, history: check.History, names: dict[int, str]) -> None:
    curves: dict[int, check.Curves] = defaultdict(lambda: defaultdict(list))
    for number, name, step, value in connection.execute(
        "SELECT job_id, name, step, value FROM metric WHERE job_id = ANY(%s) ORDER BY job_id, step",
        [list(names)],
    ):
        curves[number][name].append((step, value))
    for number, job in zip(names, history.jobs, strict=True):
        job.curves = dict(curves[number])


def _watched(log: Path, history: check.History) -> None:
    jobs = {job.id: job for job in history.jobs}
    for line in client.read(log):
        jobs[line["job"]].watched = {
            name: [(step, value) for step, value in points]
            for name, points in line["curves"].items()
        }


def _adapters(
    connection: psycopg.Connection,
    history: check.History,
    names: dict[int, str],
    api: client.Api,
    storage: Path,
) -> None:
    jobs = dict(zip(names, history.jobs, strict=True))
    for number, key, row_sha256, archive, table in connection.execute(
        "SELECT job_id, a.storage_key, manifest_sha256, f.public_id, t.public_id FROM adapter a "
        "JOIN stored_file f ON f.id = a.archive_file_id "
        "JOIN stored_file t ON t.id = a.metrics_file_id WHERE job_id = ANY(%s)",
        [list(names)],
    ):
        folder = storage / key
        weights = folder / "adapter_model.safetensors"
        jobs[number].adapters.append(
            check.Adapter(
                row_sha256,
                _manifest(folder),
                _served(api.patiently(f"/files/{archive}/content"), folder),
                hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else "",
            )
        )
        rows = csv.DictReader(io.StringIO(api.patiently(f"/files/{table}/content").decode()))
        jobs[number].table_steps = [int(row["step"]) for row in rows]


def _manifest(folder: Path) -> str | None:
    try:
        return manifests.verify_manifest(folder)
    except ValueError:
        return None


def _served(archive: bytes, stored: Path) -> str | None:
    """Return the stored manifest's digest where an archive is whole and holds the same files.

    Its card alone may be newer: it says how many answers are right.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with zipfile.ZipFile(io.BytesIO(archive)) as pack:
                pack.extractall(scratch)
        except zipfile.BadZipFile:
            return None
        digest, kept = _manifest(Path(scratch)), _manifest(stored)
        if digest is None or kept is None:
            return digest
        return kept if _but_its_card(Path(scratch)) == _but_its_card(stored) else digest


def _but_its_card(folder: Path) -> dict[str, Any]:
    files, _ = manifests.read_manifest(folder)
    return {name: about for name, about in files.items() if name != "README.md"}


def _taken(log: Path, history: check.History) -> None:
    """Read what was promised and given to who takes models along."""
    asked: dict[str, check.AskedExport] = {}
    for line in client.read(log):
        match line["kind"]:
            case "accepted":
                export = line["export"]
                asked[export] = check.AskedExport(export, line["job"], is_last=line["last"])
            case "cancel":
                asked[line["export"]] = replace(asked[line["export"]], is_cancelled=True)
            case "over":
                asked[line["export"]] = replace(asked[line["export"]], end=line["status"])
            case "fetched":
                fetched = check.Fetched(line["export"], line["sha256"], line["is_whole"])
                history.fetched.append(fetched)
            case "deleted":
                history.deleted.add(line["job"])
    history.asked_exports = list(asked.values())


def _exports(
    connection: psycopg.Connection, history: check.History, api: client.Api, storage: Path
) -> None:
    kept = set()
    for (
        public,
        status,
        reason,
        key,
        size,
        sha256,
        form,
        quantization,
        adapter,
    ) in connection.execute(
        "SELECT e.public_id, e.status, e.reason, e.storage_key, e.size_bytes, e.sha256, "
        "e.form, e.quantization, a.storage_key "
        "FROM export e JOIN adapter a ON a.id = e.adapter_id ORDER BY e.id"
    ):
        served: bytes | None = None
        with suppress(client.Refused):
            served = api.patiently(f"/x_exports/{public}/content")
        file_sha256, is_right = None, False
        if key is not None:
            path = storage / key
            kept.add(path.name)
            if path.is_file() and path.stat().st_size == size:
                file_sha256 = manifests.file_sha256(path)
            is_right = _is_right(
                path, list(exporter.weights(storage / adapter, form, quantization))
            )
        history.exports.append(
            check.Export(
                public,
                status,
                reason,
                sha256,
                file_sha256,
                None if served is None else hashlib.sha256(served).hexdigest(),
                is_right,
            )
        )
    there = {path.name for path in (storage / "exports").glob("*")}
    history.export_leavings = sorted(name for name in there if name.startswith("."))
    history.export_orphans = len(there - kept) - len(history.export_leavings)


def _is_right(archive: Path, weights: list[bytes]) -> bool:
    """Say whether each file in a zip is as its manifest says, and its weights are these."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with zipfile.ZipFile(archive) as pack:
                pack.extractall(scratch)
            (folder,) = Path(scratch).iterdir()
            manifests.verify_manifest(folder)
        except (OSError, ValueError, zipfile.BadZipFile):
            return False
        files = {path.name: path for path in folder.iterdir()}
        return files.keys() == {"README.md", manifests.NAME, exporter.WEIGHTS} and files[
            exporter.WEIGHTS
        ].read_bytes() == b"".join(weights)


def _lines(log: Path, names: dict[int, str]) -> list[check.Line]:
    """Read a machine's log; a line that a kill cut off says nothing."""
    found = []
    for text in log.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["job"] in names:
            found.append(
                check.Line(
                    line["kind"],
                    names[line["job"]],
                    line["attempt"],
                    line["ns"],
                    line["step"],
                    line["pid"],
                )
            )
    return found
