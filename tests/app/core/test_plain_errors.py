"""What errors mean, in words for people who do not program."""

import ast
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core import plain_errors


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (
            "The model's files could not be read or written: [Errno 2] No such file or directory: "
            "'/var/lib/etude/models/a/tokenizer.json'.",
            "The model's files could not be read or written: it is not there: “tokenizer.json”.",
        ),
        ("Line 14 has no `messages`.", "Line 14 has no messages."),
        ("[Errno 111] Connection refused", "nothing answers at this address"),
        ("No such file or directory (os error 2)", "it is not there"),
        (
            "The server answered 403: Permission denied",
            "The server answered 403: Permission denied",
        ),
        # Addresses of pages and of programs are no files.
        (
            "Decide on the page /versions/3/privacy, or by /v1/files/file-3/content.",
            "Decide on the page /versions/3/privacy, or by /v1/files/file-3/content.",
        ),
    ],
)
def test_what_programmers_read_is_taken_out_of_a_sentence(said: str, read: str) -> None:
    assert plain_errors.cleaned(said) == read


def test_an_errors_own_words_are_cleaned_too() -> None:
    error = ValueError("`rank` is missing in /tmp/x/adapter_config.json")
    assert plain_errors.words(error) == "rank is missing in “adapter_config.json”"
    assert plain_errors.words(OSError(errno.ENOENT, "No such file")) == "it is not there"


_ROOT = Path(__file__).parents[3]
_SOURCES = [path for wing in ("app", "worker") for path in sorted((_ROOT / wing).rglob("*.py"))]
# What these say is read in a terminal by whoever runs Etude.
_TERMINALS = ("app/ops/", "app/cli.py", "app/core/settings.py", "app/core/roles.py")
_FOR_LOGS = ("print", "log", "_log", "plain_errors")
# Where the kinds that are caught have words of our own, or none that anybody reads.
_OWN_WORDS = {
    "app/web/multipart.py": "of a form that a program sent, mostly in our words",
    "app/core/confined/__main__.py": "why a person's pattern is none, beside its field",
    "app/datasets/readers/gzipped.py": "asked for a word, not told",
    "app/datasets/readers/pdf.py": "asked for a word, not told",
    "app/datasets/readers/tables.py": "asked for a word, not told",
    "app/datasets/readers/xls.py": "asked for a word, not told",
    "app/training/isolation/__init__.py": "what a kernel lacks, for an administrator",
    "app/training/isolation/landlock.py": "what a kernel lacks, for an administrator",
    "app/training/isolation/seccomp.py": "what a kernel lacks, for an administrator",
    "worker/gpu/energy.py": "for the caller, who goes on without it",
    "worker/inference/llama_abi.py": "which program is not the one that was packed",
    "worker/inference/slot_cache.py": "printed for the log",
    "worker/inference/steps.py": "printed for the log",
    "worker/trainer/layers/kernels.py": "printed for the log",
    "worker/trainer/base_model.py": "ValueErrors of app.training.manifests",
    "worker/trainer/start.py": "ValueErrors of app.training.manifests",
}


def _own_kinds() -> set[str]:
    trees = [ast.parse(path.read_text()) for path in _SOURCES]
    return {one.name for tree in trees for one in ast.walk(tree) if isinstance(one, ast.ClassDef)}


def _raw_words(tree: ast.AST, own: set[str]) -> Iterator[ast.expr]:
    """Find where the words of what a library or the system raised go into a sentence."""
    for handler in ast.walk(tree):
        if not (isinstance(handler, ast.ExceptHandler) and handler.name and handler.type):
            continue
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if all(ast.unparse(kind).rpartition(".")[2] in own for kind in kinds):
            continue
        told = {f"str({handler.name})", f"{handler.name}.strerror", handler.name}
        fit: set[ast.AST] = set()
        for one in ast.walk(handler):
            if isinstance(one, ast.Compare) or (
                isinstance(one, ast.Call) and ast.unparse(one.func).partition(".")[0] in _FOR_LOGS
            ):
                fit.update(ast.walk(one))
        for one in ast.walk(handler):
            if one in fit:
                continue
            value = one.value if isinstance(one, ast.FormattedValue) else None
            is_text = isinstance(one, ast.Call) and ast.unparse(one) in told
            said = ast.unparse(value) if value is not None else ""
            if is_text or said in told or said.startswith(f"{handler.name}.strerror or"):
                assert isinstance(one, ast.expr)
                yield one


def test_no_reason_has_the_words_of_a_library_or_of_the_system_in_it() -> None:
    """They go to the log; people read a sentence of ours, or what plain_errors makes of them."""
    own, met = _own_kinds(), []
    for path in _SOURCES:
        name = str(path.relative_to(_ROOT))
        if name.startswith(_TERMINALS) or name in _OWN_WORDS:
            continue
        found = _raw_words(ast.parse(path.read_text()), own)
        met += [f"{name}:{one.lineno}: {ast.unparse(one)}" for one in found]
    assert not met, "\n".join(met)
