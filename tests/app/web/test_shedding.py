"""What gives way where the web cannot keep up: streams send less often, then pages are refused.

A process that was stopped for some seconds is late by as much, on any machine.
"""

import asyncio
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.models import Job, User
from app.jobs import fence, metrics, protocol
from app.people import auth
from app.training.events import StepEvent
from app.web.shedding import Lateness
from tests import patience
from tests.app.web.serving import serving
from tests.factories import make_job, make_user

pytestmark = pytest.mark.timeout(300)
WORKER = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1234, 99, ("cpu",))
STOPPED_SECONDS = 6.0
NUM_ASKING = 24


class Web:
    def __init__(self, port: int, process: subprocess.Popen[bytes], cookie: str) -> None:
        self.port, self.process = port, process
        self.address = f"http://127.0.0.1:{port}"
        self.headers = {"Cookie": f"{auth.COOKIE}={cookie}"}
        # Each on a connection of its own: one kept open may be closed as a request is sent.
        apart = httpx2.Limits(max_keepalive_connections=0)
        self.client = httpx2.Client(
            headers=self.headers, timeout=patience.seconds(60), limits=apart
        )

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let it stand still for some seconds; what is asked meanwhile waits for it."""
        self.process.send_signal(signal.SIGSTOP)
        yield
        time.sleep(STOPPED_SECONDS)
        self.process.send_signal(signal.SIGCONT)

    def stand_still(self) -> None:
        with self.standing_still():
            pass

    def get(self, path: str = "/jobs") -> httpx2.Response:
        return self.client.get(self.address + path)

    @contextmanager
    def streaming(self, path: str) -> Iterator[None]:
        """Keep an event stream open that has begun to send."""
        with httpx2.stream(
            "GET", self.address + path, headers=self.headers, timeout=patience.seconds(60)
        ) as stream:
            next(stream.iter_raw())
            yield


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def claimed(db: Session, user: User) -> fence.Claim:
    make_job(db, user=user)
    claim = protocol.claim(db, WORKER)
    db.commit()
    assert claim is not None
    return claim


@pytest.fixture
def web(db: Session, broker: str, user: User, tmp_path: Path) -> Iterator[Web]:
    cookie = auth.open_session(db, user)
    db.commit()
    with serving(tmp_path) as (port, process):
        web = Web(port, process, cookie)
        yield web
        web.client.close()


def report(db: Session, claim: fence.Claim, step: int) -> None:
    event = StepEvent(at=time.time(), step=step, epoch=0.1, loss=2.0, learning_rate=1e-3,
                      grad_norm=1.0, num_tokens=100, tokens_per_second=50.0)  # fmt: skip
    metrics.ingest(db, claim.job_id, claim.attempt, [event], spool_offset=step)
    db.commit()


def test_pages_are_refused_for_a_while_and_work_is_not(
    web: Web, db: Session, claimed: fence.Claim
) -> None:
    # Lateness is looked at while somebody wants something; an open stream does.
    refused: list[httpx2.Response] = []
    with web.streaming(f"/jobs/{claimed.job_id}/events"), ThreadPoolExecutor(NUM_ASKING) as pool:
        for _ in range(5):
            # Those who asked while it stood still get their pages, as soon as the table is free.
            db.execute(text("LOCK TABLE job IN ACCESS EXCLUSIVE MODE"))
            with web.standing_still():
                early = [pool.submit(web.get) for _ in range(NUM_ASKING // 2)]
            late = []
            for _ in range(NUM_ASKING // 2):  # some once it has seen how late it is, and not later
                late.append(pool.submit(web.get))
                time.sleep(0.15)
            wait(late, patience.seconds(5), FIRST_COMPLETED)
            db.rollback()
            answers = [each.result() for each in early + late]
            assert {each.status_code for each in answers} <= {200, 503}
            refused = [each for each in answers if "Nothing is lost" in each.text]
            if refused:
                break
    assert refused
    assert refused[0].status_code == 503
    assert refused[0].headers["retry-after"] == "5"
    # What changes something is done, and workers go on beside.
    form = {"email": "nobody@house.example", "password": "wrong"}
    posted = httpx2.post(
        f"{web.address}/sign-in", data=form, headers={"Origin": web.address},
        timeout=patience.seconds(60),
    )  # fmt: skip
    assert posted.status_code != 503
    report(db, claimed, 1)
    fence.heartbeat(db, claimed)
    db.commit()
    make_job(db, user=db.get_one(User, db.get_one(Job, claimed.job_id).owner_id))
    assert protocol.claim(db, WORKER) is not None
    db.commit()
    # A few are always made, so that somebody can see what is going on.
    assert web.get().status_code == 200


def test_lateness_passes_with_those_who_asked() -> None:
    async def be_late() -> None:
        lateness = Lateness()
        looking = asyncio.create_task(lateness.run())
        with lateness.asking():
            lateness.num_pages = 100
            await asyncio.sleep(0)  # it has begun to look
            assert not lateness.refuses_pages()
            time.sleep(3)  # that is what makes it late
            while not lateness.seconds:
                await asyncio.sleep(0.1)
            assert lateness.refuses_pages()
            assert lateness.stream_gap > 2
            lateness.num_pages = 0
            assert not lateness.refuses_pages()
            lateness.num_pages = 100
        while lateness.refuses_pages():
            await asyncio.sleep(0.1)
        looking.cancel()

    asyncio.run(be_late())


def test_a_stream_sends_less_often_and_leaves_nothing_out(
    web: Web, db: Session, claimed: fence.Claim
) -> None:
    with socket.create_connection(("127.0.0.1", web.port), patience.seconds(60)) as there:
        head = "".join(f"{name}: {value}\r\n" for name, value in web.headers.items())
        request = f"GET /jobs/{claimed.job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n"
        there.sendall(request.encode())
        pieces = read_pieces(there)
        step = 1
        report(db, claimed, step)
        assert steps_of(next_with_points(pieces)) == [1]
        web.stand_still()
        seen, most = [1], 0
        # The first after it is sent at once; those that follow meanwhile come together.
        while most < 2:
            assert step < 60, "each point came by itself"
            for _ in range(6):
                step += 1
                report(db, claimed, step)
                time.sleep(0.4)
            while seen[-1] < step:
                found = steps_of(next_with_points(pieces))
                seen += found
                most = max(most, len(found))
            if most < 2:
                web.stand_still()
        assert seen == list(range(1, step + 1))


def read_pieces(there: socket.socket) -> Iterator[str]:
    """Yield what the stream sends, piece by piece as it was sent."""
    file = there.makefile("rb")
    while file.readline().strip():
        pass  # the head of the answer
    while size := int(file.readline(), 16):
        yield file.read(size).decode()
        file.readline()


def next_with_points(pieces: Iterator[str]) -> str:
    return next(piece for piece in pieces if "event: metric" in piece)


def steps_of(piece: str) -> list[int]:
    return [int(found) for found in re.findall(r'"step": (\d+), "at"', piece)]
