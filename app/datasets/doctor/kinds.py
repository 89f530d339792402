"""What the doctor may find: what it is called, how much it matters and why, in a sentence each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.core.models import Severity

# From about so many examples on, training begins to pay.
ENOUGH_EXAMPLES = 200
ENOUGH_TESTS = 20

Judge = Callable[[float], Severity]


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        short: What it is called beside an example.
        one: What it is called where one example has it.
        many: The same for several, behind their number.
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
        return self.one if count <= 1 else f"{count:,} {self.many}"


# In the order in which equal ones are shown.
KINDS = {
    "amount": Kind(
        "",
        "Few examples",
        "examples are few",
        "{total} examples: try instructions first (a good system message, with some of these "
        f"examples in it); from about {ENOUGH_EXAMPLES} on, training begins to pay.",
    ),
    "test_set": Kind(
        "",
        "A small test set",
        "examples in the test set",
        "The test set has {tests}: too few to tell whether the model has become better, so read "
        f"its answers yourself; {ENOUGH_TESTS} or more would tell.",
        least=2,
    ),
    "empty": Kind(
        "Says nothing",
        "1 example says nothing",
        "examples say nothing",
        "The question or the answer holds no words, or only a stand-in such as “n/a” or “tbd”, and "
        "the model would learn to say just that.",
        worst=0.02,
    ),
    "placeholder": Kind(
        "A gap left open",
        "1 example has a gap that nobody filled in",
        "examples have gaps that nobody filled in",
        "A pattern such as {{{{name}}}}, [NAME], XXX or “Lorem ipsum” was left as it stood, and "
        "the model would learn to write it.",
        worst=0.02,
    ),
    "broken_letters": Kind(
        "Broken letters",
        "1 example has broken letters",
        "examples have broken letters",
        "Accents and umlauts were damaged on the way here (“Ã¼” for “ü”, or “�”), and the model "
        "would learn to write them so.",
        worst=0.02,
    ),
    "leak": Kind(
        "Also in the practice set",
        "1 test question also stands in the practice set",
        "test questions also stand in the practice set",
        "The model would be tested on what it has learned by heart, so the result would look "
        "better than it is.",
        worst=0.05,
    ),
    "duplicate": Kind(
        "Repeats another",
        "1 example stands here twice",
        "examples repeat another one",
        "What stands here several times is learned as if it mattered more than the rest.",
        worst=0.2,
        least=0.001,
    ),
    "conflict": Kind(
        "Another answer elsewhere",
        "1 question has another answer elsewhere",
        "questions have another answer elsewhere",
        "The same question is answered in different ways, and the model cannot know which is "
        "right.",
        worst=0.1,
    ),
    "near_duplicate": Kind(
        "Almost repeats another",
        "1 example is almost the same as another",
        "examples are almost the same as another",
        "More than four fifths of the words agree, and no number differs; such repeats add little "
        "and weigh much.",
        least=0.005,
    ),
    "echo": Kind(
        "Repeats its question",
        "1 answer only repeats its question",
        "answers only repeat their question",
        "The answer adds nothing to the question, and the model would learn to repeat what it is "
        "asked.",
        worst=0.05,
    ),
    "markup": Kind(
        "Marks of a web page",
        "1 example has marks of a web page in it",
        "examples have marks of a web page in them",
        "Signs such as <br> or &amp;nbsp; were left from a web page, and the model would learn to "
        "write them.".replace("&amp;", "&"),
        least=0.001,
    ),
    "language": Kind(
        "Another language",
        "1 answer is in another language",
        "answers are in another language",
        "Most answers are in {most}; these are in {others}. That is right for a class in "
        "languages, and a slip elsewhere.",
        least=0.01,
    ),
    "cut": Kind(
        "Longer than a job takes",
        "1 example is longer than a job takes",
        "examples are longer than a job takes",
        "A job reads at most {limit} tokens of an example unless you choose more; of these, {lost} "
        "tokens would be cut off{answers}.",
    ),
    "long": Kind(
        "Very long",
        "1 answer is far longer than the others",
        "answers are far longer than the others",
        "Half of the answers have at most {median} characters; these have more than {bound}, which "
        "often is a whole document in one cell.",
        least=2,
    ),
    "short": Kind(
        "Very short",
        "1 answer is far shorter than the others",
        "answers are far shorter than the others",
        "Half of the answers have {median} characters or more; these have at most {bound} and may "
        "be notes rather than answers.",
        least=2,
    ),
    "imbalance": Kind(
        "A very common answer",
        "1 answer outweighs the others",
        "examples have one and the same answer",
        "One answer stands in {share} of the examples; a model that always gave it would seem to "
        "be right that often.",
        least=0.1,
    ),
    "spaces": Kind(
        "Stray blanks",
        "1 example has stray spaces or blank lines",
        "examples have stray spaces or blank lines",
        "Blanks at the start or end of a text are learned like letters.",
        least=2,
    ),
}


def reason(kind: str, detail: dict[str, Any]) -> str:
    """Say why a finding matters."""
    return KINDS[kind].reason.format(**detail)
