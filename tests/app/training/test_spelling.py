"""What tokens write, as they come: whole letters, and stop words wherever tokens end."""

import json
import random

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from app.training.spelling import Bytes, Speller
from tests.worker.trainer.conftest import tokenizer_json

TEXT = "Zwölf µg Naïveté — 10³/µl, ½ 😀👩‍⚕️ 你好 <|not a token|>\n\n\tEnde. "


def byte_level() -> Tokenizer:
    return Tokenizer.from_str(tokenizer_json())


def merged() -> Tokenizer:
    """Tokens that hold halves of letters and ends of one word with the beginning of the next."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=290, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(["e Ende. Na", "µg ½", "ïv" * 3, "µ😀ä½" * 9], trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As Llama 2 and Gemma have them: a sign for the space, bytes for what is rare."""
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    for letter in "▁abcdefghijklmnopqrstuvwxyzEZ.":
        vocabulary[letter] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


KINDS = {"byte_level": byte_level, "merged": merged, "sentencepiece": sentencepiece}


def spell(speller: Speller, ids: list[int]) -> tuple[list[str], int]:
    pieces, num = [], 0
    for token_id in ids:
        spelled = speller.add(token_id)
        pieces.append(spelled.text)
        num += spelled.num_tokens
        if speller.is_stopped:
            return pieces, num
    spelled = speller.end()
    return [*pieces, spelled.text], num + spelled.num_tokens


@pytest.mark.parametrize("kind", KINDS)
def test_all_letters_come_whole_and_in_order(kind: str) -> None:
    tokenizer = KINDS[kind]()
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert len(ids) > 20
    pieces, num = spell(Speller(Bytes(tokenizer)), ids)
    assert "".join(pieces) == TEXT
    assert "\ufffd" not in "".join(pieces)
    assert num == len(ids)
    assert max(map(len, pieces)) < 20  # they come as they are known, not at the end


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_letter_cut_off_at_a_limit_nothing_comes(kind: str) -> None:
    tokenizer = KINDS[kind]()
    ids = tokenizer.encode("So: 😀", add_special_tokens=False).ids
    pieces, _ = spell(Speller(Bytes(tokenizer)), ids[:-1])
    assert "".join(pieces).strip() == "So:"  # the space may lie in the letter's first token


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_word_is_found_wherever_tokens_end(kind: str) -> None:
    tokenizer = KINDS[kind]()
    draw = random.Random(1)
    for _ in range(200):
        start, length = draw.randrange(len(TEXT) - 1), draw.randrange(1, 8)
        stop = TEXT[start : start + length]
        ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
        speller = Speller(Bytes(tokenizer), [stop, "not there"])
        pieces, _ = spell(speller, ids)
        assert "".join(pieces) == TEXT.partition(stop)[0], stop
        assert speller.is_stopped


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_began_a_stop_word_is_given_out(kind: str) -> None:
    tokenizer = KINDS[kind]()
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    speller = Speller(Bytes(tokenizer), ["Ende. But not this", "10³/µl?"])
    pieces, num = spell(speller, ids)
    assert "".join(pieces) == TEXT
    assert num == len(ids)
    assert not speller.is_stopped


def test_the_first_of_several_stop_words_counts() -> None:
    tokenizer = merged()
    speller = Speller(Bytes(tokenizer), ["Ende", "Naïveté"])
    pieces, _ = spell(speller, tokenizer.encode(TEXT, add_special_tokens=False).ids)
    assert "".join(pieces) == "Zwölf µg "


def test_a_stop_word_may_be_kept() -> None:
    tokenizer = merged()
    speller = Speller(Bytes(tokenizer), ["½", "Naï"], keeps_stop=True)
    pieces, _ = spell(speller, tokenizer.encode(TEXT, add_special_tokens=False).ids)
    assert "".join(pieces) == "Zwölf µg Naï"


def test_an_empty_stop_word_is_none() -> None:
    tokenizer = merged()
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert "".join(spell(Speller(Bytes(tokenizer), [""]), ids)[0]) == TEXT


def test_rows_without_a_token_write_nothing() -> None:
    spelling = Bytes(byte_level())
    assert spelling.of(100_000) == b""
    assert spelling.is_special(256)
    assert not spelling.is_special(7)


def test_control_tokens_are_those_that_the_file_calls_special() -> None:
    tokenizer = json.loads(tokenizer_json(["<|im_end|>", "<think>"]))
    tokenizer["added_tokens"][1]["special"] = False
    spelling = Bytes(Tokenizer.from_str(json.dumps(tokenizer)))
    assert [spelling.is_special(token_id) for token_id in (256, 257)] == [True, False]
    assert spelling.of(257) == b"<think>"
