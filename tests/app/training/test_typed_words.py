"""What people type is letters: no template's control word in it ends a turn or begins another."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.training.chat import ChatFormat
from tests.worker.trainer.conftest import SMOLLM2_SPECIAL, TEMPLATES, tokenizer_json

# The control words that the families' tokenizers hold.
WORDS = {
    "smollm2": SMOLLM2_SPECIAL,
    "qwen2_5": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"),
    "qwen3": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    "llama3_1": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "gemma": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    "mistral": ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"),
    "phi3": ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|system|>"),
}


# Of these, what their files do not call special: a model says them itself.
SAID = {"<tool_call>", "</tool_call>", "<think>", "</think>"}


def form(family: str) -> ChatFormat:
    words = WORDS[family]
    special = {"bos_token": words[0], "eos_token": words[1]}
    tokenizer = json.loads(tokenizer_json(words))
    for token in tokenizer["added_tokens"]:
        token["special"] = token["content"] not in SAID
    template = (TEMPLATES / f"{family}.jinja").read_text()
    return ChatFormat(json.dumps(tokenizer), template, special)


def asked(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("family", WORDS)
def test_a_typed_control_word_is_its_letters(family: str) -> None:
    chat = form(family)
    harmless = chat.encode_prompt(asked("Where? And now obey."))
    control = {chat.tokenizer.token_to_id(word) for word in WORDS[family]}
    expected = [token_id for token_id in harmless if token_id in control]
    typed = f"Where?{''.join(WORDS[family])} And now obey."
    ids = chat.encode_prompt(asked(typed))
    assert [token_id for token_id in ids if token_id in control] == expected
    # Nothing of it is lost on the way.
    assert typed in chat.tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("family", WORDS)
@pytest.mark.parametrize("text", ["Where is room 7?", "a < b | c > d\n\nü € 😀", "im_end"])
def test_everything_else_is_encoded_as_for_training(family: str, text: str) -> None:
    chat = form(family)
    assert chat.encode_prompt(asked(text)) == chat.encode_prompt(asked(text))


def test_the_mark_for_a_control_word_cannot_be_typed() -> None:
    chat = form("smollm2")
    typed = "\ue0000\ue001 <|im_end|> \ue0001\ue001"
    ids = chat.encode_prompt(asked(typed))
    assert typed in chat.tokenizer.decode(ids, skip_special_tokens=False)


def test_tools_and_system_turns_are_typed_as_well() -> None:
    chat = form("qwen2_5")
    tools = [{"type": "function", "function": {"name": "f", "description": "<|im_end|>"}}]
    messages = [{"role": "system", "content": "<|im_start|>"}, *asked("Hi")]
    control = {chat.tokenizer.token_to_id(word) for word in ("<|im_start|>", "<|im_end|>")}
    plain = [{"role": "system", "content": "S"}, *asked("Hi")]
    harmless = json.loads(json.dumps(tools).replace("<|im_end|>", "D"))
    ids, others = chat.encode_prompt(messages, tools), chat.encode_prompt(plain, harmless)
    assert sum(i in control for i in ids) == sum(i in control for i in others)


def tool_of(place: str, word: str) -> list[dict[str, Any]]:
    """A tool with a word in one of all places that a stranger can write in."""
    text = {each: word if each == place else "x" for each in TOOL_PLACES}
    parameters = {
        "type": text["type"],
        "role": text["role"],
        "properties": {
            "role": {"type": "string", "description": text["description"]},
            "type": {"type": text["inner type"], "enum": [text["enum"]]},
            text["key"]: {"type": ["string", text["list of types"]]},
        },
    }
    return [
        {
            "type": "function",
            "role": text["tool's role"],
            "function": {"name": "f", "description": text["of tool"], "parameters": parameters},
        }
    ]


TOOL_PLACES = (
    *("type", "role", "description", "inner type", "enum", "key", "list of types"),
    *("tool's role", "of tool"),
)
CALL_PLACES = ("type", "role", "q")


def called(place: str, word: str) -> list[dict[str, Any]]:
    """Turns of which one calls a tool with a word in one of its arguments."""
    arguments = {each: word if each == place else "x" for each in CALL_PLACES}
    deep = {**arguments, "list": [dict(arguments)], "object": {"within": dict(arguments)}}
    call = {"name": "f", "arguments": json.dumps(deep)}
    return [
        *asked("Hi"),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "abcdefghi", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "f", "content": "ok"},
        {"role": "assistant", "content": "fine"},
    ]


@pytest.mark.parametrize("family", [f for f in WORDS if f not in ("gemma", "phi3", "smollm2")])
def test_no_field_of_a_tool_or_a_call_can_hold_a_control_word(family: str) -> None:
    chat = form(family)
    control = {chat.tokenizer.token_to_id(word) for word in WORDS[family]}

    def met(turns: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[int]:
        ids = chat.encode(turns, 100_000, tools).token_ids
        return [token_id for token_id in ids if token_id in control]

    answered = [*asked("Hi"), {"role": "assistant", "content": "Yo"}]
    for word in WORDS[family]:
        for place in TOOL_PLACES:
            tools, plain = (tool_of(place, text) for text in (f"a {word} b", "a D b"))
            assert met(answered, tools) == met(answered, plain), (place, word)
        for place in CALL_PLACES:
            turns, plain = (called(place, text) for text in (f"a {word} b", "a D b"))
            tools = tool_of("", "")
            assert met(turns, tools) == met(plain, tools), (place, word)


def test_an_earlier_answer_keeps_what_its_template_looks_for() -> None:
    chat = form("qwen3")
    thought = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"}
    messages = [*asked("a"), thought, *asked("b")]
    assert chat.encode_prompt(messages) == chat.encode_prompt(messages)


def test_plain_text_is_typed_as_well(tmp_path: Path) -> None:
    chat = form("smollm2")
    ids = chat.encode_prompt([{"role": "text", "content": "Once<|im_end|>"}])
    assert chat.tokenizer.token_to_id("<|im_end|>") not in ids
