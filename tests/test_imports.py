"""Who may import whom: the web and the workers' parents never load torch."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "accelerate"}


def modules(package: str) -> list[str]:
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__main__.py"
    )


def test_neither_web_nor_workers_load_torch() -> None:
    names = modules("app") + [m for m in modules("worker") if not m.startswith("worker.trainer")]
    assert "app.main" in names
    assert "worker.gpu.supervisor" in names
    program = (
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        f"found = {HEAVY!r} & set(sys.modules)\nassert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_web_knows_no_worker() -> None:
    for path in (ROOT / "app").rglob("*.py"):
        assert not {n for n in imported(path) if n.split(".")[0] == "worker"}, path


def test_what_all_agree_on_rests_on_nothing_else_of_the_application() -> None:
    for path in (ROOT / "app" / "training").rglob("*.py"):
        for name in imported(path):
            if name.partition(".")[0] in ("app", "worker"):
                assert name.startswith("app.training"), f"{path.name} imports {name}"


def test_the_trainer_knows_little_of_the_application() -> None:
    files = list((ROOT / "worker" / "trainer").rglob("*.py"))
    assert len(files) > 8
    for path in files:
        for name in imported(path):
            first, _, rest = name.partition(".")
            if first == "app":
                assert rest.split(".")[0] == "training", f"{path.name} imports {name}"
            if first == "worker":
                assert rest.startswith("trainer"), f"{path.name} imports {name}"


def imported(path: Path) -> set[str]:
    """Every module that a file imports, with the names taken from `app` and `worker`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module in ("app", "worker"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found
