"""Faults of the broker: it only rings the bell, so nothing that happens to it can cost a job."""

import base64
import json
import pickle
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

import pytest
import redis
from sqlalchemy import func, select

from app.core import wakeup
from app.core.models import Attempt
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.servers import redis_client
from tests import patience
from tests.faults.conftest import opened
from tests.faults.house import House
from tests.faults.proxy import Proxy, proxy
from tests.worker.conftest import is_running


def line_is_empty(client: "redis.Redis") -> bool:
    return client.llen("etude:gpu") == 0


@contextmanager
def a_client(house: House) -> Iterator["redis.Redis"]:
    with redis_client(house.broker.url, timeout_seconds=patience.seconds(10)) as client:
        yield client


def socket_of(house: House) -> Path:
    return Path(unquote(house.broker.url.partition("@")[2].partition("?")[0]))


def through(house: House, cable: Proxy) -> str:
    """The broker's address by way of a proxy."""
    secret = house.broker.url.partition("//etude:")[2].partition("@")[0]
    return f"redis://etude:{secret}@127.0.0.1:{cable.port}/0"


def test_f19_f21_a_broker_killed_and_emptied_loses_no_waiting_job(
    house: House, all_faults: bool
) -> None:
    several = [house.make_job("steps=2 every=1") for _ in range(50 if all_faults else 6)]
    with a_client(house) as client:
        client.flushall()
        client.set("written before", 1)
    assert house.broker.process is not None
    house.broker.process.kill()
    house.broker.process.wait()
    for file in house.broker.data.glob("appendonlydir/*"):
        file.unlink()
    house.broker.start()
    with a_client(house) as client:
        assert not client.exists("written before")  # empty, but for what came back already
    for job in several:
        house.finish(job, attempts=1)


def test_f20_while_the_broker_is_away_jobs_run_and_are_taken(house: House) -> None:
    running = house.make_job(f"steps=60 every=10 pause={patience.seconds(0.03):.3f}")
    house.until_step(running, 5)
    house.broker.stop()
    began = time.monotonic()
    waiting = house.make_job()  # rings in vain
    assert time.monotonic() - began < patience.seconds(3)
    assert not house.ring()
    house.finish(running, attempts=1)
    house.broker.start()
    house.finish(waiting, attempts=1)


def test_f22_a_thousand_hints_too_many_are_a_thousand_looks(house: House, all_faults: bool) -> None:
    if not all_faults:
        pytest.skip("a hundred are sent in tests/worker: make faults FAULT_ARGS=--all-faults")
    job = house.make_job(ring=False)
    for _ in range(1000):
        assert house.ring()
    house.finish(job, attempts=1)
    with a_client(house) as client:
        began, left = time.monotonic(), client.llen("etude:gpu")
        house.wait_for(lambda: line_is_empty(client), seconds=200)
    if left > 100:
        print(f"{1000 * (time.monotonic() - began) / left:.1f} ms a hint that finds nothing")
    attempts = select(func.count()).select_from(Attempt).where(Attempt.job_id == job.id)
    assert house.db.scalar(attempts) == 1


def test_f23_f28_forged_messages_are_thrown_away(house: House, all_faults: bool) -> None:
    """By somebody who has the broker's password: the most that he can do is ring."""
    with a_client(house) as client:
        client.delete("etude:gpu")
        house.ring()
        honest = None
        for _ in range(200):  # before the worker is there
            house.ring()
            if found := client.lindex("etude:gpu", 0):
                honest = json.loads(found)
                break
        assert honest is not None
        assert house.worker.process is not None
        unknown = json.loads(json.dumps(honest))
        unknown["headers"]["task"] = "os.system"
        pickled = json.loads(json.dumps(honest))
        pickled["content-type"] = "application/x-python-serialize"
        pickled["body"] = base64.b64encode(pickle.dumps(print)).decode()
        for forged in (unknown, pickled):
            client.lpush("etude:gpu", json.dumps(forged))
        house.wait_for(lambda: line_is_empty(client))
        house.finish(house.make_job(), attempts=1)
        assert is_running(house.worker.pid)
        # What is no message at all ends Celery's main process, which never fetches amid a job;
        # `etude up` starts it again, and the thing is gone.
        for rubbish in (b"{}", b"\xff\xfe no JSON") if all_faults else ():
            client.lpush("etude:gpu", rubbish)
            house.wait_for(lambda: line_is_empty(client))
            with suppress(subprocess.TimeoutExpired):
                house.worker.process.wait(patience.seconds(8))
            if house.worker.process.poll() is not None:
                house.worker.start()
    house.finish(house.make_job(), attempts=1)


def test_f24_two_hundred_cut_connections_double_no_job(house: House) -> None:
    job = house.make_job(f"steps=150 every=50 pause={patience.seconds(0.02):.3f}")
    house.until_step(job, 2)
    num_cut = 0
    with a_client(house) as client:
        while num_cut < 200:
            num_cut += int(client.client_kill_filter(skipme=True, _type="normal"))
            house.ring()
    other = house.make_job()
    house.finish(job, attempts=1)
    house.finish(other, attempts=1)


def test_f25_f27_a_silent_or_slow_broker_holds_nobody_up(house: House) -> None:
    with proxy(socket_of(house)) as cable:
        address = through(house, cable)
        assert wakeup.ring(address, "gpu")
        cable.is_silent = True
        assert seconds_to_ring(address) < patience.seconds(3)
        cable.is_silent = False
        cable.hang_up()
        cable.delay_seconds = patience.seconds(5)
        assert seconds_to_ring(address) < patience.seconds(3)
        cable.delay_seconds = 0
        cable.hang_up()
        assert wakeup.ring(address, "gpu")


def seconds_to_ring(address: str) -> float:
    began = time.monotonic()
    assert not wakeup.ring(address, "gpu")
    return time.monotonic() - began


def test_f25_a_worker_with_a_dead_line_to_the_broker_is_started_afresh(
    postgres: Postgres, all_faults: bool
) -> None:
    if not all_faults:
        pytest.skip("a dead line is only known by waiting: make faults FAULT_ARGS=--all-faults")
    with opened(postgres, with_worker=False) as house, proxy(socket_of(house)) as cable:
        house.worker = house.make_worker(REDIS_URL=through(house, cable), ETUDE_DEAF_SECONDS="2")
        house.worker.start()
        house.finish(house.make_job("steps=1 every=1"))
        cable.is_silent = True
        waiting = house.make_job(ring=False)
        time.sleep(3)
        cable.is_silent = False  # for new connections; the old ones have lost what was said
        process = house.worker.process
        assert process is not None
        house.wait_for(lambda: waiting.attempt > 0 or process.poll() is not None, seconds=120)
        if process.poll() is not None:
            house.worker.start()  # as `etude up` does
        house.finish(waiting)


def test_f26_a_broker_without_memory_takes_no_hint_and_loses_no_job(house: House) -> None:
    with a_client(house) as client:
        client.config_set("maxmemory", 1)
        try:
            assert not house.ring()
            job = house.make_job()
        finally:
            client.config_set("maxmemory", 0)
    house.finish(job, attempts=1)
