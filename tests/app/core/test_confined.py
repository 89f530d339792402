"""What strangers wrote breaks the child that it is used in, and nobody else's work."""

import json
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from app.core.confined import kept, patterns
from app.core.confined.chat import ChatEnded, ConfinedChat
from app.core.confined.patterns import Verdict
from app.core.confined.within import TooSlow, is_panic, within
from app.core.errors import Unavailable
from app.training.chat import ChatError, ChatFormat
from tests import patience

TEMPLATE = "{% for message in messages %}<s>{{ message.content }}</s>{% endfor %}"
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TURNS = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]


def model_folder(folder: Path, template: str = TEMPLATE, split: str | None = None) -> Path:
    """A model whose tokens are bytes; `split` cuts its texts before that."""
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    cutters: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    if split is not None:
        cutters.insert(0, pre_tokenizers.Split(Regex(split), "isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cutters)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<s>", "</s>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def models_dir(data_dir: Path) -> Path:
    """What the child may read."""
    (data_dir / "models").mkdir(parents=True)
    return data_dir / "models"


def test_the_child_says_what_the_model_s_own_words_are(models_dir: Path) -> None:
    folder = model_folder(models_dir / "model")
    asked, own = ConfinedChat(folder, "1"), ChatFormat.load(folder)
    assert asked.segments(TURNS) == own.segments(TURNS)
    assert asked.num_prompt_tokens(TURNS[:1]) == len(own.encode_prompt(TURNS[:1]))
    assert asked.num_tokens(["What?", ""]) == [5, 0]
    found = asked.lengths([TURNS, TURNS], [None, None], 1000)
    assert found == ([len(own.encode(TURNS, 1000).token_ids)] * 2, "")
    cut = asked.measure(TURNS, None, 10)
    text = "".join(segment.text for segment in cut.segments)
    kept_ids = own.encode(TURNS, 10).token_ids
    assert cut.num_tokens == len(own.encode(TURNS, 1000).token_ids)
    assert text[cut.first : cut.last] == own.tokenizer.decode(kept_ids, skip_special_tokens=False)


def test_a_template_without_end_is_ended_and_the_next_request_is_answered(models_dir: Path) -> None:
    good = ConfinedChat(model_folder(models_dir / "good"), "1")
    bad = ConfinedChat(model_folder(models_dir / "bad", LOOPS), "2")
    good.check()
    before = kept.child.pid
    began = time.monotonic()
    with pytest.raises(ChatEnded, match="takes too long"):
        bad.segments(TURNS)
    assert time.monotonic() - began < patience.seconds(30)
    assert kept.child.pid not in (None, before)
    assert good.segments(TURNS)


def test_a_tokenizer_that_panics_takes_nobody_along(models_dir: Path) -> None:
    good = ConfinedChat(model_folder(models_dir / "good"), "1")
    bad = ConfinedChat(model_folder(models_dir / "bad", split="(a+)+#"), "2")
    assert bad.num_tokens(["What?"]) == [5]
    with pytest.raises(ChatError):
        bad.num_tokens(["a" * 300])
    assert good.num_tokens(["What?"]) == [5]


def test_a_damaged_tokenizer_is_told_in_a_sentence(models_dir: Path) -> None:
    folder = model_folder(models_dir / "model")
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE"}}')
    with pytest.raises(ChatError, match="tokenizer cannot be read"):
        ConfinedChat(folder, "1").check()


def test_another_model_in_the_same_folder_is_read_anew(models_dir: Path) -> None:
    folder = model_folder(models_dir / "model")
    before = ConfinedChat(folder, "1").segments(TURNS)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = f"New: {TEMPLATE}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert ConfinedChat(folder, "1").segments(TURNS) == before
    assert ConfinedChat(folder, "2").segments(TURNS)[0].text.startswith("New: ")


def test_a_long_template_is_refused_wherever_it_stands(models_dir: Path) -> None:
    long = TEMPLATE + "{# " + "x" * 70_000 + " #}"
    with pytest.raises(ChatError, match="unreasonably long"):
        ChatFormat.load(model_folder(models_dir / "config", long))
    named = [{"name": "default", "template": TEMPLATE}, {"name": "rag", "template": long}]
    folder = model_folder(models_dir / "named")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": named}))
    with pytest.raises(ChatError, match="unreasonably long"):
        ChatFormat.load(folder)


def test_a_killed_child_is_started_again(models_dir: Path) -> None:
    chat = ConfinedChat(model_folder(models_dir / "model"), "1")
    chat.check()
    pid = kept.child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert chat.segments(TURNS)
    assert kept.child.pid not in (None, pid)


def test_a_few_wait_for_their_turn_and_more_are_told_to_come_back(models_dir: Path) -> None:
    chat = ConfinedChat(model_folder(models_dir / "model"), "1")
    chat.check()
    pid = kept.child.pid
    assert pid is not None
    said: list[object] = []

    def ask() -> None:
        try:
            said.append(chat.num_tokens(["What?"]))
        except Unavailable as error:
            said.append(error.message)

    threads = [threading.Thread(target=ask) for _ in range(kept._MAX_WAITING + 4)]
    os.kill(pid, signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + patience.seconds(5)
        while len(said) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert all(isinstance(one, str) and "try again" in one for one in said)
    finally:
        os.kill(pid, signal.SIGCONT)
        for thread in threads:
            thread.join()
    assert said.count([5]) == kept._MAX_WAITING


def test_the_child_has_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:secret@host/etude")
    child = kept.KeptChild("app.core.confined")
    child.start()
    try:
        assert child.ask({"do": "find", "patterns": ["a"], "text": "ba"}) == {"said": [[1, 2, 0]]}
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()
        assert b"secret" not in environment
        assert (
            os.readlink(f"/proc/{child.pid}/ns/net") != os.readlink("/proc/self/ns/net")
            or not _may_leave()
        )
    finally:
        child.close()
    assert child.pid is None


def _may_leave() -> bool:
    from app.training import isolation

    return isolation.can_leave_network()


def test_a_child_of_a_worker_gives_a_template_so_many_seconds(models_dir: Path) -> None:
    chat = ChatFormat.load(model_folder(models_dir / "bad", LOOPS))
    with pytest.raises(TooSlow), within(0.3):
        chat.segments(TURNS)
    with within(0.3):
        pass
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    with pytest.raises(BaseException) as panicked:
        ChatFormat.load(model_folder(models_dir / "split", split="(a+)+#")).encode_prompt(
            [{"role": "user", "content": "a" * 300}]
        )
    assert is_panic(panicked.value)


@pytest.mark.parametrize(
    ("pattern", "verdict"),
    [
        (r"PX\d{4}", Verdict.GOOD),
        ("(", Verdict.NO_PATTERN),
        ("x?", Verdict.MATCHES_NOTHING),
        (r"(a|a)*(b|b)*(a+)+$", Verdict.SLOW),
        (r"QX\d{4}", Verdict.MISSES_SAMPLE),
        (r"\d{1000000000}", Verdict.TOO_LARGE),
        (r"(?:(?:(?:PX\d{900}){900}){900}){900}", Verdict.TOO_LARGE),
    ],
)
def test_a_pattern_is_tried_where_it_can_do_no_harm(pattern: str, verdict: Verdict) -> None:
    patterns.find(["a"], "a")  # it has started
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert patterns.attempt(pattern, "Patient PX1234").verdict is verdict
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes
    assert patterns.attempt(r"PX\d{4}", "Patient PX1234").verdict is Verdict.GOOD


def test_patterns_find_and_one_that_hangs_is_left_out() -> None:
    found = patterns.find([r"PX\d{4}", r"(a|a)*(b|b)*(a+)+$"], "PX1234 " + "a" * 60 + "!")
    assert found == [(0, 6, 0)]
