"""What the doctor may find: what it is called, how much it matters and why, in a sentence each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.core.kinds import Severity

# From about so many examples on, training starts to pay off.
ENOUGH_EXAMPLES = 200
ENOUGH_TESTS = 20

Judge = Callable[[float], Severity]


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        short: What it is called beside an example.
        one: What it is called where one example has it.
        many: The same for {n} of them.
        reason: Why it matters, in one sentence; filled in with the finding's detail.
        worst: From which share of the examples on it has to be put right first; 2: never.
        least: Below which share it is only worth knowing.
    """

    short: str
    one: str
    many: str
    reason: str
    worst: float = 2
    least: float = 0

    def severity(self, share: float) -> Severity:
        if share >= self.worst:
            return Severity.BAD
        return Severity.NOTE if share < self.least else Severity.WARN

    def title(self, count: int) -> str:
        # None has it where it is said of the whole, such as that there are few.
        return self.one if count <= 1 else self.many.format(n=f"{count:,}")


# In the order in which equal ones are shown.
KINDS = {
    "amount": Kind(
        "",
        "Few examples",
        "{n} examples are few",
        "With {total} examples, first try a good instruction that has some of them in it; "
        f"from about {ENOUGH_EXAMPLES} on, training starts to pay off.",
    ),
    "test_set": Kind(
        "",
        "A small test set",
        "{n} examples in the test set",
        "The test set has {tests}, too few to tell whether the model has improved. Read "
        f"its answers yourself; {ENOUGH_TESTS} or more would tell.",
        least=2,
    ),
    "empty": Kind(
        "Empty",
        "1 example has an empty question or answer",
        "{n} examples have an empty question or answer",
        "The question or the answer has no words, or only a stand-in such as “n/a” or “tbd”. "
        "The model would learn to say just that.",
        worst=0.02,
    ),
    "placeholder": Kind(
        "Unfilled gap",
        "1 example has a gap that nobody filled in",
        "{n} examples have gaps that nobody filled in",
        "A pattern such as {{{{name}}}}, [NAME], XXX or “Lorem ipsum” was never filled in. "
        "The model would learn to write it.",
        worst=0.02,
    ),
    "broken_letters": Kind(
        "Broken letters",
        "1 example has broken letters",
        "{n} examples have broken letters",
        "Accents and umlauts were damaged (“Ã¼” instead of “ü”, or “�”). The model "
        "would learn to write them like that.",
        worst=0.02,
    ),
    "leak": Kind(
        "Also in another set",
        "1 example is in two sets",
        "{n} examples are in two sets",
        "A check or test question that is also practised is not a fair one, nor is a test question "
        "that is also a check question: the result would look better than it is.",
        worst=0.05,
    ),
    "duplicate": Kind(
        "Duplicate",
        "1 duplicate",
        "{n} duplicates",
        "A repeated example is learned as if it mattered more than the rest.",
        worst=0.2,
        least=0.001,
    ),
    "conflict": Kind(
        "Different answer elsewhere",
        "1 question has a different answer elsewhere",
        "{n} questions have a different answer elsewhere",
        "The same question is answered in different ways, and the model cannot know which is "
        "right.",
        worst=0.1,
    ),
    "near_duplicate": Kind(
        "Near-duplicate",
        "1 near-duplicate",
        "{n} near-duplicates",
        "More than four fifths of the words are the same, and all numbers are. Such repeats add "
        "little but count a lot.",
        least=0.005,
    ),
    "echo": Kind(
        "Repeats its question",
        "1 answer only repeats its question",
        "{n} answers only repeat their question",
        "The answer adds nothing to the question. The model would learn to repeat what it is "
        "asked.",
        worst=0.05,
    ),
    "markup": Kind(
        "Web page code",
        "1 example has web page code in it",
        "{n} examples have web page code in them",
        "Code such as <br> or &amp;nbsp; was left from a web page. The model would learn to "
        "write it.".replace("&amp;", "&"),
        least=0.001,
    ),
    "language": Kind(
        "Another language",
        "1 answer is in another language",
        "{n} answers are in another language",
        "Most answers are in {most}; these are in {others}. That is right for a language "
        "class, and a mistake elsewhere.",
        least=0.01,
    ),
    "cut": Kind(
        "Too long for training",
        "1 example is too long for training",
        "{n} examples are too long for training",
        "A job reads at most {limit} tokens of an example unless you choose more. Of these, {lost} "
        "tokens would be cut off{answers}.",
    ),
    "long": Kind(
        "Very long",
        "1 answer is far longer than the others",
        "{n} answers are far longer than the others",
        "Half of the answers have at most {median} characters; these have more than {bound}. It "
        "is often a whole document in one cell.",
        least=2,
    ),
    "short": Kind(
        "Very short",
        "1 answer is far shorter than the others",
        "{n} answers are far shorter than the others",
        "Half of the answers have {median} characters or more; these have at most {bound}. They "
        "may be notes rather than answers.",
        least=2,
    ),
    "imbalance": Kind(
        "A very common answer",
        "1 answer is very common",
        "{n} examples have the same answer",
        "One answer is in {share} of the examples. A model that always gave it would seem to "
        "be right that often.",
        least=0.1,
    ),
    "spaces": Kind(
        "Extra spaces",
        "1 example has extra spaces or blank lines",
        "{n} examples have extra spaces or blank lines",
        "The model learns spaces at the start or end of a text as if they were letters.",
        least=2,
    ),
}


def reason(kind: str, detail: dict[str, Any]) -> str:
    """Say why a finding matters."""
    return KINDS[kind].reason.format(**detail)
