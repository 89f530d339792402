"""/v1/chat/completions: what is taken, what is passed on, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import completion_create_params
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import Adapter, BaseModel, ExampleKind, Job, JobStatus, ModelStatus, Role, User
from app.training.answers import Begun, Ended, Piece
from tests import factories
from tests.app.web.v1.conftest import connect
from tests.app.web.v1.stand_in_answerer import DONE, StandIn, says, tells
from tests.app.web.v1.test_chat import ASKED, chunks, said, send, whole
from tests.app.web.v1.test_errors import body_of

TEMPLATES = Path(__file__).parents[3] / "worker/trainer/templates"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Say how warm it is.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def ask(api: OpenAI, **given: Any) -> Any:
    """Send a body as it is, so that the client mends nothing."""
    return send(api, {"model": "house/tiny", "messages": ASKED, **given})


def with_template(model: BaseModel, name: str) -> None:
    """Give a model the chat template of a family."""
    assert model.folder
    folder = settings.get().models_dir / model.folder
    folder.mkdir(parents=True, exist_ok=True)
    text = (TEMPLATES / f"{name}.jinja").read_text()
    (folder / "chat_template.jinja").write_text(text)


def make_adapter(db: Session, user: User, model: BaseModel, kind: ExampleKind) -> Adapter:
    version = factories.make_dataset_version(db, user=user, kind=kind)
    job: Job = factories.make_job(
        db, user=user, version=version, base_model=model, status=JobStatus.SUCCEEDED
    )
    adapter = Adapter(
        department_id=user.department_id,
        owner_id=user.id,
        job_id=job.id,
        base_model_id=model.id,
        name="Ward questions",
        public_name=f"ft:house/tiny:ward::{job.public_id[-8:]}",
        storage_key="adapters/test",
        manifest_sha256="3" * 64,
        size_bytes=10,
        metrics={},
        samples=[],
    )
    db.add(adapter)
    db.commit()
    return adapter


def test_an_adapter_is_asked_by_its_name(
    api: OpenAI, db: Session, user: User, model: BaseModel, answerer: StandIn
) -> None:
    adapter = make_adapter(db, user, model, ExampleKind.CHAT)
    completion = whole(api, model=adapter.public_name)
    assert completion.model == adapter.public_name
    assert (answerer.asked.base_model_id, answerer.asked.adapter_id) == (model.id, adapter.id)
    assert chunks(api, model=adapter.public_name)[0].model == adapter.public_name


def test_an_unknown_model_is_answered_by_none(
    api: OpenAI, address: str, db: Session, user: User, model: BaseModel, answerer: StandIn
) -> None:
    name = make_adapter(db, user, model, ExampleKind.CHAT).public_name
    for wrong in ("gpt-4o", "house/tin", "HOUSE/tiny", "", f"{name}x", f"{name}:ckpt-step-5"):
        response = ask(api, model=wrong)
        assert response.status_code == 404
        error = body_of(response)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
    stranger = factories.make_user(db, department=factories.make_department(db))
    with connect(db, address, stranger) as theirs, pytest.raises(openai.NotFoundError) as raised:
        whole(theirs, model=name)
    assert raised.value.code == "model_not_found"
    viewer = factories.make_user(db, role=Role.VIEWER)
    with connect(db, address, viewer) as looking:
        with pytest.raises(openai.PermissionDeniedError):
            whole(looking, model=name)
        assert whole(looking).choices
    assert len(answerer.talks) == 1


def test_a_model_that_is_not_ready_says_so(
    api: OpenAI, db: Session, model: BaseModel, answerer: StandIn
) -> None:
    factories.make_base_model(db, name="house/coming", status=ModelStatus.WAITING, folder=None)
    response = ask(api, model="house/coming")
    assert (response.status_code, body_of(response)["code"]) == (400, "model_not_ready")


def test_every_setting_reaches_what_answers(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    whole(
        api,
        max_completion_tokens=20,
        temperature=0,
        top_p=0.5,
        seed=2**62,
        stop=["a", "b\n", "c", "d"],
        frequency_penalty=-2,
        presence_penalty=1.5,
        n=8,
    )
    limits = answerer.asked.limits
    assert (limits.max_new_tokens, limits.temperature, limits.top_p) == (20, 0, 0.5)
    assert (limits.seed, limits.stop) == (2**62, ["a", "b\n", "c", "d"])
    assert (limits.frequency_penalty, limits.presence_penalty) == (-2, 1.5)
    assert answerer.asked.num_answers == 8
    whole(api, max_tokens=7, stop="END")
    assert (answerer.asked.limits.max_new_tokens, answerer.asked.limits.stop) == (7, ["END"])
    # more than any context holds: the answer ends at the model's
    whole(api, max_tokens=10**15, max_completion_tokens=10**15)
    assert answerer.asked.limits.max_new_tokens == 2**31 - 1


def test_null_is_as_absent(api: OpenAI, model: BaseModel, answerer: StandIn) -> None:
    names = {
        name
        for kind in ("CompletionCreateParamsNonStreaming", "CompletionCreateParamsStreaming")
        for name in getattr(completion_create_params, kind).__annotations__
    }
    nulls = dict.fromkeys(names - {"model", "messages"})
    assert len(nulls) > 30
    whole(api)
    plain = answerer.asked
    response = ask(api, **nulls)
    assert response.status_code == 200, response.text
    assert answerer.asked == plain
    turn = {"role": "user", "content": "What is rule 7?", "name": None, "tool_calls": None}
    assert ask(api, messages=[turn], stream_options=None, response_format=None).status_code == 200
    assert answerer.asked == plain


TAKEN: dict[str, Any] = {
    "user": "ward-7",
    "metadata": {"ward": "7"},
    "store": True,
    "service_tier": "auto",
    "safety_identifier": "a1",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "implicit"},
    "prediction": {"type": "content", "content": "Wash"},
    "parallel_tool_calls": True,
    "modalities": ["text"],
    "logit_bias": {},
    "tools": [],
    "stop": [],
    "response_format": {"type": "text"},
    "stream": False,
}


def test_what_clients_send_along_changes_nothing(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    whole(api)
    plain = answerer.asked
    whole(api, **{k: v for k, v in TAKEN.items() if k != "stream"})
    assert answerer.asked == plain
    assert ask(api, **TAKEN).status_code == 200


UNSUPPORTED: dict[str, Any] = {
    "audio": {"voice": "a", "format": "wav"},
    "modalities": ["text", "audio"],
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "logit_bias": {"5": 100},
    "moderation": {"model": "m"},
    "reasoning_effort": "low",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
}


def test_every_field_of_the_client_is_taken_or_refused_by_name(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    for name, value in UNSUPPORTED.items():
        error = body_of(ask(api, **{name: value}))
        assert (error["code"], str(error["param"]).partition("[")[0]) == ("unsupported", name)
    assert answerer.talks == []


OUT_OF_BOUNDS: dict[str, tuple[Any, ...]] = {
    "max_tokens": (0, -1, "5", 1.5, True, [], {}),
    "max_completion_tokens": (0, -1, "5", 1.5, 5.0, False),
    "temperature": (-0.1, 2.1, "1", True, [1]),
    "top_p": (0, -1, 1.01, "0.5", True),
    "frequency_penalty": (-2.5, 3, "0", True),
    "presence_penalty": (-2.5, 3, "0", {}),
    "seed": (-1, 2**63, 1.5, "5", True, 10**30),
    "n": (0, -1, 9, 1.5, "2", True),
    "logprobs": (1, "true", 0),
    "top_logprobs": (-1, 21, 1.5, "5", True),
    "stream": ("true", 1),
    "stop": ("", 5, True),
    "messages": ([], "Hello", {}, 5),
    "model": (5, ["house/tiny"]),
    "tools": ({}, "weather"),
    "response_format": ("json_object", []),
    "stream_options": ([], "usage"),
    "parallel_tool_calls": ("no", 1),
    "store": ("yes",),
    "metadata": ("ward", []),
    "user": (7,),
}
WRONG: list[tuple[str, Any, str]] = [
    (name, value, name) for name, values in OUT_OF_BOUNDS.items() for value in values
]
WRONG += [
    ("stop", ["a", ""], "stop[1]"),
    ("stop", ["a", None], "stop[1]"),
    ("stop", ["a"] * 5, "stop"),
    ("response_format", {"type": "xml"}, "response_format.type"),
    ("response_format", {"type": "json_schema"}, "response_format.json_schema"),
    ("stream_options", {"include_usage": 1}, "stream_options.include_usage"),
    ("metadata", {"a": 1}, "metadata.a"),
    ("tool_choice", "sometimes", "tool_choice"),
    ("tool_choice", "required", "tool_choice"),
    ("tool_choice", {"type": "function"}, "tool_choice.function"),
    ("top_logprobs", 3, "top_logprobs"),
    ("tools", [{"type": "function"}], "tools[0].function"),
    ("tools", [{"type": "function", "function": {"name": "a b"}}], "tools[0].function.name"),
    ("messages", [{"role": "user"}], "messages[0].content"),
    ("messages", [{"content": "a"}], "messages[0].role"),
    ("messages", ["Hello"], "messages[0]"),
    ("messages", [*ASKED, {"role": "king", "content": "a"}], "messages[1].role"),
    ("messages", [{"role": "user", "content": 5}], "messages[0].content"),
]


def test_what_is_out_of_bounds_is_told_by_its_name(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    for name, value, param in WRONG:
        response = ask(api, **{name: value})
        assert response.status_code == 400, (name, value)
        error = body_of(response)
        assert error["param"] == param, (name, value, error)
        assert error["code"] in ("invalid_value", "missing"), (name, value, error)
        assert error["type"] == "invalid_request_error"
        # none of a library's words
        for word in ("Input should", "valid", "pydantic", "Value error", "discriminator", "tag"):
            assert word not in str(error["message"]), error
    assert answerer.talks == []


def test_unknown_and_misspelt_fields_are_refused_by_name(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    turn = {"role": "user", "content": "a"}
    wrong: list[tuple[dict[str, Any], str]] = [
        *(({name: 1}, name) for name in ("max_token", "temprature", "top_k", "min_p", "grammar")),
        *(({name: 1}, name) for name in ("cache_prompt", "id_slot", "lora", "n_probs", "adapter")),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
        ({"messages": [turn | {"rolle": "user"}]}, "messages[0].rolle"),
        ({"response_format": {"type": "text", "strict": True}}, "response_format.strict"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "b": 1}]}]},
            "messages[0].content[0].b",
        ),
    ]
    for given, param in wrong:
        error = body_of(ask(api, **given))
        assert (error["code"], error["param"]) == ("unknown_parameter", param)
    assert answerer.talks == []


def test_bodies_that_no_client_sends(api: OpenAI, model: BaseModel, answerer: StandIn) -> None:
    head = b'{"model": "house/tiny", "messages": [{"role": "user", "content": "a"}]'
    for body in (
        b"",
        b"null",
        b"[]",
        b'"a"',
        b"{",
        b"\xff\xfe",
        head,
        head + b', "temperature": NaN}',
        head + b', "temperature": 1e999}',
        head + b', "seed": ' + b"9" * 5000 + b"}",
        head + b', "metadata": {"a": "\\ud800"}}',
        head + b', "prediction": ' + b"[" * 500 + b"]" * 500 + b"}",
        head + b', "prediction": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        head + b', "prediction": {"\\udc00": 1}}',
        b'{"model": "house/tiny", "messages": [{"role": "user", "content": "\\ud83d"}]}',
        b'{"model": "\\u0000", "messages": [{"role": "user", "content": "a"}]}',
    ):
        response = send(api, body)
        assert response.status_code == 400, body[:80]
        error = body_of(response)
        assert error["param"] is None or isinstance(error["param"], str)
    assert send(api, head + b', "stop": "\\ud83d\\ude42"}').status_code == 200
    assert answerer.asked.limits.stop == ["🙂"]
    too_much = head[:-2] + b", " + b" " * 2_200_000 + b"}]}"
    assert send(api, too_much).status_code == 413


def test_two_words_for_one_limit_have_to_agree(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    error = body_of(ask(api, max_tokens=5, max_completion_tokens=6))
    assert (error["param"], error["code"]) == ("max_tokens", "invalid_value")
    assert ask(api, max_tokens=5, max_completion_tokens=5).status_code == 200
    error = body_of(ask(api, stream_options={"include_usage": True}))
    assert error["param"] == "stream_options"


# --- turns -----------------------------------------------------------------------------------


def test_turns_reach_the_model_as_templates_know_them(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "rule 7?"}]
    whole(
        api,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None},
            {"role": "assistant", "content": None, "refusal": "I will not."},
            {"role": "system", "content": [{"type": "text", "text": "Now do."}]},
            {"role": "user", "content": "", "name": "Ada"},
        ],
    )
    assert answerer.asked.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is rule 7?"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "I will not."},
        {"role": "system", "content": "Now do."},
        {"role": "user", "content": "", "name": "Ada"},
    ]


def test_an_answer_can_be_sent_back_as_it_came(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    message = whole(api).choices[0].message
    full = {
        **message.model_dump(),
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    for sent in (message, message.model_dump(), full, json.loads(message.to_json())):
        whole(api, messages=[*ASKED, sent, {"role": "user", "content": "And rule 8?"}])
        assert answerer.asked.messages[1] == {"role": "assistant", "content": "Hello there."}


def test_what_no_model_here_reads_is_refused(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    said_it = {"role": "assistant", "content": "a"}
    for turn, param in (
        ({"role": "user", "content": [image]}, "content[0].type"),
        ({**said_it, "audio": {"id": "a"}}, "audio"),
        ({**said_it, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
    ):
        error = body_of(ask(api, messages=[turn]))
        assert (error["code"], error["param"]) == ("unsupported", f"messages[0].{param}")
    for turns, param in (
        ([{"role": "system", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": "a", "refusal": "b"}], "messages[0].refusal"),
        ([{"role": "tool", "content": "a"}], "messages[0].tool_call_id"),
        ([{"role": "tool", "content": "a", "tool_call_id": "x"}], "messages[0].tool_call_id"),
    ):
        error = body_of(ask(api, messages=turns))
        assert (error["code"], error["param"]) == ("invalid_value", param)
    assert answerer.talks == []


def test_a_model_of_plain_text_goes_on_with_a_text(
    api: OpenAI, db: Session, user: User, model: BaseModel, answerer: StandIn
) -> None:
    name = make_adapter(db, user, model, ExampleKind.TEXT).public_name
    whole(api, model=name)
    assert answerer.asked.messages == [{"role": "text", "content": "What is rule 7?"}]
    turns = [{"role": "system", "content": "Be brief."}, *ASKED]
    for given in ({"messages": turns}, {"tools": [TOOL]}):
        error = body_of(ask(api, model=name, **given))
        assert error["code"] == "unsupported"


# --- forms -----------------------------------------------------------------------------------


def test_a_form_of_the_answer_reaches_what_answers(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    whole(api, response_format={"type": "json_object"})
    assert answerer.asked.limits.json_schema == {}
    schema = {
        "type": "object",
        "properties": {"rule": {"type": "integer"}},
        "required": ["rule"],
        "additionalProperties": False,
    }
    named = {"name": "rule", "schema": schema, "strict": True, "description": "A rule."}
    whole(api, response_format={"type": "json_schema", "json_schema": named})
    assert answerer.asked.limits.json_schema == schema
    whole(api, response_format={"type": "text"})
    assert answerer.asked.limits.json_schema is None


def test_a_schema_that_cannot_be_kept_is_refused(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    schema = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
    named = {"name": "a", "schema": schema}
    error = body_of(ask(api, response_format={"type": "json_schema", "json_schema": named}))
    assert error["param"] == "response_format.json_schema.schema.properties.a"
    assert error["code"] == "unsupported"
    assert answerer.talks == []


# --- tools -----------------------------------------------------------------------------------

CALLED = {
    "qwen2_5": '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    "llama3_1": '{"name": "weather", "parameters": {"city": "Rome"}}',
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}}]',
}


def in_pieces(text: str) -> Any:
    return says(*(text[start : start + 5] for start in range(0, len(text), 5)))


@pytest.mark.parametrize("family", list(CALLED))
def test_calls_are_told_apart_from_words_whole_and_streamed(
    api: OpenAI, model: BaseModel, answerer: StandIn, family: str
) -> None:
    with_template(model, family)
    answerer.script = in_pieces(CALLED[family])
    [choice] = whole(api, tools=[TOOL]).choices
    assert answerer.asked.tools == [TOOL]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    with api.chat.completions.stream(
        model="house/tiny",
        messages=ASKED,
        tools=[TOOL],  # type: ignore[list-item]
    ) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert not final.message.content
    assert final.message.tool_calls
    assert final.message.tool_calls[0].function.arguments == call.function.arguments
    # What was called, and what the tool said, go back.
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    answerer.script = in_pieces("It is warm.")
    again = whole(api, tools=[TOOL], messages=[*ASKED, choice.message, result])
    assert again.choices[0].message.content == "It is warm."
    assert again.choices[0].finish_reason == "stop"
    asked = answerer.asked.messages
    assert asked[1]["tool_calls"][0]["function"]["name"] == "weather"
    assert asked[2] == {"role": "tool", "content": "21 degrees", "tool_call_id": call.id}
    sent_back = final.message.model_dump()
    result["tool_call_id"] = final.message.tool_calls[0].id
    assert whole(api, tools=[TOOL], messages=[*ASKED, sent_back, result]).choices
    stream_of_words = chunks(api, tools=[TOOL])
    assert said(stream_of_words) == "It is warm."
    assert stream_of_words[-1].choices[0].finish_reason == "stop"
    answerer.script = says()
    assert said(chunks(api, tools=[TOOL])) == whole(api, tools=[TOOL]).choices[0].message.content


def test_words_before_a_call_stand_as_words(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    with_template(model, "qwen3")
    answerer.script = in_pieces(f"I look.\n{CALLED['qwen2_5']}\n{CALLED['qwen2_5']}")
    message = whole(api, tools=[TOOL]).choices[0].message
    assert message.content == "I look."
    assert len({call.id for call in message.tool_calls}) == 2
    assert said(chunks(api, tools=[TOOL])) == "I look."


def test_a_choice_of_tools_is_kept_or_refused(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    with_template(model, "qwen2_5")
    other = {"type": "function", "function": {"name": "time_at"}}
    answerer.script = tells(
        Begun(prompt_tokens=5, cached_tokens=0),
        Piece(index=0, text='{"name": "weather", "arguments": {"city": "Rome"}}'),
        Ended(index=0, reason="stop", completion_tokens=9),
        DONE,
    )
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        [answer] = whole(api, tools=[TOOL, other], tool_choice=choice).choices
        assert answer.message.tool_calls[0].function.name == "weather"
        schema = answerer.asked.limits.json_schema
        assert schema is not None
        assert ("anyOf" in schema) == (choice == "required")
    answerer.script = says("Hello.")
    whole(api, tools=[TOOL], tool_choice="none")
    assert answerer.asked.tools is None
    whole(api, tools=[TOOL], tool_choice="auto", parallel_tool_calls=False, stop="x")
    assert answerer.asked.limits.stop == ["x", "</tool_call>"]
    count = len(answerer.talks)
    strict = {**TOOL["function"], "strict": True}  # type: ignore[dict-item]
    odd = {"name": "odd", "parameters": {"uniqueItems": True}}
    unknown = {"type": "function", "function": {"name": "rain"}}
    for given, param in (
        ({"tools": [TOOL], "tool_choice": unknown}, "tool_choice.function.name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": strict}]}, "tools[0].function.strict"),
        (
            {"tools": [{"type": "function", "function": odd}], "tool_choice": "required"},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [TOOL], "logprobs": True}, "logprobs"),
        ({"tools": [TOOL], "parallel_tool_calls": False, "stop": ["a"] * 4}, "stop"),
    ):
        response = ask(api, **given)
        assert response.status_code == 400
        assert body_of(response)["param"] == param
    assert len(answerer.talks) == count


def test_a_model_without_a_place_for_tools_says_so(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    with_template(model, "smollm2")
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    called = [*ASKED, {"role": "assistant", "tool_calls": [call]}]
    for given, param in (({"tools": [TOOL]}, "tools"), ({"messages": called}, "messages")):
        error = body_of(ask(api, **given))
        assert (error["code"], error["param"]) == ("unsupported", param)
        assert "house/tiny" in str(error["message"])
    assert answerer.talks == []
    wrong = {**call, "function": {"name": "weather", "arguments": "[1]"}}
    error = body_of(ask(api, messages=[*ASKED, {"role": "assistant", "tool_calls": [wrong]}]))
    assert error["param"] == "messages[1].tool_calls[0].function.arguments"


ODD: tuple[Any, ...] = (
    *(0, -1, 10**30, 1.5, True, "", "5", [], {}, [None], [[]], {"": None}, {"a": {"b": []}}),
    *("\x00", "\u202e", "x" * 10_000, ["x"] * 300, [{"type": "text", "text": None}]),
)


def test_whatever_stands_in_a_turn_is_answered_or_refused_by_name(
    api: OpenAI, model: BaseModel, answerer: StandIn
) -> None:
    turn = {"role": "user", "content": "a"}
    bodies: list[Any] = [{"messages": odd} for odd in ODD]
    for name in ("role", "content", "name", "else"):
        bodies += [{"messages": [turn | {name: odd}]} for odd in ODD]
    for body in bodies:
        response = send(api, {"model": model.name, "max_tokens": 1} | body)
        assert response.status_code in (200, 400), (body, response.text)
        if response.status_code == 400:
            error = body_of(response)
            assert error["message"]
            assert error["param"] is None or isinstance(error["param"], str)
    assert len(bodies) > 50
