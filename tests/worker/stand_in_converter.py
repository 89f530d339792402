"""A small program in place of `python -m worker.inference.convert`: it makes files, or refuses.

A file `unconvertible` beside the model's holds the sentence of a refusal, `full` that of one that
passes; with `unfit` there what it makes agrees with nothing, with `unchecked` nobody knows. Each
step is noted in `journal`. With `lingering` it does not end once it is done.
"""

import json
import sys
import time
from pathlib import Path

from worker.inference import gguf_files
from worker.inference.gguf_files import Agreement


def main() -> None:
    request = json.loads(sys.stdin.readline())
    base = Path(request["base"])
    print(json.dumps({"progress": {"doing": "preparing the model for answering"}}), flush=True)
    for step in request["steps"]:
        with (base / "journal").open("a") as journal:
            journal.write(f"convert {step['kind']}\n")
        refusal = base / "unconvertible"
        if refusal.exists():
            print(json.dumps({"error": refusal.read_text()}))
            return
        full = base / "full"
        if full.exists():
            print(json.dumps({"error": full.read_text(), "is_passing": True}))
            return
        target = Path(step["target"])
        target.write_bytes(b"GGUF")
        if step["kind"] == "base":
            share = 0.5 if (base / "unfit").exists() else 1.0
            checked = not (base / "unchecked").exists()
            found = Agreement(form="q8_0", is_checked=checked, num_positions=9, same_share=share)
            gguf_files.write_agreement(target, found)
    print(json.dumps({"result": []}), flush=True)
    if (base / "lingering").exists():
        time.sleep(3600)


if __name__ == "__main__":
    main()
