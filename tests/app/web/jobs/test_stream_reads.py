"""Streams of one job read together, and none of them misses what was there before it asked."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from app.jobs import metrics
from app.training.events import EvaluationEvent, StepEvent
from app.web.jobs.stream_reads import SharedReads, StreamRead, shared
from tests.app.web.jobs.test_event_stream import make_running, report
from tests.factories import make_user

Hook = Callable[[str], None]


@pytest.fixture
def on_statement() -> Iterator[Callable[[Hook], None]]:
    """Have something called after each statement that the database has answered."""
    added: list[Any] = []

    def add(hook: Hook) -> None:
        def listener(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            hook(statement)

        event.listen(Engine, "after_cursor_execute", listener)
        added.append(listener)

    yield add
    for listener in added:
        event.remove(Engine, "after_cursor_execute", listener)


def is_about_points(statement: str) -> bool:
    return "json_object_agg" in statement


def num_points(read: StreamRead) -> int:
    return read.text.count("event: metric")


def test_all_who_stand_at_one_place_look_once(
    db: Session, on_statement: Callable[[Hook], None]
) -> None:
    job = make_running(db, make_user(db))
    report(db, job, 1, 3)
    reads, seen = SharedReads(job.id), list[str]()
    on_statement(lambda statement: seen.append(statement) if is_about_points(statement) else None)

    async def everyone() -> list[StreamRead]:
        return await asyncio.gather(*(reads.after(0) for _ in range(50)))

    found = asyncio.run(everyone())
    assert [num_points(read) for read in found] == [3] * 50
    assert len(seen) == 1


def test_who_comes_late_waits_for_the_look_that_follows(
    db: Session, on_statement: Callable[[Hook], None]
) -> None:
    job = make_running(db, make_user(db))
    report(db, job, 1, 3)
    reads = SharedReads(job.id)
    has_read, go_on = threading.Event(), threading.Event()

    def hold(statement: str) -> None:
        if is_about_points(statement) and not has_read.is_set():
            has_read.set()
            assert go_on.wait(20)

    on_statement(hold)

    async def early_and_late() -> tuple[StreamRead, list[StreamRead]]:
        early = asyncio.create_task(reads.after(0))
        assert await asyncio.to_thread(has_read.wait, 20)
        await asyncio.to_thread(report, db, job, 4, 4)  # the first has read the tables by now
        late = [asyncio.create_task(reads.after(0)) for _ in range(3)]
        await asyncio.sleep(0)
        go_on.set()
        return await early, await asyncio.gather(*late)

    early, late = asyncio.run(early_and_late())
    assert num_points(early) == 3
    assert [num_points(read) for read in late] == [4, 4, 4]
    assert late[0] is late[1] is late[2]


def test_what_is_written_amid_a_look_is_left_to_the_next_one_whole(
    db: Session, on_statement: Callable[[Hook], None]
) -> None:
    job = make_running(db, make_user(db))
    report(db, job, 1, 3)
    reads, written = SharedReads(job.id), list[int]()

    def write(statement: str) -> None:
        # Between the points and the sentences of the first read.
        if is_about_points(statement) and not written:
            written.append(4)
            at = time.time()
            events: list[metrics.TrainerEvent] = [
                StepEvent(at=at, step=4, epoch=1, loss=1, learning_rate=1e-3, grad_norm=1,
                          num_tokens=9, tokens_per_second=9),
                EvaluationEvent(at=at, step=4, loss=1, is_best=True),
            ]  # fmt: skip
            metrics.ingest(db, job.id, 1, events, 4)
            db.commit()

    on_statement(write)
    first = asyncio.run(reads.after(0))
    assert written
    second = asyncio.run(reads.after(first.seq))
    assert num_points(first) == 3
    assert num_points(second) == 2  # the step's, and the evaluation's with its sentence
    assert second.seq == first.seq + 2


def test_looks_are_forgotten_with_the_last_stream() -> None:
    reads: dict[int, SharedReads] = {}
    with shared(reads, 7) as first, shared(reads, 7) as second:
        assert first is second
    assert reads == {}
