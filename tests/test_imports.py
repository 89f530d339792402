"""Who may import whom, as docs/decisions/0019 has it.

From the ground up: training, core, people, notices, machines and base_models, datasets, jobs,
adapters, evaluation, web and worker, ops, main and cli. Never upward between these wings; no circle
between modules, not even by an import inside a function or for types alone; web and worker never
each other; web and ops never torch; the trainer, inference and exporting of `app` only `training`.
Inference may use the trainer's layers, which know nothing of a job; exporting may use inference.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

from tests.architecture import ROOT, WINGS, imported, imports, modules, wing_of

HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "accelerate"}
# A child of the cpu worker that loads a model; its parent does not import it.
LOADS_MODELS = {"worker.cpu.model_conversion"}
COMPUTES = ("worker.trainer", "worker.inference", "worker.exporting")


def test_no_wing_imports_upward() -> None:
    upward = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if floor(other) > floor(module)
    ]
    assert upward == []


def test_wings_on_one_floor_do_not_know_each_other() -> None:
    """Web and worker above all: they meet in the database."""
    sideways = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if floor(other) == floor(module) and wing_of(other) != wing_of(module)
    ]
    assert sideways == []


def test_no_modules_import_in_a_circle() -> None:
    """Not even by an import inside a function, or for types alone."""
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_what_computes_knows_the_application_by_its_training_wing_alone() -> None:
    for wing in COMPUTES:
        for module, others in imports().items():
            if is_below(module, wing):
                known = [wing, "app.training"]
                if wing == "worker.inference":
                    known.append("worker.trainer.layers")
                if wing == "worker.exporting":
                    known.append("worker.inference")
                strangers = [other for other in others if not is_below(other, *known)]
                assert strangers == [], module
    assert any(is_below(module, "worker.trainer") for module in imports())


def test_only_what_computes_imports_torch() -> None:
    allowed = {module for module in modules() if is_below(module, *COMPUTES)}
    for module in set(modules()) - allowed - LOADS_MODELS:
        found = {name.split(".")[0] for name in imported(module)} & HEAVY
        assert not found, f"{module} imports {found}"


def test_neither_web_nor_workers_load_torch() -> None:
    """What imports bring along: each process's modules are loaded, and torch is not among them."""
    names = [m for m in modules() if not is_below(m, *COMPUTES)]
    names = [name for name in names if not name.endswith("__main__")]
    assert {"app.main", "worker.gpu.supervisor"} <= set(names)
    program = (
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        f"found = {HEAVY!r} & set(sys.modules)\nassert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_neither_workers_nor_commands_load_what_answers_pages() -> None:
    """It is a third of the time that they take to begin."""
    names = [m for m in modules() if m != "app.main" and not is_below(m, "app.web", *COMPUTES)]
    web = {"fastapi", "starlette"}
    found = {m for m in names if web & {name.split(".")[0] for name in imported(m)}}
    assert found == set()
    program = "import sys, app.core.db, app.people.auth, worker.celery_app, worker.answer\n"
    program += "assert 'fastapi' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_children_that_look_at_rows_load_no_tables() -> None:
    """They start for each file and each check, and would take three times as long to."""
    for name in ("readers.reader", "doctor.__main__", "privacy.__main__"):
        program = f"import sys, app.datasets.{name}\nassert 'sqlalchemy' not in sys.modules"
        subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_only_children_use_what_strangers_wrote() -> None:
    """Neither web nor a worker's parent renders their templates or searches with their patterns."""
    uses = {
        "ChatFormat": {
            *("app.core.confined.__main__", "app.datasets.doctor.lengths"),
            *("app.training.fitting", "app.training.settings_files"),
            *("worker.answering.wording", "worker.cpu.model_conversion"),
        },
        "SitePattern": {"app.datasets.privacy.scanner", "app.datasets.privacy.__main__"},
    }
    for name, allowed in uses.items():
        found = {
            module
            for module in modules()
            if name in named(module) and not is_below(module, *COMPUTES)
        }
        assert found == allowed, name
    # Pages have templates of our own; `regex` compiles what people of the site wrote.
    libraries = {
        "jinja2": {"app.training.chat", "app.web.render"},
        "tokenizers": {
            *("app.training.chat", "app.training.control_words", "app.training.spelling"),
        },
        "regex": {"app.core.confined.__main__", "app.datasets.privacy.scanner"},
    }
    for name, allowed in libraries.items():
        found = {m for m in modules() if name in {each.split(".")[0] for each in imported(m)}}
        found = {m for m in found if not is_below(m, *COMPUTES)}
        assert found == allowed, name


def named(module: str) -> set[str]:
    """Return the names that a module's code uses, imports among them."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}


def is_below(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def floor(module: str) -> int:
    return next(number for number, wings in enumerate(WINGS) if wing_of(module) in wings)
