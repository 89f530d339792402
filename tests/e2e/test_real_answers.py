"""The starter model answers through /v1 and on the page: real web, real child, llama.cpp."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import openai
import pytest
from openai import OpenAI
from playwright.sync_api import Browser, Locator, Page, expect

from app.core.models import Release
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from app.people import auth
from app.training.chat import ChatFormat
from tests import factories, patience
from tests.e2e.real_house import FACT, RealHouse, ask, real_house, user, words
from tests.up import still_there

pytestmark = pytest.mark.timeout(400)
T = TypeVar("T")
TUNED, BASE = "Your trained model", "Before training"
LETTERS = "Repeat exactly: Grüße 👩‍🚀🥦 Äpfel über Öl ✓ 日本語"


@pytest.fixture(scope="module")
def house(
    postgres: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealHouse]:
    with real_house(postgres, valkey, tmp_path_factory.mktemp("real")) as made:
        yield made


@pytest.fixture(scope="module")
def api(house: RealHouse) -> Iterator[OpenAI]:
    with house.client() as client:
        yield client


def joined(stream: Any, index: int = 0) -> str:
    return "".join(
        choice.delta.content or ""
        for chunk in stream
        for choice in chunk.choices
        if choice.index == index
    )


def test_a_stream_says_what_the_plain_answer_says(house: RealHouse, api: OpenAI) -> None:
    whole = ask(api, house)
    chunks = list(ask(api, house, stream=True, stream_options={"include_usage": True}))
    assert joined(chunks) == words(whole)
    assert len(chunks) > 12  # word by word
    assert {(c.id, c.model, c.created) for c in chunks} == {
        (chunks[0].id, house.model.name, chunks[0].created)
    }
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert not any(reasons[:-1])
    usage = chunks[-1].usage
    assert usage.completion_tokens == whole.usage.completion_tokens
    template = ChatFormat.load(house.data_dir / "models" / "starter")
    num_prompt = len(template.encode_prompt(user(FACT)))
    assert usage.prompt_tokens == whole.usage.prompt_tokens == num_prompt


def test_letters_of_several_bytes_are_whole_at_every_limit(house: RealHouse, api: OpenAI) -> None:
    long = words(ask(api, house, LETTERS, max_tokens=20))
    seen = set()
    for limit in range(1, 21):
        completion = ask(api, house, LETTERS, max_tokens=limit, logprobs=True, top_logprobs=1)
        [choice] = completion.choices
        text = choice.message.content
        assert long.startswith(text)
        assert "\ufffd" not in text
        if choice.finish_reason == "length":
            assert completion.usage.completion_tokens == limit
        spelled = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
        assert spelled.decode() == text
        seen.add(text)
    assert len(seen) > 5


def test_a_stop_word_over_two_pieces_is_found(house: RealHouse, api: OpenAI) -> None:
    completion = ask(api, house, logprobs=True)
    pieces = [token.token for token in completion.choices[0].logprobs.content]
    text = words(completion)
    # The end of one token and the beginning of the next.
    number = next(i for i in range(2, len(pieces)) if len(pieces[i]) > 2 and len(pieces[i + 1]) > 2)
    stop = pieces[number][-2:] + pieces[number + 1][:2]
    cut = ask(api, house, stop=[stop, "never said"], logprobs=True)
    assert words(cut) == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert "".join(t.token for t in cut.choices[0].logprobs.content) == words(cut)
    chunks = list(ask(api, house, stop=stop, logprobs=True, stream=True))
    assert joined(chunks) == words(cut)
    told = [c.choices[0].logprobs for c in chunks if c.choices and c.choices[0].logprobs]
    assert "".join(t.token for one in told for t in one.content) == words(cut)
    # What was held back because it might have become one is given out.
    assert words(ask(api, house, stop=text[-3:] + "never")) == text
    at_once = ask(api, house, stop=text[:1])
    assert words(at_once) == ""
    assert at_once.choices[0].finish_reason == "stop"


def test_several_answers_with_a_seed_are_the_same_again(house: RealHouse, api: OpenAI) -> None:
    given: dict[str, Any] = {"n": 3, "seed": 7, "temperature": 1.2, "max_tokens": 6}
    first, second = (ask(api, house, "Say something.", **given) for _ in range(2))
    said = [choice.message.content for choice in first.choices]
    assert said == [choice.message.content for choice in second.choices]
    assert len(set(said)) == 3
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    streamed = list(ask(api, house, "Say something.", stream=True, **given))
    assert [joined(streamed, index) for index in range(3)] == said
    other = ask(api, house, "Say something.", **{**given, "seed": 8})
    assert [choice.message.content for choice in other.choices] != said
    alone = ask(api, house, "Say something.", **{**given, "n": 1})
    assert words(alone) == said[0]


def test_logprobs_are_the_models_own_and_finite(house: RealHouse, api: OpenAI) -> None:
    plain = ask(api, house, logprobs=True, top_logprobs=20, max_tokens=4)
    hot = ask(api, house, logprobs=True, top_logprobs=20, max_tokens=4, temperature=2, seed=3)
    first, other = plain.choices[0].logprobs.content[0], hot.choices[0].logprobs.content[0]
    assert {t.token: t.logprob for t in first.top_logprobs} == {
        t.token: t.logprob for t in other.top_logprobs
    }
    for token in (*plain.choices[0].logprobs.content, *hot.choices[0].logprobs.content):
        assert len(token.top_logprobs) == 20
        assert all(-9999 <= one.logprob <= 0 for one in (token, *token.top_logprobs))
        logprobs = [one.logprob for one in token.top_logprobs]
        assert logprobs == sorted(logprobs, reverse=True)
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    kept = ask(
        api, house, logprobs=True, top_logprobs=20, response_format=schema_of(schema), max_tokens=40
    )
    assert all(token.logprob >= -9999 for token in kept.choices[0].logprobs.content)


def schema_of(schema: dict[str, Any]) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def test_json_and_schemas_are_kept(house: RealHouse, api: OpenAI) -> None:
    completion = ask(
        api, house, "Give an empty JSON object.", response_format={"type": "json_object"}
    )
    assert words(completion).startswith("{")
    if completion.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(words(completion)), dict)
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "number": {"type": "integer", "minimum": 0, "maximum": 99},
            "kind": {"enum": ["big", "small"]},
        },
        "required": ["city", "number", "kind"],
        "additionalProperties": False,
    }
    for name in (house.model.name, house.adapter.public_name):
        completion = ask(
            api, house, model=name, response_format=schema_of(schema), max_tokens=60, temperature=1
        )
        found = json.loads(words(completion))
        assert set(found) == {"city", "number", "kind"}
        assert 0 <= found["number"] <= 99
        assert found["kind"] in ("big", "small")
    for impossible in (
        {"type": "object", "properties": {"a": {"not": {"type": "string"}}}},
        {"type": "string", "pattern": "(a)\\1"},
        {"type": "nothing"},
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(api, house, response_format=schema_of(impossible))
        assert (refused.value.param or "").startswith("response_format")


def test_what_does_not_fit_is_refused_and_a_full_context_says_length(
    house: RealHouse, api: OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(api, house, "long " * 9000)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as refused:
        ask(api, house, max_tokens=4096)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as refused:
        ask(api, house, max_tokens=4000, messages=user("long " * 200))
    assert refused.value.code == "context_length_exceeded"
    short = factories.make_base_model(house.db, name="house/short", folder="starter")
    short.manifest_sha256 = house.model.manifest_sha256
    short.config = {**(house.model.config or {}), "max_position_embeddings": 96}
    house.db.commit()
    for streams in (False, True):
        full = ask(
            api, house, "Count to a thousand.", model=short.name, max_tokens=None, stream=streams
        )
        if streams:
            reasons = [choice.finish_reason for chunk in full for choice in chunk.choices]
            assert reasons[-1] == "length"
        else:
            assert full.usage.total_tokens == 96
            assert full.choices[0].finish_reason == "length"
    with pytest.raises(openai.NotFoundError) as missing:
        ask(api, house, model="house/none")
    assert missing.value.code == "model_not_found"


def test_a_second_question_reads_little_and_says_the_same_as_read_anew(
    house: RealHouse, api: OpenAI
) -> None:
    talk = user("Tell me about the sea. " * 12)
    first = ask(api, house, messages=talk, max_tokens=30)
    talk += [{"role": "assistant", "content": words(first)}, *user("And about rivers?")]
    cached = ask(api, house, messages=talk, max_tokens=30)
    known = cached.usage.prompt_tokens_details.cached_tokens
    assert known > 0
    assert cached.usage.prompt_tokens - known < 128
    with house.client(factories.make_user(house.db)) as stranger:
        theirs = ask(stranger, house, messages=talk, max_tokens=30)
    assert theirs.usage.prompt_tokens_details.cached_tokens == 0
    assert words(theirs) == words(cached)
    tuned = ask(api, house, messages=talk, max_tokens=30, model=house.adapter.public_name)
    assert tuned.usage.prompt_tokens_details.cached_tokens == 0
    house.fresh_child()
    anew = ask(api, house, messages=talk, max_tokens=30)
    assert anew.usage.prompt_tokens_details.cached_tokens == 0
    assert words(anew) == words(cached)


@pytest.mark.parametrize("num", [8, pytest.param(40, marks=pytest.mark.long)])
def test_many_at_once_over_two_models_say_what_each_says_alone(house: RealHouse, num: int) -> None:
    names = (house.model.name, house.adapter.public_name)
    questions = [(names[i % 2], f"Tell me about the number {i // 2 + 3}.") for i in range(num)]

    async def one(client: openai.AsyncOpenAI, name: str, text: str) -> Any:
        return await client.chat.completions.create(
            model=name,
            messages=user(text),
            temperature=0,
            max_tokens=12,
            logprobs=True,
            top_logprobs=2,
        )

    async def all_of_them() -> tuple[list[Any], list[Any]]:
        async with house.async_client() as client:
            alone = [await one(client, *each) for each in questions]
            company = await asyncio.gather(*(one(client, *each) for each in questions))
            return alone, company

    alone, company = apart(all_of_them())
    different = [
        (mine, other)
        for mine, other in zip(alone, company, strict=True)
        if words(mine) != words(other)
    ]
    assert len(different) <= num // 5
    for mine, other in different:
        assert_near(mine, other)
    pairs = zip(alone[::2], alone[1::2], strict=True)
    # Or nothing would have been proved of the adapter.
    assert sum(words(base) == words(tuned) for base, tuned in pairs) < num // 2


def assert_near(mine: Any, other: Any) -> None:
    """Two answers part where two words were nearly as likely."""
    tokens = zip(mine.choices[0].logprobs.content, other.choices[0].logprobs.content, strict=False)
    parted = next(a for a, b in tokens if a.token != b.token)
    first, second = parted.top_logprobs
    assert first.logprob - second.logprob < 0.25


def test_the_async_client_streams_the_same(house: RealHouse, api: OpenAI) -> None:
    async def streamed() -> str:
        async with house.async_client() as client:
            stream = await client.chat.completions.create(
                model=house.model.name,
                messages=user(FACT),
                temperature=0,
                max_tokens=24,
                stream=True,
            )
            return joined([chunk async for chunk in stream])

    assert apart(streamed()) == words(ask(api, house))


def apart(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a thread: Playwright may have left a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


# Nobody ends such an answer early.
LONG = {
    "type": "json_schema",
    "json_schema": {
        "name": "numbers",
        "schema": {
            "type": "object",
            "properties": {
                "numbers": {"type": "array", "items": {"type": "integer"}, "minItems": 500}
            },
            "required": ["numbers"],
            "additionalProperties": False,
        },
    },
}


def test_a_client_that_goes_frees_its_slot(house: RealHouse, api: OpenAI) -> None:
    for streams in (True, False):
        if streams:
            with ask(api, house, max_tokens=3000, response_format=LONG, stream=True) as stream:
                next(iter(stream))
                house.wait_for(lambda: house.num_running() == 1)
        else:
            with pytest.raises(openai.APITimeoutError):
                ask(api, house, max_tokens=3000, response_format=LONG, timeout=1)
        left = time.monotonic()
        house.wait_for(lambda: house.num_running() == 0)
        assert time.monotonic() - left < patience.seconds(1)


def test_an_adapter_that_goes_ends_its_answers(house: RealHouse, api: OpenAI) -> None:
    # However little it has to say, it goes on until the schema is kept.
    text = {"type": "string", "minLength": 1500}
    schema = {"type": "object", "properties": {"text": text}, "required": ["text"]}
    long = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
    for withdrawn in (True, False):
        adapter = house.add_adapter()
        stream = ask(
            api,
            house,
            "Count to a thousand.",
            model=adapter.public_name,
            max_tokens=3000,
            response_format=long,
            stream=True,
        )
        next(iter(stream))
        if withdrawn:
            adapter.release = Release.WITHDRAWN
        else:
            house.db.delete(adapter)
        house.db.commit()
        with pytest.raises(openai.APIError) as amid:
            list(stream)
        assert amid.value.code == "model_not_found"
        assert "deleted or withdrawn" in amid.value.message
        with pytest.raises((openai.NotFoundError, openai.PermissionDeniedError)):
            ask(api, house, model=adapter.public_name)
    house.wait_for(lambda: house.num_running() == 0)
    assert words(ask(api, house))


def test_a_child_and_a_parent_that_are_killed_amid_an_answer(house: RealHouse, api: OpenAI) -> None:
    before = words(ask(api, house))
    [child] = house.children()
    stream = ask(api, house, "Count to a thousand.", max_tokens=3000, stream=True)
    next(iter(stream))
    os.kill(child, signal.SIGKILL)
    with pytest.raises(openai.APIError) as amid:
        list(stream)
    assert isinstance(amid.value.code, str)
    assert words(ask(api, house)) == before
    stream = ask(api, house, "Count to a thousand.", max_tokens=3000, stream=True)
    next(iter(stream))
    [child] = house.children()
    os.kill(house.answerer.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(stream)
    assert still_there({child: "child"}, seconds=5) == {}
    # An abort would leave a core with people's words.
    assert "Traceback" not in house.answerer.log.read_text()
    assert "Fatal" not in house.answerer.log.read_text()
    house.answerer.end()
    house.answerer.start()
    assert words(ask(api, house)) == before


@pytest.mark.browser
def test_both_models_answer_on_the_page(house: RealHouse, browser: Browser) -> None:
    context = browser.new_context(locale="en-US")
    cookie = auth.open_session(house.db, house.user)
    house.db.commit()
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": house.address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(60))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{house.address}/adapters/{house.adapter.id}/ask")
    say(page, "Name the capital of France.")
    for label in (TUNED, BASE):
        expect(bubble(page, label).get_by_role("button", name="Good", exact=True)).to_be_visible()
        expect(bubble(page, label)).not_to_contain_text("<|")
    before = [bubble(page, label).locator("[data-words]").inner_text() for label in (TUNED, BASE)]
    page.reload()
    for label, text in zip((TUNED, BASE), before, strict=True):
        expect(bubble(page, label).locator("[data-words]")).to_have_text(text)
    say(page, "Write a very long story about each of its streets.")
    expect(page.locator("[data-turn]")).to_have_count(2)
    for label in (TUNED, BASE):
        expect(bubble(page, label).locator("[data-words]")).to_contain_text(re.compile(r"\w+ \w"))
    page.keyboard.press("Escape")
    for label in (TUNED, BASE):
        expect(bubble(page, label)).to_contain_text("You stopped this answer.")
    house.wait_for(lambda: house.num_running() == 0, 1)
    context.close()
    assert problems == []


def say(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


def bubble(page: Page, label: str) -> Locator:
    return page.locator("[data-turn]").last.get_by_label(label, exact=True)
