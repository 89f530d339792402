"""A site and three hosts that joined it, each a network namespace with a disk of its own.

The site's namespace has a cable to each host. A host has a boot id of its own, too: what one of
them knows of another is what real machines know.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4

from sqlalchemy import select

from app.core.models import Adapter, Job
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres
from tests import patience, shared_stores
from tests.faults.house import House
from tests.worker.conftest import ROOT, WorkerProcess

_number = count(1)
_DATABASE, _BROKER, _FILES = 5432, 6379, 9000
_AS_BOOTED = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Network:
    """The namespaces and the cables between them."""

    def __init__(self, num_hosts: int) -> None:
        self.tag = f"et{os.getpid()}x{next(_number)}"
        self.site = f"{self.tag}s"
        self.hosts = [f"{self.tag}h{number}" for number in range(1, num_hosts + 1)]

    def start(self) -> None:
        _ip("netns", "add", self.site)
        _ip("-n", self.site, "link", "set", "lo", "up")
        for number, host in enumerate(self.hosts, 1):
            _ip("netns", "add", host)
            _ip("-n", host, "link", "set", "lo", "up")
            cable = ("link", "add", f"cable{number}", "type", "veth")
            _ip("-n", self.site, *cable, "peer", "name", "eth0", "netns", host)
            _ip("-n", self.site, "addr", "add", f"10.73.{number}.1/24", "dev", f"cable{number}")
            _ip("-n", host, "addr", "add", f"10.73.{number}.2/24", "dev", "eth0")
            _ip("-n", self.site, "link", "set", f"cable{number}", "up")
            _ip("-n", host, "link", "set", "eth0", "up")

    def end(self) -> None:
        for name in (*self.hosts, self.site):
            kill_all(name)
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)

    def cut(self, number: int) -> None:
        _ip("-n", self.site, "link", "set", f"cable{number}", "down")

    def mend(self, number: int) -> None:
        _ip("-n", self.site, "link", "set", f"cable{number}", "up")


def kill_all(name: str) -> None:
    """End whatever runs in a namespace, at once."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    for pid in found.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def why_not() -> str:
    """Say what keeps this machine from having such hosts; empty: nothing does."""
    network = Network(1)
    try:
        network.start()
    except FileNotFoundError:
        return "this machine has no `ip` (iproute2) to make networks with"
    except subprocess.CalledProcessError as error:
        return f"this machine lets nobody make networks: {error.stderr.strip()}"
    finally:
        with suppress(FileNotFoundError):
            network.end()
    return ""


class Host:
    """One of the hosts, with a worker."""

    def __init__(self, site: "Site", number: int, environment: dict[str, str]) -> None:
        self.site, self.number = site, number
        self.name = f"host-{number}"
        self.namespace = site.network.hosts[number - 1]
        self.folder = site.folder / self.name
        self.folder.mkdir()
        self.data_dir = self.folder / "var"
        booted = self.folder / "boot_id"
        booted.write_text(f"{uuid4()}\n")
        own = {
            "ETUDE_DATA_DIR": str(self.data_dir),
            "ETUDE_WORKER_ID": f"gpu-0@{self.name}",
            "ETUDE_WORKER_HOST": self.name,
            "ETUDE_FENCE_ON_DB_LOSS": "yes",
            "DATABASE_URL": site.far_database(number),
            "REDIS_URL": site.far_broker(number),
            **site.far_storage(number),
        }
        own.update(environment)
        self.worker = WorkerProcess(
            "gpu",
            self.folder,
            environment=site.environment | own,
            command=("ip", "netns", "exec", self.namespace, "sh", "-c", _AS_BOOTED, str(booted)),
        )

    def start(self) -> None:
        self.data_dir.mkdir(exist_ok=True)
        self.worker.start()

    def cut(self) -> None:
        """Pull its cable: nothing arrives any more, and nobody is told so."""
        self.site.network.cut(self.number)

    def mend(self) -> None:
        self.site.network.mend(self.number)

    def lose(self) -> None:
        """Take its power away."""
        self.cut()
        kill_all(self.namespace)

    def log(self) -> str:
        return self.worker.log.read_text(errors="replace") if self.worker.log.exists() else ""


class Site(House):
    """A house whose workers are on other hosts."""

    def __init__(self, postgres: Postgres, folder: Path, network: Network, kind: str) -> None:
        super().__init__(postgres, folder)
        self.network, self.kind = network, kind
        self.hosts: list[Host] = []
        self._beside: list[subprocess.Popen[bytes]] = []

    def start(self, with_worker: bool = False) -> None:
        super().start(with_worker=False)
        inside = ["ip", "netns", "exec", self.network.site, sys.executable]
        relay = [*inside, "-m", "tests.faults.relay"]
        relay += [f"{_DATABASE}={self._socket_folder() / '.s.PGSQL.5432'}"]
        relay += [f"{_BROKER}={unquote(self.broker.url.rpartition('@')[2].partition('?')[0])}"]
        self._beside.append(subprocess.Popen(relay, cwd=ROOT))
        if self.kind == "bucket":
            command = [*inside, "-W", "ignore", "-c", shared_stores.SERVER]
            command += ["-H", "0.0.0.0", "-p", str(_FILES)]
            quiet = subprocess.DEVNULL
            self._beside.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))
            self._make_bucket(inside)
        else:
            (self.folder / "shared").mkdir()
        self.share_the_model()

    def end(self) -> None:
        for host in self.hosts:
            host.worker.end()
        for process in self._beside:
            process.kill()
            process.wait()
        super().end()

    def add_host(self, **environment: str) -> Host:
        host = Host(self, len(self.hosts) + 1, environment)
        self.hosts.append(host)
        host.start()
        return host

    def far_database(self, number: int) -> str:
        here = self.environment["DATABASE_URL"]
        hidden = f"?host={quote(str(self._socket_folder()), safe='')}"
        assert hidden in here
        return here.replace("@/", f"@10.73.{number}.1:{_DATABASE}/").replace(hidden, "")

    def far_broker(self, number: int) -> str:
        who = self.broker.url.partition("://")[2].rpartition("@")[0]
        return f"redis://{who}@10.73.{number}.1:{_BROKER}/0"

    def far_storage(self, number: int) -> dict[str, str]:
        if self.kind == "bucket":
            return shared_stores.bucket_settings(f"http://10.73.{number}.1:{_FILES}")
        return {"ETUDE_STORAGE": str(self.folder / "shared")}

    def on(self, job: Job) -> Host:
        """Wait until a job trains; says where."""
        name = self.wait_for(lambda: job.worker_id)
        return next(host for host in self.hosts if name.endswith(f"@{host.name}"))

    def check(self, job: Job) -> None:
        """As for one machine, once its files are on this one."""
        made = self.db.scalars(select(Adapter).where(Adapter.job_id == job.id)).all()
        for adapter in made:
            program = "import sys; from app.core import storage; storage.folder(*sys.argv[1:])"
            self.run(program, str(adapter.storage_key), str(adapter.manifest_sha256))
        super().check(job)

    def log(self) -> str:
        return "\n".join(f"--- {host.name}\n{host.log()[-20_000:]}" for host in self.hosts)

    def _socket_folder(self) -> Path:
        return folder.socket_folder(self.postgres.settings, "pg")

    def _make_bucket(self, inside: list[str]) -> None:
        program = "import sys; from tests import shared_stores as s; s.make_bucket(sys.argv[1])"
        deadline = time.monotonic() + patience.seconds(60)
        command = [*inside, "-c", program, f"http://127.0.0.1:{_FILES}"]
        while subprocess.run(command, cwd=ROOT, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, "moto did not start"
            time.sleep(0.2)

    def run(self, program: str, *words: str) -> None:
        """Run something of ours on the site's own host."""
        near = shared_stores.bucket_settings(f"http://127.0.0.1:{_FILES}")
        near = near if self.kind == "bucket" else self.far_storage(0)
        command = ["ip", "netns", "exec", self.network.site, sys.executable, "-c", program, *words]
        subprocess.run(command, cwd=ROOT, check=True, env=os.environ | self.environment | near)


@contextmanager
def opened(postgres: Postgres, place: Path, kind: str, num_hosts: int = 3) -> Iterator[Site]:
    """A site with cables to so many hosts, none of which is there yet."""
    network = Network(num_hosts)
    site = Site(postgres, place, network, kind)
    try:
        network.start()
        site.start()
        yield site
    finally:
        try:
            site.end()
        finally:
            network.end()
