"""What examples are about: words in company, never a name, and nothing where there is nothing."""

import json
import random

from app.datasets.doctor import rows
from app.datasets.doctor.topics import MOST_TOPICS, Topics


def topics_of(texts: list[str]) -> Topics:
    topics = Topics(len(texts))
    for index, text in enumerate(texts):
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]
        line = f"{index}\ttrain\t{json.dumps(messages)}\t\\N\n".encode()
        topics.check([rows._row(line, 0)])
    return topics


KITCHEN = "Where can I find flour, butter and sugar in the kitchen on day {n}?"
GARDEN = "Who waters roses, tulips and beans in the garden on day {n}?"


def test_words_that_come_together_are_a_topic() -> None:
    themes = [KITCHEN, GARDEN, "Is it {n}?"]
    found = topics_of([themes[n % 3].format(n=n) for n in range(60)]).found()
    assert [topic.count for topic in found] == [20, 20]
    kitchen = {"flour", "butter", "sugar", "kitchen", "find"}
    garden = {"waters", "roses", "tulips", "beans", "garden"}
    for topic in found:
        assert set(topic.words) <= kitchen or set(topic.words) <= garden


def test_chance_is_no_topic() -> None:
    chosen = random.Random(7)
    words = [f"{one}{other}word" for one in "abcdefghijkl" for other in "abcdefghijkl"]
    weights = [1 / (place + 3) for place in range(len(words))]
    texts = [" ".join(chosen.choices(words, weights, k=14)) for _ in range(1500)]
    assert topics_of(texts).found() == []


def test_neither_names_nor_numbers_nor_rare_words_are_shown() -> None:
    texts = [f"Anna Müller in room {n} takes tablets with water" for n in range(20)]
    texts += [f"Visitors leave by the door number {n} of the lobby" for n in range(30)]
    texts += ["Secretword codeword passphrase"]
    shown = {word for topic in topics_of(texts).found() for word in topic.words}
    assert {"tablets", "takes"} & shown
    assert not shown & {"anna", "müller", "secretword", "codeword", "passphrase", "with"}
    assert not any(character.isdigit() for word in shown for character in word)


def test_a_few_examples_have_no_topics() -> None:
    assert topics_of([KITCHEN.format(n=n) for n in range(10)]).found() == []
    assert topics_of([]).found() == []
    assert topics_of(["?"] * 50).found() == []


def test_there_are_at_most_so_many_and_each_example_counts_once() -> None:
    themes = [f"{letter}alpha {letter}beta {letter}gamma" for letter in "abcdefghijk"]
    topics = topics_of([themes[n % len(themes)] for n in range(330)]).found()
    assert len(topics) == MOST_TOPICS
    assert {topic.count for topic in topics} == {30}


def test_a_large_dataset_is_looked_at_in_part() -> None:
    topics = Topics(1_000_000)
    line = b'%d\ttrain\t[{"role": "text", "content": "Nothing"}]\t\\N\n'
    for index in range(0, 1_000_000, 100):
        topics.check([rows._row(line % index, 0)])
    assert topics.num_looked_at == 5_000
