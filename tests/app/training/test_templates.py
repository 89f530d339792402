"""What is learned with the templates of the families that Etude names, against masks made by hand.

And the whole text against transformers' own `apply_chat_template`.
"""

import json
from typing import Any, NamedTuple

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from app.training.chat import IGNORE_INDEX, ChatError, ChatFormat, Encoded
from tests.worker.trainer.conftest import TEMPLATES, tokenizer_json


class Family(NamedTuple):
    template: str
    special: tuple[str, ...]
    bos: str
    eos: str
    begin: str = ""  # what stands between asking and an answer's first word, and is the answer's
    last: str = ""  # the same for the last answer
    end: str = ""
    call: str = ""  # how it calls look(room="3"); empty: it cannot


_LLAMA = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_GEMMA = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_PHI = ("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_MISTRAL: tuple[str, ...] = (
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
)
_MISTRAL += ("[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")
_LLAMA_CALL = '{"name": "look", "parameters": {"room": "3"}}'
_QWEN_CALL = '<tool_call>\n{"name": "look", "arguments": {"room": "3"}}\n</tool_call>'
_THOUGHT = "<think>\n\n</think>\n\n"

FAMILIES = {
    "llama3": Family("llama3", _LLAMA, _LLAMA[0], "<|eot_id|>", end="<|eot_id|>"),
    "llama3.1": Family(
        "llama3_1", _LLAMA, _LLAMA[0], "<|eot_id|>", end="<|eot_id|>", call=_LLAMA_CALL
    ),
    "llama3.2": Family(
        "llama3_2", _LLAMA, _LLAMA[0], "<|eot_id|>", end="<|eot_id|>", call=_LLAMA_CALL
    ),
    "qwen2": Family("qwen2", _CHATML, "", "<|im_end|>", end="<|im_end|>"),
    # Its generation prompt ends with a line break that a turn with calls alone repeats nowhere.
    "qwen2.5": Family(
        "qwen2_5", _CHATML, "", "<|im_end|>", end="<|im_end|>", call=_QWEN_CALL
    ),
    "qwen3": Family(
        "qwen3", _CHATML, "", "<|im_end|>", last=_THOUGHT, end="<|im_end|>", call=_QWEN_CALL
    ),
    "mistral": Family(
        "mistral", _MISTRAL, "<s>", "</s>", begin=" ", last=" ", end="</s>",
        call='[TOOL_CALLS] [{"name": "look", "arguments": {"room": "3"}, "id": "abcdefghi"}]',
    ),
    "gemma2": Family("gemma", _GEMMA, "<bos>", "<eos>", end="<end_of_turn>"),
    "gemma3": Family("gemma3", _GEMMA, "<bos>", "<eos>", end="<end_of_turn>"),
    "phi3": Family("phi3", _PHI, "<s>", "<|endoftext|>", end="<|end|>"),
    "smollm2": Family("smollm2", _CHATML, "<|im_start|>", "<|im_end|>", end="<|im_end|>"),
}  # fmt: skip
CALLERS = [name for name, family in FAMILIES.items() if family.call]
EVERY = pytest.mark.parametrize("name", FAMILIES)


def template(family: Family) -> str:
    if family.template == "qwen2":
        smollm2 = (TEMPLATES / "smollm2.jinja").read_text()
        return smollm2.replace(
            "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
            "You are a helpful assistant.",
        )
    return (TEMPLATES / f"{family.template}.jinja").read_text()


def chat(name: str) -> ChatFormat:
    family = FAMILIES[name]
    special = {"bos_token": family.bos, "eos_token": family.eos}
    return ChatFormat(tokenizer_json(family.special), template(family), special)


def transformers_text(name: str, messages: list[dict[str, Any]], **options: Any) -> str:
    family = FAMILIES[name]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json(family.special)),
        bos_token=family.bos or None,
        eos_token=family.eos,
        chat_template=template(family),
    )
    return str(
        tokenizer.apply_chat_template(
            messages, tokenize=False, date_string="26 Jul 2024", **options
        )
    )


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def learned(name: str, messages: list[dict[str, Any]], **options: Any) -> list[str]:
    """The trained texts; what the labels say of the tokens has to be the same."""
    form = chat(name)
    segments = form.segments(messages, **options)
    assert "".join(s.text for s in segments) == form.render(messages, **options)
    texts = [s.text for s in segments if s.is_trained]
    assert labelled(form, form.encode(messages, 10_000, **options)) == "".join(texts)
    return texts


def labelled(form: ChatFormat, encoded: Encoded) -> str:
    pairs = zip(encoded.token_ids, encoded.labels, strict=True)
    assert all(label in (token, IGNORE_INDEX) for token, label in pairs)
    ids = [label for label in encoded.labels if label != IGNORE_INDEX]
    return str(form.tokenizer.decode(ids, skip_special_tokens=False))


TURNS = [turn("user", "first?"), turn("assistant", "one"), turn("user", "second?"),
         turn("assistant", "two 😀")]  # fmt: skip
SYSTEM = turn("system", "Be brief.")
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look into a room.",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
    },
}
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "look", "arguments": '{"room":"3"}'},
}
CALLING = [
    turn("user", "Who is in room 3?"),
    turn("assistant", "", tool_calls=[CALL]),
    turn("tool", "Nobody", tool_call_id="abcdefghi"),
    turn("assistant", "It is empty."),
]


@EVERY
def test_answers_and_their_ends_are_learned_in_each_of_several_turns(name: str) -> None:
    family = FAMILIES[name]
    expected = [f"{family.begin}one{family.end}", f"{family.last}two 😀{family.end}"]
    assert learned(name, TURNS) == expected
    assert learned(name, [SYSTEM, *TURNS]) == expected
    for messages in (TURNS, [SYSTEM, *TURNS]):
        assert chat(name).render(messages).count("Be brief.") == messages.count(SYSTEM)


@EVERY
def test_an_answer_of_weight_zero_is_read_and_not_learned(name: str) -> None:
    family = FAMILIES[name]
    first = [TURNS[0], TURNS[1] | {"weight": 0}, *TURNS[2:]]
    assert learned(name, first) == [f"{family.last}two 😀{family.end}"]
    last = [SYSTEM, *TURNS[:3], TURNS[3] | {"weight": 0}]
    assert learned(name, last) == [f"{family.begin}one{family.end}"]
    assert "one" in chat(name).render(first)


@EVERY
def test_what_is_too_long_loses_its_beginning_and_not_its_answer(name: str) -> None:
    form = chat(name)
    family = FAMILIES[name]
    messages = [SYSTEM, turn("user", "q" * 300), turn("assistant", "answer")]
    whole, cut = form.encode(messages, 10_000), form.encode(messages, 60)
    assert cut.token_ids[1:] == whole.token_ids[-59:]
    has_sign = name in ("llama3", "llama3.1", "llama3.2", "gemma2", "gemma3", "mistral")
    assert cut.token_ids[0] == whole.token_ids[0 if has_sign else -60]
    assert labelled(form, cut) == f"{family.last}answer{family.end}"
    assert (cut.num_cut_tokens, cut.num_cut_answer_tokens) == (len(whole.token_ids) - 60, 0)
    assert cut.num_cut_end_tokens == 0
    long = form.encode([turn("user", "q"), turn("assistant", "a" * 300)], 60)
    assert len(long.token_ids) == 60
    assert long.num_cut_answer_tokens > 200
    assert long.num_cut_end_tokens > 200
    earlier = [turn("user", "q"), turn("assistant", "b" * 100), *TURNS[2:]]
    shorter = form.encode(earlier, 60)
    assert shorter.num_cut_answer_tokens > 0
    assert shorter.num_cut_end_tokens == 0, "an earlier answer is lost, and the last one is whole"


@EVERY
def test_answers_begin_where_the_model_is_asked_and_end_where_it_stops(name: str) -> None:
    form = chat(name)
    asked = form.encode_prompt([SYSTEM, TURNS[0]])
    encoded = form.encode([SYSTEM, *TURNS[:2]], 10_000)
    assert encoded.token_ids[: len(asked)] == asked
    assert encoded.labels[: len(asked)] == [IGNORE_INDEX] * len(asked)
    assert encoded.labels[len(asked)] != IGNORE_INDEX
    ends = [label for label in encoded.labels if label != IGNORE_INDEX][-1]
    assert ends in form.end_token_ids


@EVERY
def test_the_text_is_transformers_text(name: str) -> None:
    form = chat(name)
    assert form.render(TURNS) == transformers_text(name, TURNS)
    asked = TURNS[:3]
    assert form.render(asked, add_generation_prompt=True) == transformers_text(
        name, asked, add_generation_prompt=True
    )
    if name not in ("gemma2", "mistral"):  # which know no system turn, or lose it
        messages = [SYSTEM, *TURNS]
        assert form.render(messages) == transformers_text(name, messages)


@pytest.mark.parametrize("name", CALLERS)
def test_calls_are_learned_and_what_tools_say_is_not(name: str) -> None:
    family = FAMILIES[name]
    expected = [f"{family.call}{family.end}", f"{family.last}It is empty.{family.end}"]
    assert learned(name, CALLING, tools=[TOOL]) == expected
    form = chat(name)
    text = form.render(CALLING, tools=[TOOL])
    assert "Look into a room." in text
    assert "Nobody" in text
    known = json.loads(json.dumps(CALLING))
    known[1]["tool_calls"][0]["function"]["arguments"] = {"room": "3"}
    known[2]["name"] = "look"
    assert text == transformers_text(name, known, tools=[TOOL])


@pytest.mark.parametrize("name", CALLERS)
def test_tools_before_a_later_question_do_not_hide_where_earlier_answers_begin(name: str) -> None:
    family = FAMILIES[name]
    expected = [f"{family.begin}one{family.end}", f"{family.last}two 😀{family.end}"]
    for messages in (TURNS, [SYSTEM, *TURNS]):
        assert learned(name, messages, tools=[TOOL]) == expected
    # Mistral writes nothing of what stands beside a call, and tools before the last question alone.
    again = [turn("user", "And now?"), *CALLING[1:]]
    earlier = [f"{family.call}{family.end}", f"{family.begin}It is empty.{family.end}"]
    later = [earlier[0], f"{family.last}It is empty.{family.end}"]
    for messages in ([*CALLING, *again], [SYSTEM, *CALLING, *again]):
        assert learned(name, messages, tools=[TOOL]) == [*earlier, *later]


@EVERY
def test_an_answer_that_nobody_asked_for_is_learned_whole(name: str) -> None:
    family = FAMILIES[name]
    if name.startswith("gemma"):
        with pytest.raises(ChatError, match="must alternate"):
            learned(name, TURNS[1:])
        return
    expected = [f"{family.begin}one{family.end}", f"{family.last}two 😀{family.end}"]
    assert learned(name, TURNS[1:]) == expected
    assert learned(name, TURNS[1:2]) == expected[:1]


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - set(CALLERS)))
def test_a_template_without_tools_loses_nothing_in_silence(name: str) -> None:
    form = chat(name)
    for messages, tools in ((CALLING, [TOOL]), (CALLING, None), (TURNS, [TOOL])):
        with pytest.raises(ChatError):
            form.segments(messages, tools)


def test_mistral_takes_ids_of_any_length() -> None:
    text = json.dumps([SYSTEM, *CALLING]).replace("abcdefghi", "call_0123456789")
    first, second = learned("mistral", json.loads(text), tools=[TOOL])
    assert "[INST] Be brief.\n\nWho is" in chat("mistral").render(json.loads(text), tools=[TOOL])
    assert first.startswith('[TOOL_CALLS] [{"name": "look"')
    assert second == " It is empty.</s>"


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3"])
def test_two_calls_at_once_with_words_before_them(name: str) -> None:
    two = [CALLING[0], turn("assistant", "Let me look.", tool_calls=[CALL, CALL])]
    two += [CALLING[2], CALLING[2], CALLING[3]]
    first = learned(name, two, tools=[TOOL])[0]
    assert first == f"Let me look.\n{_QWEN_CALL}\n{_QWEN_CALL}<|im_end|>"


def test_qwen3_thinks_before_its_last_answer_alone() -> None:
    thought = "<think>\nHm.\n</think>\n\n"
    messages = [
        TURNS[0],
        turn("assistant", f"{thought}one"),
        TURNS[2],
        turn("assistant", f"{thought}two"),
    ]
    assert learned("qwen3", messages) == ["one<|im_end|>", f"{thought}two<|im_end|>"]
    reasons = [TURNS[0], turn("assistant", "one", reasoning_content="Hm.")]
    assert learned("qwen3", reasons) == [f"{thought}one<|im_end|>"]


def test_the_day_does_not_change_what_is_learned() -> None:
    assert "Today Date: 26 Jul 2024" in chat("llama3.2").render(TURNS)


def test_plain_text_begins_as_the_tokenizer_would_have_it() -> None:
    plain = json.loads(tokenizer_json(_LLAMA))
    begin = {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}
    adds = {"type": "TemplateProcessing", "single": [begin], "pair": [], "special_tokens": {}}
    special = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    text = [turn("text", "once")]
    for processor, more, expected in (
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, adds]}, {}, True),
        (adds, {}, True),
        (adds, {"add_bos_token": False}, False),
        (None, {}, False),
        (None, {"add_bos_token": True}, True),
    ):
        source = json.dumps(plain | {"post_processor": processor})
        form = ChatFormat(source, template(FAMILIES["llama3"]), special | more)
        begins = form.segments(text)[0].text.startswith("<|begin_of_text|>once<|eot_id|>")
        assert begins is expected
