"""The terms that people meet on pages, each with its meaning in one line.

Pages take their explanations from here (`ui.term`), and docs/glossary.md is written from it
(`make glossary`). A term that the code or the field calls otherwise says so.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A word of the pages."""

    word: str
    meaning: str
    in_code: str = ""  # what code and the field call it, where that differs


_TERMS = (
    Term(
        "adapter",
        "A small file that holds what the model has learned; it works together with its "
        "starting model.",
        "adapter, LoRA weights",
    ),
    Term("attempt", "One try at a job; after an interruption, the next attempt resumes it."),
    Term(
        "better answer",
        "Of two answers to a question, how often the model finds the better one likelier, "
        "compared with the starting model. Half is chance.",
        "preferred share",
    ),
    Term("check", "Etude reads all examples, looks for faults and says how to fix each one."),
    Term(
        "check questions",
        "Examples that the model never learns from. Its loss on them shows during training how "
        "well it does, and which step to keep.",
        "validation split",
    ),
    Term(
        "check set",
        "All check questions of a version together. They choose, so a fair result needs the test "
        "set as well.",
        "validation split",
    ),
    Term("checkpoint", "A saved state of a job, from which it resumes after an interruption."),
    Term("dataset", "Examples that belong together, with all their versions."),
    Term(
        "DPO",
        "Direct preference optimization: the model sees a better and a worse answer and learns "
        "which one is better.",
    ),
    Term("example", "One question with its answer, one conversation, or one piece of text."),
    Term("GGUF", "A file format for models, used by llama.cpp and programs built on it."),
    Term("GPU", "A graphics processor; it trains a model many times faster than a CPU."),
    Term(
        "health",
        "Memory errors that could not be corrected, and critical messages from the driver (Xid), "
        "since the worker started.",
    ),
    Term("job", "One request to train a model with one version of a dataset."),
    Term("learning rate", "How far each step may move the adapter."),
    Term("load", "How many processes run, or wait for a core, averaged over the last minute."),
    Term(
        "LoRA",
        "Low-rank adaptation: the starting model stays as it is, and a small adapter is trained "
        "on top of it.",
    ),
    Term(
        "loss",
        "How surprised the model is by the right answers: smaller is better. It does not say "
        "that the model's own answers are right.",
    ),
    Term(
        "parameters",
        "The numbers that a model is made of. With more of them it knows more and needs more "
        "memory.",
    ),
    Term("pass", "One time through all examples of the practice set.", "epoch"),
    Term(
        "perplexity",
        "The loss in another form, e to the power of it: between so many next words the model "
        "wavers as if all were equally likely. Smaller is better.",
    ),
    Term("personal details", "Names, addresses and numbers that point to people."),
    Term(
        "practice questions",
        "Questions that the model has learned from: how well it does on them says nothing about "
        "new ones.",
        "train split",
    ),
    Term("practice set", "The examples that the model learns from.", "train split"),
    Term(
        "preference loss",
        "How far the model is from preferring the better answers: it starts at 0.69, and smaller "
        "is better.",
    ),
    Term(
        "QLoRA",
        "LoRA on a starting model that is kept in 4 bits, so that it fits into less memory.",
    ),
    Term(
        "quarantined",
        "Describes a GPU that gets no job until an administrator puts it back in use.",
    ),
    Term("queue", "The jobs that wait for a machine, in the order in which they will start."),
    Term("rank", "How much an adapter can hold: a higher rank learns more detail.", "LoRA rank"),
    Term("seed", "A number that fixes all random choices, so that a job can be repeated."),
    Term(
        "starting model",
        "The model that a job trains an adapter for; it stays as it is.",
        "base model",
    ),
    Term("step", "One small change of the adapter, after a handful of examples."),
    Term("strike", "An attempt that broke off without progress; after three of them a job fails."),
    Term(
        "test questions",
        "Examples that the model never learns from, kept back to see how well it does on new ones.",
        "test split",
    ),
    Term(
        "test set",
        "All test questions of a version together: asked only after training, to count how many "
        "answers are right. Nothing is chosen by them.",
        "test split",
    ),
    Term(
        "tokens",
        "Pieces of words: in English a token is about three quarters of a word.",
    ),
    Term("version", "A state of a dataset that never changes; every change makes the next one."),
    Term("worker", "The program on a machine that reads data or trains, one thing at a time."),
)
TERMS = {term.word: term for term in _TERMS}


def meaning_of(word: str) -> str:
    """Return what a term means.

    Raises:
        KeyError: the glossary lacks it.
    """
    return TERMS[word].meaning


def as_markdown() -> str:
    """Return docs/glossary.md."""
    lines = [
        "# Glossary",
        "",
        "The words on Etude's pages. `make glossary` writes this page from `app/core/glossary.py`.",
        "",
        "| word | meaning | in code |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {term.word} | {term.meaning} | {term.in_code} |" for term in _TERMS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
