"""What is done to the house: drawn from a seed, carried out, written down.

Disturbance number i of a seed is always the same draw, whatever happened before, so a run that was
stopped goes on with the one that would have come next. Which process it meets depends on who is
there at that moment; where nobody of that role is, the next draw of the same number counts.
"""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from app.core import processes
from app.ops.embedded.servers import redis_client
from bench.chaos.house import House
from worker import identity

# Shorter and longer than a heartbeat, a self-fence, a lease with its grace, and a stall.
_FREEZES = (0.5, 2.0, 4.5, 7.0, 10.0)
# Longer than a self-fence and than a lease; then everybody has to find his way back at once.
_OUTAGE = (4.0, 12.0)
# How often the next one comes before anybody has recovered, and how long others wait for that.
_HASTE, _RECOVERY_SECONDS = 0.35, 15.0


@dataclass(frozen=True)
class Deed:
    """One kind of disturbance and how often it is drawn."""

    weight: int
    what: str
    role: str
    seconds: tuple[float, ...] = _FREEZES  # of an outage, from and to


DEEDS = (
    Deed(18, "kill", "trainer"),
    Deed(16, "kill", "supervisor"),
    Deed(9, "kill", "gpu worker"),
    Deed(6, "kill", "web"),
    Deed(8, "kill", "evaluator"),
    Deed(5, "kill", "answerer"),
    Deed(3, "kill", "answer worker"),
    Deed(3, "kill", "cpu worker"),
    Deed(5, "kill", "cpu child"),
    Deed(6, "kill", "exporter"),
    Deed(5, "kill", "valkey"),
    Deed(4, "kill", "postgres"),
    Deed(6, "outage", "postgres", _OUTAGE),
    Deed(4, "kill", "backend"),
    Deed(3, "kill", "up"),
    Deed(1, "kill", "everything"),
    Deed(7, "freeze", "supervisor"),
    Deed(4, "freeze", "trainer"),
    Deed(4, "freeze", "whole worker"),
    Deed(3, "freeze", "evaluator"),
    Deed(3, "freeze", "answerer"),
    Deed(2, "freeze", "answer worker"),
    Deed(2, "freeze", "web"),
    Deed(1, "freeze", "cpu worker"),
    Deed(4, "freeze", "cpu child"),
    Deed(4, "freeze", "exporter"),
    Deed(3, "freeze", "valkey"),
    Deed(2, "freeze", "postgres"),
    Deed(3, "freeze", "backend"),
    Deed(1, "freeze", "up"),
    Deed(4, "restart", "gpu worker"),
    Deed(2, "restart", "web"),
    Deed(1, "restart", "cpu worker"),
    Deed(1, "restart", "up"),
    Deed(6, "cut", "one database connection"),
    Deed(4, "cut", "all database connections"),
    Deed(6, "cut", "broker connections"),
    Deed(1, "wipe", "valkey"),
)
# For the negative control: its trainer goes on. Let go once it is replaced, at the latest then.
FREEZE_A_HOLDER = Deed(1, "freeze", "holder", (150.0,))


class Disturber:
    """Carries disturbances out, and lets go again of whom it holds still."""

    def __init__(
        self, house: House, log: Path, seed: int, gap_seconds: float, deeds: tuple[Deed, ...]
    ) -> None:
        self.house = house
        self.log = log
        self.seed = seed
        self.gap_seconds = gap_seconds
        self.deeds = deeds
        self._held: dict[int, int | None] = {}  # process id -> when it began, of frozen ones

    def wait(self, index: int, stop: threading.Event) -> bool:
        """Wait until a disturbance is due; says whether to go on.

        Most find a house in which some job makes steps again; the others come amid its recovery.
        """
        draw = random.Random(f"{self.seed}/{index}/gap")
        gap = min(draw.expovariate(1 / self.gap_seconds), 4 * self.gap_seconds)
        if draw.random() > _HASTE:
            before, deadline = self._num_said(), time.monotonic() + _RECOVERY_SECONDS
            while self._num_said() == before and time.monotonic() < deadline:
                if stop.wait(0.1):
                    return False
        return not stop.wait(gap)

    def _num_said(self) -> int:
        return sum(log.stat().st_size for log in (self.house.run / "history").iterdir())

    def disturb(self, index: int) -> Deed:
        """Carry out one disturbance and write it down."""
        draw = random.Random(f"{self.seed}/{index}")
        weights = [deed.weight for deed in self.deeds]
        while True:
            deed = draw.choices(self.deeds, weights)[0]
            detail = self._carry_out(deed, draw)
            if detail is not None:
                break
            time.sleep(0.05)
        line = {
            "index": index,
            "ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            "what": deed.what,
            "role": deed.role,
            **detail,
        }
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return deed

    def rest(self, stop: threading.Event) -> None:
        """Wait until everybody who is held still has been so for as long as was drawn."""
        while self._held and not stop.wait(0.1):
            pass

    def rest_until_replaced(self, stop: threading.Event) -> None:
        """Hold a holder still until another attempt makes steps, however long its lease takes."""
        while self._held and not set(self._holders()) - self._held.keys() and not stop.wait(0.1):
            pass
        self.let_go()

    def let_go(self) -> None:
        """Wake everybody who is held still."""
        for pid in list(self._held):
            self._wake([pid])

    def _carry_out(self, deed: Deed, draw: random.Random) -> dict[str, object] | None:
        """Do it; nothing where nobody of that role is there."""
        match deed.what, deed.role:
            case "kill", "everything":
                pids = self.house.all_parts()
                _send(pids, signal.SIGKILL)
                return {"pids": len(pids)}
            case "cut", "one database connection" | "all database connections":
                return self._cut_database(deed.role.startswith("one"), draw)
            case "cut" | "wipe", _:
                return self._on_broker(deed.what)
            case "outage", _:
                return self._take_database_away(draw.uniform(*deed.seconds))
        role = "supervisor" if deed.role == "whole worker" else deed.role
        found = self._holders() if role == "holder" else sorted(self.house.find(role))
        if not found:
            return None
        pid = draw.choice(found)
        if deed.what == "freeze":
            seconds = draw.choice(deed.seconds)
            pids = [pid]
            if deed.role == "whole worker":  # as a machine that is suspended
                pids = [_parent(pid), pid, *identity.children(pid)]
            self._freeze(pids, seconds)
            return {"pid": pid, "seconds": seconds}
        sign = signal.SIGKILL if deed.what == "kill" else signal.SIGTERM
        return {"pid": pid} if _send([pid], sign) else None

    def _holders(self) -> list[int]:
        """Return the supervisors that hold a job whose trainer is at work."""
        with psycopg.connect(self.house.postgres.url, connect_timeout=2) as connection:
            rows = connection.execute(
                "SELECT supervisor_pid FROM attempt JOIN job ON job.id = job_id "
                "WHERE ended_at IS NULL AND step > resume_step ORDER BY 1"
            ).fetchall()
        return [row[0] for row in rows]

    def _take_database_away(self, seconds: float) -> dict[str, object] | None:
        """Kill it, and hold still for a while who would start it again."""
        up, server = self.house.find("up"), self.house.find("postgres")
        if not up or not server or up[0] in self._held:
            return None
        self._freeze(up, seconds)
        return {"pid": server[0], "seconds": seconds} if _send(server, signal.SIGKILL) else None

    def _freeze(self, pids: list[int], seconds: float) -> None:
        self._held |= {pid: processes.start_ticks(pid) for pid in pids}
        _send(pids, signal.SIGSTOP)
        timer = threading.Timer(seconds, self._wake, [pids])
        timer.daemon = True
        timer.start()

    def _wake(self, pids: list[int]) -> None:
        for pid in pids:
            # Another process may have its number by now.
            started = self._held.pop(pid, None)
            if started is not None and processes.start_ticks(pid) == started:
                _send([pid], signal.SIGCONT)

    def _cut_database(self, is_one: bool, draw: random.Random) -> dict[str, object] | None:
        try:
            with psycopg.connect(
                self.house.postgres.url, autocommit=True, connect_timeout=2
            ) as connection:
                rows = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                    "AND pid <> pg_backend_pid() ORDER BY pid"
                ).fetchall()
                pids = [row[0] for row in rows]
                for pid in [draw.choice(pids)] if is_one and pids else pids:
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        except psycopg.Error:
            return None
        return {"connections": 1 if is_one else len(pids)} if pids else None

    def _on_broker(self, what: str) -> dict[str, object] | None:
        try:
            with redis_client(self.house.valkey.url, timeout_seconds=2) as client:
                if what == "wipe":
                    client.flushall()
                    return {}
                return {"connections": client.client_kill_filter(_type="normal", skipme=True)}
        except (redis.RedisError, OSError):
            return None


def done(log: Path) -> Iterator[dict[str, object]]:
    """Read what has been carried out so far; the last line may have been cut off."""
    if log.exists():
        for line in log.read_text().splitlines():
            with suppress(ValueError):
                yield json.loads(line)


def _send(pids: list[int], sign: signal.Signals) -> bool:
    """Send a signal to each; says whether anybody was there."""
    reached = False
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sign)
            reached = True
    return reached


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])
