"""`etude answer` as the web sees it: real processes, PostgreSQL and connections."""

import asyncio
import http
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import aclosing, suppress

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.adapters import answering, registry, sharing
from app.adapters.answering import Found
from app.core import db as database
from app.core import settings
from app.core.errors import Unavailable
from app.core.leases import LeaseLost
from app.core.models import Answerer, BaseModel, ModelStatus
from app.evaluation import lookups
from app.training.answers import AnswerRequest, Event, Refused, ScoreRequest
from tests import patience
from tests.factories import first_user, make_dataset_version
from tests.worker.answering.asking import (
    AnswerProcess,
    a_model,
    an_adapter,
    ask,
    child_pids,
    hear,
    journal,
    question,
    text,
)
from tests.worker.conftest import is_running, wait_for

ONE_SLOT = "slots=1"


def refused(events: list[Event]) -> Refused:
    assert isinstance(events[-1], Refused), events
    return events[-1]


def connect(found: Found) -> socket.socket:
    host, _, port = found.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=patience.seconds(10))


def say(connection: socket.socket, secret: str, request: AnswerRequest) -> None:
    lines = json.dumps({"secret": secret}), request.model_dump_json()
    connection.sendall("".join(line + "\n" for line in lines).encode())


def test_a_question_is_answered_by_base_and_adapter(db: Session, answerer: AnswerProcess) -> None:
    model = a_model(db)
    adapter = an_adapter(db, model)
    found = answerer.start()
    said = ask(found, question(model, "words=3"))
    assert [event.kind for event in said if event.kind != "waiting"] == [
        *("begun", "piece", "piece", "piece", "ended", "done")
    ]
    assert said[0].kind == "waiting"
    assert text(said) == "0 1 2 "
    assert text(ask(found, question(model, "words=2", adapter))) == "0 1 "
    # Nothing of our environment that is secret stands behind the number of slots.
    assert journal(model)[:2] == ["convert base", "open llama.cpp cpu slots=8 "]
    assert journal(model)[-1] == f"ask 2 {adapter.id} words=2"
    scores = ask(
        found,
        ScoreRequest(
            base_model_id=model.id,
            account="ada",
            messages=[
                {"role": "user", "content": "?"},
                {"role": "assistant", "content": "Wash your hands."},
            ],
        ),
    )
    assert scores[-1].kind == "scores"
    [state] = answering.state(db)
    assert state.models == [] or state.models[0].base_model_id == model.id


def test_a_wrong_secret_is_closed_without_a_word(db: Session, answerer: AnswerProcess) -> None:
    model = a_model(db)
    found = answerer.start()
    for secret in ("", "wrong", found.secret[:-1], found.secret + "x"):
        with connect(found) as connection:
            say(connection, secret, question(model))
            assert read_all(connection) == b""
    for line in (b"\n", b"[]\n", b'{"secret": 7}\n', b"x" * 5000, b'{"secret": "\xff"}\n'):
        with connect(found) as connection:
            connection.sendall(line)
            assert b"begun" not in read_all(connection)
    assert journal(model) == []
    assert text(ask(found, question(model))) == "0 1 2 "


def read_all(connection: socket.socket) -> bytes:
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionError:
        pass  # closed with something of ours unread
    return said


def test_a_hundred_who_say_nothing_or_half_of_it_hold_nobody_up(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    found = answerer.start()
    host, _, port = found.address.rpartition(":")
    secret = json.dumps({"secret": found.secret}).encode()
    half = secret + b'\n{"kind": "ans'
    beginnings = (b"", b"{", secret, half, b"\xff" * 500, b"GET / HTTP/1.1\r\n")
    lines = []
    for number in range(100):
        line = socket.create_connection((host, int(port)), timeout=patience.seconds(20))
        line.sendall(beginnings[number % len(beginnings)])
        lines.append(line)
    assert text(ask(found, question(model))) == "0 1 2 "
    for line in lines:  # each is closed without a word
        with line, suppress(ConnectionResetError):
            assert line.recv(100) == b""
    assert text(ask(found, question(model))) == "0 1 2 "


def test_what_is_no_request_gets_a_sentence(answerer: AnswerProcess) -> None:
    found = answerer.start()
    for line in (b"{}\n", b'{"kind": "answer", "more": 1}\n', b"nonsense\n"):
        with connect(found) as connection:
            connection.sendall(json.dumps({"secret": found.secret}).encode() + b"\n" + line)
            assert json.loads(read_all(connection))["status"] == http.HTTPStatus.BAD_REQUEST


def test_what_is_not_there_is_refused(db: Session, answerer: AnswerProcess) -> None:
    model, other = a_model(db), a_model(db)
    coming = a_model(db, status=ModelStatus.WAITING)
    failed = a_model(db, status=ModelStatus.FAILED)
    adapter = an_adapter(db, other)
    found = answerer.start()
    unknown = question(model).model_copy(update={"base_model_id": 999})
    for request in (unknown, question(model, "", adapter)):
        event = refused(ask(found, request))
        assert (event.status, event.code, event.param) == (404, "model_not_found", "model")
    assert refused(ask(found, question(coming))).status == http.HTTPStatus.SERVICE_UNAVAILABLE
    assert refused(ask(found, question(failed))).status == http.HTTPStatus.CONFLICT
    registry.delete(db, first_user(db), adapter)
    db.commit()
    assert refused(ask(found, question(other, "", adapter))).status == http.HTTPStatus.NOT_FOUND
    assert journal(model) == journal(other) == []


def test_who_waits_knows_the_place_and_one_too_many_is_told_when_to_come_back(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db, ONE_SLOT)
    answerer.environment["ETUDE_ANSWER_QUEUE"] = "3"
    found = answerer.start()

    async def scene() -> None:
        heard: dict[str, list[Event]] = {}

        async def one(name: str, account: str) -> None:
            heard[name] = []
            orders = f"words=1 {name}" + (" until=go" if name == "first" else "")
            await hear(found, question(model, orders, account=account), into=heard[name])

        async with asyncio.TaskGroup() as all_of_them:
            all_of_them.create_task(one("first", "ada"))
            await until_journal(model, "ask 1 ")
            # Whoever asks for the first time does not wait behind all of somebody else's.
            for number, (name, account) in enumerate(
                (("second", "ada"), ("third", "ada"), ("other", "bob"))
            ):
                all_of_them.create_task(one(name, account))
                await until(lambda name=name: bool(heard.get(name)))  # type: ignore[misc]
                assert places(heard[name])[0] == (number + 1 if account == "ada" else 1)
            event = refused(await hear(found, question(model, account="eve")))
            assert event.status == http.HTTPStatus.TOO_MANY_REQUESTS
            assert event.retry_after_seconds is not None
            assert event.retry_after_seconds >= 1
            await until(lambda: places(heard["second"])[-1] == 2)
            (settings.get().models_dir / str(model.folder) / "go").touch()
        assert places(heard["third"]) == [2, 3, 2, 1]

    asyncio.run(scene())
    asked = [line.split()[4] for line in journal(model) if line.startswith("ask ")]
    assert asked == ["first", "other", "second", "third"]


def places(events: list[Event]) -> list[int]:
    return [event.place for event in events if event.kind == "waiting"]


async def until_journal(model: BaseModel, words: str, seconds: float = 20) -> None:
    await until(lambda: any(line.startswith(words) for line in journal(model)), seconds)


async def until(look: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + patience.seconds(seconds)
    while not look():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_a_closed_page_ends_its_answer_within_a_second(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db, ONE_SLOT)
    found = answerer.start()

    async def scene() -> None:
        heard = await hear(found, question(model, "words=900 pause=0.1"), num_events=8)
        assert heard[-1].kind == "piece"
        await until_journal(model, "stop 1", seconds=1)
        # It has left its room, too.
        assert text(await hear(found, question(model, "words=1"))) == "0 "
        # One who closes while it waits is forgotten.
        running = asyncio.create_task(hear(found, question(model, "words=9 pause=0.1")))
        await until_journal(model, "ask 3 ")
        await hear(found, question(model, "words=77"), num_events=1)
        assert text(await running)
        assert text(await hear(found, question(model, "words=2"))) == "0 1 "

    asyncio.run(scene())
    assert not any("words=77" in line for line in journal(model))


def test_a_reader_who_does_not_read_is_bounded_and_then_closed(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    answerer.environment["ETUDE_ANSWER_READER_SECONDS"] = f"{patience.seconds(1):.1f}"
    found = answerer.start()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = found.address.rpartition(":")
        connection.connect((host, int(port)))
        say(connection, found.secret, question(model, "words=100000 long=2000 pause=0.0005"))
        asyncio.run(until_journal(model, "ask 1 "))
        # Others are answered meanwhile.
        assert text(ask(found, question(model, "words=2"))) == "0 1 "
        asyncio.run(until_journal(model, "stop 1"))
    assert text(ask(found, question(model, "words=2"))) == "0 1 "


def test_a_child_that_dies_ends_its_answers_and_the_next_question_starts_another(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    found = answerer.start()

    async def scene() -> None:
        beside = asyncio.create_task(hear(found, question(model, "words=900 pause=0.05")))
        await until_journal(model, "ask 1 ")
        killed = await hear(found, question(model, "words=9 die=2"))
        assert text(killed) == "0 1 "
        for event in (refused(killed), refused(await beside)):
            assert event.status == http.HTTPStatus.SERVICE_UNAVAILABLE
            assert "ended amid the answer" in event.message
        assert text(await hear(found, question(model, "words=2"))) == "0 1 "

    asyncio.run(scene())
    assert len(child_pids(model)) == 2
    assert [is_running(pid) for pid in child_pids(model)] == [False, True]


def test_after_three_deaths_in_a_row_it_pauses_and_says_so(
    db: Session, answerer: AnswerProcess
) -> None:
    model, well = a_model(db, "die"), a_model(db)
    found = answerer.start()
    for _ in range(3):
        assert "could not be loaded" in refused(ask(found, question(model))).message
    event = refused(ask(found, question(model)))
    assert "three times" in event.message or "3 times" in event.message
    assert event.retry_after_seconds is not None
    assert event.retry_after_seconds > 0
    assert len(child_pids(model)) == 3
    assert text(ask(found, question(well))) == "0 1 2 "


def test_what_cannot_be_used_is_said_in_its_own_words_and_not_tried_for_each_question(
    db: Session, answerer: AnswerProcess
) -> None:
    odd, strange = a_model(db, "refuse"), a_model(db)
    sentence = "This kind of model has no form for llama.cpp."
    path = settings.get().models_dir / str(strange.folder) / "unconvertible"
    path.write_text(sentence)
    found = answerer.start()
    assert "files are not its own" in refused(ask(found, question(odd))).message
    for _ in range(3):
        event = refused(ask(found, question(strange)))
        assert (event.message, event.code) == (sentence, "model_not_usable")
    assert journal(strange) == ["convert base"]


def test_what_a_full_disk_stopped_is_tried_again_soon(db: Session, answerer: AnswerProcess) -> None:
    model = a_model(db)
    full = settings.get().models_dir / str(model.folder) / "full"
    full.write_text("No space left on device.")
    found = answerer.start()
    for _ in range(2):
        event = refused(ask(found, question(model)))
        assert (event.message, event.retry_after_seconds) == ("No space left on device.", 5)
    assert journal(model) == ["convert base"]
    full.unlink()
    wait_for(db, lambda: text(ask(found, question(model))) == "0 1 2 ")


def test_a_model_that_says_other_words_than_its_own_is_not_asked(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    (settings.get().models_dir / str(model.folder) / "unfit").touch()
    found = answerer.start()
    for _ in range(2):
        assert "says other words" in refused(ask(found, question(model))).message
    assert journal(model) == ["convert base"]


def test_a_model_that_was_not_compared_with_its_own_words_is_told(
    db: Session, answerer: AnswerProcess
) -> None:
    compared, model = a_model(db), a_model(db)
    (settings.get().models_dir / str(model.folder) / "unchecked").touch()
    found = answerer.start()
    assert text(ask(found, question(compared))) == "0 1 2 "
    assert answering.state(db)[0].uncompared == []
    assert text(ask(found, question(model))) == "0 1 2 "
    wait_for(db, lambda: answering.state(db)[0].uncompared == [model.id])


def test_an_adapter_that_must_be_merged_gets_a_child_of_its_own(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    plain, dora = an_adapter(db, model), an_adapter(db, model, use_dora=True)
    found = answerer.start()
    assert text(ask(found, question(model, "words=1", dora))) == "0 "
    assert journal(model) == ["convert merged", "open llama.cpp cpu slots=8 ", "ask 1 None words=1"]
    assert text(ask(found, question(model, "words=2", plain))) == "0 1 "
    assert len(child_pids(model)) == 2
    wait_for(
        db,
        lambda: [m.adapter_ids for m in answering.state(db)[0].models] == [[dora.id], [plain.id]],
    )
    registry.delete(db, first_user(db), dora)
    db.commit()
    asyncio.run(until(lambda: not is_running(child_pids(model)[0])))
    assert text(ask(found, question(model, "words=2", plain))) == "0 1 "


def test_an_adapter_whose_files_were_replaced_is_refused(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    adapter = an_adapter(db, model)
    (registry.folder(adapter) / "adapter_model.safetensors").write_bytes(b"another's")
    found = answerer.start()
    assert (
        "not those that were trained" in refused(ask(found, question(model, "", adapter))).message
    )
    assert text(ask(found, question(model))) == "0 1 2 "


def test_an_adapter_deleted_in_use_ends_its_answer_and_leaves_memory(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    adapter = an_adapter(db, model)
    found = answerer.start()

    async def scene() -> None:
        tuned = asyncio.create_task(hear(found, question(model, "words=900 pause=0.1", adapter)))
        base = asyncio.create_task(hear(found, question(model, "words=30 pause=0.1")))
        await until_journal(model, "ask 2 ")
        registry.delete(db, first_user(db), adapter)
        db.commit()
        event = refused(await tuned)
        assert (event.status, event.code) == (404, "model_not_found")
        assert len(text(await base).split()) == 30

    asyncio.run(scene())
    assert f"remove {adapter.id}" in journal(model)


def test_what_looks_answers_up_is_its_starting_model_until_it_is_withdrawn(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    user = first_user(db)
    version = make_dataset_version(db, user=user)
    lookup = lookups.use(db, user, version, model)
    db.commit()
    found = answerer.start()
    assert text(ask(found, question(model, "words=2", lookup))) == "0 1 "
    assert not [line for line in journal(model) if line.startswith("add")]

    async def scene() -> None:
        said = asyncio.create_task(hear(found, question(model, "words=900 pause=0.1", lookup)))
        base = asyncio.create_task(hear(found, question(model, "words=30 pause=0.1")))
        await until_journal(model, "ask 3 ")
        sharing.withdraw(db, user, lookup)
        db.commit()
        event = refused(await said)
        assert (event.status, event.code) == (404, "model_not_found")
        assert len(text(await base).split()) == 30

    asyncio.run(scene())


def test_an_idle_model_is_removed_from_memory(db: Session, answerer: AnswerProcess) -> None:
    model = a_model(db)
    answerer.environment["ETUDE_ANSWER_IDLE_MINUTES"] = "0.02"
    found = answerer.start()
    said = ask(found, question(model, "words=30 pause=0.1"))  # longer than that
    assert len(text(said).split()) == 30
    asyncio.run(until_journal(model, "end"))
    wait_for(db, lambda: not is_running(child_pids(model)[0]))
    wait_for(db, lambda: answering.state(db)[0].models == [])
    assert text(ask(found, question(model, "words=1"))) == "0 "


def test_where_the_parent_is_killed_its_child_ends_and_the_next_start_takes_over(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    found = answerer.start()

    async def killed() -> list[Event]:
        answer = asyncio.create_task(hear(found, question(model, "words=900 pause=0.1")))
        await until_journal(model, "ask 1 ")
        assert answerer.process is not None
        answerer.process.kill()
        answerer.process.wait()
        return await answer

    assert "broke off" in refused(asyncio.run(killed())).message
    wait_for(db, lambda: not is_running(child_pids(model)[0]), seconds=5)
    event = refused(ask(found, question(model)))
    assert event.status == http.HTTPStatus.SERVICE_UNAVAILABLE
    wait_for(db, lambda: answerer.alive() is None)  # the lease runs out
    with pytest.raises(Unavailable, match="No process answers"):
        answering.find(db)
    anew = answerer.start()
    assert anew.secret != found.secret
    assert text(ask(anew, question(model))) == "0 1 2 "
    db.rollback()
    assert db.query(Answerer).one().attempt == 2


def test_one_that_was_held_up_does_not_take_its_name_back(
    db: Session, answerer: AnswerProcess
) -> None:
    answerer.start()
    old = answerer.process
    assert old is not None
    os.kill(old.pid, signal.SIGSTOP)
    found = answerer.start()
    os.kill(old.pid, signal.SIGCONT)
    assert old.wait(patience.seconds(20)) == 0
    assert answering.find(db) == found


def test_one_held_up_amid_its_transaction_lets_the_next_have_its_name(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_LINE_LOCK_SECONDS", "0.3")
    settings.get.cache_clear()
    with database.session() as stopped:
        old = answering.claim(stopped, "answer-0@here", "one:1", "s1")
        stopped.commit()
        answering.renew(stopped, old, answering.AnswererState())
        new = answering.claim(db, "answer-0@here", "two:2", "s2")  # waits for the row's lock
        db.commit()
        assert answering.find(db).address == "two:2"
        with pytest.raises(DBAPIError):
            stopped.commit()
    with pytest.raises(LeaseLost):
        answering.renew(db, old, answering.AnswererState())
    db.rollback()
    answering.renew(db, new, answering.AnswererState())


def test_told_to_stop_it_says_so_to_those_whom_it_answers(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    found = answerer.start()

    async def scene() -> list[Event]:
        answer = asyncio.create_task(hear(found, question(model, "words=900 pause=0.1")))
        await until_journal(model, "ask 1 ")
        os.kill(answerer.pid, signal.SIGTERM)
        return await answer

    assert "restarted" in refused(asyncio.run(scene())).message
    assert answerer.process is not None
    assert answerer.process.wait(patience.seconds(20)) == 0
    assert not is_running(child_pids(model)[0])
    assert answerer.alive() is None


def test_many_at_once_are_answered_or_told_to_come_back(
    db: Session, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    found = answerer.start()

    async def scene() -> list[list[Event]]:
        asked = [hear(found, question(model, "words=5", account=f"a{n % 7}")) for n in range(300)]
        return await asyncio.gather(*asked)

    ends = [events[-1] for events in asyncio.run(scene())]
    answered = [event for event in ends if event.kind == "done"]
    turned_away = [event for event in ends if isinstance(event, Refused)]
    assert len(answered) + len(turned_away) == 300
    assert {event.status for event in turned_away} <= {429}
    assert len(answered) >= 32


def test_a_reader_that_leaves_early_closes_the_connection(
    db: Session, answerer: AnswerProcess
) -> None:
    """`ask` is an iterator that a web request drops where its client goes."""
    model = a_model(db)
    found = answerer.start()

    async def scene() -> None:
        asked = answering.ask(found.address, found.secret, question(model, "words=900 pause=0.1"))
        async with aclosing(asked) as events:
            async for event in events:
                if event.kind == "piece":
                    break
        await until_journal(model, "stop 1", seconds=1)

    asyncio.run(scene())


def test_of_two_processes_the_one_that_has_the_model_is_found(db: Session) -> None:
    one = answering.claim(db, "answer-0@one", "one:1", "s1")
    two = answering.claim(db, "answer-0@two", "two:2", "s2")
    loaded = answering.LoadedModel(base_model_id=7, label="", engine="llama.cpp", device="cpu")
    answering.renew(db, one, answering.AnswererState(num_waiting=3))
    answering.renew(db, two, answering.AnswererState(num_waiting=5, models=[loaded]))
    assert answering.find(db, 7).address == "two:2"
    assert answering.find(db, 8).address == "one:1"
    answering.release(db, one)
    assert answering.find(db, 8).address == "two:2"
    db.execute(update(Answerer).values(lease_until=None))
    with pytest.raises(Unavailable):
        answering.find(db)
