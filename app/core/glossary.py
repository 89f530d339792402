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
    Term("attempt", "One try of a worker at a job; after a break, the next attempt goes on."),
    Term(
        "better answer",
        "Of two answers to a test question, how often the model finds the better one likelier, "
        "compared with the starting model. Half is chance.",
        "preferred share",
    ),
    Term("check", "Etude looks through all examples for faults, and says how to fix each."),
    Term("checkpoint", "A saved place in training, from which a job goes on after a break."),
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
        "The numbers a model is made of. More of them know more, and need more memory.",
    ),
    Term("pass", "One time through all examples of the practice set.", "epoch"),
    Term("personal details", "Names, addresses and numbers by which somebody could be known."),
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
    Term("quarantined", "A GPU that no job gets until an administrator releases it."),
    Term("queue", "The jobs that wait for a machine, in the order in which they will start."),
    Term("rank", "How much an adapter can hold: a larger one learns more detail.", "LoRA rank"),
    Term("seed", "A number that fixes what is drawn at random, so that a job can be repeated."),
    Term(
        "starting model",
        "The model that a job trains an adapter for; it stays as it is.",
        "base model",
    ),
    Term("step", "One small change of the adapter, after a handful of examples."),
    Term("strike", "A broken attempt that got no further; after three of them a job fails."),
    Term(
        "test questions",
        "Examples that the model never learns from, kept back to see how it does on unseen ones.",
        "validation split",
    ),
    Term("test set", "All test questions of a version together.", "validation split"),
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
