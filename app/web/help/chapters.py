"""The chapters of Etude's help: pages of docs/, each with an address of its own below /help.

What is not listed here is for people who change Etude, and is not shown in it. An address names a
chapter, never a file.
"""

from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[3] / "docs"
PICTURES = DOCS / "guide" / "pictures"
GLOSSARY = "glossary"  # written from app/core/glossary.py, with an anchor for each term


@dataclass(frozen=True)
class Chapter:
    """A page of the help."""

    name: str  # in its address
    file: str  # below docs/
    title: str
    about: str


STEPS = (
    Chapter("start", "guide/start.md", "Getting started", "What Etude does, in six steps."),
    Chapter("data", "guide/data.md", "Data", "Which files to bring, and how examples are made."),
    Chapter("check", "guide/check.md", "Check", "What is looked for in the examples."),
    Chapter(
        "personal-details",
        "guide/personal-details.md",
        "Personal details",
        "What happens to names, addresses and numbers.",
    ),
    Chapter("train", "guide/train.md", "Train", "Start a job, read its curve, pause and stop it."),
    Chapter(
        "result", "guide/result.md", "Result", "How many answers are right, and what it means."
    ),
    Chapter("use", "guide/use.md", "Use", "Ask a model, share it, take it along."),
)
FOR_EVERYBODY = (
    Chapter("queue", "guide/queue.md", "Waiting in the queue", "When a job begins, and why then."),
    Chapter("account", "guide/account.md", "Your account", "Signing in, notices, keys, printing."),
    Chapter("formats", "formats.md", "What is read from a file", "Each format, in detail."),
    Chapter(GLOSSARY, "glossary.md", "Glossary", "Every word with its meaning."),
)
FOR_ADMINISTRATORS = (
    Chapter(
        "administrators",
        "administrators.md",
        "For administrators",
        "People, GPUs, limits, backups, updates, privacy.",
    ),
    Chapter("updating", "upgrading.md", "Updating Etude", "The steps, and the way back."),
    Chapter("settings", "configuration.md", "Configuration", "Every setting and hyperparameter."),
    Chapter("deploy", "deploy.md", "With Docker Compose", "Etude in production."),
    Chapter("operations", "operations.md", "Running Etude", "Backups, doctor, notices, logs."),
    Chapter("proxy", "proxy.md", "Behind a proxy", "TLS, nginx and Caddy."),
    Chapter(
        "starting-models", "starting-models.md", "Starting models", "Which one, and from where."
    ),
    Chapter("fair-queue", "queue.md", "The queue", "Who goes first, and who may not go now."),
    Chapter("scale", "scale.md", "What breaks first", "How far one installation carries."),
    Chapter("privacy-gate", "privacy.md", "The privacy gate", "What it finds, and how often."),
    Chapter("security", "security.md", "Security", "Each requirement, and where it is met."),
    Chapter("reliability", "reliability.md", "Reliability", "What survives which fault."),
)
IN_DETAIL = (
    Chapter("dataset-doctor", "doctor.md", "The dataset doctor", "How the check works."),
    Chapter("evaluation", "evaluation.md", "Evaluation", "How answers are marked and counted."),
    Chapter("exports", "exports.md", "Taking a model along", "Files for other programs."),
    Chapter("gguf", "exports-gguf.md", "GGUF files and Ollama", "Models for llama.cpp."),
    Chapter("turns", "turns.md", "Turns and fields", "Conversations, tools and thoughts."),
    Chapter("programs", "api.md", "Etude for programs", "What /v1 takes and gives."),
)
PARTS = {
    "Step by step": STEPS,
    "Good to know": FOR_EVERYBODY,
    "For administrators": FOR_ADMINISTRATORS,
    "In detail": IN_DETAIL,
}
CHAPTERS = {each.name: each for part in PARTS.values() for each in part}
BY_FILE = {each.file: each for each in CHAPTERS.values()}
