"""`etude doctor`: what can be wrong, each with what to do about it.

machine.py  this machine: versions, disk, memory, GPU, permissions, port, leftovers
service.py  database, its migrations and its clock, and the broker
work.py     what Etude holds: models, adapters, files; workers, the queue, what waits to be sent
"""

import json
from collections.abc import Callable, Iterable, Iterator

from app.core import settings
from app.ops.doctor import machine, service, work
from app.ops.doctor.finding import SystemFinding

__all__ = ["SystemFinding", "examine", "run", "tell"]

_WORDS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def run(
    chosen: settings.Settings,
    *,
    as_json: bool = False,
    deep: bool = False,
    say: Callable[[str], object] = print,
) -> int:
    """Say what was found; returns 0 where nothing is wrong, else 1."""
    return tell(examine(chosen, deep=deep), as_json=as_json, say=say)


def tell(
    found: Iterable[SystemFinding],
    *,
    as_json: bool = False,
    say: Callable[[str], object] = print,
) -> int:
    """Print findings as they come; returns 0 where nothing is wrong, else 1."""
    findings = []
    for finding in found:
        findings.append(finding)
        if not as_json:
            say(f"  {_WORDS[finding.state]} {finding.sentence}")
            if finding.advice:
                say(f"        {finding.advice}")
    is_well = all(finding.state != "wrong" for finding in findings)
    if as_json:
        body = {"ok": is_well, "findings": [finding._asdict() for finding in findings]}
        say(json.dumps(body, indent=2, ensure_ascii=False))
    return 0 if is_well else 1


def examine(chosen: settings.Settings, *, deep: bool = False) -> Iterator[SystemFinding]:
    """Check everything; one check that fails hides no other.

    Args:
        deep: Read every byte of models and adapters, and the whole audit log.
    """
    yield from machine.checks(chosen)
    with service.reached(chosen) as reached:
        yield from service.checks(chosen, reached)
        if reached.is_usable:
            yield from work.checks(chosen, reached, deep=deep)
