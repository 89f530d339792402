"""What a model says becomes words and calls, in the form of its family, however it is cut."""

import json
from pathlib import Path

import pytest
from llguidance import LLMatcher

from app.training import json_schemas, tool_calls
from app.training.chat import ChatFormat
from app.training.tool_calls import Call, CallReader, Family

TEMPLATES = Path(__file__).parents[2] / "worker/trainer/templates"
NAMES = ("weather", "time_at")
ROME = Call("weather", '{"city": "Rome"}')
NOON = Call("time_at", '{"place": "Köln"}')


def read(family: Family, text: str, size: int = 1, *, is_forced: bool = False) -> list[str | Call]:
    """Read an answer cut into pieces of so many letters; neighbouring texts are joined."""
    reader = CallReader(family, NAMES, is_forced=is_forced)
    found: list[str | Call] = []
    for start in range(0, len(text), size):
        found += reader.feed(text[start : start + size])
    found += reader.end()
    joined: list[str | Call] = []
    for one in found:
        if isinstance(one, str) and joined and isinstance(joined[-1], str):
            joined[-1] += one
        else:
            joined.append(one)
    return joined


CASES: list[tuple[Family, str, list[str | Call]]] = [
    ("hermes", "Plain words, a < b.\n", ["Plain words, a < b.\n"]),
    ("hermes", "", []),
    (
        "hermes",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
        [ROME],
    ),
    (
        "hermes",
        'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>\n'
        '<tool_call>{"name": "time_at", "arguments": "{\\"place\\": \\"Köln\\"}"}</tool_call>\n',
        ["I look.", ROME, NOON],
    ),
    # stopped right behind it, as by its end as a stop word
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n', [ROME]),
    # cut off by a limit
    ("hermes", 'So: <tool_call>\n{"name": "wea', ['So: <tool_call>\n{"name": "wea']),
    # a tool that nobody offered, and what is no JSON
    (
        "hermes",
        'A <tool_call>{"name": "rm", "arguments": {}}</tool_call> B',
        ['A <tool_call>{"name": "rm", "arguments": {}}</tool_call> B'],
    ),
    ("hermes", "<tool_call>no</tool_call>", ["<tool_call>no</tool_call>"]),
    ("hermes", "a <tool_ b <", ["a <tool_ b <"]),
    ("llama", '{"name": "weather", "parameters": {"city": "Rome"}}', [ROME]),
    ("llama", '\n<|python_tag|>{"name": "weather", "parameters": {"city": "Rome"}}', [ROME]),
    (
        "llama",
        '{"name": "weather", "parameters": {"city": "Rome"}}; '
        '{"name": "time_at", "parameters": {"place": "Köln"}}',
        [ROME, NOON],
    ),
    ("llama", '{"name": "rm", "parameters": {}}', ['{"name": "rm", "parameters": {}}']),
    ("llama", '{"answer": 4}', ['{"answer": 4}']),
    ("llama", 'Say {"name": "weather"}', ['Say {"name": "weather"}']),
    ("llama", "  words", ["  words"]),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}, "id": "abcdefghi"}, '
        '{"name": "time_at", "arguments": {"place": "Köln"}}]',
        [ROME, NOON],
    ),
    # special tokens are no part of a text
    ("mistral", ' [{"name": "weather", "arguments": {"city": "Rome"}}]', [ROME]),
    ("mistral", "[1, 2]", ["[1, 2]"]),
    ("mistral", "[", ["["]),
]


@pytest.mark.parametrize(("family", "text", "expected"), CASES)
def test_words_and_calls_are_the_same_however_an_answer_is_cut(
    family: Family, text: str, expected: list[str | Call]
) -> None:
    for size in (1, 2, 3, 7, 1000):
        assert read(family, text, size) == expected, size


def test_words_are_given_out_as_soon_as_they_are_certain() -> None:
    reader = CallReader("hermes", NAMES)
    assert reader.feed("Hello the") == ["Hello the"]
    assert reader.feed("re <tool") == ["re"]
    assert reader.feed("box") == [" <toolbox"]
    assert CallReader("llama", NAMES).feed("Hello") == ["Hello"]


def test_deeply_nested_words_are_no_call() -> None:
    text = "<tool_call>" + "[" * 100_000 + "</tool_call>"
    assert read("hermes", text, 10_000) == [text]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("qwen2_5", "hermes"),
        ("qwen3", "hermes"),
        ("llama3_1", "llama"),
        ("llama3_2", "llama"),
        ("mistral", "mistral"),
        ("smollm2", None),
        ("gemma3", None),
        ("phi3", None),
        ("llama3", None),
    ],
)
def test_a_template_says_how_its_models_call(name: str, family: Family | None) -> None:
    assert tool_calls.family_of((TEMPLATES / f"{name}.jinja").read_text()) == family


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1", "llama3_2", "mistral"])
def test_what_a_template_writes_for_a_call_is_read_back(name: str) -> None:
    """The form that the trainer teaches is the form that is read."""
    template = (TEMPLATES / f"{name}.jinja").read_text()
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
    }
    chat = ChatFormat(json.dumps(tokenizer), template, special)
    function = {"name": ROME.name, "arguments": ROME.arguments}
    asked = [{"role": "user", "content": "Is it warm in Rome?"}]
    call = {"id": "call_1", "type": "function", "function": function}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    before = chat.render(asked, add_generation_prompt=True, tools=tools)
    after = chat.render([*asked, called], tools=tools)
    assert after.startswith(before.removesuffix("\n"))
    said = after[len(before) :].removesuffix("\n")
    for end in ("<|im_end|>", "<|eot_id|>", "</s>"):
        said = said.removesuffix(end)
    if name == "qwen3":  # which writes an empty thought before its last answer
        said = said.removeprefix("<think>\n\n</think>\n\n")
    family = tool_calls.family_of(template)
    assert family is not None
    assert read(family, said, 3) == [ROME]


def test_a_forced_call_has_a_schema_that_can_be_kept() -> None:
    city = {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/name"}},
        "required": ["city"],
        "$defs": {"name": {"type": "string"}},
    }
    tools = [
        {"type": "function", "function": {"name": "weather", "parameters": city}},
        {"type": "function", "function": {"name": "time_at"}},
    ]
    both = tool_calls.forced_schema("hermes", tools)
    assert json_schemas.problem(both) is None
    assert [one["properties"]["name"]["const"] for one in both["anyOf"]] == list(NAMES)
    inner = both["$defs"]["tool0"]["properties"]["city"]["$ref"]
    assert inner == "#/$defs/tool0/$defs/name"
    one = tool_calls.forced_schema("llama", tools, "time_at")
    assert one["properties"]["name"] == {"const": "time_at"}
    assert one["required"] == ["name", "parameters"]
    said = '{"name": "weather", "arguments": {"city": "Rome"}}'
    assert read("hermes", said, is_forced=True) == [ROME]
    assert read("hermes", said[:-3], is_forced=True) == [said[:-3]]


KEPT = [
    {},
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]},
    {"type": ["number", "null"], "exclusiveMaximum": 0.5},
    {"type": "string", "format": "email"},
    {"type": "array", "items": {"enum": ["a", 1, None]}, "maxItems": 3},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer", "minimum": 3}}},
    {"type": "object", "properties": {"not": {"type": "string", "pattern": "^a+$"}}},
]
REFUSED = [
    ([], "", "object"),
    ({"type": "text"}, "", "'type'"),
    ({"type": {"a": 1}}, "", "'type'"),
    ({"properties": {"a": {"not": {}}}}, "properties.a", "'not'"),
    ({"anyOf": [{"type": "string"}, {"uniqueItems": True}]}, "anyOf[1]", "'uniqueItems'"),
    ({"anyOf": []}, "", "'anyOf'"),
    ({"minimum": 1}, "", "bounds"),
    ({"type": ["number", "string"], "minimum": 1}, "", "bounds"),
    ({"type": "string", "pattern": "a"}, "", "'pattern'"),
    ({"type": "string", "format": "phone"}, "", "'format'"),
    ({"$ref": "#/$defs/b"}, "", "'$ref'"),
    ({"$ref": "https://house.example/schema"}, "", "'$ref'"),
    ({"properties": 3}, "", "'properties'"),
    ({"required": ["a"]}, "", "'required'"),
    ({"items": False}, "items", "false"),
    ({"anyOf": [{}] * 3000}, "", "more than"),
]


@pytest.mark.parametrize("schema", KEPT)
def test_a_schema_that_every_engine_keeps_passes(schema: object) -> None:
    assert json_schemas.problem(schema) is None
    kept = LLMatcher.grammar_from_json_schema(json.dumps(schema))
    assert LLMatcher.validate_grammar(kept) == ""


@pytest.mark.parametrize(("schema", "path", "word"), REFUSED)
def test_what_an_engine_would_drop_is_refused_by_name(schema: object, path: str, word: str) -> None:
    problem = json_schemas.problem(schema)
    assert problem is not None
    assert (problem[0], word in problem[1]) == (path, True), problem
