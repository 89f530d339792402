"""Models as GGUF, written by the real converter in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import patience
from tests.worker.inference import tiny_models

# What the converter answers: its result, or the sentence that it ended with.
Convert = Callable[..., Any]


def convert(base: Path, manifest_sha256: str, *steps: dict[str, Any]) -> list[dict[str, Any]]:
    """Let the child do some steps, and return what it made."""
    last = converter_says(base, manifest_sha256, *steps)[-1]
    assert "result" in last, last
    result: list[dict[str, Any]] = last["result"]
    return result


def converter_says(
    base: Path, manifest_sha256: str, *steps: dict[str, Any]
) -> list[dict[str, Any]]:
    """Let the child do some steps, and return all that it says."""
    request = {"base": str(base), "manifest_sha256": manifest_sha256, "steps": steps}
    child = subprocess.Popen(
        [sys.executable, "-m", "worker.inference.convert"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin and child.stdout
    with child:
        try:
            child.stdin.write(json.dumps(request, default=str) + "\n")
            child.stdin.flush()
            # Standard input stays open meanwhile: its end would end the child.
            lines = [json.loads(line) for line in child.stdout]
            child.stdin.close()
            child.wait(patience.seconds(30))
        finally:
            child.kill()
    return lines


class Family:
    """A tiny model in the forms that a test compares."""

    def __init__(self, folder: Path, name: str) -> None:
        self.base, self.adapter, cache = folder / "base", folder / "adapter", folder / "cache"
        torch.set_num_threads(1)
        self.manifest = tiny_models.make_base(self.base, name)
        self.adapter_manifest = tiny_models.make_adapter(self.adapter, self.base)
        self.f16, self.q8_0 = cache / "f16.gguf", cache / "q8_0.gguf"
        self.lora, self.lora_f16 = cache / "lora.gguf", cache / "lora-f16.gguf"
        self.made = convert(
            self.base,
            self.manifest,
            {"kind": "base", "form": "f16", "target": self.f16},
            {"kind": "base", "form": "q8_0", "target": self.q8_0},
            *(
                {
                    **{"kind": "adapter", "form": form, "target": target},
                    **{"folder": self.adapter, "manifest_sha256": self.adapter_manifest},
                }
                for form, target in (("q8_0", self.lora), ("f16", self.lora_f16))
            ),
        )


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(tmp_path_factory.mktemp("llama"), "llama")
