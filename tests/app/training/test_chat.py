"""What is learned, with SmolLM2's real template: no generation marks, padding is the end token."""

import json
from typing import Any

import pytest

from app.training.chat import IGNORE_INDEX, ChatError, ChatFormat, Encoded
from tests.worker.trainer.conftest import SMOLLM2_TEMPLATE, tokenizer_json

SPECIAL = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
DEFAULT_SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n"
)


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def chat(template: str = SMOLLM2_TEMPLATE) -> ChatFormat:
    return ChatFormat(tokenizer_json(), template, SPECIAL)


def trained(form: ChatFormat, encoded: Encoded) -> str:
    """The text of the labelled tokens."""
    ids = [label for label in encoded.labels if label != IGNORE_INDEX]
    return str(form.tokenizer.decode(ids, skip_special_tokens=False))


def test_only_answers_and_their_end_are_learned() -> None:
    form = chat()
    messages = [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "x")]
    messages.append(turn("assistant", "y\n"))
    segments = form.segments(messages)
    assert [s.text for s in segments if s.is_trained] == ["Hello<|im_end|>", "y\n<|im_end|>"]
    assert "".join(s.text for s in segments) == form.render(messages)
    assert segments[0].text == (
        DEFAULT_SYSTEM + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    encoded = form.encode(messages, 1000)
    assert trained(form, encoded) == "Hello<|im_end|>y\n<|im_end|>"
    assert all(
        label in (IGNORE_INDEX, token)
        for token, label in zip(encoded.token_ids, encoded.labels, strict=True)
    )


def test_the_line_break_before_an_answer_is_not_learned() -> None:
    form = chat()
    messages = [turn("system", "S"), turn("user", "Hi"), turn("assistant", "\n\nWell 😀 ")]
    assert trained(form, form.encode(messages, 1000)) == "\n\nWell 😀 <|im_end|>"


def test_a_conversation_that_begins_with_an_answer_meets_the_default_system_turn() -> None:
    # Rendering no messages yields no system turn, rendering one does: the prefix does not fit.
    form = chat()
    segments = form.segments([turn("assistant", "Hello")])
    assert segments[0] == (DEFAULT_SYSTEM + "<|im_start|>assistant\n", False)
    assert segments[1] == ("Hello<|im_end|>", True)


def test_an_answer_of_weight_zero_is_not_learned() -> None:
    form = chat()
    messages = [turn("system", "S"), turn("user", "a"), turn("assistant", "no", weight=0)]
    messages += [turn("user", "b"), turn("assistant", "yes", weight=1)]
    assert trained(form, form.encode(messages, 1000)) == "yes<|im_end|>"
    assert "weight" not in form.render(messages)


def test_plain_text_is_learned_whole() -> None:
    form = chat()
    encoded = form.encode([turn("text", "once")], 1000)
    assert encoded.labels == encoded.token_ids
    assert trained(form, encoded) == "once<|im_end|>"


def test_too_long_a_question_loses_its_beginning() -> None:
    form = chat()
    messages = [turn("user", "q" * 300), turn("assistant", "answer")]
    whole = form.encode(messages, 1000)
    encoded = form.encode(messages, 50)
    assert encoded.token_ids == whole.token_ids[-50:]
    assert encoded.num_cut_tokens == len(whole.token_ids) - 50
    assert trained(form, encoded) == "answer<|im_end|>"


def test_too_long_an_answer_keeps_its_beginning() -> None:
    form = chat()
    encoded = form.encode([turn("user", "q"), turn("assistant", "abc" * 100)], 40)
    assert trained(form, encoded) == ("abc" * 100)[:40]


def test_a_template_without_an_end_of_turn_learns_to_stop() -> None:
    form = chat(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    messages = [turn("user", "a"), turn("assistant", "b")]
    assert trained(form, form.encode(messages, 100)).endswith("b<|im_end|>")


def test_a_template_that_rewrites_earlier_answers_is_still_cut_right() -> None:
    # As Qwen3's: only the last answer carries its reasoning.
    form = chat(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    messages = [turn("user", "a"), turn("assistant", "b"), turn("user", "c")]
    messages.append(turn("assistant", "d"))
    learned = [s.text for s in form.segments(messages) if s.is_trained]
    assert learned == ["b<|im_end|>", "<think></think>d<|im_end|>"]


def test_generation_marks_add_no_text() -> None:
    form = chat(
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
        "<|im_end|>{% endfor %}"
    )
    assert form.render([turn("user", "a")]) == "a<|im_end|>"


def test_a_model_without_system_turns_gets_it_in_the_first_question() -> None:
    form = chat(
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    messages = [turn("system", "S"), turn("user", "q"), turn("assistant", "a")]
    assert form.render(messages).startswith("<|im_start|>user\nS\n\nq<|im_end|>")
    assert [s.text for s in form.segments(messages) if s.is_trained] == ["a<|im_end|>"]
    with pytest.raises(ChatError, match="no system role"):
        form.render([turn("system", "S")])


def test_a_template_cannot_reach_the_interpreter() -> None:
    form = chat("{{ messages.__class__.__mro__ }}")
    with pytest.raises(ChatError):
        form.render([turn("user", "a")])


def test_prompts_are_what_training_saw() -> None:
    form = chat()
    messages = [turn("user", "q"), turn("assistant", "a")]
    encoded = form.encode(messages, 1000)
    prompt = form.encode_prompt(messages[:1])
    assert encoded.token_ids[: len(prompt)] == prompt
    assert form.end_token_ids == {json.loads(tokenizer_json())["added_tokens"][2]["id"]}
