"""The lock must serve machines with and without CUDA, whatever wheel lay at hand then."""

import re
from pathlib import Path

LOCK = (Path(__file__).parent.parent / "requirements.lock").read_text()


def test_the_lock_records_no_local_build() -> None:
    assert not re.search(r"^[^#]*==[^;\s]*\+", LOCK, re.MULTILINE)


def test_torch_is_pinned_without_a_suffix() -> None:
    assert re.search(r"^torch==2\.13\.0(\s|$)", LOCK, re.MULTILINE)


def test_the_cuda_packages_are_kept() -> None:
    for name in ("nvidia-cublas", "nvidia-cudnn-cu13", "triton"):
        assert re.search(rf"^{name}==", LOCK, re.MULTILINE), name


def test_the_lock_names_no_host() -> None:
    assert "://" not in LOCK
