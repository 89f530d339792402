"""Processes of ours without the seconds in which Python begins.

`warm.Popen` is `subprocess.Popen` for `python -m MODULE …`. A server that has imported what our
commands, the web and the workers import forks for each; what then runs is that module as Python
runs it, in a process of its own, with its own environment, folder and files. On a slow machine a
web begins in a second instead of seven, and a suite begins hundreds. What Python itself would read
of an environment (PYTHONPATH and its kin, LD_PRELOAD), another Python and any other command begin
as always.

    python -m tests.warm SOCKET    the server; it ends with whoever started it
"""

import atexit
import gc
import importlib
import io
import json
import mmap
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.core import settings
from worker import identity

ROOT = Path(__file__).resolve().parents[1]
# What begins below imports these; none of them may read a setting or begin a thread.
_IMPORTED = (
    *("app.main", "app.web.server", "app.ops.up", "app.ops.doors.processes"),
    *("app.ops.doors.asking", "app.ops.doors.data", "app.ops.doors.jobs", "app.ops.doors.keeping"),
    *("app.ops.doors.machines", "app.ops.doors.models", "app.ops.doors.people"),
    *("app.ops.doors.taking", "app.ops.doctor.machine", "app.ops.doctor.service"),
    *("app.ops.doctor.work", "uvicorn.main", "celery.bin.celery", "celery.bin.worker"),
    *("celery.apps.worker", "celery.concurrency.prefork", "kombu.transport.redis"),
    *("worker.sweep", "worker.bell", "worker.gpu.supervisor", "worker.cpu.outbox"),
    *("worker.answering.desk", "worker.answering.pool"),
)
# Of what Python reads of an environment we follow these alone.
_FOLLOWED = {"PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
_STATUS = struct.Struct("i")
_MAX_BYTES = 1024**2


class Popen(subprocess.Popen[Any]):
    """A process that was forked where a whole Python would have begun.

    It is no child of ours, so its end is told by the server, who waits for it.
    """

    _told: socket.socket | None = None

    def _execute_child(self, args: Any, *rest: Any) -> None:
        names = self._execute_child_names()
        asked = dict(zip(names, rest, strict=True))
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        if not _is_ours(args, environment, asked):
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = {
            "words": [str(word) for word in args[2:]],
            "environment": environment,
            "folder": os.path.abspath(asked["cwd"] or os.curdir),
            "is_leader": asked["start_new_session"],
        }
        ends = [
            0 if asked["p2cread"] == -1 else asked["p2cread"],
            1 if asked["c2pwrite"] == -1 else asked["c2pwrite"],
            2 if asked["errwrite"] == -1 else asked["errwrite"],
        ]
        with theirs:
            socket.send_fds(
                _server(os.getpid()), [json.dumps(order).encode()], [theirs.fileno(), *ends]
            )
        self._told = mine
        (self.pid,) = _STATUS.unpack(mine.recv(_STATUS.size))
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[each] for each in pipes))  # type: ignore[attr-defined]

    @staticmethod
    def _execute_child_names() -> tuple[str, ...]:
        code = subprocess.Popen._execute_child.__code__  # type: ignore[attr-defined]
        names: tuple[str, ...] = code.co_varnames[2 : code.co_argcount]
        return names

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._told is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]
        try:
            said = self._told.recv(_STATUS.size, socket.MSG_DONTWAIT if wait_flags else 0)
        except BlockingIOError:
            return 0, 0
        assert said, "the server of warm processes is gone"
        return self.pid, _STATUS.unpack(said)[0]

    def _internal_poll(self, *rest: Any, **more: Any) -> int | None:
        if self._told is None:
            return super()._internal_poll(*rest, **more)  # type: ignore[misc, no-any-return]
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode

    def __del__(self, *rest: Any, **more: Any) -> None:
        super().__del__(*rest, **more)
        if self._told is not None:
            self._told.close()


def run(
    command: list[str], *, input: str | None = None, timeout: float, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it printed, as `subprocess.run` does.

    Raises:
        TimeoutExpired: it took longer, and was killed.
    """
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    with Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    ) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _is_ours(args: Any, environment: dict[str, str], asked: dict[str, Any]) -> bool:
    read_by_python = {name for name in environment if name.startswith(("PYTHON", "LD_"))}
    if environment.get("PYTHONPATH") == str(ROOT):
        read_by_python -= {"PYTHONPATH"}
    return (
        list(args[:2]) == [sys.executable, "-m"]
        and read_by_python <= _FOLLOWED
        and asked["preexec_fn"] is None
        and not asked["pass_fds"]
        and not asked["shell"]
    )


@lru_cache
def _server(_owner: int) -> socket.socket:
    """Return the way to this process's own server; it ends when we do."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ETUDE_", "PYTHON"))}
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
            cwd=ROOT,
            env=kept,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    atexit.register(server.wait)
    atexit.register(mine.close)  # before that
    return mine


# --- the server ------------------------------------------------------------------------------


@dataclass
class _Order:
    """What a forked process is to become."""

    words: list[str]
    environment: dict[str, str]
    folder: str
    is_leader: bool


def _serve(control: socket.socket) -> _Order | None:
    """Fork for whoever asks; returns in each new process what it is to become.

    Returns:
        None in the server itself, when nobody asks any more.
    """
    told: dict[int, socket.socket] = {}
    woken, waking = socket.socketpair()
    woken.setblocking(False)
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ours = [control, woken, waking]
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                woken.recv(4096)
                _tell_ends(told)
            if control not in ready:
                continue
            sent, ends, _, _ = socket.recv_fds(control, _MAX_BYTES, 4)
            if not sent:
                return None
            order = _Order(**json.loads(sent))
            teller = socket.socket(fileno=ends[0])
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                selector.close()
                for each in (*ours, teller, *told.values()):
                    each.close()
                _become(order, ends[1:])
                return order
            for end in ends[1:]:
                os.close(end)
            told[pid] = teller
            teller.send(_STATUS.pack(pid))


def _tell_ends(told: dict[int, socket.socket]) -> None:
    for pid in list(told):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with told.pop(pid) as teller, suppress(OSError):  # nobody waits for it
                teller.send(_STATUS.pack(status))


def _become(order: _Order, ends: list[int]) -> None:
    """Take on what a new process would have been given."""
    for number, end in enumerate(ends):
        os.dup2(end, number)
        os.close(end)
    is_unbuffered = bool(order.environment.get("PYTHONUNBUFFERED"))
    errors = "strict" if {"LANG", "LC_ALL"} & order.environment.keys() else "surrogateescape"
    sys.stdin = _stream(0, "r", errors)
    sys.stdout = _stream(1, "w", errors, write_through=is_unbuffered)
    sys.stderr = _stream(2, "w", "backslashreplace", line_buffering=True)
    if order.is_leader:
        os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    # Memory that a worker shares with what it forks: no two of them share it.
    identity._ending = mmap.mmap(-1, 1)
    sys.path[0] = order.folder
    for action in filter(None, order.environment.get("PYTHONWARNINGS", "").split(",")):
        sys.warnoptions.append(action)
        warnings.simplefilter(action)  # type: ignore[arg-type]
    sys.dont_write_bytecode = bool(order.environment.get("PYTHONDONTWRITEBYTECODE"))


def _stream(number: int, mode: str, errors: str, **more: Any) -> io.TextIOWrapper:
    raw = open(number, f"{mode}b", closefd=False)  # noqa: SIM115 - as long as the process
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, **more)


def main() -> None:
    """Serve, or be what was asked for."""
    for name in _IMPORTED:
        importlib.import_module(name)
    assert not settings.get.cache_info().currsize, "a module reads settings when it is imported"
    assert threading.active_count() == 1, "a module begins a thread when it is imported"
    gc.collect()
    gc.freeze()
    order = _serve(socket.socket(fileno=int(sys.argv[1])))
    if order is not None:
        sys.argv[:] = order.words
        runpy.run_module(order.words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
