"""Named places at which a test breaks the protocol; off unless ETUDE_FAILPOINTS is set.

    ETUDE_FAILPOINTS="claim.committed=kill; flush.committed=delay:2"    strikes each time
    ETUDE_FAILPOINTS=/a/folder    a file named claim.committed that holds "kill" strikes once, in
                                  whichever process comes by first, and is renamed to
                                  claim.committed.struck; "after:3 kill" lets three pass before

Actions: `kill` ends the process as a power cut would, `exception` raises Injected, `delay:SECONDS`
holds it up. Standard library only: the trainer has failpoints, too.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

VARIABLE = "ETUDE_FAILPOINTS"
# Every place there is. `.before_commit` and `.committed` lie on the two sides of one commit.
NAMES = (
    # the web
    "web.submit.before_commit",
    "web.submit.committed",
    "web.cancel.before_commit",
    "web.cancel.committed",
    "hint.sent",
    # a supervisor, from claim to end
    "claim.before_commit",
    "claim.committed",
    "takeover.before_commit",
    "takeover.committed",
    "prepare.examples_written",
    "prepare.before_commit",
    "prepare.committed",
    "trainer.started",
    "flush.before_commit",
    "flush.committed",
    "checkpoint.recorded",
    "stop.asked",
    "publish.files_placed",
    "publish.before_commit",
    "publish.committed",
    "fail.before_commit",
    "fail.committed",
    "cancel.before_commit",
    "cancel.committed",
    "requeue.before_commit",
    "requeue.committed",
    # a worker that evaluates
    "evaluate.claimed",
    "evaluate.models_open",
    "evaluate.asked",
    "evaluate.answered",
    "evaluate.keep.before_commit",
    "evaluate.keep.committed",
    "evaluate.finish.before_commit",
    "evaluate.finish.committed",
    # and one that has a larger model judge; its models open as those of an evaluation
    "judge.claimed",
    "judge.asked",
    "judge.answered",
    "judge.keep.before_commit",
    "judge.keep.committed",
    "judge.finish.before_commit",
    "judge.finish.committed",
    # a worker that makes an export
    "export.claimed",
    "export.made",
    "export.proved",
    "export.packed",
    "export.placed",
    "export.before_commit",
    "export.committed",
    # the trainer
    "spool.written",
    "checkpoint.written",
    "result.written",
    # the process that answers
    "answer.claim.before_commit",
    "answer.claim.committed",
    "answer.asked",
    "answer.model_open",
    "answer.adapter_added",
    "answer.begun",
    "answer.ended",
    # the sweep
    "take_back.before_commit",
    "take_back.committed",
    "reap.before_commit",
    "reap.committed",
)


class Injected(Exception):
    """What the action `exception` raises."""


class Commits(Protocol):
    """A session, without its library."""

    def commit(self) -> None: ...


def hit(name: str) -> None:
    """Come by a failpoint."""
    armed = os.environ.get(VARIABLE)
    if armed:
        _come_by(armed, name)


def commit(session: Commits, name: str) -> None:
    """Commit, with a failpoint on either side: `<name>.before_commit`, `<name>.committed`."""
    hit(f"{name}.before_commit")
    session.commit()
    hit(f"{name}.committed")


def arm(folder: Path, name: str, action: str) -> None:
    """Have a failpoint strike once, in processes whose ETUDE_FAILPOINTS is this folder."""
    assert name in NAMES, name
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.arming"
    partial.write_text(action)
    partial.rename(folder / name)


def has_struck(folder: Path, name: str) -> bool:
    return (folder / f"{name}.struck").exists()


def _come_by(armed: str, name: str) -> None:
    if armed.startswith("/"):
        _act(_taken(Path(armed), name), name)
        return
    for word in armed.split(";"):
        point, _, action = word.strip().partition("=")
        if point == name:
            _act(action, name)


def _taken(folder: Path, name: str) -> str:
    """Take what a file orders; empty where there is none, or another process was first."""
    mine = folder / f"{name}.{os.getpid()}"
    with suppress(FileNotFoundError):
        (folder / name).rename(mine)
        order = mine.read_text()
        wait, _, action = order.partition(" ")
        if wait.startswith("after:") and (left := int(wait.removeprefix("after:"))) > 0:
            mine.write_text(f"after:{left - 1} {action}")
            mine.rename(folder / name)
            return ""
        mine.rename(folder / f"{name}.struck")
        return action if wait.startswith("after:") else order
    return ""


def _act(action: str, name: str) -> None:
    word, _, seconds = action.strip().partition(":")
    match word:
        case "":
            return
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exception":
            raise Injected(name)
        case "delay":
            time.sleep(float(seconds))
        case _:
            raise ValueError(f"{VARIABLE}: {name} knows no action {action!r}")
