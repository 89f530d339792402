"""`etude ask`: words that come through, and whatever comes instead."""

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.orm import Session

from app.core.models import Adapter, BaseModel, User
from app.training.answers import AnswerRequest, Begun, Event, Piece, Refused
from tests import factories, patience, warm
from tests.app.web.v1.stand_in_answerer import StandIn, says, tells
from tests.ops.command_line.conftest import Etude, command


async def without_end(_: AnswerRequest) -> AsyncIterator[Event]:
    yield Begun(prompt_tokens=5, cached_tokens=0)
    while True:
        yield Piece(index=0, text="word ")
        await asyncio.sleep(0.01)


def test_words_are_printed_and_nothing_else(
    etude: Etude, answerer: StandIn, adapter: Adapter
) -> None:
    done = etude("ask", adapter.public_name, "Where is the tea?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello there.\n", "")
    asked = answerer.asked
    assert asked.adapter_id == adapter.id
    assert asked.messages[-1] == {"role": "user", "content": "Where is the tea?"}
    assert (asked.limits.temperature, asked.limits.max_new_tokens) == (0, 1024)


def test_what_looks_answers_up_is_asked_as_a_trained_model_is(
    etude: Etude, answerer: StandIn, db: Session, user: User, model: BaseModel
) -> None:
    lookup = factories.make_lookup(db, user=user)
    done = etude("ask", str(lookup.id), "What is rule 7?", "--base")
    assert (done.returncode, done.stderr) == (0, "")
    assert "The starting model alone:" in done.stdout
    assert "Looked up in the data:" in done.stdout
    assert answerer.asked.adapter_id == lookup.id
    assert "Rule 7 says: wash your hands." in answerer.asked.messages[-1]["content"]


def test_an_adapter_is_found_by_number_job_and_name(
    etude: Etude, answerer: StandIn, adapter: Adapter
) -> None:
    assert adapter.job is not None
    for called in (str(adapter.id), adapter.job.public_id, "ward QUESTIONS"):
        assert etude("ask", called, "Hm?").stdout == "Hello there.\n"
        assert answerer.asked.adapter_id == adapter.id
    assert etude("ask", "house/tiny", "Hm?").returncode == 0
    assert answerer.asked.adapter_id is None


def test_a_name_that_two_have_is_told_with_both(
    etude: Etude, db: Session, user: User, adapter: Adapter
) -> None:
    other = factories.make_adapter(db, user=user, name="Ward questions")
    db.commit()
    done = etude("ask", "Ward questions", "Hm?")
    assert done.returncode == 1
    assert adapter.public_name in done.stderr
    assert other.public_name in done.stderr
    assert len(done.stderr.splitlines()) == 1
    unknown = etude("ask", "Ward", "Hm?")
    assert "There is no model “Ward” here; there are “Ward questions”" in unknown.stderr


def test_the_model_before_training_stands_beside(
    etude: Etude, answerer: StandIn, adapter: Adapter, model: BaseModel
) -> None:
    done = etude("ask", adapter.public_name, "Hm?", "--base")
    assert done.stdout == "Before training:\nHello there.\n\nTrained model:\nHello there.\n"
    first, second = (talk.request for talk in answerer.talks)
    assert (first.adapter_id, second.adapter_id) == (None, adapter.id)
    assert first.messages == second.messages
    refused = etude("ask", model.name, "Hm?", "--base")
    assert (refused.returncode, "leave --base out" in refused.stderr) == (1, True)


def test_how_to_answer_can_be_said(etude: Etude, answerer: StandIn, adapter: Adapter) -> None:
    options = ("--temperature", "0.7", "--max-tokens", "5", "--system", "Be brief.")
    assert etude("ask", adapter.public_name, "Hm?", *options).returncode == 0
    limits = answerer.asked.limits
    assert (limits.temperature, limits.max_new_tokens) == (0.7, 5)
    assert answerer.asked.messages[0] == {"role": "system", "content": "Be brief."}


def test_a_model_is_told_what_it_was_trained_with(
    etude: Etude, db: Session, answerer: StandIn, adapter: Adapter
) -> None:
    assert adapter.job is not None
    adapter.job.version.mapping = {"columns": [], "system": "You know ward 7."}
    db.commit()
    assert etude("ask", adapter.public_name, "Hm?").returncode == 0
    told = {"role": "system", "content": "You know ward 7."}
    assert answerer.asked.messages[0] == told
    assert etude("ask", adapter.public_name, "Hm?", "--system", "").returncode == 0
    assert [turn["role"] for turn in answerer.asked.messages] == ["user"]


def test_json_is_one_object(etude: Etude, answerer: StandIn, adapter: Adapter) -> None:
    done = etude("ask", adapter.public_name, "Hm?", "--base", "--json")
    said = json.loads(done.stdout)
    assert (said["model"], said["question"]) == (adapter.public_name, "Hm?")
    assert (said["answer"], said["finish_reason"]) == ("Hello there.", "stop")
    assert said["usage"]["completion_tokens"] == 3
    assert said["base"]["answer"] == "Hello there."
    refused = etude("ask", "nobody", "Hm?", "--json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "There is no model “nobody”" in json.loads(refused.stderr)["error"]


def test_a_chat_keeps_its_turns(etude: Etude, answerer: StandIn, adapter: Adapter) -> None:
    done = etude("ask", adapter.public_name, typed="One?\n\nTwo?\n")
    assert (done.returncode, done.stdout) == (0, "Hello there.\nHello there.\n")
    assert [turn["content"] for turn in answerer.asked.messages] == ["One?", "Hello there.", "Two?"]


def test_an_answer_that_is_cut_says_so(etude: Etude, answerer: StandIn, adapter: Adapter) -> None:
    answerer.script = says("On", " and", reason="length")
    done = etude("ask", adapter.public_name, "Hm?")
    assert done.stdout == "On and\n"
    assert "--max-tokens" in done.stderr


def test_escapes_of_a_model_do_not_steer_the_terminal(
    etude: Etude, answerer: StandIn, adapter: Adapter
) -> None:
    answerer.script = says("a\x1b[2Jb", "\x9b31mc\r", "\u202ed\n\te\x07")
    done = etude("ask", adapter.public_name, "Hm?")
    assert done.stdout == "a␛[2Jb�31mc�d\n\te␇\n"
    asked = etude("ask", adapter.public_name, "Hm?", "--json")
    assert json.loads(asked.stdout)["answer"] == "a\x1b[2Jb\x9b31mc\r\u202ed\n\te\x07"
    assert not {"\x1b", "\x9b", "\u202e"} & set(asked.stdout)


def test_what_is_refused_is_one_sentence(etude: Etude, answerer: StandIn, adapter: Adapter) -> None:
    answerer.script = tells(
        Refused(status=400, code="context_length_exceeded", message="This is too long: \x1b[1m.")
    )
    done = etude("ask", adapter.public_name, "Hm?")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "etude: This is too long: ␛[1m.\n"


def test_an_answer_that_breaks_off_fails(etude: Etude, answerer: StandIn, adapter: Adapter) -> None:
    answerer.script = tells(Begun(prompt_tokens=5, cached_tokens=0), Piece(index=0, text="One"))
    done = etude("ask", adapter.public_name, "Hm?")
    assert (done.returncode, done.stdout) == (1, "One")
    assert "broke off" in done.stderr


@pytest.mark.parametrize("arguments", [["Hm?"], ["Hm?", "--json"], []])
def test_ctrl_c_stops_the_model(
    environment: dict[str, str], answerer: StandIn, adapter: Adapter, arguments: list[str]
) -> None:
    answerer.script = without_end
    process = warm.Popen(
        command("ask", adapter.public_name, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin is not None
    if not arguments:
        process.stdin.write(b"Hm?\n")
        process.stdin.flush()
    deadline = time.monotonic() + patience.seconds(60)
    while not (answerer.talks and answerer.talks[-1].num_sent > 5):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=patience.seconds(60))
    assert process.returncode == 130
    assert b"Traceback" not in complaints
    assert said.startswith(b"word ") is ("--json" not in arguments)
    answerer.await_end(5)


def test_a_reader_that_goes_is_no_trouble(
    environment: dict[str, str], answerer: StandIn, adapter: Adapter
) -> None:
    answerer.script = without_end
    process = warm.Popen(
        command("ask", adapter.public_name, "Hm?"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 5) == b"word "
    process.stdout.close()
    _, complaints = process.communicate(timeout=patience.seconds(60))
    assert (process.returncode, complaints) == (1, b"")
    answerer.await_end(5)


def test_a_terminal_of_another_alphabet_gets_question_marks(
    etude: Etude, answerer: StandIn, adapter: Adapter
) -> None:
    answerer.script = says("Tee: 茶")
    done = etude("ask", adapter.public_name, "Hm?", PYTHONIOENCODING="latin-1")
    assert done.stdout == "Tee: ?\n"


def test_a_chat_on_a_terminal_survives_a_question_that_is_refused(
    environment: dict[str, str], answerer: StandIn, adapter: Adapter
) -> None:
    """Ctrl-D ends it well; what was refused is no turn of it."""
    terminal, its_end = pty.openpty()
    process = warm.Popen(
        command("ask", adapter.public_name),
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env=environment | {"TERM": "dumb"},
    )
    os.close(its_end)

    said = b""

    def await_words(words: bytes) -> None:
        nonlocal said
        while words not in said:
            assert select.select([terminal], [], [], patience.seconds(60))[0], said
            said += os.read(terminal, 1000)
        said = said.partition(words)[2]

    refusal = Refused(status=400, code="context_length_exceeded", message="Too long.")
    try:
        await_words(b"> ")
        answerer.script = tells(refusal)
        os.write(terminal, b"One?\n")
        await_words(b"etude: Too long.")
        await_words(b"> ")
        answerer.script = says("Yes.")
        os.write(terminal, b"Two?\n")
        await_words(b"Yes.")
        await_words(b"> ")
        assert [turn["content"] for turn in answerer.asked.messages] == ["Two?"]
        os.write(terminal, b"\x04")
        assert process.wait(patience.seconds(60)) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
