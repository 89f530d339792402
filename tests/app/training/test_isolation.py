"""Walls around children: a hostile one behind each kind's own walls, and machines without walls.

Each kind's `confine` is called as its entry point calls it; then the process tries what one that
was taken over would try.
"""

import errno
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.training import isolation
from app.training.config import TrainConfig, TrainerSpec
from app.training.isolation import seccomp
from tests import patience

NOBODY = 65534
ROOT = Path(__file__).parents[3]

LEAVE = """
import ctypes, encodings.idna, os, socket, sys
from app.training import isolation
if os.geteuid() != int(sys.argv[1]):
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
    ctypes.CDLL(None).prctl(4, 1)  # "dumpable", as one that began as this user is
if not isolation.can_leave_network():
    sys.exit(77)
assert isolation.leave_network()
assert (os.geteuid(), os.getegid()) == (int(sys.argv[1]),) * 2
names = [name for _, name in socket.if_nameindex()]
assert names == ["lo"], names
with socket.create_server(("127.0.0.1", 0)) as here:
    socket.create_connection(here.getsockname(), timeout=5).close()
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    assert error.errno == 101, error  # network is unreachable
else:
    raise AssertionError("there is a way out")
"""

# Each line: what is tried, and whether it went. What a wall ends must not end the others.
HOSTILE = """
import ctypes, errno, json, mmap, os, resource, socket, sys, threading
site = json.loads(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
tried = {}

def attempt(name, deed):
    try:
        went = deed()
    except OSError as error:
        tried[name] = errno.errorcode.get(error.errno, str(error))
    except (MemoryError, RuntimeError) as error:
        tried[name] = type(error).__name__
    else:
        tried[name] = "" if went is None or went else "no"

def call(number, *arguments):
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if libc.syscall(ctypes.c_long(number), *wide) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True

def connect(family, address):
    with socket.socket(family) as there:
        there.settimeout(3)
        there.connect(address)

def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

def thread():
    began = threading.Thread(target=lambda: None)
    began.start()
    began.join()

def numbers(name):
    from app.training.isolation import seccomp
    return seccomp._NEVER[name][0 if os.uname().machine == "x86_64" else 1]

read = lambda path: open(path, "rb").read(1)
append = lambda path: open(path, "ab").close()
attempt("parent's environment", lambda: read(f"/proc/{os.getppid()}/environ"))
attempt("parent's memory", lambda: read(f"/proc/{os.getppid()}/mem"))
attempt("init's environment", lambda: read("/proc/1/environ"))
attempt("secret", lambda: read(site["secret"]))
attempt("secret by link", lambda: read(site["link"]))
attempt("secret by descriptor's name", lambda: read(f"/proc/self/cwd/{site['secret']}"))
attempt("other file", lambda: read(site["other"]))
attempt("passwords", lambda: read("/etc/shadow"))
attempt("write beside", lambda: append(site["other"]))
attempt("write cache", lambda: append(site["cached"]))
attempt("remove", lambda: os.unlink(site["other"]))
attempt("unix socket", lambda: connect(socket.AF_UNIX, site["socket"]))
attempt("tcp", lambda: connect(socket.AF_INET, ("127.0.0.1", site["port"])))
attempt("tcp 6", lambda: connect(socket.AF_INET6, ("::1", site["port"])))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16))
attempt("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("pair", socket.socketpair)
attempt("execute", lambda: os.posix_spawn("/bin/true", ["true"], {}) if site["forks"]
        else os.execv("/bin/true", ["true"]))
attempt("fork", fork)
attempt("kill", lambda: os.kill(os.getppid(), 0))
attempt("parent's limits", lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0)))
attempt("ptrace", lambda: call(numbers("ptrace"), 16, os.getppid(), 0, 0))
attempt("read memory", lambda: call(numbers("process_vm_readv"), os.getppid(), 0, 0, 0, 0, 0))
attempt("unshare", lambda: call(numbers("unshare"), 0x10000000))
attempt("setns", lambda: call(numbers("setns"), 0, 0x40000000))
attempt("mount", lambda: call(numbers("mount"), b"none", b"/mnt", b"tmpfs", 0, 0))
attempt("io_uring", lambda: call(numbers("io_uring_setup"), 4, ctypes.create_string_buffer(120)))
attempt("bpf", lambda: call(numbers("bpf"), 0, ctypes.create_string_buffer(120), 120))
attempt("keys", lambda: call(numbers("add_key"), b"user", b"k", b"v", 1, -4))
attempt("shared memory", lambda: call(numbers("shmget"), 0, 4096, 0o1600))
attempt("perf", lambda: call(numbers("perf_event_open"), ctypes.create_string_buffer(120), 0, -1))
attempt("open files", lambda: [os.open("/dev/null", 0) for _ in range(5000)])
import gc
for handle in range(3, 5000):
    try:
        os.close(handle)
    except OSError:
        pass
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
own = open(f"/proc/self/task/{threading.get_native_id()}/comm").read()
attempt("thread", thread)
attempt("own file", lambda: read(site["mine"]))
attempt("own folder", lambda: append(site["writable"]) if site["writable"] else None)
print(json.dumps({
    "tried": tried, "users": [*os.getresuid()], "groups": [*os.getresgid(), *os.getgroups()],
    "caps": {k: int(status[k], 16) for k in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")},
    "no_new_privs": status["NoNewPrivs"].strip(),
    "limits": {name: resource.getrlimit(getattr(resource, name))[1] for name in
               ("RLIMIT_CORE", "RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_NOFILE",
                "RLIMIT_FSIZE")},
}))
"""

# How each entry point confines itself; `site` has the paths.
KINDS = {
    "reader": """
from app.datasets.readers.reader import ReaderRequest, confine
confine(ReaderRequest(task="inspect", path=site["mine"], parent=os.getppid(),
                      memory_bytes=4 << 30, cpu_seconds=60))
""",
    "doctor": """
from app.datasets.doctor.__main__ import confine
from app.datasets.doctor.request import DoctorRequest
confine(DoctorRequest(file=0, num_examples=1, parent=os.getppid(), model_folder=site["folder"],
                      limit_tokens=10, writes_bits=False, memory_bytes=4 << 30, cpu_seconds=60))
""",
    "privacy": """
from app.datasets.privacy.__main__ import confine
from app.datasets.privacy.request import ScanRequest
site["mine"] = "/dev/zero"
confine(ScanRequest(parent=os.getppid(), memory_bytes=4 << 30, cpu_seconds=60))
""",
    "templates": """
from pathlib import Path
from app.core.confined.__main__ import confine
confine([Path(site["folder"])])
""",
    "import": """
from pathlib import Path
from worker.cpu.model_conversion import confine
confine({"kind": "folder", "path": site["folder"]}, Path(site["work"], "model"))
""",
    "convert": """
from pathlib import Path
from worker.inference.convert import BaseStep, ConvertRequest, confine
step = BaseStep(target=Path(site["work"], "base.gguf"))
confine(ConvertRequest(base=site["folder"], manifest_sha256="", steps=[step]))
""",
    "export": """
from pathlib import Path
from worker.exporting.__main__ import confine
from worker.exporting.requests import Make, Sources
sources = Sources(base=site["folder"], base_sha256="", base_name="", adapter=site["folder"],
                  adapter_sha256="")
confine(Make(sources=sources, form="merged", quantization="bf16", name="", title="",
             out=site["work"]))
""",
    "export opened": """
from pathlib import Path
from worker.exporting.__main__ import confine
from worker.exporting.requests import Prove, Sources
sources = Sources(base=site["folder"], base_sha256="", base_name="", adapter=site["folder"],
                  adapter_sha256="")
confine(Prove(sources=sources, form="merged", quantization="bf16", out=site["work"], rows=[]))
""",
    "wording": """
from pathlib import Path
from worker.answering.wording import confine
confine(Path(site["folder"]), Path(site["cache"]))
""",
    "inference": """
from worker.inference import commands
from worker.inference.__main__ import confine
confine(commands.Open(engine="llama.cpp", base=site["folder"], manifest_sha256="",
                      cache_dir=site["cache"]))
""",
    "trainer": """
from pathlib import Path
from app.training.config import TrainerSpec
from worker.trainer.walls import confine
confine(Path(site["work"]), TrainerSpec.model_validate_json(site["spec"]))
""",
    "packing": """
from pathlib import Path
from worker.trainer.pack import confine
from worker.trainer.packed_copy import PackRequest
confine(PackRequest(base=site["folder"], target=Path(site["work"], "nf4"), device="cpu"))
""",
    # Behind a GPU's walls, on a machine without one: it may compile, and finds no device.
    "inference on a GPU": """
from worker.inference import commands
from worker.inference.__main__ import confine
confine(commands.Open(engine="transformers", base=site["folder"], manifest_sha256="",
                      cache_dir=site["cache"], device="cuda:0"))
""",
    "trainer on a GPU": """
from pathlib import Path
from app.training.config import TrainerSpec
from worker.trainer.walls import confine
spec = TrainerSpec.model_validate_json(site["spec"])
confine(Path(site["work"]), spec.model_copy(update={"device": "cuda:0"}))
""",
    "trainer of a group": """
from pathlib import Path
from app.training.config import TrainerSpec
from app.training import isolation
from worker.trainer.walls import confine
spec = TrainerSpec.model_validate_json(site["spec"])
isolation.leave_network()
confine(Path(site["work"]), spec.model_copy(update={"num_devices": 2}), is_rank=True)
""",
}
WRITES = {
    "import",
    "export",
    "convert",
    "packing",
    "trainer",
    "trainer on a GPU",
    "trainer of a group",
}
RUNS_PROGRAMS = {"inference on a GPU", "trainer on a GPU"}
READS_CACHE = {"wording", "inference", "inference on a GPU", "trainer", "trainer on a GPU"}
READS_CACHE |= {"trainer of a group"}


@contextmanager
def site(folder: Path) -> Iterator[dict[str, Any]]:
    """A house with a secret, a database's socket, a port, a cache and a child's own folders."""
    for name in ("secrets", "model", "work", "cache", "other"):
        (folder / name).mkdir()
    places = {
        "secret": folder / "secrets" / "postgres-password",
        "mine": folder / "model" / "config.json",
        "other": folder / "other" / "example.arrow",
        "cached": folder / "cache" / "verified-0.json",
    }
    for path in places.values():
        path.write_text("{}")
    link = folder / "model" / "tokenizer.json"
    link.symlink_to(places["secret"])
    spec = TrainerSpec(
        job_id=1,
        attempt=1,
        job_name="",
        config=TrainConfig(),
        device="cpu",
        base_model_name="",
        base_model_dir=str(folder / "model"),
        base_model_manifest_sha256="",
        cache_dir=str(folder / "cache"),
    )
    with (
        socket.socket(socket.AF_UNIX) as local,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        local.bind(str(folder / "s"))
        local.listen()
        yield {
            **{name: str(path) for name, path in places.items()},
            "link": str(link),
            "socket": str(folder / "s"),
            "port": server.getsockname()[1],
            "data": str(folder),
            "folder": str(folder / "model"),
            "work": str(folder / "work"),
            "cache": str(folder / "cache"),
            "spec": spec.model_dump_json(),
            "writable": "",
            "forks": False,
        }


def run(
    program: str,
    *arguments: str,
    cwd: str | Path = ROOT,
    opened: Path | None = None,
    **options: Any,
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *arguments]
    if opened is not None and os.geteuid() == 0:
        command[1:1] = ["-m", "tests.opened", str(opened)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, **options)


def behind_walls(kind: str, place: dict[str, Any]) -> dict[str, Any]:
    if kind in WRITES:
        place["writable"] = str(Path(place["work"], "mine"))
    place["forks"] = kind in RUNS_PROGRAMS
    # As `python -m` does, and each child of the workers' is started in some folder of the data.
    before = "import json, os, sys\nsys.path.insert(0, os.getcwd())\n"
    before += "site = json.loads(sys.argv[2])\n"
    program = before + KINDS[kind] + HOSTILE.replace("site = json.loads(sys.argv[2])\n", "")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    data = Path(place["data"])
    data.chmod(0o755)
    done = run(program, kind, json.dumps(place), cwd=data, env=environment, opened=data)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def judge(kind: str, folder: Path) -> None:
    with site(folder) as place:
        found = behind_walls(kind, place)
    went = {name for name, refusal in found["tried"].items() if not refusal}
    allowed = {"thread", "own file", "own folder"}
    if kind in RUNS_PROGRAMS:
        allowed |= {"fork"}
    if kind == "trainer of a group":
        allowed |= {"pair"}
    assert went == allowed, found["tried"]
    assert set(found["caps"].values()) == {0} or os.geteuid() != 0
    assert found["caps"]["CapEff"] == found["caps"]["CapPrm"] == found["caps"]["CapAmb"] == 0
    assert found["no_new_privs"] == "1"
    if os.geteuid() == 0:
        (number,) = set(found["users"])
        assert number > isolation.CHILDREN
        assert set(found["groups"]) == {isolation.CHILDREN}
    limits = found["limits"]
    assert limits["RLIMIT_CORE"] == 0
    assert 0 < limits["RLIMIT_NOFILE"] <= 4096
    assert limits["RLIMIT_FSIZE"] >= 0
    if kind not in RUNS_PROGRAMS:
        assert max(limits["RLIMIT_AS"], limits["RLIMIT_DATA"]) > 0
    if kind in ("reader", "doctor", "privacy"):
        assert (limits["RLIMIT_FSIZE"], limits["RLIMIT_CPU"]) == (0, 65)


walled = pytest.mark.skipif(
    not all(wall.stands or wall.name == isolation.USER for wall in isolation.standing()),
    reason="this machine cannot raise all walls",
)


@walled
@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_was_taken_over_reaches_nothing_but_its_own(kind: str, tmp_path: Path) -> None:
    judge(kind, tmp_path)


@pytest.mark.parametrize("user", [os.geteuid(), NOBODY])
def test_nothing_but_a_loopback_is_left(user: int) -> None:
    if user != os.geteuid() and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    done = run(LEAVE, str(user))
    if done.returncode == 77:
        pytest.skip("this kernel lets no process leave the network")
    assert done.returncode == 0, done.stderr


def test_which_walls_stand_is_found_out_once() -> None:
    found = isolation.standing()
    names = [wall.name for wall in found]
    assert names == [isolation.USER, "privileges", "files", "system calls", "network"]
    assert all(wall.stands or wall.why for wall in found)
    assert isolation.standing() is found


# A container without rights: no capabilities, and a filter that knows no namespaces.
CONTAINER = """
import json, os, socket
from app.training import isolation
from app.training.isolation import privileges, seccomp
seccomp.refuse(network="anywhere", programs=True)
privileges.drop()
walls = isolation.confine(isolation.Needs())
try:
    socket.socket()
except PermissionError:
    walls.append("refused")
print(json.dumps(walls))
"""


@walled
def test_without_namespaces_sockets_are_refused() -> None:
    done = run(CONTAINER)
    assert done.returncode == 0, done.stderr
    *walls, refused = json.loads(done.stdout)
    assert [stands for name, stands, _ in walls if name != isolation.USER] == [True] * 4
    assert walls[-1][2] == "no network namespace; sockets are refused instead"
    assert refused == "refused"


CROWDED = """
import json, sys
from pathlib import Path
from app.training import isolation
place = Path("/proc/self/oom_score_adj")
place.write_text(sys.argv[1])
isolation.confine(isolation.Needs(reads=[place]))
print(place.read_text())
"""


@pytest.mark.parametrize(("before", "after"), [("0", 500), ("700", 700)])
def test_where_memory_is_used_up_children_go_first(before: str, after: int) -> None:
    done = run(CROWDED, before)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == after


# A container whose filter is older than Landlock; what is run in it inherits that.
WITHOUT_LANDLOCK = """
import os, sys
from app.training.isolation import seccomp
seccomp._NEVER["landlock_create_ruleset"] = (444, 444)
seccomp.refuse(network="anywhere", programs=True)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@walled
@pytest.mark.parametrize("walls", ["auto", "required"])
def test_a_missing_wall_is_passed_over_or_refused_in_a_sentence(walls: str, tmp_path: Path) -> None:
    sheet = tmp_path / "questions.csv"
    sheet.write_text("question\nWhen is the round?\n")
    request = {
        **{"task": "inspect", "path": str(sheet), "parent": os.getpid()},
        **{"memory_bytes": 1 << 30, "cpu_seconds": 60},
    }
    done = run(
        WITHOUT_LANDLOCK,
        *("-m", "app.datasets.readers.reader"),
        input=json.dumps(request) + "\n",
        env={**os.environ, isolation.VARIABLE: walls},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    if walls == "auto":
        assert "inspection" in said
    else:
        assert said["unreadable"].startswith("This machine cannot wall off")
        assert "(files: Landlock is refused here" in said["unreadable"]
        assert said["unreadable"].endswith("run etude doctor.")


LATE = """
import json, socket, threading
from app.training import isolation
go, tried = threading.Event(), []

def attempt():
    go.wait()
    try:
        socket.socket().close()
        tried.append("went")
    except PermissionError:
        tried.append("refused")

beside = threading.Thread(target=attempt, daemon=True)
beside.start()
walls = isolation.confine(isolation.Needs(network="anywhere"))
socket.socket().close()
isolation.refuse_network()
go.set()
beside.join()
attempt()
print(json.dumps([tried, walls]))
"""


@walled
def test_a_network_that_was_needed_is_refused_later_to_all_threads() -> None:
    done = run(LATE, env={**os.environ, isolation.VARIABLE: "auto"})
    assert done.returncode == 0, done.stderr
    tried, walls = json.loads(done.stdout)
    assert tried == ["refused", "refused"]
    # Nor is a wall around files said to stand that a thread of before does not have.
    (files,) = [wall for wall in walls if wall[0] == "files"]
    assert files[1] or "threads run already" in files[2]


BOMB = """
import ctypes, os, signal, sys
from app.training import isolation
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
ctypes.CDLL(None).prctl(4, 1)
if not isolation.can_leave_network():
    sys.exit(77)
isolation.confine(isolation.Needs(programs=True))
children = []
try:
    while len(children) < 3000:
        pid = os.fork()
        if pid == 0:
            os.read(0, 1)
            os._exit(0)
        children.append(pid)
except BlockingIOError:
    pass
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(len(children))
"""


@walled
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_processes_are_limited_where_they_may_be_started() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as silent:
        done = run(BOMB, str(NOBODY), stdin=silent.stdout, timeout=patience.seconds(60))
    if done.returncode == 77:
        pytest.skip("this kernel lets no process of a user leave the network")
    assert done.returncode == 0, done.stderr
    assert 500 < int(done.stdout) < 1024


# Landlock is not there, so all that holds it is that it is somebody else.
SOMEBODY = """
import errno, json, os, signal, sys
from pathlib import Path
from app.training import isolation
from app.training.isolation import landlock
place, other, work = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) or None
landlock.missing = lambda: "not here"
isolation.die_with(os.getppid())
walls = isolation.confine(isolation.Needs(
    writes=[Path(place["work"])], programs=True, work=work,
    limits=isolation.Limits(file_bytes=None, open_files=4096)))
tried = {}

def attempt(name, deed):
    try:
        deed()
        tried[name] = ""
    except OSError as error:
        tried[name] = errno.errorcode[error.errno]

attempt("secret", lambda: open(place["secret"]).read())
attempt("write beside", lambda: open(place["other"], "a").close())
attempt("passwords", lambda: open("/etc/shadow").read())
attempt("parent's environment", lambda: open(f"/proc/{os.getppid()}/environ").read())
attempt("signal", lambda: os.kill(other, 0))
attempt("back to root", lambda: os.setuid(0))
attempt("own", lambda: open(place["work"] + "/mine", "a").close())
attempt("own file of before", lambda: open(place["work"] + "/old", "a").close())
children = []
try:
    while len(children) < (0 if work else 3000):
        pid = os.fork()
        if pid == 0:
            os.read(0, 1)
            os._exit(0)
        children.append(pid)
except BlockingIOError:
    pass
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(json.dumps([walls[0], tried, len(children), isolation.kernel.death_signal()]))
"""


def somebody(place: dict[str, Any], other: int, work: int = 0) -> list[Any]:
    data = Path(place["data"])
    data.chmod(0o755)
    arguments = (json.dumps(place), str(other), str(work))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as silent:
        waits = patience.seconds(60)
        environment = {**os.environ, isolation.VARIABLE: "auto"}
        done = run(
            SOMEBODY,
            *arguments,
            stdin=silent.stdout,
            timeout=waits,
            opened=data,
            env=environment,
        )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_roots_child_is_a_user_of_its_own(tmp_path: Path) -> None:
    # It ends with us: its standard input is ours to hold.
    other = subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=NOBODY)
    with site(tmp_path) as place, other:
        Path(place["secret"]).chmod(0o600)
        old = Path(place["work"], "old")
        old.touch(0o600)
        wall, tried, num_children, death_signal = somebody(place, other.pid)
        assert wall == [isolation.USER, True, ""]
        assert tried == {
            **dict.fromkeys(("secret", "write beside", "passwords"), "EACCES"),
            "parent's environment": "EACCES",
            "signal": "EPERM",
            "back to root": "EPERM",
            "own": "",
            "own file of before": "",
        }
        assert 500 < num_children < 1024, "its processes are counted, and no others"
        assert death_signal == signal.SIGKILL, "it still ends with its parent"
        # Those who go on in one folder are one user; what is done there is taken back.
        users = []
        for work in (7, 7, 8):
            assert somebody(place, other.pid, work)[1]["own"] == ""
            users.append(old.stat().st_uid)
        assert users[0] == users[1] != users[2]
        isolation.take_back(Path(place["work"]))
        assert {path.stat().st_uid for path in Path(place["work"]).iterdir()} == {0}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of root's")
def test_where_root_alone_may_read_the_child_stays_root_and_says_so(tmp_path: Path) -> None:
    closed = tmp_path / "model"
    closed.mkdir(0o700)
    program = """
import json, sys
from pathlib import Path
from app.training import isolation
sys.path[:] = [place for place in sys.path if place]
print(json.dumps(isolation.confine(isolation.Needs(reads=[Path(sys.argv[1])]))[0]))
"""
    data = tmp_path
    data.chmod(0o755)
    refused = [isolation.USER, False, "what they need lies where root alone may read"]
    environment = {**os.environ, isolation.VARIABLE: "required"}
    done = run(program, str(closed), opened=data, env=environment)
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == refused
    isolation.let_in(closed)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o750
    done = run(program, str(closed), opened=data, env=environment)
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == [isolation.USER, True, ""]


def decide(program: list[bytes], machine: int, number: int, *arguments: int) -> int:
    """Run a filter as the kernel does; returns what it decides."""
    data = struct.pack("=IIQ6Q", number, machine, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    at = word = 0
    while True:
        code, if_true, if_false, value = struct.unpack("=HBBI", program[at])
        at += 1
        match code:
            case 0x20:
                (word,) = struct.unpack_from("=I", data, value)
            case 0x15:
                at += if_true if word == value else if_false
            case 0x35:
                at += if_true if word >= value else if_false
            case 0x45:
                at += if_true if word & value else if_false
            case 0x06:
                return int(value)


ALLOW, KILL, EPERM, EACCES = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.EACCES
X86, ARM = 0xC000003E, 0xC00000B7
# read, socket, clone, execve, kill, ptrace
NUMBERS = {"x86_64": (X86, 0, 41, 56, 59, 62, 101), "aarch64": (ARM, 63, 198, 220, 221, 129, 117)}


@pytest.mark.parametrize("name", NUMBERS)
def test_each_architecture_refuses_by_its_own_numbers(name: str) -> None:
    machine, read, make_socket, clone, execute, kill, ptrace = NUMBERS[name]
    strict, group = seccomp.assemble(name), seccomp.assemble(name, "loopback", True)
    local = seccomp.assemble(name, "loopback", True, True)
    assert decide(strict, machine, read) == ALLOW
    assert decide(strict, machine, ptrace) == decide(group, machine, ptrace) == EPERM
    assert decide(strict, machine, make_socket, socket.AF_INET) == EACCES
    assert decide(group, machine, make_socket, socket.AF_INET) == ALLOW
    assert decide(group, machine, make_socket, socket.AF_INET6) == ALLOW
    assert decide(group, machine, make_socket, socket.AF_UNIX) == EACCES
    assert decide(local, machine, make_socket, socket.AF_UNIX) == ALLOW
    for program in (group, local):
        assert decide(program, machine, make_socket, socket.AF_NETLINK, 3, 0) == ALLOW
        assert decide(program, machine, make_socket, socket.AF_NETLINK, 3, 16) == EACCES
        assert decide(program, machine, make_socket, 17) == EACCES  # packets
    assert decide(strict, machine, execute) == EPERM
    assert decide(group, machine, execute) == ALLOW
    thread, process, namespace = 0x10000, 17, 0x10000000 | 17
    assert decide(strict, machine, clone, thread) == ALLOW
    assert decide(strict, machine, clone, process) == EPERM
    assert decide(group, machine, clone, process) == ALLOW
    assert decide(group, machine, clone, namespace) == EPERM
    assert decide(strict, machine, kill, os.getpid()) == ALLOW
    assert decide(strict, machine, kill, os.getppid()) == EPERM
    assert decide(strict, ARM if machine == X86 else X86, read) == KILL
    if machine == X86:
        assert decide(strict, machine, 0x40000000 | read) == KILL
