"""/v1/chat/completions with the official client: answered whole and as a stream."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import BaseModel, User
from app.training.answers import (
    AnswerRequest,
    Begun,
    Ended,
    Event,
    Likelihood,
    Piece,
    Refused,
    TokenLogprob,
    Waiting,
)
from tests import patience
from tests.app.web.v1.stand_in_answerer import DONE, StandIn, says, tells
from tests.app.web.v1.test_errors import body_of

ASKED: list[Any] = [{"role": "user", "content": "What is rule 7?"}]
BEGUN = Begun(prompt_tokens=11, cached_tokens=0)


def whole(api: OpenAI, **given: Any) -> Any:
    return api.chat.completions.create(**{"model": "house/tiny", "messages": ASKED, **given})


def chunks(api: OpenAI, **given: Any) -> list[ChatCompletionChunk]:
    return list(whole(api, stream=True, **given))


def said(stream: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(
        choice.delta.content or ""
        for chunk in stream
        for choice in chunk.choices
        if choice.index == index
    )


def send(api: OpenAI, body: object, **headers: str) -> httpx2.Response:
    given = {"authorization": f"Bearer {api.api_key}", "content-type": "application/json"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(
        f"{str(api.base_url).rstrip('/')}/chat/completions",
        headers=given | headers,
        content=content,
        timeout=patience.seconds(20),
    )


@contextmanager
def asking(api: OpenAI, address: str, stream: bool) -> Iterator[socket.socket]:
    """Ask over a connection of one's own, which is closed at the end, whatever was read of it."""
    body = json.dumps({"model": "house/tiny", "messages": ASKED, "stream": stream}).encode()
    host, _, port = address.removeprefix("http://").partition(":")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {api.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as line:
        line.sendall(head.encode() + body)
        yield line


def test_a_question_is_answered(api: OpenAI, model: BaseModel, answerer: StandIn) -> None:
    answerer.script = says("Wash", " your hands", ".", cached=4)
    completion = whole(api)
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.model) == ("chat.completion", "house/tiny")
    [choice] = completion.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content) == ("assistant", "Wash your hands.")
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (11, 3, 14)
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert completion._request_id
    asked = answerer.asked
    assert (asked.base_model_id, asked.adapter_id) == (model.id, None)
    assert asked.messages == ASKED
    # OpenAI's own, where nothing is said
    assert (asked.limits.temperature, asked.limits.max_new_tokens) == (1, None)


def test_a_stream_says_the_same_in_the_order_that_clients_expect(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    answerer.script = says("Gr", "üße", " 🙂", "\n\n", "  end ")
    stream = chunks(api)
    assert said(stream) == whole(api).choices[0].message.content == "Grüße 🙂\n\n  end "
    assert len({(one.id, one.model, one.created, one.object) for one in stream}) == 1
    first, *middle, last = stream
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert all(one.choices[0].delta.role is None for one in [*middle, last])
    assert [one.choices[0].finish_reason for one in stream] == [None] * 6 + ["stop"]
    assert all(one.usage is None for one in stream)
    assert last.choices[0].delta.content is None


def test_the_lines_of_a_stream(api: OpenAI, model: BaseModel, answerer: StandIn) -> None:
    response = send(api, {"model": "house/tiny", "messages": ASKED, "stream": True})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"]
    assert "access-control-allow-origin" not in response.headers
    lines = response.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert response.text.count("[DONE]") == 1
    shown = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert all("usage" not in chunk for chunk in shown)


def test_usage_comes_last_and_only_when_asked_for(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    *before, last = chunks(api, n=2, stream_options={"include_usage": True})
    assert all(one.usage is None and one.choices for one in before)
    assert last.choices == []
    assert last.usage is not None
    # of all answers
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (11, 6)
    assert whole(api, n=2).usage.completion_tokens == 6


def test_several_answers_are_told_apart(api: OpenAI, model: BaseModel, answerer: StandIn) -> None:
    async def script(request: AnswerRequest) -> AsyncIterator[Event]:
        assert request.num_answers == 3
        yield BEGUN
        for index, text in [(2, "c"), (0, "a"), (1, "b"), (0, "A"), (2, "C")]:
            yield Piece(index=index, text=text)
        yield Ended(index=1, reason="length", completion_tokens=1)
        yield Piece(index=0, text="!")
        for index in (2, 0):
            yield Ended(index=index, reason="stop", completion_tokens=2)
        yield DONE

    answerer.script = script
    choices = whole(api, n=3).choices
    assert [(one.index, one.message.content) for one in choices] == [
        (0, "aA!"),
        (1, "b"),
        (2, "cC"),
    ]
    assert [one.finish_reason for one in choices] == ["stop", "length", "stop"]
    stream = chunks(api, n=3)
    assert [said(stream, index) for index in range(3)] == ["aA!", "b", "cC"]
    for index in range(3):
        mine = [c for one in stream for c in one.choices if c.index == index]
        assert mine[0].delta.role == "assistant"
        assert [c.finish_reason for c in mine if c.finish_reason] == [choices[index].finish_reason]


def test_a_stop_at_once_is_an_empty_text(api: OpenAI, model: BaseModel, answerer: StandIn) -> None:
    answerer.script = says()
    assert whole(api).choices[0].message.content == ""
    stream = chunks(api)
    assert said(stream) == ""
    assert stream[-1].choices[0].finish_reason == "stop"


def test_the_limit_is_told_as_length(api: OpenAI, model: BaseModel, answerer: StandIn) -> None:
    answerer.script = says("On and on", reason="length")
    assert whole(api, max_tokens=1).choices[0].finish_reason == "length"
    assert chunks(api, max_tokens=1)[-1].choices[0].finish_reason == "length"


def test_logprobs_spell_the_answer_in_streams_too(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    def token(text: str, logprob: float) -> TokenLogprob:
        other = Likelihood(token="x", bytes=[120], logprob=-20_000)
        return TokenLogprob(token=text, bytes=list(text.encode()), logprob=logprob, top=[other])

    answerer.script = tells(
        BEGUN,
        Piece(index=0, text="Grü", logprobs=[token("Gr", -0.5), token("ü", -1.5)]),
        Piece(index=0, text="", logprobs=[token("", -0.1)]),
        Piece(index=0, text="n", logprobs=[token("n", -0.25)]),
        Ended(index=0, reason="stop", completion_tokens=4),
        DONE,
    )
    [choice] = whole(api, logprobs=True, top_logprobs=1).choices
    assert answerer.asked.limits.top_logprobs == 1
    tokens = choice.logprobs.content
    assert [one.logprob for one in tokens] == [-0.5, -1.5, -0.1, -0.25]
    assert b"".join(bytes(one.bytes) for one in tokens).decode() == choice.message.content == "Grün"
    assert (tokens[0].top_logprobs[0].token, tokens[0].top_logprobs[0].logprob) == ("x", -9999)
    streamed = [
        one
        for chunk in chunks(api, logprobs=True, top_logprobs=1)
        if chunk.choices[0].logprobs
        for one in chunk.choices[0].logprobs.content or ()
    ]
    assert streamed == tokens
    assert whole(api).choices[0].logprobs is None
    assert answerer.asked.limits.top_logprobs is None


def test_what_fails_before_the_first_word_is_an_http_error(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    full = Refused(
        status=429, code="queue_full", message="32 others wait.", retry_after_seconds=2.4
    )
    too_long = Refused(
        status=400, code="context_length_exceeded", message="Too long.", param="messages"
    )
    late = (Waiting(place=1), BEGUN, Refused(status=503, code="unavailable", message="It died."))
    for events, status, code, param in (
        ((full,), 429, "queue_full", None),
        ((Waiting(place=3, doing="loading"), too_long), 400, "context_length_exceeded", "messages"),
        (late, 503, "unavailable", None),
        ((BEGUN,), 503, "unavailable", None),  # and then nothing more
    ):
        answerer.script = tells(*events)
        for stream in (False, True):
            body = {"model": "house/tiny", "messages": ASKED, "stream": stream}
            response = send(api, body)
            assert response.status_code == status
            assert response.headers["content-type"] == "application/json"
            error = body_of(response)
            assert (error["code"], error["param"]) == (code, param)
            if status == 429:
                assert response.headers["retry-after"] == "3"
                assert error["type"] == "rate_limit_error"


def test_what_fails_amid_the_words_is_an_error_in_the_stream(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    for last in ([Refused(status=503, code="unavailable", message="It died.")], []):
        answerer.script = tells(BEGUN, Piece(index=0, text="Wash"), *last)
        words = []
        with pytest.raises(openai.APIError) as raised:
            for chunk in whole(api, stream=True):
                words.append(chunk.choices[0].delta.content)
        assert words == ["", "Wash"]
        assert raised.value.code == "unavailable"
        with pytest.raises(openai.InternalServerError):
            whole(api)
        response = send(api, {"model": "house/tiny", "messages": ASKED, "stream": True})
        assert "[DONE]" not in response.text
        assert 'finish_reason":"' not in response.text


def test_nobody_answers(api: OpenAI, model: BaseModel) -> None:
    response = send(api, {"model": "house/tiny", "messages": ASKED})
    assert (response.status_code, body_of(response)["code"]) == (503, "not_answering")
    assert response.headers["retry-after"]


async def _endless(_: AnswerRequest) -> AsyncIterator[Event]:
    yield BEGUN
    while True:
        yield Piece(index=0, text="word ")
        await asyncio.sleep(0.02)


async def _silent(_: AnswerRequest) -> AsyncIterator[Event]:
    yield Waiting(place=1)
    await asyncio.sleep(3600)
    yield BEGUN


async def _mute(_: AnswerRequest) -> AsyncIterator[Event]:
    yield BEGUN
    yield Piece(index=0, text="One word.")
    await asyncio.sleep(3600)


def test_a_client_that_goes_ends_its_stream(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    for script in (_endless, _mute):
        answerer.script = script
        with whole(api, stream=True) as stream:
            assert next(iter(stream))
        left = time.monotonic()
        talk = answerer.await_end(1)
        assert talk.ended_at is not None
        assert talk.ended_at - left < patience.seconds(1)


def test_a_client_that_goes_ends_its_plain_request_too(
    api: OpenAI, address: str, model: BaseModel, answerer: StandIn
) -> None:
    for script, stream in ((_endless, False), (_silent, False), (_silent, True)):
        answerer.script = script
        num_talks = len(answerer.talks)
        with asking(api, address, stream=stream):
            answerer.await_talk(num_talks + 1, 20)
        answerer.await_end(1)


def test_a_reader_who_does_not_read_is_bounded_and_closed(
    api: OpenAI, address: str, model: BaseModel, answerer: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings.get(), "answer_reader_seconds", 0.5)
    letter = "x" * 50_000

    async def flood(_: AnswerRequest) -> AsyncIterator[Event]:
        yield BEGUN
        while True:
            yield Piece(index=0, text=letter)

    answerer.script = flood
    with asking(api, address, stream=True) as line:
        talk = answerer.await_end(20)
        assert talk.num_sent < 1000  # 50 MB: what the machine's sockets hold, and no more
        line.settimeout(patience.seconds(20))
        received = bytearray()
        while piece := line.recv(1_000_000):
            received += piece
    assert b"[DONE]" not in received


def test_the_async_client(
    api: OpenAI, address: str, model: BaseModel, answerer: StandIn, user: User
) -> None:
    async def ask() -> tuple[Any, str, int]:
        async with AsyncOpenAI(
            base_url=f"{address}/v1", api_key=api.api_key, max_retries=0
        ) as client:
            given: dict[str, Any] = {"model": "house/tiny", "messages": ASKED}
            text = ""
            async for chunk in await client.chat.completions.create(**given, stream=True):
                text += chunk.choices[0].delta.content or ""
            completion = await client.chat.completions.create(**given)
            together = await asyncio.gather(
                *(client.chat.completions.create(**given) for _ in range(20))
            )
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(**given | {"model": "house/none"})
            return completion, text, len({one.id for one in together})

    completion, text, num_ids = asyncio.run(ask())
    assert completion.choices[0].message.content == text == "Hello there."
    assert num_ids == 20
    assert {talk.request.account for talk in answerer.talks} == {f"user-{user.id}"}


def test_the_clients_own_stream_helper_reads_it(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    with api.chat.completions.stream(model="house/tiny", messages=ASKED) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello there."
    assert final.choices[0].finish_reason == "stop"
    # and what it made of it can be sent back, with all fields that it added
    sent_back: Any = final.choices[0].message.model_dump()
    assert "parsed" in sent_back
    assert whole(api, messages=[*ASKED, sent_back, *ASKED]).choices


def test_no_body_is_read_of_somebody_without_a_token(address: str, db: Session) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    for path in ("chat/completions", "fine_tuning/jobs", "files", "uploads", "nothing"):
        for token in ("", "Authorization: Bearer etude-wrong\r\n"):
            with socket.create_connection((host, int(port))) as line:
                line.settimeout(patience.seconds(10))
                # Not a byte of the body is sent: whoever waited for it would wait for ever.
                line.sendall(
                    f"POST /v1/{path} HTTP/1.1\r\nHost: {host}\r\n{token}"
                    "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode()
                )
                head = line.recv(65536).decode()
            assert head.startswith("HTTP/1.1 401 ")
            assert "www-authenticate: Bearer" in head
            assert "x-request-id" in head
