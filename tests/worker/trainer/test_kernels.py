"""The GPU's kernels, done on a CPU by Triton's interpreter: the tests that a GPU runs compiled."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_kernels_give_what_torchs_operations_give() -> None:
    # A process of its own: Triton asks once whether it is to compile or to interpret.
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "tests/gpu/test_kernels.py", "-q",
            "--confcutdir=tests/gpu", "-p", "no:cacheprovider", "-o", "filterwarnings=default",
        ],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "ETUDE_TEST_DEVICE": "cpu"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout
    assert "skipped" not in ended.stdout
