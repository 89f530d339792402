"""GGUF files say what transformers and PEFT say, read text as we do, and name what they hold.

Sixteen bits are judged first and strictly: an adapter whose q and k were not turned is within what
eight bits may differ.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGUFReader

from app.training.chat import ChatFormat
from tests.worker.exporting.conftest import Made, make
from tests.worker.exporting.tiny_families import FAMILIES, QUESTIONS
from worker.exporting import endings
from worker.exporting.gguf_merged import write_merged_gguf
from worker.exporting.llama_cpp_proof import Opened, RowScore, opened, read_texts
from worker.inference.agreement import Answer

EACH = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "llama3" else [pytest.mark.long]) for n in FAMILIES],
)
Given = Callable[[str], Made]


def score_gguf(
    gguf: Path,
    rows: list[list[int]],
    starts: list[int],
    adapter: Path | None = None,
    scale: float = 1.0,
) -> list[RowScore]:
    with opened(gguf, max(map(len, rows)), adapter, scale=scale) as model:
        return model.scores(rows, starts)


def agreement(
    gguf: Path, answers: list[Answer], adapter: Path | None = None, scale: float = 1.0
) -> tuple[float, float]:
    """Return the share of positions with the same likeliest token, and how the losses differ."""
    found = score_gguf(
        gguf,
        [[*answer.prompt_ids, *answer.answer_ids] for answer in answers],
        [len(answer.prompt_ids) for answer in answers],
        adapter,
        scale,
    )
    positions = sum(len(answer.answer_ids) for answer in answers)
    assert positions == sum(len(score.logprobs) for score in found) >= 300
    same = sum(
        one == other
        for score, answer in zip(found, answers, strict=True)
        for one, other in zip(score.likeliest, answer.likeliest, strict=True)
    )
    loss = sum(sum(answer.logprobs) - sum(score.logprobs)
               for score, answer in zip(found, answers, strict=True))  # fmt: skip
    return same / positions, abs(loss) / positions


@EACH
def test_a_merged_model_says_what_transformers_says(name: str, family: Given) -> None:
    made = family(name)
    answers = made.answers(made.merged)
    base_answers = made.answers(made.base)
    # Or nothing would be proved of what was merged.
    assert sum(a.answer_ids != b.answer_ids
               for a, b in zip(answers, base_answers, strict=True)) > 5  # fmt: skip
    same, loss = agreement(made.files["f16"], answers)
    assert (same >= 0.98, loss <= 0.02) == (True, True), (same, loss)
    same, loss = agreement(made.files["q8_0"], answers)
    assert (same >= 0.95, loss <= 0.05) == (True, True), (same, loss)
    same, loss = agreement(made.files["q4_k_m"], answers)
    assert (same >= 0.5, loss <= 0.5) == (True, True), (same, loss)  # shown without a bound


@EACH
def test_an_adapter_beside_its_model_says_what_peft_says(name: str, family: Given) -> None:
    made = family(name)
    base, adapter = made.files["base"], made.files["adapter"]
    same, loss = agreement(base, made.answers(made.base, made.adapter), adapter)
    assert (same >= 0.98, loss <= 0.02) == (True, True), (same, loss)
    # At scale 0 it is as if it were not there.
    answers = made.answers(made.base)
    rows = [[*answer.prompt_ids, *answer.answer_ids] for answer in answers]
    starts = [len(answer.prompt_ids) for answer in answers]
    without = score_gguf(base, rows, starts)
    silent = score_gguf(base, rows, starts, adapter, 0.0)
    for one, other in zip(without, silent, strict=True):
        assert one.likeliest == other.likeliest
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)


@EACH
def test_text_is_read_as_etude_reads_it(name: str, family: Given) -> None:
    made, expected = family(name), FAMILIES[name]
    chat = ChatFormat.load(made.merged)
    talks = [[{"role": "user", "content": question}] for question in QUESTIONS]
    talks += [
        [
            {"role": "system", "content": "Answer briefly."},
            *talk,
            {"role": "assistant", "content": "It's 12:30.\n\n- so\n\tthere"},
            {"role": "user", "content": "And  then 100 km?"},
        ]
        for talk in talks
    ]
    found = read_texts(made.files["f16"], [chat.render(talk, True) for talk in talks])
    assert found.token_ids == [chat.encode_prompt(talk) for talk in talks]
    assert found.adds_bos is expected.adds_bos
    assert chat.end_token_ids <= found.end_ids
    assert chat.tokenizer.token_to_id(expected.turn_end) in found.end_ids
    others = {"<|start_header_id|>", "<|im_start|>", "[INST]", "<start_of_turn>", "<|user|>"}
    starting = {chat.tokenizer.token_to_id(text) for text in others} - {None}
    assert not starting & found.end_ids


@EACH
def test_a_file_names_what_it_holds(name: str, family: Given) -> None:
    made, expected = family(name), FAMILIES[name]
    reader = GGUFReader(made.files["f16"])
    said = {field.name: field for field in reader.fields.values()}

    def value(key: str) -> object:
        return said[key].contents()

    architecture = value("general.architecture")
    assert value("tokenizer.ggml.model") == expected.kind
    assert value("tokenizer.ggml.pre") == expected.pre
    assert value("tokenizer.chat_template") == (made.merged / "chat_template.jinja").read_text()
    tokens = said["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == made.config["vocab_size"] == len(set(tokens))
    assert tokens[-1] == f"[PAD{len(tokens) - 1}]"
    assert tokens[int(str(value("tokenizer.ggml.eos_token_id")))] == expected.eos
    if expected.turn_end != expected.eos:
        assert tokens[int(str(value("tokenizer.ggml.eot_token_id")))] == expected.turn_end
    types = said["tokenizer.ggml.token_type"].contents()
    assert types[tokens.index(expected.turn_end)] == 3  # a control word
    assert types[-1] == 5  # unused
    rope = made.config.get("rope_parameters") or {}
    theta = rope.get("full_attention", rope).get("rope_theta")
    assert value(f"{architecture}.rope.freq_base") == pytest.approx(theta)
    matrices = {t.name: t.tensor_type.name for t in reader.tensors if len(t.shape) > 1}
    assert set(matrices.values()) == {"F16"}
    assert {t.tensor_type.name for t in reader.tensors if len(t.shape) == 1} == {"F32"}
    assert ("rope_freqs.weight" in {t.name for t in reader.tensors}) == (name == "llama3.1")
    for form, kinds in (("q8_0", {"Q8_0"}), ("q4_k_m", {"Q4_K", "Q6_K"})):
        other = GGUFReader(made.files[form])
        found = {t.name: t.tensor_type.name for t in other.tensors if len(t.shape) > 1}
        assert (set(found), set(found.values())) == (set(matrices), kinds)
        assert made.notes[form].others == []
        skipped = ("general.file_type", "GGUF.")
        for key, field in said.items():
            if not key.startswith(skipped):
                assert other.fields[key].contents() == field.contents(), key
    assert {t.tensor_type.name for t in GGUFReader(made.files["adapter"]).tensors} == {"F16"}
    for path in made.files.values():
        assert str(made.base.parent).encode() not in path.read_bytes()


def speaking(model: Opened, ends: set[int], asked: list[list[int]]) -> endings.GoOn:
    def go_on(rows: list[list[int]], rooms: list[int]) -> list[list[int]]:
        asked.extend(rows)
        return [model.go_on(row, ends, room) for row, room in zip(rows, rooms, strict=True)]

    return go_on


def test_what_is_said_along_anothers_answer_is_what_is_said_alone(family: Given) -> None:
    made = family("llama3")
    prompts = made.prompts()[:6]
    drafts = [answer.answer_ids for answer in made.answers(made.base)][:6]  # untaught, so it parts
    starts = [len(prompt) for prompt in prompts]
    along = [[*prompt, *draft] for prompt, draft in zip(prompts, drafts, strict=True)]
    with opened(made.files["f16"], max(map(len, along)) + 1) as model:
        alone = [model.go_on(prompt, [], 24) for prompt in prompts]
        assert [len(said) for said in alone] == [24] * 6
        assert alone != drafts
        likeliest = [score.likeliest for score in model.scores(along, starts)]
        for place in (0, 5, 23):  # each token as if it were an end
            ends = {alone[0][place]}
            asked: list[list[int]] = []
            go_on = speaking(model, ends, asked)
            found = endings.count(prompts, drafts, likeliest, ends, 24, go_on)
            assert found == sum(bool(ends & set(said)) for said in alone) >= 1
            # Where they part, it goes on with its own word and not with the draft's.
            for row in asked:
                assert any(row == [*p, *s[: len(row) - len(p)]]
                           for p, s in zip(prompts, alone, strict=True))  # fmt: skip
        stopped = model.go_on(prompts[0], {alone[0][5]}, 24)
        assert stopped == alone[0][: alone[0].index(alone[0][5]) + 1]


@pytest.mark.long
def test_an_adapter_scaled_by_the_root_of_its_rank_agrees(tmp_path: Path) -> None:
    made = make(tmp_path, "smollm2", use_rslora=True, lora_alpha=4)
    alpha = GGUFReader(made.files["adapter"]).fields["adapter.lora.alpha"].contents()
    assert alpha == pytest.approx(4 * 8**0.5)
    answers = made.answers(made.base, made.adapter)
    same, loss = agreement(made.files["base"], answers, made.files["adapter"])
    assert (same >= 0.98, loss <= 0.02) == (True, True), (same, loss)


@pytest.mark.long
def test_a_file_is_made_in_one_call_as_in_two(family: Given, tmp_path: Path) -> None:
    made = family("llama3")
    out = tmp_path / "out" / "model.gguf"
    note = write_merged_gguf(made.merged, out, "q4_k_m")
    assert note == made.notes["q4_k_m"]
    assert out.read_bytes() == made.files["q4_k_m"].read_bytes()
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.long
def test_a_title_does_not_promise_phi_3s_tokens(family: Given, tmp_path: Path) -> None:
    """Where they are missing, llama.cpp would not load the file."""
    for name, shown in (("smollm2", "Not PHI 3 (llama)"), ("phi3", "Not PHI 3 (phi-3)")):
        made, out = family(name), tmp_path / f"{name}.gguf"
        write_merged_gguf(made.merged, out, "f16", title="Not PHI-3")
        assert GGUFReader(out).fields["general.name"].contents() == shown
        assert read_texts(out, ["so"]) == read_texts(made.files["f16"], ["so"])
