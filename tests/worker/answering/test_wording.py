"""The child that words questions for a site's vLLM: what a template costs ends in seconds."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.training import manifests
from tests import patience
from tests.app.core.test_confined import LOOPS, TEMPLATE, TURNS, model_folder


def word(folder: Path, cache: Path) -> tuple[int, list[dict[str, Any]]]:
    """Have one question worded; returns how the child ended, and what it said."""
    opening = {
        "base": str(folder),
        "manifest_sha256": manifests.write_manifest(folder),
        "cache_dir": str(cache),
    }
    asked = {"id": 1, "messages": TURNS[:1], "tools": None, "is_score": False}
    done = subprocess.run(
        [sys.executable, "-m", "worker.answering.wording"],
        input=f"{json.dumps(opening)}\n{json.dumps(asked)}\n",
        capture_output=True,
        text=True,
        timeout=patience.seconds(60),
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_question_is_worded(tmp_path: Path) -> None:
    code, said = word(model_folder(tmp_path / "model"), tmp_path / "cache")
    assert (code, said[1]["id"], said[1]["num_prompt"]) == (0, 1, 7)  # five bytes, two marks


def test_a_template_that_loops_is_ended(tmp_path: Path) -> None:
    # At its opening the child renders two turns.
    template = f"{{% if messages|length == 1 %}}{LOOPS}{{% endif %}}{TEMPLATE}"
    code, said = word(model_folder(tmp_path / "model", template), tmp_path / "cache")
    assert code == -signal.SIGPROF
    assert "ends" in said[0], "it was opened"
    assert len(said) == 1
