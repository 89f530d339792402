"""Token lengths by a base model's own tokenizer, counted once for a version and a model."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from app.base_models import registry as base_models
from app.core.errors import Invalid
from app.core.models import BaseModel
from app.datasets import lengths
from app.datasets.doctor.report import Report
from tests.factories import make_base_model, make_dataset_version

TEMPLATE = (
    "{% for message in messages %}<s>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)
REFUSING = "{{ raise_exception('Only rhymes, please.') }}"


def byte_model(db: Session, template: str = TEMPLATE) -> BaseModel:
    """A ready model whose tokens are bytes, in which each turn costs two tokens more."""
    model = make_base_model(db)
    folder = base_models.folder(model)
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<s>", "</s>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(template)
    return model


def test_lengths_are_counted_in_the_models_tokens_and_kept(db: Session) -> None:
    model = byte_model(db)
    version = make_dataset_version(db, num_train=9, num_validation=1)
    found = lengths.histogram(db, version, model)
    db.commit()
    # "What is rule 0?" is 15 bytes, "Rule 0 says: wash your hands." 29, and 2 marks a turn.
    assert (found.max_tokens, found.total_tokens) == (15 + 29 + 4, 480)
    assert dict(zip(found.upper_bounds, found.counts, strict=True)) == {16: 0, 32: 0, 64: 10}
    assert (found.num_train, found.num_validation) == (9, 1)
    # Kept: without any example the answer is the same.
    db.execute(text("DELETE FROM example"))
    db.commit()
    db.expire_all()
    assert lengths.histogram(db, version, model) == found


def test_a_sample_stands_for_a_long_version(db: Session) -> None:
    version = make_dataset_version(db, num_train=9, num_validation=1)
    found = lengths.histogram(db, version, byte_model(db), max_sample=4)
    assert sum(found.counts) == 4
    assert found.total_tokens == 480


def test_a_template_that_refuses_the_examples_is_told(db: Session) -> None:
    model = byte_model(db, REFUSING)
    with pytest.raises(Invalid, match=r"tiny cannot take these examples: .*Only rhymes") as caught:
        lengths.histogram(db, make_dataset_version(db), model)
    assert caught.value.field == "base_model_id"


def test_how_long_examples_are_is_known_without_reading_them(db: Session) -> None:
    version = make_dataset_version(db, num_train=90, num_validation=10)
    assert lengths.known(db, version, None) is None
    bars = {"question": [100] + [0] * 11, "answer": [0] * 6 + [50, 50] + [0] * 4}
    report = Report(num_examples=100, bars=bars, languages={"German": 3, "English": 1})
    assert report.language == "German"
    apart = lengths.known(db, version, report)
    assert apart is not None
    # 18.75 letters asked and 1,200 or 2,400 answered, of 0.28 tokens each, and the template's 20.
    assert apart.mean_tokens == pytest.approx(20 + 0.28 * 1818.75, rel=0.01)
    assert (apart.num_train, apart.num_validation) == (90, 10)
    report.bars["whole"] = [0] * 11 + [100]
    whole = lengths.known(db, version, report)
    assert whole is not None and whole.mean_tokens > 5 * apart.mean_tokens
    report.languages = {"Chinese": 1}
    signs = lengths.known(db, version, report)
    assert signs is not None and signs.mean_tokens > 2 * whole.mean_tokens
    counted = lengths.histogram(db, version, byte_model(db))
    assert lengths.known(db, version, report) == counted
    assert lengths.known(db, version, Report(num_examples=0)) == counted
