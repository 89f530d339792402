"""Connections that leave this machine: named where we want them, counted in every process.

An audit hook of the interpreter sees each connection and each name that is looked up, whatever
library makes it. Loopback and Unix sockets are not counted. The rest counts for the setting that
allows it, or as unexpected. libpq, in C, is not seen; it goes where DATABASE_URL says.
"""

import fcntl
import ipaddress
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from app.core import settings

Purpose = Literal[
    "hub", "mail", "webhooks", "mlflow", "inference", "answering", "database", "broker", "storage"
]

# What libraries know as a wish for quiet; those that are not installed may come as dependencies.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "USE_HUB_KERNELS": "NO",
    "WANDB_MODE": "disabled",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "VLLM_NO_USAGE_STATS": "1",
    "OTEL_SDK_DISABLED": "true",
}
_LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_SENDS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_BOARD_BYTES = 64 * 1024
# So many unexpected targets are told apart; the others count together.
_MAX_TARGETS = 50
_OTHERS = "other targets"

_purpose: ContextVar[Purpose | None] = ContextVar("purpose", default=None)


@dataclass
class Counts:
    """What a process and those that it forked have tried since it began to watch."""

    allowed: dict[str, int] = field(default_factory=dict)  # by purpose
    unexpected: dict[str, int] = field(default_factory=dict)  # by target: "host:port" or a name

    def add(self, other: "Counts") -> None:
        for purpose, number in other.allowed.items():
            self.allowed[purpose] = self.allowed.get(purpose, 0) + number
        for target, number in other.unexpected.items():
            has_room = target in self.unexpected or len(self.unexpected) < _MAX_TARGETS
            key = target if has_room else _OTHERS
            self.unexpected[key] = self.unexpected.get(key, 0) + number


class _Watch:
    """The hook, and the board that a process shares with what it forks."""

    def __init__(self, default: Purpose | None) -> None:
        self.default = default
        self.since = datetime.now(UTC)
        self.names: dict[str, Purpose] = {}
        # Not a file with a name: it goes with the last process that has it open.
        self.board = os.memfd_create("outbound")
        self.lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.lock = threading.Lock()  # a thread that is not here may have held it

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _SENDS:
            # What is wrong here must not keep anybody from connecting.
            with suppress(Exception):
                self._connects(args[0], args[1])
        elif event in _LOOKUPS:
            with suppress(Exception):
                self._looks_up(args[0])

    def _connects(self, sock: socket.socket, address: Any) -> None:
        if sock.family not in _INTERNET or not isinstance(address, tuple):
            return
        host, port = str(address[0]), int(address[1])
        if _is_here(host):
            return
        purpose = _purpose.get() or self.default
        if purpose is not None:
            self.count(Counts(allowed={purpose: 1}))
        else:
            self.count(Counts(unexpected={f"{host}:{port}": 1}))

    def _looks_up(self, name: Any) -> None:
        if isinstance(name, bytes):
            name = name.decode(errors="replace")
        if not name or _is_number(name) or _is_here(name):
            return
        # Nothing is counted for a name that is allowed: the connection will be.
        if (_purpose.get() or self.default or self.names.get(name)) is None:
            self.count(Counts(unexpected={name: 1}))

    def count(self, more: Counts) -> None:
        with self.lock:
            fcntl.lockf(self.board, fcntl.LOCK_EX)
            try:
                counts = self.read()
                counts.add(more)
                written = json.dumps([counts.allowed, counts.unexpected]).encode()
                os.ftruncate(self.board, 0)
                os.pwrite(self.board, written, 0)
            finally:
                fcntl.lockf(self.board, fcntl.LOCK_UN)

    def read(self) -> Counts:
        """Read the board; the caller holds its lock, or lives with what is half written."""
        written = os.pread(self.board, _BOARD_BYTES, 0)
        return Counts(*json.loads(written)) if written else Counts()


_watch: _Watch | None = None


def watch(default: Purpose | None = None) -> None:
    """Count from now on in this process and in what it forks; a second call changes nothing.

    Args:
        default: What a connection is for that nobody has named.
    """
    global _watch  # noqa: PLW0603 - a hook of the interpreter cannot be taken back
    if _watch is None:
        _watch = _Watch(default)
        for host, _, purpose in _servers():
            _watch.names[host] = purpose
        sys.addaudithook(_watch)


def watched_since() -> datetime | None:
    """Return when this process, or the one that forked it, began to watch; none: it does not."""
    return _watch.since if _watch is not None else None


@contextmanager
def towards(purpose: Purpose, host: str) -> Iterator[None]:
    """Name what the connections of this block are for."""
    if _watch is not None:
        # A name is looked up in a thread of the event loop's, which does not know our context.
        _watch.names[host] = purpose
    token = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(token)


def read() -> Counts:
    """Return what was tried so far; servers that settings name are told from the unexpected."""
    if _watch is None:
        return Counts()
    with _watch.lock:
        fcntl.lockf(_watch.board, fcntl.LOCK_EX)
        try:
            found = _watch.read()
        finally:
            fcntl.lockf(_watch.board, fcntl.LOCK_UN)
    if not found.unexpected:
        return found
    known = _addresses()
    sorted_out = Counts(allowed=found.allowed)
    for target, number in found.unexpected.items():
        purpose = known.get(target)
        if purpose is not None:
            sorted_out.add(Counts(allowed={purpose: number}))
        else:
            sorted_out.add(Counts(unexpected={target: number}))
    return sorted_out


def add(counts: Counts) -> None:
    """Count what a child of ours says it has tried."""
    if _watch is not None:
        _watch.count(counts)


def _servers() -> list[tuple[str, int, Purpose]]:
    """Return the servers that settings name: host, port and what each is for."""
    chosen = settings.get()
    mail = f"smtp://{chosen.smtp_host}:{chosen.smtp_port}" if chosen.smtp_host else ""
    urls: tuple[tuple[str, int, Purpose], ...] = (
        (chosen.redis_url, 6379, "broker"),
        (chosen.database_url, 5432, "database"),
        (chosen.inference_url, 80, "inference"),
        (mail, 25, "mail"),
        (chosen.mlflow_url, 80, "mlflow"),
        (chosen.s3_endpoint, 80, "storage"),
    )
    named = []
    for url, port, purpose in urls:
        with suppress(ValueError):  # what is wrong with an address, whoever uses it says
            parts = urlsplit(url)
            usual = 443 if parts.scheme == "https" else port
            if parts.hostname:
                named.append((parts.hostname, parts.port or usual, purpose))
    return named


def _addresses() -> dict[str, Purpose]:
    found: dict[str, Purpose] = {}
    for host, port, purpose in _servers():
        with towards(purpose, host), suppress(OSError):
            for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found[f"{info[4][0]}:{port}"] = purpose
    return found


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        own = socket.gethostname().lower()
        name = host.lower()
        return name in ("localhost", own) or name.startswith(own + ".")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
