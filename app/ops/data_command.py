"""`etude data`: what the pages do with a file, from a terminal.

`read` reads a file in the same sandboxed process as the worker does, twice: for its columns, then
for its examples. Those it has looked through for personal details, and by the dataset doctor in a
process of its own. Nothing is stored; `add` stores afterwards, and a worker does the checks.
"""

import base64
import json
import math
import os
import tempfile
import zipfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.core import settings, storage
from app.core.child import BrokeOff
from app.core.errors import Invalid
from app.core.models import DatasetVersion, Severity, User
from app.core.sentences import counted
from app.datasets import examples, notes, versions
from app.datasets.doctor import kinds
from app.datasets.doctor import process as doctor
from app.datasets.doctor.kinds import KINDS
from app.datasets.doctor.request import DoctorRequest
from app.datasets.mapping import Column, ColumnRole, Mapping
from app.datasets.notes import Note
from app.datasets.privacy.check import NUM_NAMED_ROWS, PrivacyCheck
from app.datasets.readers import reader
from app.datasets.readers.documents import approximate_tokens
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.process import ReaderProcess, seconds_for
from app.datasets.readers.unreadable import Unreadable
from app.datasets.turns import Message
from app.training.config import PRESETS

NUM_SHOWN = 3
_ROWS = {
    "pairs": ("1 pair", "{n} pairs"),
    "text": ("1 piece of text", "{n} pieces of text"),
    None: ("1 row", "{n} rows"),
}
_SHOWN_CHARACTERS = 300
_CHUNK_BYTES = 1024**2


class ReportFinding(BaseModel):
    """Something about the examples that a person should know; `rows` are the first few."""

    severity: str  # "bad", "warn" or "note"
    what: str
    why: str = ""
    count: int
    rows: list[int] = []


class Report(BaseModel):
    """What `etude data inspect` prints, as text or as JSON."""

    file: str
    inspection: Inspection
    mapping: Mapping
    # Why the mapping cannot be used as it is, if so.
    problem: str = ""
    num_examples: int = 0
    left_out: dict[str, int] = {}
    # Estimated, since no model is chosen: the example in the middle, and the longest.
    median_tokens: int = 0
    max_tokens: int = 0
    examples: list[list[Message]] = []
    findings: list[ReportFinding] = []


@contextmanager
def as_file(path: Path) -> Iterator[Path]:
    """Give a file as it is, and a folder of files as one ZIP that goes away afterwards."""
    if not path.exists():
        raise Invalid(f"There is no file or folder {path}.")
    if not path.is_dir():
        yield path
        return
    files = sorted(each for each in path.rglob("*") if each.is_file() and not each.is_symlink())
    if not files:
        raise Invalid(f"The folder {path} holds no files.")
    with tempfile.TemporaryDirectory(prefix="etude-data-") as folder:
        packed = Path(folder) / f"{path.resolve().name}.zip"
        with zipfile.ZipFile(packed, "w", strict_timestamps=False) as archive:
            for each in files:
                archive.write(each, str(each.relative_to(path)))
        yield packed


def read(
    path: Path, read_as: ReadAs, roles: list[str], system: str = "", *, with_checks: bool
) -> Report:
    """Read a file with the limits of the worker.

    Args:
        roles: COLUMN=ROLE each; none: the mapping is proposed.
        with_checks: Also look through the examples, as a worker does after they are made.

    Raises:
        Invalid: it cannot be read, or the roles cannot be used.
    """
    try:
        (answer,) = (m for m in _say("inspect", path, read_as) if isinstance(m, dict))
        inspection = Inspection.model_validate(answer["inspection"])
        proposed = Mapping.model_validate(answer["mapping"])
        mapping = _mapping(inspection, roles) if roles else proposed
        read_as.explain(mapping)
        mapping.system = system
        report = Report(file=path.name, inspection=inspection, mapping=mapping)
        try:
            mapping.check(inspection.columns)
        except Invalid as error:
            report.problem = error.message
            return report
        _build(path, inspection.read_as(read_as), report, with_checks=with_checks)
    except Unreadable as error:
        raise Invalid(str(error)) from None
    return report


def _mapping(inspection: Inspection, roles: list[str]) -> Mapping:
    chosen: dict[str, ColumnRole] = {}
    for pair in roles:
        name, _, role = pair.rpartition("=")
        if not name or role not in list(ColumnRole):
            raise Invalid(
                f"“{pair}” is not a mapping; write COLUMN=ROLE, where ROLE is one of "
                f"{', '.join(ColumnRole)}."
            )
        chosen[name] = ColumnRole(role)
    unknown = [name for name in chosen if name not in inspection.columns]
    if unknown:
        raise Invalid(
            f"The file has no column “{unknown[0]}”; it has "
            f"{', '.join(f'“{name}”' for name in inspection.columns[:20])}."
        )
    names = inspection.columns
    return Mapping(
        columns=[Column(name=name, role=chosen.get(name, ColumnRole.IGNORE)) for name in names],
        **inspection.reading,
    )


def _build(path: Path, read_as: ReadAs, report: Report, *, with_checks: bool) -> None:
    left_out, lengths, rows = examples.LeftOutRows(), array("L"), array("L")
    personal = PrivacyCheck() if with_checks else None
    # Without a name: it goes with this process, however that ends.
    with tempfile.TemporaryFile("w+b") as file:
        for message in _say("build", path, read_as, report.mapping):
            if isinstance(message, dict):
                if "left_out" in message:
                    left_out.add(*message["left_out"])
                report.inspection.notes += map(Note.model_validate, message.get("notes", ()))
                continue
            _, row, body, tools = message.rstrip(b"\n").split(b"\t")
            messages: list[Message] = json.loads(body)
            lengths.append(sum(approximate_tokens(turn["content"]) for turn in messages))
            rows.append(int(row))
            if len(report.examples) < NUM_SHOWN:
                report.examples.append(messages)
            if personal is not None:
                personal.see(int(row), messages)
                file.write(examples.as_copied(len(rows) - 1, body, tools))
        report.num_examples, report.left_out = len(lengths), left_out.counts
        report.inspection.left_out_rows = left_out.first_rows
        report.inspection.left_out_words = left_out.words
        if lengths:
            ordered = sorted(lengths)
            report.median_tokens, report.max_tokens = ordered[len(ordered) // 2], ordered[-1]
        report.findings += _left_out(left_out)
        report.findings += [
            ReportFinding(
                severity="note", what=f"{notes.sentence(note)}.", count=note.count, rows=note.rows
            )
            for note in report.inspection.notes
        ]
        if personal is not None and rows:
            report.findings += [
                ReportFinding(severity="warn", what=what, count=count, rows=first)
                for what, count, first in personal.said()
            ]
            file.flush()
            file.seek(0)
            report.findings += _examined(file, rows)


def _left_out(left_out: examples.LeftOutRows) -> list[ReportFinding]:
    return [
        ReportFinding(
            severity="note",
            what=f"Left out: {examples.rows_that(reason, count, left_out.words.get(reason))}.",
            count=count,
            rows=left_out.first_rows.get(reason, []),
        )
        for reason, count in sorted(left_out.counts.items(), key=lambda item: -item[1])
    ]


def _examined(file: IO[bytes], rows: "array[int]") -> list[ReportFinding]:
    """Have the doctor look at the examples in a file, which were made of these rows.

    Raises:
        Invalid: it did not come to an end.
    """
    values = settings.get()
    request = DoctorRequest(
        file=file.fileno(),
        num_examples=len(rows),
        parent=os.getpid(),
        limit_tokens=PRESETS["balanced"].config.max_length_tokens,
        writes_bits=False,
        memory_bytes=values.reader_memory_bytes,
        cpu_seconds=math.ceil(values.reader_timeout_seconds),
    )
    findings: list[ReportFinding] = []
    try:
        with doctor.start(request) as child:
            said = map(json.loads, child.lines())
            findings = [
                _report_finding(line["finding"], rows) for line in said if "finding" in line
            ]
    except BrokeOff as error:
        raise Invalid(f"Checking the examples broke off (code {error.code}).") from None
    severities = list(Severity)
    return sorted(findings, key=lambda one: severities.index(Severity(one.severity)))


def _report_finding(said: dict[str, Any], rows: "array[int]") -> ReportFinding:
    indices = array("i")
    indices.frombytes(base64.b64decode(said["rows"]))
    kind, count = KINDS[said["kind"]], len(indices)
    return ReportFinding(
        severity=kind.severity(count / len(rows)) if count else Severity.WARN,
        what=kind.title(count),
        why=kinds.reason(said["kind"], said["detail"]),
        count=count,
        rows=[rows[index] for index in indices[:NUM_NAMED_ROWS]],
    )


def _say(
    task: Any, path: Path, read_as: ReadAs, mapping: Mapping | None = None
) -> Iterator[dict[str, Any] | bytes]:
    values = settings.get()
    request = reader.ReaderRequest(
        task=task,
        path=path.resolve(),
        parent=os.getpid(),
        read_as=read_as,
        mapping=mapping,
        memory_bytes=values.reader_memory_bytes,
        cpu_seconds=math.ceil(seconds_for(task, path)),
    )
    with ReaderProcess(request) as process:
        yield from process.messages()


def as_text(report: Report) -> str:
    """Write a report for a terminal."""
    inspection = report.inspection
    rows = counted(inspection.num_rows, *_ROWS[inspection.way])
    lines = [f"{_line(report.file)}: {inspection.format}, {rows}"]
    lines[0] += f", {inspection.encoding}" if inspection.encoding else ""
    if inspection.sheet:
        lines[0] += (
            f", {len(inspection.parts)} sheets"
            if inspection.parts
            else f", sheet {_line(inspection.sheet)}"
        )
    elif inspection.parts:
        lines[0] += f", {len(inspection.parts)} files"
    lines += [f"! {_line(warning)}" for warning in inspection.warnings]
    lines += ["", "Columns"]
    width = max(len(_line(column.name)) for column in report.mapping.columns)
    lines += [
        f"  {_line(column.name):{width}}  {column.role.value}" for column in report.mapping.columns
    ]
    lines.append(f"  {_line(inspection.why)}")
    if report.problem:
        return "\n".join([*lines, "", report.problem])
    lines += ["", f"Examples: {report.num_examples:,}"]
    if report.num_examples:
        lines[-1] += (
            f"; usually about {report.median_tokens:,} tokens, at most {report.max_tokens:,} "
            "(estimated)"
        )
    for finding in report.findings:
        where = notes.where(inspection.place, finding.rows, len(finding.rows))
        why = f" {_line(finding.why)}" if finding.why else ""
        lines.append(f"  {finding.what.removesuffix('.')}{where}.{why}")
    for messages in report.examples[:1]:
        lines += ["", "The first"]
        lines += [f"  {turn['role']}: {_line(turn['content'])}" for turn in messages]
    return "\n".join(lines)


def _line(text: str) -> str:
    """Keep a cell from steering the terminal: one line, nothing that cannot be printed."""
    printable = "".join(c if c.isprintable() else " " for c in text[: _SHOWN_CHARACTERS + 1])
    return printable[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else "")


def add(
    db: Session,
    user: User,
    path: Path,
    name: str,
    read_as: ReadAs,
    report: Report,
    *,
    is_settled: bool,
    validation_share: float,
    seed: int,
) -> DatasetVersion:
    """Keep a file that was read, as the page does; a worker makes the examples.

    Args:
        is_settled: The mapping was chosen, or is plain; else a person confirms it on the page.
    """
    with path.open("rb") as file:
        stored = storage.put("uploads", iter(lambda: file.read(_CHUNK_BYTES), b""))
    try:
        version = versions.add(db, user, stored, path.name, name)
        versions.take_inspection(db, version, read_as, report.inspection, report.mapping)
        if is_settled:
            versions.confirm(db, user, version, report.mapping, validation_share, seed=seed)
        db.commit()
    except BaseException:
        storage.delete(stored.key)
        raise
    return version
